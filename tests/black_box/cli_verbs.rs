//! The command line's other verbs against a running service: every field of reservations, leases, operations, watches.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::cli::bootjack;
use crate::support::dhcp::{Segment, mac, text};
use crate::support::netns::Netns;
use crate::support::service::{Home, Service};

struct Lab {
    home: Home,
    segment: Segment,
    _service: Service,
    _netns: Netns,
}

impl Lab {
    fn new() -> Self {
        let (netns, segment) = Segment::new();
        let home = Home::new();
        let service = Service::start(&netns, &home, &home.config(""));
        Self {
            home,
            segment,
            _service: service,
            _netns: netns,
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(bootjack());
        command.args(["--server", &self.home.api()]).args(words);
        command.env_remove("BOOTJACK_SERVER");
        command
    }

    fn types(&self, words: &[&str]) -> (Option<i32>, String, String) {
        let output = self.command(words).output().expect("it runs");
        let text = |octets: Vec<u8>| String::from_utf8(octets).expect("UTF-8");
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    fn json(&self, words: &[&str]) -> Value {
        let (status, out, err) = self.types(&[words, &["-o", "json"]].concat());
        assert_eq!((status, err.as_str()), (Some(0), ""), "{words:?}");
        serde_json::from_str(&out).unwrap_or_else(|_| panic!("no JSON: {out}"))
    }

    /// A command that tells until it is ended.
    fn watches(&self, words: &[&str]) -> Watch {
        let mut command = self.command(&[words, &["-o", "json"]].concat());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Watch { child, lines }
    }
}

struct Watch {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Watch {
    fn next(&mut self) -> Value {
        let line = self.lines.next().expect("it goes on").expect("UTF-8");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_field_of_a_reservation_can_be_given_changed_and_cleared() {
    let lab = Lab::new();
    let made = lab.json(&[
        "reservation",
        "create",
        "--id",
        "all",
        "--mac",
        "52:54:00:00:00:01",
        "--also-mac",
        "52:54:00:00:00:02",
        "--client-id",
        "kiosk",
        "--uuid",
        "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        "--circuit-id",
        "p1",
        "--label",
        "rack=r1",
        "--option",
        "ntp_servers=198.18.0.1,198.18.0.2",
        "--option-json",
        "option_224={\"hex\": \"01\"}",
        "--program",
        "ipxe",
        "--local-boot",
        "exit",
    ]);
    assert_eq!(made["macs"], json!(["52:54:00:00:00:02"]));
    assert_eq!(made["client_ids"], json!(["6b:69:6f:73:6b"]));
    assert_eq!(
        made["options"],
        json!({ "ntp_servers": ["198.18.0.1", "198.18.0.2"], "option_224": { "hex": "01" } })
    );
    assert_eq!(
        (&made["program"], &made["local_boot"]),
        (&json!("ipxe"), &json!("exit"))
    );
    let changed = lab.json(&[
        "reservation",
        "update",
        "all",
        "--also-mac",
        "",
        "--label",
        "row=7",
        "--unset-label",
        "rack",
        "--unset-option",
        "option_224",
        "--program",
        "",
    ]);
    assert_eq!(
        (&changed["macs"], &changed["program"]),
        (&json!([]), &Value::Null)
    );
    assert_eq!(changed["labels"], json!({ "row": "7" }));
    assert_eq!(
        changed["options"],
        json!({ "ntp_servers": ["198.18.0.1", "198.18.0.2"] })
    );
    assert_eq!(
        changed["client_ids"], made["client_ids"],
        "what is not named stays"
    );
    let (status, _, err) = lab.types(&["reservation", "create", "--hostname", "x"]);
    assert_eq!(status, Some(2), "{err}");

    lab.json(&["reservation", "create", "--mac", "52:54:00:00:00:09"]);
    let fits = lab.json(&["reservation", "list", "--filter", "labels.row = 7"]);
    assert_eq!(fits["reservations"], json!([changed]));
    let (status, _, err) = lab.types(&["reservation", "list", "--filter", "colour = red"]);
    assert_eq!(status, Some(3), "{err}");
    let (_, wide, _) = lab.types(&["reservation", "list", "-o", "wide"]);
    assert!(
        wide.starts_with("NAME ") && wide.contains("row=7") && wide.contains("6b:69:6f:73:6b"),
        "{wide}"
    );
    let (_, yaml, _) = lab.types(&["reservation", "get", "all", "-o", "yaml"]);
    assert!(yaml.contains("labels:\n  row: \"7\"\n"), "{yaml}");
}

#[test]
fn a_watch_tells_of_what_there_is_and_of_what_changes() {
    let lab = Lab::new();
    lab.json(&[
        "reservation",
        "create",
        "--mac",
        "52:54:00:00:00:01",
        "--id",
        "a",
    ]);
    let mut watch = lab.watches(&["reservation", "watch", "--initial"]);
    let first = watch.next();
    assert_eq!(
        (&first["kind"], &first["reservation"]["id"]),
        (&json!("created"), &json!("a"))
    );
    assert_eq!(watch.next()["kind"], "synced");
    lab.json(&["reservation", "update", "a", "--hostname", "a"]);
    let changed = watch.next();
    assert_eq!(
        (&changed["kind"], &changed["reservation"]["hostname"]),
        (&json!("updated"), &json!("a"))
    );
    lab.json(&["reservation", "delete", "a"]);
    let token = changed["resume_token"].as_str().expect("a token");
    let mut resumed = lab.watches(&["reservation", "watch", "--resume", token]);
    assert_eq!(resumed.next()["kind"], "deleted");
    let (status, _, err) = lab.types(&["reservation", "watch", "--resume", "nonsense"]);
    assert_eq!(status, Some(3), "{err}");
}

#[test]
fn leases_are_listed_watched_and_released() {
    let lab = Lab::new();
    let mut watch = lab.watches(&["lease", "watch", "--initial"]);
    assert_eq!(watch.next()["kind"], "synced");
    let address = lab.segment.acquire(mac(1)).yiaddr().to_string();
    let bound = loop {
        let told = watch.next();
        if told["lease"]["state"] == "bound" {
            break told["lease"].clone();
        }
    };
    assert_eq!(
        (&bound["address"], &bound["mac"]),
        (&json!(address), &json!(text(mac(1))))
    );
    let (_, table, _) = lab.types(&["lease", "list"]);
    assert!(
        table.contains(&format!("{address}  bound  {}", text(mac(1)))),
        "{table}"
    );
    assert_eq!(lab.json(&["lease", "get", &address]), bound);
    assert_eq!(
        lab.json(&["lease", "list", "--filter", "state = BOUND"])["leases"],
        json!([bound])
    );
    let (status, out, err) = lab.types(&["lease", "release", &address, "198.18.0.77"]);
    assert_eq!(status, Some(4), "the second is nobody's: {err}");
    assert!(
        out.starts_with(&format!(
            "released {address}, which was bound by {}",
            text(mac(1))
        )),
        "{out}"
    );
    assert_eq!(
        lab.json(&["lease", "list", "--filter", "state = BOUND"])["leases"],
        json!([])
    );
}

#[test]
fn a_machine_that_is_moved_is_waited_for() {
    let lab = Lab::new();
    let card = text(mac(1));
    lab.json(&[
        "reservation",
        "create",
        "--mac",
        &card,
        "--id",
        "a",
        "--address",
        "198.18.0.10",
    ]);
    assert_eq!(
        lab.segment.acquire(mac(1)).yiaddr().to_string(),
        "198.18.0.10"
    );
    let moved = lab.json(&[
        "reservation",
        "update",
        "a",
        "--address",
        "198.18.0.20",
        "--within",
        "1h",
    ]);
    let operation = moved["operation"]
        .as_str()
        .expect("an operation")
        .to_owned();
    let under_way = lab.json(&["operation", "get", &operation]);
    assert_eq!(
        (&under_way["done"], &under_way["to_address"]),
        (&json!(false), &json!("198.18.0.20"))
    );
    let (status, _, err) = lab.types(&["operation", "wait", &operation, "--timeout", "1s"]);
    assert_eq!(status, Some(7), "{err}");
    assert_eq!(
        lab.segment.acquire(mac(1)).yiaddr().to_string(),
        "198.18.0.20"
    );
    let (status, out, err) = lab.types(&["operation", "wait", &operation]);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{out}");
    let (_, table, _) = lab.types(&["operation", "list"]);
    assert!(table.contains("198.18.0.10  198.18.0.20  done"), "{table}");
    // A machine that does not come is told when its time is over.
    let late = [
        "reservation",
        "update",
        "a",
        "--address",
        "198.18.0.30",
        "--wait",
        "--within",
        "1s",
    ];
    let (status, _, err) = lab.types(&late);
    assert_eq!(status, Some(7), "{err}");
    assert!(err.starts_with("bootjack: "), "{err}");
}

#[test]
fn profiles_are_put_looked_at_fetched_and_deleted() {
    let lab = Lab::new();
    let good = "description = \"tiny\"\n\n[x86_64]\nkernel = \"vmlinuz\"\n";
    lab.home.write("mine/tiny-2/profile.toml", good);
    let dir = lab.home.path().join("mine/tiny-2");
    let dir = dir.to_str().expect("UTF-8");
    let (status, out, err) = lab.types(&["profile", "put", dir, "--dry-run"]);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{out}");
    let put = lab.json(&["profile", "put", dir]);
    assert_eq!(
        (&put["id"], &put["source"], &put["description"]),
        (&json!("tiny-2"), &json!("api"), &json!("tiny"))
    );
    let (_, table, _) = lab.types(&["profile", "list"]);
    assert!(table.contains("tiny-2 "), "{table}");
    assert_eq!(lab.types(&["profile", "lint", "tiny-2"]).0, Some(0));
    let copy = lab.home.path().join("copy");
    let copy = copy.to_str().expect("UTF-8");
    assert_eq!(
        lab.types(&["profile", "get", "tiny-2", "--to", copy]).0,
        Some(0)
    );
    let copied =
        std::fs::read_to_string(lab.home.path().join("copy/profile.toml")).expect("written");
    assert_eq!(copied, good);

    lab.home
        .write("mine/tiny-2/profile.toml", "description = 7\n");
    let (status, _, err) = lab.types(&["profile", "put", dir]);
    assert_eq!(status, Some(3), "{err}");
    assert!(
        err.contains("line 1, description: wanted a string"),
        "{err}"
    );
    lab.json(&[
        "reservation",
        "create",
        "--mac",
        "52:54:00:00:00:01",
        "--id",
        "a",
        "--profile",
        "tiny-2",
    ]);
    let (status, _, err) = lab.types(&["profile", "delete", "tiny-2"]);
    assert_eq!(status, Some(5), "{err}");
    lab.json(&["reservation", "delete", "a"]);
    assert_eq!(
        lab.types(&["profile", "delete", "tiny-2"]).1,
        "deleted tiny-2\n"
    );
    assert_eq!(lab.types(&["profile", "get", "tiny-2"]).0, Some(4));
    let (status, _, err) = lab.types(&[
        "profile",
        "put",
        lab.home.path().join("tftp").to_str().expect("UTF-8"),
    ]);
    assert_eq!(status, Some(3));
    assert!(err.ends_with("has no profile.toml\n"), "{err}");
}

#[test]
fn artefacts_are_sent_whole_or_not_at_all() {
    let lab = Lab::new();
    let octets: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let file = lab.home.write("image.raw", &octets);
    let file = file.to_str().expect("UTF-8");
    let sent = lab.json(&["artifact", "upload", "images/a.raw", file]);
    assert_eq!(
        (&sent["id"], &sent["size_bytes"]),
        (&json!("images/a.raw"), &json!(12_000_000))
    );
    assert_eq!(lab.json(&["artifact", "list"])["artifacts"], json!([sent]));
    let (_, shown, _) = lab.types(&["artifact", "get", "images/a.raw"]);
    assert!(shown.contains("11 MiB"), "{shown}");
    let wrong = "0".repeat(64);
    let (status, _, err) = lab.types(&[
        "artifact",
        "upload",
        "images/b.raw",
        file,
        "--sha256",
        &wrong,
    ]);
    assert_ne!(status, Some(0), "{err}");
    assert_eq!(lab.types(&["artifact", "get", "images/b.raw"]).0, Some(4));
    let (status, _, err) = lab.types(&["artifact", "upload", "x", "/nowhere/file"]);
    assert_eq!(status, Some(4), "{err}");
    assert_eq!(
        lab.types(&["artifact", "delete", "images/a.raw"]).1,
        "deleted images/a.raw\n"
    );
}

#[test]
fn the_server_says_what_it_is_and_gives_its_state() {
    let lab = Lab::new();
    lab.json(&[
        "reservation",
        "create",
        "--mac",
        "52:54:00:00:00:01",
        "--id",
        "a",
    ]);
    let info = lab.json(&["server", "info"]);
    assert_eq!(info["reservations"], 1);
    assert_eq!(info["subnets"][0]["cidr"], "198.18.0.0/24");
    assert_eq!(info["store"]["healthy"], true, "{info}");
    let (status, words, _) = lab.types(&["server", "info"]);
    assert!(
        status == Some(0) && words.contains("198.18.0.0/24"),
        "{words}"
    );
    let config = lab.json(&["server", "config"]);
    assert!(config["subnet"][0]["cidr"] == "198.18.0.0/24", "{config}");
    let to = lab.home.path().join("state.jsonl");
    assert_eq!(
        lab.types(&["server", "export", "--to", to.to_str().expect("UTF-8")])
            .0,
        Some(0)
    );
    let state = std::fs::read_to_string(&to).expect("written");
    assert!(state.contains("52:54:00:00:00:01"), "{state}");
    assert_eq!(lab.types(&["server", "export"]).0, Some(0));
}
