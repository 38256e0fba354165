//! `bootjack up`: network, provisioner, what bootjackd is to know, machines. Each step looks at what is so, and does what lacks.

use super::images;
use crate::cli::UpArgs;
use crate::drivers::spec::{Arch, Firmware};
use crate::exit::{Exit, Failure};
use crate::images::Store;
use crate::lab::consoles::Consoles;
use crate::lab::content::{self, Secrets};
use crate::lab::open::{self, Opened};
use crate::lab::plan::{self, Facts, VmPlan};
use crate::lab::provisioner::Provisioner;
use crate::lab::report::Report;
use crate::lab::targets::{self, Started};
use crate::lab::timeline::Timeline;
use crate::lab::{files, provisioner, ssh, switch};
use crate::labfile::{BootFrom, Lab, Machine, NetworkKind, ProvisionerKind};
use crate::output;

/// Brings it up.
pub fn run(args: &UpArgs) -> Result<(), Failure> {
    let mut opened = open::open(&args.at.lab)?;
    for name in &args.names {
        plan::known(&opened.lab, name)?;
    }
    otherwise(args, &mut opened.lab)?;
    let report = super::report(args.at.format());
    super::runtime()?.block_on(up(args, &opened, &report))?;
    report.still();
    match args.dry_run {
        true => Ok(()),
        false => super::status::show(&opened, args.at.format()),
    }
}

async fn up(args: &UpArgs, opened: &Opened, report: &Report) -> Result<(), Failure> {
    let store = Store::open(&opened.bases.images())?;
    let mut facts = super::facts::look(opened, &store, &args.how).await?;
    // What lacks is said before anything is downloaded.
    plan::targets(&opened.lab, &opened.paths, &facts)?;
    let host = |facts: &Facts| provisioner::plan(opened, facts, &store, &args.how);
    let lacks_provisioner = images::lacks_provisioner(opened, &facts);
    if !lacks_provisioner {
        host(&facts)?;
    }
    let by = images::Wanting {
        names: &args.names,
        provisioner: true,
    };
    if args.dry_run {
        for (key, wanted) in images::lacking(opened, &facts, by) {
            output::say(&format!("# {}", images::shown(key, wanted)))?;
        }
    } else {
        files::check(&opened.lab.provisioner.artifacts)?;
        images::bring(opened, &store, &mut facts, by, report).await?;
    }
    let mut vms = plan::targets(&opened.lab, &opened.paths, &facts)?;
    vms.retain(|vm| args.names.is_empty() || args.names.contains(&vm.vm.name));
    if args.dry_run {
        let host = (!lacks_provisioner).then(|| host(&facts)).transpose()?;
        return dry_run(host.as_ref(), &vms);
    }
    let host = host(&facts)?;
    let lock = super::lock(opened, "up", report)?;
    if args.firmware.is_some() || args.profile.is_some() {
        refuse_running(&vms)?;
    }
    network(opened, report)?;
    let keys = ssh::keys(opened).await?;
    provisioner::up(opened, &host, &keys, &store, report).await?;
    supply(opened, &keys, report).await?;
    let server = provisioner::server(opened)?;
    let timeline = Timeline::begin(&server).await?;
    let consoles = Consoles::begin(&vms);
    for vm in &vms {
        start(vm, opened, &keys, &store, report).await?;
    }
    // Who waits for machines keeps nobody else from the lab.
    drop(lock);
    let Some(until) = &args.wait else {
        return Ok(());
    };
    tokio::select! {
        waited = super::wait::all(opened, &vms, until, args.timeout, report) => waited,
        never = timeline.tell(&server, report) => never,
        failed = consoles.tell(args.console, report) => failed.map(|never| match never {}),
    }
}

/// A machine that runs is not made another.
fn refuse_running(vms: &[VmPlan]) -> Result<(), Failure> {
    for vm in vms {
        let name = &vm.vm.name;
        if crate::vm::state(&vm.paths, &vm.vm.uuid)?.is_up() {
            let text = format!(
                "{name} runs already, and --firmware and --profile are for its start; stop it first: bootjack vm stop {name}"
            );
            return Err(Failure::new(Exit::Conflict, text));
        }
    }
    Ok(())
}

/// What was typed wins over the lab's file.
fn otherwise(args: &UpArgs, lab: &mut Lab) -> Result<(), Failure> {
    if args.firmware.is_none() && args.profile.is_none() {
        return Ok(());
    }
    let named = |vm: &&mut Machine| args.names.is_empty() || args.names.contains(&vm.name);
    for vm in lab.vms.iter_mut().filter(named) {
        let refused = |why: &str| Failure::new(Exit::Usage, format!("{} {why}", vm.name));
        match args.firmware {
            Some(Firmware::Bios) if vm.arch == Arch::Aarch64 => {
                return Err(refused(
                    "is an aarch64 machine, which has no BIOS; leave --firmware out",
                ));
            }
            Some(firmware) => vm.firmware = firmware,
            None => {}
        }
        match &args.profile {
            Some(_) if !vm.boot.contains(&BootFrom::Net) => {
                return Err(refused(
                    "never boots from the network, and a profile is for those that do; name others, or add \"net\" to its boot in lab.toml",
                ));
            }
            Some(profile) => vm.profile = Some(profile.clone()),
            None => {}
        }
    }
    Ok(())
}

/// What machines are plugged into, as far as it is ours to make.
pub(super) fn network(opened: &Opened, report: &Report) -> Result<(), Failure> {
    match opened.lab.network.kind {
        NetworkKind::Switch => switch::up(opened, report),
        NetworkKind::Bridge { .. } | NetworkKind::SocketVmnet { .. } => Ok(()),
    }
}

/// Starts a machine, with its seed if its disk is from an image.
pub(super) async fn start(
    vm: &VmPlan,
    opened: &Opened,
    keys: &ssh::Keys,
    store: &Store,
    report: &Report,
) -> Result<(), Failure> {
    crate::lab::seeds::write(vm, opened, keys)?;
    match targets::start(vm, store, report).await? {
        Started::Now => {}
        Started::Already => report.note(&vm.vm.name, "runs already"),
        Started::NeedsRestart => report.note(
            &vm.vm.name,
            &format!("runs as it was before lab.toml changed; to have it as it is now: bootjack vm restart {}", vm.vm.name),
        ),
    }
    Ok(())
}

/// Tells bootjackd of the lab's files, profiles and machines, as far as it does not know.
pub(super) async fn supply(
    opened: &Opened,
    keys: &ssh::Keys,
    report: &Report,
) -> Result<(), Failure> {
    let lab = &opened.lab;
    let server = provisioner::server(opened)?;
    report.waiting("files and profiles are sent");
    // A machine has them on a disk of their own: nothing is faster.
    if lab.provisioner.kind == ProvisionerKind::Namespace {
        let files = files::named(&lab.provisioner.artifacts)?;
        for name in content::send_artifacts(&server, &files).await? {
            report.done("artifact", &format!("sent {name}"));
        }
    }
    let profiles = content::profiles(lab.provisioner.profiles.as_deref())?;
    for name in content::put_profiles(&server, lab, profiles).await? {
        report.done("profile", &format!("put {name}"));
    }
    let secrets = Secrets {
        ssh_key: keys.public.clone(),
        host_keys: keys.hosts.clone(),
    };
    let plan = content::reservations(&server, lab, &opened.file, &secrets).await?;
    for (action, step) in plan.changes() {
        let reservation = &step.reservation;
        let id = crate::wanted::id(reservation);
        let what = match action {
            "create" => format!(
                "reserved {} for {id} ({})",
                reservation.address, reservation.mac
            ),
            action => format!("{action}d the reservation of {id}"),
        };
        report.done("reservation", &what);
    }
    Ok(())
}

fn dry_run(host: Option<&Provisioner>, vms: &[VmPlan]) -> Result<(), Failure> {
    match host {
        Some(host) => output::say(&host.shown())?,
        None => output::say("# provisioner: made from the image that is to be pulled")?,
    }
    for vm in vms {
        output::say(&format!("\n# {}: {}", vm.vm.name, vm.title()))?;
        output::say(&vm.command_line())?;
    }
    Ok(())
}
