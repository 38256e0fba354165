//! What the packets meet: subnets, classes, reservations, and leases that their own answers made. In: a packet. Out: the reply,
//! or the rule that the server broke.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use bootjackd::bindings::Bindings;
use bootjackd::catalog::{Catalog, Change, Settings};
use bootjackd::dhcp::answer::{Mode, answer};
use bootjackd::dhcp::bootfile::BootServers;
use bootjackd::dhcp::decide::Answer;
use bootjackd::dhcp::explain::{self, explain};
use bootjackd::dhcp::proxy::Port;
use bootjackd::dhcp::reply;
use bootjackd::dhcp::request::Request;
use bootjackd::dhcp::route;
use bootjackd::dhcp::view::{Ingress, View};
use bootjackd::model::{
    BindingChange, Class, ClientPolicy, Lease, LeaseState, MacAddr, Match, Octets, Options, Pool,
    Reservation, Source, Subnet,
};

use crate::mutate::Random;
use crate::rules::{self, Packet};

const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

pub struct World {
    catalog: Catalog,
    bindings: Bindings,
    boot: BootServers,
    now_secs: u64,
    /// The same leases, kept by the simplest means there are.
    known: BTreeMap<Ipv4Addr, Lease>,
    seen: BTreeMap<&'static str, u64>,
}

fn pool(net: [u8; 2], first: u8, last: u8) -> Pool {
    let address = |host| Ipv4Addr::new(net[0], net[1], 0, host);
    Pool {
        first: address(first),
        last: address(last),
    }
}

/// More than fits any packet.
fn options() -> Options {
    let long = (0..20_u8).map(|n| (200 + n, Octets(vec![n; 90])));
    let common = [
        (42, vec![198, 18, 0, 1]),
        (119, b"\x03lab\x08internal\x00".to_vec()),
        (121, vec![24, 192, 0, 2, 198, 18, 0, 1]),
        (252, vec![b'u'; 300]),
    ];
    let common = common
        .into_iter()
        .map(|(code, content)| (code, Octets(content)));
    Options(common.chain(long).collect())
}

fn catalog() -> Catalog {
    let mut near = Subnet::of("198.18.0.0/24".parse().expect("a network"));
    near.pools = vec![pool([198, 18], 100, 110)];
    near.exclude = vec![pool([198, 18], 103, 103)];
    near.router = Some(SERVER);
    near.domain = Some("lab.internal".into());
    let mut far = Subnet::of("198.19.0.0/24".parse().expect("a network"));
    far.pools = vec![pool([198, 19], 50, 53)];
    far.client_policy = ClientPolicy::ClientId;
    let class = |name: &str, matches, pools, ignore| Class {
        name: name.into(),
        matches,
        options: Options::default(),
        pools,
        program: None,
        lease_time: Some(Duration::from_secs(120)),
        boot_server: false,
        ignore,
    };
    let vendor = |text: &str| Match {
        vendor_class: vec![text.into()],
        ..Match::default()
    };
    let ignored = Match {
        mac_prefix: vec![Octets(vec![0x52, 0x54, 0, 0, 0, 31])],
        ..Match::default()
    };
    let mut catalog = Catalog::new(Settings {
        subnets: vec![near, far],
        options: options(),
        classes: vec![
            class(
                "phones",
                vendor("phone"),
                vec![pool([198, 18], 109, 109)],
                false,
            ),
            class("ignored", ignored, vec![], true),
        ],
        ..Settings::default()
    });
    let mut reserve = |id: &str, address: [u8; 4], change: &dyn Fn(&mut Reservation)| {
        let mut own = Reservation::of(id.into(), Source::Api);
        own.address = Some(address.into());
        change(&mut own);
        catalog = catalog.with(&Change::Create(own)).expect("fits");
    };
    let mac = |last| Some(MacAddr([0x52, 0x54, 0, 0, 0, last]));
    reserve("node-1", [198, 18, 0, 10], &|own| own.mac = mac(1));
    reserve("in-the-pool", [198, 18, 0, 104], &|own| own.mac = mac(2));
    reserve("by-uuid", [198, 18, 0, 12], &|own| {
        own.identities.uuids = vec![
            "01020304-0506-0708-090a-0b0c0d0e0f10"
                .parse()
                .expect("a UUID"),
        ];
    });
    reserve("by-port", [198, 19, 0, 30], &|own| {
        own.identities.circuit_ids = vec![Octets(b"lan1".to_vec())];
    });
    catalog
}

impl World {
    pub fn new() -> Self {
        let mut bindings = Bindings::default();
        let catalog = catalog();
        for own in catalog.reservations(None) {
            own.address
                .into_iter()
                .for_each(|address| bindings.reserve(address));
        }
        Self {
            catalog,
            bindings,
            boot: BootServers {
                programs: ["undionly.kpxe", "snponly.efi", "ipxe-arm64.efi"]
                    .map(str::to_owned)
                    .into(),
                http_port: 80,
                http_address: None,
            },
            now_secs: 1_800_000_000,
            known: BTreeMap::new(),
            seen: [
                "offer", "ack", "nak", "silent", "overload", "relayed", "dropped",
            ]
            .map(|name| (name, 0))
            .into(),
        }
    }

    /// How often what happened.
    pub fn seen(&self) -> &BTreeMap<&'static str, u64> {
        &self.seen
    }

    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// Answers as the shell does; the reply, if there is one.
    pub fn send(&mut self, octets: &[u8], random: &mut Random) -> Result<Option<Vec<u8>>, String> {
        self.now_secs += u64::try_from(random.below(30)).expect("small");
        let ingress = Ingress {
            server_id: SERVER,
            is_unicast: random.one_in(4),
            authoritative: random.one_in(4),
            now_secs: self.now_secs,
        };
        let mode = if random.one_in(16) {
            Mode::Proxy
        } else {
            Mode::Server
        };
        let port = if random.one_in(16) {
            Port::BootServer
        } else {
            Port::Server
        };
        let request = match Request::parse(octets) {
            Ok(request) => request,
            Err(_) => {
                self.saw("dropped");
                return Ok(None);
            }
        };
        let (catalog, before) = (self.catalog.clone(), self.bindings.clone());
        let Some(view) = View::new(&request, &catalog, &before, ingress) else {
            return Ok(None);
        };
        let (decision, bootfile) = answer(&request, port, mode, &self.boot, &view);
        let reply = reply::encode(&request, &decision.answer, bootfile.as_ref(), &view);
        let _ = (route::of_grant(&request, None), route::of_nak(&request));
        if random.one_in(8) {
            self.check_explained(octets, port, mode, ingress, &decision.answer)?;
        }
        if let Some(change) = &decision.change {
            check_change(change, &view)?;
            self.bindings.apply(change.clone());
            self.follow(change.clone());
        }
        self.check_known(random)?;
        let Some(reply) = reply else {
            self.saw("silent");
            return Ok(None);
        };
        rules::check(octets, &reply)?;
        let read = Packet::read(&reply)?;
        self.saw(match read.kind() {
            2 => "offer",
            5 => "ack",
            _ => "nak",
        });
        if read.option(52).is_some() {
            self.saw("overload");
        }
        if !read.address(24).is_unspecified() {
            self.saw("relayed");
        }
        check_given(read.address(16), &view)?;
        Ok(Some(reply))
    }

    fn check_explained(
        &self,
        octets: &[u8],
        port: Port,
        mode: Mode,
        ingress: Ingress,
        answered: &Answer,
    ) -> Result<(), String> {
        let world = explain::World {
            catalog: &self.catalog,
            bindings: &self.bindings,
            boot: &self.boot,
            mode,
            ingress,
        };
        let explained = explain(octets, port, world);
        let name = match answered {
            Answer::Offer { .. } | Answer::ProxyOffer => "offer",
            Answer::Ack { .. } | Answer::AckInform | Answer::ProxyAck => "ack",
            Answer::Nak(_) => "nak",
            Answer::Silent(_) => "silent",
        };
        let text = explained.to_string();
        (explained.answer == name && text.contains(name))
            .then_some(())
            .ok_or_else(|| format!("{name} is explained as:\n{text}"))
    }

    fn follow(&mut self, change: BindingChange) {
        match change {
            BindingChange::Put(lease) => drop(self.known.insert(lease.address, lease)),
            BindingChange::Withdraw { address, .. } => drop(self.known.remove(&address)),
        }
    }

    /// Nothing but what was asked for has changed, and nothing grows.
    fn check_known(&self, random: &mut Random) -> Result<(), String> {
        let is_same = self.bindings.len() == self.known.len()
            && (!random.one_in(64) || self.bindings.iter().eq(self.known.values()));
        if !is_same {
            return Err("another client's lease has changed".into());
        }
        let all = 11 + 4 + 4; // two pools and four reservations
        (self.known.len() <= all)
            .then_some(())
            .ok_or_else(|| format!("{} addresses are known", self.known.len()))
    }
}

/// Who holds an address keeps it, whatever others send.
fn check_change(change: &BindingChange, view: &View) -> Result<(), String> {
    let address = match change {
        BindingChange::Put(lease) => lease.address,
        BindingChange::Withdraw { address, .. } => *address,
    };
    let held = view.bindings.at(address).filter(|held| {
        let holds = matches!(
            held.state,
            LeaseState::Offered | LeaseState::Bound | LeaseState::Declined
        );
        holds && held.is_current(view.now_secs)
    });
    let is_own = |held: &Lease| {
        let same_machine = view
            .reservation
            .is_some_and(|own| held.reservation.as_ref() == Some(&own.id));
        view.client.as_ref() == Some(&held.client) || same_machine
    };
    match held {
        Some(held) if !is_own(held) => Err(format!(
            "{} of {} is changed: {change:?}",
            held.address, held.client
        )),
        Some(held) if held.state == LeaseState::Declined => {
            Err(format!("a declined address is given: {change:?}"))
        }
        _ => Ok(()),
    }
}

/// Whoever is given an address may have it.
fn check_given(address: Ipv4Addr, view: &View) -> Result<(), String> {
    if address.is_unspecified() {
        return Ok(());
    }
    let reserved = view.catalog.by_address(address);
    let own = view.reservation.map(|own| &own.id);
    if let Some(owner) = reserved.filter(|owner| Some(&owner.id) != own) {
        return Err(format!("{address} is reserved for {}", owner.id));
    }
    let in_pool = match address.octets() {
        [198, 18, 0, 103] => false, // excluded
        [198, 18, 0, 109] => view.classes.iter().any(|class| class.name == "phones"),
        [198, 18, 0, host] => (100..=110).contains(&host),
        [198, 19, 0, host] => (50..=53).contains(&host),
        _ => false,
    };
    (reserved.is_some() || in_pool)
        .then_some(())
        .ok_or_else(|| format!("{address} is not to be given"))
}
