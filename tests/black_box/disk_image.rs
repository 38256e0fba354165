//! The profile `disk-image` from power-on to a machine that runs from its disk, and what happens when it cannot.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use bootjack_api::v1::machine::State;
use bootjack_api::v1::{self, Reservation};

use crate::support::api::{Api, text};
use crate::support::netns::{Netns, server_and_client};
use crate::support::qemu::{Firmware, Machine, Moment};
use crate::support::service::{Home, Service};

const MAC: &str = "52:54:00:00:00:01";
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFirst someone@somewhere";
const DISK_MIB: u64 = 256;

/// A service with the shipped profile and its installer, an image, and a machine with empty disks.
struct Lab {
    service: Service,
    server: Netns,
    link: Netns,
    home: Home,
    config: String,
    disks: Vec<PathBuf>,
}

impl Lab {
    fn new(disks: usize) -> Self {
        let (server, link) = server_and_client("02:00:00:00:00:fe");
        server.without_offloads("lan0");
        let home = Home::new();
        let made = made();
        for file in ["vmlinuz", "initrd.img"] {
            let content = std::fs::read(made.installer.join(file)).expect("build.sh made it");
            home.write(&format!("http/disk-image/x86_64/{file}"), content);
        }
        home.write("http/images/disk.img.zst", image());
        let disks = (0..disks).map(|n| {
            let disk = home.write(&format!("disk-{n}.img"), "");
            let file = std::fs::File::create(&disk).expect("made");
            file.set_len(DISK_MIB << 20).expect("sparse");
            disk
        });
        let disks = disks.collect();
        let config = home.config("");
        Self {
            service: Service::start(&server, &home, &config),
            server,
            link,
            home,
            config,
            disks,
        }
    }

    /// Makes the machine's reservation, which arms it, for an image of this digest.
    fn reserve(&self, sha256: &str) {
        self.reserve_with(&[
            ("ssh_key", KEY),
            ("image", "images/disk.img.zst"),
            ("image_sha256", sha256),
        ]);
    }

    fn reserve_with(&self, vars: &[(&str, &str)]) {
        let reservation = Reservation {
            mac: MAC.to_owned(),
            address: "198.18.0.10".to_owned(),
            hostname: "node-1".to_owned(),
            profile: "disk-image".to_owned(),
            vars: (vars.iter())
                .map(|(name, value)| ((*name).to_owned(), text(value)))
                .collect(),
            ..Reservation::default()
        };
        Api::unix(&self.home).create(reservation).expect("created");
    }

    fn boot_with_stops(&self, moments: Vec<Moment>) -> Machine {
        let disks: Vec<&Path> = self.disks.iter().map(PathBuf::as_path).collect();
        Machine::boot_with_disks(
            Firmware::BiosIpxeRom,
            &self.link,
            MAC,
            &self.home,
            &disks,
            moments,
        )
    }

    fn boot(&self) -> Machine {
        self.boot_with_stops(Vec::new())
    }

    fn state(&self) -> State {
        let name = "machines/node-1".to_owned();
        let machine = Api::unix(&self.home)
            .machines(async |client| client.get_machine(v1::GetMachineRequest { name }).await);
        machine.expect("it is there").state()
    }

    /// Boots the installer, which is to fail; answers the reason that was told.
    fn fail(&self) -> String {
        self.boot().wait_until_off();
        let failed = (self.service).wait_for("lifecycle", |line| line["change"] == "failed");
        assert_eq!(self.state(), State::Failed);
        failed["reason"].as_str().expect("a reason").to_owned()
    }

    fn kill_and_restart(self) -> Self {
        self.service.kill();
        let service = Service::start(&self.server, &self.home, &self.config);
        Self { service, ..self }
    }
}

/// What the tests boot and install, made by the scripts that the Makefile runs.
struct Made {
    installer: PathBuf,
    image: PathBuf,
}

fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| Made {
        installer: make(
            "deploy/installer/build.sh",
            "target/installer/x86_64",
            &["x86_64"],
        ),
        image: make("deploy/guest/disk.sh", "target/guest/disk-x86_64", &[]).join("disk.img.zst"),
    })
}

/// Does nothing, and needs no network, where it is there and of this day's packages.
fn make(script: &str, directory: &str, more: &[&str]) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = root.join(directory);
    let made = Command::new(root.join(script))
        .arg(&directory)
        .args(more)
        .output()
        .expect("bash is there");
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{script}: {said}");
    directory
}

fn image() -> Vec<u8> {
    std::fs::read(&made().image).expect("disk.sh made it")
}

fn sha256(octets: &[u8]) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(octets);
    digest.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// This many octets into what comes over HTTP.
fn octets_over_http(wanted: u64) -> Moment {
    let mut seen = 0;
    Box::new(move |frame| {
        let is_http = frame[12..14] == [8, 0] && frame[23] == 6 && frame[34..36] == [0, 80];
        seen += if is_http { frame.len() as u64 - 54 } else { 0 };
        seen > wanted
    })
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).expect("it is there").len()
}

#[track_caller]
fn assert_on(console: &str, wanted: &str) {
    assert!(console.contains(wanted), "no `{wanted}`:\n{console}");
}

#[test]
fn disk_image_installs_from_power_on_past_a_kill_of_the_service_and_then_boots_its_disk() {
    let mut lab = Lab::new(1);
    lab.reserve(&sha256(&image()));
    assert_eq!(lab.state(), State::Armed);
    let installer = &made().installer;
    let before = length(&installer.join("vmlinuz")) + length(&installer.join("initrd.img"));
    let machine = lab.boot_with_stops(vec![octets_over_http(before + (6 << 20))]);
    machine.wait_until_held();
    assert_eq!(lab.state(), State::Installing);
    lab = lab.kill_and_restart();
    machine.go_on();
    let console = machine.wait_until_off();
    assert_on(&console, "bytes; going on");
    assert_on(&console, "bootjack-installer: done");
    assert_eq!(lab.state(), State::Installed);
    for (what, detail) in [
        ("progress", "writing disk.img.zst"),
        ("done", "disk.img.zst on vda in"),
    ] {
        lab.service.wait_for("called back", |line| {
            let told = line["detail"].as_str().unwrap_or_default();
            line["what"] == what && told.starts_with(detail)
        });
    }

    // The network is first in its boot order, as before.
    let console = lab.boot().wait_until_off();
    assert_on(&console, "bootjack: node-1 boots its local disk");
    assert_on(&console, "bootjack-disk: booted from its disk");
    let device = DISK_MIB - 34; // what is before it, and the table's copy behind it
    assert_on(&console, &format!("device MiB={device}"));
    let (_, rest) = console.split_once("root=/dev/vda2 MiB=").expect("its root");
    let (size, _) = rest.split_once(' ').expect("a number");
    let size: u64 = size.parse().expect("a number");
    assert!(size > device * 8 / 10, "its root has grown to {size} MiB");
    assert_on(&console, "bootjack-disk: meta-data: instance-id: i-");
    assert_on(&console, "bootjack-disk: user-data: #cloud-config");
    assert_on(&console, KEY);
    assert_on(&console, "bootjack-disk: network-config: version: 2");
    assert_eq!(lab.state(), State::Installed);
}

#[test]
fn disk_image_of_another_digest_fails_and_leaves_nothing_to_boot() {
    let lab = Lab::new(1);
    let wanted = "0".repeat(64);
    lab.reserve(&wanted);
    let reason = lab.fail();
    let found = sha256(&image());
    assert_eq!(
        reason,
        format!("image: its SHA-256 is {found}, wanted {wanted}")
    );
    let disk = std::fs::read(&lab.disks[0]).expect("it is there");
    let (first, last) = (&disk[..1 << 20], &disk[disk.len() - (1 << 20)..]);
    let mark = b"bootjack disk-image machine=node-1 writing\n";
    assert!(first[..2047 * 512].iter().all(|octet| *octet == 0));
    assert_eq!(&first[2047 * 512..][..mark.len()], mark);
    assert!(last.iter().all(|octet| *octet == 0));
    let machine = lab.boot();
    machine.wait_for("bootjack: node-1 boots its local disk");
    machine.wait_for("No bootable device");
}

#[test]
fn disk_image_fails_on_a_machine_without_a_disk() {
    let lab = Lab::new(0);
    lab.reserve(&sha256(&image()));
    assert_eq!(lab.fail(), "no disk in this machine that can be written");
}

#[test]
fn disk_image_unpacks_a_qcow2_on_the_disk_that_was_named_and_on_no_other() {
    let lab = Lab::new(2);
    let raw = lab.home.path().join("raw.img");
    run(Command::new("zstd")
        .args(["-dqo"])
        .arg(&raw)
        .arg(&made().image));
    let image = lab.home.path().join("http/images/disk.qcow2");
    let mut convert = Command::new("qemu-img");
    run(convert
        .args(["convert", "-c", "-O", "qcow2"])
        .arg(&raw)
        .arg(&image));
    let data = std::fs::File::options()
        .write(true)
        .open(&lab.disks[1])
        .expect("it is there");
    data.write_all_at(b"what it had before", 5 << 20)
        .expect("written");
    data.write_all_at(b"LABELONE", 512).expect("written");
    lab.reserve_with(&[
        ("image", "images/disk.qcow2"),
        (
            "image_sha256",
            &sha256(&std::fs::read(&image).expect("made")),
        ),
        ("disk", "serial=disk-1"),
        ("wipe", "yes"),
        ("grow", "false"),
        ("seed", "false"),
    ]);
    let console = lab.boot().wait_until_off();
    assert_on(
        &console,
        "bootjack-installer: disk is not empty, and wipe is set",
    );
    assert_eq!(lab.state(), State::Installed, "{console}");
    let mut wanted = std::fs::read(&raw).expect("unpacked");
    let mark = b"bootjack disk-image machine=node-1 installed\n";
    wanted[2047 * 512..][..mark.len()].copy_from_slice(mark);
    let written = std::fs::read(&lab.disks[1]).expect("it is there");
    let differs = wanted
        .iter()
        .zip(&written)
        .position(|(wanted, found)| wanted != found);
    assert_eq!(differs, None, "the octet that is another");
    let other = std::fs::read(&lab.disks[0]).expect("it is there");
    assert!(other.iter().all(|octet| *octet == 0));
}

fn run(command: &mut Command) {
    let done = command
        .output()
        .expect("it is installed: deploy/packages.sh test");
    assert!(done.status.success(), "{command:?}: {done:?}");
}

/// A machine's disks as the installer's `lib/disk.sh` sees them: a name, and what is at its beginning.
fn chosen(disks: &[(&str, &[u8])], settings: &str) -> Result<String, String> {
    const SECTORS: usize = 16384;
    let home = Home::new();
    for (name, content) in disks {
        let block = format!("sys/block/{name}");
        for (file, value) in [
            ("removable", if name.starts_with("sdr") { "1" } else { "0" }),
            ("ro", "0"),
            ("size", if *name == "sdb" { "12288" } else { "16384" }),
            ("serial", &format!("S-{name}")),
        ] {
            home.write(&format!("{block}/{file}"), format!("{value}\n"));
        }
        let mut octets = content.to_vec();
        octets.resize(SECTORS * 512, 0);
        home.write(&format!("dev/{name}"), octets);
    }
    home.write("sys/block/loop0/size", "16384\n");
    let library = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/deploy/installer/root/lib/disk.sh"
    );
    let script = format!(
        r#"say() {{ :; }}
fail() {{ echo "$*"; exit 1; }}
sleep() {{ :; }}
machine=node-1 disk="" wipe=false {settings}
. {library}
choose_disk
check_disk
echo "${{target##*/}}""#
    );
    let ran = Command::new("busybox")
        .args(["sh", "-c", &script])
        .env("SYS", home.path().join("sys"))
        .env("DEV", home.path().join("dev"))
        .output()
        .expect("busybox-static is installed");
    let said = String::from_utf8_lossy(&ran.stdout).trim_end().to_owned();
    if ran.status.success() {
        Ok(said)
    } else {
        Err(said)
    }
}

#[test]
fn the_installer_takes_the_only_disk_or_the_one_that_is_named() {
    let two: [(&str, &[u8]); 3] = [("sda", b""), ("sdb", b""), ("sdr", b"")];
    assert_eq!(chosen(&[("sda", b""), ("sdr", b"")], ""), Ok("sda".into()));
    assert_eq!(chosen(&two, "disk=/dev/sdb"), Ok("sdb".into()));
    assert_eq!(chosen(&two, "disk=sda"), Ok("sda".into()));
    assert_eq!(chosen(&two, "disk=serial=S-sdb"), Ok("sdb".into()));
    assert_eq!(chosen(&two, "disk=smallest"), Ok("sdb".into()));
    let there = "sda 8 MB serial=S-sda, sdb 6 MB serial=S-sdb";
    assert_eq!(
        chosen(&two, "disk=sdc"),
        Err(format!("no disk is sdc; there are: {there}"))
    );
    assert_eq!(
        chosen(&two, "disk=sdr"),
        Err(format!("no disk is sdr; there are: {there}")),
        "it can be taken out"
    );
    assert_eq!(
        chosen(&two, ""),
        Err(format!(
            "more than one disk, and the variable disk does not say which (a name, serial=…, wwn=… or smallest): {there}"
        ))
    );
    assert_eq!(
        chosen(&[("sdr", b"")], ""),
        Err("no disk in this machine that can be written".into())
    );
}

#[test]
fn the_installer_keeps_what_is_on_a_disk_unless_it_is_told_or_was_there_before() {
    let marked = |machine: &str, state: &str| {
        let mut octets = vec![0; 2047 * 512];
        octets.extend(format!("bootjack disk-image machine={machine} {state}\n").bytes());
        octets
    };
    let mut far = vec![0; 16384 * 512 - 100];
    far.extend(b"a RAID's superblock is at the end");
    let refused = Err(
        "disk sda is not empty (no file system that is known), and no earlier installation of node-1; set the variable wipe = true to have it overwritten".to_owned(),
    );
    assert_eq!(chosen(&[("sda", b"data")], ""), refused);
    assert_eq!(chosen(&[("sda", &far)], ""), refused);
    assert_eq!(chosen(&[("sda", b"data")], "wipe=true"), Ok("sda".into()));
    for (machine, state, wanted) in [
        ("node-1", "installed", Ok("sda".to_owned())),
        ("node-1", "writing", Ok("sda".to_owned())),
        ("node-2", "installed", refused.clone()),
        ("node-11", "installed", refused),
    ] {
        let found = chosen(&[("sda", &marked(machine, state))], "");
        assert_eq!(found, wanted, "{machine} {state}");
    }
}
