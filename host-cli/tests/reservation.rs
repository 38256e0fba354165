//! `bootjack reservation` as a person runs it, against a server of the contract that lives in this process.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use bootjack_api::v1::reservation::Source;
use bootjack_api::v1::reservations_server::{Reservations, ReservationsServer};
use bootjack_api::v1::{
    BatchCreateReservationsRequest, BatchCreateReservationsResponse, CreateReservationRequest,
    DeleteReservationRequest, GetReservationRequest, ListReservationsRequest,
    ListReservationsResponse, Reservation, UpdateReservationRequest, WatchReservationsRequest,
    WatchReservationsResponse,
};
use serde_json::{Value, json};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

/// A catalog in memory that keeps the contract as far as the CLI can tell.
#[derive(Clone, Default)]
struct Fake {
    by_name: Arc<Mutex<BTreeMap<String, Reservation>>>,
    updates: Arc<Mutex<Vec<UpdateReservationRequest>>>,
}

impl Fake {
    fn find(&self, name: &str) -> Result<Reservation, Status> {
        let name = if name.contains('/') {
            name.to_owned()
        } else {
            format!("reservations/{name}")
        };
        let found = self.by_name.lock().unwrap().get(&name).cloned();
        let id = name.trim_start_matches("reservations/");
        found.ok_or_else(|| Status::not_found(format!("there is no reservation {id}")))
    }
}

#[tonic::async_trait]
impl Reservations for Fake {
    async fn create_reservation(
        &self,
        request: Request<CreateReservationRequest>,
    ) -> Result<Response<Reservation>, Status> {
        let CreateReservationRequest {
            reservation,
            reservation_id,
            ..
        } = request.into_inner();
        let mut made = reservation.unwrap();
        if !made.mac.contains(':') {
            return Err(Status::invalid_argument(format!(
                "mac: `{}` is no MAC address",
                made.mac
            )));
        }
        let mac = made.mac.replace(':', "-");
        let id = [reservation_id, made.hostname.clone(), mac]
            .into_iter()
            .find(|id| !id.is_empty());
        made.name = format!("reservations/{}", id.unwrap());
        let mut all = self.by_name.lock().unwrap();
        if let Some(other) = all
            .values()
            .find(|r| r.address == made.address && !r.address.is_empty())
        {
            let text = format!(
                "address {} already belongs to {}",
                made.address, other.hostname
            );
            return Err(Status::already_exists(text));
        }
        made.etag = "1".to_owned();
        made.create_time = Some("2026-08-01T10:00:00Z".parse().unwrap());
        made.update_time = made.create_time;
        made.set_source(Source::Api);
        all.insert(made.name.clone(), made.clone());
        Ok(Response::new(made))
    }

    async fn batch_create_reservations(
        &self,
        _request: Request<BatchCreateReservationsRequest>,
    ) -> Result<Response<BatchCreateReservationsResponse>, Status> {
        Err(Status::unimplemented("no batches"))
    }

    type WatchReservationsStream = tokio_stream::Empty<Result<WatchReservationsResponse, Status>>;

    async fn watch_reservations(
        &self,
        _request: Request<WatchReservationsRequest>,
    ) -> Result<Response<Self::WatchReservationsStream>, Status> {
        Err(Status::unimplemented("no watch"))
    }

    async fn get_reservation(
        &self,
        request: Request<GetReservationRequest>,
    ) -> Result<Response<Reservation>, Status> {
        self.find(&request.into_inner().name).map(Response::new)
    }

    /// Pages of two.
    async fn list_reservations(
        &self,
        request: Request<ListReservationsRequest>,
    ) -> Result<Response<ListReservationsResponse>, Status> {
        let from: usize = request.into_inner().page_token.parse().unwrap_or(0);
        let all = self.by_name.lock().unwrap();
        let reservations: Vec<_> = all.values().skip(from).take(2).cloned().collect();
        let more = from + 2 < all.len();
        let next_page_token = if more {
            (from + 2).to_string()
        } else {
            String::new()
        };
        Ok(Response::new(ListReservationsResponse {
            reservations,
            next_page_token,
            ..Default::default()
        }))
    }

    async fn update_reservation(
        &self,
        request: Request<UpdateReservationRequest>,
    ) -> Result<Response<Reservation>, Status> {
        let request = request.into_inner();
        self.updates.lock().unwrap().push(request.clone());
        let wanted = request.reservation.unwrap();
        let mut current = self.find(&wanted.name)?;
        if !wanted.etag.is_empty() && wanted.etag != current.etag {
            return Err(Status::aborted(
                "node-1 was changed meanwhile; get it and try again",
            ));
        }
        for path in request.update_mask.unwrap().paths {
            match path.as_str() {
                "mac" => current.mac = wanted.mac.clone(),
                "address" => current.address = wanted.address.clone(),
                "hostname" => current.hostname = wanted.hostname.clone(),
                "profile" => current.profile = wanted.profile.clone(),
                "vars" => current.vars = wanted.vars.clone(),
                other => return Err(Status::invalid_argument(other)),
            }
        }
        current.etag.push('1');
        self.by_name
            .lock()
            .unwrap()
            .insert(current.name.clone(), current.clone());
        Ok(Response::new(current))
    }

    async fn delete_reservation(
        &self,
        request: Request<DeleteReservationRequest>,
    ) -> Result<Response<()>, Status> {
        let found = self.find(&request.into_inner().name)?;
        if found.hostname == "gateway" {
            let text = "gateway comes from bootjackd.toml; edit it there";
            return Err(Status::failed_precondition(text));
        }
        self.by_name.lock().unwrap().remove(&found.name);
        Ok(Response::new(()))
    }
}

/// The fake behind a unix socket, as long as this value lives.
struct Server {
    dir: tempfile::TempDir,
    fake: Fake,
    _runtime: tokio::runtime::Runtime,
}

struct Answer {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fake = Fake::default();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = {
            let _context = runtime.enter();
            tokio::net::UnixListener::bind(dir.path().join("api.sock")).unwrap()
        };
        let service = ReservationsServer::new(fake.clone());
        let router = tonic::transport::Server::builder().add_service(service);
        runtime.spawn(router.serve_with_incoming(UnixListenerStream::new(listener)));
        Self {
            dir,
            fake,
            _runtime: runtime,
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("api.sock")
    }

    fn run(&self, typed: &[&str]) -> Answer {
        run(&format!("unix:{}", self.socket().display()), typed)
    }

    /// Runs it and wants it to work.
    fn ok(&self, typed: &[&str]) -> String {
        let answer = self.run(typed);
        assert_eq!(answer.code, Some(0), "{typed:?}: {}", answer.stderr);
        answer.stdout
    }

    fn json(&self, typed: &[&str]) -> Value {
        let typed = [typed, &["--output", "json"]].concat();
        serde_json::from_str(&self.ok(&typed)).unwrap()
    }
}

fn run(server: &str, typed: &[&str]) -> Answer {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootjack"));
    command
        .env("BOOTJACK_SERVER", server)
        .arg("reservation")
        .args(typed);
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Answer {
        code: status.code(),
        stdout: text(stdout),
        stderr: text(stderr),
    }
}

const NODE_1: [&str; 9] = [
    "create",
    "--mac",
    "52:54:00:00:00:01",
    "--address",
    "198.18.0.10",
    "--hostname",
    "node-1",
    "--profile",
    "debian-12",
];

#[test]
fn a_reservation_is_made_shown_listed_and_deleted() {
    let server = Server::start();
    let made = server.ok(&[&NODE_1[..], &["--var", "ssh_key=ssh-ed25519 AAAA me"]].concat());
    assert_eq!(
        made,
        "created reservations/node-1: 52:54:00:00:00:01 → 198.18.0.10, profile debian-12\n"
    );
    assert_eq!(
        server.ok(&["list"]),
        "NAME    MAC                ADDRESS      HOSTNAME  PROFILE    SOURCE\n\
         node-1  52:54:00:00:00:01  198.18.0.10  node-1    debian-12  api\n"
    );
    let shown = server.ok(&["get", "node-1"]);
    assert!(
        shown.contains("\nvars\n  ssh_key = \"ssh-ed25519 AAAA me\"\n"),
        "{shown}"
    );
    assert_eq!(server.ok(&["delete", "node-1"]), "deleted node-1\n");
    let answer = server.run(&["list"]);
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(0), ""));
    assert!(
        answer
            .stderr
            .starts_with("no reservations; make one with: "),
        "{}",
        answer.stderr
    );
}

#[test]
fn json_has_every_key_always() {
    let server = Server::start();
    server.ok(&[
        "create",
        "--mac",
        "52:54:00:00:00:02",
        "--var-json",
        "disks=[\"vda\"]",
        "--var-json",
        "vlan=12",
    ]);
    assert_eq!(
        server.json(&["list"]),
        json!({ "reservations": [{
            "name": "reservations/52-54-00-00-00-02",
            "id": "52-54-00-00-00-02",
            "mac": "52:54:00:00:00:02",
            "macs": [],
            "client_ids": [],
            "uuids": [],
            "circuit_ids": [],
            "address": null,
            "hostname": null,
            "profile": null,
            "labels": {},
            "vars": { "disks": ["vda"], "vlan": 12 },
            "options": {},
            "program": null,
            "local_boot": null,
            "operation": null,
            "etag": "1",
            "source": "api",
            "create_time": "2026-08-01T10:00:00Z",
            "update_time": "2026-08-01T10:00:00Z",
        }] })
    );
    assert_eq!(
        server.json(&["get", "52-54-00-00-00-02"])["vars"]["vlan"],
        json!(12)
    );
    assert_eq!(
        server.json(&["delete", "52-54-00-00-00-02"]),
        json!({ "deleted": ["52-54-00-00-00-02"] })
    );
    assert_eq!(server.json(&["list"]), json!({ "reservations": [] }));
}

#[test]
fn a_list_follows_its_pages_to_the_end() {
    let server = Server::start();
    for n in 1..=5 {
        server.ok(&[
            "create",
            "--mac",
            &format!("52:54:00:00:00:0{n}"),
            "--hostname",
            &format!("node-{n}"),
        ]);
    }
    let list = server.json(&["list"]);
    let ids: Vec<&str> = list["reservations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["node-1", "node-2", "node-3", "node-4", "node-5"]);
}

#[test]
fn an_update_changes_what_is_given_and_keeps_the_rest() {
    let server = Server::start();
    server.ok(&[&NODE_1[..], &["--var", "a=1", "--var", "b=2"]].concat());
    server.ok(&["update", "node-1", "--address", "", "--profile", "tiny"]);
    let mask = server.fake.updates.lock().unwrap()[0]
        .update_mask
        .clone()
        .unwrap();
    assert_eq!(mask.paths, ["address", "profile"]);
    server.ok(&[
        "update",
        "node-1",
        "--var",
        "b=3",
        "--var",
        "c=4",
        "--unset-var",
        "a",
    ]);
    let now = server.json(&["get", "node-1"]);
    assert_eq!(now["address"], Value::Null);
    assert_eq!(
        (&now["hostname"], &now["profile"]),
        (&json!("node-1"), &json!("tiny"))
    );
    assert_eq!(now["vars"], json!({ "b": "3", "c": "4" }));
    let changed = server.fake.updates.lock().unwrap()[1]
        .reservation
        .clone()
        .unwrap();
    assert_eq!(
        changed.etag, "11",
        "variables are replaced as a whole, so only those that were read"
    );

    let answer = server.run(&["update", "node-1", "--profile", "x", "--etag", "1"]);
    assert_eq!(answer.code, Some(5));
    assert_eq!(
        answer.stderr,
        "bootjack: node-1 was changed meanwhile; get it and try again\n"
    );
}

#[test]
fn variables_come_from_a_file_and_flags_win() {
    let server = Server::start();
    let file = server.dir.path().join("vars.json");
    std::fs::write(&file, r#"{"site":"lab","disks":2}"#).unwrap();
    let file = file.to_str().unwrap();
    server.ok(&[&NODE_1[..], &["--vars-file", file, "--var", "site=hall"]].concat());
    assert_eq!(
        server.json(&["get", "node-1"])["vars"],
        json!({ "site": "hall", "disks": 2 })
    );

    std::fs::write(file, "[1]").unwrap();
    let answer = server.run(&["create", "--mac", "52:54:00:00:00:09", "--vars-file", file]);
    assert_eq!(answer.code, Some(3));
    assert_eq!(
        answer.stderr,
        format!("bootjack: {file}: wanted a JSON object, got another value\n")
    );
}

#[test]
fn the_exit_status_tells_what_went_wrong_and_the_server_why() {
    let server = Server::start();
    server.ok(&NODE_1);
    server.ok(&[
        "create",
        "--mac",
        "52:54:00:00:00:fe",
        "--hostname",
        "gateway",
    ]);
    for (typed, code, sentence) in [
        (
            &["create", "--mac", "nonsense"][..],
            3,
            "mac: `nonsense` is no MAC address",
        ),
        (
            &[
                "create",
                "--mac",
                "52:54:00:00:00:03",
                "--address",
                "198.18.0.10",
            ],
            5,
            "address 198.18.0.10 already belongs to node-1",
        ),
        (&["get", "node-9"], 4, "there is no reservation node-9"),
        (
            &["delete", "gateway"],
            5,
            "gateway comes from bootjackd.toml; edit it there",
        ),
        (
            &[
                "create",
                "--mac",
                "52:54:00:00:00:03",
                "--var",
                "a=1",
                "--var",
                "a=2",
            ],
            2,
            "variable a is given twice; name it once",
        ),
    ] {
        let answer = server.run(typed);
        assert_eq!(
            answer.stderr,
            format!("bootjack: {sentence}\n"),
            "{typed:?}"
        );
        assert_eq!(
            (answer.code, answer.stdout.as_str()),
            (Some(code), ""),
            "{typed:?}"
        );
    }
}

#[test]
fn one_name_that_fails_does_not_keep_the_others_from_being_deleted() {
    let server = Server::start();
    server.ok(&NODE_1);
    let answer = server.run(&["delete", "node-8", "node-1", "node-9"]);
    assert_eq!(answer.code, Some(4));
    assert_eq!(answer.stdout, "deleted node-1\n");
    assert_eq!(
        answer.stderr,
        "bootjack: there is no reservation node-8\nbootjack: there is no reservation node-9\n"
    );
}

#[test]
fn a_server_that_is_not_there_is_one_sentence_with_the_next_step() {
    let answer = run("unix:/nowhere/api.sock", &["list"]);
    assert_eq!(answer.code, Some(11));
    assert_eq!(
        answer.stderr,
        "bootjack: cannot reach bootjackd at unix:/nowhere/api.sock: no such file or directory; \
         start bootjackd, or say with --server (or BOOTJACK_SERVER) where it listens\n"
    );
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let answer = run(&format!("127.0.0.1:{port}"), &["list"]);
    assert_eq!(answer.code, Some(11));
    assert_eq!(
        answer.stderr,
        format!(
            "bootjack: cannot reach bootjackd at 127.0.0.1:{port}: connection refused; \
             start bootjackd, or see `grpc.listen` in its bootjackd.toml for the address\n"
        )
    );
}

#[test]
fn a_flag_that_would_be_ignored_is_a_usage_error() {
    let bootjack = || Command::new(env!("CARGO_BIN_EXE_bootjack"));
    let output = bootjack()
        .args(["--output", "json", "completion", "bash"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("--output has no meaning for `bootjack completion`"),
        "{stderr}"
    );
    let output = bootjack().output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn every_shell_has_a_completion_script() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bootjack"));
        let output = command.args(["completion", shell]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{shell}");
        let script = String::from_utf8(output.stdout).unwrap();
        for verb in ["reservation", "lease", "import", "apply"] {
            assert!(script.contains(verb), "{shell}: {verb}");
        }
    }
}

#[test]
fn every_verb_has_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootjack"));
    let output = command.arg("man").arg(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for page in ["bootjack.1", "bootjack-import.1", "bootjack-lease-watch.1"] {
        let page = std::fs::read_to_string(dir.path().join(page)).unwrap();
        assert!(page.contains(".SH NAME"), "{page}");
    }
    let import = std::fs::read_to_string(dir.path().join("bootjack-import.1")).unwrap();
    assert!(import.contains("skip\\-invalid"), "{import}");
}
