//! Three services that share an etcd of three servers: who answers whom, on a segment and through a relay agent, while one is
//! killed, one cut off, all are rolled and one is added. The oracle is what was on the wire, held against what stands in etcd.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use bootjack_api::v1::Reservation;
use serde_json::Value;

use crate::support::api::Api;
use crate::support::dhcp::{ACK, OFFER, Packet, mac, text};
use crate::support::etcd::{Cluster, Switch};
use crate::support::load::{Granted, Load, Path, Plan};
use crate::support::netns::Netns;
use crate::support::service::{Home, Service, program};
use crate::support::wire::Mac;

/// The lease of a membership, in seconds.
const TTL_SECS: u32 = 3;
const GIADDR: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 250);
const AGENT: Mac = [2, 0, 0, 0, 0, 250];

/// One replica and the network it stands in.
struct Replica {
    number: u8,
    netns: Netns,
    home: Home,
    /// Its ports on the segment and on the switch to etcd.
    ports: [String; 2],
    service: Option<Service>,
    config: String,
}

/// All of it.
struct Lab {
    replicas: Vec<Replica>,
    segment: Switch,
    client: Netns,
    relay: Netns,
    cluster: Cluster,
    backbone: Switch,
}

impl Replica {
    fn address(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, 0, number)
    }

    fn card(number: u8) -> Mac {
        [2, 0, 0, 0, 1, number]
    }

    fn new(number: u8, segment: &Switch, backbone: &Switch, endpoints: &[String]) -> Self {
        let netns = Netns::new(&format!("r{number}"));
        let ports = [
            segment.plug(&netns, "lan0", &format!("{}/16", Self::address(number))),
            backbone.plug(&netns, "core0", &format!("192.0.2.{number}/24")),
        ];
        netns.ip(&["link", "set", "lan0", "address", &text(Self::card(number))]);
        let home = Home::new();
        let config = config(number, &home, endpoints);
        Self {
            number,
            netns,
            home,
            ports,
            service: None,
            config,
        }
    }

    fn start(&mut self) {
        let service = Service::start(&self.netns, &self.home, &self.config);
        self.service = Some(service);
    }

    fn service(&self) -> &Service {
        self.service.as_ref().expect("it runs")
    }

    /// Waits until it has said that the group has changed to these.
    fn sees(&self, members: &[u8]) {
        let ids: Vec<String> = members.iter().map(|n| format!("replica-{n}")).collect();
        let ids = ids.join(", ");
        let is_last = |line: &Value| line["members"] == ids.as_str();
        self.service().wait_for("replicas", is_last);
    }

    fn kill(&mut self) {
        self.service.take().expect("it runs").kill();
    }

    fn terminate(&mut self) {
        let (status, log) = self.service.take().expect("it runs").terminate();
        assert!(status.success(), "{log:#?}");
    }
}

fn config(number: u8, home: &Home, endpoints: &[String]) -> String {
    let directory = home.path().display();
    format!(
        r#"data_dir = "{directory}/data"

[store]
backend = "etcd"

[store.etcd]
endpoints = {endpoints:?}
timeout = "500ms"

[replicas]
id = "replica-{number}"
ttl_secs = {TTL_SECS}

[dhcp]
interfaces = ["lan0"]
look_for_others = false

[[subnet]]
cidr = "198.18.0.0/16"
pools = ["198.18.16.0-198.18.79.255"]
lease_time = "1h"

[grpc]
listen = "unix:{directory}/api.sock"

[admin]
listen = "127.0.0.1:9469"
"#
    )
}

impl Lab {
    fn new(replicas: u8) -> Self {
        let (segment, backbone) = (Switch::new(), Switch::new());
        let cluster = Cluster::start(&backbone);
        let (client, relay) = (Netns::new("client"), Netns::new("relay"));
        segment.plug(&client, "eth0", "198.18.255.1/16");
        segment.plug(&relay, "eth0", "198.18.255.2/16");
        for netns in [&client, &relay] {
            // Its clients are not the kernel's.
            netns.ip(&["link", "set", "eth0", "arp", "off"]);
            netns.ip(&["link", "set", "eth0", "promisc", "on"]);
        }
        let mut lab = Self {
            replicas: Vec::new(),
            segment,
            client,
            relay,
            cluster,
            backbone,
        };
        for number in 1..=replicas {
            lab.add(number);
        }
        let all: Vec<u8> = (1..=replicas).collect();
        lab.replicas.iter().for_each(|replica| replica.sees(&all));
        lab
    }

    fn add(&mut self, number: u8) {
        let endpoints = self.cluster.endpoints();
        let mut replica = Replica::new(number, &self.segment, &self.backbone, &endpoints);
        replica.netns.without_offloads("lan0");
        replica.start();
        self.replicas.push(replica);
    }

    fn replica(&mut self, number: u8) -> &mut Replica {
        let mut replicas = self.replicas.iter_mut();
        replicas.find(|r| r.number == number).expect("it is there")
    }

    fn broadcasting(&self, every: Duration, known: Vec<Mac>) -> Load {
        let plan = Plan {
            path: Path::Segment,
            every,
            macs: [0x52, 0x54, 1],
            known,
        };
        Load::begin(&self.client, "eth0", plan)
    }

    /// Behind an agent that knows replicas 1 to 3, also when one of them is dead.
    fn relayed(&self, every: Duration) -> Load {
        let servers = [1, 2, 3].map(|n| (Replica::card(n), Replica::address(n)));
        let plan = Plan {
            path: Path::Relayed {
                agent: AGENT,
                giaddr: GIADDR,
                servers: servers.to_vec(),
            },
            every,
            macs: [0x52, 0x54, 2],
            known: Vec::new(),
        };
        Load::begin(&self.relay, "eth0", plan)
    }

    /// What stands in etcd of this kind, by the rest of the key.
    fn stored(&self, kind: &str) -> BTreeMap<String, String> {
        let prefix = format!("bootjack/{kind}/");
        let said = self.cluster.members[0].ctl(&["get", "--prefix", &prefix]);
        let lines: Vec<&str> = said.lines().collect();
        (lines.chunks(2))
            .filter_map(|pair| {
                Some((
                    pair[0].strip_prefix(&prefix)?.to_owned(),
                    pair[1].to_owned(),
                ))
            })
            .collect()
    }

    fn metric(&self, number: u8, name: &str) -> f64 {
        let replica = self.replicas.iter().find(|r| r.number == number);
        let netns = &replica.expect("it is there").netns;
        let output = netns
            .command("curl")
            .args(["-s", "http://127.0.0.1:9469/metrics"])
            .output();
        let said = String::from_utf8(output.expect("curl runs").stdout).expect("text");
        let values = said.lines().filter(|line| line.starts_with(name));
        values
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

/// Nobody was given what another one has, and all that was acknowledged stands in etcd.
fn assert_sound(lab: &Lab, granted: &[Granted]) {
    let mut holders: BTreeMap<Ipv4Addr, Mac> = BTreeMap::new();
    for grant in granted {
        let holder = *holders.entry(grant.address).or_insert(grant.mac);
        let (a, b) = (text(holder), text(grant.mac));
        assert_eq!(a, b, "{} was given twice", grant.address);
    }
    let stored = lab.stored("lease");
    for (address, mac) in &holders {
        let record = stored.get(&address.to_string());
        let record = record.unwrap_or_else(|| panic!("{address} of {} is lost", text(*mac)));
        assert!(record.contains(&text(*mac)), "{address}: {record}");
    }
    println!(
        "{} addresses were acknowledged, none twice, none lost",
        holders.len()
    );
}

/// How long those who began in this time had to wait.
fn tell_waits(what: &str, granted: &[Granted], from: Instant, to: Instant) -> Duration {
    let mut waits: Vec<Duration> = (granted.iter())
        .filter(|grant| from <= grant.begun && grant.begun < to)
        .map(|grant| grant.ended - grant.begun)
        .collect();
    waits.sort_unstable();
    let at = |part: f64| waits.get((waits.len() as f64 * part) as usize).copied();
    let (half, most) = (
        at(0.5).unwrap_or_default(),
        waits.last().copied().unwrap_or_default(),
    );
    let late = waits
        .iter()
        .filter(|wait| **wait >= Duration::from_secs(1))
        .count();
    println!(
        "{what}: {} clients, half within {half:.1?}, {late} later than 1 s, the last after {most:.1?}",
        waits.len()
    );
    most
}

#[test]
fn each_client_is_answered_by_one_replica_and_what_reaches_the_wrong_one_is_sent_on() {
    let lab = Lab::new(3);
    let (on_segment, relayed) = (
        lab.broadcasting(Duration::from_millis(40), Vec::new()),
        lab.relayed(Duration::from_millis(40)),
    );
    on_segment.serves(150);
    relayed.serves(150);
    let (on_segment, relayed) = (on_segment.end().granted, relayed.end().granted);
    let by = |granted: &[Granted], n: u8| {
        granted
            .iter()
            .filter(|g| g.by == Replica::address(n))
            .count()
    };
    for granted in [&on_segment, &relayed] {
        let counts = [1, 2, 3].map(|n| by(granted, n));
        assert!(counts.iter().all(|count| *count > 15), "{counts:?}");
        assert!(granted.iter().all(|grant| grant.by == grant.named));
    }
    assert_sound(&lab, &[on_segment, relayed].concat());
    for number in [1, 2, 3] {
        assert!(lab.metric(number, "bootjack_dhcp_forwarded_total") > 30.0);
        assert!(lab.metric(number, "bootjack_dhcp_silences_total{reason=\"not_ours\"}") > 60.0);
        assert_eq!(lab.metric(number, "bootjack_replicas "), 3.0);
    }
    let shares: f64 = [1, 2, 3]
        .map(|n| lab.metric(n, "bootjack_replica_share_ratio"))
        .iter()
        .sum();
    assert!((shares - 1.0).abs() < 1e-9, "{shares}");
}

#[test]
fn no_address_is_given_twice_and_none_is_lost_while_replicas_die_are_cut_off_are_rolled_and_join() {
    let mut lab = Lab::new(3);
    let known: Vec<Mac> = (1..=40).map(mac).collect();
    let api = Api::unix(&lab.replicas[0].home);
    for (at, mac) in known.iter().enumerate() {
        let reservation = Reservation {
            mac: text(*mac),
            address: format!("198.18.8.{}", at + 1),
            ..Reservation::default()
        };
        api.create(reservation).expect("created");
    }
    let on_segment = lab.broadcasting(Duration::from_millis(30), known.clone());
    let relayed = lab.relayed(Duration::from_millis(60));
    let more = |count: usize| {
        on_segment.serves(count);
        relayed.serves(count / 2);
    };
    let mut marks = vec![("all live", Instant::now())];
    more(200);

    marks.push(("one is killed", Instant::now()));
    lab.replica(2).kill();
    lab.replica(1).sees(&[1, 3]);
    more(200);
    marks.push(("it comes back", Instant::now()));
    lab.replica(2).start();
    more(200);

    marks.push(("one is cut off", Instant::now()));
    let ports = lab.replica(3).ports.clone();
    lab.segment.cut(&ports[0]);
    lab.backbone.cut(&ports[1]);
    more(300);
    marks.push(("it is reached again", Instant::now()));
    lab.segment.mend(&ports[0]);
    lab.backbone.mend(&ports[1]);
    let is_back = |line: &Value| line["change"] == "confirmed" || line["change"] == "joined";
    lab.replica(3).service().wait_for("replicas", is_back);
    more(200);

    for number in [1, 2, 3] {
        marks.push(("one is stopped and started", Instant::now()));
        lab.replica(number).terminate();
        more(60);
        lab.replica(number).start();
        more(60);
    }

    marks.push(("one joins", Instant::now()));
    lab.add(4);
    lab.replica(1).sees(&[1, 2, 3, 4]);
    more(200);
    let end = Instant::now();
    let on_segment = on_segment.end();
    let relayed = relayed.end();

    for (granted, how) in [
        (&on_segment.granted, "segment"),
        (&relayed.granted, "relayed"),
    ] {
        for (at, (what, from)) in marks.iter().enumerate() {
            let to = marks.get(at + 1).map_or(end, |(_, next)| *next);
            tell_waits(&format!("{how}, {what}"), granted, *from, to);
        }
    }
    assert!(
        on_segment
            .granted
            .iter()
            .any(|g| g.by == Replica::address(4))
    );
    for grant in &on_segment.granted {
        if let Some(at) = known.iter().position(|mac| *mac == grant.mac) {
            assert_eq!(
                grant.address.octets(),
                [198, 18, 8, u8::try_from(at + 1).expect("few")]
            );
        }
    }
    assert_sound(&lab, &[on_segment.granted, relayed.granted].concat());
}

/// Packets of one kind of exchange, as perfdhcp reports them: sent and received.
fn counted(report: &str, exchange: &str) -> (usize, usize) {
    let (_, part) = report
        .split_once(&format!("Statistics for: {exchange}"))
        .unwrap_or_else(|| panic!("no {exchange}: {report}"));
    let number = |name: &str| {
        let line = part.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|text| text.trim().parse().ok());
        number.unwrap_or_else(|| panic!("no {name} {report}"))
    };
    (number("sent packets:"), number("received packets:"))
}

/// It is a relay agent that knows one replica alone: two of three exchanges are sent on to their owners, who answer it themselves.
#[test]
fn under_perfdhcp_no_address_is_given_twice_and_none_is_lost_while_replicas_die_are_cut_off_are_rolled_and_join()
 {
    let mut lab = Lab::new(3);
    let agent = Netns::new("perfdhcp");
    lab.segment.plug(&agent, "eth0", "198.18.255.3/16");
    let mut command = agent.command("perfdhcp");
    command.args(["-4", "-g", "single", "-l", "198.18.255.3"]);
    // Far longer than it takes: it is ended when everything has happened.
    command.args(["-r", "60", "-p", "600", "-W", "2000000", "-R", "100000"]);
    command.args(["-b", "mac=52:54:03:00:00:00", "198.18.0.1"]);
    let perfdhcp = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("ip runs");
    let acked = |lab: &mut Lab, number: u8, count: usize| {
        let service = lab.replica(number).service();
        service.wait_for_nth("acked", count, |_| true);
    };
    acked(&mut lab, 2, 60);
    lab.replica(2).kill();
    lab.replica(1).sees(&[1, 3]);
    acked(&mut lab, 3, 200);
    lab.replica(2).start();
    acked(&mut lab, 2, 30);

    let ports = lab.replica(3).ports.clone();
    lab.segment.cut(&ports[0]);
    lab.backbone.cut(&ports[1]);
    lab.replica(1).sees(&[1, 2]);
    acked(&mut lab, 2, 90);
    lab.segment.mend(&ports[0]);
    lab.backbone.mend(&ports[1]);
    let is_back = |line: &Value| line["change"] == "confirmed" || line["change"] == "joined";
    lab.replica(3).service().wait_for("replicas", is_back);

    for number in [1, 2, 3] {
        lab.replica(number).terminate();
        lab.replica(number).start();
        acked(&mut lab, number, 20);
    }
    lab.add(4);
    lab.replica(1).sees(&[1, 2, 3, 4]);
    acked(&mut lab, 4, 30);
    // SAFETY: takes no pointers; it has not been waited for, so the id is still its own.
    unsafe { libc::kill(perfdhcp.id() as libc::pid_t, libc::SIGINT) };
    let output = perfdhcp.wait_with_output().expect("it ends by itself");
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    let (discovers, offers) = counted(&report, "DISCOVER-OFFER");
    let (requests, acks) = counted(&report, "REQUEST-ACK");
    println!("perfdhcp: {offers} offers of {discovers}, {acks} ACKs of {requests}");
    assert!(acks * 2 > discovers, "{report}");
    assert!(lab.metric(1, "bootjack_dhcp_forwarded_total") > acks as f64 / 3.0);
    let mut addresses: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (address, record) in lab.stored("lease") {
        let lease: Value = serde_json::from_str(record.trim_start_matches('\x01')).expect("JSON");
        let client = lease["client"].as_str().expect("text").to_owned();
        addresses.entry(client).or_default().push(address);
    }
    let twice = addresses.iter().find(|(_, held)| held.len() > 1);
    assert_eq!(twice, None);
    // An address is a key of etcd's, and has one holder; an ACK may have been lost on its way to perfdhcp, and not the other way round.
    assert!(addresses.len() >= acks, "{} of {acks}", addresses.len());
}

#[test]
fn the_command_shows_shares_and_what_it_writes_decides_who_answers() {
    let lab = Lab::new(2);
    let server = lab.replicas[0].home.api();
    let bootjack = |arguments: &[&str]| {
        let path = std::path::Path::new(program()).with_file_name("bootjack");
        let output = Command::new(path)
            .args(["--server", &server, "replicas"])
            .args(arguments)
            .output()
            .expect("it runs; cargo build --workspace");
        let out = String::from_utf8(output.stdout).expect("text");
        let err = String::from_utf8(output.stderr).expect("text");
        (output.status.code(), out, err)
    };
    let json = |arguments: &[&str]| -> Value {
        let (status, out, err) = bootjack(&[arguments, &["--output", "json"]].concat());
        assert_eq!(status, Some(0), "{err}");
        serde_json::from_str(&out).expect("JSON")
    };
    let listed = json(&[]);
    let buckets: Vec<u64> = (listed["replicas"].as_array().expect("a list").iter())
        .map(|replica| replica["buckets"].as_u64().expect("a number"))
        .collect();
    assert_eq!((buckets.len(), buckets.iter().sum::<u64>()), (2, 256));
    let (_, table, _) = bootjack(&["list"]);
    assert!(table.contains("replica-1 (asked)  live"), "{table}");

    let card = text(mac(7));
    let owner = json(&["owner", &card])["replica"]
        .as_str()
        .expect("one")
        .to_owned();
    let other = if owner == "replicas/replica-1" {
        "replica-2"
    } else {
        "replica-1"
    };
    json(&["override", "set", &card, other, "--for", "1h"]);
    let now = json(&["owner", &card]);
    assert_eq!(now["replica"], format!("replicas/{other}"));
    let load = lab.broadcasting(Duration::from_millis(100), vec![mac(7)]);
    load.serves(6);
    let seen = load.end();
    let number = other
        .trim_start_matches("replica-")
        .parse::<u8>()
        .expect("a number");
    let of_card: Vec<&Granted> = seen.granted.iter().filter(|g| g.mac == mac(7)).collect();
    assert!(!of_card.is_empty());
    assert!(
        of_card.iter().all(|g| g.by == Replica::address(number)),
        "{of_card:?}"
    );
    assert_eq!(
        json(&["override", "list"])["overrides"][0]["mac"],
        card.as_str()
    );
    json(&["override", "clear", &card]);
    assert_eq!(json(&["owner", &card])["replica"], owner.as_str());

    json(&["canary", "set", "replica-2", "--percent", "100"]);
    assert_eq!(json(&[])["canary"]["percent"], 100);
    assert_eq!(json(&["owner", &card])["replica"], "replicas/replica-2");
    json(&["canary", "clear"]);

    for (arguments, status, part) in [
        (&["canary", "clear"][..], 4, "there is no canary"),
        (
            &["canary", "set", "replica-9", "--percent", "5"],
            4,
            "no replica replica-9 lives",
        ),
        (&["override", "clear", &card], 4, "does not exist"),
        (
            &["override", "set", "x", "replica-1", "--for", "1h"],
            3,
            "is no MAC address",
        ),
        (
            &["override", "set", &card, "replica-1", "--for", "90days"],
            3,
            "more than 30 days",
        ),
        (&["owner", ""], 3, "neither a MAC nor a client-id"),
    ] {
        let (code, _, err) = bootjack(arguments);
        assert_eq!(code, Some(status), "{arguments:?}: {err}");
        assert!(err.contains(part), "{arguments:?}: {err}");
    }
}

#[test]
fn an_offer_is_kept_in_the_name_of_a_replica_that_left_before_it_was_taken() {
    let mut lab = Lab::new(2);
    let wire = crate::support::wire::Wire::open(&lab.client, "eth0");
    let ask = |packet: &Packet| crate::support::load::ask(&wire, packet);
    // A client of replica 2 by what it was offered from there.
    let offer = (1..)
        .map(|n| ask(&Packet::discover(mac(n))))
        .find(|offer| offer.server_id() == Replica::address(2))
        .expect("one of them");
    assert_eq!(offer.kind(), OFFER);
    lab.replica(2).terminate();
    lab.replica(1).sees(&[1]);
    let ack = ask(&Packet::selecting(&offer));
    assert_eq!((ack.kind(), ack.yiaddr()), (ACK, offer.yiaddr()));
    assert_eq!(
        ack.server_id(),
        Replica::address(2),
        "iPXE takes it from nobody else"
    );
    assert_eq!(*ack.datagram.from.ip(), Replica::address(1));
}
