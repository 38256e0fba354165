//! Several services on one etcd, each with a segment of its own: what one writes the others serve, and no address has two holders,
//! whatever happens to etcd, to the network and to them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use bootjack_api::v1::Reservation;
use serde_json::Value;
use tonic::Code;

use crate::support::api::{Api, Http, connect, node};
use crate::support::dhcp::{ACK, NAK, OFFER, Packet, Reply, Segment, mac, text as mac_text};
use crate::support::etcd::{Etcd, Switch};
use crate::support::netns::Netns;
use crate::support::service::{Home, Service};
use crate::support::wire::Mac;

/// A hang is a failure; this only bounds how long one is waited for.
const HANG: Duration = Duration::from_secs(60);
const ETCD: &str = "192.0.2.10";
const ADMIN: &str = "127.0.0.1:9469";

/// One etcd, on a network of its own.
struct Lab {
    switch: Switch,
    etcd: Etcd,
    _netns: Netns,
}

/// One service, and the clients on its segment.
struct Replica {
    service: Service,
    segment: Segment,
    home: Home,
    config: String,
    netns: Netns,
    /// Its port on the network to etcd.
    port: String,
}

impl Lab {
    fn new() -> Self {
        let (switch, netns) = (Switch::new(), Netns::new("etcd"));
        switch.plug(&netns, "eth0", &format!("{ETCD}/24"));
        let etcd = Etcd::start_at(&netns, ETCD);
        Self {
            switch,
            etcd,
            _netns: netns,
        }
    }

    /// The nth service, at 192.0.2.n of that network.
    fn replica(&self, n: u8) -> Replica {
        self.replica_with(n, "")
    }

    fn replica_with(&self, n: u8, more: &str) -> Replica {
        let (netns, segment) = Segment::new();
        let port = self
            .switch
            .plug(&netns, "etcd0", &format!("192.0.2.{n}/24"));
        let home = Home::new();
        let config = home.config(&format!(
            "[admin]\nlisten = \"{ADMIN}\"\n[store]\nbackend = \"etcd\"\n[store.etcd]\nendpoints = [\"{}\"]\ntimeout = \"1s\"\n{more}",
            self.etcd.endpoint()
        ));
        let service = Service::start(&netns, &home, &config);
        Replica {
            service,
            segment,
            home,
            config,
            netns,
            port,
        }
    }

    /// The holders that etcd knows, by address; their MACs.
    fn holders(&self) -> BTreeMap<Ipv4Addr, String> {
        let json = self
            .etcd
            .ctl(&["get", "--prefix", "bootjack/lease/", "--print-value-only"]);
        (json.lines())
            .filter_map(|line| serde_json::from_str::<Value>(line.trim_start_matches('\x01')).ok())
            .filter(|lease| lease["state"] == "bound")
            .map(|lease| {
                let text = |key: &str| lease[key].as_str().expect("text").to_owned();
                (text("address").parse().expect("an address"), text("client"))
            })
            .collect()
    }
}

impl Replica {
    fn api(&self) -> Api {
        Api::unix(&self.home)
    }

    /// Ends it as a power cut does, and starts it again on this configuration.
    fn kill_and_start(self, config: &str) -> Self {
        self.service.kill();
        let service = Service::start(&self.netns, &self.home, config);
        Self { service, ..self }
    }

    /// Asks its DHCP for this machine until it is offered this address, or no address of these.
    fn serves(&self, chaddr: Mac, is_so: impl Fn(Ipv4Addr) -> bool) -> Duration {
        let begun = Instant::now();
        loop {
            let offer = self.segment.ask(&Packet::discover(chaddr));
            if offer.kind() == OFFER && is_so(offer.yiaddr()) {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < HANG, "still {}", offer.yiaddr());
        }
    }

    fn metric(&self, name: &str) -> f64 {
        let stream = connect(&self.netns, ADMIN).expect("metrics are there");
        let answer = Http::over(stream).get("/metrics");
        let line = answer
            .text()
            .lines()
            .find_map(|line| line.strip_prefix(name).map(str::trim));
        line.unwrap_or_else(|| panic!("no {name}"))
            .parse()
            .expect("a number")
    }

    /// Waits until it says that the store is up, or away.
    fn is_up(&self, up: bool) {
        let begun = Instant::now();
        while (self.metric("bootjack_store_up") == 1.0) != up {
            assert!(begun.elapsed() < HANG, "store_up is not {up}");
            // One is answered every few milliseconds; nothing is waited for but that.
            std::thread::yield_now();
        }
    }
}

fn reserved(n: u8, address: &str) -> Reservation {
    Reservation {
        address: address.to_owned(),
        ..node(n)
    }
}

fn chaddr_of(n: u8) -> Mac {
    let made = node(n);
    let octets: Vec<u8> = (made.mac.split(':'))
        .map(|octet| u8::from_str_radix(octet, 16).expect("a MAC"))
        .collect();
    octets.try_into().expect("six octets")
}

#[test]
fn what_one_reserves_the_other_serves_until_it_is_deleted() {
    let lab = Lab::new();
    let (a, b) = (lab.replica(1), lab.replica(2));
    let mut delays = Vec::new();
    for n in 1..=20 {
        let address = format!("198.18.0.{}", 20 + n);
        a.api().create(reserved(n, &address)).expect("created");
        delays.push(b.serves(chaddr_of(n), |offered| offered.to_string() == address));
    }
    delays.sort();
    println!(
        "reserved at one, offered by the other: median {:?}, longest {:?}",
        delays[10], delays[19]
    );
    let made = b.api().get("reservations/node-1").expect("it is there");
    b.api()
        .delete("reservations/node-1", &made.etag)
        .expect("deleted");
    a.serves(chaddr_of(1), |offered| offered.octets()[3] >= 100);
    assert_eq!(a.api().names(), b.api().names());
}

#[test]
fn of_two_that_reserve_one_address_at_once_one_wins() {
    let lab = Lab::new();
    let (a, b) = (lab.replica(1), lab.replica(2));
    for round in 0..20 {
        let address = format!("198.18.0.{}", 20 + round);
        let (one, other) = (
            reserved(10 + round, &address),
            reserved(50 + round, &address),
        );
        let (apis, address) = ((a.api(), b.api()), &address);
        let (left, right) = std::thread::scope(|scope| {
            let left = scope.spawn(|| apis.0.create(one));
            let right = apis.1.create(other);
            (left.join().expect("no panic"), right)
        });
        let won = [&left, &right].iter().filter(|made| made.is_ok()).count();
        assert_eq!(won, 1, "{address}: {left:?} {right:?}");
        let refused = left.err().or(right.err()).expect("one lost");
        assert_eq!(refused.code(), Code::AlreadyExists, "{refused:?}");
        assert!(refused.message().contains(address), "{refused:?}");
    }
    assert_eq!(a.api().names().len(), 20);
    assert_eq!(a.api().names(), b.api().names());
}

impl Replica {
    /// The answer to a packet, or why there is none.
    fn settle(&self, packet: &Packet) -> Result<Reply, String> {
        self.segment.take_address(packet.ciaddr, packet.chaddr);
        self.segment.send(packet);
        let xid = format!("{:08x}", packet.xid);
        let begun = Instant::now();
        loop {
            let answers = self.segment.take_answers();
            if let Some(answer) = answers.into_iter().find(|a| a.xid() == packet.xid) {
                return Ok(answer);
            }
            let is_it = |line: &&Value| line["message"] == "silent" && line["xid"] == xid.as_str();
            if let Some(line) = self.service.log().iter().rfind(is_it) {
                return Err(line["reason"].as_str().unwrap_or_default().to_owned());
            }
            assert!(begun.elapsed() < HANG, "nothing came of {packet:02x?}");
        }
    }

    /// From DISCOVER to ACK; or why not.
    fn acquire(&self, chaddr: Mac) -> Result<Ipv4Addr, String> {
        let offer = self.settle(&Packet::discover(chaddr))?;
        let answer = self.settle(&Packet::selecting(&offer))?;
        match answer.kind() {
            ACK => Ok(answer.yiaddr()),
            _ => Err("refused".to_owned()),
        }
    }
}

/// Nobody who was told that it has an address shares it, and etcd says the same.
fn assert_nobody_shares(lab: &Lab, acked: &BTreeMap<Mac, Ipv4Addr>) {
    let addresses: BTreeSet<&Ipv4Addr> = acked.values().collect();
    assert_eq!(
        addresses.len(),
        acked.len(),
        "an address has two holders: {acked:?}"
    );
    let holders = lab.holders();
    for (mac, address) in acked {
        assert_eq!(holders.get(address), Some(&mac_text(*mac)), "{address}");
    }
}

#[test]
fn two_replicas_give_out_one_pool_and_no_address_twice() {
    let lab = Lab::new();
    let small = |replica: Replica| {
        let config = replica.config.replace("198.18.0.199", "198.18.0.149");
        replica.kill_and_start(&config)
    };
    let replicas = [small(lab.replica(1)), small(lab.replica(2))];
    let mut tried = Vec::new();
    let ended: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (replicas.into_iter().enumerate())
            .map(|(at, replica)| {
                scope.spawn(move || {
                    let mut acked = BTreeMap::new();
                    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
                    for round in 0..3 {
                        for n in 0..40 {
                            let chaddr = mac(1000 + 100 * at as u16 + n);
                            match replica.acquire(chaddr) {
                                Ok(address) => {
                                    let before = acked.insert(chaddr, address);
                                    assert!(before.is_none_or(|b| b == address), "round {round}");
                                }
                                Err(reason) => *reasons.entry(reason).or_default() += 1,
                            }
                        }
                    }
                    (replica, acked, reasons)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|t| t.join().expect("no panic"))
            .collect()
    });
    let mut all = BTreeMap::new();
    for (replica, acked, reasons) in ended {
        println!(
            "{} acknowledged; silent or refused: {reasons:?}",
            acked.len()
        );
        all.extend(acked);
        tried.push(replica);
    }
    assert_eq!(all.len(), 50, "the pool is given out");
    assert_nobody_shares(&lab, &all);
    assert_eq!(lab.holders().len(), 50);
}

#[test]
fn while_etcd_is_away_the_known_are_answered_and_nobody_else_and_nothing_is_lost() {
    let mut lab = Lab::new();
    let (a, b) = (lab.replica(1), lab.replica(2));
    let made = a.api().create(reserved(1, "198.18.0.20")).expect("created");
    b.serves(chaddr_of(1), |offered| offered.octets()[3] == 20);
    let leased = a.acquire(mac(1000)).expect("a lease");
    let elsewhere = b.acquire(mac(1001)).expect("a lease");
    assert_ne!(leased, elsewhere);
    let renewal = a
        .settle(&Packet::extending(mac(1000), leased))
        .expect("acknowledged");
    assert_eq!(renewal.number(51), Some(3600));

    lab.etcd.kill();
    // Who asks first waits until it is known that nobody answers, and is told nothing.
    let first = a.acquire(mac(1002)).expect_err("silent");
    assert_eq!(first, "store_unavailable");
    a.is_up(false);
    for _ in 0..2 {
        let ack = a
            .settle(&Packet::extending(mac(1000), leased))
            .expect("acknowledged");
        assert_eq!((ack.kind(), ack.yiaddr()), (ACK, leased));
        let secs = ack.number(51).expect("a lease time");
        assert!(
            (1..=3600).contains(&secs),
            "no more than what is kept: {secs}"
        );
    }
    // Granted by the other, and known by what was heard of it.
    let ack = a
        .settle(&Packet::extending(mac(1001), elsewhere))
        .expect("acknowledged");
    assert_eq!(ack.kind(), ACK);
    let address = a
        .acquire(chaddr_of(1))
        .expect("a reserved machine is answered");
    assert_eq!(address, Ipv4Addr::new(198, 18, 0, 20));
    assert_eq!(
        a.acquire(mac(1003)).expect_err("silent"),
        "store_unavailable"
    );
    let refused = a
        .api()
        .create(reserved(2, "198.18.0.21"))
        .expect_err("away");
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    let refused = a.api().delete(&made.name, "").expect_err("away");
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    a.service.wait_for("failed", |line| {
        line["about"] == "store"
            && line["error"]
                .as_str()
                .is_some_and(|e| e.contains("known machines"))
    });

    lab.etcd.run();
    a.is_up(true);
    b.is_up(true);
    a.api().create(reserved(2, "198.18.0.21")).expect("created");
    b.serves(chaddr_of(2), |offered| offered.octets()[3] == 21);
    let mut all: BTreeMap<Mac, Ipv4Addr> = [(mac(1000), leased), (mac(1001), elsewhere)].into();
    all.insert(mac(1002), a.acquire(mac(1002)).expect("a lease"));
    all.insert(mac(1003), b.acquire(mac(1003)).expect("a lease"));
    assert_nobody_shares(&lab, &all);
    assert_eq!(
        b.api().names(),
        ["node-1", "node-2"].map(|n| format!("reservations/{n}"))
    );
}

#[test]
fn who_missed_what_was_compacted_reads_everything_anew() {
    let lab = Lab::new();
    let (a, b) = (lab.replica(1), lab.replica(2));
    for n in 1..=3 {
        let address = format!("198.18.0.{}", 20 + n);
        a.api().create(reserved(n, &address)).expect("created");
    }
    b.serves(chaddr_of(3), |offered| offered.octets()[3] == 23);
    let shared = b.acquire(mac(1000)).expect("a lease");
    lab.switch.cut(&b.port);
    a.api().delete("reservations/node-1", "").expect("deleted");
    let mut moved = a.api().get("reservations/node-2").expect("it is there");
    moved.address = "198.18.0.21".to_owned();
    a.api().update(&["address"], moved).expect("updated");
    a.api().create(reserved(4, "198.18.0.22")).expect("created");
    // Taken from its holder while nobody can tell the other replica.
    a.api()
        .create(reserved(5, &shared.to_string()))
        .expect("created");
    for n in 0..20 {
        a.acquire(mac(1100 + n)).expect("a lease");
    }
    lab.etcd.compact();
    b.is_up(false);
    lab.switch.mend(&b.port);
    b.is_up(true);
    b.serves(chaddr_of(2), |offered| offered.octets()[3] == 21);
    b.serves(chaddr_of(4), |offered| offered.octets()[3] == 22);
    b.serves(chaddr_of(5), |offered| offered == shared);
    b.serves(chaddr_of(1), |offered| offered.octets()[3] >= 100);
    assert_eq!(a.api().names(), b.api().names());
    let refused = b
        .settle(&Packet::extending(mac(1000), shared))
        .expect("told");
    assert_eq!(refused.kind(), NAK);
    let ours = lab.holders();
    let new = b.acquire(mac(1200)).expect("a lease");
    assert!(!ours.contains_key(&new), "{new} was somebody's");
}

#[test]
fn what_was_acknowledged_outlives_the_replica_that_did() {
    let lab = Lab::new();
    let (a, mut b) = (lab.replica(1), lab.replica(2));
    let mut acked = BTreeMap::new();
    for kill in 0..10_u16 {
        for n in 0..6 {
            let chaddr = mac(1000 + 10 * kill + n);
            acked.insert(chaddr, b.acquire(chaddr).expect("a lease"));
        }
        let n = u8::try_from(kill).expect("few") + 1;
        b.api()
            .create(reserved(n, &format!("198.18.0.{}", 20 + n)))
            .expect("created");
        let config = b.config.clone();
        b = b.kill_and_start(&config);
        a.serves(chaddr_of(n), |offered| offered.octets()[3] == 20 + n);
    }
    assert_eq!(a.api().names().len(), 10);
    assert_eq!(b.api().names(), a.api().names());
    assert_nobody_shares(&lab, &acked);
    for (chaddr, address) in &acked {
        for replica in [&a, &b] {
            let ack = replica
                .settle(&Packet::extending(*chaddr, *address))
                .expect("told");
            assert_eq!((ack.kind(), ack.yiaddr()), (ACK, *address));
        }
    }
}

fn batch_of(n: usize) -> Vec<Reservation> {
    let one = |at: usize| Reservation {
        name: format!("reservations/batch-{at:05}"),
        mac: format!(
            "52:54:01:{:02x}:{:02x}:{:02x}",
            at >> 16,
            (at >> 8) & 255,
            at & 255
        ),
        ..Reservation::default()
    };
    (0..n).map(one).collect()
}

fn create_all(api: &Api, parent: Vec<Reservation>) -> Result<usize, tonic::Status> {
    use bootjack_api::v1::reservations_client::ReservationsClient;
    use bootjack_api::v1::{BatchCreateReservationsRequest, CreateReservationRequest};
    let requests = (parent.into_iter())
        .map(|reservation| CreateReservationRequest {
            reservation_id: reservation.name.replace("reservations/", ""),
            reservation: Some(reservation),
            ..Default::default()
        })
        .collect();
    let request = BatchCreateReservationsRequest {
        requests,
        ..Default::default()
    };
    api.with(async |channel| {
        let mut client = ReservationsClient::new(channel)
            .max_decoding_message_size(64 << 20)
            .max_encoding_message_size(64 << 20);
        let made = client.batch_create_reservations(request).await?;
        Ok(made.into_inner().reservations.len())
    })
}

/// Every reservation's name, page by page.
fn all_names(api: &Api) -> Vec<String> {
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let page = api.page(1000, &token).expect("a page");
        names.extend(page.reservations.into_iter().map(|made| made.name));
        token = page.next_page_token;
        if token.is_empty() {
            return names;
        }
    }
}

#[test]
fn a_batch_of_ten_thousand_is_there_whole_or_not_at_all_whoever_dies() {
    const MANY: usize = 10_000;
    let lab = Lab::new();
    let (mut a, b) = (lab.replica(1), lab.replica(2));
    let mut whole = 0;
    for round in 0..6_u64 {
        let api = a.api();
        let call = std::thread::spawn(move || create_all(&api, batch_of(MANY)));
        if round < 5 {
            // Killed at another moment each time: as soon as something of the batch is staged, or a little later.
            let staged = || {
                lab.etcd
                    .ctl(&["get", "--prefix", "bootjack/staged/", "--keys-only"])
            };
            let begun = Instant::now();
            while staged().is_empty() && !call.is_finished() {
                assert!(begun.elapsed() < HANG, "nothing is staged");
            }
            for _ in 0..round {
                lab.etcd.ctl(&["get", "bootjack/revision"]);
            }
            let config = a.config.clone();
            a = a.kill_and_start(&config);
        }
        let made = call.join().expect("no panic");
        let names = all_names(&a.api());
        let here = names.iter().filter(|name| name.contains("batch-")).count();
        assert!(here == 0 || here == MANY, "half a batch: {here}");
        assert!(
            made.is_err() || here == MANY,
            "acknowledged, and {here} are there"
        );
        println!(
            "round {round}: answered {:?}, {here} are there",
            made.as_ref().err()
        );
        if here == 0 {
            continue;
        }
        whole += 1;
        let begun = Instant::now();
        loop {
            let there = all_names(&b.api()).len();
            assert!(there == 0 || there == MANY, "half a batch is seen: {there}");
            if there == MANY {
                break;
            }
            assert!(begun.elapsed() < HANG, "the other never hears of it");
        }
        assert_eq!(all_names(&b.api()), names, "as the other has it");
        // It can be changed at once, whoever has to finish the move.
        let first = b
            .api()
            .get("reservations/batch-00000")
            .expect("it is there");
        b.api().delete(&first.name, &first.etag).expect("deleted");
        assert_eq!(all_names(&b.api()).len(), MANY - 1);
        break;
    }
    assert_eq!(whole, 1, "the last one was let be");
}
