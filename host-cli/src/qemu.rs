//! A virtual machine is a value; QEMU's command line is a pure function of it.
//!
//! In: `VmSpec` (what machine) and `QemuFacts` (what this host runs it with). Out: arguments, program not included.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

/// Processor of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Arch {
    #[value(name = "x86_64", alias = "amd64")]
    X86_64,
    #[value(name = "aarch64", alias = "arm64")]
    Aarch64,
}

/// Firmware of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Firmware {
    /// SeaBIOS and the iPXE of the network card's ROM
    Bios,
    /// OVMF or AAVMF, whose own driver boots by PXE
    Uefi,
}

/// How QEMU runs the machine's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    Kvm,
    Tcg,
}

/// One machine, powered on with an empty memory and no disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmSpec {
    pub name: String,
    pub arch: Arch,
    pub mac: String,
    /// SMBIOS system UUID: DHCP option 97 and iPXE's `${uuid}`.
    pub uuid: String,
    pub cpus: usize,
    pub memory_mib: u32,
    /// The tap interface its only network card is plugged into.
    pub tap: String,
    /// Where the console is kept; QEMU writes it to its standard output too.
    pub console_log: PathBuf,
}

/// What this host runs a machine with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QemuFacts {
    pub accel: Accel,
    pub boot: BootFiles,
}

/// The firmware's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootFiles {
    /// QEMU's own SeaBIOS, and the network card's option ROM.
    Bios { rom: PathBuf },
    /// Code, and this machine's own copy of the variables.
    Uefi { code: PathBuf, vars: PathBuf },
}

impl Arch {
    /// The processor of this computer, if it is one of these.
    pub fn of_host() -> Option<Self> {
        Self::from_str(std::env::consts::ARCH, false).ok()
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// The name of its QEMU.
    pub fn qemu(self) -> &'static str {
        match self {
            Self::X86_64 => "qemu-system-x86_64",
            Self::Aarch64 => "qemu-system-aarch64",
        }
    }
}

impl Firmware {
    /// As a person would write it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Bios => "BIOS",
            Self::Uefi => "UEFI",
        }
    }
}

/// The arguments that start the machine.
pub fn arguments(vm: &VmSpec, facts: &QemuFacts) -> Vec<String> {
    let mut args = Arguments::bare();
    args.pair("-name", &vm.name);
    args.pair("-uuid", &vm.uuid);
    args.processor(vm.arch, facts.accel);
    args.pair("-smp", vm.cpus);
    args.pair("-m", vm.memory_mib);
    args.console(Some(&vm.console_log));

    // The lab has nothing on disk: a guest that reboots is done, and QEMU with it.
    args.flag("-no-reboot");
    // edk2 from 2024-05 on boots from the network only if it has a source of randomness.
    args.pair("-device", "virtio-rng-pci");

    let nic = "lan";
    args.pair(
        "-netdev",
        format!("tap,id={nic},ifname={},script=no,downscript=no", vm.tap),
    );
    let card = format!("virtio-net-pci,netdev={nic},mac={},bootindex=0", vm.mac);
    match &facts.boot {
        // The ROM carries the id of a modern-only card (1041), so the card must be one.
        BootFiles::Bios { rom } => {
            args.pair(
                "-device",
                format!("{card},disable-legacy=on,romfile={}", value(rom)),
            );
        }
        // No ROM: the firmware's own driver and PXE.
        BootFiles::Uefi { code, vars } => {
            let flash = |unit: u8, rest: &str, file: &Path| {
                format!(
                    "if=pflash,unit={unit},format=raw{rest},file={}",
                    value(file)
                )
            };
            args.pair("-drive", flash(0, ",readonly=on", code));
            args.pair("-drive", flash(1, "", vars));
            args.pair("-device", format!("{card},romfile="));
        }
    }
    args.0
}

/// The arguments that start the test guest of `smoke_image` under KVM; it answers on standard output.
pub fn smoke_arguments(arch: Arch, image: &Path) -> Vec<String> {
    let mut args = Arguments::bare();
    args.processor(arch, Accel::Kvm);
    args.pair("-m", 64);
    args.console(None);
    match arch {
        Arch::X86_64 => {
            args.pair(
                "-drive",
                format!("if=none,id=d,format=raw,readonly=on,file={}", value(image)),
            );
            args.pair("-device", "virtio-blk-pci,drive=d,bootindex=0");
        }
        // Behind the device tree, which takes the first MiB of memory; the processor starts there.
        Arch::Aarch64 => {
            args.pair(
                "-device",
                format!("loader,file={},addr=0x40200000,force-raw=on", value(image)),
            );
            args.pair("-device", "loader,addr=0x40200000,cpu-num=0");
        }
    }
    args.0
}

/// First octet the test guest writes to its serial port; no text contains it.
pub const SMOKE_STARTED: u8 = 0xf1;
/// Octet it writes after 200 million turns of an empty loop: a blink on a real KVM, ten seconds where one only emulates.
pub const SMOKE_DONE: u8 = 0xf2;

/// A guest that needs no operating system: a boot sector on x86_64, plain code on aarch64.
pub fn smoke_image(arch: Arch) -> Vec<u8> {
    match arch {
        Arch::X86_64 => {
            let mut image = vec![
                0xfa, // cli
                0xba,
                0xf8,
                0x03, // mov dx, 0x3f8
                0xb0,
                SMOKE_STARTED,
                0xee, // mov al, …; out dx, al
                0x66,
                0xb9,
                0x00,
                0xc2,
                0xeb,
                0x0b, // mov ecx, 200_000_000
                0x66,
                0x49,
                0x75,
                0xfc, // dec ecx; jnz
                0xb0,
                SMOKE_DONE,
                0xee, // mov al, …; out dx, al
                0xf4,
                0xeb,
                0xfd, // hlt; again
            ];
            image.resize(510, 0);
            image.extend([0x55, 0xaa]);
            // A disk of one sector is too small for some firmware.
            image.resize(1 << 20, 0);
            image
        }
        Arch::Aarch64 => {
            let octet = |octet: u8| 0x5280_0001 | u32::from(octet) << 5; // mov w1, …
            let code = [
                0xd2a1_2000, // mov x0, 0x0900_0000: the serial port of QEMU's `virt`
                octet(SMOKE_STARTED),
                0x3900_0001, // strb w1, [x0]
                0xd298_4002, // movz x2, 0xc200
                0xf2a1_7d62, // movk x2, 0x0beb, lsl 16: 200_000_000
                0xf100_0442, // subs x2, x2, 1
                0x54ff_ffe1, // b.ne
                octet(SMOKE_DONE),
                0x3900_0001, // strb w1, [x0]
                0x1400_0000, // b .
            ];
            code.into_iter().flat_map(u32::to_le_bytes).collect()
        }
    }
}

/// The command as one could type it: quoted, one option with its value per line.
pub fn shown(program: &Path, arguments: &[String]) -> String {
    let mut text = quoted(&program.display().to_string());
    for argument in arguments {
        text.push_str(if argument.starts_with('-') {
            " \\\n  "
        } else {
            " "
        });
        text.push_str(&quoted(argument));
    }
    text
}

/// A word for a POSIX shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

struct Arguments(Vec<String>);

impl Arguments {
    /// A machine with nothing in it, no window and no monitor.
    fn bare() -> Self {
        let mut args = Self(Vec::new());
        args.flag("-nodefaults");
        args.flag("-no-user-config");
        args.pair("-display", "none");
        args.pair("-monitor", "none");
        args
    }

    fn flag(&mut self, flag: &str) {
        self.0.push(flag.to_owned());
    }

    fn pair(&mut self, flag: &str, value: impl ToString) {
        self.flag(flag);
        self.0.push(value.to_string());
    }

    fn processor(&mut self, arch: Arch, accel: Accel) {
        let (machine, cpu) = match (arch, accel) {
            // graphics=off: SeaBIOS and iPXE talk to the serial port.
            (Arch::X86_64, Accel::Kvm) => ("q35,graphics=off", "host"),
            (Arch::X86_64, Accel::Tcg) => ("q35,graphics=off", "max"),
            (Arch::Aarch64, Accel::Kvm) => ("virt,gic-version=host", "host"),
            // `max` would emulate pointer authentication, which is slow.
            (Arch::Aarch64, Accel::Tcg) => ("virt,gic-version=3", "cortex-a57"),
        };
        self.pair("-machine", machine);
        self.pair(
            "-accel",
            if accel == Accel::Kvm {
                "kvm"
            } else {
                "tcg,thread=multi"
            },
        );
        self.pair("-cpu", cpu);
    }

    /// The serial port on standard output, kept in a file as well. signal=off: Ctrl-C is for Bootjack, not for QEMU.
    fn console(&mut self, log: Option<&Path>) {
        let log = log.map_or(String::new(), |log| format!(",logfile={}", value(log)));
        self.pair("-chardev", format!("stdio,id=console,signal=off{log}"));
        self.pair("-serial", "chardev:console");
    }
}

/// A path inside a comma-separated option.
fn value(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(arch: Arch) -> VmSpec {
        VmSpec {
            name: "node-1".to_owned(),
            arch,
            mac: "52:54:00:00:00:01".to_owned(),
            uuid: "00000000-0000-0000-0000-525400000001".to_owned(),
            cpus: 2,
            memory_mib: 3072,
            tap: "lan0".to_owned(),
            console_log: "lab/node-1/console.log".into(),
        }
    }

    fn bios() -> BootFiles {
        BootFiles::Bios {
            rom: "/usr/lib/ipxe/qemu/pxe-virtio.rom".into(),
        }
    }

    fn uefi(code: &str) -> BootFiles {
        BootFiles::Uefi {
            code: code.into(),
            vars: "lab/node-1/vars.fd".into(),
        }
    }

    #[test]
    fn the_command_line_of_every_arch_firmware_and_accelerator_is_the_golden_one() {
        let ovmf = || uefi("/usr/share/OVMF/OVMF_CODE_4M.fd");
        let aavmf = || uefi("/usr/share/AAVMF/AAVMF_CODE.fd");
        for (arch, boot, accel, golden) in [
            (
                Arch::X86_64,
                bios(),
                Accel::Tcg,
                include_str!("../tests/golden/x86_64-bios-tcg.sh"),
            ),
            (
                Arch::X86_64,
                bios(),
                Accel::Kvm,
                include_str!("../tests/golden/x86_64-bios-kvm.sh"),
            ),
            (
                Arch::X86_64,
                ovmf(),
                Accel::Tcg,
                include_str!("../tests/golden/x86_64-uefi-tcg.sh"),
            ),
            (
                Arch::X86_64,
                ovmf(),
                Accel::Kvm,
                include_str!("../tests/golden/x86_64-uefi-kvm.sh"),
            ),
            (
                Arch::Aarch64,
                aavmf(),
                Accel::Tcg,
                include_str!("../tests/golden/aarch64-uefi-tcg.sh"),
            ),
            (
                Arch::Aarch64,
                aavmf(),
                Accel::Kvm,
                include_str!("../tests/golden/aarch64-uefi-kvm.sh"),
            ),
        ] {
            let arguments = arguments(&node(arch), &QemuFacts { accel, boot });
            let text = shown(Path::new(arch.qemu()), &arguments);
            assert_eq!(text, golden.trim_end(), "{arch:?} {accel:?}");
        }
    }

    #[test]
    fn every_machine_has_a_source_of_randomness() {
        for (arch, boot) in [(Arch::X86_64, bios()), (Arch::Aarch64, uefi("c"))] {
            let facts = QemuFacts {
                accel: Accel::Tcg,
                boot,
            };
            assert!(arguments(&node(arch), &facts).contains(&"virtio-rng-pci".to_owned()));
        }
    }

    #[test]
    fn commas_in_file_names_are_doubled() {
        let mut vm = node(Arch::X86_64);
        vm.console_log = "a,b/console.log".into();
        let facts = QemuFacts {
            accel: Accel::Tcg,
            boot: bios(),
        };
        let text = arguments(&vm, &facts).join(" ");
        assert!(text.contains("logfile=a,,b/console.log"), "{text}");
    }

    #[test]
    fn what_is_shown_can_be_typed() {
        let arguments = ["-name", "it's", "-m", "64"].map(str::to_owned);
        assert_eq!(
            shown(Path::new("qemu"), &arguments),
            "qemu \\\n  -name 'it'\\''s' \\\n  -m 64"
        );
    }

    #[test]
    fn the_test_guest_is_a_bootable_sector_or_plain_code() {
        let sector = smoke_image(Arch::X86_64);
        assert_eq!(sector[510..512], [0x55, 0xaa]);
        assert_eq!(sector[9..13], 200_000_000u32.to_le_bytes());
        assert_eq!(smoke_image(Arch::Aarch64).len(), 40);
    }
}
