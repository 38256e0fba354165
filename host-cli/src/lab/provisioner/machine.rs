//! The provisioner as a virtual machine with bootjackd in a container: planned, brought up or thawed, found again, ended.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::client::{self, Place, Server};
use crate::drivers::spec::{Arch, Boot};
use crate::exit::{Exit, Failure};
use crate::host;
use crate::images::{self, Store};
use crate::lab::open::{Opened, make_private};
use crate::lab::paths::{PROVISIONER, VmPaths};
use crate::lab::plan::{self, Base, Facts, Missing, NewDisk, VmPlan};
use crate::lab::report::Report;
use crate::lab::ssh::Keys;
use crate::lab::{service, ssh, targets};
use crate::labfile::{derived_mac, derived_uuid};
use crate::provisioner::by_hand::ByHand;
use crate::provisioner::container::Archive;
use crate::provisioner::frozen::{self, Frozen};
use crate::provisioner::gate::Gate;
use crate::provisioner::image::{self, Image};
use crate::provisioner::machine::{API_PORT, Container, SSH_PORT, Wanted, machine};
use crate::provisioner::{self, recipe, served, tls};
use crate::qmp::{self, Qmp};
use crate::seed::cloud_init::{
    self, CloudSeed, HostKey, ProvisionerSeed, WAN_ADDRESS, WAN_RESOLVER,
};
use crate::seed::iso::Entry;
use crate::seed::user_data;
use crate::server::Access;
use crate::vm::{self, Stopped};
use crate::{disk, process, seed};

/// From power-on to an API that answers: twice what an emulated machine takes on a busy computer, with room for loading the image.
const PATIENCE: Duration = Duration::from_secs(600);
/// The same of a cloud image, which may have to get packages first.
const CLOUD_PATIENCE: Duration = Duration::from_secs(1800);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// So long a machine is asked whether it stands at its gate, before its API is tried again.
const GLANCE: Duration = Duration::from_secs(2);
/// So often its console is looked at for a refusal.
const LOOK_AT_CONSOLE: Duration = Duration::from_secs(5);
/// What the machine's own system may grow to; it is only taken as it is written.
const ROOT_SIZE: u64 = 4 << 30;
/// The same of a cloud image, whose packages may want more.
const CLOUD_ROOT_SIZE: u64 = 16 << 30;
/// With this its console tells that a cloud image cannot be what it is to be: deploy/provisioner-cloud/setup.
const REFUSED: &str = "bootjack: this image cannot be a provisioner: ";

/// What is to run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub vm: VmPlan,
    pub archive: Archive,
    /// The archive is not the one that the lab's file names.
    is_by_hand: bool,
    image: Image,
    /// Text of bootjackd.toml.
    config: String,
    /// The owner's own.
    user_data: Option<String>,
    /// What makes a cloud image what it is to be.
    cloud: Option<CloudSeed>,
    /// Directories of files that targets are served.
    files: Vec<PathBuf>,
    /// Octets of the disk that outlives the machine.
    data: u64,
    freeze: bool,
    zstd: Option<PathBuf>,
}

impl Plan {
    pub fn shown(&self) -> String {
        format!(
            "# provisioner: {}, container {}\n{}",
            self.vm.title(),
            self.archive.path.display(),
            self.vm.command_line()
        )
    }

    fn patience(&self) -> Duration {
        match self.cloud {
            None => PATIENCE,
            Some(_) => CLOUD_PATIENCE,
        }
    }

    pub fn config(&self) -> &str {
        &self.config
    }
}

/// Plans it.
pub fn plan(opened: &Opened, facts: &Facts) -> Result<Plan, Failure> {
    let (lab, paths) = (&opened.lab, opened.paths.vm(PROVISIONER));
    let wanted = &lab.provisioner;
    let image = find_image(opened, facts)?;
    let by_hand = ByHand::of(&paths).archive()?;
    let is_by_hand = by_hand.is_some();
    let archive = match by_hand {
        Some(archive) => archive,
        None => lab_archive(opened, image.arch)?,
    };
    let mut missing = Missing::default();
    let runner = plan::runner(image.arch, &facts.of_provisioner(), &mut missing);
    missing.report()?;
    let Some((program, driver, driver_reason)) = runner else {
        let text = format!(
            "there is nothing to run {} machines with",
            image.arch.as_str()
        );
        return Err(Failure::new(Exit::Missing, text));
    };
    let has_files = !wanted.artifacts.is_empty();
    let (firmware, vars_template) = firmware(&image, facts, &paths)?;
    let user_data = user_data(wanted.user_data.as_deref())?;
    let container = Container {
        archive: &archive.path,
        sha256: &archive.sha256,
        size: archive.size,
    };
    let cloud = image.kernel.is_none().then(|| CloudSeed {
        files: recipe::over_a_cloud_image().collect(),
        setup: recipe::SETUP,
        words: provisioner::machine::container(&container),
        has_gate: wanted.freeze,
    });
    let vm = machine(&Wanted {
        image: &image,
        firmware,
        paths: &paths,
        uuid: &uuid(opened),
        cpus: wanted.cpus,
        memory_mib: wanted.memory_mib,
        container,
        wan_mac: &derived_mac(&lab.name, "provisioner wan"),
        lan_mac: &derived_mac(&lab.name, PROVISIONER),
        lan: plan::lan(lab, &paths),
        has_files,
        ssh_port: wanted.ssh_port,
        api_port: wanted.api_port,
        internet: wanted.internet,
        has_user_data: user_data.is_some(),
        has_gate: wanted.freeze,
    });
    let files = format!("{}/{}", served::SERVED, served::FILES);
    let config = service::config(
        lab,
        &service::Place {
            data_dir: "/var/lib/bootjack",
            grpc: &service::network_grpc(
                Path::new("/run/bootjack/api.sock"),
                &[format!("{WAN_ADDRESS}:{API_PORT}")],
                "/etc/bootjack/auth",
            ),
            programs: "/usr/lib/ipxe",
            files: has_files.then_some(files.as_str()),
            dns: WAN_RESOLVER,
        },
    );
    Ok(Plan {
        vm: VmPlan {
            vm,
            program,
            driver,
            driver_reason,
            vars_template,
            new_disk: Some(NewDisk {
                size: match image.kernel {
                    Some(_) => ROOT_SIZE,
                    None => CLOUD_ROOT_SIZE,
                },
                format: crate::drivers::spec::DiskFormat::Qcow2,
                base: Some(Base::Here(image.root.clone(), image.format)),
            }),
            paths,
        },
        archive,
        is_by_hand,
        image,
        config,
        user_data,
        cloud,
        files: wanted.artifacts.clone(),
        data: wanted.data,
        freeze: wanted.freeze,
        zstd: host::find_program("zstd"),
    })
}

/// The container image that the lab's file names, or that `make image` left.
pub fn lab_archive(opened: &Opened, arch: Arch) -> Result<Archive, Failure> {
    match &opened.lab.provisioner.container {
        Some(archive) => Archive::read(archive),
        None => Archive::read(&Archive::usual(arch, &opened.bases.images())?),
    }
}

fn find_image(opened: &Opened, facts: &Facts) -> Result<Image, Failure> {
    let name = opened.lab.provisioner.image.as_str();
    let arch = Arch::of_host().unwrap_or(Arch::X86_64);
    let beside = opened.file.with_file_name(name);
    match (name, &facts.provisioner) {
        (PROVISIONER, _) => Image::open(&image::usual(&opened.bases.images(), arch)),
        (_, Some(found)) => Image::cloud(arch, found),
        _ if beside.is_dir() => Image::open(&beside),
        _ => {
            let text = format!(
                "there is no image {name}: wanted a directory of `bootjack image build provisioner`, the file of a cloud image, or its name: bootjack image list, bootjack image pull NAME"
            );
            Err(Failure::new(Exit::NotFound, text))
        }
    }
}

/// What starts an image that is a whole disk, and its UEFI variables to begin with.
fn firmware(
    image: &Image,
    facts: &Facts,
    paths: &VmPaths,
) -> Result<(Boot, Option<PathBuf>), Failure> {
    // Cloud images for PCs boot from a BIOS too, which needs no firmware to be found.
    if image.kernel.is_some() || image.arch == Arch::X86_64 {
        return Ok((Boot::Bios { rom: None }, None));
    }
    let found = facts.arch(image.arch).and_then(|arch| arch.uefi.clone());
    let (code, template) = found.ok_or_else(|| {
        let text = "the lab lacks UEFI firmware for aarch64: install qemu-efi-aarch64 (Debian, Ubuntu), edk2-aarch64 (Fedora, Arch) or qemu (Homebrew)";
        Failure::new(Exit::Missing, text)
    })?;
    let vars = paths.vars();
    Ok((Boot::Uefi { code, vars }, Some(template)))
}

/// The owner's own user-data.
fn user_data(file: Option<&Path>) -> Result<Option<String>, Failure> {
    let Some(file) = file else { return Ok(None) };
    let text = std::fs::read_to_string(file).map_err(Failure::io("read", file))?;
    user_data::check(&text)
        .map_err(|why| Failure::new(Exit::Invalid, format!("{}: {why}", file.display())))?;
    Ok(Some(text))
}

/// SMBIOS system UUID.
pub fn uuid(opened: &Opened) -> String {
    derived_uuid(&opened.lab.name, PROVISIONER)
}

/// Starts it if it does not run, and returns when its API answers.
pub async fn up(
    opened: &Opened,
    plan: &Plan,
    keys: &Keys,
    store: &Store,
    report: &Report,
) -> Result<(), Failure> {
    let paths = &plan.vm.paths;
    make_private(&paths.dir)?;
    let seed = prepare(opened, plan, keys)?;
    if plan.is_by_hand {
        report.note(PROVISIONER, "runs the container image that was loaded by hand; that of lab.toml again: bootjack provisioner container load");
    }
    let until = Instant::now() + plan.patience();
    let state = vm::state(paths, &plan.vm.vm.uuid)?;
    if state.is_up() {
        if vm::room::is_wanting(&state) {
            vm::room::go_on(PROVISIONER, paths)?;
            report.done(PROVISIONER, "goes on: there is room for its disks again");
        }
        if !targets::is_as_started(&plan.vm) {
            report.note(PROVISIONER, "runs by an earlier lab.toml or image; to have it as it is now: bootjack provisioner restart");
        }
        if plan.freeze {
            unstick(opened, paths, until).await?;
        }
        start_container(opened).await?;
        return ready(opened, until).await;
    }
    let key = frozen::key(
        &plan.vm.vm,
        &plan.vm.arguments(),
        &plan.vm.program,
        &[&plan.image.digest, &plan.archive.sha256, &seed],
    );
    let frozen = Frozen::of(paths);
    match plan.freeze && frozen.is_there(&key) {
        true => match thaw(opened, plan, &frozen, report) {
            Ok(()) => {}
            Err(failure) => {
                report.note(
                    PROVISIONER,
                    &format!("its frozen state is of no use, so it starts anew: {failure}"),
                );
                frozen.remove();
                vm::stop(PROVISIONER, paths, &plan.vm.vm.uuid, None)?;
                start(opened, plan, &frozen, &key, store, report, until).await?;
            }
        },
        false => start(opened, plan, &frozen, &key, store, report, until).await?,
    }
    report.waiting("bootjackd starts in its container");
    ready(opened, until).await?;
    report.done(
        PROVISIONER,
        &format!(
            "bootjackd serves {} in a container",
            opened.lab.network.subnet
        ),
    );
    Ok(())
}

/// What it reads when it starts. Answers a digest of it.
fn prepare(opened: &Opened, plan: &Plan, keys: &Keys) -> Result<String, Failure> {
    let (lab, paths) = (&opened.lab, &plan.vm.paths);
    let auth = tls::ensure(&opened.paths.tls())?;
    let of = |all: &std::collections::BTreeMap<String, String>| {
        all.get(PROVISIONER).cloned().unwrap_or_default()
    };
    let mac = |nic: usize| plan.vm.vm.nics[nic].mac.clone();
    let entries = cloud_init::provisioner(&ProvisionerSeed {
        hostname: PROVISIONER.to_owned(),
        domain: lab.network.domain.clone(),
        wan_mac: mac(0),
        lan_mac: mac(1),
        lan_address: lab.provisioner.address,
        lan_prefix: lab.network.subnet.prefix,
        host_key: HostKey {
            private: of(&keys.hosts),
            public: of(&keys.known),
        },
        authorized_keys: vec![keys.public.clone()],
        config: plan.config.clone(),
        auth,
        user_data: plan.user_data.clone(),
        cloud: plan.cloud.clone(),
    });
    let is_up = vm::state(paths, &plan.vm.vm.uuid)?.is_up();
    // A machine that runs has these open.
    if !is_up {
        served::write(&paths.seed(), seed::LABEL, &entries)?;
        served::write_served(&paths.files(), &plan.files)?;
    }
    let stamp = served::stamp(&plan.files)?;
    Ok(format!("{} {stamp}", instance(&entries)))
}

/// The instance-id: a digest of everything on a seed.
fn instance(entries: &[Entry]) -> String {
    let meta = entries.iter().find(|entry| entry.path == "meta-data");
    meta.map_or_else(String::new, |meta| format!("{:?}", meta.content))
}

/// Starts it from power-on; frozen at its gate, for the next time.
async fn start(
    opened: &Opened,
    plan: &Plan,
    frozen: &Frozen,
    key: &str,
    store: &Store,
    report: &Report,
    until: Instant,
) -> Result<(), Failure> {
    let paths = &plan.vm.paths;
    forget_other_image(plan)?;
    targets::prepare(&plan.vm, store).await?;
    if !paths.data().exists() {
        let format = images::DiskFormat::Qcow2;
        disk::create(store, &paths.data(), plan.data, format).await?;
    }
    targets::launch(&plan.vm)?;
    report.done(PROVISIONER, &format!("powered on ({})", plan.vm.title()));
    if let Some(reason) = &plan.vm.driver_reason {
        report.note_once("machines", &format!("are emulated: {reason}"));
    }
    if !plan.freeze {
        return Ok(());
    }
    report.waiting("the provisioner starts");
    let mut gate = reached(opened, paths, until)?;
    report.waiting("the provisioner is frozen, for the next time");
    match frozen.save(key, paths, plan.zstd.as_deref()) {
        Ok(()) => report.done(PROVISIONER, "frozen: it starts in seconds from now on"),
        Err(failure) => report.note(PROVISIONER, &failure.message),
    }
    gate.open(until)
}

/// Starts it from its frozen state.
fn thaw(opened: &Opened, plan: &Plan, frozen: &Frozen, report: &Report) -> Result<(), Failure> {
    let paths = &plan.vm.paths;
    report.waiting("the provisioner is thawed");
    let until = Instant::now() + PATIENCE;
    let mut thawed = plan.vm.clone();
    thawed.vm.incoming = Some(frozen.load(paths, plan.zstd.as_deref())?);
    targets::launch(&thawed)?;
    frozen::go_on(&paths.monitor).map_err(vm_failed)?;
    pass(opened, paths, until)?;
    report.done(PROVISIONER, &format!("thawed ({})", plan.vm.title()));
    Ok(())
}

/// A command that was killed may have left the machine standing still, or at its gate: has it go on until its API answers.
async fn unstick(opened: &Opened, paths: &VmPaths, until: Instant) -> Result<(), Failure> {
    frozen::go_on(&paths.monitor).map_err(vm_failed)?;
    let server = server(opened)?;
    while client::channel(&server).await.is_err() && Instant::now() < until {
        check_hope(opened, paths)?;
        let mut gate = Gate::connect(&paths.control)?;
        if gate.is_reached(Instant::now() + GLANCE)? {
            return gate.open(until);
        }
        // Nor does it stand there once it is past it, and bootjackd was stopped by hand.
        start_container(opened).await?;
    }
    Ok(())
}

/// `provisioner container stop` may have been the last word: up means that bootjackd answers.
async fn start_container(opened: &Opened) -> Result<(), Failure> {
    if client::channel(&server(opened)?).await.is_ok() {
        return Ok(());
    }
    let config = ssh::write(opened)?;
    let start = "systemctl start --no-block bootjackd";
    let words = [
        "-F",
        &config,
        "-o",
        "BatchMode=yes",
        "--",
        PROVISIONER,
        start,
    ];
    // One that is not up far enough for this starts it by itself.
    process::ssh(&words.map(str::to_owned)).await.map(drop)
}

/// Lets it through its gate.
fn pass(opened: &Opened, paths: &VmPaths, until: Instant) -> Result<(), Failure> {
    reached(opened, paths, until)?.open(until)
}

fn reached(opened: &Opened, paths: &VmPaths, until: Instant) -> Result<Gate, Failure> {
    let mut gate = Gate::connect(&paths.control)?;
    while Instant::now() < until {
        if gate.is_reached(until.min(Instant::now() + LOOK_AT_CONSOLE))? {
            return Ok(gate);
        }
        check_hope(opened, paths)?;
    }
    Err(late(paths))
}

/// Whether it is any use to wait: its image has not said that it will never do, and its disks have room.
fn check_hope(opened: &Opened, paths: &VmPaths) -> Result<(), Failure> {
    if vm::room::is_wanting(&vm::state(paths, &uuid(opened))?) {
        return Err(vm::room::lack(PROVISIONER, paths));
    }
    let console = targets::console_since_power_on(paths);
    let why = console.lines().find_map(|line| line.split_once(REFUSED));
    match why {
        None => Ok(()),
        Some((_, why)) => {
            let text = format!(
                "the provisioner's image cannot be one: {}; its console: {}",
                why.trim(),
                paths.console_log().display()
            );
            Err(Failure::new(Exit::Vm, text))
        }
    }
}

fn late(paths: &VmPaths) -> Failure {
    let text = format!(
        "the provisioner is not up after all this time; its console: {}",
        paths.console_log().display()
    );
    Failure::new(Exit::Timeout, text)
}

/// A root disk on top of another image than this one would be nonsense; it has nothing that is not made again.
fn forget_other_image(plan: &Plan) -> Result<(), Failure> {
    let paths = &plan.vm.paths;
    let stamp = paths.dir.join("disk.image");
    let is_same = std::fs::read_to_string(&stamp).is_ok_and(|digest| digest == plan.image.digest);
    if is_same && paths.disk().exists() {
        return Ok(());
    }
    match std::fs::remove_file(paths.disk()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Failure::io("remove", paths.disk())(error));
        }
        _ => {}
    }
    std::fs::write(&stamp, &plan.image.digest).map_err(Failure::io("write", &stamp))
}

/// Waits for the API.
async fn ready(opened: &Opened, until: Instant) -> Result<(), Failure> {
    let paths = opened.paths.vm(PROVISIONER);
    let server = server(opened)?;
    let mut looked = Instant::now();
    loop {
        match client::channel(&server).await {
            Ok(_) => return Ok(()),
            // Wrong certificates do not get better.
            Err(failure) if failure.exit == Exit::Invalid => return Err(failure),
            Err(_) if !vm::state(&paths, &uuid(opened))?.is_up() => {
                let text = format!(
                    "the provisioner ended before its API answered; its console: {}",
                    paths.console_log().display()
                );
                return Err(Failure::new(Exit::Vm, text));
            }
            Err(_) if Instant::now() > until => return Err(late(&paths)),
            Err(_) if looked.elapsed() > LOOK_AT_CONSOLE => {
                check_hope(opened, &paths)?;
                looked = Instant::now();
            }
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// Its API, and who we are to it.
pub fn server(opened: &Opened) -> Result<Server, Failure> {
    let port = forwarded(opened, API_PORT).ok_or_else(|| {
        let text = "the provisioner does not run; bring it up: bootjack up";
        Failure::new(Exit::Conflict, text)
    })?;
    let tls = tls::files(&opened.paths.tls());
    let access = Access {
        ca: Some(tls.ca),
        cert: Some(tls.certificate),
        key: Some(tls.key),
        token_file: None,
    };
    Server::new(Place::Tls(format!("127.0.0.1:{port}")), access)
}

/// The port of loopback that its ssh is on.
pub fn ssh_port(opened: &Opened) -> Option<u16> {
    forwarded(opened, SSH_PORT)
}

/// The port of loopback that leads to one of its own: QEMU chose it.
fn forwarded(opened: &Opened, guest_port: u16) -> Option<u16> {
    let mut qmp = Qmp::connect(&opened.paths.vm(PROVISIONER).monitor).ok()?;
    let text = qmp.human("info usernet").ok()?;
    qmp::forwarded_port(&text, guest_port)
}

/// Ends it.
pub fn down(opened: &Opened, grace: Option<Duration>) -> Result<Stopped, Failure> {
    let paths = opened.paths.vm(PROVISIONER);
    vm::stop(PROVISIONER, &paths, &uuid(opened), grace)
}

fn vm_failed(error: qmp::QmpError) -> Failure {
    Failure::new(Exit::Vm, format!("{PROVISIONER}: {error}"))
}
