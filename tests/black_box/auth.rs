//! Who may use gRPC: certificates, tokens, users of this machine, and strangers.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use bootjack_api::access::{Scope, Token, client_uri, write_line};
use bootjack_api::v1;
use bootjack_api::v1::machines_client::MachinesClient;
use bootjack_api::v1::reservations_client::ReservationsClient;
use bootjack_api::v1::server_client::ServerClient;
use prost::Message as _;
use serde_json::Value;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::api::{self, Api};
use crate::support::auth::{Authority, Proof, TLS, bootjack};
use crate::support::netns::{Netns, server_and_client};
use crate::support::service::{Home, Service};

struct Lab {
    authority: Authority,
    service: Service,
    client: Netns,
    home: Home,
    _server: Netns,
}

impl Lab {
    fn new(more: &str) -> Self {
        let (server, client) = server_and_client("52:54:00:00:00:01");
        client.ip(&["address", "replace", "198.18.0.10/24", "dev", "eth0"]);
        let home = Home::new();
        let authority = Authority::new(&home);
        let config = authority.config(&home, more);
        let service = Service::start(&server, &home, &config);
        Self {
            authority,
            service,
            client,
            home,
            _server: server,
        }
    }

    fn ask(&self, proof: &Proof, words: &[&str]) -> (Option<i32>, String, String) {
        self.authority.ask(&self.client, proof, words)
    }

    /// Asks for a list and is refused; the sentence.
    fn is_refused(&self, proof: &Proof) -> String {
        let (status, out, err) = self.ask(proof, &["reservation", "list"]);
        assert_eq!((status, out.as_str()), (Some(6), ""), "{err}");
        err
    }

    fn is_answered(&self, proof: &Proof) {
        let (status, _, err) = self.ask(proof, &["reservation", "list"]);
        assert_eq!(status, Some(0), "{err}");
    }

    /// Over TLS with this client's certificate.
    fn api(&self, name: Option<&str>) -> Api {
        let certificate = name.map(|name| self.authority.client(name));
        Api::tls(&self.client, TLS, &self.authority.ca(), certificate)
    }
}

#[test]
fn each_scope_may_what_it_is_for_and_nothing_more() {
    let lab = Lab::new("");
    for scope in ["read", "reserve", "admin"] {
        lab.authority.certificate(scope, scope);
        lab.authority.token(&format!("t-{scope}"), scope);
    }
    let made = ["--mac", "52:54:00:00:00:02", "--hostname", "node-2"];
    let create = [&["reservation", "create"][..], &made].concat();
    let delete = ["reservation", "delete", "node-2"];
    for (may_write, may_admin, scope) in [
        (false, false, "read"),
        (true, false, "reserve"),
        (true, true, "admin"),
    ] {
        let token = format!("t-{scope}");
        for proof in [
            Proof::Certificate(&lab.authority, scope),
            Proof::Token(&token),
        ] {
            lab.is_answered(&proof);
            for words in [&create[..], &delete[..]] {
                let (status, _, err) = lab.ask(&proof, words);
                match may_write {
                    true => assert_eq!(status, Some(0), "{scope}: {err}"),
                    false => {
                        assert_eq!(status, Some(6), "{scope}: {err}");
                        assert!(err.contains("needs scope reserve"), "{err}");
                    }
                }
            }
        }
        let api = lab.api(Some(scope));
        let seen = api.with(async |channel| {
            ServerClient::new(channel)
                .get_effective_config(v1::GetEffectiveConfigRequest {})
                .await
        });
        let code = seen.err().map_or(Code::Ok, |status| status.code());
        assert_eq!(
            code != Code::PermissionDenied,
            may_admin,
            "{scope}: {code:?}"
        );
    }
    // What a client is told, for programs.
    let api = lab.api(Some("read"));
    let status = api.delete("node-1", "").expect_err("it may only read");
    assert_eq!(status.code(), Code::PermissionDenied);
    let info = status.get_details_error_info().expect("it is there");
    assert_eq!(
        (info.reason.as_str(), info.domain.as_str()),
        ("SCOPE_INSUFFICIENT", "bootjack")
    );
    assert_eq!(
        (
            info.metadata["needs"].as_str(),
            info.metadata["has"].as_str()
        ),
        ("reserve", "read")
    );
}

#[test]
fn certificates_that_are_expired_foreign_revoked_or_no_clients_are_told_so() {
    let lab = Lab::new("");
    let authority = &lab.authority;
    let serial = authority.certificate("ci", "admin");
    lab.is_answered(&Proof::Certificate(authority, "ci"));

    let other = Authority::below(lab.home.path(), "other");
    other.certificate("mallory", "admin");
    let said = lab.is_refused(&Proof::Certificate(&other, "mallory"));
    assert!(said.contains("signed by another authority"), "{said}");

    write_certificate(
        authority,
        "late",
        Some(client_uri("late", Scope::Admin)),
        -1,
    );
    let said = lab.is_refused(&Proof::Certificate(authority, "late"));
    assert!(said.contains("expired on 20"), "{said}");

    write_certificate(authority, "nobody", None, 1);
    let said = lab.is_refused(&Proof::Certificate(authority, "nobody"));
    assert!(said.contains("names no client and scope"), "{said}");

    // A connection that runs: its next call is refused at once, and its stream ends.
    let api = lab.api(Some("ci"));
    assert_eq!(api.names(), Vec::<String>::new());
    let watching = api.with(async |channel| {
        let request = v1::WatchEventsRequest {
            follow: true,
            ..Default::default()
        };
        let stream = MachinesClient::new(channel).watch_events(request).await;
        stream.expect("it may").into_inner()
    });
    authority.auth(&["revoke", &serial]);
    let status = api.page(0, "").expect_err("it is revoked");
    let info = status.get_details_error_info().expect("it is there");
    assert_eq!(
        (status.code(), info.reason.as_str()),
        (Code::Unauthenticated, "CERTIFICATE_REVOKED")
    );
    let mut watching = watching;
    let ended = api.with(async |_| {
        loop {
            match watching.message().await {
                Ok(Some(_)) => {}
                ended => return ended,
            }
        }
    });
    assert!(ended.is_err(), "the stream was cut");
    let said = lab.is_refused(&Proof::Certificate(authority, "ci"));
    assert!(said.contains("is revoked"), "{said}");
    assert!(
        lab.is_refused(&Proof::Nothing)
            .contains("neither a client's certificate nor a token")
    );

    let list = authority.json(&["list"]);
    let state = |name: &str| {
        let entries = list.as_array().expect("a list").iter();
        let found = entries.filter(|entry| entry["name"] == name);
        found
            .map(|entry| entry["state"].clone())
            .collect::<Vec<Value>>()
    };
    assert_eq!(state("ci"), ["revoked"]);
    assert_eq!(state("authority"), ["good"]);
}

#[test]
fn connections_end_with_the_authority_that_signed_for_them() {
    let lab = Lab::new("");
    let authority = &lab.authority;
    authority.certificate("ci", "admin");
    let (ca, service) = (lab.authority.ca(), authority.service().join("ca.pem"));
    let (old, other) = (
        std::fs::read_to_string(&service).expect("there"),
        Authority::below(lab.home.path(), "other"),
    );
    let new = std::fs::read_to_string(other.ca()).expect("there");
    assert_eq!(std::fs::read_to_string(ca).expect("there"), old);
    let api = lab.api(Some("ci"));
    let mut watching = api.with(async |channel| {
        let request = v1::WatchEventsRequest {
            follow: true,
            ..Default::default()
        };
        let stream = MachinesClient::new(channel).watch_events(request).await;
        stream.expect("it may").into_inner()
    });
    // One that is joined by another still counts.
    std::fs::write(&service, format!("{old}{new}")).expect("written");
    assert_eq!(api.names(), Vec::<String>::new());
    std::fs::write(&service, new).expect("written");
    let status = api.page(0, "").expect_err("it is another's");
    let info = status.get_details_error_info().expect("it is there");
    assert_eq!(
        (status.code(), info.reason.as_str()),
        (Code::Unauthenticated, "CERTIFICATE_FOREIGN")
    );
    let ended = api.with(async |_| {
        loop {
            match watching.message().await {
                Ok(Some(_)) => {}
                ended => return ended,
            }
        }
    });
    assert!(ended.is_err(), "the stream was cut");
}

/// One that `bootjack auth` would not make: over since yesterday, or with no URI.
fn write_certificate(authority: &Authority, name: &str, uri: Option<String>, days: i64) {
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
    let read = |file: &str| std::fs::read_to_string(authority.dir.join(file)).expect("there");
    let key = KeyPair::from_pem(&read("ca.key")).expect("a key");
    let issuer = Issuer::from_ca_cert_pem(&read("ca.pem"), key).expect("an authority");
    let mut params = CertificateParams::default();
    let uris = uri.map(|uri| SanType::URI(uri.as_str().try_into().expect("ASCII")));
    params.subject_alt_names = uris.into_iter().collect();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let now = std::time::SystemTime::now();
    let day = Duration::from_secs(86_400);
    params.not_before = (now - day * 2).into();
    params.not_after = match days < 0 {
        true => (now - day).into(),
        false => (now + day).into(),
    };
    let own = KeyPair::generate().expect("a key");
    let signed = params.signed_by(&own, &issuer).expect("signed");
    let (certificate_file, key_file) = authority.client(name);
    std::fs::write(certificate_file, signed.pem()).expect("written");
    std::fs::write(key_file, own.serialize_pem()).expect("written");
}

#[test]
fn tokens_that_are_missing_wrong_expired_or_revoked_are_told_so() {
    let lab = Lab::new("");
    let (id, token) = lab.authority.token("ci", "reserve");
    lab.is_answered(&Proof::Token("ci"));
    let write = |name: &str, token: &str| {
        std::fs::write(lab.authority.token_file(name), token).expect("written");
    };
    let (most, last) = token.split_at(token.len() - 1);
    let other = if last == "0" { "1" } else { "0" };
    write("wrong", &format!("{most}{other}"));
    write("short", "bj_");
    for name in ["wrong", "short"] {
        let said = lab.is_refused(&Proof::Token(name));
        assert!(said.contains("the token is unknown here"), "{said}");
        assert!(
            !said.contains(&token[..20]),
            "a token is not repeated: {said}"
        );
    }
    // As bootjack auth writes it, and over since 1970.
    let tokens = lab.authority.service().join("tokens");
    let mut text = std::fs::read_to_string(&tokens).expect("there");
    assert!(!text.contains(&token), "tokens are hashed at rest");
    text += &write_line(&Token {
        id: "t-old".into(),
        name: "old".into(),
        scope: Scope::Admin,
        sha256: sha256("bj_old"),
        created: 0,
        expires: 1,
    });
    std::fs::write(&tokens, text).expect("written");
    write("old", "bj_old");
    let said = lab.is_refused(&Proof::Token("old"));
    assert!(said.contains("the token expired on 1970-01-01"), "{said}");

    lab.authority.auth(&["revoke", &id]);
    let said = lab.is_refused(&Proof::Token("ci"));
    assert!(said.contains(&id) && said.contains("is revoked"), "{said}");

    // A list that is broken is said, and the one before it holds.
    std::fs::write(&tokens, "bj_whatever\n").expect("written");
    assert!(lab.is_refused(&Proof::Token("ci")).contains("is revoked"));
    let line = lab
        .service
        .wait_for("failed", |line| line["about"] == "grpc");
    let error = line["error"].as_str().unwrap_or_default();
    assert!(
        error.contains("tokens: line 1") && !error.contains("bj_"),
        "{error}"
    );
}

/// By another program than ours.
fn sha256(text: &str) -> String {
    let mut sum = Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("coreutils");
    let mut stdin = sum.stdin.take().expect("piped");
    stdin.write_all(text.as_bytes()).expect("written");
    drop(stdin);
    let output = sum.wait_with_output().expect("it ends").stdout;
    let output = String::from_utf8(output).expect("text");
    output.split(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn every_write_is_noted_with_who_made_it_and_what_became_of_it_and_no_secret() {
    let (server, client) = server_and_client("52:54:00:00:00:01");
    client.ip(&["address", "replace", "198.18.0.10/24", "dev", "eth0"]);
    let home = Home::new();
    let authority = Authority::new(&home);
    let log = home.path().join("audit.log");
    let more = format!("audit_log = \"{}\"", log.display());
    let config = authority.config(&home, &more);
    let service = Service::start(&server, &home, &config);
    authority.certificate("ci", "reserve");
    let (_, token) = authority.token("viewer", "read");
    let ci = Proof::Certificate(&authority, "ci");
    let create = [
        "reservation",
        "create",
        "--mac",
        "52:54:00:00:00:02",
        "--hostname",
        "node-2",
        "--var",
        "password=hunter2",
    ];
    assert_eq!(authority.ask(&client, &ci, &create).0, Some(0));
    let delete = ["reservation", "delete", "node-2"];
    assert_eq!(
        authority.ask(&client, &Proof::Token("viewer"), &delete).0,
        Some(6)
    );
    assert_eq!(authority.ask(&client, &Proof::Nothing, &delete).0, Some(6));
    Api::unix(&home)
        .delete("reservations/node-2", "")
        .expect("root may");

    let text = std::fs::read_to_string(&log).expect("it is there");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let told: Vec<[&str; 3]> = (lines.iter())
        .map(|line| {
            ["who", "resource", "outcome"].map(|key| line[key].as_str().unwrap_or_default())
        })
        .collect();
    assert_eq!(
        told,
        [
            ["certificate ci", "reservations/node-2", "OK"],
            ["token viewer", "", "PERMISSION_DENIED"],
            ["stranger", "", "UNAUTHENTICATED"],
            ["uid 0", "reservations/node-2", "OK"],
        ]
    );
    assert!(
        lines[0]["from"]
            .as_str()
            .is_some_and(|from| from.starts_with("198.18.0.10:"))
    );
    assert!(
        lines[0]["revision"].is_string() && lines[0]["request_id"].is_string(),
        "{}",
        lines[0]
    );
    assert_eq!(
        lines[3]["method"],
        "bootjack.v1.Reservations/DeleteReservation"
    );
    for line in &lines {
        service.wait_for("audited", |logged| {
            logged["who"] == line["who"] && logged["outcome"] == line["outcome"]
        });
    }
    let mode = std::fs::metadata(&log).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let all = service
        .log()
        .iter()
        .map(Value::to_string)
        .collect::<String>()
        + &text;
    assert!(
        !all.contains(&token) && !all.contains("hunter2"),
        "no secret is logged"
    );
}

#[test]
fn a_message_that_is_too_large_is_refused_and_ten_thousand_reservations_are_not() {
    let lab = Lab::new("");
    lab.authority.certificate("ci", "reserve");
    let api = lab.api(Some("ci"));
    let many: Vec<_> = (0..10_000_u32)
        .map(|n| v1::CreateReservationRequest {
            reservation: Some(v1::Reservation {
                mac: format!(
                    "52:54:00:{:02x}:{:02x}:{:02x}",
                    n >> 16,
                    n >> 8 & 0xff,
                    n & 0xff
                ),
                hostname: format!("a-machine-with-a-long-name-in-a-large-rack-{n}"),
                vars: [("ssh_key".to_owned(), api::text(&"k".repeat(800)))].into(),
                labels: [("rack".to_owned(), "r".repeat(60))].into(),
                ..api::node(1)
            }),
            ..Default::default()
        })
        .collect();
    let batch = v1::BatchCreateReservationsRequest {
        requests: many,
        ..Default::default()
    };
    let size = batch.encoded_len();
    assert!(size > 9 << 20, "{size}");
    let refused = |batch: v1::BatchCreateReservationsRequest| {
        let answer = api.with(async |channel| {
            ReservationsClient::new(channel)
                .batch_create_reservations(batch)
                .await
        });
        answer.expect_err("all of them have one address")
    };
    let status = refused(batch.clone());
    assert_ne!(
        status.code(),
        Code::ResourceExhausted,
        "{size} octets fit: {status}"
    );
    let twice = v1::BatchCreateReservationsRequest {
        requests: [&batch.requests[..], &batch.requests[..]].concat(),
        ..batch
    };
    let status = refused(twice);
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("too large"), "{status}");
    assert_eq!(api.names(), Vec::<String>::new(), "nothing has changed");
}

#[test]
fn a_flood_of_connections_without_a_handshake_keeps_nobody_out() {
    let lab = Lab::new("");
    lab.authority.certificate("ci", "reserve");
    let api = lab.api(Some("ci"));
    let mut flood: Vec<TcpStream> = Vec::new();
    for last in 20..40 {
        let address = format!("198.18.0.{last}");
        lab.client.ip(&[
            "address",
            "replace",
            &format!("{address}/24"),
            "dev",
            "eth0",
        ]);
        for _ in 0..40 {
            flood.extend(api::connect_from(&lab.client, &address, TLS));
        }
    }
    assert!(flood.len() > 600, "{}", flood.len());
    // Whoever was there is served, and who comes now as well.
    assert_eq!(api.names(), Vec::<String>::new());
    lab.is_answered(&Proof::Certificate(&lab.authority, "ci"));
    api.create(api::node(2)).expect("it may");
    lab.service
        .wait_for("refused", |line| line["reason"] == "TOO_MANY_CONNECTIONS");
    // Of one address that goes on, the log tells a line a second and no more.
    let more = (0..300).map(|_| api::connect_from(&lab.client, "198.18.0.20", TLS));
    let more: Vec<_> = more.flatten().collect();
    lab.is_answered(&Proof::Certificate(&lab.authority, "ci"));
    let is_told = |line: &&serde_json::Value| {
        let from = line["from"].as_str().unwrap_or_default();
        line["message"] == "refused" && from.starts_with("198.18.0.20:")
    };
    let told = lab.service.log().iter().filter(is_told).count();
    assert!(
        told < more.len() / 2,
        "{told} lines for {} connections",
        more.len()
    );
}

#[test]
fn who_calls_too_often_is_told_when_to_come_back() {
    let lab = Lab::new("rate_limit = 5");
    lab.authority.certificate("loop", "read");
    lab.authority.certificate("calm", "read");
    let api = lab.api(Some("loop"));
    let refused = (0..500).find_map(|_| api.page(0, "").err());
    let status = refused.expect("one too many");
    assert_eq!(status.code(), Code::ResourceExhausted);
    let retry = status.get_details_retry_info().expect("it is there");
    assert!(
        retry
            .retry_delay
            .is_some_and(|wait| wait <= Duration::from_secs(1))
    );
    lab.is_answered(&Proof::Certificate(&lab.authority, "calm"));
    // The socket is not held to it.
    let local = Api::unix(&lab.home);
    assert!((0..100).all(|_| local.page(0, "").is_ok()));
}

#[test]
fn a_stranger_on_the_network_finds_no_grpc_unless_it_is_told_to_be_there() {
    let (server, client) = server_and_client("52:54:00:00:00:01");
    client.ip(&["address", "replace", "198.18.0.10/24", "dev", "eth0"]);
    let home = Home::new();
    let _service = Service::start(&server, &home, &home.config(""));
    let listening = server
        .command("ss")
        .args(["-Htln"])
        .output()
        .expect("iproute2");
    let listening = String::from_utf8(listening.stdout).expect("text");
    let places: Vec<&str> = listening
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3))
        .collect();
    assert_eq!(places, ["198.18.0.1:80"]);
    let mut stream = api::connect(&client, "198.18.0.1:80").expect("HTTP listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("it can be");
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        .expect("sent");
    let mut answer = Vec::new();
    // A reset is an answer too.
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    assert!(
        answer.is_empty() || text.starts_with("HTTP/1.1 4"),
        "{text}"
    );
}

#[test]
fn a_new_certificate_of_the_server_is_shown_without_a_restart() {
    let lab = Lab::new("");
    lab.authority.certificate("ci", "read");
    let ci = Proof::Certificate(&lab.authority, "ci");
    lab.is_answered(&ci);
    lab.authority
        .auth(&["init", "--server", "--name", "elsewhere.example"]);
    let said = lab.is_refused(&ci);
    assert!(said.contains("cannot trust bootjackd"), "{said}");
    lab.authority
        .auth(&["init", "--server", "--name", "198.18.0.1"]);
    lab.is_answered(&ci);
}

#[test]
fn users_of_this_machine_may_what_the_socket_and_its_group_let_them() {
    let (server, _client) = server_and_client("52:54:00:00:00:01");
    for group in [false, true] {
        let home = Home::new();
        std::fs::set_permissions(home.path(), PermissionsExt::from_mode(0o755)).expect("ours");
        let listen = format!("listen = \"{}\"", home.api());
        let more = match group {
            true => "\nsocket_group = \"60001\"\nsocket_scope = \"read\"",
            false => "",
        };
        let config = home.config("").replace(&listen, &format!("{listen}{more}"));
        let service = Service::start(&server, &home, &config);
        // A copy that anybody may run.
        let program = home.path().join("bootjack");
        std::fs::copy(bootjack(), &program).expect("copied");
        let as_user = |words: &[&str]| {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=60000", "--regid=60001", "--clear-groups"]);
            command
                .arg(&program)
                .args(["--server", &home.api()])
                .args(words);
            let output = command.output().expect("util-linux");
            (
                output.status.code(),
                String::from_utf8(output.stderr).expect("text"),
            )
        };
        let (status, err) = as_user(&["reservation", "list"]);
        match group {
            true => assert_eq!(status, Some(0), "{err}"),
            false => assert!(
                status == Some(6) && err.contains("permission denied"),
                "{err}"
            ),
        }
        if group {
            let (status, err) = as_user(&["reservation", "delete", "node-1"]);
            assert!(
                status == Some(6) && err.contains("uid 60000 has read"),
                "{err}"
            );
        }
        drop(service);
    }
}

#[test]
fn the_authority_is_not_replaced_and_what_is_no_name_is_not_signed() {
    let home = Home::new();
    let authority = Authority::new(&home);
    let again = authority.run(&["init", "--name", "198.18.0.1"]);
    assert_eq!(again.status.code(), Some(5), "{again:?}");
    for words in [
        ["issue", "--scope", "read", "--name", "../../etc/passwd"],
        ["issue", "--scope", "read", "--name", ""],
    ] {
        assert_eq!(authority.run(&words).status.code(), Some(3), "{words:?}");
    }
    let nobody = authority.run(&["revoke", "nobody"]);
    assert_eq!(nobody.status.code(), Some(4), "{nobody:?}");
    let scope = authority.run(&["issue", "--scope", "root", "--name", "ci"]);
    assert_eq!(scope.status.code(), Some(2), "{scope:?}");
    let mode = |file: &str| {
        let found = std::fs::metadata(authority.dir.join(file)).expect(file);
        found.permissions().mode() & 0o777
    };
    assert_eq!(
        (mode("."), mode("ca.key"), mode("service/server.key")),
        (0o700, 0o600, 0o600)
    );
}
