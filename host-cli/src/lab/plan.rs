//! From a lab file and what this computer has to everything that is to run: pure, every missing thing reported at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::paths::{LabPaths, PROVISIONER, VmPaths};
use super::pulls;
use crate::drivers::spec::Firmware;
use crate::drivers::spec::{Arch, Boot, Disk, DiskFormat, Files, Link, Nic, Vm};
use crate::drivers::{Driver, macosvm, qemu, vfkit};
use crate::exit::{Exit, Failure};
use crate::host::{ArchFacts, Kvm};
use crate::images::pull::Wanted;
use crate::labfile::{BootFrom, Lab, Machine, NetworkKind};
use crate::vm::boot_order;

/// How one machine is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmPlan {
    pub vm: Vm,
    pub paths: VmPaths,
    pub program: PathBuf,
    pub driver: Driver,
    /// Why it is emulated, where that was not asked for.
    pub driver_reason: Option<String>,
    /// UEFI variables to start from.
    pub vars_template: Option<PathBuf>,
    /// Its disk when it has none yet.
    pub new_disk: Option<NewDisk>,
}

/// A disk that is made when a machine first starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDisk {
    pub size: u64,
    pub format: DiskFormat,
    /// The image it starts as; blank without one.
    pub base: Option<Base>,
}

/// What a disk starts as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    Here(PathBuf, DiskFormat),
    /// The image of this name, which is to be pulled first.
    ToPull(String),
}

/// An image that a lab file names, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundImage {
    pub path: PathBuf,
    pub format: DiskFormat,
}

/// What the plan is made from, beside the file.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// For each processor that the lab has machines of.
    pub arches: Vec<ArchFacts>,
    /// The images that the file names, each for the machines of one processor.
    pub images: BTreeMap<(String, Arch), FoundImage>,
    /// Those of them that are not here and can be had.
    pub pulls: BTreeMap<(String, Arch), Wanted>,
    /// The cloud image that the provisioner is to be made from, where that is what the file names.
    pub provisioner: Option<FoundImage>,
    /// What is to run them, whatever there is.
    pub driver: Option<Driver>,
    /// The program of a driver of macOS's framework.
    pub framework: Option<PathBuf>,
}

impl VmPlan {
    pub fn arguments(&self) -> Vec<String> {
        match self.driver.accel() {
            Some(accel) => qemu::arguments(&self.vm, accel),
            None if self.driver == Driver::Vfkit => vfkit::arguments(&self.vm),
            None => vec![self.vm_file().display().to_string()],
        }
    }

    /// The file that its program reads, and what is in it.
    pub fn config(&self) -> Option<(PathBuf, String)> {
        let config = || format!("{:#}\n", macosvm::config(&self.vm));
        (self.driver == Driver::Macosvm).then(|| (self.vm_file(), config()))
    }

    /// macosvm's configuration.
    fn vm_file(&self) -> PathBuf {
        self.paths.dir.join("macosvm.json")
    }

    /// The command line as one could type it, after the file that it names.
    pub fn command_line(&self) -> String {
        let command = crate::words::shown(&self.program, &self.arguments());
        match self.config() {
            Some((file, config)) => format!("# {}\n{config}{command}", file.display()),
            None => command,
        }
    }

    /// `x86_64 UEFI, emulated`.
    pub fn title(&self) -> String {
        let firmware = match &self.vm.boot {
            Boot::Bios { .. } => " BIOS",
            Boot::Uefi { .. } => " UEFI",
            Boot::Kernel { .. } => "",
        };
        format!(
            "{}{firmware}, {}",
            self.vm.arch.as_str(),
            self.driver.title()
        )
    }
}

/// Plans the targets of the lab.
pub fn targets(lab: &Lab, paths: &LabPaths, facts: &Facts) -> Result<Vec<VmPlan>, Failure> {
    let mut missing = Missing::default();
    let plans = lab
        .vms
        .iter()
        .filter_map(|machine| target(machine, lab, paths, facts, &mut missing));
    let plans = plans.collect();
    missing.report()?;
    Ok(plans)
}

fn target(
    machine: &Machine,
    lab: &Lab,
    paths: &LabPaths,
    facts: &Facts,
    missing: &mut Missing,
) -> Option<VmPlan> {
    let vm_paths = paths.vm(&machine.name);
    let (program, driver, driver_reason) = runner(machine.arch, facts, missing)?;
    let arch = facts.arch(machine.arch)?;
    let boots_net = machine.boot.contains(&BootFrom::Net);
    let (boot, vars_template) = match driver.accel() {
        Some(_) => firmware(machine, arch, &vm_paths, boots_net, missing)?,
        None => (own_firmware(machine, &vm_paths), None),
    };
    let format = match driver.caps().qcow2 {
        true => DiskFormat::Qcow2,
        false => DiskFormat::Raw,
    };
    let base = match &machine.image {
        None => None,
        Some(name) => Some(base(machine, name, facts, missing)?),
    };
    let net_first = machine.boot.first() == Some(&BootFrom::Net);
    let (disk_order, net_order) = boot_order::orders(net_first);
    let mut disks: Vec<Disk> = Vec::new();
    if machine.disk.is_some() {
        disks.push(Disk {
            id: "disk".to_owned(),
            path: vm_paths.disk_of(format),
            format,
            serial: None,
            read_only: false,
            boot_order: Some(disk_order),
        });
    }
    if machine.image.is_some() {
        disks.push(Disk {
            id: "seed".to_owned(),
            path: vm_paths.seed(),
            format: DiskFormat::Raw,
            serial: None,
            read_only: true,
            boot_order: None,
        });
    }
    let nic = Nic {
        id: "lan".to_owned(),
        mac: machine.mac.clone(),
        link: lan(lab, &vm_paths),
        boot_order: boots_net.then_some(net_order),
    };
    let vm = Vm {
        name: machine.name.clone(),
        arch: machine.arch,
        uuid: machine.uuid.clone(),
        cpus: machine.cpus,
        memory_mib: machine.memory_mib,
        boot,
        disks,
        nics: vec![nic],
        files: files(&vm_paths),
        display: machine.display,
        no_reboot: false,
        incoming: None,
    };
    for reason in driver.refuses(&vm, Arch::of_host()) {
        missing.add(format!(
            "a driver for {}: {} {reason}",
            vm.name,
            driver.as_str()
        ));
    }
    Some(VmPlan {
        vm,
        program,
        driver,
        driver_reason,
        vars_template,
        new_disk: machine.disk.map(|size| NewDisk { size, format, base }),
        paths: vm_paths,
    })
}

fn base(machine: &Machine, name: &str, facts: &Facts, missing: &mut Missing) -> Option<Base> {
    let key = (name.to_owned(), machine.arch);
    match facts.images.get(&key) {
        Some(image) => Some(Base::Here(image.path.clone(), image.format)),
        None if facts.pulls.contains_key(&key) => Some(Base::ToPull(key.0)),
        None => {
            missing.add(pulls::advice(name, &machine.name));
            None
        }
    }
}

/// QEMU's files of a machine.
pub fn files(paths: &VmPaths) -> Files {
    Files {
        console_log: paths.console_log(),
        console: paths.console.clone(),
        monitor: paths.monitor.clone(),
        pid: paths.pid.clone(),
        control: None,
    }
}

/// What a machine's card in the lab is plugged into.
pub fn lan(lab: &Lab, paths: &VmPaths) -> Link {
    match &lab.network.kind {
        NetworkKind::Switch => Link::Switch {
            own: paths.port.clone(),
            switch: paths.switch_port.clone(),
        },
        NetworkKind::Bridge { name } => Link::Bridge { name: name.clone() },
        NetworkKind::SocketVmnet { socket } => Link::Stream {
            socket: socket.clone(),
        },
    }
}

/// The program that runs machines of a processor, how, and why not better.
pub fn runner(
    arch: Arch,
    facts: &Facts,
    missing: &mut Missing,
) -> Option<(PathBuf, Driver, Option<String>)> {
    if let Some(driver @ (Driver::Vfkit | Driver::Macosvm)) = facts.driver {
        let program = facts.framework.clone();
        return Some((
            program.unwrap_or_else(|| driver.as_str().into()),
            driver,
            None,
        ));
    }
    let found = facts.arch(arch)?;
    let Some(program) = found.qemu.clone() else {
        missing.add(match arch {
            Arch::X86_64 => "QEMU for x86_64: install qemu-system-x86 (Debian, Ubuntu), qemu-system-x86-core (Fedora) or qemu (Homebrew)",
            Arch::Aarch64 => "QEMU for aarch64: install qemu-system-arm (Debian, Ubuntu), qemu-system-aarch64-core (Fedora) or qemu (Homebrew)",
        });
        return None;
    };
    let native = match cfg!(target_os = "macos") {
        true => Driver::QemuHvf,
        false => Driver::QemuKvm,
    };
    let (driver, reason) = match (facts.driver, &found.native) {
        (Some(driver), _) => (driver, None),
        (None, Kvm::Works) => (native, None),
        (None, Kvm::No(reason)) => (Driver::QemuTcg, Some(reason.clone())),
        (None, Kvm::NotTried) => (Driver::QemuTcg, None),
    };
    Some((program, driver, reason))
}

fn firmware(
    machine: &Machine,
    arch: &ArchFacts,
    paths: &VmPaths,
    boots_net: bool,
    missing: &mut Missing,
) -> Option<(Boot, Option<PathBuf>)> {
    match machine.firmware {
        Firmware::Bios if boots_net && arch.rom.is_none() => {
            missing.add("the network card's boot ROM pxe-virtio.rom: install ipxe-qemu (Debian, Ubuntu), ipxe-roms-qemu (Fedora) or qemu (Homebrew)");
            None
        }
        Firmware::Bios => {
            let rom = arch.rom.clone();
            Some((Boot::Bios { rom }, None))
        }
        Firmware::Uefi => match &arch.uefi {
            Some((code, vars)) => {
                let (code, template) = (code.clone(), vars.clone());
                let vars = paths.vars();
                Some((Boot::Uefi { code, vars }, Some(template)))
            }
            None => {
                missing.add(match machine.arch {
                    Arch::X86_64 => "UEFI firmware for x86_64: install ovmf (Debian, Ubuntu), edk2-ovmf (Fedora, Arch) or qemu (Homebrew)",
                    Arch::Aarch64 => "UEFI firmware for aarch64: install qemu-efi-aarch64 (Debian, Ubuntu), edk2-aarch64 (Fedora, Arch) or qemu (Homebrew)",
                });
                None
            }
        },
    }
}

/// What the framework of macOS brings along: it makes its variables itself.
fn own_firmware(machine: &Machine, paths: &VmPaths) -> Boot {
    match machine.firmware {
        Firmware::Bios => Boot::Bios { rom: None },
        Firmware::Uefi => Boot::Uefi {
            code: PathBuf::new(),
            vars: paths.vars(),
        },
    }
}

impl Facts {
    /// The provisioner wants ports of loopback led into it, which QEMU alone does.
    pub fn of_provisioner(&self) -> Self {
        let driver = self.driver.filter(|driver| driver.caps().forwards);
        Self {
            driver,
            ..self.clone()
        }
    }

    pub fn arch(&self, arch: Arch) -> Option<&ArchFacts> {
        self.arches.iter().find(|found| found.arch == arch)
    }
}

/// The processors of the lab's machines, its provisioner's included.
pub fn arches(lab: &Lab) -> Vec<Arch> {
    let mut arches: Vec<Arch> = lab.vms.iter().map(|machine| machine.arch).collect();
    arches.extend(Arch::of_host());
    let mut seen = Vec::new();
    for arch in arches {
        if !seen.contains(&arch) {
            seen.push(arch);
        }
    }
    seen
}

/// What is not there, with how to get it.
#[derive(Debug, Default)]
pub struct Missing(Vec<String>);

impl Missing {
    pub fn add(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.0.contains(&what) {
            self.0.push(what);
        }
    }

    /// All of it in one failure.
    pub fn report(self) -> Result<(), Failure> {
        let message = match self.0.as_slice() {
            [] => return Ok(()),
            [one] => format!("the lab lacks {one}"),
            more => format!(
                "the lab lacks {} things\n  {}",
                more.len(),
                more.join("\n  ")
            ),
        };
        Err(Failure::new(Exit::Missing, message))
    }
}

/// Whether a name is a machine's of this lab, or the provisioner's; refuses others with those there are.
pub fn known<'a>(lab: &'a Lab, name: &'a str) -> Result<&'a str, Failure> {
    let mut names: Vec<&str> = lab.vms.iter().map(|vm| vm.name.as_str()).collect();
    names.push(PROVISIONER);
    match names.contains(&name) {
        true => Ok(name),
        false => {
            let text = format!(
                "there is no machine {name} in lab {}; there are: {}",
                lab.name,
                names.join(", ")
            );
            Err(Failure::new(Exit::NotFound, text))
        }
    }
}

/// The path as it would be typed in this directory.
pub fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here)
        .unwrap_or(path)
        .display()
        .to_string()
}
