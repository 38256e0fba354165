//! Real firmware boots from the service, and the system it boots says what it was given.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use bootjack_api::v1::Reservation;
use serde_json::Value;

use crate::support::api::{Api, get_from, text};
use crate::support::dhcp::{ACK, OFFER};
use crate::support::netns::{Netns, server_and_client};
use crate::support::qemu::{Firmware, Machine, Moment};
use crate::support::service::{Home, Service};
use crate::support::wire::Udp;

const MAC: &str = "52:54:00:00:00:01";
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFirst someone@somewhere";

/// A service with two profiles that boot the guest of `deploy/guest/tiny.sh`, and a link for one machine.
pub(super) struct Lab {
    pub(super) service: Service,
    server: Netns,
    link: Netns,
    pub(super) home: Home,
    config: String,
}

impl Lab {
    fn new() -> Self {
        let (server, link) = server_and_client("02:00:00:00:00:fe");
        server.without_offloads("lan0");
        Self::on(server, link, |config| config)
    }

    pub(super) fn on(server: Netns, link: Netns, change: impl FnOnce(String) -> String) -> Self {
        let home = Home::new();
        let guest = guest();
        for file in ["vmlinuz", "initrd.img"] {
            let content = std::fs::read(guest.join(file)).expect("tiny.sh made it");
            home.write(&format!("http/tiny/{file}"), content);
        }
        for (profile, argument) in [("tiny", "first=1"), ("tiny-too", "second=1")] {
            let toml = format!(
                r#"[x86_64]
kernel = "tiny/vmlinuz"
initrd = ["tiny/initrd.img"]
args = ["console=ttyS0,115200n8", "{argument}", "ds=nocloud;s={{{{ seed_url }}}}"]
"#
            );
            home.write(&format!("profiles/{profile}/profile.toml"), toml);
        }
        let config = change(home.config(""));
        Self {
            service: Service::start(&server, &home, &config),
            server,
            link,
            home,
            config,
        }
    }

    /// Makes the machine's reservation over gRPC.
    pub(super) fn reserve(&self, address: &str) -> Reservation {
        let reservation = Reservation {
            mac: MAC.to_owned(),
            address: address.to_owned(),
            hostname: "node-1".to_owned(),
            profile: "tiny".to_owned(),
            vars: [("ssh_key".to_owned(), text(KEY))].into(),
            ..Reservation::default()
        };
        let made = Api::unix(&self.home).create(reservation);
        made.expect("created")
    }

    pub(super) fn boot(&self, firmware: Firmware) -> Machine {
        Machine::boot(firmware, &self.link, MAC, &self.home)
    }

    /// SIGKILL at whatever it is doing, and a new start.
    fn kill_and_restart(self) -> (Self, Vec<Value>) {
        let log = self.service.log();
        self.service.kill();
        let service = Service::start(&self.server, &self.home, &self.config);
        (Self { service, ..self }, log)
    }
}

/// Kernel and initramfs of the tiny guest: as the environment says, or as `deploy/guest/tiny.sh` makes them.
pub fn guest() -> &'static Path {
    static GUEST: OnceLock<PathBuf> = OnceLock::new();
    GUEST.get_or_init(|| match std::env::var_os("BOOTJACK_GUEST_DIR") {
        Some(directory) => directory.into(),
        None => make_guest(),
    })
}

/// Does nothing, and needs no network, where they are there and of this day's packages.
fn make_guest() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = root.join("target/guest/tiny-x86_64");
    let made = Command::new(root.join("deploy/guest/tiny.sh"))
        .arg(&directory)
        .arg("x86_64")
        .output()
        .expect("bash is there");
    assert!(
        made.status.success(),
        "deploy/guest/tiny.sh: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    directory
}

/// The log as a list of steps of a machine's boot, each in a few words.
fn steps(log: &[Value]) -> Vec<String> {
    let text = |line: &Value, name: &str| line[name].as_str().unwrap_or("nothing").to_owned();
    log.iter()
        .filter_map(|line| {
            let message = line["message"].as_str()?;
            Some(match message {
                "offered" | "acked" => {
                    let bootfile = text(line, "bootfile");
                    let file = bootfile.rsplit('/').next().unwrap_or_default();
                    format!("{message} {file}")
                }
                "served" if line["complete"] == true => {
                    format!("served {} {}", text(line, "protocol"), text(line, "path"))
                }
                "rendered" => format!(
                    "rendered {} for {}",
                    text(line, "document"),
                    text(line, "machine")
                ),
                _ => return None,
            })
        })
        .collect()
}

/// Fails unless these steps are among those of the log, in this order.
pub(super) fn assert_steps(log: &[Value], wanted: &[&str]) {
    let all = steps(log);
    let mut rest = all.iter();
    for step in wanted {
        assert!(
            rest.any(|other| other == step),
            "no `{step}` in its place: {all:#?}"
        );
    }
}

/// What the script of a machine leads to.
const FROM_THE_SCRIPT_ON: [&str; 8] = [
    "rendered boot.ipxe for node-1",
    "served http tiny/vmlinuz",
    "served http tiny/initrd.img",
    "acked nothing",
    "rendered meta-data for node-1",
    "rendered user-data for node-1",
    "rendered vendor-data for node-1",
    "rendered network-config for node-1",
];

/// Lines that the guest said, without the mark before them.
fn said(console: &str) -> Vec<&str> {
    let mark = "bootjack-guest: ";
    let lines = console.lines().filter_map(|line| line.split_once(mark));
    lines.map(|(_, said)| said.trim_end()).collect()
}

#[track_caller]
fn assert_said(console: &str, wanted: &str) {
    let said = said(console);
    assert!(
        said.iter().any(|line| line.contains(wanted)),
        "no `{wanted}`: {said:#?}\n{console}"
    );
}

/// What node-1 is given, whatever its firmware.
fn assert_is_node_1(console: &str) {
    assert_said(
        console,
        "address=198.18.0.10 router=198.18.0.1 hostname=node-1",
    );
    assert_said(console, "meta-data: instance-id: i-");
    assert_said(console, "meta-data: local-hostname: ");
    assert_said(console, "user-data: #cloud-config");
    assert_said(console, KEY);
    assert_said(console, "network-config: version: 2");
    assert_said(
        console,
        " first=1 ds=nocloud;s=http://198.18.0.1/machines/52-54-00-00-00-01/nocloud/",
    );
    assert_said(console, "done");
}

fn instance_id(console: &str) -> String {
    let line = said(console)
        .into_iter()
        .find(|line| line.contains("instance-id: "));
    line.expect("it has one").to_owned()
}

#[test]
fn an_ipxe_rom_boots_the_guest_of_its_reservation() {
    let lab = Lab::new();
    lab.reserve("198.18.0.10");
    let console = lab.boot(Firmware::BiosIpxeRom).wait_until_off();
    assert_is_node_1(&console);
    let mut wanted = vec![
        "offered boot.ipxe?arch=x86_64&firmware=bios",
        "acked boot.ipxe?arch=x86_64&firmware=bios",
    ];
    wanted.extend(FROM_THE_SCRIPT_ON);
    assert_steps(&lab.service.log(), &wanted);
}

#[test]
fn a_plain_pxe_rom_boots_it_through_undionly() {
    let lab = Lab::new();
    lab.reserve("198.18.0.10");
    let console = lab.boot(Firmware::BiosPxeRom).wait_until_off();
    assert_is_node_1(&console);
    let mut wanted = vec![
        "offered undionly.kpxe",
        "acked undionly.kpxe",
        "served tftp undionly.kpxe",
        "offered boot.ipxe?arch=x86_64&firmware=bios",
        "acked boot.ipxe?arch=x86_64&firmware=bios",
    ];
    wanted.extend(FROM_THE_SCRIPT_ON);
    assert_steps(&lab.service.log(), &wanted);
}

#[test]
fn uefi_boots_it_through_snponly_and_what_a_call_changes_at_its_next_boot() {
    let lab = Lab::new();
    let reservation = lab.reserve("198.18.0.10");
    let console = lab.boot(Firmware::UefiPxe).wait_until_off();
    assert_is_node_1(&console);
    let mut wanted = vec![
        "offered snponly.efi",
        "acked snponly.efi",
        "served tftp snponly.efi",
        "offered boot.ipxe?arch=x86_64&firmware=uefi",
        "acked boot.ipxe?arch=x86_64&firmware=uefi",
    ];
    wanted.extend(FROM_THE_SCRIPT_ON);
    assert_steps(&lab.service.log(), &wanted);
    // OVMF asks for the size, stops that transfer, and asks for the file from the same port.
    let log = lab.service.log();
    let tftp = |line: &&Value| line["protocol"] == "tftp" && line["path"] == "snponly.efi";
    let told: Vec<&Value> = log.iter().filter(tftp).collect();
    let words: Vec<&Value> = told.iter().map(|line| &line["message"]).collect();
    assert_eq!(words, ["told the size", "served"], "{told:?}");

    let other_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAISecond other@somewhere";
    let changed = Reservation {
        address: "198.18.0.11".to_owned(),
        hostname: "node-one".to_owned(),
        profile: "tiny-too".to_owned(),
        vars: [("ssh_key".to_owned(), text(other_key))].into(),
        ..reservation
    };
    let mask = ["address", "hostname", "profile", "vars"];
    Api::unix(&lab.home)
        .update(&mask, changed)
        .expect("updated");
    let first = instance_id(&console);
    let console = lab.boot(Firmware::UefiPxe).wait_until_off();
    assert_said(
        &console,
        "address=198.18.0.11 router=198.18.0.1 hostname=node-one",
    );
    assert_said(&console, " second=1 ");
    assert_said(&console, other_key);
    assert_ne!(
        instance_id(&console),
        first,
        "cloud-init is to apply it anew"
    );
    assert!(!console.contains(KEY), "{console}");
}

#[test]
fn uefi_fetches_its_program_over_http_where_it_boots_that_way() {
    let lab = Lab::new();
    lab.reserve("198.18.0.10");
    let console = lab.boot(Firmware::UefiHttp).wait_until_off();
    assert_is_node_1(&console);
    let mut wanted = vec![
        "offered snponly.efi",
        "acked snponly.efi",
        "served http snponly.efi",
        "offered boot.ipxe?arch=x86_64&firmware=uefi",
        "acked boot.ipxe?arch=x86_64&firmware=uefi",
    ];
    wanted.extend(FROM_THE_SCRIPT_ON);
    assert_steps(&lab.service.log(), &wanted);
}

#[test]
fn a_machine_that_nobody_reserved_gets_an_address_and_no_script() {
    let lab = Lab::new();
    let machine = lab.boot(Firmware::BiosIpxeRom);
    let refused = lab
        .service
        .wait_for("refused", |line| line["path"] == "boot.ipxe");
    assert_eq!(refused["reason"], "no reservation for 52:54:00:00:00:01");
    machine.wait_for("http://ipxe.org/"); // iPXE's word for what went wrong
}

#[test]
fn a_machine_without_a_profile_is_told_to_boot_its_disk() {
    let lab = Lab::new();
    let reservation = Reservation {
        profile: String::new(),
        ..lab.reserve("198.18.0.10")
    };
    let updated = Api::unix(&lab.home).update(&["profile"], reservation);
    updated.expect("updated");
    lab.boot(Firmware::BiosIpxeRom)
        .wait_for("bootjack: node-1 boots its local disk");
}

const INSTALLER: &str = r#"installs = true
min_ram = 1024
[x86_64]
kernel = "tiny/vmlinuz"
initrd = ["tiny/initrd.img"]
args = ["console={{ console }}", "first=1", "ds=nocloud;s={{ seed_url }}"]
"#;

/// A lab in which the machine has a profile that installs and wants 1024 MiB.
fn with_installer() -> Lab {
    let lab = Lab::new();
    lab.home.write("profiles/installer/profile.toml", INSTALLER);
    lab.service
        .wait_for("profiles loaded", |line| line["changed"] == "installer");
    let reservation = Reservation {
        mac: MAC.to_owned(),
        address: "198.18.0.10".to_owned(),
        hostname: "node-1".to_owned(),
        profile: "installer".to_owned(),
        ..Reservation::default()
    };
    (Api::unix(&lab.home).create(reservation)).expect("created");
    lab
}

/// The same, for an iPXE that knows its memory, which no distribution's does: the script is told as much in its first line.
fn with_memory(mib: u32) -> Lab {
    let lab = with_installer();
    let path = "/machines/52-54-00-00-00-01/boot.ipxe?arch=x86_64&firmware=bios";
    let script = get_from(&lab.server, "198.18.0.10", path);
    // From now on it is the machine's.
    (lab.server).ip(&["address", "delete", "198.18.0.10/32", "dev", "lo"]);
    let told = format!("#!ipxe\nset memsize:int32 {mib}\n");
    lab.home.write(
        "profiles/installer/s.j2",
        script.text().replace("#!ipxe\n", &told),
    );
    let toml = "installs = true\nscript = \"s.j2\"\n";
    lab.home.write("profiles/installer/profile.toml", toml);
    lab.service
        .wait_for_nth("profiles loaded", 2, |line| line["changed"] == "installer");
    lab
}

#[test]
fn an_installers_script_tells_how_far_it_came_and_leaves_nothing_of_that_in_memory() {
    for firmware in [Firmware::BiosIpxeRom, Firmware::UefiPxe] {
        let lab = with_installer();
        let console = lab.boot(firmware).wait_until_off();
        assert_said(&console, "user-data: #cloud-config");
        assert_said(&console, "done");
        let told = lab.service.wait_for("called back", |_| true);
        assert_eq!(
            (&told["what"], &told["detail"]),
            (
                &Value::from("progress"),
                &Value::from("kernel and initrds fetched")
            )
        );
    }
}

#[test]
fn a_machine_with_too_little_memory_is_stopped_before_its_kernel_is_fetched_and_says_so() {
    let lab = with_memory(700);
    let machine = lab.boot(Firmware::BiosIpxeRom);
    machine.wait_for("bootjack: installer needs 1024 MiB of memory, and node-1 has 700");
    let failed = (lab.service).wait_for("lifecycle", |line| line["change"] == "failed");
    assert_eq!(failed["reason"], "it has 700 MiB of memory, and needs 1024");
    let log = lab.service.log();
    assert!(
        !log.iter().any(|line| line["path"] == "tiny/vmlinuz"),
        "{log:#?}"
    );
}

#[test]
fn a_machine_whose_firmware_keeps_a_little_of_its_memory_has_enough() {
    let lab = with_memory(1000);
    let console = lab.boot(Firmware::BiosIpxeRom).wait_until_off();
    assert_said(&console, "done");
}

/// Debian's own cloud-init, in the guest of `deploy/guest/debian.sh`.
#[test]
fn cloud_init_applies_the_documents_that_it_fetches_over_http() {
    let lab = Lab::new();
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/guest/debian-x86_64");
    for file in ["vmlinuz", "initrd.img"] {
        let content = std::fs::read(guest.join(file)).unwrap_or_else(|error| {
            panic!("{file}: {error}; run: deploy/guest/debian.sh target/guest/debian-x86_64 x86_64")
        });
        lab.home
            .write(&format!("http/debian-12/x86_64/{file}"), content);
    }
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/profiles/debian-12");
    for entry in std::fs::read_dir(shipped).expect("it is shipped").flatten() {
        let content = std::fs::read(entry.path()).expect("readable");
        let name = entry.file_name().into_string().expect("UTF-8");
        lab.home.write(&format!("profiles/said/{name}"), content);
    }
    // The shipped profile, and a word at the end of it.
    let user_data = lab.home.path().join("profiles/said/user-data.yaml.j2");
    let shipped = std::fs::read_to_string(&user_data).expect("readable");
    let more = "runcmd:\n  - [sh, -c, 'echo said: $(hostname) $(cut -d\" \" -f1-3 /root/.ssh/authorized_keys) > /dev/ttyS0']\n";
    std::fs::write(user_data, format!("{shipped}{more}")).expect("written");
    let lab = lab.kill_and_restart().0;
    let reservation = Reservation {
        profile: "said".to_owned(),
        ..lab.reserve("198.18.0.10")
    };
    let updated = Api::unix(&lab.home).update(&["profile"], reservation);
    updated.expect("updated");
    let machine = Machine::boot_in_memory(Firmware::BiosIpxeRom, &lab.link, MAC, &lab.home, 3072);
    machine.wait_for(&format!("said: node-1 {KEY}"));
    for document in ["meta-data", "user-data", "vendor-data"] {
        (lab.service).wait_for("rendered", |line| line["document"] == document);
    }
}

/// The shipped profile as it is: the installer of Debian 12 finds its answers without a question, and runs the first command of
/// them. What it would fetch from a mirror is not had here.
#[test]
fn the_debian_installer_takes_the_shipped_preseed_and_calls_back_from_its_early_command() {
    let lab = Lab::new();
    let below = "target/test/debian-installer/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64";
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join(below);
    for file in ["linux", "initrd.gz"] {
        let content = std::fs::read(images.join(file)).unwrap_or_else(|error| {
            panic!("{below}/{file}: {error}; run: deploy/unpack.sh target/test/debian-installer debian-installer-12-netboot-amd64")
        });
        lab.home
            .write(&format!("http/debian-installer-12/x86_64/{file}"), content);
    }
    let reservation = Reservation {
        mac: MAC.to_owned(),
        address: "198.18.0.10".to_owned(),
        hostname: "node-1".to_owned(),
        profile: "debian-preseed".to_owned(),
        vars: [("password".to_owned(), text("correct horse"))].into(),
        ..Reservation::default()
    };
    (Api::unix(&lab.home).create(reservation)).expect("created");
    let machine = lab.boot(Firmware::BiosIpxeRom);
    lab.service
        .wait_for("rendered", |line| line["document"] == "preseed.cfg");
    let told = lab
        .service
        .wait_for("called back", |line| line["what"] == "started");
    assert_eq!(told["machine"], "node-1");
    drop(machine);
}

/// A DHCP reply of this type.
fn reply_of_type(kind: u8) -> Moment {
    Box::new(move |frame| {
        let datagram = Udp::read(frame).filter(|datagram| datagram.from.port() == 67);
        datagram.is_some_and(|datagram| datagram.content[240..243] == [53, 1, kind])
    })
}

/// This many octets into what comes over HTTP.
fn octets_over_http(wanted: usize) -> Moment {
    let mut seen = 0;
    Box::new(move |frame| {
        let is_http = frame[12..14] == [8, 0] && frame[23] == 6 && frame[34..36] == [0, 80];
        seen += if is_http { frame.len() - 54 } else { 0 };
        seen > wanted
    })
}

/// Boots a machine that has no address reserved, and kills the service at each of these moments of it.
fn boot_with_kills(firmware: Firmware, moments: Vec<Moment>) {
    let mut lab = Lab::new();
    lab.reserve("");
    let reservations = Api::unix(&lab.home).page(0, "").expect("a list");
    let kills = moments.len();
    let machine = Machine::boot_with_stops(firmware, &lab.link, MAC, &lab.home, moments);
    let mut log = Vec::new();
    for _ in 0..kills {
        machine.wait_until_held();
        let (restarted, seen) = lab.kill_and_restart();
        lab = restarted;
        log.extend(seen);
        machine.go_on();
    }
    let console = machine.wait_until_off();
    log.extend(lab.service.log());

    let promised = |line: &&Value| line["message"] == "offered" || line["message"] == "acked";
    let mut addresses: Vec<&str> = (log.iter().filter(promised))
        .filter_map(|line| line["yiaddr"].as_str())
        .collect();
    addresses.dedup();
    assert_eq!(addresses.len(), 1, "{addresses:?}");
    assert_said(
        &console,
        &format!("address={} router=198.18.0.1 hostname=node-1", addresses[0]),
    );
    assert_said(&console, KEY);
    assert!(
        console.contains("failed, attempt 1 of 5"),
        "cut off while it fetched:\n{console}"
    );
    assert_steps(&log, &FROM_THE_SCRIPT_ON);
    let kept = Api::unix(&lab.home).page(0, "").expect("a list");
    assert_eq!(kept, reservations);
}

#[test]
fn a_boot_outlives_kills_of_the_service_at_every_step_of_it() {
    boot_with_kills(
        Firmware::BiosIpxeRom,
        vec![
            reply_of_type(OFFER),
            reply_of_type(ACK),
            octets_over_http(5_000_000),
            reply_of_type(OFFER), // the guest's own
        ],
    );
}

#[test]
fn a_uefi_boot_outlives_kills_of_the_service_too() {
    boot_with_kills(
        Firmware::UefiPxe,
        vec![reply_of_type(OFFER), octets_over_http(5_000_000)],
    );
}
