//! A virtual machine as a value: what it is, not how it is run. In: nothing; out: what every driver makes its command line from.

use std::path::PathBuf;

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

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    pub name: String,
    pub arch: Arch,
    /// SMBIOS system UUID: DHCP option 97 and iPXE's `${uuid}`.
    pub uuid: String,
    pub cpus: u32,
    pub memory_mib: u32,
    pub boot: Boot,
    pub disks: Vec<Disk>,
    pub nics: Vec<Nic>,
    pub files: Files,
    /// Pictures of it can be taken.
    pub display: bool,
    /// A reboot of the guest ends the machine instead.
    pub no_reboot: bool,
    /// It waits for its memory to be restored, from the output of this shell command.
    pub incoming: Option<String>,
}

/// What its first instructions come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// SeaBIOS. A card boots from the network by its option ROM.
    Bios { rom: Option<PathBuf> },
    /// Code, and this machine's own copy of the variables.
    Uefi { code: PathBuf, vars: PathBuf },
    /// No firmware to speak of: the kernel is there when it starts.
    Kernel {
        kernel: PathBuf,
        initrd: Option<PathBuf>,
        append: String,
    },
}

/// A disk of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// A short word: letters, digits.
    pub id: String,
    pub path: PathBuf,
    pub format: DiskFormat,
    /// What the guest finds it by: /dev/disk/by-id/virtio-SERIAL; up to 20 octets.
    pub serial: Option<String>,
    pub read_only: bool,
    /// The lower, the earlier it is booted from; none: never.
    pub boot_order: Option<u8>,
}

/// What a disk's file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFormat {
    Raw,
    Qcow2,
}

/// A network card of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// A short word: letters, digits.
    pub id: String,
    pub mac: String,
    pub link: Link,
    /// As of a disk.
    pub boot_order: Option<u8>,
}

/// What a card is plugged into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// A port of the lab's switch: unix datagram sockets, one frame in each datagram.
    Switch { own: PathBuf, switch: PathBuf },
    /// A translator of addresses inside the driver: the way out, and these ports of loopback in. Port 0: QEMU chooses one.
    User {
        forwards: Vec<Forward>,
        /// Nothing gets out.
        restrict: bool,
    },
    /// A bridge of this Linux: QEMU's bridge helper makes a tap for the machine, which ends with it.
    Bridge { name: String },
    /// A stream socket that frames go through with their length in front: socket_vmnet.
    Stream { socket: PathBuf },
}

/// A port of loopback that leads to one of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    pub host_port: u16,
    pub guest_port: u16,
}

/// Where what runs it can be found. The sockets' names are short, see `lab::paths`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Everything its serial port said.
    pub console_log: PathBuf,
    /// Its serial port.
    pub console: PathBuf,
    /// QEMU's QMP.
    pub monitor: PathBuf,
    /// Locked by what runs it, with its process id inside.
    pub pid: PathBuf,
    /// A port that the guest finds as /dev/virtio-ports/bootjack.control, for a machine that is frozen and thawed.
    pub control: Option<PathBuf>,
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

impl DiskFormat {
    /// As QEMU calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}
