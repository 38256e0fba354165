//! HTTP over TLS with a real client, and files at a client's pace.

use std::fs;
use std::process::Output;

use crate::support::api;
use crate::support::netns::{Netns, server_and_client};
use crate::support::service::{Home, Service};

const NODE: &str = "[[reservation]]\nmac = \"52:54:00:00:00:01\"\naddress = \"198.18.0.10\"\nprofile = \"debian-12\"\n";

struct Lab {
    home: Home,
    service: Service,
    server: Netns,
    client: Netns,
}

impl Lab {
    /// A service whose `[http]` has these lines too; `{home}` in them is its directory.
    fn new(http: &str, prepare: impl FnOnce(&Home)) -> Self {
        let (server, client) = server_and_client("52:54:00:00:00:01");
        client.ip(&["address", "replace", "198.18.0.10/24", "dev", "eth0"]);
        let home = Home::new();
        prepare(&home);
        let http = http.replace("{home}", &home.path().display().to_string());
        let config = home
            .config(NODE)
            .replace("[http]\n", &format!("[http]\n{http}\n"));
        let service = Service::start(&server, &home, &config);
        Self {
            home,
            service,
            server,
            client,
        }
    }

    fn curl(&self, arguments: &[&str]) -> Output {
        let mut curl = self.client.command("curl");
        curl.args(["--silent", "--show-error", "--max-time", "60"]);
        curl.args(arguments).output().expect("ip runs")
    }
}

fn write_certificate(home: &Home) {
    let names = vec!["198.18.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    home.write("tls.pem", made.cert.pem());
    home.write("tls.key", made.signing_key.serialize_pem());
}

const TLS: &str = "tls = { listen = \"198.18.0.1:443\", certificate = \"{home}/tls.pem\", key = \"{home}/tls.key\" }";

#[test]
fn everything_of_http_is_there_over_tls_too_and_names_itself_so() {
    let lab = Lab::new(TLS, write_certificate);
    let certificate = lab.home.path().join("tls.pem").display().to_string();
    let script =
        "https://198.18.0.1/machines/52-54-00-00-00-01/boot.ipxe?arch=x86_64&firmware=uefi";
    let got = lab.curl(&["--cacert", &certificate, script]);
    let text = String::from_utf8_lossy(&got.stdout);
    assert!(
        got.status.success(),
        "{}",
        String::from_utf8_lossy(&got.stderr)
    );
    assert!(text.starts_with("#!ipxe\n"), "{text}");
    assert!(
        text.contains("https://198.18.0.1/") && !text.contains("http://"),
        "{text}"
    );
    // Who does not trust the certificate is told nothing, and who speaks no TLS neither.
    let distrust = lab.curl(&[script]);
    assert!(!distrust.status.success() && distrust.stdout.is_empty());
    let plain = lab.curl(&["http://198.18.0.1:443/healthz"]);
    assert!(!plain.status.success() && plain.stdout.is_empty());
    lab.service
        .wait_for("refused", |line| line["protocol"] == "https");
    let beside = api::get_from(&lab.server, "198.18.0.10", "/healthz");
    assert_eq!(beside.status, 200, "the plain one is there as before");
}

#[test]
fn a_certificate_that_is_none_is_said_at_start_with_its_place() {
    let (server, _client) = server_and_client("52:54:00:00:00:01");
    let home = Home::new();
    write_certificate(&home);
    home.write("tls.key", "not a key\n");
    let http = TLS.replace("{home}", &home.path().display().to_string());
    let config = home
        .config("")
        .replace("[http]\n", &format!("[http]\n{http}\n"));
    let (status, log) = Service::spawn(&server, &home, &config).wait();
    assert!(!status.success());
    let said = log.iter().map(ToString::to_string).collect::<String>();
    assert!(
        said.contains("http.tls.key") && said.contains("wanted a PEM file"),
        "{said}"
    );
}

#[test]
fn a_file_at_its_clients_pace_arrives_whole() {
    let content: Vec<u8> = (0..3_u32 << 20).map(|n| (n % 251) as u8).collect();
    let lab = Lab::new("rate_limit_mib = 2", |home| {
        fs::create_dir_all(home.path().join("http")).expect("made");
        fs::write(home.path().join("http/large"), &content).expect("written");
    });
    let got = lab.curl(&["http://198.18.0.1/files/large"]);
    assert!(
        got.status.success() && got.stdout == content,
        "{} octets",
        got.stdout.len()
    );
    let line = lab
        .service
        .wait_for("served", |line| line["path"] == "large");
    // Two of its three MiB are waited for: a second at least, however fast the machine.
    assert!(line["elapsed_ms"].as_u64() >= Some(1000), "{line}");
}
