//! What would be served, shown and looked at: `bootjackd render`, `bootjackd lint`, and profiles that change while machines boot.

use std::process::Command;

use bootjack_api::v1::Reservation;
use serde_json::Value;

use crate::support::api::{self, Api, node, text};
use crate::support::netns::{Netns, server_and_client};
use crate::support::service::{Home, Service, program, signal};

const PROFILE: &str = r#"required = ["password"]
[vars]
run = ["ls"]
[x86_64]
kernel = "mine/vmlinuz"
args = ["ds=nocloud;s={{ seed_url }}"]
[documents]
user-data = "u.j2"
"#;
const USER_DATA: &str = "#cloud-config\n\
    runcmd: {{ run|yaml }}\n\
    users:\n  - name: {{ user|yaml }}\n    lock_passwd: false\n    passwd: {{ password|sha512crypt|yaml }}\n";
const MACHINES: &str = r#"
[vars]
user = "admin"
[[group]]
name = "rack 1"
match = { rack = "r1" }
profile = "mine"
[[reservation]]
mac = "52:54:00:00:00:0a"
hostname = "node-10"
labels = { rack = "r1" }
vars = { password = { secret_env = "BOOTJACK_TEST_PASSWORD" } }
"#;

fn home() -> (Home, String) {
    let home = Home::new();
    home.write("profiles/mine/profile.toml", PROFILE);
    home.write("profiles/mine/u.j2", USER_DATA);
    let config = home.config(MACHINES);
    (home, config)
}

/// Types a command of the service's program; its status, standard output and standard error.
fn types(home: &Home, config: &str, words: &[&str]) -> (Option<i32>, String, String) {
    let file = home.write("bootjackd.toml", config);
    let output = Command::new(program())
        .args(words)
        .arg("--config")
        .arg(file)
        .env("BOOTJACK_TEST_PASSWORD", "correct horse")
        .output()
        .expect("it runs");
    let text = |octets: Vec<u8>| String::from_utf8(octets).expect("UTF-8");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn a_document_is_shown_as_it_would_be_served_with_who_says_each_variable_and_without_secrets() {
    let (home, config) = home();
    let render = ["render", "--machine", "node-10"];
    let (status, out, err) = types(&home, &config, &render);
    assert_eq!(
        (status, out.as_str()),
        (
            Some(0),
            "#cloud-config\nruncmd: [\"ls\"]\nusers:\n  - name: \"admin\"\n    lock_passwd: false\n    passwd: \"(secret)\"\n"
        )
    );
    assert_eq!(
        err,
        "profile      mine\n\
         variables    password  machine\n\
         \x20            run       profile mine\n\
         \x20            user      [vars]\n\
         according to the configuration and the store; no service runs\n"
    );
    let (_, out, _) = types(&home, &config, &[&render[..], &["--show-secrets"]].concat());
    assert!(out.contains("passwd: \"$6$"), "{out}");
    assert!(!out.contains("correct horse"));
    let (_, out, _) = types(
        &home,
        &config,
        &[&render[..], &["--document", "grub.cfg"]].concat(),
    );
    assert!(
        out.contains("linux (http,198.18.0.1)/files/mine/vmlinuz 'ds=nocloud;s=http://198.18.0.1/machines/52-54-00-00-00-0a/nocloud/'"),
        "{out}"
    );
    let (status, _, err) = types(
        &home,
        &config,
        &[&render[..], &["--document", "x"]].concat(),
    );
    assert_eq!(status, Some(1));
    assert_eq!(
        err,
        "bootjackd: node-10 has no document x; there are: boot.ipxe, grub.cfg, meta-data, network-config, user-data, vendor-data\n"
    );
    let (_, _, err) = types(&home, &config, &["render", "--machine", "node-11"]);
    assert_eq!(
        err,
        "bootjackd: no reservation for node-11; see: bootjack reservation list\n"
    );
}

#[test]
fn a_profile_is_looked_at_for_every_machine_that_has_it() {
    let (home, config) = home();
    let (status, out, err) = types(&home, &config, &["lint", "mine"]);
    assert_eq!(
        (status, out.as_str(), err.as_str()),
        (Some(0), "0 errors, 0 warnings\n", "")
    );
    home.write(
        "profiles/mine/u.j2",
        USER_DATA.replace("{{ run|yaml }}", "ls"),
    );
    let (status, out, _) = types(&home, &config, &["lint", "mine"]);
    assert_eq!(status, Some(1));
    assert_eq!(
        out,
        "mine/user-data:2  error    runcmd: wanted a list, got `ls`; write a list (node-10)\n1 errors, 0 warnings\n"
    );
    let (status, out, _) = types(&home, &config, &["lint", "mine", "--output", "json"]);
    assert_eq!(status, Some(1));
    let found: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        found,
        serde_json::json!([{
            "profile": "mine", "document": "user-data", "line": 2, "severity": "error",
            "message": "runcmd: wanted a list, got `ls`", "next_step": "write a list", "machines": ["node-10"],
        }])
    );
    let (status, _, err) = types(&home, &config, &["lint", "other"]);
    assert_eq!(status, Some(1));
    assert!(
        err.starts_with("bootjackd: profile other does not exist; known are: "),
        "{err}"
    );
}

/// The same without a secret.
fn in_the_clear(config: &str) -> String {
    config.replace("{ secret_env = \"BOOTJACK_TEST_PASSWORD\" }", "\"y\"")
}

struct Server {
    netns: Netns,
    home: Home,
    service: Service,
    api: Api,
    _client: Netns,
}

fn serve() -> Server {
    let (netns, client) = server_and_client("52:54:00:00:00:01");
    let (home, config) = home();
    let service = Service::start(&netns, &home, &in_the_clear(&config));
    let api = Api::unix(&home);
    let reservation = Reservation {
        profile: "mine".to_owned(),
        vars: [("password".to_owned(), text("x"))].into(),
        ..node(12)
    };
    api.create(reservation).expect("nothing in the way");
    Server {
        netns,
        home,
        service,
        api,
        _client: client,
    }
}

impl Server {
    fn user_data(&self) -> String {
        let path = "/machines/52-54-00-00-00-0c/nocloud/user-data";
        let got = api::get_from(&self.netns, "198.18.0.12", path);
        assert_eq!(got.status, 200, "{}", got.text());
        got.text().to_owned()
    }
}

#[test]
fn a_hash_of_a_password_is_the_same_in_every_fetch() {
    let server = serve();
    let first = server.user_data();
    assert!(first.contains("passwd: \"$6$"), "{first}");
    assert_eq!(server.user_data(), first);
    server.service.kill();
    let config = in_the_clear(&server.home.config(MACHINES));
    let _service = Service::start(&server.netns, &server.home, &config);
    let path = "/machines/52-54-00-00-00-0c/nocloud/user-data";
    assert_eq!(
        api::get_from(&server.netns, "198.18.0.12", path).text(),
        first
    );
}

#[test]
fn the_running_service_is_asked_for_the_reservations_made_over_its_api() {
    let server = serve();
    let config = in_the_clear(&server.home.config(MACHINES));
    let (status, out, err) = types(&server.home, &config, &["render", "--machine", "node-12"]);
    assert_eq!(status, Some(0), "{err}");
    assert!(err.ends_with("according to the running service\n"), "{err}");
    assert_eq!(out, server.user_data());
}

#[test]
fn profiles_are_read_again_when_their_files_change_and_on_sighup() {
    let server = serve();
    assert!(server.user_data().contains("runcmd: [\"ls\"]"));
    server.home.write(
        "profiles/mine/profile.toml",
        PROFILE.replace("\"ls\"", "\"id\""),
    );
    server
        .home
        .write("profiles/new/profile.toml", "[x86_64]\nkernel = \"k\"\n");
    server
        .service
        .wait_for("profiles loaded", |line| line["changed"] == "mine, new");
    assert!(server.user_data().contains("runcmd: [\"id\"]"));
    let reservation = Reservation {
        profile: "new".to_owned(),
        ..node(13)
    };
    server
        .api
        .create(reservation)
        .expect("the new profile is known");
    signal(server.service.pid(), "HUP");
    server
        .service
        .wait_for("profiles loaded", |line| line["changed"] == "");
}

#[test]
fn a_profile_that_is_broken_is_refused_and_the_last_good_one_goes_on() {
    let server = serve();
    let good = server.user_data();
    let refused = |file: &str, content: String, error: &str| {
        server.home.write(&format!("profiles/mine/{file}"), content);
        let line = server.service.wait_for("profile refused", |line| {
            line["error"]
                .as_str()
                .is_some_and(|said| said.contains(error))
        });
        assert_eq!(line["profile"], "mine");
        assert_eq!(server.user_data(), good);
    };
    refused(
        "profile.toml",
        PROFILE.replace("kernel", "kernle"),
        "line 5, x86_64.kernle: unknown key; did you mean x86_64.kernel?",
    );
    refused(
        "profile.toml",
        PROFILE.replace("[\"password\"]", "[\"password\", \"disk\"]"),
        "reservation node-12: vars lack disk, which profile mine requires",
    );
    server.home.write("profiles/mine/profile.toml", PROFILE);
    refused(
        "u.j2",
        USER_DATA.replace("runcmd", "- runcmd"),
        "user-data line 3: it is no YAML",
    );
    refused(
        "u.j2",
        USER_DATA.replace("{{ run|yaml }}", "{{ rum|yaml }}"),
        "for node-10, node-12: u.j2 line 2: `rum` is not defined",
    );
    std::fs::remove_dir_all(server.home.path().join("profiles/mine")).expect("removed");
    let gone = "profile mine does not exist; known are: ";
    server.service.wait_for("profile refused", |line| {
        line["error"]
            .as_str()
            .is_some_and(|said| said.contains(gone))
    });
    assert_eq!(server.user_data(), good);
    // And another reservation is written as before.
    let reservation = Reservation {
        profile: "mine".to_owned(),
        vars: [("password".to_owned(), text("x"))].into(),
        ..node(13)
    };
    server.api.create(reservation).expect("nothing in the way");
}

#[test]
fn a_broken_document_of_the_configuration_files_machine_is_told_at_start() {
    let (netns, _client) = server_and_client("52:54:00:00:00:01");
    let (home, config) = home();
    home.write("profiles/mine/u.j2", "users: []\n");
    let service = Service::start(&netns, &home, &config);
    let line = service.wait_for("document broken", |line| line["profile"] == "mine");
    assert_eq!(line["machines"], 1);
    assert!(
        line["error"]
            .as_str()
            .is_some_and(|said| said
                .starts_with("user-data line 1: the first line is …, and not #cloud-config")),
        "{line}"
    );
}

#[test]
fn nobody_is_kept_waiting_or_told_half_a_profile_while_profiles_change() {
    let server = serve();
    let path = "/machines/52-54-00-00-00-0c/nocloud/user-data";
    let mut http = api::Http::connect_from(&server.netns, "198.18.0.12");
    for round in 0..10 {
        let run = format!("round-{round}");
        let profile = PROFILE.replace("\"ls\"", &format!("\"{run}\""));
        server.home.write("profiles/mine/profile.toml", profile);
        let text = USER_DATA.replace("users:", &format!("hostname: {run}\nusers:"));
        server.home.write("profiles/mine/u.j2", text);
        signal(server.service.pid(), "HUP");
        // Both files of one round, or of another: never one of each once this round's are there.
        loop {
            let got = http.get(path);
            assert_eq!(got.status, 200);
            let (has_run, has_name) = (
                got.text().contains(&format!("runcmd: [\"{run}\"]")),
                got.text().contains(&format!("hostname: {run}")),
            );
            if has_name {
                assert!(has_run, "{}", got.text());
                break;
            }
        }
    }
}
