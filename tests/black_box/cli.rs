//! `bootjack reservation` against a running service.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::netns::{Netns, server_and_client};
use crate::support::service::{Home, Service, program};

/// The command line's program, which is built beside the service's.
pub fn bootjack() -> PathBuf {
    let path = Path::new(program()).with_file_name("bootjack");
    assert!(
        path.exists(),
        "{} is missing; run: cargo build --workspace",
        path.display()
    );
    path
}

pub struct Server {
    pub home: Home,
    _service: Service,
    netns: Netns,
    _client: Netns,
}

pub fn serve(more: &str) -> Server {
    let (netns, client) = server_and_client("52:54:00:00:00:01");
    let home = Home::new();
    let service = Service::start(&netns, &home, &home.config(more));
    Server {
        home,
        _service: service,
        netns,
        _client: client,
    }
}

impl Server {
    /// Types a command; its status, standard output and standard error.
    pub fn types(&self, words: &[&str]) -> (Option<i32>, String, String) {
        let command = Command::new(bootjack())
            .args(["--server", &self.home.api()])
            .args(words)
            .env_remove("BOOTJACK_SERVER")
            .output();
        told(command.expect("it runs"))
    }

    /// What a command that works prints as JSON.
    pub fn json(&self, words: &[&str]) -> Value {
        let (status, out, err) = self.types(&[words, &["--output", "json"]].concat());
        assert_eq!((status, err.as_str()), (Some(0), ""), "{words:?}");
        serde_json::from_str(&out).unwrap_or_else(|_| panic!("no JSON: {out}"))
    }
}

fn told(output: Output) -> (Option<i32>, String, String) {
    let text = |octets: Vec<u8>| String::from_utf8(octets).expect("UTF-8");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

const CREATE: [&str; 8] = [
    "reservation",
    "create",
    "--mac",
    "52-54-00-00-00-0C",
    "--address",
    "198.18.0.12",
    "--hostname",
    "node-12",
];

#[test]
fn a_reservation_is_created_listed_and_deleted() {
    let server = serve("[[reservation]]\nmac = \"52:54:00:00:00:0a\"\nprofile = \"local-disk\"\n");
    let create = [&CREATE[..], &["--profile", "debian-12"]].concat();
    assert_eq!(
        server.types(&create),
        (
            Some(0),
            "created reservations/node-12: 52:54:00:00:00:0c → 198.18.0.12, profile debian-12\n"
                .to_owned(),
            String::new()
        )
    );
    let (status, table, _) = server.types(&["reservation", "list"]);
    assert_eq!(status, Some(0));
    assert_eq!(
        table,
        "NAME               MAC                ADDRESS      HOSTNAME  PROFILE     SOURCE\n\
         52-54-00-00-00-0a  52:54:00:00:00:0a  -            -         local-disk  config file\n\
         node-12            52:54:00:00:00:0c  198.18.0.12  node-12   debian-12   api\n"
    );
    assert_eq!(
        server.types(&["reservation", "delete", "node-12"]),
        (Some(0), "deleted node-12\n".to_owned(), String::new())
    );
    let listed = server.json(&["reservation", "list"]);
    assert_eq!(listed["reservations"].as_array().map(Vec::len), Some(1));
}

#[test]
fn programs_read_json_with_every_key() {
    let server = serve("");
    let create = [
        &CREATE[..],
        &["--var", "a=b=c", "--var-json", "n=[1,{\"x\":true}]"],
    ]
    .concat();
    let mut made = server.json(&create);
    assert_eq!(
        server.json(&["reservation", "list"]),
        json!({ "reservations": [made] })
    );
    assert_eq!(
        server.json(&["reservation", "get", "52:54:00:00:00:0c"]),
        made
    );
    let object = made.as_object_mut().expect("an object");
    for key in ["create_time", "update_time"] {
        assert!(
            object.remove(key).is_some_and(|time| time.is_string()),
            "{key}"
        );
    }
    assert_eq!(
        made,
        json!({
            "name": "reservations/node-12",
            "id": "node-12",
            "mac": "52:54:00:00:00:0c",
            "macs": [],
            "client_ids": [],
            "uuids": [],
            "circuit_ids": [],
            "address": "198.18.0.12",
            "hostname": "node-12",
            "profile": null,
            "labels": {},
            "vars": { "a": "b=c", "n": [1, { "x": true }] },
            "options": {},
            "program": null,
            "local_boot": null,
            "operation": null,
            "etag": "1",
            "source": "api",
        })
    );
    assert_eq!(
        server.json(&["reservation", "delete", "node-12"]),
        json!({ "deleted": ["node-12"] })
    );
    assert_eq!(
        server.json(&["reservation", "list"]),
        json!({ "reservations": [] })
    );
}

#[test]
fn what_is_refused_is_said_in_the_services_words_and_by_the_exit_status() {
    let server = serve("[[reservation]]\nmac = \"52:54:00:00:00:0a\"\nhostname = \"node-10\"\n");
    assert_eq!(server.types(&CREATE).0, Some(0));
    let reservation = |words: &[&str]| server.types(&[&["reservation"], words].concat());
    for (words, status, said) in [
        (
            &[
                "create",
                "--mac",
                "52:54:00:00:00:0d",
                "--address",
                "198.18.0.12",
                "--hostname",
                "node-13",
            ][..],
            5,
            "reservation node-13: address 198.18.0.12 already belongs to node-12 (52:54:00:00:00:0c); pick another address or delete node-12",
        ),
        (
            &[
                "create",
                "--mac",
                "52:54:00:00:00:0d",
                "--address",
                "198.19.0.1",
                "--hostname",
                "node-13",
            ],
            3,
            "reservation node-13: address 198.19.0.1 is outside every subnet (198.18.0.0/24); pick one inside, or add its subnet to the configuration file",
        ),
        (
            &["create", "--mac", "nonsense"],
            3,
            "mac: `nonsense` is not a MAC address; write it like 52:54:00:00:00:01",
        ),
        (
            &["get", "node-99"],
            4,
            "reservation node-99 does not exist; see: bootjack reservation list",
        ),
        (
            &["delete", "node-10"],
            5,
            "reservation node-10 comes from the configuration file; change it there and restart bootjackd",
        ),
        (
            &["update", "node-12", "--hostname", "x", "--etag", "77"],
            5,
            "reservation node-12 has changed since it was read (etag 1 now, 77 sent); read it again and repeat the change",
        ),
    ] {
        let expected = (Some(status), String::new(), format!("bootjack: {said}\n"));
        assert_eq!(reservation(words), expected, "{words:?}");
    }
    assert_eq!(reservation(&["create"]).0, Some(2), "a mistyped command");
    // One that fails keeps the others from nothing.
    let (status, out, err) = reservation(&["delete", "node-98", "node-12", "node-99"]);
    assert_eq!((status, out.as_str()), (Some(4), "deleted node-12\n"));
    assert_eq!(
        err,
        "bootjack: reservation node-98 does not exist; see: bootjack reservation list\n\
         bootjack: reservation node-99 does not exist; see: bootjack reservation list\n"
    );
}

#[test]
fn a_reservation_is_changed_and_what_is_not_named_stays() {
    let server = serve("");
    server.json(&[&CREATE[..], &["--var", "a=1", "--var", "b=2"]].concat());
    let update =
        |words: &[&str]| server.json(&[&["reservation", "update", "node-12"], words].concat());
    let changed = update(&["--profile", "debian-12", "--var", "b=3", "--unset-var", "a"]);
    assert_eq!(changed["vars"], json!({ "b": "3" }));
    assert_eq!(
        (&changed["profile"], &changed["address"]),
        (&json!("debian-12"), &json!("198.18.0.12"))
    );
    let changed = update(&["--profile", "", "--address", ""]);
    assert_eq!(
        (&changed["profile"], &changed["address"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(changed["vars"], json!({ "b": "3" }));
}

#[test]
fn a_service_is_found_over_tcp_and_by_the_environment() {
    let (netns, _client) = server_and_client("52:54:00:00:00:01");
    let home = Home::new();
    let config = home.config("").replace(&home.api(), "127.0.0.1:50051");
    let _service = Service::start(&netns, &home, &config);
    let program = bootjack().display().to_string();
    let by_flag = netns
        .command(&program)
        .args(["--server", "http://127.0.0.1:50051"])
        .args(CREATE)
        .output();
    assert_eq!(told(by_flag.expect("it runs")).0, Some(0));
    let by_environment = netns
        .command(&program)
        .env("BOOTJACK_SERVER", "127.0.0.1:50051")
        .args(["reservation", "list"])
        .output();
    let (status, out, _) = told(by_environment.expect("it runs"));
    assert_eq!(status, Some(0));
    assert!(out.contains("node-12"), "{out}");
}

#[test]
fn a_service_that_is_not_there_is_said_with_where_it_was_looked_for() {
    let server = serve("");
    let nowhere = server
        .home
        .path()
        .join("nowhere.sock")
        .display()
        .to_string();
    let said = Command::new(bootjack())
        .args([
            "--server",
            &format!("unix:{nowhere}"),
            "reservation",
            "list",
        ])
        .output();
    assert_eq!(
        told(said.expect("it runs")),
        (
            Some(11),
            String::new(),
            format!(
                "bootjack: cannot reach bootjackd at unix:{nowhere}: no such file or directory; start bootjackd, or say with --server (or BOOTJACK_SERVER) where it listens\n"
            )
        )
    );
    let program = bootjack().display().to_string();
    let said = (server.netns.command(&program))
        .args(["--server", "127.0.0.1:50051", "reservation", "list"])
        .output();
    let (status, _, err) = told(said.expect("it runs"));
    assert_eq!(status, Some(11));
    assert!(
        err.starts_with(
            "bootjack: cannot reach bootjackd at 127.0.0.1:50051: connection refused; "
        ),
        "{err}"
    );
}
