//! What a decision may look at: immutable values and the time. The look-up of a packet's subnet, reservation and classes is
//! made here, once.

use std::net::Ipv4Addr;

use super::request::{Kind, Request};
use crate::bindings::Bindings;
use crate::catalog::Catalog;
use crate::lifecycle;
use crate::model::{
    Class, ClientKey, ClientPolicy, Layer, Lease, Octets, Phase, Pool, Reservation, Slices, Subnet,
    Verdict,
};

/// Link selection among a relay agent's words (RFC 3527).
const LINK_SELECTION: u8 = 5;
/// Server identifier override among them (RFC 5107).
const SERVER_ID_OVERRIDE: u8 = 11;

/// Where a packet came in, and when.
#[derive(Clone, Copy, Debug)]
pub struct Ingress {
    /// The server's address on the interface.
    pub server_id: Ipv4Addr,
    /// It was sent to that address alone, and not broadcast.
    pub is_unicast: bool,
    /// Clients that nothing is known of are refused, since no other server can know them.
    pub authoritative: bool,
    pub now_secs: u64,
}

/// The world as one packet finds it.
pub struct View<'a> {
    pub catalog: &'a Catalog,
    pub bindings: &'a Bindings,
    /// The subnet the client is on.
    pub subnet: &'a Subnet,
    /// Why that one.
    pub subnet_rule: &'static str,
    /// The client's reservation, wherever its address lies.
    pub reservation: Option<&'a Reservation>,
    /// By what it was found.
    pub reservation_rule: &'static str,
    /// What its machine is served, if it is reserved.
    pub verdict: Option<Verdict>,
    /// What its leases are kept under; none if it has no identity.
    pub client: Option<ClientKey>,
    /// The port it is plugged in, as its relay agent says, or said when it got the lease that it extends.
    pub circuit_id: Option<Octets>,
    /// The classes it is in, in the order of the file.
    pub classes: Vec<&'a Class>,
    /// Option 54 of the reply: the server's address, or the one its relay agent wants said (RFC 5107).
    pub server_id: Ipv4Addr,
    /// The server's own address on the interface: boot files are there, whoever stands for it as a DHCP server.
    pub own_address: Ipv4Addr,
    pub authoritative: bool,
    pub now_secs: u64,
    /// The parts of its pools to give new addresses of first; all of them unless it is set.
    pub own_slices: Slices,
}

impl<'a> View<'a> {
    /// Looks everything up; nothing if the client is on no subnet of ours.
    pub fn new(
        request: &Request,
        catalog: &'a Catalog,
        bindings: &'a Bindings,
        ingress: Ingress,
    ) -> Option<Self> {
        let (link, subnet_rule) = link_address(request, catalog, ingress);
        let subnet = catalog.subnet_of(link)?;
        let client = client_key(request, subnet.client_policy);
        let circuit_id = circuit_id(request, client.as_ref(), bindings);
        let found = find_reservation(request, circuit_id.as_ref(), catalog);
        let overridden = request
            .relay_address(SERVER_ID_OVERRIDE)
            .filter(|_| !request.giaddr.is_unspecified());
        Some(Self {
            catalog,
            bindings,
            subnet,
            subnet_rule,
            reservation: found.map(|(reservation, _)| reservation),
            verdict: found.map(|(own, _)| lifecycle::verdict(catalog, own, ingress.now_secs)),
            reservation_rule: found
                .map_or("no identity of it is in a reservation", |(_, rule)| rule),
            classes: classes_of(request, circuit_id.as_ref(), catalog),
            client,
            circuit_id,
            server_id: overridden.unwrap_or(ingress.server_id),
            own_address: ingress.server_id,
            authoritative: ingress.authoritative,
            now_secs: ingress.now_secs,
            own_slices: Slices::ALL,
        })
    }

    /// The address reserved for the client, if it is one of this subnet: elsewhere the machine is served like any other.
    pub fn reserved_address(&self) -> Option<Ipv4Addr> {
        self.reservation?
            .address
            .filter(|address| self.subnet.cidr.contains(address))
    }

    /// The pools of the subnet that this client may draw from: those of its classes, where one has some here, or else the
    /// subnet's own.
    pub fn pools(&self) -> Vec<Pool> {
        let here = |pool: &Pool| self.subnet.cidr.contains(&pool.first);
        let of_classes: Vec<Pool> = (self.classes.iter())
            .flat_map(|class| class.pools.iter().copied().filter(here))
            .collect();
        if of_classes.is_empty() {
            self.subnet.pools.clone()
        } else {
            of_classes
        }
    }

    /// What of the client's pools is not for it: exclusions, pools of classes that it is not in, and special addresses.
    pub fn taken_out(&self) -> impl Iterator<Item = Pool> {
        let of_others = (self.catalog.classes().iter())
            .filter(|class| !self.classes.iter().any(|own| own.name == class.name))
            .flat_map(|class| class.pools.iter().copied());
        let special = self.subnet.never_given().chain([self.own_address]);
        (self.subnet.exclude.iter().copied())
            .chain(of_others)
            .chain(special.map(Pool::of_one))
    }

    /// Whether the client may be given this address from a pool: it lies in one of the client's, is nobody's special address,
    /// is reserved for nobody, and nobody else holds or declined it.
    pub fn is_free_for(&self, client: &ClientKey, address: Ipv4Addr) -> bool {
        self.is_in_pool(address)
            && self.subnet.can_be_given(address)
            && address != self.own_address
            && self.catalog.by_address(address).is_none()
            && !self
                .bindings
                .at(address)
                .is_some_and(|lease| lease.keeps_out(client, self.now_secs))
    }

    /// Whether the address lies in a pool that this client may draw from.
    pub fn is_in_pool(&self, address: Ipv4Addr) -> bool {
        let is_members_only = |class: &Class| {
            class.pools.iter().any(|pool| pool.holds(address))
                && !self.classes.iter().any(|own| own.name == class.name)
        };
        let in_class_pool =
            (self.classes.iter()).any(|class| class.pools.iter().any(|pool| pool.holds(address)));
        let in_own_pool = self.pools().iter().any(|pool| pool.holds(address));
        (in_class_pool || in_own_pool)
            && !self.subnet.excludes(address)
            && !self.catalog.classes().iter().any(is_members_only)
    }

    /// Whether the lease is this client's, by its key or by its reservation.
    pub fn is_own(&self, lease: &Lease) -> bool {
        self.client.as_ref() == Some(&lease.client)
            || self
                .reservation
                .is_some_and(|own| lease.reservation.as_ref() == Some(&own.id))
    }

    /// The option's content and the layer that says it: of global, subnet, class and reservation the last that does. What the
    /// subnet says in words of its own (`router`, `dns`, …) is not among them.
    pub fn configured_option(&self, code: u8) -> Option<(&'a [u8], Layer)> {
        let of = |options: &'a crate::model::Options| options.0.get(&code).map(|o| o.0.as_slice());
        let reservation = self.reservation.and_then(|r| of(&r.options));
        if let Some(content) = reservation {
            return Some((content, Layer::Reservation));
        }
        for class in self.classes.iter().rev() {
            if let Some(content) = of(&class.options) {
                return Some((content, Layer::Class(class.name.clone())));
            }
        }
        of(&self.subnet.options)
            .map(|content| (content, Layer::Subnet))
            .or_else(|| of(self.catalog.options()).map(|content| (content, Layer::Global)))
    }

    /// Every code that some layer configures.
    pub fn configured_codes(&self) -> Vec<u8> {
        let layers = [self.catalog.options(), &self.subnet.options]
            .into_iter()
            .chain(self.classes.iter().map(|class| &class.options))
            .chain(self.reservation.map(|reservation| &reservation.options));
        let mut codes: Vec<u8> = layers
            .flat_map(|options| options.0.keys().copied())
            .collect();
        codes.sort_unstable();
        codes.dedup();
        codes
    }

    /// The network boot program asked for by name: by the reservation, or else by the last class that says one.
    pub fn program(&self) -> Option<&'a str> {
        self.reservation
            .and_then(|reservation| reservation.program.as_deref())
            .or_else(|| (self.classes.iter().rev()).find_map(|class| class.program.as_deref()))
    }

    /// Whether it is to ask port 4011 for its boot file.
    pub fn asks_boot_server(&self) -> bool {
        self.classes.iter().any(|class| class.boot_server)
    }

    /// Whether the machine is on its way to another system: its installation runs, or begins with the boot it asks for.
    pub fn is_installing(&self, request: &Request) -> bool {
        let machine = self
            .reservation
            .and_then(|own| self.catalog.machine(&own.id));
        matches!(self.verdict, Some(Verdict::Serve { attempt: 1.. }))
            && (request.boots_from_network()
                || machine.is_some_and(|machine| machine.phase == Phase::Installing))
    }

    /// The longest lease for this client, and who says so.
    pub fn longest_lease(&self, request: &Request) -> (u32, Layer) {
        let of_class = |class: &&Class| Some((class.lease_time?, Layer::Class(class.name.clone())));
        let (time, layer) = (self.classes.iter().rev())
            .find_map(of_class)
            .unwrap_or((self.subnet.lease_time, Layer::Subnet));
        let (time, layer) = match self.catalog.install_lease() {
            Some(short) if short < time && self.is_installing(request) => {
                (short, Layer::Installation)
            }
            _ => (time, layer),
        };
        let secs = u32::try_from(time.as_secs()).unwrap_or(u32::MAX - 1);
        (secs, layer)
    }
}

/// An address of the link the client is on, and who says so.
pub fn link_address(
    request: &Request,
    catalog: &Catalog,
    ingress: Ingress,
) -> (Ipv4Addr, &'static str) {
    let is_extending = ingress.is_unicast && request.kind != Kind::Discover;
    let is_relayed = !request.giaddr.is_unspecified();
    if let Some(link) = request.relay_address(LINK_SELECTION).filter(|_| is_relayed) {
        (link, "its relay agent selects the link (RFC 3527)")
    } else if let Some(selected) = request.subnet_selection() {
        (selected, "it selects the subnet itself (RFC 3011)")
    } else if is_relayed {
        (
            request.giaddr,
            "its relay agent's address is there (giaddr, RFC 2131 §4.3.1)",
        )
    } else if is_extending && catalog.subnet_of(request.ciaddr).is_some() {
        // A client behind a relay agent renews past it, so that giaddr is empty and only ciaddr tells where it is.
        (
            request.ciaddr,
            "it has an address there and asks this server alone (ciaddr, RFC 2131 §4.3.2)",
        )
    } else {
        (
            ingress.server_id,
            "the interface that it was heard on is there (RFC 2131 §4.3.1)",
        )
    }
}

/// The MAC counts first, since every stage of a boot has it alike; then client-id, UUID, and the port it is plugged in.
fn find_reservation<'a>(
    request: &Request,
    circuit_id: Option<&Octets>,
    catalog: &'a Catalog,
) -> Option<(&'a Reservation, &'static str)> {
    let by_mac = request.mac().and_then(|mac| catalog.by_mac(mac));
    let by_client_id = || catalog.by_client_id(request.client_id()?);
    let by_uuid = || catalog.by_uuid(request.uuid()?);
    let by_circuit_id = || catalog.by_circuit_id(&circuit_id?.0);
    by_mac
        .map(|own| (own, "by its MAC"))
        .or_else(|| Some((by_client_id()?, "by its client-id (61)")))
        .or_else(|| Some((by_uuid()?, "by its UUID (97)")))
        .or_else(|| Some((by_circuit_id()?, "by its circuit-id (82.1)")))
        .map(|(own, rule)| (&**own, rule))
}

/// Who renews past its relay agent says nothing of its port; its lease remembers.
fn circuit_id(
    request: &Request,
    client: Option<&ClientKey>,
    bindings: &Bindings,
) -> Option<Octets> {
    let said = request.circuit_id().map(|id| Octets(id.to_vec()));
    said.or_else(|| {
        let is_relayed = !request.giaddr.is_unspecified();
        let lease = bindings.at(request.ciaddr).filter(|_| !is_relayed)?;
        lease
            .circuit_id
            .clone()
            .filter(|_| client == Some(&lease.client))
    })
}

fn client_key(request: &Request, policy: ClientPolicy) -> Option<ClientKey> {
    let by_id = || request.client_id().map(|id| ClientKey::Id(id.to_vec()));
    match policy {
        ClientPolicy::Mac => request.client(),
        ClientPolicy::ClientId => by_id().or_else(|| request.client()),
    }
}

fn classes_of<'a>(
    request: &Request,
    circuit_id: Option<&Octets>,
    catalog: &'a Catalog,
) -> Vec<&'a Class> {
    catalog
        .classes()
        .iter()
        .filter(|class| request.is_in(&class.matches, circuit_id))
        .collect()
}
