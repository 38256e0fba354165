//! Clients behind a relay agent that networks really have, ISC's dhcrelay: their subnet is reached through it alone.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bootjack_api::v1::Reservation;

use crate::support::api::Api;
use crate::support::clients::{self, Running};
use crate::support::netns::{Netns, run, server_and_client};
use crate::support::service::{Home, Service};
use crate::support::wire::{Udp, Wire};

const MAC: &str = "52:54:00:00:00:01";
/// A hang is a failure; this only bounds how long one is waited for.
const HANG: Duration = Duration::from_secs(60);

/// The subnet behind the relay agent, and a class of those who are plugged in where it says `lan1`.
const BEHIND: &str = r#"
[[subnet]]
cidr = "198.19.0.0/24"
pools = ["198.19.0.100-198.19.0.199"]
router = "198.19.0.1"

[[class]]
name = "behind lan1"
match = { circuit_id = ["lan1"] }
lease_time = "10m"
"#;

/// A server, a relay agent with a card on its link and one on the client's, and a client.
struct Lab {
    service: Service,
    _agent: Running,
    /// What passes between server and relay agent.
    wire: Wire,
    relay: Netns,
    client: Netns,
    home: Home,
    _server: Netns,
}

impl Lab {
    fn new() -> Self {
        Self::with(BEHIND)
    }

    fn with(behind: &str) -> Self {
        let (server, relay) = server_and_client("02:00:00:00:00:02");
        let client = Netns::new("far");
        let (r, c) = (relay.name(), client.name());
        run(&[
            "link", "add", "lan1", "netns", r, "type", "veth", "peer", "name", "eth0", "netns", c,
        ]);
        relay.ip(&["address", "add", "198.18.0.2/24", "dev", "eth0"]);
        relay.ip(&["address", "add", "198.19.0.1/24", "dev", "lan1"]);
        relay.ip(&["link", "set", "lan1", "up"]);
        client.ip(&["link", "set", "eth0", "address", MAC]);
        client.ip(&["link", "set", "eth0", "up"]);
        server.ip(&["route", "add", "198.19.0.0/24", "via", "198.18.0.2"]);
        let forward = relay.inside(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"));
        forward.expect("a namespace of our own");
        // The relay agent reads frames as they are on the wire.
        server.without_offloads("lan0");
        client.without_offloads("eth0");
        let home = Home::new();
        let service = Service::start(&server, &home, &home.config(behind));
        let wire = Wire::open(&relay, "eth0");
        let mut command = relay.command(&dhcrelay().display().to_string());
        // -a: it says where the client is; -D: it drops answers in which that does not come back.
        command.args(["-4", "-d", "--no-pid", "-a", "-D"]);
        command.args(["-iu", "eth0", "-id", "lan1", "198.18.0.1"]);
        let agent = Running::start(command, "dhcrelay");
        agent.wait_for_line("that it listens", |line| line.contains("Socket/fallback"));
        Self {
            service,
            _agent: agent,
            wire,
            relay,
            client,
            home,
            _server: server,
        }
    }

    /// The next DHCP message of this type from the server to the relay agent.
    fn sent_by_the_server(&self, kind: u8) -> Vec<u8> {
        let deadline = Instant::now() + HANG;
        loop {
            let frame = self.wire.receive(deadline).expect("an answer");
            let datagram = Udp::read(&frame).filter(|datagram| datagram.from.port() == 67);
            if let Some(datagram) = datagram.filter(|d| d.content[240..243] == [53, 1, kind]) {
                return datagram.content;
            }
        }
    }
}

/// As `deploy/unpack.sh` takes it out of its package, which would start a service if it were installed.
fn dhcrelay() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = root.join("target/test/relay");
    let program = directory.join("usr/sbin/dhcrelay");
    if !program.exists() {
        let unpacked = Command::new(root.join("deploy/unpack.sh"))
            .arg(&directory)
            .arg("isc-dhcp-relay")
            .output()
            .expect("bash is there");
        let said = String::from_utf8_lossy(&unpacked.stderr);
        assert!(unpacked.status.success(), "deploy/unpack.sh: {said}");
    }
    program
}

/// The options of a message, in their order.
fn options(content: &[u8]) -> Vec<(u8, &[u8])> {
    let mut options = Vec::new();
    let mut rest = &content[240..];
    while let [code @ 1..=254, length, tail @ ..] = rest {
        let (content, after) = tail.split_at(usize::from(*length));
        options.push((*code, content));
        rest = after;
    }
    options
}

#[test]
fn a_client_behind_a_real_relay_agent_gets_renews_and_loses_an_address_of_its_own_subnet() {
    let lab = Lab::new();
    let client = clients::udhcpc(&lab.client, &lab.home, &[]);
    let bound = client.wait_for("bound");
    let first: Ipv4Addr = bound.address().parse().expect("an address");
    assert_eq!(first.octets()[..3], [198, 19, 0]);
    assert_eq!(bound.get("router"), "198.19.0.1");
    assert_eq!(bound.get("server"), "198.18.0.1");
    assert_eq!(bound.get("lease"), "600", "its class, by the circuit-id");
    let acked = lab.service.wait_for("acked", |line| line["mac"] == MAC);
    assert_eq!(acked["giaddr"], "198.19.0.1");

    // What the relay agent said comes back whole and last (RFC 3046 §2.2); the client does not see it.
    let ack = lab.sent_by_the_server(5);
    let said = options(&ack).last().copied();
    assert_eq!(said, Some((82, &b"\x01\x04lan1"[..])));

    // It renews past its relay agent, with its own address alone to tell where it is.
    lab.client
        .ip(&["route", "add", "default", "via", "198.19.0.1"]);
    client.signal("USR1");
    let again = client.wait_for("renew");
    assert_eq!(again.address(), bound.address());
    assert_eq!(again.get("lease"), "600", "its class is remembered");
    let renewed = lab.sent_by_the_server(5);
    assert_eq!(renewed[24..28], [0; 4], "giaddr");

    let reservation = Reservation {
        mac: MAC.to_owned(),
        address: "198.19.0.10".to_owned(),
        ..Reservation::default()
    };
    Api::unix(&lab.home).create(reservation).expect("created");
    client.signal("USR1");
    client.wait_for("nak");
    assert_eq!(client.wait_for("bound").address(), "198.19.0.10");
}

#[test]
fn an_address_that_answers_echoes_behind_a_relay_agent_is_offered_to_nobody_but_whom_it_is_reserved_for()
 {
    let probed = BEHIND
        .replace("198.19.0.100-198.19.0.199", "198.19.0.100-198.19.0.101")
        .replace("router =", "probe = \"icmp\"\nrouter =");
    let lab = Lab::with(&probed);
    // Somebody has it who was never given it: the relay agent itself, as good as any.
    let squatted = ["address", "add", "198.19.0.100/32", "dev", "lan1"];
    lab.relay.ip(&squatted);
    let client = clients::udhcpc(&lab.client, &lab.home, &["-r", "198.19.0.100"]);
    let found = lab.service.wait_for("address in use", |_| true);
    assert_eq!(found["yiaddr"], "198.19.0.100");
    assert_eq!(client.wait_for("bound").address(), "198.19.0.101");
    drop(client);

    let reserved = Reservation {
        mac: MAC.to_owned(),
        address: "198.19.0.10".to_owned(),
        ..Reservation::default()
    };
    lab.relay
        .ip(&["address", "add", "198.19.0.10/32", "dev", "lan1"]);
    Api::unix(&lab.home).create(reserved).expect("created");
    let client = clients::udhcpc(&lab.client, &lab.home, &[]);
    assert_eq!(client.wait_for("bound").address(), "198.19.0.10");
}
