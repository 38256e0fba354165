//! `bootjackd serve`: start, stop, and what it says when it cannot.

use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

use crate::support::api::{self, Api, Http};
use crate::support::netns::{Netns, server_and_client};
use crate::support::service::{Home, Service, program, signal};

/// A namespace with the server's side of a network: `lan0` has 198.18.0.1/24.
fn server() -> (Netns, Netns) {
    server_and_client("52:54:00:00:00:01")
}

/// The command that serves, behind the words of `wrapper`; one that does not end by itself is ended after a while.
fn serve(netns: &Netns, wrapper: &[&str], home: &Home, config: &str) -> Command {
    let file = home.write("bootjackd.toml", config);
    let mut command = netns.command("timeout");
    command.arg("60").args(wrapper).arg(program());
    command.args(["serve", "--log-format", "json", "--config"]);
    command.arg(file);
    command
}

/// What a service that cannot start says beside its log, and the status it ends with.
fn refusal_of(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().expect("it runs");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    let is_log = |line: &&str| serde_json::from_str::<Value>(line).is_ok();
    let lines: Vec<&str> = said.lines().filter(|line| !is_log(line)).collect();
    (output.status.code(), lines.join("\n"))
}

#[track_caller]
fn assert_refuses(netns: &Netns, home: &Home, config: &str, sentence: &str) {
    let (status, said) = refusal_of(serve(netns, &[], home, config));
    assert_eq!(said, format!("bootjackd: {sentence}"));
    assert_eq!(status, Some(1));
}

fn messages(log: &[Value]) -> Vec<&str> {
    log.iter().filter_map(|l| l["message"].as_str()).collect()
}

/// A stop that waits for nobody cuts nobody, and says so.
#[track_caller]
fn assert_stopped_cleanly(log: &[Value]) {
    assert_eq!(messages(log).last(), Some(&"stopped"), "{log:?}");
    let complaints: Vec<&Value> = (log.iter())
        .filter(|line| line["about"] == "stop" || line["level"] == "ERROR")
        .collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
fn it_says_where_it_listens_and_stops_cleanly_on_sigterm() {
    let (server, _client) = server();
    let home = Home::new();
    let service = Service::start(&server, &home, &home.config(""));
    for protocol in ["dhcp", "tftp", "http", "grpc"] {
        let line = service.wait_for("listening", |line| line["protocol"] == protocol);
        assert!(line["reason"].is_string(), "{line}");
    }
    let (status, log) = service.terminate();
    assert_eq!(status.code(), Some(0), "{log:?}");
    assert_stopped_cleanly(&log);
}

#[test]
fn it_stops_as_cleanly_on_sigint() {
    let (server, _client) = server();
    let home = Home::new();
    let service = Service::start(&server, &home, &home.config(""));
    signal(service.pid(), "INT");
    let (status, log) = service.wait();
    assert_eq!(status.code(), Some(0), "{log:?}");
    assert_stopped_cleanly(&log);
}

#[test]
fn every_configured_address_is_logged_as_configured() {
    let (server, _client) = server();
    let home = Home::new();
    let config = home.config("[admin]\nlisten = \"127.0.0.1:9469\"\n");
    let service = Service::start(&server, &home, &config);
    for (protocol, address, reason) in [
        (
            "dhcp",
            "0.0.0.0:67%lan0",
            "configured; server identifier 198.18.0.1",
        ),
        ("tftp", "198.18.0.1:69", "configured"),
        ("http", "198.18.0.1:80", "configured"),
        ("grpc", &home.api(), "configured"),
        ("admin", "127.0.0.1:9469", "configured"),
    ] {
        let line = service.wait_for("listening", |line| line["protocol"] == protocol);
        assert_eq!(
            (&line["address"], &line["reason"]),
            (&address.into(), &reason.into())
        );
    }
}

#[test]
fn every_default_address_is_logged_with_the_reason_for_it() {
    let (server, _client) = server();
    server.ip(&[
        "link", "add", "lan1", "type", "veth", "peer", "name", "wan0",
    ]);
    server.ip(&["address", "add", "198.18.1.1/24", "dev", "lan1"]);
    server.ip(&["address", "add", "198.19.0.1/24", "dev", "wan0"]);
    server.ip(&["link", "set", "lan1", "up"]);
    server.ip(&["link", "set", "wan0", "up"]);
    let home = Home::new();
    let config = format!(
        "data_dir = \"{}/data\"\n[[subnet]]\ncidr = \"198.18.0.0/24\"\n[[subnet]]\ncidr = \"198.18.1.0/24\"\n",
        home.path().display()
    );
    // The default socket lies in /run, which is this process's own here.
    let wrapper = ["sh", "-c", "mount -t tmpfs none /run && exec \"$@\"", "sh"];
    let service = Service::run(serve(&server, &wrapper, &home, &config));
    service.wait_for("ready", |_| true);
    // `timeout` hands this on; killed, it would leave the service behind.
    let (_, log) = service.terminate();
    let listening: Vec<(&str, &str, &str)> = (log.iter())
        .filter(|line| line["message"] == "listening")
        .map(|line| {
            let word = |key: &str| line[key].as_str().unwrap_or_default();
            (word("protocol"), word("address"), word("reason"))
        })
        .collect();
    let there = "default: the address that DHCP serves from";
    let boots = "default: it has an address in a subnet; boot server of PXE 2.1 §2.5";
    let waits = "default: iPXE waits 15 s for an IPv6 router where nobody says that there is none";
    let mut expected = vec![
        ("dhcp", "0.0.0.0:4011%lan0", boots),
        ("dhcp", "0.0.0.0:4011%lan1", boots),
        ("ndp", "[ff02::2]%lan0", waits),
        ("ndp", "[ff02::2]%lan1", waits),
        (
            "dhcp",
            "0.0.0.0:67%lan0",
            "default: it has an address in a subnet; server identifier 198.18.0.1",
        ),
        (
            "dhcp",
            "0.0.0.0:67%lan1",
            "default: it has an address in a subnet; server identifier 198.18.1.1",
        ),
        (
            "grpc",
            "unix:/run/bootjack/api.sock",
            "default: nobody but this machine's root can reach it",
        ),
        ("http", "198.18.0.1:80", there),
        ("http", "198.18.1.1:80", there),
        ("tftp", "198.18.0.1:69", there),
        ("tftp", "198.18.1.1:69", there),
    ];
    let mut found = listening;
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn a_wrong_configuration_starts_nothing_and_ends_with_64() {
    let (server, _client) = server();
    let home = Home::new();
    let config = home.config("").replace("[tftp]\nlisten", "[tftp]\nlistne");
    let output = serve(&server, &[], &home, &config)
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(64));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "bootjackd: bootjackd.toml has 1 problem\n  line 15, tftp.listne: unknown key; did you mean tftp.listen?\n"
    );
    assert!(!home.path().join("data").exists());
    assert!(!home.path().join("api.sock").exists());
}

#[test]
fn a_port_that_another_program_has_is_said_in_one_sentence() {
    let (server, _client) = server();
    let home = Home::new();
    let http = server.inside(|| TcpListener::bind("198.18.0.1:80").expect("it is free"));
    assert_refuses(
        &server,
        &home,
        &home.config(""),
        "http: cannot listen on 198.18.0.1:80/tcp: address already in use; another server runs here; see: ss -ltnp 'sport = :80'",
    );
    drop(http);
    let tftp = server.inside(|| UdpSocket::bind("0.0.0.0:69").expect("it is free"));
    assert_refuses(
        &server,
        &home,
        &home.config(""),
        "tftp: cannot listen on 198.18.0.1:69/udp: address already in use; another TFTP server runs here (dnsmasq, libvirt?); see: ss -lunp 'sport = :69'",
    );
    drop(tftp);
    let dhcp = server.inside(|| UdpSocket::bind("0.0.0.0:67").expect("it is free"));
    assert_refuses(
        &server,
        &home,
        &home.config(""),
        "dhcp: cannot listen on 0.0.0.0:67/udp: address already in use; another DHCP server runs here (dnsmasq, libvirt?); see: ss -lunp 'sport = :67'",
    );
    drop(dhcp);
    let admin = server.inside(|| TcpListener::bind("127.0.0.1:9469").expect("it is free"));
    assert_refuses(
        &server,
        &home,
        &home.config("[admin]\nlisten = \"127.0.0.1:9469\"\n"),
        "admin: cannot listen on 127.0.0.1:9469/tcp: address already in use; another server runs here; see: ss -ltnp 'sport = :9469'",
    );
    drop(admin);
    let home = Home::new();
    let taken = UnixListener::bind(home.path().join("api.sock")).expect("it is free");
    assert_refuses(
        &server,
        &home,
        &home.config(""),
        &format!(
            "grpc: cannot listen on {}: address already in use; another bootjackd listens there",
            home.api()
        ),
    );
    drop(taken);
    let service = Service::start(&server, &home, &home.config(""));
    assert_eq!(service.terminate().0.code(), Some(0), "once all are free");
}

#[test]
fn a_right_that_is_missing_is_said_with_the_right_to_grant() {
    let (server, _client) = server();
    let home = Home::new();
    // No capability at all, which is what an ordinary user has.
    let powerless = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"];
    let http = home.config("");
    let tftp = http.replace("198.18.0.1:80", "198.18.0.1:8080");
    let dhcp = tftp.replace("198.18.0.1:69", "198.18.0.1:6969");
    for (config, sentence) in [
        (
            http,
            "http: cannot listen on 198.18.0.1:80/tcp: permission denied; run as root or grant CAP_NET_BIND_SERVICE",
        ),
        (
            tftp,
            "tftp: cannot listen on 198.18.0.1:69/udp: permission denied; run as root or grant CAP_NET_BIND_SERVICE",
        ),
        (
            dhcp,
            "dhcp: cannot listen on 0.0.0.0:67/udp: permission denied; run as root or grant CAP_NET_BIND_SERVICE and CAP_NET_RAW",
        ),
    ] {
        let (status, said) = refusal_of(serve(&server, &powerless, &home, &config));
        assert_eq!(said, format!("bootjackd: {sentence}"));
        assert_eq!(status, Some(1));
    }
}

#[test]
fn a_data_dir_that_may_not_be_written_is_said_in_one_sentence() {
    let (server, _client) = server();
    let home = Home::new();
    let closed = home.path().join("closed");
    std::fs::create_dir(&closed).expect("made");
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o500)).expect("set");
    let config = home.config("").replace("/data\"", "/closed/data\"");
    let powerless = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"];
    let (status, said) = refusal_of(serve(&server, &powerless, &home, &config));
    assert_eq!(
        said,
        format!(
            "bootjackd: store {}/data: Permission denied (os error 13)",
            closed.display()
        )
    );
    assert_eq!(status, Some(1));
}

#[test]
fn a_second_service_on_the_same_data_dir_refuses_to_start() {
    let (server, _client) = server();
    let (elsewhere, _its_client) = server_and_client("52:54:00:00:00:02");
    let (home, other) = (Home::new(), Home::new());
    let first = Service::start(&server, &home, &home.config(""));
    let data = home.path().join("data").display().to_string();
    let config = (other.config(""))
        .replace(&other.path().join("data").display().to_string(), &data)
        .replace("198.18.0.1:80", "198.18.0.1:8080");
    assert_refuses(
        &elsewhere,
        &other,
        &config,
        &format!("store {data}: locked by another process; is bootjackd already running?"),
    );
    assert_eq!(
        api::get(&server, "/healthz").status,
        200,
        "the first lives on"
    );
    first.kill();
    let second = Service::start(&elsewhere, &other, &config);
    assert_eq!(second.terminate().0.code(), Some(0));
}

#[test]
fn an_interface_that_is_not_there_or_has_no_address_is_said_in_one_sentence() {
    let (server, _client) = server();
    server.ip(&[
        "link", "add", "bare0", "type", "veth", "peer", "name", "bare1",
    ]);
    let home = Home::new();
    let on = |interface: &str| {
        home.config("")
            .replace("\"lan0\"", &format!("{interface:?}"))
    };
    let (status, said) = refusal_of(serve(&server, &[], &home, &on("lan7")));
    let start = "bootjackd: dhcp: interface lan7 does not exist; this machine has: ";
    let there = said.strip_prefix(start).unwrap_or_else(|| panic!("{said}"));
    let mut there: Vec<&str> = there.split(", ").collect();
    there.sort_unstable();
    assert_eq!(there, ["bare0", "bare1", "lan0", "lo"]);
    assert_eq!(status, Some(1));
    assert_refuses(
        &server,
        &home,
        &on("bare0"),
        "dhcp: interface bare0 has no IPv4 address; give it one: ip address add ADDRESS/PREFIX dev bare0",
    );
    let nowhere = home
        .config("")
        .replace("interfaces = [\"lan0\"]", "")
        .replace("198.18.0.", "198.18.7.");
    assert_refuses(
        &server,
        &home,
        &nowhere,
        "dhcp: no interface has an address in a subnet; give one an address, or name interfaces in dhcp.interfaces",
    );
}

#[test]
fn an_address_that_this_machine_does_not_have_is_said_in_one_sentence() {
    let (server, _client) = server();
    let home = Home::new();
    let config = home.config("").replace("198.18.0.1:80", "198.18.77.1:80");
    assert_refuses(
        &server,
        &home,
        &config,
        "http: cannot listen on 198.18.77.1:80/tcp: no interface of this machine has that address; see: ip -brief address",
    );
}

#[test]
fn a_log_filter_that_is_none_is_said_with_an_example() {
    let (server, _client) = server();
    let home = Home::new();
    let mut command = serve(&server, &[], &home, &home.config(""));
    command.args(["--log", "bootjackd=louder"]);
    let (status, said) = refusal_of(command);
    assert_eq!(status, Some(1));
    assert!(
        said.starts_with("bootjackd: --log bootjackd=louder: "),
        "{said}"
    );
    assert!(
        said.ends_with("; write it like info or bootjackd=debug"),
        "{said}"
    );
}

#[test]
fn a_socket_that_a_killed_service_left_is_replaced_and_a_stopped_one_leaves_none() {
    let (server, _client) = server();
    let home = Home::new();
    let socket = home.path().join("api.sock");
    let is_socket = |path: &Path| path.metadata().is_ok_and(|m| m.file_type().is_socket());
    Service::start(&server, &home, &home.config("")).kill();
    assert!(is_socket(&socket), "this test is about what is left");
    let service = Service::start(&server, &home, &home.config(""));
    assert_eq!(Api::unix(&home).names(), [""; 0]);
    assert_eq!(service.terminate().0.code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn a_file_where_the_socket_should_be_is_somebodys_and_stays() {
    let (server, _client) = server();
    let home = Home::new();
    let file = home.write("api.sock", "precious");
    let (status, said) = refusal_of(serve(
        &server,
        &["timeout", "-s", "KILL", "5"],
        &home,
        &home.config(""),
    ));
    assert_eq!(
        std::fs::read_to_string(&file).ok().as_deref(),
        Some("precious")
    );
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains(&home.api()), "{said}");
}

#[test]
fn only_its_owner_can_reach_the_socket_and_the_data() {
    let (server, _client) = server();
    let home = Home::new();
    let _service = Service::start(&server, &home, &home.config(""));
    let mode = |name: &str| {
        let metadata = home.path().join(name).metadata().expect(name);
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode("api.sock"), 0o600);
    assert_eq!(mode("data"), 0o700);
}

/// Larger than what the sockets of both ends hold.
const LARGE: usize = 64 << 20;

/// Starts to download a large file and takes only the first octets of it.
fn half_a_download(server: &Netns, home: &Home) -> (Http, Vec<u8>) {
    let content: Vec<u8> = (0..LARGE / 4)
        .flat_map(|n| (n as u32).to_le_bytes())
        .collect();
    home.write("http/large", &content);
    let mut http = Http::connect(server);
    http.request("GET", "/files/large", &[]);
    assert_eq!(http.head().status, 200);
    let mut first = vec![0; 4096];
    http.read(&mut first);
    assert_eq!(first, content[..4096]);
    (http, content)
}

#[test]
fn a_download_that_runs_is_finished_before_it_stops() {
    let (server, _client) = server();
    let home = Home::new();
    let service = Service::start(&server, &home, &home.config(""));
    let (mut http, content) = half_a_download(&server, &home);
    signal(service.pid(), "TERM");
    // It has heard once it takes no more connections.
    let hang = Instant::now() + Duration::from_secs(60);
    while api::connect(&server, api::HTTP).is_ok() {
        assert!(Instant::now() < hang, "it goes on taking connections");
    }
    let mut rest = vec![0; LARGE - 4096];
    http.read(&mut rest);
    assert!(rest == content[4096..], "every octet of it");
    assert!(http.is_closed());
    let (status, log) = service.wait();
    assert_eq!(status.code(), Some(0));
    assert_stopped_cleanly(&log);
    let served = log
        .iter()
        .find(|line| line["message"] == "served")
        .expect("logged");
    assert_eq!(
        (&served["path"], &served["complete"]),
        (&"large".into(), &true.into())
    );
}

#[test]
fn a_download_that_nobody_reads_does_not_keep_it_from_stopping() {
    let (server, _client) = server();
    let home = Home::new();
    let service = Service::start(&server, &home, &home.config(""));
    let (_http, _) = half_a_download(&server, &home);
    signal(service.pid(), "TERM");
    service.wait_for("noticed", |line| {
        line["detail"] == "requests were still running after 10 s and are cut"
    });
    service.wait_for("stopped", |_| true);
    assert_eq!(service.wait().0.code(), Some(0));
}

#[test]
fn connections_that_are_kept_alive_do_not_delay_its_stopping() {
    let (server, _client) = server();
    let home = Home::new();
    let service = Service::start(&server, &home, &home.config(""));
    let mut idle = Http::connect(&server);
    assert_eq!(idle.get("/healthz").status, 200);
    let api = Api::unix(&home);
    assert_eq!(api.names(), [""; 0]);
    let (status, log) = service.terminate();
    assert_eq!(status.code(), Some(0));
    assert_stopped_cleanly(&log);
    drop((idle, api));
}

#[test]
fn a_connection_that_never_asked_for_anything_does_not_delay_its_stopping() {
    let (server, _client) = server();
    let home = Home::new();
    let service = Service::start(&server, &home, &home.config(""));
    let silent = api::connect(&server, api::HTTP).expect("HTTP listens");
    // Connections are taken in order: once this one is answered, the silent one was taken.
    assert_eq!(api::get(&server, "/healthz").status, 200);
    let (status, log) = service.terminate();
    assert_eq!(status.code(), Some(0));
    assert_stopped_cleanly(&log);
    drop(silent);
}

#[test]
fn a_reflection_stream_that_is_held_open_does_not_keep_it_from_stopping() {
    let (server, _client) = server();
    let home = Home::new();
    let service = Service::start(&server, &home, &home.config(""));
    let api = Api::unix(&home);
    api.with(async |channel| {
        let questions = tokio_stream::pending();
        let mut client = ServerReflectionClient::new(channel);
        let answers = client.server_reflection_info(questions).await;
        let _held = answers.expect("a stream");
        signal(service.pid(), "TERM");
        tokio::task::spawn_blocking(move || {
            service.wait_for("stopped", |_| true);
            assert_eq!(service.wait().0.code(), Some(0));
        })
        .await
        .expect("it stops");
    });
}

#[test]
fn a_command_says_whether_the_service_serves() {
    let (netns, _client) = server();
    let home = Home::new();
    let config = home.config("");
    let asked = |file: &Path| {
        let output = Command::new(program())
            .args(["health", "--config"])
            .arg(file)
            .output()
            .expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    let file = home.write("bootjackd.toml", &config);
    let (status, said) = asked(&file);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("is bootjackd running?"), "{said}");
    let service = Service::start(&netns, &home, &config);
    let (status, said) = asked(&file);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.starts_with("bootjackd serves on unix:"), "{said}");
    drop(service);
}
