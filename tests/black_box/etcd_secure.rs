//! A whole service on an etcd that lets in nobody without a certificate and a password: it serves and keeps, and where one of the
//! two is wrong it does not start and says which.

use std::path::PathBuf;

use crate::support::api::{Api, node};
use crate::support::dhcp::{ACK, Packet, Segment, mac};
use crate::support::etcd::{Etcd, certificates, with_tls};
use crate::support::netns::Netns;
use crate::support::service::{Home, Service, program};

struct Lab {
    home: Home,
    etcd: Etcd,
    segment: Segment,
    server: Netns,
}

impl Lab {
    fn new() -> Self {
        let (server, segment) = Segment::new();
        let home = Home::new();
        let mut made = None;
        let etcd = Etcd::start_with(&server, |dir| {
            made = Some(certificates(dir));
            with_tls(dir)
        });
        let (ca, (certificate, key)) = made.expect("made");
        home.write("etcd-ca.pem", ca);
        home.write("etcd.pem", certificate);
        home.write("etcd.key", key);
        home.write("etcd-password", "secret\n");
        let lab = Self {
            home,
            etcd,
            segment,
            server,
        };
        for command in [
            "user add root:rootpw",
            "role add root",
            "user grant-role root root",
            "user add bootjack:secret",
            "role add bootjack",
            "role grant-permission bootjack --prefix=true readwrite bootjack/",
            "user grant-role bootjack bootjack",
            "auth enable",
        ] {
            lab.ctl(&command.split(' ').collect::<Vec<_>>());
        }
        lab
    }

    fn file(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    /// etcdctl with the client's certificate.
    fn ctl(&self, arguments: &[&str]) -> String {
        let (ca, cert, key) = ("etcd-ca.pem", "etcd.pem", "etcd.key");
        let (ca, cert, key) = (self.file(ca), self.file(cert), self.file(key));
        let shown = ["--cacert", &ca, "--cert", &cert, "--key", &key];
        self.etcd.ctl(&[&shown, arguments].concat())
    }

    fn config(&self, ca: &str, password: &str) -> String {
        self.home.config(&format!(
            "[store]\nbackend = \"etcd\"\n[store.etcd]\nendpoints = [\"{}\"]\nca = \"{}\"\ncert = \"{}\"\nkey = \"{}\"\nuser = \"bootjack\"\npassword_file = \"{}\"\n",
            self.etcd.endpoint(),
            self.file(ca),
            self.file("etcd.pem"),
            self.file("etcd.key"),
            self.file(password),
        ))
    }

    /// Writes the configuration to a file of its own.
    fn written(&self, config: &str) -> PathBuf {
        self.home.write("bootjackd.toml", config)
    }
}

#[test]
fn with_certificate_and_password_it_serves_and_keeps_over_a_kill() {
    let lab = Lab::new();
    let config = lab.config("etcd-ca.pem", "etcd-password");
    let service = Service::start(&lab.server, &lab.home, &config);
    let api = Api::unix(&lab.home);
    api.create(node(20)).expect("created");
    let leased = lab.segment.acquire(mac(1)).yiaddr();
    drop(api);
    service.kill();
    let user = ["--user", "root:rootpw"];
    let keys = lab.ctl(&[&user[..], &["get", "--prefix", "--keys-only", ""]].concat());
    let keys: Vec<&str> = keys.lines().filter(|key| !key.is_empty()).collect();
    assert!(keys.len() > 2, "{keys:?}");
    assert!(
        keys.iter().all(|key| key.starts_with("bootjack/")),
        "{keys:?}"
    );

    let service = Service::start(&lab.server, &lab.home, &config);
    assert_eq!(Api::unix(&lab.home).names(), ["reservations/node-20"]);
    let ack = lab.segment.ask(&Packet::rebooting(mac(1), leased));
    assert_eq!((ack.kind(), ack.yiaddr()), (ACK, leased));
    assert!(service.terminate().0.success());
}

#[test]
fn a_wrong_password_a_foreign_authority_and_no_certificate_are_each_said_and_nothing_is_served() {
    let lab = Lab::new();
    lab.home.write("wrong-password", "wrong");
    let elsewhere = tempfile::tempdir().expect("a directory");
    let (foreign, _) = certificates(elsewhere.path());
    lab.home.write("foreign-ca.pem", foreign);

    let config = lab.written(&lab.config("etcd-ca.pem", "wrong-password"));
    let mut serve = lab.server.command(program());
    serve.args(["serve", "--config"]).arg(&config);
    let refused = serve.output().expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("authentication failed"), "{said}");
    assert!(
        !said.contains("wrong\n") && !said.contains("secret"),
        "{said}"
    );

    // Whoever is at the other end may become the right one: it is asked again, and nothing is served meanwhile.
    let untrusted = lab.config("foreign-ca.pem", "etcd-password");
    let service = Service::spawn(&lab.server, &lab.home, &untrusted);
    let told = service.wait_for("failed", |line| line["about"] == "store");
    let error = told["error"].as_str().unwrap_or_default();
    assert!(
        error.starts_with("nothing is served before etcd answers: "),
        "{error}"
    );
    assert!(error.to_lowercase().contains("certificate"), "{error}");
    assert!(!service.log().iter().any(|line| line["message"] == "ready"));
    let (ended, _) = service.terminate();
    assert!(ended.success(), "it stops while it waits");
}

#[test]
fn store_commands_say_that_the_store_is_in_etcd() {
    let home = Home::new();
    let config = home.config(
        "[store]\nbackend = \"etcd\"\n[store.etcd]\nendpoints = [\"http://192.0.2.10:2379\"]\n",
    );
    let config = home.write("bootjackd.toml", config);
    for verb in [&["verify"][..], &["repair"], &["export"], &["backup", "x"]] {
        let mut command = std::process::Command::new(program());
        command.arg("store").args(verb).arg("--config").arg(&config);
        let refused = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(
            said.contains("store.backend is \"etcd\" (http://192.0.2.10:2379)")
                && said.contains("etcdctl snapshot save")
                && said.contains("--data-dir"),
            "{said}"
        );
    }
    assert!(!home.path().join("data").exists(), "nothing was made");
}
