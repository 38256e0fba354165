//! What can happen to a store's files, done to a running service and to a stopped one: nothing that was acknowledged is lost, or
//! the service does not start and says what to do. `docs/reliability.md` is the table of it.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bootjack_api::v1::Reservation;
use serde_json::Value;

use crate::support::api::{Api, node, text};
use crate::support::dhcp::{ACK, Packet, Segment, mac};
use crate::support::netns::Netns;
use crate::support::service::{Home, Service, program};

struct Lab {
    server: Netns,
    segment: Segment,
    home: Home,
    config: String,
    leased: Ipv4Addr,
}

impl Lab {
    fn new() -> Self {
        let (server, segment) = Segment::new();
        let home = Home::new();
        let config = home.config("\n[store]\nsnapshot_period = \"1s\"\n");
        Self {
            server,
            segment,
            home,
            config,
            leased: Ipv4Addr::UNSPECIFIED,
        }
    }

    fn start(&self) -> Service {
        Service::start(&self.server, &self.home, &self.config)
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// A store with three reservations and a lease, whose service was stopped.
    fn filled(&mut self) {
        let service = self.start();
        let api = Api::unix(&self.home);
        for n in 10..13 {
            api.create(node(n)).expect("created");
        }
        self.leased = self.segment.acquire(mac(1)).yiaddr();
        drop(api);
        assert_eq!(service.terminate().0.code(), Some(0));
    }

    /// The service, started anew: what it says of its store, and whether all of `filled` is there.
    fn has_everything(&self) -> Option<String> {
        let service = self.start();
        assert_eq!(Api::unix(&self.home).names().len(), 3);
        let ack = self.segment.ask(&Packet::rebooting(mac(1), self.leased));
        assert_eq!(ack.kind(), ACK);
        let said = service
            .log()
            .into_iter()
            .find(|line| line["about"] == "store");
        assert_eq!(service.terminate().0.code(), Some(0));
        said.map(|line| line["error"].as_str().unwrap_or_default().to_owned())
    }
}

/// `bootjackd store` on this directory.
fn store(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command
        .arg("store")
        .args(arguments)
        .arg("--data-dir")
        .arg(data);
    command.output().expect("it runs")
}

fn said(output: &Output) -> String {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("JSON: {}", said(output)))
}

fn flip(file: &Path, at: usize) {
    let mut octets = std::fs::read(file).expect("readable");
    octets[at] ^= 1;
    std::fs::write(file, octets).expect("written");
}

#[test]
fn a_database_that_is_gone_or_garbage_is_rebuilt_at_the_next_start_and_an_error_is_logged() {
    let mut lab = Lab::new();
    lab.filled();
    assert_eq!(lab.has_everything(), None);
    let db = lab.data().join("db");
    std::fs::remove_dir_all(&db).expect("removed");
    let error = lab.has_everything().expect("it is said");
    assert!(error.contains("it was rebuilt from snapshot"), "{error}");
    std::fs::write(db.join("db"), vec![0x5a; 1 << 20]).expect("written");
    let error = lab.has_everything().expect("it is said");
    assert!(
        error.contains("nothing that was acknowledged is lost; the old one is kept as db.broken-"),
        "{error}"
    );
    // One octet of a record, as a disk forgets it.
    let mut octets = std::fs::read(db.join("db")).expect("sled's file");
    let id = b"\"id\":\"node-12\"";
    let at = octets.windows(id.len()).position(|window| window == id);
    octets[at.expect("it is in it")] ^= 1;
    std::fs::write(db.join("db"), octets).expect("written");
    let error = lab.has_everything().expect("it is said");
    assert!(error.contains("it was rebuilt"), "{error}");
    assert_eq!(lab.has_everything(), None, "once");
}

#[test]
fn a_damaged_journal_is_not_served_and_what_is_readable_is_salvaged_with_a_list_of_the_rest() {
    let mut lab = Lab::new();
    lab.filled();
    let service = lab.start();
    let api = Api::unix(&lab.home);
    api.create(node(20)).expect("created");
    api.create(node(21)).expect("created");
    drop(api);
    service.kill();
    flip(&lab.data().join("journal"), 60);
    let config = lab.home.write("bootjackd.toml", &lab.config);
    let mut serve = lab.server.command(program());
    let refused = serve
        .args(["serve", "--config"])
        .arg(config)
        .output()
        .expect("it runs");
    let text = said(&refused);
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(
        text.contains("damaged at octet 24") && text.contains("bootjackd store verify"),
        "{text}"
    );

    let verified = store(&lab.data(), &["verify", "--output", "json"]);
    assert_eq!(verified.status.code(), Some(4), "{}", said(&verified));
    assert_eq!(json(&verified)["verdict"], "lost");
    let repaired = store(&lab.data(), &["repair"]);
    assert_eq!(repaired.status.code(), Some(4), "{}", said(&repaired));
    assert!(
        said(&repaired).contains("nothing was changed"),
        "{}",
        said(&repaired)
    );
    let salvaged = store(&lab.data(), &["repair", "--salvage", "--output", "json"]);
    assert_eq!(salvaged.status.code(), Some(4), "{}", said(&salvaged));
    let lost = json(&salvaged)["lost"].to_string();
    assert!(lost.contains("journal: octet 24"), "{lost}");
    let service = lab.start();
    let names = Api::unix(&lab.home).names();
    assert!(
        names.contains(&"reservations/node-21".to_owned()),
        "{names:?}"
    );
    assert!(
        !names.contains(&"reservations/node-20".to_owned()),
        "{names:?}"
    );
    drop(service);
    assert_eq!(store(&lab.data(), &["verify"]).status.code(), Some(0));
}

#[test]
fn a_running_store_is_exported_and_backed_up_and_both_become_stores() {
    let mut lab = Lab::new();
    lab.filled();
    let service = lab.start();
    let (export, backup) = (
        lab.home.path().join("all.jsonl"),
        lab.home.path().join("copy"),
    );
    for (verb, to) in [
        (["export", "--to"].as_slice(), &export),
        (&["backup"], &backup),
    ] {
        let to = to.to_str().expect("text");
        let output = store(&lab.data(), &[verb, &[to]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }
    let running = store(
        &lab.data(),
        &["import", "--replace", export.to_str().expect("text")],
    );
    assert_eq!(running.status.code(), Some(1));
    assert!(
        said(&running).contains("locked by another process"),
        "{}",
        said(&running)
    );
    let verified = store(&lab.data(), &["verify"]);
    assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
    assert!(
        said(&verified).contains("a running bootjackd has it"),
        "{}",
        said(&verified)
    );
    service.kill();

    std::fs::remove_dir_all(lab.data()).expect("removed");
    let text = std::fs::read_to_string(&export).expect("text");
    let cut_off = lab.home.write("cut-off.jsonl", &text[..text.len() / 2]);
    let changed = lab.home.write(
        "changed.jsonl",
        text.replace("52:54:00:00:00:0b", "52:54:00:00:00:bb"),
    );
    for (file, why) in [(cut_off, "without its closing line"), (changed, "sha256")] {
        let refused = store(&lab.data(), &["import", file.to_str().expect("text")]);
        assert_eq!(refused.status.code(), Some(1));
        let text = said(&refused);
        assert!(
            text.contains("jsonl: line ") && text.contains(why),
            "{text}"
        );
    }
    let imported = store(&lab.data(), &["import", export.to_str().expect("text")]);
    assert_eq!(imported.status.code(), Some(0), "{}", said(&imported));
    lab.has_everything();
    let again = store(&lab.data(), &["import", export.to_str().expect("text")]);
    assert_eq!(again.status.code(), Some(1));
    assert!(said(&again).contains("--replace"), "{}", said(&again));

    std::fs::remove_dir_all(lab.data()).expect("removed");
    std::fs::rename(&backup, lab.data()).expect("renamed");
    lab.has_everything();
}

/// A file system of its own for the data, gone when dropped.
struct Small(PathBuf);

impl Small {
    fn mount(at: PathBuf, options: &str) -> Self {
        std::fs::create_dir_all(&at).expect("made");
        mount(&[
            "-t",
            "tmpfs",
            "-o",
            options,
            "tmpfs",
            at.to_str().expect("text"),
        ]);
        Self(at)
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        mount(&["-o", &options, self.0.to_str().expect("text")]);
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str]) {
    let done = Command::new("mount")
        .args(arguments)
        .output()
        .expect("mount runs");
    assert!(
        done.status.success(),
        "mount {arguments:?}: {}",
        said(&done)
    );
}

/// The names of all there are, some at a time: they are large.
fn names(api: &Api) -> Vec<String> {
    let mut names = Vec::new();
    let mut token = String::new();
    loop {
        let page = api.page(10, &token).expect("a page");
        names.extend(page.reservations.into_iter().map(|made| made.name));
        token = page.next_page_token;
        if token.is_empty() {
            names.sort();
            return names;
        }
    }
}

/// One that takes some room.
fn large(n: u8) -> Reservation {
    Reservation {
        vars: [("notes".to_owned(), text(&"x".repeat(100_000)))].into(),
        ..node(n)
    }
}

#[test]
fn a_full_disk_refuses_what_it_cannot_keep_and_loses_nothing() {
    let lab = Lab::new();
    let disk = Small::mount(lab.data(), "size=8m");
    let service = lab.start();
    let api = Api::unix(&lab.home);
    let mut acknowledged = Vec::new();
    let refused = (2..254).find_map(|n| match api.create(large(n)) {
        Ok(made) => {
            acknowledged.push(made.name);
            None
        }
        Err(status) => Some(status),
    });
    let refused = refused.expect("the disk is full at last");
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
    acknowledged.sort();
    assert_eq!(names(&api), acknowledged);
    assert!(acknowledged.len() > 5, "{acknowledged:?}");
    drop(api);
    service.kill();

    disk.remount("size=64m");
    let service = lab.start();
    let api = Api::unix(&lab.home);
    assert_eq!(names(&api), acknowledged, "after a kill");
    disk.remount("size=24m");
    let is_made = |n: usize| {
        api.create(large(u8::try_from(n).expect("it is full soon")))
            .is_ok()
    };
    assert!(
        (2 + acknowledged.len()..254).any(|n| !is_made(n)),
        "full again"
    );
    disk.remount("size=128m");
    let made = api.create(node(254)).expect("there is room again");
    let before = names(&api);
    assert!(before.contains(&made.name) && before.len() > acknowledged.len());
    drop(api);
    service.kill();
    let service = lab.start();
    assert_eq!(names(&Api::unix(&lab.home)), before);
    drop(service);
    let verified = store(&lab.data(), &["verify"]);
    assert_ne!(verified.status.code(), Some(4), "{}", said(&verified));
}

#[test]
fn a_disk_that_is_read_only_is_said_in_one_sentence_and_nothing_is_lost() {
    let mut lab = Lab::new();
    let disk = Small::mount(lab.data(), "size=64m");
    lab.filled();
    disk.remount("ro");
    let config = lab.home.write("bootjackd.toml", &lab.config);
    let mut serve = lab.server.command(program());
    let refused = serve
        .args(["serve", "--config"])
        .arg(config)
        .output()
        .expect("it runs");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("Read-only file system"),
        "{}",
        said(&refused)
    );
    disk.remount("rw");
    assert_eq!(lab.has_everything(), None);
}

/// An ext4 file system in a file, mounted by a loop device; unmounted when dropped.
struct Disk {
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    /// None, and why in the tests' output, where this kernel or whose tests these are has no loop devices: user namespaces have none.
    fn mounted(image: PathBuf, at: PathBuf) -> Option<Self> {
        let file = std::fs::File::create(&image).expect("made");
        file.set_len(64 << 20).expect("it is sparse");
        let made = Command::new("mkfs.ext4").arg("-q").arg(&image).output();
        let made = made.expect("mkfs.ext4 runs; install e2fsprogs");
        assert!(made.status.success(), "{}", said(&made));
        std::fs::create_dir_all(&at).expect("made");
        let disk = Self { image, at };
        match disk.mount() {
            Ok(()) => Some(disk),
            Err(why) => {
                eprintln!("left out: no file system can be mounted from a file here: {why}");
                None
            }
        }
    }

    fn mount(&self) -> Result<(), String> {
        let mut command = Command::new("mount");
        command.args(["-t", "ext4", "-o", "loop,errors=remount-ro"]);
        let done = command.arg(&self.image).arg(&self.at).output();
        let done = done.expect("mount runs");
        done.status
            .success()
            .then_some(())
            .ok_or_else(|| said(&done))
    }

    /// Has the kernel find an error on it, after which nothing more is written.
    fn breaks(&self) {
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("Linux");
        let at = self.at.display().to_string();
        let line = mounts
            .lines()
            .find(|line| line.split(' ').nth(1) == Some(&at));
        let device = line.and_then(|line| line.strip_prefix("/dev/")?.split(' ').next());
        let switch = format!("/sys/fs/ext4/{}/trigger_fs_error", device.expect("mounted"));
        std::fs::write(switch, "a test").expect("the kernel has the switch");
    }

    /// Mounts what a power cut leaves of it. In another file: what tests beside this one run in namespaces of their own may still have
    /// the old one mounted there, and the kernel would hand that out once more.
    fn mount_anew(&mut self) {
        let done = Command::new("umount").arg(&self.at).output();
        let done = done.expect("umount runs");
        assert!(done.status.success(), "{}", said(&done));
        let left = self.image.with_extension("left");
        std::fs::copy(&self.image, &left).expect("copied");
        self.image = left;
        self.mount().expect("it can be mounted anew");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).output();
    }
}

#[test]
fn a_disk_that_turns_read_only_while_it_serves_refuses_writes_and_answers_who_is_known() {
    let mut lab = Lab::new();
    let Some(mut disk) = Disk::mounted(lab.home.path().join("disk.img"), lab.data()) else {
        return;
    };
    lab.filled();
    let service = lab.start();
    let api = Api::unix(&lab.home);
    api.create(node(13)).expect("created");
    disk.breaks();
    let refused = api.create(node(14)).expect_err("nothing can be written");
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
    let why = "the store cannot be written; the log of bootjackd says why; nothing was changed";
    assert_eq!(refused.message(), why);
    let is_it = |line: &Value| line.to_string().contains("Read-only file system");
    service.wait_for("failed", |line| line["about"] == "store" && is_it(line));
    let gone = api
        .delete("reservations/node-13", "")
        .expect_err("nor deleted");
    assert_eq!(gone.code(), tonic::Code::Unavailable, "{gone:?}");
    // What is known is answered: a reserved machine is offered its address, and a list has all that was acknowledged.
    assert_eq!(api.names().len(), 4);
    let discover = Packet::discover([0x52, 0x54, 0, 0, 0, 13]);
    let offer = lab.segment.ask(&discover);
    assert_eq!(offer.yiaddr(), Ipv4Addr::new(198, 18, 0, 13));
    // It cannot promise what it cannot keep, and says why.
    let request = Packet::selecting(&offer);
    lab.segment.send(&request);
    lab.segment
        .expect_silence(&service, &request, "store_failed");
    drop(api);
    service.kill();

    disk.mount_anew();
    let service = lab.start();
    let api = Api::unix(&lab.home);
    assert_eq!(
        api.names().len(),
        4,
        "nothing that was acknowledged is lost"
    );
    api.create(node(14)).expect("written again");
    drop(api);
    assert_eq!(service.terminate().0.code(), Some(0));
    let verified = store(&lab.data(), &["verify"]);
    assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
}
