//! Whole labs on real firmware: a provisioner VM with the container and machines that boot from it, and an installation in a lab
//! without one.
//!
//! Wants what `make test` makes: target/provisioner/ARCH, target/test/container, target/guest, target/installer, target/ipxe,
//! bootjackd beside bootjack, QEMU, ssh, zstd and strip; and root, or a user namespace, for the lab without a provisioner VM.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sha2::Digest as _;

/// A lab in directories of its own; it is ended with this value.
struct Lab {
    home: tempfile::TempDir,
}

/// What `make test-needs` left.
fn built(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let path = root.join("target").join(name);
    let shown = path.display();
    assert!(path.exists(), "{shown} is missing; run: make test-needs");
    path
}

impl Lab {
    /// `text` is the lab's file, in which a word between at signs stands for a path.
    fn new(text: &str, paths: &[(&str, &Path)]) -> Self {
        // In a short place: its sockets are below it.
        let home = tempfile::Builder::new().prefix("bj-").tempdir_in("/tmp");
        let home = home.unwrap();
        let mut text = text.to_owned();
        for (name, path) in paths {
            text = text.replace(&format!("@{name}@"), path.to_str().unwrap());
        }
        text = text.replace("@home@", home.path().to_str().unwrap());
        std::fs::write(home.path().join("lab.toml"), text).unwrap();
        std::fs::create_dir(home.path().join("r")).unwrap();
        Self { home }
    }

    fn path(&self, rest: &str) -> PathBuf {
        self.home.path().join(rest)
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bootjack"));
        command
            .args(words)
            .current_dir(self.home.path())
            .env("HOME", self.home.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_DATA_HOME", self.path("data"))
            .env("XDG_RUNTIME_DIR", self.path("r"))
            .env_remove("BOOTJACK_LAB")
            .stdin(Stdio::null());
        command.output().unwrap()
    }

    /// Standard output and error of one that worked.
    fn works(&self, words: &[&str]) -> (String, String) {
        let output = self.run(words);
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        let code = output.status.code();
        assert_eq!(code, Some(0), "{words:?}: {stdout}{stderr}{}", self.logs());
        (stdout, stderr)
    }

    fn console(&self, lab: &str, name: &str) -> String {
        let log = self.path(&format!("state/bootjack/labs/{lab}/vm/{name}/console.log"));
        String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned()
    }

    /// The last of every log, for a test that failed.
    fn logs(&self) -> String {
        let find = Command::new("find")
            .arg(self.path("state"))
            .args(["-name", "*.log", "-size", "+0"])
            .output()
            .unwrap();
        let files = String::from_utf8_lossy(&find.stdout).into_owned();
        let last = files.lines().map(|file| {
            let text = std::fs::read(file).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            format!(
                "\n== {file}\n{}",
                lines[lines.len().saturating_sub(12)..].join("\n")
            )
        });
        last.collect()
    }

    fn wait_until_off(&self, name: &str) {
        let (stdout, _) = self.works(&["vm", "show", name, "-o", "json"]);
        let shown: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        let Some(pid) = shown["pid"].as_i64() else {
            return;
        };
        let waited = Command::new("timeout")
            .args(["600", "tail", "--pid", &pid.to_string(), "-f", "/dev/null"])
            .status();
        assert!(waited.unwrap().success(), "{}", self.logs());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.run(&["down", "--kill"]);
    }
}

/// The container's archive: of the program that the Dockerfile made, without what is for debuggers.
fn archive(home: &Path) -> PathBuf {
    let (program, archive) = (home.join("bootjackd"), home.join("bootjackd.tar"));
    let strip = Command::new("strip")
        .arg("-o")
        .args([&program, &built("test/container/bootjackd")])
        .status();
    assert!(strip.unwrap().success());
    let packed = Command::new(env!("CARGO_BIN_EXE_bootjack"))
        .args(["image", "container", "--program"])
        .arg(&program)
        .arg("--boot-programs")
        .arg(built("ipxe"))
        .arg("--to")
        .arg(&archive)
        .output()
        .unwrap();
    assert!(packed.status.success(), "{packed:?}");
    archive
}

const TOPOLOGY: &str = r#"version = 1
[lab]
name = "topology"
[provisioner]
kind = "vm"
image = "@image@"
container = "@archive@"
artifacts = ["@debian@", "@tiny@"]
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
    let container = tempfile::tempdir().unwrap();
    let archive = archive(container.path());
    let (debian, tiny) = (built("guest/debian-x86_64"), built("guest/tiny-x86_64"));
    let lab = Lab::new(
        TOPOLOGY,
        &[
            ("image", &built("provisioner/x86_64")),
            ("archive", &archive),
            ("debian", &debian),
            ("tiny", &tiny),
        ],
    );
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
    let (stdout, _) = lab.works(&["vm", "list", "-o", "json"]);
    let list: serde_json::Value = serde_json::from_str(&stdout).unwrap();
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
programs = "@ipxe@"
profiles = "@profiles@"
artifacts = ["@tiny@"]
[[vm]]
name = "node"
memory = "512MiB"
profile = "tiny"
"#;

#[test]
fn a_machine_of_another_processor_boots_its_own_program_and_kernel() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let lab = Lab::new(
        AARCH64,
        &[
            ("ipxe", &built("ipxe/ipxe-arm64.efi").with_file_name("")),
            ("profiles", &root.join("deploy/lab/profiles")),
            ("tiny", &built("guest/tiny-aarch64")),
        ],
    );
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
programs = "@ipxe@"
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
    let lab = Lab::new(CLOUD, &[("ipxe", &built("ipxe"))]);
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
    let (stdout, _) = lab.works(&["vm", "list", "-o", "json"]);
    let list: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(list["vms"][0]["address"], "198.18.0.10");
    let (stdout, _) = lab.works(&["image", "verify", "-o", "json"]);
    assert!(stdout.contains("debian-cloud"), "{stdout}");
}

const INSTALL: &str = r#"version = 1
[lab]
name = "install"
[provisioner]
kind = "namespace"
programs = "@ipxe@"
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
    let lab = Lab::new(
        INSTALL,
        &[("ipxe", &built("ipxe")), ("sha256", Path::new(&digest))],
    );
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
    lab.wait_until_off("node");
    assert_eq!((count(installed), count(booted)), (1, 1), "{}", lab.logs());
    lab.works(&["vm", "start", "node", "--driver", "qemu-tcg"]);
    lab.wait_until_off("node");
    assert_eq!((count(installed), count(booted)), (1, 2), "{}", lab.logs());

    // Off, and then again while it runs.
    lab.works(&["vm", "reinstall", "node", "--driver", "qemu-tcg"]);
    lab.works(&["up", installing, "--driver", "qemu-tcg"]);
    let reinstall = ["vm", "reinstall", "node", "--driver", "qemu-tcg"];
    let (_, told) = lab.works(&[&reinstall[..], &["--wait=installed"]].concat());
    assert!(told.contains("node         is installed"), "{told}");
    assert!(told.contains("reset, and boots from the network"), "{told}");
    lab.wait_until_off("node");
    assert_eq!((count(installed), count(booted)), (2, 3), "{}", lab.logs());
    let (stdout, _) = lab.works(&["status", "-o", "json"]);
    let status: serde_json::Value = serde_json::from_str(&stdout).unwrap();
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
