//! The API by clients that are not ours: one in Python that learns everything by reflection, and the example of the README.

use std::process::Command;
use std::sync::LazyLock;

use serde_json::{Value as Json, json};

use crate::support::netns::{Netns, server_and_client};
use crate::support::service::{Home, Service};

/// The interpreter that has what the clients need; it is set up once for all tests.
fn python() -> &'static str {
    static PYTHON: LazyLock<String> = LazyLock::new(|| {
        let venv = concat!(env!("CARGO_TARGET_TMPDIR"), "/grpc-client");
        let made = Command::new("/usr/bin/python3")
            .args([&script(), "setup", venv])
            .output()
            .expect("python3 runs");
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{said}");
        format!("{venv}/bin/python")
    });
    &PYTHON
}

fn script() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/grpc_client.py").to_owned()
}

/// What a Python program printed, which has to have succeeded.
fn printed(netns: &Netns, args: &[&str]) -> String {
    let ran = netns.command(python()).args(args).output();
    let ran = ran.expect("it runs");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{args:?}: {said}");
    String::from_utf8(ran.stdout).expect("UTF-8")
}

/// A service that listens where the README says.
fn over_tcp(netns: &Netns, home: &Home) -> Service {
    let config = home.config("").replace(&home.api(), "127.0.0.1:50051");
    Service::start(netns, home, &config)
}

fn seen_over_tcp() -> Json {
    let (netns, _client) = server_and_client("52:54:00:00:00:01");
    let home = Home::new();
    let _service = over_tcp(&netns, &home);
    let seen = printed(&netns, &[&script(), "run", "127.0.0.1:50051"]);
    serde_json::from_str(&seen).expect("JSON")
}

fn seen_over_unix() -> Json {
    let (netns, _client) = server_and_client("52:54:00:00:00:01");
    let home = Home::new();
    let _service = Service::start(&netns, &home, &home.config(""));
    let seen = printed(&netns, &[&script(), "run", &home.api()]);
    serde_json::from_str(&seen).expect("JSON")
}

#[test]
fn a_client_in_another_language_works_by_reflection_alone() {
    for seen in [seen_over_tcp(), seen_over_unix()] {
        for service in [
            "Artifacts",
            "Leases",
            "Machines",
            "Operations",
            "Profiles",
            "Reservations",
            "Server",
        ] {
            let services = seen["services"].as_array().expect("a list");
            let name = json!(format!("bootjack.v1.{service}"));
            assert!(services.contains(&name), "{services:?}");
        }
        assert_eq!(
            seen["methods"],
            json!([
                "CreateReservation",
                "BatchCreateReservations",
                "GetReservation",
                "ListReservations",
                "UpdateReservation",
                "DeleteReservation",
                "WatchReservations"
            ])
        );
        one(&seen);
        several(&seen);
        move_that_is_given_up(&seen);
        others(&seen);
    }
}

fn one(seen: &Json) {
    let mut created = seen["created"].clone();
    let object = created.as_object_mut().unwrap_or_else(|| panic!("{seen}"));
    assert!(object.remove("create_time").is_some() && object.remove("update_time").is_some());
    assert_eq!(
        created,
        json!({
            "name": "reservations/node-12",
            "mac": "52:54:00:00:00:0c",
            "address": "198.18.0.12",
            "hostname": "node-12",
            "vars": { "ssh_key": "ssh-ed25519 AAAA me", "disks": [1.0, { "size": 2.5 }], "swap": false },
            "etag": "1",
            "source": "API",
        })
    );
    assert_eq!(
        seen["listed"],
        json!({
            "reservations": [seen["created"]],
            "total_size": 1,
            "resume_token": seen["listed"]["resume_token"],
        })
    );
    assert_eq!(
        seen["conflict"],
        json!({
            "code": "ALREADY_EXISTS",
            "message": "reservation node-12: address 198.18.0.12 already belongs to node-12 (52:54:00:00:00:0c); pick another address or delete node-12",
            "reason": "TAKEN",
            "domain": "bootjack.v1",
            "metadata": {
                "field": "address",
                "value": "198.18.0.12",
                "owner": seen["conflict"]["metadata"]["owner"],
                "resource": "reservations/node-12",
            },
            "fields": ["address"],
        })
    );
    assert_eq!(seen["deleted"], json!({}));
    assert_eq!(
        (&seen["gone"]["code"], &seen["gone"]["metadata"]["resource"]),
        (&json!("NOT_FOUND"), &json!("reservations/node-12"))
    );
}

fn several(seen: &Json) {
    let made = &seen["batch"]["reservations"];
    assert_eq!(
        (&made[0]["name"], &made[1]["name"]),
        (
            &json!("reservations/node-20"),
            &json!("reservations/node-21")
        )
    );
    assert_eq!(seen["batch"], seen["batch_again"], "the id was the same");
    let refused = &seen["batch_refused"];
    assert_eq!(refused["code"], "ALREADY_EXISTS", "{refused}");
    let fields = refused["fields"].as_array().expect("a list");
    for n in [0, 1] {
        let of = format!("requests[{n}].");
        let is_named = |field: &Json| field.as_str().is_some_and(|field| field.starts_with(&of));
        assert!(fields.iter().any(is_named), "{refused}");
    }
    let watched = seen["watched"].as_array().expect("a list");
    let told: Vec<_> = watched
        .iter()
        .map(|message| (&message["kind"], &message["reservation"]))
        .collect();
    let created = json!("CREATED");
    assert_eq!(told, [(&created, &made[0]), (&created, &made[1])]);
    assert_eq!(seen["resumed"], json!([watched[1]]));
    assert_eq!(
        (
            &seen["foreign_token"]["code"],
            &seen["foreign_token"]["fields"]
        ),
        (&json!("INVALID_ARGUMENT"), &json!(["resume_token"]))
    );
}

fn move_that_is_given_up(seen: &Json) {
    let operation = &seen["operation"];
    assert_eq!(
        (&operation["name"], &operation["done"]),
        (&seen["moved"]["operation"], &json!(true)),
        "{seen}"
    );
    // 4: DEADLINE_EXCEEDED.
    assert_eq!(operation["error"]["code"], 4, "{operation}");
    assert_eq!(operation["metadata"]["stage"], "NOT_HEARD_OF");
    let stale = &seen["stale"];
    assert_eq!(
        (
            &stale["code"],
            &stale["reason"],
            &stale["metadata"]["resource"]
        ),
        (
            &json!("ABORTED"),
            &json!("STALE_ETAG"),
            &json!("reservations/node-20")
        )
    );
    assert_eq!(stale["metadata"]["etag"], seen["moved"]["etag"]);
}

fn others(seen: &Json) {
    let leases = seen["leases"]["leases"].as_array().expect("a list");
    let addresses: Vec<_> = leases.iter().map(|lease| &lease["address"]).collect();
    assert_eq!(addresses, ["198.18.0.12", "198.18.0.21", "198.18.0.30"]);
    assert_eq!(seen["profile"]["source"], "SHIPPED");
    assert_eq!(seen["uploaded"]["size_bytes"], "8000");
    assert_eq!(
        (
            &seen["wrong_digest"]["code"],
            &seen["wrong_digest"]["reason"]
        ),
        (&json!("DATA_LOSS"), &json!("WRONG_DIGEST"))
    );
    assert_eq!(seen["machines"]["total_size"], 3);
    assert_eq!(seen["server"]["version"], env!("CARGO_PKG_VERSION"));
}

/// The first block of Python below a heading of the README.
fn example(heading: &str) -> String {
    let readme = include_str!("../../README.md");
    let chapter = readme.split_once(heading).expect("there is the chapter").1;
    let code = chapter.split_once("```python\n").expect("an example").1;
    code.split_once("```").expect("its end").0.to_owned()
}

#[test]
fn the_example_of_the_readme_works() {
    let (netns, _client) = server_and_client("52:54:00:00:00:01");
    let home = Home::new();
    let _service = over_tcp(&netns, &home);
    let printed = printed(&netns, &["-c", &example("\n## API\n")]);
    assert_eq!(
        printed,
        "reservations/node-2\n\
         reservation node-3: address 198.18.0.20 already belongs to node-2 (52:54:00:00:00:02); pick another address or delete node-2\n\
         reservations/node-2 CREATED\n"
    );
}
