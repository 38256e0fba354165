//! `bootjack vm`: machines one by one.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

use bootjack_api::v1::ReinstallMachineRequest;
use bootjack_api::v1::machines_client::MachinesClient;
use serde_json::{Value, json};

use crate::cli::{At, BootChoice, How, VmCommand, Waiting};
use crate::client;
use crate::console;
use crate::console::script::{self, Step};
use crate::exit::{Exit, Failure};
use crate::images::Store;
use crate::lab::open::{self, Opened};
use crate::lab::plan::{self, VmPlan};
use crate::lab::report::Report;
use crate::lab::{provisioner, ssh, targets};
use crate::output;
use crate::qmp::Qmp;
use crate::vm;
use crate::vm::control::wants_qemu;

/// Runs one.
pub fn run(at: &At, command: VmCommand) -> Result<(), Failure> {
    let opened = open::open(&at.lab)?;
    match command {
        VmCommand::List => list(&opened, at),
        VmCommand::Show { name } => show(&opened, at, &name),
        VmCommand::Start {
            names,
            boot,
            interactive,
            how,
            waiting,
        } => {
            if interactive && names.len() > 1 {
                let text =
                    "a person is at one console; name one machine, or leave --interactive out";
                return Err(Failure::new(Exit::Usage, text));
            }
            start(&opened, at, &names, boot, &how)?;
            match interactive {
                true => at_console(&opened, &names[0], console::attach::attach),
                false => wait(&opened, at, &names, &how, &waiting),
            }
        }
        VmCommand::Stop { names, grace, kill } => {
            stop(&opened, at, &names, (!kill).then_some(grace))
        }
        VmCommand::Restart {
            names,
            boot,
            grace,
            how,
            waiting,
        } => {
            stop(&opened, at, &names, Some(grace))?;
            start(&opened, at, &names, boot, &how)?;
            wait(&opened, at, &names, &how, &waiting)
        }
        VmCommand::Reset { names } => reset(&opened, at, &names),
        VmCommand::Reinstall {
            names,
            how,
            waiting,
        } => {
            reinstall(&opened, at, &names, &how)?;
            wait(&opened, at, &names, &how, &waiting)
        }
        VmCommand::Delete { names, forget } => delete(&opened, at, &names, forget),
        VmCommand::Create { name, new } => super::machines::create(&opened, at, &name, &new),
        VmCommand::Rename { old, new } => super::machines::rename(&opened, at, &old, &new),
        VmCommand::Logs {
            name,
            follow,
            driver,
        } => logs(&opened, &name, follow, driver),
        VmCommand::Console { name } => at_console(&opened, &name, console::attach::attach),
        VmCommand::Expect {
            name,
            pattern,
            send,
            script,
            timeout,
        } => {
            let steps = match (script, pattern) {
                (Some(file), _) => script_of(&file, timeout)?,
                (None, pattern) => steps(&pattern.unwrap_or_default(), send.as_deref(), timeout)?,
            };
            let tell = |found: &str| eprintln!("{name}: {}", found.trim());
            at_console(&opened, &name, |place| {
                console::expect::run(place, &steps, tell)
            })
        }
        VmCommand::Screenshot { name, to } => screenshot(&opened, &name, &to),
        VmCommand::Qmp {
            name,
            command,
            arguments,
        } => qmp(&opened, &name, &command, &arguments),
    }
}

fn list(opened: &Opened, at: &At) -> Result<(), Failure> {
    let (stands, _) = super::runtime()?.block_on(super::status::stands(opened))?;
    output::answer(
        at.format(),
        || json!({ "vms": stands.iter().map(super::status::Stand::as_json).collect::<Vec<_>>() }),
        || super::status::table(&stands),
    )
}

fn show(opened: &Opened, at: &At, name: &str) -> Result<(), Failure> {
    let vm = target(opened, name)?;
    let paths = opened.paths.vm(name);
    let state = vm::state(&paths, &vm.uuid)?;
    let command = std::fs::read_to_string(paths.command_line()).unwrap_or_default();
    output::answer(
        at.format(),
        || {
            json!({
                "name": vm.name, "state": state.word(), "pid": state.pid(), "arch": vm.arch.as_str(),
                "mac": vm.mac, "uuid": vm.uuid, "reserved_address": vm.address, "cpus": vm.cpus,
                "memory_mib": vm.memory_mib, "disk_bytes": vm.disk, "profile": vm.profile, "image": vm.image,
                "directory": paths.dir, "console_log": paths.console_log(), "console": paths.console,
                "monitor": paths.monitor, "command": command,
            })
        },
        || {
            let lines = [
                ("name", vm.name.clone()),
                ("state", state.word().to_owned()),
                ("address", vm.address.to_string()),
                ("mac", vm.mac.clone()),
                ("uuid", vm.uuid.clone()),
                ("directory", paths.dir.display().to_string()),
                ("console log", paths.console_log().display().to_string()),
            ];
            let lines = lines.map(|(key, value)| format!("{key:<12}{value}"));
            format!("{}\n{}", lines.join("\n"), command.trim_end())
        },
    )
}

fn start(
    opened: &Opened,
    at: &At,
    names: &[String],
    boot: Option<BootChoice>,
    how: &How,
) -> Result<(), Failure> {
    let report = super::report(at.format());
    let plans = plans(opened, names, how, Some(&report))?;
    super::runtime()?.block_on(async {
        let store = Store::open(&opened.bases.images())?;
        let _lock = super::lock(opened, "vm start", &report)?;
        super::up::network(opened, &report)?;
        let keys = ssh::keys(opened).await?;
        for plan in plans {
            let usual = plan.net_first();
            let net_first = match boot {
                None => usual,
                Some(BootChoice::Pxe | BootChoice::OncePxe) => true,
                Some(BootChoice::Disk) => false,
            };
            check_boot(&plan, boot)?;
            let name = plan.vm.name.clone();
            if boot == Some(BootChoice::OncePxe) && !plan.driver.caps().boot_once {
                let text = format!(
                    "{name}: {} boots nothing once; leave --driver out, or --boot once:pxe",
                    plan.driver.as_str()
                );
                return Err(Failure::new(Exit::Usage, text));
            }
            let monitor = plan.paths.monitor.clone();
            let nic = plan.vm.nics.iter().find(|nic| nic.boot_order.is_some());
            let nic = nic.map(|nic| nic.id.clone());
            let plan = plan.with_net_first(net_first);
            if vm::state(&plan.paths, &plan.vm.uuid)?.is_up() && boot.is_some() {
                let text = format!(
                    "{name} runs already; bootjack vm restart --boot has it boot as you say"
                );
                return Err(Failure::new(Exit::Conflict, text));
            }
            super::up::start(&plan, opened, &keys, &store, &report).await?;
            if let (Some(BootChoice::OncePxe), Some(nic), false) = (boot, nic, usual) {
                let failed = |error| Failure::new(Exit::Vm, format!("{name}: {error}"));
                let mut qmp = Qmp::connect(&monitor).map_err(failed)?;
                vm::boot_order::set(&mut qmp, &nic, false).map_err(failed)?;
            }
        }
        Ok(())
    })
}

/// A machine can only boot from what it has.
fn check_boot(plan: &VmPlan, boot: Option<BootChoice>) -> Result<(), Failure> {
    let has_net = plan.vm.nics.iter().any(|nic| nic.boot_order.is_some());
    let has_disk = plan.vm.disks.iter().any(|disk| disk.boot_order.is_some());
    let lacks = match boot {
        Some(BootChoice::Pxe | BootChoice::OncePxe) if !has_net => {
            "never boots from the network: add \"net\" to its boot"
        }
        Some(BootChoice::Disk) if !has_disk => "has no disk: add disk = \"20GiB\"",
        _ => return Ok(()),
    };
    let text = format!("{} {lacks} in lab.toml", plan.vm.name);
    Err(Failure::new(Exit::Invalid, text))
}

fn stop(
    opened: &Opened,
    at: &At,
    names: &[String],
    grace: Option<Duration>,
) -> Result<(), Failure> {
    for name in names {
        target(opened, name)?;
    }
    let report = super::report(at.format());
    let _lock = super::lock(opened, "vm stop", &report)?;
    super::down::stop(opened, names, grace, &report)
}

/// Waits for the machines, if that is wanted.
fn wait(
    opened: &Opened,
    at: &At,
    names: &[String],
    how: &How,
    waiting: &Waiting,
) -> Result<(), Failure> {
    let Some(until) = &waiting.wait else {
        return Ok(());
    };
    let report = super::report(at.format());
    let plans = plans(opened, names, how, None)?;
    let all = super::wait::all(opened, &plans, until, waiting.timeout, &report);
    super::runtime()?.block_on(all)
}

fn reset(opened: &Opened, at: &At, names: &[String]) -> Result<(), Failure> {
    let report = super::report(at.format());
    for name in names {
        let vm = target(opened, name)?;
        let paths = opened.paths.vm(name);
        running(opened, name)?;
        wants_qemu(name, &paths, "has no reset button")?;
        let failed = |error| Failure::new(Exit::Vm, format!("{}: {error}", vm.name));
        let mut qmp = Qmp::connect(&paths.monitor).map_err(failed)?;
        qmp.execute("system_reset", json!({})).map_err(failed)?;
        report.done(name, "reset");
    }
    Ok(())
}

fn reinstall(opened: &Opened, at: &At, names: &[String], how: &How) -> Result<(), Failure> {
    for plan in &plans(opened, names, how, None)? {
        check_boot(plan, Some(BootChoice::Pxe))?;
    }
    let report = super::report(at.format());
    super::runtime()?.block_on(async {
        let server = provisioner::server(opened)?;
        let mut api = MachinesClient::new(client::channel(&server).await?);
        for name in names {
            let request = ReinstallMachineRequest { name: name.clone() };
            let answer = api.reinstall_machine(request).await;
            answer.map_err(|status| client::refused(&server, &status))?;
            report.done(name, "is to be installed again");
        }
        Ok::<(), Failure>(())
    })?;
    for plan in plans(opened, names, how, None)? {
        let name = [plan.vm.name.clone()];
        match vm::state(&plan.paths, &plan.vm.uuid)?.is_up() {
            true => {
                wants_qemu(&name[0], &plan.paths, "has no reset button")?;
                targets::reset(&plan, Some(true))?;
                report.done(&name[0], "reset, and boots from the network");
            }
            false => start(opened, at, &name, Some(BootChoice::OncePxe), how)?,
        }
    }
    Ok(())
}

fn delete(opened: &Opened, at: &At, names: &[String], forget: bool) -> Result<(), Failure> {
    let report = super::report(at.format());
    let _lock = super::lock(opened, "vm delete", &report)?;
    for name in names {
        let vm = target(opened, name)?;
        let paths = opened.paths.vm(name);
        if vm::state(&paths, &vm.uuid)?.is_up() {
            let text = format!("{name} runs; stop it first: bootjack vm stop {name}");
            return Err(Failure::new(Exit::Conflict, text));
        }
        match std::fs::remove_dir_all(&paths.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::io("remove", &paths.dir)(error));
            }
            _ if forget => {}
            _ => report.done(name, "deleted; up makes it anew"),
        }
    }
    match forget {
        true => super::machines::forget(opened, names, &report),
        false => Ok(()),
    }
}

fn logs(opened: &Opened, name: &str, follow: bool, driver: bool) -> Result<(), Failure> {
    plan::known(&opened.lab, name)?;
    let paths = opened.paths.vm(name);
    let file = match driver {
        true => paths.driver_log(),
        false => paths.console_log(),
    };
    if !file.exists() {
        let text = format!(
            "{} is not there: {name} has not run yet; start it with: bootjack up {name}",
            file.display()
        );
        return Err(Failure::new(Exit::NotFound, text));
    }
    print_log(&file, follow)
}

fn print_log(file: &Path, follow: bool) -> Result<(), Failure> {
    let mut log = std::fs::File::open(file).map_err(Failure::io("read", file))?;
    let mut octets = vec![0; 64 * 1024];
    let mut at = 0;
    loop {
        let read = log.read(&mut octets).map_err(Failure::io("read", file))?;
        if read > 0 {
            at += read as u64;
            let mut out = std::io::stdout().lock();
            // Nobody reads on: that is no failure.
            if out
                .write_all(&octets[..read])
                .and_then(|()| out.flush())
                .is_err()
            {
                return Ok(());
            }
            continue;
        }
        if !follow {
            return Ok(());
        }
        // A machine that is made anew has a new log.
        if std::fs::metadata(file).is_ok_and(|metadata| metadata.len() < at) {
            log = std::fs::File::open(file).map_err(Failure::io("read", file))?;
            at = log.seek(SeekFrom::Start(0)).unwrap_or(0);
        }
        crate::process::a_moment();
    }
}

fn at_console(
    opened: &Opened,
    name: &str,
    work: impl FnOnce(&console::Place<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    plan::known(&opened.lab, name)?;
    let paths = opened.paths.vm(name);
    wants_qemu(
        name,
        &paths,
        "keeps its console to itself but for its log (bootjack vm logs)",
    )?;
    work(&console::Place {
        machine: name,
        socket: &paths.console,
        log: &paths.console_log(),
    })
}

fn script_of(file: &Path, limit: Duration) -> Result<Vec<Step>, Failure> {
    let text = std::fs::read_to_string(file).map_err(Failure::io("read", file))?;
    script::parse(&text, limit).map_err(|problems| {
        let text = format!("{}: {}", file.display(), problems.join("; "));
        Failure::new(Exit::Invalid, text)
    })
}

fn steps(pattern: &str, send: Option<&str>, limit: Duration) -> Result<Vec<Step>, Failure> {
    let awaited = script::expect(pattern, limit);
    let sent = send.map(script::sent).transpose();
    let steps = awaited.and_then(|awaited| Ok([Some(awaited), sent?]));
    let steps = steps.map_err(|why| Failure::new(Exit::Usage, why))?;
    Ok(steps.into_iter().flatten().collect())
}

fn screenshot(opened: &Opened, name: &str, to: &Path) -> Result<(), Failure> {
    if !target(opened, name)?.display {
        let text = format!(
            "{name} has no screen; add display = true to it in lab.toml, and: bootjack vm restart {name}"
        );
        return Err(Failure::new(Exit::Conflict, text));
    }
    running(opened, name)?;
    wants_qemu(name, &opened.paths.vm(name), "takes no pictures")?;
    let file = std::path::absolute(to).map_err(Failure::io("write", to))?;
    let failed = |error| Failure::new(Exit::Vm, format!("{name}: {error}"));
    let mut qmp = Qmp::connect(&opened.paths.vm(name).monitor).map_err(failed)?;
    let arguments = json!({ "filename": file, "format": "png" });
    qmp.execute("screendump", arguments).map_err(failed)?;
    output::say(&format!("wrote {}", to.display()))
}

fn qmp(opened: &Opened, name: &str, command: &str, arguments: &str) -> Result<(), Failure> {
    plan::known(&opened.lab, name)?;
    let arguments: Value = serde_json::from_str(arguments).map_err(|error| {
        let text = format!("the arguments of {command} are no JSON: {error}");
        Failure::new(Exit::Usage, text)
    })?;
    wants_qemu(name, &opened.paths.vm(name), "is not QEMU")?;
    if name != crate::lab::paths::PROVISIONER {
        running(opened, name)?;
    }
    let failed = |error| Failure::new(Exit::Vm, format!("{name}: {error}"));
    let mut qmp = Qmp::connect(&opened.paths.vm(name).monitor).map_err(failed)?;
    let answer = qmp.execute(command, arguments).map_err(failed)?;
    output::say(&format!("{answer:#}"))
}

/// A machine of the lab that is not its provisioner.
fn target<'a>(opened: &'a Opened, name: &str) -> Result<&'a crate::labfile::Machine, Failure> {
    plan::known(&opened.lab, name)?;
    let found = opened.lab.vms.iter().find(|vm| vm.name == name);
    found.ok_or_else(|| {
        let text = "the provisioner has verbs of its own: bootjack provisioner --help";
        Failure::new(Exit::Usage, text)
    })
}

fn running(opened: &Opened, name: &str) -> Result<(), Failure> {
    let vm = target(opened, name)?;
    match vm::state(&opened.paths.vm(name), &vm.uuid)?.is_up() {
        true => Ok(()),
        false => {
            let text = format!("{name} does not run; start it with: bootjack vm start {name}");
            Err(Failure::new(Exit::Conflict, text))
        }
    }
}

/// How these machines are run; images that they lack are got if somebody is told.
fn plans(
    opened: &Opened,
    names: &[String],
    how: &How,
    report: Option<&Report>,
) -> Result<Vec<VmPlan>, Failure> {
    for name in names {
        target(opened, name)?;
    }
    let mut wanted = opened.clone();
    wanted.lab.vms.retain(|vm| names.contains(&vm.name));
    let store = Store::open(&opened.bases.images())?;
    let runtime = super::runtime()?;
    let mut facts = runtime.block_on(super::facts::look(&wanted, &store, how))?;
    let plans = plan::targets(&wanted.lab, &opened.paths, &facts)?;
    let Some(report) = report else {
        return Ok(plans);
    };
    let by = super::images::Wanting {
        names,
        provisioner: false,
    };
    runtime.block_on(super::images::bring(opened, &store, &mut facts, by, report))?;
    plan::targets(&wanted.lab, &opened.paths, &facts)
}
