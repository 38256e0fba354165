//! DHCP clients that systems really have: ISC's dhclient and BusyBox's udhcpc, each on a link of its own.

use std::io::{BufRead as _, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bootjack_api::v1::Reservation;

use crate::support::api::Api;
use crate::support::netns::{Netns, server_and_client};
use crate::support::service::{Home, Service, signal};

/// A hang is a failure; this only bounds how long one is waited for.
const HANG: Duration = Duration::from_secs(60);

const MAC: &str = "52:54:00:00:00:01";

const RESERVED: &str = r#"
[[reservation]]
mac = "52:54:00:00:00:01"
address = "198.18.0.10"
hostname = "node-1"
"#;

/// Both clients call a script with what they got. These use it, and say it in one form; nothing but the interface is touched.
const DHCLIENT_SCRIPT: &str = r#"#!/bin/sh
case $reason in
PREINIT) ip link set "$interface" up ;;
BOUND | RENEW | REBIND | REBOOT)
    ip address flush dev "$interface"
    ip address add "$new_ip_address/$new_subnet_mask" dev "$interface" ;;
RELEASE | STOP | EXPIRE) ip address flush dev "$interface" ;;
esac
echo "$reason address=$new_ip_address hostname=$new_host_name domain=$new_domain_name router=$new_routers dns=$new_domain_name_servers lease=$new_dhcp_lease_time server=$new_dhcp_server_identifier"
"#;
const UDHCPC_SCRIPT: &str = r#"#!/bin/sh
case $1 in
deconfig) ip link set "$interface" up; ip address flush dev "$interface" ;;
bound | renew) ip address replace "$ip/$mask" dev "$interface" ;;
esac
echo "$1 address=$ip hostname=$hostname domain=$domain router=$router dns=$dns lease=$lease server=$serverid"
"#;
const DHCLIENT_CONF: &str = "
send host-name \"said-by-the-client\";
request subnet-mask, broadcast-address, routers, domain-name, domain-name-servers, host-name;
timeout 60;
retry 1;
";

/// A service, and a namespace linked to it that a client runs in.
struct Lab {
    service: Service,
    client: Netns,
    home: Home,
    _server: Netns,
}

impl Lab {
    fn new(reservations: &str) -> Self {
        let (server, client) = server_and_client(MAC);
        let home = Home::new();
        let config = home.config(reservations);
        Self {
            service: Service::start(&server, &home, &config),
            client,
            home,
            _server: server,
        }
    }

    /// dhclient in the foreground, with files of its own.
    fn dhclient(&self) -> Running {
        Running::start(self.dhclient_command(&["-d", "-1"]), "dhclient")
    }

    fn dhclient_command(&self, arguments: &[&str]) -> Command {
        let files = [
            ("-cf", self.home.write("dhclient/conf", DHCLIENT_CONF)),
            ("-sf", self.script("dhclient/script", DHCLIENT_SCRIPT)),
            ("-lf", self.home.path().join("dhclient/leases")),
            ("-pf", self.home.path().join("dhclient/pid")),
        ];
        // A copy: AppArmor's profile goes by path, and would not let it use these files.
        let copy = self.home.path().join("dhclient/dhclient");
        if !copy.exists() {
            let program = find("dhclient", "isc-dhcp-client");
            std::fs::copy(program, &copy).expect("copied");
        }
        let mut command = self.client.command(&copy.display().to_string());
        command.args(arguments);
        for (flag, path) in files {
            command.arg(flag).arg(path);
        }
        command.arg("eth0");
        command
    }

    /// udhcpc in the foreground.
    fn udhcpc(&self, arguments: &[&str]) -> Running {
        let program = find("udhcpc", "udhcpc");
        let script = self.script("udhcpc/script", UDHCPC_SCRIPT);
        let mut command = self.client.command(&program.display().to_string());
        command
            .args(["-f", "-i", "eth0", "-t", "60", "-T", "1", "-s"])
            .arg(script)
            .args(arguments);
        Running::start(command, "udhcpc")
    }

    fn script(&self, path: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let known = self.home.path().join(path);
        if known.exists() {
            return known; // it may be running
        }
        let path = self.home.write(path, text);
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("it is ours");
        path
    }

    fn wait_for_ack(&self, n: usize) {
        self.service
            .wait_for_nth("acked", n, |line| line["mac"] == MAC);
    }

    fn wait_for_release(&self) {
        self.service
            .wait_for("silent", |line| line["reason"] == "released");
    }
}

/// A program's path; what is missing fails the test by its package's name.
fn find(program: &str, package: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!(
                "{program} is missing: install {package}, or all of it by: deploy/packages.sh test"
            )
        })
}

/// A client that runs, and what it and its script say.
struct Running {
    child: Child,
    lines: Receiver<String>,
    name: &'static str,
}

impl Running {
    fn start(mut command: Command, name: &'static str) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let (say, lines) = channel();
        let streams: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("piped")),
            Box::new(child.stderr.take().expect("piped")),
        ];
        for stream in streams {
            let say = say.clone();
            std::thread::spawn(move || {
                let lines = BufReader::new(stream).lines().map_while(Result::ok);
                lines.for_each(|line| drop(say.send(line)));
            });
        }
        Self { child, lines, name }
    }

    /// Waits for a line that begins with this word: what the script was called with, or the client's own.
    fn wait_for(&self, word: &str) -> Told {
        let mut before = Vec::new();
        let deadline = Instant::now() + HANG;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(rest) {
                Ok(line) if line.split(' ').next() == Some(word) => return Told(line),
                Ok(line) => before.push(line),
                Err(error) => panic!("{} does not say {word}: {error}; {before:#?}", self.name),
            }
        }
    }

    fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One line of a script.
#[derive(Debug)]
struct Told(String);

impl Told {
    fn get(&self, name: &str) -> &str {
        let mut words = self.0.split(' ').filter_map(|word| word.split_once('='));
        let found = words.find(|(known, _)| *known == name);
        found.expect("the script says it").1
    }

    fn address(&self) -> &str {
        self.get("address")
    }

    fn assert_is_reserved(&self) {
        let said = [
            "address", "hostname", "domain", "router", "dns", "lease", "server",
        ]
        .map(|name| self.get(name));
        let expected = [
            "198.18.0.10",
            "node-1",
            "lab.internal",
            "198.18.0.1",
            "198.18.0.1",
            "3600",
            "198.18.0.1",
        ];
        assert_eq!(said, expected);
    }

    fn assert_is_dynamic(&self) {
        let last = self.address().strip_prefix("198.18.0.");
        let last: u8 = last.and_then(|last| last.parse().ok()).expect("ours");
        assert!((100..200).contains(&last), "{self:?}");
        assert_eq!(self.get("lease"), "3600");
    }
}

#[test]
fn dhclient_gets_the_reserved_address_returns_to_it_and_releases_it() {
    let lab = Lab::new(RESERVED);
    let client = lab.dhclient();
    client.wait_for("BOUND").assert_is_reserved();
    lab.wait_for_ack(1);
    client.wait_for("bound"); // and has written its file
    drop(client);

    // It remembers its lease and asks whether it still holds.
    let client = lab.dhclient();
    client.wait_for("REBOOT").assert_is_reserved();
    lab.wait_for_ack(2);
    client.wait_for("bound");
    drop(client);

    let released = lab.dhclient_command(&["-r"]).output().expect("it runs");
    assert!(released.status.success(), "{released:?}");
    lab.wait_for_release();
}

#[test]
fn dhclient_gets_an_address_of_the_pool_and_the_same_one_after_a_release() {
    let lab = Lab::new("");
    let client = lab.dhclient();
    let bound = client.wait_for("BOUND");
    bound.assert_is_dynamic();
    assert_eq!(bound.get("hostname"), "");
    client.wait_for("bound");
    drop(client);
    let released = lab.dhclient_command(&["-r"]).output().expect("it runs");
    assert!(released.status.success(), "{released:?}");
    lab.wait_for_release();

    let leases = lab.home.path().join("dhclient/leases");
    std::fs::remove_file(leases).expect("it wrote one");
    let again = lab.dhclient().wait_for("BOUND");
    assert_eq!(again.address(), bound.address());
}

#[test]
fn udhcpc_gets_the_reserved_address_renews_it_and_releases_it_at_its_end() {
    let lab = Lab::new(RESERVED);
    let client = lab.udhcpc(&["-R"]);
    client.wait_for("bound").assert_is_reserved();
    lab.wait_for_ack(1);
    client.signal("USR1");
    client.wait_for("renew").assert_is_reserved();
    lab.wait_for_ack(2);
    client.signal("TERM");
    lab.wait_for_release();
}

#[test]
fn udhcpc_gets_an_address_of_the_pool_and_the_same_one_after_a_release() {
    let lab = Lab::new("");
    let client = lab.udhcpc(&["-x", "hostname:said-by-the-client"]);
    let bound = client.wait_for("bound");
    bound.assert_is_dynamic();
    client.signal("USR2");
    lab.wait_for_release();
    client.signal("USR1");
    assert_eq!(client.wait_for("bound").address(), bound.address());
}

#[test]
fn a_client_that_holds_an_address_survives_the_services_restart() {
    let lab = Lab::new("");
    let client = lab.udhcpc(&[]);
    let bound = client.wait_for("bound");
    let Lab {
        service,
        client: netns,
        home,
        _server: server,
    } = lab;
    let (status, log) = service.terminate();
    assert!(status.success(), "{log:?}");
    let service = Service::start(&server, &home, &home.config(""));
    client.signal("USR1");
    let renewed = client.wait_for("renew");
    assert_eq!(renewed.address(), bound.address());
    service.wait_for("acked", |line| line["mac"] == MAC);
    drop((client, netns));
}

#[test]
fn a_reservation_made_or_changed_over_grpc_takes_hold_at_the_next_word_of_its_machine() {
    let lab = Lab::new("");
    let api = Api::unix(&lab.home);
    let client = lab.udhcpc(&[]);
    client.wait_for("bound").assert_is_dynamic();

    let reservation = api
        .create(Reservation {
            mac: MAC.to_owned(),
            address: "198.18.0.10".to_owned(),
            hostname: "node-1".to_owned(),
            ..Reservation::default()
        })
        .expect("created");
    // It renews, is refused, and asks anew.
    client.signal("USR1");
    client.wait_for("nak");
    client.wait_for("bound").assert_is_reserved();
    let refused = lab.service.wait_for("refused", |line| line["mac"] == MAC);
    assert_eq!(refused["reason"], "reserved_elsewhere");

    let changed = Reservation {
        address: "198.18.0.150".to_owned(),
        hostname: "node-2".to_owned(),
        ..reservation
    };
    let changed = api.update(&["address", "hostname"], changed);
    let changed = changed.expect("updated");
    client.signal("USR1");
    client.wait_for("nak");
    let bound = client.wait_for("bound");
    assert_eq!(bound.address(), "198.18.0.150");
    assert_eq!(bound.get("hostname"), "node-2");

    // Without its reservation the machine is one like any other, and keeps what it holds: the address is of the pool.
    api.delete(&changed.name, "").expect("deleted");
    client.signal("USR1");
    let renewed = client.wait_for("renew");
    assert_eq!(renewed.address(), "198.18.0.150");
    assert_eq!(renewed.get("hostname"), "");
}
