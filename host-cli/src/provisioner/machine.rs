//! The provisioner as a machine, a pure function of what the lab wants: disks by their serials, the card that leads out and the
//! one of the lan, and what the kernel is told.

use std::path::Path;

use super::image::Image;
use crate::drivers::spec::{Arch, Boot, Disk, DiskFormat, Files, Forward, Link, Nic, Vm};
use crate::lab::paths::{PROVISIONER, VmPaths};

/// The port of the guest that ssh is on.
pub const SSH_PORT: u16 = 22;
/// The port of the guest that gRPC is on, with mutual TLS.
pub const API_PORT: u16 = 8443;

/// The archive of a container image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container<'a> {
    pub archive: &'a Path,
    /// SHA-256 of it.
    pub sha256: &'a str,
    /// Its octets.
    pub size: u64,
}

/// What the lab wants of its provisioner.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    pub image: &'a Image,
    /// What starts an image that has no kernel beside it.
    pub firmware: Boot,
    pub paths: &'a VmPaths,
    pub uuid: &'a str,
    pub cpus: u32,
    pub memory_mib: u32,
    pub container: Container<'a>,
    pub wan_mac: &'a str,
    pub lan_mac: &'a str,
    /// What its card of the lan is plugged into.
    pub lan: Link,
    /// Profiles and files that targets are served.
    pub has_files: bool,
    /// Ports of loopback; 0: any.
    pub ssh_port: u16,
    pub api_port: u16,
    pub internet: bool,
    /// Its seed has user-data of the owner's.
    pub has_user_data: bool,
    /// It waits at its gate to be frozen, or let through.
    pub has_gate: bool,
}

/// The machine.
pub fn machine(wanted: &Wanted<'_>) -> Vm {
    let Wanted { image, paths, .. } = wanted;
    let disk = |serial: &str, path: &Path, format, read_only| Disk {
        id: serial.to_owned(),
        path: path.to_owned(),
        format,
        serial: Some(serial.to_owned()),
        read_only,
        boot_order: None,
    };
    let root = disk("root", &paths.disk(), DiskFormat::Qcow2, false);
    let (boot, boot_order) = match &image.kernel {
        Some(found) => {
            let boot = Boot::Kernel {
                kernel: found.kernel.clone(),
                initrd: Some(found.initrd.clone()),
                append: append(wanted),
            };
            (boot, None)
        }
        None => (wanted.firmware.clone(), Some(0)),
    };
    let mut disks = vec![
        Disk { boot_order, ..root },
        disk("data", &paths.data(), DiskFormat::Qcow2, false),
        disk("seed", &paths.seed(), DiskFormat::Raw, true),
        disk("container", wanted.container.archive, DiskFormat::Raw, true),
    ];
    if wanted.has_files {
        disks.push(disk("files", &paths.files(), DiskFormat::Raw, true));
    }
    let forward = |host_port, guest_port| Forward {
        host_port,
        guest_port,
    };
    let nic = |id: &str, mac: &str, link| Nic {
        id: id.to_owned(),
        mac: mac.to_owned(),
        link,
        boot_order: None,
    };
    let wan = Link::User {
        forwards: vec![
            forward(wanted.ssh_port, SSH_PORT),
            forward(wanted.api_port, API_PORT),
        ],
        restrict: !wanted.internet,
    };
    Vm {
        name: PROVISIONER.to_owned(),
        arch: image.arch,
        uuid: wanted.uuid.to_owned(),
        cpus: wanted.cpus,
        memory_mib: wanted.memory_mib,
        boot,
        disks,
        nics: vec![
            nic("wan", wanted.wan_mac, wan),
            nic("lan", wanted.lan_mac, wanted.lan.clone()),
        ],
        files: Files {
            console_log: paths.console_log(),
            console: paths.console.clone(),
            monitor: paths.monitor.clone(),
            pid: paths.pid.clone(),
            control: Some(paths.control.clone()),
        },
        display: false,
        no_reboot: false,
        incoming: None,
    }
}

/// The kernel's command line; what reads it is deploy/provisioner.
fn append(wanted: &Wanted<'_>) -> String {
    let console = match wanted.image.arch {
        Arch::X86_64 => "ttyS0",
        Arch::Aarch64 => "ttyAMA0",
    };
    let cloud_init = match wanted.has_user_data {
        true => "enabled",
        false => "disabled",
    };
    let words = vec![
        format!("console={console}"),
        // What confines containers here are their capabilities; a profile of AppArmor costs seconds of every start.
        "quiet apparmor=0 selinux=0".to_owned(),
        format!("cloud-init={cloud_init}"),
        container(&wanted.container),
    ];
    let gate = wanted.has_gate.then(|| "bootjack.gate".to_owned());
    let words: Vec<String> = words.into_iter().chain(gate).collect();
    words.join(" ")
}

/// What the machine is told of the disk with the container's archive.
pub fn container(container: &Container<'_>) -> String {
    format!("bootjack.container={}:{}", container.sha256, container.size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::qemu::{Accel, arguments};
    use crate::lab::paths::Bases;
    use crate::provisioner::image::Kernel;

    fn image(arch: Arch) -> Image {
        Image {
            arch,
            kernel: Some(Kernel {
                kernel: "/images/vmlinuz".into(),
                initrd: "/images/initrd.img".into(),
            }),
            root: "/images/root.qcow2".into(),
            format: DiskFormat::Qcow2,
            digest: "d".to_owned(),
        }
    }

    fn command_line(change: impl FnOnce(&mut Wanted<'_>), arch: Arch) -> String {
        command_line_of(image(arch), change)
    }

    fn command_line_of(image: Image, change: impl FnOnce(&mut Wanted<'_>)) -> String {
        let home = |name: &str| (name == "HOME").then(|| "/home/me".into());
        let lab = Bases::new(home, 1000, false).lab("demo");
        let paths = lab.vm(PROVISIONER);
        let lan = Link::Switch {
            own: "/run/v".into(),
            switch: "/run/s".into(),
        };
        let mut wanted = Wanted {
            image: &image,
            firmware: Boot::Bios { rom: None },
            paths: &paths,
            uuid: "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            cpus: 2,
            memory_mib: 1024,
            container: Container {
                archive: Path::new("/images/bootjackd.tar"),
                sha256: "abc",
                size: 7680,
            },
            wan_mac: "52:54:00:00:00:01",
            lan_mac: "52:54:00:00:00:02",
            lan,
            has_files: false,
            ssh_port: 0,
            api_port: 0,
            internet: true,
            has_user_data: false,
            has_gate: false,
        };
        change(&mut wanted);
        arguments(&machine(&wanted), Accel::Tcg).join(" ")
    }

    #[test]
    fn the_whole_machine() {
        let line = command_line(|_| {}, Arch::X86_64);
        for part in [
            "-kernel /images/vmlinuz -initrd /images/initrd.img -append console=ttyS0 quiet apparmor=0 selinux=0 cloud-init=disabled bootjack.container=abc:7680 ",
            "serial=root",
            "serial=data",
            "readonly=on,file=/home/me/.local/state/bootjack/labs/demo/provisioner/seed.iso",
            "readonly=on,file=/images/bootjackd.tar",
            "hostfwd=tcp:127.0.0.1:0-:22,hostfwd=tcp:127.0.0.1:0-:8443",
            "netdev=wan,mac=52:54:00:00:00:01,romfile=",
            "netdev=lan,mac=52:54:00:00:00:02,romfile=",
            "virtserialport,chardev=control,name=bootjack.control",
        ] {
            assert!(line.contains(part), "{part}\n{line}");
        }
        for part in ["serial=files", "bootjack.gate", "restrict=on", "bootindex"] {
            assert!(!line.contains(part), "{part}\n{line}");
        }
    }

    #[test]
    fn what_is_wanted_besides() {
        let line = command_line(
            |wanted| {
                wanted.has_files = true;
                wanted.internet = false;
                wanted.has_user_data = true;
                wanted.has_gate = true;
                wanted.ssh_port = 2222;
            },
            Arch::Aarch64,
        );
        for part in [
            "console=ttyAMA0 ",
            "cloud-init=enabled",
            "serial=files",
            ",restrict=on,",
            "127.0.0.1:2222-:22",
            " bootjack.gate ",
        ] {
            assert!(line.contains(part), "{part}\n{line}");
        }
    }

    #[test]
    fn a_cloud_image_boots_its_disk_by_itself() {
        let cloud = Image {
            kernel: None,
            ..image(Arch::X86_64)
        };
        let line = command_line_of(cloud, |wanted| wanted.has_gate = true);
        for part in ["serial=root,bootindex=0", "serial=seed", "netdev=lan"] {
            assert!(line.contains(part), "{part}\n{line}");
        }
        for part in ["-kernel", "-append", "bootjack.gate", "bootindex=1"] {
            assert!(!line.contains(part), "{part}\n{line}");
        }
    }
}
