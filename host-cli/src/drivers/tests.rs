//! Every driver's command line, as files: what is started is what a reader of them expects.

use std::path::{Path, PathBuf};

use super::spec::{Boot, Disk, DiskFormat, Files, Forward, Link, Nic, Vm};
use super::*;

fn files(name: &str) -> Files {
    Files {
        console_log: format!("/s/vm/{name}/console.log").into(),
        console: "/r/1a2b3c4d.con".into(),
        monitor: "/r/1a2b3c4d.qmp".into(),
        pid: "/r/1a2b3c4d.pid".into(),
        control: None,
    }
}

fn lan(boot_order: Option<u8>) -> Nic {
    Nic {
        id: "lan".to_owned(),
        mac: "52:54:00:00:00:01".to_owned(),
        link: Link::Switch {
            own: "/r/v-1a2b3c4d".into(),
            switch: "/r/s-1a2b3c4d".into(),
        },
        boot_order,
    }
}

fn disk(format: DiskFormat) -> Disk {
    Disk {
        id: "disk".to_owned(),
        path: format!("/s/vm/node-1/disk.{}", format.as_str()).into(),
        format,
        serial: None,
        read_only: false,
        boot_order: Some(2),
    }
}

/// One that boots its disk, and the network while that is blank.
fn target(arch: Arch, boot: Boot) -> Vm {
    Vm {
        name: "node-1".to_owned(),
        arch,
        uuid: "00000000-0000-8000-8000-000000000001".to_owned(),
        cpus: 2,
        memory_mib: 2048,
        boot,
        disks: vec![disk(DiskFormat::Qcow2)],
        nics: vec![lan(Some(3))],
        files: files("node-1"),
        display: false,
        no_reboot: false,
        incoming: None,
    }
}

fn bios() -> Boot {
    Boot::Bios {
        rom: Some("/usr/lib/ipxe/qemu/pxe-virtio.rom".into()),
    }
}

fn uefi() -> Boot {
    Boot::Uefi {
        code: "/fw/CODE.fd".into(),
        vars: "/s/vm/node-1/vars.fd".into(),
    }
}

/// One that is started by its kernel, with a card to the outside, two disks and a seed.
fn provisioner(arch: Arch) -> Vm {
    let serial = |serial: &str| Some(serial.to_owned());
    let raw = |id: &str, read_only| Disk {
        id: id.to_owned(),
        path: format!("/s/provisioner/{id}.raw").into(),
        format: DiskFormat::Raw,
        serial: serial(id),
        read_only,
        boot_order: None,
    };
    let wan = Nic {
        id: "wan".to_owned(),
        mac: "52:54:00:00:00:02".to_owned(),
        link: Link::User {
            forwards: vec![
                Forward {
                    host_port: 0,
                    guest_port: 22,
                },
                Forward {
                    host_port: 8443,
                    guest_port: 8443,
                },
            ],
            restrict: false,
        },
        boot_order: None,
    };
    Vm {
        name: "provisioner".to_owned(),
        boot: Boot::Kernel {
            kernel: "/i/vmlinuz".into(),
            initrd: Some(PathBuf::from("/i/initrd.img")),
            append: "root=/dev/vda console=ttyAMA0 quiet".to_owned(),
        },
        disks: vec![raw("root", false), raw("data", false), raw("seed", true)],
        nics: vec![wan, lan(None)],
        files: files("provisioner"),
        ..target(arch, bios())
    }
}

fn golden(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/drivers")
        .join(name);
    if std::env::var_os("BOOTJACK_BLESS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, format!("{text}\n")).unwrap();
    }
    let wanted = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(
        text,
        wanted.trim_end(),
        "{name}: bless with BOOTJACK_BLESS=1"
    );
}

#[test]
fn qemu_is_started_as_the_files_say() {
    for arch in [Arch::X86_64, Arch::Aarch64] {
        let boots = match arch {
            Arch::X86_64 => vec![("bios", bios()), ("uefi", uefi())],
            Arch::Aarch64 => vec![("uefi", uefi())],
        };
        for driver in [Driver::QemuKvm, Driver::QemuHvf, Driver::QemuTcg] {
            let accel = driver.accel().unwrap();
            let vms = boots
                .iter()
                .map(|(name, boot)| (*name, target(arch, boot.clone())));
            for (name, vm) in vms.chain([("kernel", provisioner(arch))]) {
                let text =
                    crate::words::shown(Path::new(arch.qemu()), &qemu::arguments(&vm, accel));
                let file = format!("{}-{}-{name}.sh", driver.as_str(), arch.as_str());
                golden(&file, &text);
            }
        }
    }
}

#[test]
fn vfkit_is_started_as_the_files_say() {
    let mut cloud = target(Arch::Aarch64, uefi());
    cloud.disks = vec![disk(DiskFormat::Raw)];
    cloud.nics = vec![lan(None)];
    let mut direct = provisioner(Arch::Aarch64);
    direct.nics.remove(0);
    for (name, vm) in [("uefi", cloud), ("kernel", direct)] {
        assert_eq!(
            Driver::Vfkit.refuses(&vm, Some(Arch::Aarch64)),
            Vec::<&str>::new()
        );
        let text = crate::words::shown(Path::new("vfkit"), &vfkit::arguments(&vm));
        golden(&format!("vfkit-aarch64-{name}.sh"), &text);
    }
}

#[test]
fn macosvm_is_configured_as_the_file_says() {
    let mut vm = provisioner(Arch::Aarch64);
    vm.nics.remove(0);
    assert_eq!(
        Driver::Macosvm.refuses(&vm, Some(Arch::Aarch64)),
        Vec::<&str>::new()
    );
    golden(
        "macosvm-aarch64-kernel.json",
        &format!("{:#}", macosvm::config(&vm)),
    );
}

#[test]
fn what_a_driver_cannot_do_is_said() {
    let vm = target(Arch::X86_64, bios());
    let host = Some(Arch::Aarch64);
    assert_eq!(
        Driver::Vfkit.refuses(&vm, host),
        [
            "has no firmware that boots from the network",
            "has no BIOS",
            "takes raw disks alone: bootjack disk export --format raw",
            "runs machines of this computer's processor alone",
        ]
    );
    assert_eq!(Driver::QemuTcg.refuses(&vm, host), Vec::<&str>::new());
    assert_eq!(Driver::QemuHvf.refuses(&vm, host).len(), 1);
    let uefi = target(Arch::Aarch64, uefi());
    assert!(
        Driver::Macosvm
            .refuses(&uefi, host)
            .contains(&"has no UEFI: it starts a kernel")
    );
}

#[test]
fn every_machine_of_qemu_has_a_source_of_randomness() {
    for vm in [
        target(Arch::X86_64, bios()),
        target(Arch::Aarch64, uefi()),
        provisioner(Arch::X86_64),
    ] {
        assert!(qemu::arguments(&vm, Accel::Tcg).contains(&"virtio-rng-pci".to_owned()));
    }
}

#[test]
fn odd_links_and_names_are_written_as_qemu_reads_them() {
    let mut vm = target(Arch::X86_64, bios());
    vm.files.console_log = "/a,b/console.log".into();
    vm.nics[0].link = Link::Bridge {
        name: "br0".to_owned(),
    };
    vm.display = true;
    vm.no_reboot = true;
    vm.incoming = Some("zstd -dc < '/s/f,g'".to_owned());
    let text = qemu::arguments(&vm, Accel::Tcg).join(" ");
    for part in [
        "logfile=/a,,b/console.log",
        "-netdev bridge,id=lan,br=br0",
        "-machine q35 ",
        "-device VGA",
        "-no-reboot -S -incoming exec:zstd -dc < '/s/f,g'",
    ] {
        assert!(text.contains(part), "no `{part}` in {text}");
    }
    vm.nics[0].link = Link::Stream {
        socket: "/var/run/socket_vmnet".into(),
    };
    let text = qemu::arguments(&vm, Accel::Hvf).join(" ");
    assert!(text.contains(
        "-netdev stream,id=lan,server=off,addr.type=unix,addr.path=/var/run/socket_vmnet"
    ));
}
