use std::collections::HashMap;

use proptest::prelude::*;

use super::super::request::tests::packet;
use super::super::view::Ingress;
use super::*;
use crate::bindings::Bindings;
use crate::catalog::{Catalog, Change, Settings};
use crate::model::{
    Class, ClientPolicy, MacAddr, Match, Octets, Pool, Reservation, Source, Subnet,
};

const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const RESERVED: Ipv4Addr = address(10);
const NOW: u64 = 1_000_000;

const fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, last)
}

/// A subnet with three addresses in its pool, and a reservation of .10 for the MAC that ends in 1.
fn catalog() -> Catalog {
    let mut subnet = Subnet::of("198.18.0.0/24".parse().expect("a network"));
    subnet.pools = vec![Pool {
        first: address(100),
        last: address(102),
    }];
    subnet.router = Some(SERVER);
    let mut reserved = Reservation::of("node-1".into(), Source::Api);
    reserved.mac = Some(mac(1));
    reserved.address = Some(RESERVED);
    reserved.hostname = Some("node-1".into());
    catalog_of(subnet, vec![])
        .with(&Change::Create(reserved))
        .expect("fits")
}

fn catalog_of(subnet: Subnet, classes: Vec<Class>) -> Catalog {
    Catalog::new(Settings {
        subnets: vec![subnet],
        classes,
        ..Settings::default()
    })
}

fn mac(last: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0, 0, last])
}

fn key(last: u8) -> ClientKey {
    ClientKey::Mac(mac(last))
}

/// The world between packets: decisions that want a change get it.
struct World {
    catalog: Catalog,
    bindings: Bindings,
    now: u64,
    is_unicast: bool,
    authoritative: bool,
}

impl World {
    fn new() -> Self {
        Self {
            catalog: catalog(),
            bindings: Bindings::default(),
            now: NOW,
            is_unicast: false,
            authoritative: false,
        }
    }

    fn send(&mut self, request: &Request) -> Answer {
        let view = View::new(
            request,
            &self.catalog,
            &self.bindings,
            Ingress {
                server_id: SERVER,
                is_unicast: self.is_unicast,
                authoritative: self.authoritative,
                now_secs: self.now,
            },
        )
        .expect("the server's subnet");
        let decision = decide(request, &view);
        if let Some(change) = decision.change {
            self.bindings.apply(change);
        }
        decision.answer
    }

    fn discover(&mut self, client: u8) -> Answer {
        self.send(&request(client, 1, &[]))
    }

    fn select(&mut self, client: u8, wanted: Ipv4Addr) -> Answer {
        self.send(&request(
            client,
            3,
            &[(54, &SERVER.octets()), (50, &wanted.octets())],
        ))
    }

    fn reboot(&mut self, client: u8, wanted: Ipv4Addr) -> Answer {
        self.send(&request(client, 3, &[(50, &wanted.octets())]))
    }

    fn renew(&mut self, client: u8, held: Ipv4Addr) -> Answer {
        self.send(&with_ciaddr(client, 3, held, &[]))
    }

    /// DISCOVER and REQUEST; the address.
    fn lease(&mut self, client: u8) -> Ipv4Addr {
        let Answer::Offer { address, .. } = self.discover(client) else {
            panic!("no offer for {client}");
        };
        let acked = self.select(client, address);
        assert!(matches!(acked, Answer::Ack { address: a, .. } if a == address));
        address
    }
}

fn octets(client: u8, kind: u8, options: &[(u8, &[u8])]) -> Vec<u8> {
    let kind = [kind];
    let all = [&[(53, &kind as &[u8])], options].concat();
    let mut octets = packet(&all);
    octets[28..34].copy_from_slice(&mac(client).0);
    octets
}

fn request(client: u8, kind: u8, options: &[(u8, &[u8])]) -> Request {
    Request::parse(&octets(client, kind, options)).expect("valid")
}

fn with_ciaddr(client: u8, kind: u8, ciaddr: Ipv4Addr, options: &[(u8, &[u8])]) -> Request {
    let mut octets = octets(client, kind, options);
    octets[12..16].copy_from_slice(&ciaddr.octets());
    Request::parse(&octets).expect("valid")
}

fn offer(address: Ipv4Addr) -> Answer {
    Answer::Offer {
        address,
        lease_secs: 3600,
    }
}

fn ack(address: Ipv4Addr) -> Answer {
    Answer::Ack {
        address,
        lease_secs: 3600,
    }
}

fn nak(reason: NakReason) -> Answer {
    Answer::Nak(reason)
}

#[test]
fn a_reserved_machine_gets_its_address_in_every_state() {
    let mut world = World::new();
    assert_eq!(world.discover(1), offer(RESERVED));
    assert_eq!(world.select(1, RESERVED), ack(RESERVED));
    assert_eq!(world.reboot(1, RESERVED), ack(RESERVED));
    assert_eq!(world.renew(1, RESERVED), ack(RESERVED));
}

#[test]
fn a_reserved_machine_is_told_to_leave_any_other_address() {
    let mut world = World::new();
    for wanted in [address(11), address(100)] {
        assert_eq!(world.select(1, wanted), nak(NakReason::ReservedElsewhere));
        assert_eq!(world.reboot(1, wanted), nak(NakReason::ReservedElsewhere));
        assert_eq!(world.renew(1, wanted), nak(NakReason::ReservedElsewhere));
    }
}

#[test]
fn nobody_else_gets_a_reserved_address_however_it_is_asked_for() {
    let mut world = World::new();
    let asked = world.send(&request(2, 1, &[(50, &RESERVED.octets())]));
    assert!(matches!(asked, Answer::Offer { address, .. } if address != RESERVED));
    assert_eq!(
        world.select(2, RESERVED),
        nak(NakReason::ReservedForAnother)
    );
    assert_eq!(
        world.reboot(2, RESERVED),
        nak(NakReason::ReservedForAnother)
    );
    assert_eq!(world.renew(2, RESERVED), nak(NakReason::ReservedForAnother));
}

#[test]
fn a_dynamic_client_keeps_its_address_through_discovers_reboots_and_expiry() {
    let mut world = World::new();
    let leased = world.lease(2);
    assert_eq!(world.discover(2), offer(leased));
    assert_eq!(world.reboot(2, leased), ack(leased));
    world.now += 7200;
    assert_eq!(
        world.discover(2),
        offer(leased),
        "as long as nobody else needed it"
    );
}

#[test]
fn a_repeated_discover_is_offered_the_same_address() {
    let mut world = World::new();
    let first = world.discover(2);
    assert!(matches!(first, Answer::Offer { .. }));
    assert_eq!(world.discover(2), first);
    assert_eq!(world.bindings.len(), 1);
}

#[test]
fn the_address_a_client_asks_for_is_offered_if_it_is_free() {
    let mut world = World::new();
    let asked = request(2, 1, &[(50, &address(101).octets())]);
    assert_eq!(world.send(&asked), offer(address(101)));
    let asked = request(3, 1, &[(50, &address(101).octets())]);
    assert_ne!(
        world.send(&asked),
        offer(address(101)),
        "it is held for the first"
    );
}

#[test]
fn an_offer_is_held_for_the_clients_retries_and_no_longer() {
    let mut world = World::new();
    let held: Vec<Answer> = (2..5).map(|client| world.discover(client)).collect();
    assert_eq!(world.discover(5), Answer::Silent(Silence::PoolExhausted));
    world.now += OFFER_HOLD_SECS - 1;
    assert_eq!(world.discover(5), Answer::Silent(Silence::PoolExhausted));
    world.now += 1;
    assert!(held.contains(&world.discover(5)));
}

#[test]
fn a_request_that_takes_another_servers_offer_is_silent_and_frees_ours() {
    let mut world = World::new();
    for client in 2..5 {
        world.discover(client);
    }
    let elsewhere = request(2, 3, &[(54, &[198, 18, 0, 2]), (50, &[198, 18, 0, 200])]);
    assert_eq!(
        world.send(&elsewhere),
        Answer::Silent(Silence::OtherServerChosen)
    );
    assert!(matches!(world.discover(5), Answer::Offer { .. }));
}

#[test]
fn an_offer_that_a_restart_forgot_is_still_good() {
    let mut world = World::new();
    assert_eq!(world.select(2, address(101)), ack(address(101)));
}

#[test]
fn a_stranger_that_reboots_is_left_to_the_server_that_knows_it() {
    let mut world = World::new();
    let unknown = Answer::Silent(Silence::UnknownLease);
    assert_eq!(world.reboot(2, address(101)), unknown);
    assert_eq!(world.renew(2, address(101)), unknown);
    world.authoritative = true;
    assert_eq!(world.reboot(2, address(101)), ack(address(101)));
}

#[test]
fn an_address_of_another_network_is_refused_at_once() {
    let mut world = World::new();
    let foreign = Ipv4Addr::new(192, 0, 2, 7);
    assert_eq!(world.reboot(1, foreign), nak(NakReason::WrongNetwork));
    assert_eq!(world.reboot(2, foreign), nak(NakReason::WrongNetwork));
    assert_eq!(world.select(2, foreign), nak(NakReason::WrongNetwork));
}

#[test]
fn an_address_that_somebody_holds_or_that_is_in_no_pool_is_refused() {
    let mut world = World::new();
    let leased = world.lease(2);
    assert_eq!(world.select(3, leased), nak(NakReason::Taken));
    assert_eq!(world.reboot(3, leased), nak(NakReason::Taken));
    assert_eq!(world.select(3, address(50)), nak(NakReason::NotInPool));
    let own = world.lease(3);
    assert_ne!(own, leased);
    let third = (100..103).map(address).find(|a| ![own, leased].contains(a));
    assert_eq!(
        world.reboot(3, third.expect("one is left")),
        nak(NakReason::Taken)
    );
}

#[test]
fn a_released_address_is_free_and_its_last_holder_returns_to_it() {
    let mut world = World::new();
    let leased = world.lease(2);
    let release = with_ciaddr(2, 7, leased, &[(54, &SERVER.octets())]);
    assert_eq!(world.send(&release), Answer::Silent(Silence::Released));
    assert_eq!(world.discover(2), offer(leased));
    let release = with_ciaddr(3, 7, leased, &[]);
    assert_eq!(world.send(&release), Answer::Silent(Silence::NotTheHolder));
}

#[test]
fn who_holds_a_lease_that_was_taken_back_is_refused_and_begins_anew() {
    let mut world = World::new();
    world.send(&request(
        9,
        3,
        &[(50, &[198, 18, 0, 100]), (54, &SERVER.octets())],
    ));
    let held = world.bindings.at(address(100)).cloned().expect("granted");
    world.bindings.apply(BindingChange::Put(Lease {
        state: LeaseState::Revoked,
        expires_secs: NOW,
        ..held
    }));
    for authoritative in [false, true] {
        world.authoritative = authoritative;
        let renewal = with_ciaddr(9, 3, address(100), &[]);
        assert_eq!(world.send(&renewal), nak(NakReason::Revoked));
    }
    assert_eq!(
        world.send(&request(8, 1, &[(50, &[198, 18, 0, 100])])),
        offer(address(100)),
        "it is free for others"
    );
    assert_eq!(
        world.send(&request(9, 1, &[])),
        offer(address(101)),
        "and it is not the first thing that its former holder is offered"
    );
}

#[test]
fn a_declined_address_is_given_to_nobody_for_a_while() {
    let mut world = World::new();
    let leased = world.lease(2);
    let decline = |client| request(client, 4, &[(50, &leased.octets()), (54, &SERVER.octets())]);
    assert_eq!(
        world.send(&decline(3)),
        Answer::Silent(Silence::NotTheHolder)
    );
    assert_eq!(world.send(&decline(2)), Answer::Silent(Silence::Declined));
    let another = world.lease(2);
    assert_ne!(another, leased);
    assert_eq!(world.reboot(2, leased), nak(NakReason::Taken));
    world.lease(3);
    assert_eq!(world.discover(4), Answer::Silent(Silence::PoolExhausted));
    world.now += DECLINE_SECS;
    assert_eq!(world.discover(4), offer(leased));
}

#[test]
fn a_declined_reserved_address_silences_the_server_and_then_returns() {
    let mut world = World::new();
    world.lease(1);
    let decline = request(1, 4, &[(50, &RESERVED.octets())]);
    assert_eq!(world.send(&decline), Answer::Silent(Silence::Declined));
    assert_eq!(
        world.discover(1),
        Answer::Silent(Silence::ReservedAddressDeclined)
    );
    assert_eq!(world.reboot(1, RESERVED), nak(NakReason::Taken));
    world.now += DECLINE_SECS;
    assert_eq!(world.discover(1), offer(RESERVED));
}

#[test]
fn an_inform_is_answered_without_changing_anything() {
    let mut world = World::new();
    let inform = with_ciaddr(9, 8, address(60), &[]);
    assert_eq!(world.send(&inform), Answer::AckInform);
    assert!(world.bindings.is_empty());
}

#[test]
fn a_client_may_ask_for_a_shorter_lease_but_not_for_a_longer_one() {
    let mut world = World::new();
    for (asked, granted) in [(600_u32, 600), (1, 60), (u32::MAX, 3600)] {
        let discover = request(1, 1, &[(51, &asked.to_be_bytes())]);
        let Answer::Offer { lease_secs, .. } = world.send(&discover) else {
            panic!("no offer");
        };
        assert_eq!(lease_secs, granted);
    }
}

#[test]
fn the_servers_own_address_is_never_given_although_a_pool_holds_it() {
    let mut world = World::new();
    let request = request(2, 1, &[(50, &address(101).octets())]);
    let view = View::new(
        &request,
        &world.catalog,
        &world.bindings,
        Ingress {
            server_id: address(101),
            is_unicast: false,
            authoritative: false,
            now_secs: NOW,
        },
    );
    let decision = decide(&request, &view.expect("its subnet"));
    assert_ne!(decision.answer, offer(address(101)));
    assert!(matches!(world.send(&request), Answer::Offer { .. }));
}

#[test]
fn a_machine_is_known_by_any_of_its_identities() {
    let uuid: Vec<u8> = (0..16).collect();
    let swapped = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut machine = Reservation::of("many".into(), Source::Api);
    machine.mac = Some(mac(20));
    machine.identities.macs = vec![mac(21)];
    machine.identities.client_ids = vec![Octets(vec![255, 1, 2])];
    machine.identities.uuids = vec![
        "00010203-0405-0607-0809-0a0b0c0d0e0f"
            .parse()
            .expect("a UUID"),
    ];
    machine.identities.circuit_ids = vec![Octets(b"eth7".to_vec())];
    machine.address = Some(address(30));
    let mut world = World::new();
    world.catalog = world.catalog.with(&Change::Create(machine)).expect("fits");
    let option_97 = |octets: &[u8]| [&[0], octets].concat();
    let (plain, other_order) = (option_97(&uuid), option_97(&swapped));
    type Options<'a> = &'a [(u8, &'a [u8])];
    let cases: [(u8, Options); 6] = [
        (20, &[]),
        (21, &[]),
        (40, &[(61, &[255, 1, 2])]),
        (41, &[(97, &plain)]),
        (42, &[(97, &other_order)]),
        (43, &[(82, b"\x01\x04eth7")]),
    ];
    for (client, options) in cases {
        let answer = world.send(&request(client, 1, options));
        assert_eq!(answer, offer(address(30)), "{client} {options:?}");
    }
    assert_ne!(world.discover(44), offer(address(30)));
}

#[test]
fn leases_are_kept_under_the_client_id_where_the_subnet_says_so() {
    let mut world = World::new();
    let two = |world: &mut World| {
        [&[0, 1][..], &[0, 2]].map(|id| world.send(&request(9, 1, &[(61, id)])))
    };
    let [first, second] = two(&mut world);
    assert_eq!(first, second, "one card, one address");
    let mut subnet = world.catalog.subnets()[0].clone();
    subnet.client_policy = ClientPolicy::ClientId;
    world.catalog = catalog_of(subnet, vec![]);
    let [first, second] = two(&mut world);
    assert_ne!(first, second, "two hosts behind one card");
}

#[test]
fn excluded_addresses_are_given_to_nobody() {
    let mut world = World::new();
    let mut subnet = world.catalog.subnets()[0].clone();
    subnet.exclude = vec![Pool {
        first: address(100),
        last: address(101),
    }];
    world.catalog = catalog_of(subnet, vec![]);
    assert_eq!(world.lease(2), address(102));
    assert_eq!(world.discover(3), Answer::Silent(Silence::PoolExhausted));
    assert_eq!(world.select(3, address(100)), nak(NakReason::NotInPool));
}

#[test]
fn a_class_has_pools_that_its_members_alone_draw_from() {
    let class = Class {
        name: "phones".into(),
        matches: Match {
            vendor_class: vec!["phone".into()],
            ..Match::default()
        },
        options: Default::default(),
        pools: vec![Pool {
            first: address(102),
            last: address(102),
        }],
        program: None,
        lease_time: Some(std::time::Duration::from_secs(120)),
        boot_server: false,
        ignore: false,
    };
    let mut world = World::new();
    let subnet = world.catalog.subnets()[0].clone();
    world.catalog = catalog_of(subnet, vec![class]);
    let phone = request(2, 1, &[(60, b"phone-9")]);
    let short = Answer::Offer {
        address: address(102),
        lease_secs: 120,
    };
    assert_eq!(world.send(&phone), short);
    let others = [world.lease(3), world.lease(4)];
    assert!(!others.contains(&address(102)), "{others:?}");
    assert_eq!(world.discover(5), Answer::Silent(Silence::PoolExhausted));
    assert_eq!(world.select(5, address(102)), nak(NakReason::NotInPool));
}

#[test]
fn a_class_that_is_ignored_gets_no_answer() {
    let class = Class {
        name: "strangers".into(),
        matches: Match {
            mac_prefix: vec![Octets(vec![0x52, 0x54, 0, 0, 0, 7])],
            ..Match::default()
        },
        options: Default::default(),
        pools: vec![],
        program: None,
        lease_time: None,
        boot_server: false,
        ignore: true,
    };
    let mut world = World::new();
    let subnet = world.catalog.subnets()[0].clone();
    world.catalog = catalog_of(subnet, vec![class]);
    assert_eq!(world.discover(7), Answer::Silent(Silence::IgnoredClass));
    assert!(matches!(world.discover(8), Answer::Offer { .. }));
}

#[test]
fn the_link_a_relay_agent_names_counts_before_its_own_address() {
    let second = Subnet::of("198.19.0.0/24".parse().expect("a network"));
    let mut second = second;
    let pool = Pool {
        first: Ipv4Addr::new(198, 19, 0, 50),
        last: Ipv4Addr::new(198, 19, 0, 50),
    };
    second.pools = vec![pool];
    let mut world = World::new();
    let first = world.catalog.subnets()[0].clone();
    world.catalog = Catalog::new(Settings {
        subnets: vec![first, second],
        ..Settings::default()
    });
    let relayed = |giaddr: [u8; 4], options: &[(u8, &[u8])]| {
        let mut octets = octets(9, 1, options);
        octets[24..28].copy_from_slice(&giaddr);
        Request::parse(&octets).expect("valid")
    };
    let there = offer(pool.first);
    assert_eq!(world.send(&relayed([198, 19, 0, 1], &[])), there, "giaddr");
    let link = relayed([198, 18, 0, 2], &[(82, &[5, 4, 198, 19, 0, 0])]);
    assert_eq!(world.send(&link), there, "RFC 3527");
    let selected = relayed([198, 18, 0, 2], &[(118, &[198, 19, 0, 0])]);
    assert_eq!(world.send(&selected), there, "RFC 3011");
    assert_eq!(
        world.send(&request(9, 1, &[(118, &[198, 19, 0, 0])])),
        there
    );
}

#[test]
fn a_client_behind_a_relay_agent_renews_past_it_in_its_own_subnet() {
    let mut second = Subnet::of("198.19.0.0/24".parse().expect("a network"));
    let theirs = Ipv4Addr::new(198, 19, 0, 50);
    second.pools = vec![Pool::of_one(theirs)];
    let mut world = World::new();
    let first = world.catalog.subnets()[0].clone();
    world.catalog = Catalog::new(Settings {
        subnets: vec![first, second],
        ..Settings::default()
    });
    let mut relayed = octets(9, 1, &[]);
    relayed[24..28].copy_from_slice(&[198, 19, 0, 1]);
    let discover = Request::parse(&relayed).expect("valid");
    assert_eq!(world.send(&discover), offer(theirs));
    let renew = with_ciaddr(9, 3, theirs, &[]);
    let elsewhere = world.send(&renew);
    assert_eq!(elsewhere, nak(NakReason::WrongNetwork), "broadcast here");
    world.is_unicast = true;
    assert_eq!(world.send(&renew), ack(theirs));
    let foreign = with_ciaddr(9, 3, Ipv4Addr::new(192, 0, 2, 7), &[]);
    assert_eq!(world.send(&foreign), nak(NakReason::WrongNetwork));
}

#[test]
fn a_machine_known_by_the_port_it_is_plugged_in_renews_although_its_relay_agent_does_not_say_the_port_then()
 {
    let mut world = World::new();
    let mut machine = Reservation::of("port-7".into(), Source::Api);
    machine.identities.circuit_ids = vec![Octets(b"eth7".to_vec())];
    machine.address = Some(address(30));
    world.catalog = world.catalog.with(&Change::Create(machine)).expect("fits");
    let relayed = |client, kind, options: &[(u8, &[u8])]| {
        let options = [options, &[(82, b"\x01\x04eth7" as &[u8])]].concat();
        let mut octets = octets(client, kind, &options);
        octets[24..28].copy_from_slice(&[198, 18, 0, 2]);
        Request::parse(&octets).expect("valid")
    };
    let select = [(54, &SERVER.octets() as &[u8]), (50, &address(30).octets())];
    assert_eq!(world.send(&relayed(9, 3, &select)), ack(address(30)));
    assert_eq!(world.renew(9, address(30)), ack(address(30)));
    assert_eq!(world.renew(9, address(30)), ack(address(30)), "still");
    let stranger = world.renew(8, address(30));
    assert_eq!(stranger, nak(NakReason::ReservedForAnother));
}

#[test]
fn a_relay_agent_may_stand_for_the_server() {
    let mut world = World::new();
    let instead = [198, 18, 0, 2];
    let said = [&[11, 4][..], &instead].concat();
    let mut octets = octets(
        9,
        3,
        &[(54, &instead), (50, &address(100).octets()), (82, &said)],
    );
    octets[24..28].copy_from_slice(&instead);
    let request = Request::parse(&octets).expect("valid");
    assert_eq!(world.send(&request), ack(address(100)), "RFC 5107");
}

#[derive(Clone, Debug)]
enum Step {
    Discover(u8),
    Select(u8, u8),
    Reboot(u8, u8),
    Renew(u8, u8),
    Release(u8, u8),
    Decline(u8, u8),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let client = 1..8_u8;
    let wanted = prop_oneof![Just(10_u8), 98..104_u8];
    prop_oneof![
        client.clone().prop_map(Step::Discover),
        (client.clone(), wanted.clone()).prop_map(|(c, w)| Step::Select(c, w)),
        (client.clone(), wanted.clone()).prop_map(|(c, w)| Step::Reboot(c, w)),
        (client.clone(), wanted.clone()).prop_map(|(c, w)| Step::Renew(c, w)),
        (client.clone(), wanted.clone()).prop_map(|(c, w)| Step::Release(c, w)),
        (client, wanted).prop_map(|(c, w)| Step::Decline(c, w)),
        (1..4000_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    /// Whatever the interleaving: an address that was acknowledged to one client is given to no other before its time is up.
    #[test]
    fn no_address_is_held_by_two_clients(steps in proptest::collection::vec(step(), 1..200)) {
        let mut world = World::new();
        let mut held: HashMap<Ipv4Addr, (u8, u64)> = HashMap::new();
        for step in steps {
            let (client, answer) = match step {
                Step::Discover(c) => (c, world.discover(c)),
                Step::Select(c, w) => (c, world.select(c, address(w))),
                Step::Reboot(c, w) => (c, world.reboot(c, address(w))),
                Step::Renew(c, w) => (c, world.renew(c, address(w))),
                Step::Release(c, w) => {
                    let answer = world.send(&with_ciaddr(c, 7, address(w), &[]));
                    if answer == Answer::Silent(Silence::Released) {
                        held.remove(&address(w));
                    }
                    (c, answer)
                }
                Step::Decline(c, w) => {
                    let answer = world.send(&request(c, 4, &[(50, &address(w).octets())]));
                    if answer == Answer::Silent(Silence::Declined) {
                        held.remove(&address(w));
                    }
                    (c, answer)
                }
                Step::Wait(secs) => {
                    world.now += secs;
                    continue;
                }
            };
            let given = match answer {
                Answer::Offer { address, .. } => Some((address, None)),
                Answer::Ack { address, lease_secs } => Some((address, Some(lease_secs))),
                _ => None,
            };
            if let Some((address, lease)) = given {
                prop_assert_eq!(address == RESERVED, client == 1, "{} got {}", client, address);
                if let Some((holder, until)) = held.get(&address) {
                    prop_assert!(*holder == client || *until <= world.now, "{} is {}'s", address, holder);
                }
                if let Some(secs) = lease {
                    held.insert(address, (client, world.now + u64::from(secs)));
                }
            }
        }
        prop_assert!(world.bindings.of(&key(1)).all(|lease| lease.address == RESERVED));
    }
}
