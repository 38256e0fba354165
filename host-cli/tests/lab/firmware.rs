//! Whole labs on real firmware: a provisioner VM with the container and machines that boot from it, and an installation in a lab
//! without one.

use std::process::Command;

use sha2::Digest as _;

use crate::support::{Lab, built, pack};

fn wait_until_off(lab: &Lab, name: &str) {
    let Some(pid) = lab.state_of(name).1 else {
        return;
    };
    let waited = Command::new("timeout")
        .args(["600", "tail", "--pid", &pid.to_string(), "-f", "/dev/null"])
        .status();
    assert!(waited.unwrap().success(), "{}", lab.logs());
}

const TOPOLOGY: &str = r#"version = 1
[lab]
name = "topology"
[provisioner]
kind = "vm"
image = "@target@/provisioner/x86_64"
container = "@home@/bootjackd.tar"
artifacts = ["@target@/guest/debian-x86_64", "@target@/guest/tiny-x86_64"]
freeze = false
[[vm]]
name = "bios"
firmware = "bios"
memory = "512MiB"
profile = "tiny"
[[vm]]
name = "uefi"
firmware = "uefi"
profile = "debian-12"
"#;

#[test]
fn machines_of_both_firmwares_boot_from_the_container_in_the_provisioner_and_are_logged_in_to() {
    let lab = Lab::real(TOPOLOGY);
    pack(&lab.path("bootjackd.tar"));
    let (_, told) = lab.works(&["up", "uefi", "--wait=cloud-init", "--driver", "qemu-tcg"]);
    for step in [
        "switch       started",
        "bootjackd serves 198.18.0.0/24 in a container",
        "reserved 198.18.0.11 for uefi",
        "· script           boots its profile",
        "has run cloud-init to its end",
    ] {
        assert!(told.contains(step), "no `{step}` in:\n{told}");
    }
    lab.works(&[
        "up",
        "--wait=console:bootjack-guest: done",
        "--driver",
        "qemu-tcg",
    ]);
    // Its way is the provisioner, its host key the lab's, and it sees the provisioner alone of what is outside.
    let (stdout, _) = lab.works(&[
        "exec",
        "uefi",
        "--",
        "sh",
        "-c",
        "hostname; ip -4 -o addr show scope global",
    ]);
    assert!(stdout.starts_with("uefi\n"), "{stdout}");
    assert!(stdout.contains("198.18.0.11/24"), "{stdout}");
    assert_alone_with_the_provisioner(&lab);
    std::fs::write(lab.path("sent.txt"), "over there\n").unwrap();
    lab.works(&["cp", "sent.txt", "uefi:/root/sent.txt"]);
    let (stdout, _) = lab.works(&["exec", "uefi", "--", "cat", "/root/sent.txt"]);
    assert_eq!(stdout, "over there\n");
    assert_eq!(
        lab.run(&["exec", "uefi", "--", "sh", "-c", "exit 7"])
            .status
            .code(),
        Some(7)
    );
    let list = lab.json(&["vm", "list"]);
    assert_eq!(list["vms"][1]["address"], "198.18.0.11");
    // Nothing to do is nothing done.
    let (_, told) = lab.works(&["up", "uefi", "--driver", "qemu-tcg"]);
    assert!(told.contains("uefi         runs already"), "{told}");
    assert!(!told.contains("reserved"), "{told}");
    lab.works(&["down"]);
    let (stdout, _) = lab.works(&["vm", "list", "-o", "json"]);
    assert!(!stdout.contains("running"), "{stdout}");
}

/// What a machine reaches of the computer it runs on, tried from within: the services of its LAN and nothing else.
fn assert_alone_with_the_provisioner(lab: &Lab) {
    let (stdout, _) = lab.works(&["exec", "uefi", "--", "ip", "-4", "route", "show", "default"]);
    assert!(stdout.contains("via 198.18.0.1 "), "{stdout}");
    let connects = |to: &str| {
        let script = format!("timeout 10 bash -c 'exec 3<>/dev/tcp/{to}'");
        (lab.run(&["exec", "uefi", "--", "sh", "-c", &script]).status).success()
    };
    assert!(connects("198.18.0.1/80"), "the provisioner serves it");
    let ssh_of_provisioner = {
        let (stdout, _) = lab.works(&["ssh-config"]);
        let mut words = stdout.split_whitespace().skip_while(|word| *word != "Port");
        words.nth(1).expect(&stdout).to_owned()
    };
    for (to, what) in [
        ("198.18.0.1/22", "the provisioner's ssh"),
        ("198.18.0.1/8443", "its API"),
        ("10.0.2.15/22", "its ssh from its other side"),
        ("10.0.2.15/8443", "its API from its other side"),
        (
            &format!("10.0.2.2/{ssh_of_provisioner}"),
            "the forwarded port of the computer it runs on",
        ),
    ] {
        assert!(!connects(to), "{what} answers a target at {to}");
    }
}

const AARCH64: &str = r#"version = 1
[lab]
name = "arm"
arch = "aarch64"
[provisioner]
kind = "namespace"
programs = "@target@/ipxe"
profiles = "@deploy@/lab/profiles"
artifacts = ["@target@/guest/tiny-aarch64"]
[[vm]]
name = "node"
memory = "512MiB"
profile = "tiny"
"#;

#[test]
fn a_machine_of_another_processor_boots_its_own_program_and_kernel() {
    let lab = Lab::real(AARCH64);
    let until = "--wait=console:bootjack-guest: done";
    let (_, told) = lab.works(&["up", until, "--driver", "qemu-tcg"]);
    for step in [
        "(aarch64 UEFI, emulated",
        "· program          ipxe-arm64.efi",
        "· kernel           tiny-aarch64/vmlinuz",
    ] {
        assert!(told.contains(step), "no `{step}` in:\n{told}");
    }
    let console = lab.console("arm", "node");
    assert!(console.contains("arch=aarch64"), "{}", lab.logs());
}

const CLOUD: &str = r#"version = 1
[lab]
name = "cloud"
[provisioner]
kind = "namespace"
programs = "@target@/ipxe"
[[vm]]
name = "edge"
firmware = "bios"
image = "debian-cloud"
user_data = "user-data.yaml"
disk = "3GiB"
memory = "512MiB"
"#;

const USER_DATA: &str =
    "#cloud-config\nwrite_files:\n- path: /etc/motd\n  content: |\n    the owner's own\n";

#[test]
fn a_machine_starts_from_an_image_of_the_store_and_is_who_the_lab_says() {
    let lab = Lab::real(CLOUD);
    std::fs::write(lab.path("user-data.yaml"), USER_DATA).unwrap();
    let image = built("guest/cloud-x86_64/disk.qcow2");
    let import = ["image", "import", image.to_str().unwrap(), "--name"];
    lab.works(&[&import[..], &["debian-cloud", "--arch", "x86_64"]].concat());
    lab.works(&["up", "--wait=ssh", "--driver", "qemu-tcg"]);
    // Its name and who may log in are the seed's, its address is bootjackd's, its disk is as large as was asked for.
    let script =
        "hostname; cat /etc/motd /sys/class/block/vda/size; ip -4 -o addr show scope global";
    let (stdout, _) = lab.works(&["exec", "edge", "--", "sh", "-c", script]);
    let sectors = (3_u64 << 30) / 512;
    let begin = format!("edge\nthe owner's own\n{sectors}\n");
    assert!(stdout.starts_with(&begin), "{stdout}");
    assert!(stdout.contains("inet 198.18.0.10/24"), "{stdout}");
    let console = lab.console("cloud", "edge");
    assert!(!console.contains("Invalid cloud-config"), "{console}");
    let list = lab.json(&["vm", "list"]);
    assert_eq!(list["vms"][0]["address"], "198.18.0.10");
    let (stdout, _) = lab.works(&["image", "verify", "-o", "json"]);
    assert!(stdout.contains("debian-cloud"), "{stdout}");
}

const INSTALL: &str = r#"version = 1
[lab]
name = "install"
[provisioner]
kind = "namespace"
programs = "@target@/ipxe"
artifacts = ["@home@/disk-image", "@home@/images"]
[[vm]]
name = "node"
firmware = "bios"
memory = "512MiB"
disk = "256MiB"
display = true
profile = "disk-image"
vars = { image = "images/disk.img.zst", image_sha256 = "@sha256@" }
"#;

#[test]
fn a_machine_is_installed_boots_its_disk_at_every_power_on_and_is_installed_again_though_it_runs() {
    let image = built("guest/disk-x86_64/disk.img.zst");
    let digest = sha2::Sha256::digest(std::fs::read(&image).unwrap());
    let digest: String = digest.iter().map(|octet| format!("{octet:02x}")).collect();
    let lab = Lab::real(&INSTALL.replace("@sha256@", &digest));
    // Files go by the names of their directories.
    for (dir, file, from) in [
        (
            "disk-image/x86_64",
            "vmlinuz",
            built("installer/x86_64/vmlinuz"),
        ),
        (
            "disk-image/x86_64",
            "initrd.img",
            built("installer/x86_64/initrd.img"),
        ),
        ("images", "disk.img.zst", image),
    ] {
        std::fs::create_dir_all(lab.path(dir)).unwrap();
        std::fs::copy(from, lab.path(dir).join(file)).unwrap();
    }
    let booted = "bootjack-disk: booted from its disk";
    let installed = "bootjack-installer: done";
    let count = |what: &str| lab.console("install", "node").matches(what).count();

    // A blank disk falls through to the network, also after a reset in the middle of an installation; an installed one does not.
    let installing = "--wait=console:bootjack-installer: ";
    lab.works(&["up", installing, "--driver", "qemu-tcg"]);
    assert_shows_something(&lab);
    lab.works(&["vm", "reset", "node"]);
    lab.works(&["up", "--wait=installed", "--driver", "qemu-tcg"]);
    wait_until_off(&lab, "node");
    assert_eq!((count(installed), count(booted)), (1, 1), "{}", lab.logs());
    lab.works(&["vm", "start", "node", "--driver", "qemu-tcg"]);
    wait_until_off(&lab, "node");
    assert_eq!((count(installed), count(booted)), (1, 2), "{}", lab.logs());

    // Off, and then again while it runs.
    lab.works(&["vm", "reinstall", "node", "--driver", "qemu-tcg"]);
    lab.works(&["up", installing, "--driver", "qemu-tcg"]);
    let reinstall = ["vm", "reinstall", "node", "--driver", "qemu-tcg"];
    let (_, told) = lab.works(&[&reinstall[..], &["--wait=installed"]].concat());
    assert!(told.contains("node         is installed"), "{told}");
    assert!(told.contains("reset, and boots from the network"), "{told}");
    wait_until_off(&lab, "node");
    assert_eq!((count(installed), count(booted)), (2, 3), "{}", lab.logs());
    let status = lab.json(&["status"]);
    assert_eq!(status["vms"][0]["progress"], "installed");
}

/// A picture of the machine's screen, which has more than one colour.
fn assert_shows_something(lab: &Lab) {
    lab.works(&["vm", "screenshot", "node", "screen.png"]);
    let file = std::io::BufReader::new(std::fs::File::open(lab.path("screen.png")).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut pixels).unwrap();
    let is_screen = frame.width >= 640 && frame.height >= 400;
    assert!(is_screen, "{} x {}", frame.width, frame.height);
    let size = frame.color_type.samples();
    let mut colours = pixels.chunks(size);
    let first = colours.next().unwrap();
    assert!(colours.any(|colour| colour != first), "all is {first:?}");
}
