//! The provisioner as a virtual machine with bootjackd in a container: planned, brought up or thawed, found again, ended.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::client::{self, Place, Server};
use crate::drivers::spec::Arch;
use crate::drivers::spec::DiskFormat;
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
use crate::provisioner::container::Archive;
use crate::provisioner::frozen::{self, Frozen};
use crate::provisioner::gate::Gate;
use crate::provisioner::image::{self, Image};
use crate::provisioner::machine::{API_PORT, Container, SSH_PORT, Wanted, machine};
use crate::provisioner::{served, tls};
use crate::qmp::{self, Qmp};
use crate::seed::cloud_init::{self, HostKey, ProvisionerSeed, WAN_ADDRESS, WAN_RESOLVER};
use crate::seed::iso::Entry;
use crate::server::Access;
use crate::vm::{self, Stopped};
use crate::{disk, process, seed};

/// From power-on to an API that answers: twice what an emulated machine takes on a busy computer, with room for loading the image.
const PATIENCE: Duration = Duration::from_secs(600);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// A handshake takes an emulated machine a second.
const ANSWER: Duration = Duration::from_secs(10);
/// So long a machine is asked whether it stands at its gate, before its API is tried again.
const GLANCE: Duration = Duration::from_secs(2);
/// What the machine's own system may grow to; it is only taken as it is written.
const ROOT_SIZE: u64 = 4 << 30;

/// What is to run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub vm: VmPlan,
    pub archive: Archive,
    image: Image,
    /// Text of bootjackd.toml.
    config: String,
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

    pub fn config(&self) -> &str {
        &self.config
    }
}

/// Plans it.
pub fn plan(opened: &Opened, facts: &Facts) -> Result<Plan, Failure> {
    let (lab, paths) = (&opened.lab, opened.paths.vm(PROVISIONER));
    let wanted = &lab.provisioner;
    let image = find_image(opened)?;
    let archive = match &wanted.container {
        Some(archive) => Archive::read(archive)?,
        None => Archive::read(&Archive::usual(image.arch, &opened.bases.images())?)?,
    };
    let mut missing = Missing::default();
    let runner = plan::runner(image.arch, facts, &mut missing);
    missing.report()?;
    let Some((program, driver, driver_reason)) = runner else {
        let text = format!(
            "there is nothing to run {} machines with",
            image.arch.as_str()
        );
        return Err(Failure::new(Exit::Missing, text));
    };
    let has_files = !wanted.artifacts.is_empty();
    let vm = machine(&Wanted {
        image: &image,
        paths: &paths,
        uuid: &uuid(opened),
        cpus: wanted.cpus,
        memory_mib: wanted.memory_mib,
        container: Container {
            archive: &archive.path,
            sha256: &archive.sha256,
            size: archive.size,
        },
        wan_mac: &derived_mac(&lab.name, "provisioner wan"),
        lan_mac: &derived_mac(&lab.name, PROVISIONER),
        lan: plan::lan(lab, &paths),
        has_files,
        ssh_port: wanted.ssh_port,
        api_port: wanted.api_port,
        internet: wanted.internet,
        has_user_data: false,
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
            vars_template: None,
            new_disk: Some(NewDisk {
                size: ROOT_SIZE,
                base: Some(Base::Here(image.root.clone(), DiskFormat::Qcow2)),
            }),
            paths,
        },
        archive,
        image,
        config,
        files: wanted.artifacts.clone(),
        data: wanted.data,
        freeze: wanted.freeze,
        zstd: host::find_program("zstd"),
    })
}

fn find_image(opened: &Opened) -> Result<Image, Failure> {
    let name = opened.lab.provisioner.image.as_str();
    let arch = Arch::of_host().unwrap_or(Arch::X86_64);
    match name {
        PROVISIONER => Image::open(&image::usual(&opened.bases.images(), arch)),
        name => Image::open(&opened.file.with_file_name(name)),
    }
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
    let until = Instant::now() + PATIENCE;
    if vm::state(paths, &plan.vm.vm.uuid)?.is_up() {
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
        true => match thaw(plan, &frozen, report) {
            Ok(()) => {}
            Err(failure) => {
                report.note(
                    PROVISIONER,
                    &format!("its frozen state is of no use, so it starts anew: {failure}"),
                );
                frozen.remove();
                vm::stop(PROVISIONER, paths, &plan.vm.vm.uuid, None)?;
                start(plan, &frozen, &key, store, report, until).await?;
            }
        },
        false => start(plan, &frozen, &key, store, report, until).await?,
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
        user_data: None,
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
    let mut gate = reached(paths, until)?;
    report.waiting("the provisioner is frozen, for the next time");
    match frozen.save(key, paths, plan.zstd.as_deref()) {
        Ok(()) => report.done(PROVISIONER, "frozen: it starts in seconds from now on"),
        Err(failure) => report.note(PROVISIONER, &failure.message),
    }
    gate.open(until)
}

/// Starts it from its frozen state.
fn thaw(plan: &Plan, frozen: &Frozen, report: &Report) -> Result<(), Failure> {
    let paths = &plan.vm.paths;
    report.waiting("the provisioner is thawed");
    let until = Instant::now() + PATIENCE;
    let mut thawed = plan.vm.clone();
    thawed.vm.incoming = Some(frozen.load(paths, plan.zstd.as_deref())?);
    targets::launch(&thawed)?;
    // By this, and not by how its memory came, it is known again.
    targets::note(&plan.vm)?;
    frozen::go_on(&paths.monitor).map_err(vm_failed)?;
    pass(paths, until)?;
    report.done(PROVISIONER, &format!("thawed ({})", plan.vm.title()));
    Ok(())
}

/// A command that was killed may have left the machine standing still, or at its gate: has it go on until its API answers.
async fn unstick(opened: &Opened, paths: &VmPaths, until: Instant) -> Result<(), Failure> {
    frozen::go_on(&paths.monitor).map_err(vm_failed)?;
    let server = server(opened)?;
    while channel(&server).await.is_err() && Instant::now() < until {
        let mut gate = Gate::connect(&paths.control)?;
        if gate.is_reached(Instant::now() + GLANCE)? {
            return gate.open(until);
        }
    }
    Ok(())
}

/// `provisioner container stop` may have been the last word: up means that bootjackd answers.
async fn start_container(opened: &Opened) -> Result<(), Failure> {
    if channel(&server(opened)?).await.is_ok() {
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
fn pass(paths: &VmPaths, until: Instant) -> Result<(), Failure> {
    reached(paths, until)?.open(until)
}

fn reached(paths: &VmPaths, until: Instant) -> Result<Gate, Failure> {
    let mut gate = Gate::connect(&paths.control)?;
    match gate.is_reached(until)? {
        true => Ok(gate),
        false => Err(late(paths)),
    }
}

fn late(paths: &VmPaths) -> Failure {
    let text = format!(
        "the provisioner is not up after {} s; its console: {}",
        PATIENCE.as_secs(),
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
    loop {
        match channel(&server).await {
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
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// Connects to its API. QEMU takes connections for a machine that takes none, and leaves them as they are.
async fn channel(server: &Server) -> Result<client::Connection, Failure> {
    match tokio::time::timeout(ANSWER, client::channel(server)).await {
        Ok(answer) => answer,
        Err(_) => Err(Failure::new(
            Exit::Service,
            format!("bootjackd at {server} does not answer"),
        )),
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
