//! From flags and facts to a plan of the lab: pure, every missing thing reported at once.

use std::path::PathBuf;
use std::time::Duration;

use crate::cli::{AccelChoice, LabArgs, LabProfile};
use crate::config::{self, Sources};
use crate::exit::{Exit, Failure};
use crate::host::{HostFacts, Kvm};
use crate::paths::{Paths, from_here};
use crate::qemu::{self, Accel, Arch, Firmware, QemuFacts, VmSpec};

/// Everything the lab is about to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub paths: Paths,
    pub sources: Sources,
    /// Text of bootjackd.toml.
    pub config: String,
    pub bootjackd: PathBuf,
    pub qemu: PathBuf,
    pub machine: Machine,
    pub vm: VmSpec,
    pub facts: QemuFacts,
    /// UEFI variables to copy for the machine.
    pub vars_template: Option<PathBuf>,
    pub firmware: Firmware,
    /// Why it is not KVM.
    pub accel_reason: Option<String>,
    pub proof: Proof,
    pub timeout: Duration,
    pub current_dir: PathBuf,
}

/// The one machine of the lab, as it is reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub name: String,
    pub mac: String,
    pub address: std::net::Ipv4Addr,
    pub profile: String,
}

/// How the lab knows that the machine did what its reservation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Logs in with the reservation's key, asks cloud-init and the host name.
    Ssh,
    /// Reads on the console what the guest says it was given.
    Console,
}

impl Plan {
    /// One line about what runs how.
    pub fn title(&self) -> String {
        let accel = match (self.facts.accel, &self.accel_reason) {
            (Accel::Kvm, _) => "KVM".to_owned(),
            (Accel::Tcg, None) => "emulated".to_owned(),
            (Accel::Tcg, Some(reason)) => format!("emulated ({reason})"),
        };
        let (arch, firmware) = (self.vm.arch.as_str(), self.firmware.title());
        format!("{} · {arch} {firmware} · {accel}", self.machine.profile)
    }

    /// A file as a person here would write it.
    pub fn shown(&self, path: &std::path::Path) -> String {
        from_here(path, &self.current_dir)
    }

    /// QEMU's command line as one could type it.
    pub fn command_line(&self) -> String {
        qemu::shown(&self.qemu, &qemu::arguments(&self.vm, &self.facts))
    }
}

/// Makes the plan. `exists` says whether a file is there.
pub fn plan(
    args: &LabArgs,
    host: &HostFacts,
    exists: impl Fn(&std::path::Path) -> bool,
) -> Result<Plan, Failure> {
    if !host.linux {
        return Err(Failure::new(
            Exit::Missing,
            "this first lab needs Linux: it builds its network from Linux network namespaces; \
             `bootjack reservation` works here, and the lab in any Linux virtual machine",
        ));
    }
    let absolute = |path: &PathBuf| host.current_dir.join(path);
    let root = match (&args.dir, host.checkout) {
        (Some(dir), _) => absolute(dir),
        (None, true) => host.current_dir.join("target/lab"),
        (None, false) => host.state_dir.join("lab"),
    };
    let profile = args.profile.unwrap_or(match args.arch {
        Arch::X86_64 => LabProfile::Debian12,
        Arch::Aarch64 => LabProfile::Tiny,
    });
    let mut missing = Missing::default();

    if (args.arch, args.firmware) == (Arch::Aarch64, Firmware::Bios) {
        return Err(Failure::new(
            Exit::Usage,
            "aarch64 machines have no BIOS; leave --firmware out",
        ));
    }
    if (args.arch, profile) == (Arch::Aarch64, LabProfile::Debian12) {
        let text = "there is no aarch64 guest for profile debian-12 yet; use --profile tiny";
        return Err(Failure::new(Exit::Usage, text));
    }

    let (accel, accel_reason) = accelerator(args.accel, &host.kvm)?;
    let qemu = missing.unless(host.qemu.clone(), || match args.arch {
        Arch::X86_64 => "QEMU for x86_64: install qemu-system-x86 (Debian, Ubuntu), qemu-system-x86-core (Fedora) or qemu (Homebrew)",
        Arch::Aarch64 => "QEMU for aarch64: install qemu-system-arm (Debian, Ubuntu), qemu-system-aarch64-core (Fedora) or qemu (Homebrew)",
    });
    let paths = Paths::new(root, &host.runtime_dir);
    let name = "node-1";
    let mut vars_template = None;
    let boot = match args.firmware {
        Firmware::Bios => qemu::BootFiles::Bios {
            rom: missing.unless(host.rom.clone(), || {
                "the network card's boot ROM pxe-virtio.rom: install ipxe-qemu (Debian, Ubuntu), ipxe-roms-qemu (Fedora) or qemu (Homebrew)"
            }),
        },
        Firmware::Uefi => {
            let (code, vars) = missing.unless(host.uefi.clone(), || match args.arch {
                Arch::X86_64 => "UEFI firmware for x86_64: install ovmf (Debian, Ubuntu), edk2-ovmf (Fedora, Arch) or qemu (Homebrew)",
                Arch::Aarch64 => "UEFI firmware for aarch64: install qemu-efi-aarch64 (Debian, Ubuntu), edk2-aarch64 (Fedora, Arch) or qemu (Homebrew)",
            });
            vars_template = Some(vars);
            qemu::BootFiles::Uefi { code, vars: paths.firmware_vars(name) }
        }
    };
    if profile == LabProfile::Debian12 && !host.ssh {
        missing.add("ssh and ssh-keygen: install openssh-client (Debian, Ubuntu) or openssh-clients (Fedora)");
    }

    let bootjackd = missing.unless(
        args.bootjackd
            .as_ref()
            .map(absolute)
            .or_else(|| host.bootjackd.clone()),
        || "bootjackd: build it with `cargo build --release`, or say with --bootjackd where it is",
    );
    if args.bootjackd.is_some() && !exists(&bootjackd) {
        missing.add(format!(
            "{}: build it with `cargo build --release`",
            from_here(&bootjackd, &host.current_dir)
        ));
    }

    let guests = absolute(&args.guest_dir);
    let (guest, script) = match profile {
        LabProfile::Debian12 => (format!("debian-{}", args.arch.as_str()), "debian.sh"),
        LabProfile::Tiny => (format!("tiny-{}", args.arch.as_str()), "tiny.sh"),
    };
    if args.profiles_dir.is_none() {
        let files = ["vmlinuz", "initrd.img"].map(|file| guests.join(&guest).join(file));
        if let Some(absent) = files.iter().find(|file| !exists(file)) {
            let dir = from_here(&guests.join(&guest), &host.current_dir);
            let absent = from_here(absent, &host.current_dir);
            let arch = args.arch.as_str();
            missing.add(format!(
                "{absent}: make it with deploy/guest/{script} {dir} {arch}"
            ));
        }
    }
    // Without our own, the distribution's do for x86_64.
    let mut programs = absolute(&args.programs_dir);
    if !exists(&programs) {
        match (&host.programs, args.arch) {
            (Some(distribution), Arch::X86_64) => programs = distribution.clone(),
            _ => {
                let dir = from_here(&programs, &host.current_dir);
                missing.add(format!(
                    "network boot programs in {dir}: make them with ipxe/programs.sh"
                ));
            }
        }
    }
    missing.report()?;

    let sources = Sources {
        guests,
        programs,
        profiles: args.profiles_dir.as_ref().map(absolute),
    };
    let mac = "52:54:00:00:00:01".to_owned();
    let vm = VmSpec {
        name: name.to_owned(),
        arch: args.arch,
        uuid: format!("00000000-0000-0000-0000-{}", mac.replace(':', "")),
        mac: mac.clone(),
        cpus: host.cpus.clamp(1, 2),
        memory_mib: match profile {
            LabProfile::Debian12 => 3072,
            LabProfile::Tiny => 1024,
        },
        tap: config::INTERFACE.to_owned(),
        console_log: paths.console_log(name),
    };
    let (profile, proof) = match profile {
        LabProfile::Debian12 => ("debian-12", Proof::Ssh),
        LabProfile::Tiny => ("tiny", Proof::Console),
    };
    Ok(Plan {
        config: config::bootjackd_toml(&paths, &sources),
        machine: Machine {
            name: name.to_owned(),
            mac,
            address: std::net::Ipv4Addr::new(198, 18, 0, 10),
            profile: profile.to_owned(),
        },
        facts: QemuFacts { accel, boot },
        firmware: args.firmware,
        timeout: args.timeout,
        current_dir: host.current_dir.clone(),
        paths,
        sources,
        bootjackd,
        qemu,
        vm,
        vars_template,
        accel_reason,
        proof,
    })
}

fn accelerator(choice: AccelChoice, kvm: &Kvm) -> Result<(Accel, Option<String>), Failure> {
    match (choice, kvm) {
        (AccelChoice::Tcg, _) => Ok((Accel::Tcg, None)),
        (_, Kvm::Works) => Ok((Accel::Kvm, None)),
        (AccelChoice::Kvm, Kvm::No(reason)) => {
            let text = format!("KVM cannot be used: {reason}; leave --accel out for emulation");
            Err(Failure::new(Exit::Missing, text))
        }
        (_, Kvm::No(reason)) => Ok((Accel::Tcg, Some(reason.clone()))),
        // Only without a QEMU, which is reported by itself.
        (_, Kvm::NotTried) => Ok((Accel::Tcg, None)),
    }
}

/// What is not there, with how to get it.
#[derive(Default)]
struct Missing(Vec<String>);

impl Missing {
    fn add(&mut self, what: impl Into<String>) {
        self.0.push(what.into());
    }

    /// The thing, or a stand-in for it that `report` keeps from being used.
    fn unless<T: Default>(&mut self, found: Option<T>, what: impl FnOnce() -> &'static str) -> T {
        found.unwrap_or_else(|| {
            self.add(what());
            T::default()
        })
    }

    fn report(self) -> Result<(), Failure> {
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn host() -> HostFacts {
        HostFacts {
            linux: true,
            cpus: 8,
            current_dir: "/src/bootjack".into(),
            state_dir: "/home/me/.local/state/bootjack".into(),
            runtime_dir: "/run/user/1000".into(),
            checkout: true,
            qemu: Some("/usr/bin/qemu-system-x86_64".into()),
            bootjackd: Some("/src/bootjack/target/release/bootjackd".into()),
            ssh: true,
            rom: Some("/usr/lib/ipxe/qemu/pxe-virtio.rom".into()),
            uefi: Some(("/fw/CODE.fd".into(), "/fw/VARS.fd".into())),
            kvm: Kvm::Works,
            programs: Some("/usr/lib/ipxe".into()),
        }
    }

    fn planned(flags: &str, host: &HostFacts) -> Result<Plan, Failure> {
        planned_with(flags, host, |_| true)
    }

    fn planned_with(
        flags: &str,
        host: &HostFacts,
        exists: impl Fn(&std::path::Path) -> bool,
    ) -> Result<Plan, Failure> {
        let typed = ["bootjack", "lab"]
            .into_iter()
            .chain(flags.split_whitespace());
        match Cli::try_parse_from(typed).unwrap().command {
            Command::Lab(args) => plan(&args, host, exists),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_lab_of_a_checkout_is_in_its_target_directory() {
        let plan = planned("", &host()).unwrap();
        assert_eq!(
            plan.paths.root(),
            std::path::Path::new("/src/bootjack/target/lab")
        );
        assert_eq!(
            plan.sources.guests,
            PathBuf::from("/src/bootjack/target/guest")
        );
        assert_eq!(plan.title(), "debian-12 · x86_64 UEFI · KVM");
        assert_eq!(
            (plan.vm.cpus, plan.vm.memory_mib, plan.proof),
            (2, 3072, Proof::Ssh)
        );
        assert_eq!(
            plan.shown(&plan.paths.bootjackd_log()),
            "target/lab/bootjackd.log"
        );
        let elsewhere = HostFacts {
            checkout: false,
            ..host()
        };
        let plan = planned("", &elsewhere).unwrap();
        assert_eq!(
            plan.paths.root(),
            std::path::Path::new("/home/me/.local/state/bootjack/lab")
        );
        let plan = planned("--dir x", &elsewhere).unwrap();
        assert_eq!(plan.paths.root(), std::path::Path::new("/src/bootjack/x"));
    }

    #[test]
    fn emulation_is_chosen_with_its_reason_and_kvm_never_by_force() {
        let broken = HostFacts {
            kvm: Kvm::No("there is no /dev/kvm".to_owned()),
            ..host()
        };
        let plan = planned("", &broken).unwrap();
        assert_eq!(plan.facts.accel, Accel::Tcg);
        assert_eq!(
            plan.title(),
            "debian-12 · x86_64 UEFI · emulated (there is no /dev/kvm)"
        );
        let failure = planned("--accel kvm", &broken).unwrap_err();
        assert_eq!(failure.exit, Exit::Missing);
        assert_eq!(
            failure.message,
            "KVM cannot be used: there is no /dev/kvm; leave --accel out for emulation"
        );
    }

    #[test]
    fn everything_that_is_missing_is_said_at_once_with_the_way_to_get_it() {
        let bare = HostFacts {
            qemu: None,
            bootjackd: None,
            ssh: false,
            rom: None,
            programs: None,
            ..host()
        };
        let failure = planned_with("--firmware bios", &bare, |_| false).unwrap_err();
        assert_eq!(failure.exit, Exit::Missing);
        let lines: Vec<&str> = failure.message.lines().collect();
        assert_eq!(lines[0], "the lab lacks 6 things");
        assert!(lines[1].contains("install qemu-system-x86 (Debian, Ubuntu)"));
        assert!(lines[2].contains("install ipxe-qemu"));
        assert!(lines[3].contains("openssh-client"));
        assert_eq!(
            lines[5],
            "  target/guest/debian-x86_64/vmlinuz: make it with deploy/guest/debian.sh target/guest/debian-x86_64 x86_64"
        );
        let failure = planned_with("", &host(), |file| !file.ends_with("initrd.img")).unwrap_err();
        assert!(
            failure
                .message
                .starts_with("the lab lacks target/guest/debian-x86_64/initrd.img: ")
        );
    }

    #[test]
    fn the_distributions_boot_programs_do_for_x86_only() {
        let absent = |file: &std::path::Path| !file.ends_with("target/ipxe");
        let plan = planned_with("", &host(), absent).unwrap();
        assert_eq!(plan.sources.programs, PathBuf::from("/usr/lib/ipxe"));
        let failure = planned_with("--arch aarch64", &host(), absent).unwrap_err();
        assert!(failure.message.contains("ipxe/programs.sh"), "{failure}");
    }

    #[test]
    fn aarch64_goes_as_far_as_the_tiny_guest() {
        let plan = planned("--arch aarch64", &host()).unwrap();
        assert_eq!(
            (plan.machine.profile.as_str(), plan.proof),
            ("tiny", Proof::Console)
        );
        for flags in [
            "--arch aarch64 --firmware bios",
            "--arch aarch64 --profile debian-12",
        ] {
            assert_eq!(
                planned(flags, &host()).unwrap_err().exit,
                Exit::Usage,
                "{flags}"
            );
        }
    }

    #[test]
    fn without_linux_the_lab_says_so_plainly() {
        let mac = HostFacts {
            linux: false,
            ..host()
        };
        let failure = planned("", &mac).unwrap_err();
        assert_eq!(failure.exit, Exit::Missing);
        assert!(
            failure.message.starts_with("this first lab needs Linux"),
            "{failure}"
        );
    }
}
