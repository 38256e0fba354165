//! SIGKILL at any moment, and a new start: what was acknowledged is still true. An oracle beside the service keeps what it was
//! promised, and asks for all of it after each kill.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::mpsc::{Sender, channel};

use bootjack_api::v1::Reservation;
use tonic::{Code, Status};

use crate::support::api::{Api, text};
use crate::support::dhcp::{ACK, OFFER, Packet, Segment, mac, numbers, text as mac_text};
use crate::support::netns::Netns;
use crate::support::service::{Home, Service};
use crate::support::wire::Mac;

const KILLS: usize = 50;
/// Clients without a reservation; fewer than the pool has addresses.
const CLIENTS: usize = 80;
/// What a call may change, named once.
const MASK: [&str; 3] = ["address", "hostname", "vars"];

type Reservations = BTreeMap<String, Reservation>;

/// A call that the kill cut off: what it was about is now one or the other.
struct CutOff {
    name: String,
    before: Option<Reservation>,
    after: Option<Reservation>,
}

/// What the service was heard to promise.
#[derive(Default)]
struct Promised {
    reservations: Reservations,
    leases: BTreeMap<Mac, Ipv4Addr>,
}

struct Lab {
    server: Netns,
    segment: Segment,
    home: Home,
    config: String,
}

impl Lab {
    fn new() -> Self {
        let (server, segment) = Segment::new();
        let home = Home::new();
        let config = home.config("");
        Self {
            server,
            segment,
            home,
            config,
        }
    }

    fn start(&self) -> Service {
        Service::start(&self.server, &self.home, &self.config)
    }
}

/// Creates, updates and deletes one reservation after the other until a call is cut off; says each acknowledgement.
fn write_until_cut_off(
    api: &Api,
    reservations: &mut Reservations,
    random: &mut impl FnMut(usize) -> usize,
    acknowledged: &Sender<()>,
) -> CutOff {
    loop {
        let number = 10 + random(80);
        let name = format!("reservations/node-{number}");
        let before = reservations.get(&name).cloned();
        let wanted = Reservation {
            name: name.clone(),
            mac: format!("52:54:00:00:ff:{number:02x}"),
            // Those below 50 have an address of their own, outside the pool; one in two of them another one after an update.
            address: match number {
                ..50 => format!("198.18.0.{}", number + 40 * random(2)),
                _ => String::new(),
            },
            hostname: format!("node-{number}"),
            vars: [("ssh_key".to_owned(), text(&format!("key {}", random(1000))))].into(),
            ..Reservation::default()
        };
        let (after, answer) = match &before {
            None => (Some(wanted.clone()), api.create(wanted).map(Some)),
            Some(_) if random(3) == 0 => (None, api.delete(&name, "").map(|()| None)),
            Some(_) => (Some(wanted.clone()), api.update(&MASK, wanted).map(Some)),
        };
        match answer {
            Ok(written) => {
                reservations.remove(&name);
                reservations.extend(written.map(|written| (name, written)));
                let _ = acknowledged.send(());
            }
            Err(status) => {
                assert_is_cut_off(&status);
                return CutOff {
                    name,
                    before,
                    after,
                };
            }
        }
    }
}

/// A call that failed did so because nobody is there any more.
fn assert_is_cut_off(status: &Status) {
    let lost = [
        Code::Unavailable,
        Code::Unknown,
        Code::Cancelled,
        Code::Internal,
    ];
    assert!(lost.contains(&status.code()), "{status:?}");
}

/// Whether what is there is what this call would have written.
fn is_as_wanted(there: Option<&Reservation>, wanted: Option<&Reservation>) -> bool {
    let said = |r: &Reservation| {
        (
            r.mac.clone(),
            r.address.clone(),
            r.hostname.clone(),
            r.vars.clone(),
        )
    };
    there.map(said) == wanted.map(said)
}

/// Holds all reservations that are there against those that were promised, and takes over what became of the call cut off.
fn check_reservations(api: &Api, promised: &mut Reservations, cut_off: &CutOff) {
    let page = api.page(0, "").expect("a list");
    let there: Reservations = (page.reservations.into_iter())
        .map(|reservation| (reservation.name.clone(), reservation))
        .collect();
    let about = there.get(&cut_off.name);
    assert!(
        about == cut_off.before.as_ref() || is_as_wanted(about, cut_off.after.as_ref()),
        "half of a call: {about:?}; before {:?}, after {:?}",
        cut_off.before,
        cut_off.after,
    );
    promised.remove(&cut_off.name);
    promised.extend(about.map(|about| (cut_off.name.clone(), about.clone())));
    assert_eq!(there, *promised, "reservations");
}

/// Each holder returns with its address and is told that it still has it; nobody else has.
fn check_leases(segment: &Segment, leases: &BTreeMap<Mac, Ipv4Addr>) {
    let packets: Vec<Packet> = leases
        .iter()
        .map(|(mac, address)| Packet::rebooting(*mac, *address))
        .collect();
    packets.iter().for_each(|packet| segment.send(packet));
    for (packet, address) in packets.iter().zip(leases.values()) {
        let answer = segment.answer_to(packet);
        assert_eq!(
            (answer.kind(), answer.yiaddr()),
            (ACK, *address),
            "{}",
            mac_text(packet.chaddr)
        );
    }
    let addresses: BTreeSet<&Ipv4Addr> = leases.values().collect();
    assert_eq!(
        addresses.len(),
        leases.len(),
        "an address has two holders: {leases:?}"
    );
}

/// What a reservation says is what its machine is offered.
fn check_that_reserved_machines_are_served(segment: &Segment, reservations: &Reservations) {
    for reservation in reservations
        .values()
        .filter(|r| !r.address.is_empty())
        .take(5)
    {
        let octets: Vec<u8> = (reservation.mac.split(':'))
            .map(|octet| u8::from_str_radix(octet, 16).expect("a MAC"))
            .collect();
        let chaddr = octets.try_into().expect("six octets");
        let offer = segment.ask(&Packet::discover(chaddr));
        assert_eq!(offer.kind(), OFFER);
        assert_eq!(offer.yiaddr().to_string(), reservation.address);
        assert_eq!(offer.text(12), Some(reservation.hostname.as_str()));
    }
}

/// Asks for addresses for some clients, takes the offers all at once, and comes back after some of the acknowledgements: the others
/// are on their way.
fn acquire_some(
    segment: &Segment,
    leases: &mut BTreeMap<Mac, Ipv4Addr>,
    random: &mut impl FnMut(usize) -> usize,
) {
    let clients: BTreeSet<u16> = (0..=random(12))
        .map(|_| 1000 + random(CLIENTS) as u16)
        .collect();
    let requests: Vec<Packet> = clients
        .iter()
        .map(|n| Packet::selecting(&segment.ask(&Packet::discover(mac(*n)))))
        .collect();
    requests.iter().for_each(|request| segment.send(request));
    let awaited = random(requests.len() + 1);
    for request in &requests[..awaited] {
        let ack = segment.answer_to(request);
        assert_eq!(ack.kind(), ACK);
        leases.insert(ack.chaddr(), ack.yiaddr());
    }
}

/// Gives an address back, when the service has said that it knows.
fn release_one(segment: &Segment, service: &Service, leases: &mut BTreeMap<Mac, Ipv4Addr>) {
    if let Some((mac, address)) = leases.pop_first() {
        let release = Packet::release(mac, address);
        segment.send_from_address(&release);
        segment.expect_silence(service, &release, "released");
    }
}

#[test]
fn whatever_was_acknowledged_is_true_after_every_kill() {
    survive_kills(&Lab::new(), KILLS, 30, |_| {});
}

/// Checkpoints and snapshots are made all the time, and are what most kills hit; and every third start finds no database.
#[test]
fn it_is_true_where_snapshots_are_cut_off_and_the_database_is_gone_too() {
    let mut lab = Lab::new();
    lab.config = lab.home.config("\n[store]\nsnapshot_period = \"1s\"\n");
    let data = lab.home.path().join("data");
    survive_kills(&lab, KILLS / 2, 600, |kill| {
        if kill % 3 == 2 {
            std::fs::remove_dir_all(data.join("db")).expect("it was there");
        }
    });
    let last_snapshot = std::fs::read_dir(&data)
        .expect("readable")
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_prefix("snapshot-")?.parse::<u64>().ok()
        })
        .max();
    assert!(
        last_snapshot > Some(10),
        "snapshots were taken: {last_snapshot:?}"
    );
}

/// Kills the service again and again, each time after as many acknowledgements as chance wants, fewer than `most`.
fn survive_kills(lab: &Lab, kills: usize, most: usize, after_kill: impl Fn(usize)) {
    let mut promised = Promised::default();
    let mut random = numbers(0x5eed);
    let mut service = lab.start();
    for kill in 0..kills {
        let api = &Api::unix(&lab.home);
        let (acknowledged, acknowledgements) = channel();
        let seed = 1 + random(1 << 30) as u64;
        let Promised {
            reservations,
            leases,
        } = &mut promised;
        let cut_off = std::thread::scope(|scope| {
            let writer = scope.spawn(move || {
                write_until_cut_off(api, reservations, &mut numbers(seed), &acknowledged)
            });
            for _ in 0..random(most) {
                acknowledgements.recv().expect("calls are answered");
            }
            if random(3) == 0 {
                release_one(&lab.segment, &service, leases);
            }
            acquire_some(&lab.segment, leases, &mut random);
            service.kill();
            writer.join().expect("the writer ends with the service")
        });
        // What was sent before the end counts, also where it was heard only now.
        for answer in lab.segment.take_answers() {
            if answer.kind() == ACK {
                promised.leases.insert(answer.chaddr(), answer.yiaddr());
            }
        }
        after_kill(kill);
        if kill % 5 == 4 {
            // It is killed while it starts, too.
            let starting = Service::spawn(&lab.server, &lab.home, &lab.config);
            starting.wait_for_nth("listening", 1 + random(4), |_| true);
            starting.kill();
        }
        service = lab.start();
        let api = Api::unix(&lab.home);
        check_reservations(&api, &mut promised.reservations, &cut_off);
        check_leases(&lab.segment, &promised.leases);
        check_that_reserved_machines_are_served(&lab.segment, &promised.reservations);
    }
    assert!(
        promised.leases.len() > CLIENTS / 2,
        "the test did something"
    );
    assert!(promised.reservations.len() > 10, "the test did something");
}

#[test]
fn a_lease_outlives_a_kill_and_the_end_of_the_reservation_it_was_made_by() {
    let lab = Lab::new();
    let service = lab.start();
    let api = Api::unix(&lab.home);
    let in_the_pool = Reservation {
        mac: mac_text(mac(1)),
        address: "198.18.0.150".to_owned(),
        hostname: "node-1".to_owned(),
        ..Reservation::default()
    };
    let made = api.create(in_the_pool).expect("created");
    let address = lab.segment.acquire(mac(1)).yiaddr();
    service.kill();

    let _service = lab.start();
    Api::unix(&lab.home)
        .delete(&made.name, "")
        .expect("deleted");
    let ack = lab.segment.ask(&Packet::rebooting(mac(1), address));
    assert_eq!((ack.kind(), ack.yiaddr()), (ACK, address));
}
