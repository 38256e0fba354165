//! What can run a virtual machine, and what each cannot. Every driver is a pure function from `spec::Vm` to what is started.

pub mod macosvm;
pub mod qemu;
pub mod spec;
pub mod vfkit;

use clap::ValueEnum;

use self::qemu::Accel;
use self::spec::{Arch, Boot, DiskFormat, Link, Vm};

/// A way to run a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Driver {
    /// QEMU on Linux' own virtualization
    QemuKvm,
    /// QEMU on that of macOS
    QemuHvf,
    /// QEMU, emulating: everywhere, slow
    QemuTcg,
    /// Apple's Virtualization.framework by vfkit
    Vfkit,
    /// The same by macosvm
    Macosvm,
}

/// What a driver can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Its firmware boots from the network.
    pub pxe: bool,
    pub bios: bool,
    pub uefi: bool,
    pub direct_kernel: bool,
    pub qcow2: bool,
    /// Machines of another processor than the computer's.
    pub foreign_arch: bool,
    /// Ports of loopback that lead into the machine.
    pub forwards: bool,
    /// Its console can be attached to while it runs.
    pub console: bool,
    /// It can be told from what to boot at its next reset alone.
    pub boot_once: bool,
    /// Its state can be saved and taken up again.
    pub freeze: bool,
    pub screenshot: bool,
}

impl Driver {
    pub const ALL: [Self; 5] = [
        Self::QemuKvm,
        Self::QemuHvf,
        Self::QemuTcg,
        Self::Vfkit,
        Self::Macosvm,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::QemuKvm => "qemu-kvm",
            Self::QemuHvf => "qemu-hvf",
            Self::QemuTcg => "qemu-tcg",
            Self::Vfkit => "vfkit",
            Self::Macosvm => "macosvm",
        }
    }

    /// As a sentence goes on about a machine.
    pub fn title(self) -> &'static str {
        match self {
            Self::QemuKvm => "KVM",
            Self::QemuHvf => "HVF",
            Self::QemuTcg => "emulated",
            Self::Vfkit | Self::Macosvm => self.as_str(),
        }
    }

    /// How QEMU runs it, if it is QEMU that does.
    pub fn accel(self) -> Option<Accel> {
        match self {
            Self::QemuKvm => Some(Accel::Kvm),
            Self::QemuHvf => Some(Accel::Hvf),
            Self::QemuTcg => Some(Accel::Tcg),
            Self::Vfkit | Self::Macosvm => None,
        }
    }

    pub fn caps(self) -> Caps {
        let qemu = Caps {
            pxe: true,
            bios: true,
            uefi: true,
            direct_kernel: true,
            qcow2: true,
            foreign_arch: false,
            forwards: true,
            console: true,
            boot_once: true,
            freeze: true,
            screenshot: true,
        };
        // The framework's firmware boots disks, and there is no other.
        let framework = Caps {
            pxe: false,
            bios: false,
            qcow2: false,
            forwards: false,
            console: false,
            boot_once: false,
            freeze: false,
            screenshot: false,
            ..qemu
        };
        match self {
            Self::QemuKvm => qemu,
            Self::QemuHvf => Caps { bios: true, ..qemu },
            Self::QemuTcg => Caps {
                foreign_arch: true,
                ..qemu
            },
            Self::Vfkit => framework,
            Self::Macosvm => Caps {
                uefi: false,
                ..framework
            },
        }
    }

    /// Every reason why this driver cannot run this machine, as a sentence goes on: vfkit …
    pub fn refuses(self, vm: &Vm, host: Option<Arch>) -> Vec<&'static str> {
        let caps = self.caps();
        let nets = || vm.nics.iter().filter(|nic| nic.boot_order.is_some());
        let links = |wanted: fn(&Link) -> bool| vm.nics.iter().any(|nic| wanted(&nic.link));
        let wants_forward =
            links(|link| matches!(link, Link::User { forwards, .. } if !forwards.is_empty()));
        let wants_odd_link =
            links(|link| matches!(link, Link::Bridge { .. } | Link::Stream { .. }));
        let is_qemu = self.accel().is_some();
        let reasons = [
            (
                !caps.pxe && nets().next().is_some(),
                "has no firmware that boots from the network",
            ),
            (
                !caps.bios && matches!(vm.boot, Boot::Bios { .. }),
                "has no BIOS",
            ),
            (
                !caps.uefi && matches!(vm.boot, Boot::Uefi { .. }),
                "has no UEFI: it starts a kernel",
            ),
            (
                !caps.qcow2 && vm.disks.iter().any(|disk| disk.format == DiskFormat::Qcow2),
                "takes raw disks alone: bootjack disk export --format raw",
            ),
            (
                !caps.foreign_arch && host != Some(vm.arch),
                "runs machines of this computer's processor alone",
            ),
            (
                !caps.forwards && wants_forward,
                "leads no port of loopback into a machine",
            ),
            (
                !is_qemu && wants_odd_link,
                "is plugged into the lab's switch or nothing",
            ),
            (
                !caps.freeze && vm.incoming.is_some(),
                "takes up no saved state",
            ),
            (!caps.screenshot && vm.display, "takes no pictures"),
        ];
        let reasons = reasons.into_iter();
        reasons
            .filter(|(holds, _)| *holds)
            .map(|(_, reason)| reason)
            .collect()
    }
}

/// Rows of a table: what each driver can do.
pub fn table() -> Vec<(&'static str, [bool; 5])> {
    let row = |get: fn(Caps) -> bool| Driver::ALL.map(|driver| get(driver.caps()));
    vec![
        ("network boot", row(|caps| caps.pxe)),
        ("BIOS", row(|caps| caps.bios)),
        ("UEFI", row(|caps| caps.uefi)),
        ("kernel directly", row(|caps| caps.direct_kernel)),
        ("qcow2 disks", row(|caps| caps.qcow2)),
        ("other processors", row(|caps| caps.foreign_arch)),
        ("forwarded ports", row(|caps| caps.forwards)),
        ("live console", row(|caps| caps.console)),
        ("boot once from", row(|caps| caps.boot_once)),
        ("freeze and restore", row(|caps| caps.freeze)),
        ("screenshot", row(|caps| caps.screenshot)),
    ]
}

#[cfg(test)]
mod tests;
