//! What the operator wants, as an immutable value: subnets, profiles and reservations, indexed by every identity.
//!
//! In: a change. Out: the next catalog, or a refusal that names the place, what stands in the way and what to do. Copies are
//! cheap (persistent maps): one write costs O(log n), and a reader never waits.

mod index;
mod layers;
mod machines;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use self::index::{Cards, Names};
pub use self::layers::{Layer, Layered};
use self::machines::Machines;
pub use self::machines::digest;
use crate::model::{
    Class, Group, MacAddr, Octets, Options, Profile, Reservation, Source, Subnet, Uuid, Vars,
    check_hostname, check_label, check_reservation_id,
};

/// What the configuration says once and for all.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub subnets: Vec<Subnet>,
    pub profiles: BTreeMap<String, Profile>,
    /// Options for every client.
    pub options: Options,
    /// In the order of the file; of two that say the same option, the later one wins.
    pub classes: Vec<Class>,
    /// Variables for every machine.
    pub vars: Vars,
    /// In the order of the file; of two that say the same variable, the later one wins.
    pub groups: Vec<Group>,
    /// The longest lease of a machine that is installing; none: as long as any other.
    pub install_lease: Option<Duration>,
    /// The name of the profile that machines in rescue boot.
    pub rescue_profile: String,
    /// Where secrets are that reservations made over the API may name.
    pub secrets_dir: Option<PathBuf>,
}

/// Subnets, profiles and reservations.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    settings: Arc<Settings>,
    names: Names,
    cards: Cards,
    machines: Machines,
}

/// Something to do once, on whichever thread.
pub type Work<'a> = &'a mut (dyn FnMut() + Send);

/// A change of one reservation.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A new one.
    Create(Reservation),
    /// Another value for the one with this id, if its revision still is `expected`.
    Update {
        reservation: Reservation,
        expected: Option<u64>,
    },
    /// The end of the one with this id, if its revision still is `expected`.
    Delete { id: String, expected: Option<u64> },
}

/// Why a change was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("reservation {title}: {field} {value} already belongs to {owner}; {next_step}")]
    Taken {
        title: String,
        field: &'static str,
        value: String,
        /// The other reservation's title and its MAC or address.
        owner: String,
        /// Its id.
        owner_id: Box<str>,
        next_step: Box<str>,
    },
    #[error(
        "request_id {request} has made {made} already, and said something else then; use another request_id for another call"
    )]
    RequestReused {
        request: String,
        /// The id of what it made.
        made: String,
    },
    #[error(
        "request_id {request} has made {gone} already, which has been deleted since; use another request_id to make it again"
    )]
    RequestUndone { request: String, gone: String },
    #[error("reservation {title}: {problem}")]
    Invalid {
        title: String,
        field: &'static str,
        problem: String,
    },
    #[error("reservation {0} does not exist; see: bootjack reservation list")]
    NotFound(String),
    #[error(
        "reservation {title} has changed since it was read (etag {current} now, {expected} sent); read it again and repeat the change"
    )]
    Stale {
        id: Box<str>,
        title: String,
        current: u64,
        expected: u64,
    },
    #[error(
        "reservation {0} comes from the configuration file; change it there and restart bootjackd"
    )]
    FromConfigFile(String),
}

impl Catalog {
    /// A catalog without reservations.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
            ..Self::default()
        }
    }

    pub fn subnets(&self) -> &[Subnet] {
        &self.settings.subnets
    }

    pub fn profiles(&self) -> &BTreeMap<String, Profile> {
        &self.settings.profiles
    }

    pub fn options(&self) -> &Options {
        &self.settings.options
    }

    pub fn classes(&self) -> &[Class] {
        &self.settings.classes
    }

    pub fn install_lease(&self) -> Option<Duration> {
        self.settings.install_lease
    }

    pub fn secrets_dir(&self) -> Option<&std::path::Path> {
        self.settings.secrets_dir.as_deref()
    }

    /// The subnet that holds this address.
    pub fn subnet_of(&self, address: Ipv4Addr) -> Option<&Subnet> {
        self.subnets().iter().find(|s| s.cidr.contains(&address))
    }

    pub fn by_id(&self, id: &str) -> Option<&Arc<Reservation>> {
        self.names.id(id)
    }

    pub fn by_mac(&self, mac: MacAddr) -> Option<&Arc<Reservation>> {
        self.cards.macs.get(&mac)
    }

    pub fn by_client_id(&self, id: &[u8]) -> Option<&Arc<Reservation>> {
        self.cards.client_ids.get(&Octets(id.to_vec()))
    }

    /// In either octet order.
    pub fn by_uuid(&self, uuid: Uuid) -> Option<&Arc<Reservation>> {
        self.cards.uuids.get(&uuid.canonical())
    }

    pub fn by_circuit_id(&self, id: &[u8]) -> Option<&Arc<Reservation>> {
        self.cards.circuit_ids.get(&Octets(id.to_vec()))
    }

    pub fn by_address(&self, address: Ipv4Addr) -> Option<&Arc<Reservation>> {
        self.cards.addresses.get(&address)
    }

    /// The addresses above `after` that are reserved, in order, each with whose it is.
    pub fn reserved(
        &self,
        after: Option<Ipv4Addr>,
    ) -> impl Iterator<Item = (Ipv4Addr, &Arc<Reservation>)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let start = after.map_or(Unbounded, Excluded);
        (self.cards.addresses.range((start, Unbounded))).map(|(address, r)| (*address, r))
    }

    /// What the call of this id has made; one of it, if it was a batch.
    pub fn by_request(&self, id: &str) -> Option<&Arc<Reservation>> {
        self.names.request(id)
    }

    /// The reservation that a person means by this word: an id, a host name or a MAC.
    pub fn named(&self, word: &str) -> Option<&Arc<Reservation>> {
        self.by_id(word)
            .or_else(|| self.names.hostname(word))
            .or_else(|| self.by_mac(word.parse().ok()?))
    }

    /// The reservations with an id after `after`, ordered by id.
    pub fn reservations(&self, after: Option<&str>) -> impl Iterator<Item = &Arc<Reservation>> {
        self.names.after(after)
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The catalog after the change, or why it cannot be.
    pub fn with(&self, change: &Change) -> Result<Self, Refusal> {
        match change {
            Change::Create(reservation) => {
                self.check(reservation)?;
                let mut next = self.clone();
                next.insert(Arc::new(reservation.clone()));
                Ok(next)
            }
            Change::Update {
                reservation,
                expected,
            } => {
                let mut next = self.without(&reservation.id, *expected)?;
                next.check(reservation)?;
                next.insert(Arc::new(reservation.clone()));
                Ok(next)
            }
            Change::Delete { id, expected } => self.without(id, *expected),
        }
    }

    /// The catalog with all of these as well, or each that cannot be, by its place in the list, and why. What two of them want
    /// both is the first one's.
    pub fn with_all(&self, new: &[Reservation]) -> Result<Self, Vec<(usize, Refusal)>> {
        let mut next = self.clone();
        let mut refused = Vec::new();
        for (at, reservation) in new.iter().enumerate() {
            match next.check(reservation) {
                Ok(()) => next.insert(Arc::new(reservation.clone())),
                Err(refusal) => refused.push((at, refusal)),
            }
        }
        if refused.is_empty() {
            Ok(next)
        } else {
            Err(refused)
        }
    }

    /// The catalog with as many of these as fit, and those that do not: of two that want the same, the first one fits. For a start:
    /// costs no copies, and where nothing stands in another's way it is two pieces of work, which `both` may do at once.
    pub fn loaded(
        mut self,
        kept: Vec<Arc<Reservation>>,
        both: impl FnOnce(Work, Work),
    ) -> (Self, Vec<(Arc<Reservation>, Refusal)>) {
        if let Some((names, cards)) = self.indexed_with(&kept, both) {
            (self.names, self.cards) = (names, cards);
            return (self, Vec::new());
        }
        let mut refused = Vec::new();
        for reservation in kept {
            match self.check(&reservation) {
                Ok(()) => self.insert(reservation),
                Err(refusal) => refused.push((reservation, refusal)),
            }
        }
        (self, refused)
    }

    /// The indexes with all of these as well, if every one of them fits.
    fn indexed_with(
        &self,
        kept: &[Arc<Reservation>],
        both: impl FnOnce(Work, Work),
    ) -> Option<(Names, Cards)> {
        let (mut names, mut cards) = (self.names.clone(), self.cards.clone());
        let (mut are_named, mut are_known) = (false, false);
        let fits = |own: &Arc<Reservation>| self.check_alone(own).is_ok();
        both(
            &mut || are_named = kept.iter().all(|own| fits(own) && names.insert(own)),
            &mut || are_known = kept.iter().all(|own| cards.insert(own)),
        );
        (are_named && are_known).then_some((names, cards))
    }

    /// Adds one that was checked.
    fn insert(&mut self, entry: Arc<Reservation>) {
        self.names.insert(&entry);
        self.cards.insert(&entry);
    }

    fn without(&self, id: &str, expected: Option<u64>) -> Result<Self, Refusal> {
        let known = self
            .by_id(id)
            .ok_or_else(|| Refusal::NotFound(id.to_owned()))?;
        if known.source == Source::ConfigFile {
            return Err(Refusal::FromConfigFile(known.title().to_owned()));
        }
        if let Some(expected) = expected.filter(|expected| *expected != known.revision) {
            return Err(Refusal::Stale {
                id: id.into(),
                title: known.title().to_owned(),
                current: known.revision,
                expected,
            });
        }
        let mut next = self.clone();
        next.names.remove(known);
        next.cards.remove(known);
        Ok(next)
    }

    /// Whether the reservation is sound in itself, fits the subnets and profiles, and takes nothing from another one.
    fn check(&self, reservation: &Reservation) -> Result<(), Refusal> {
        self.check_alone(reservation)?;
        self.check_untaken(reservation)
    }

    fn check_alone(&self, reservation: &Reservation) -> Result<(), Refusal> {
        let title = || reservation.title().to_owned();
        let invalid = |field, problem| {
            Err(Refusal::Invalid {
                title: title(),
                field,
                problem,
            })
        };
        if let Some(mac) = reservation.macs().find(|mac| !mac.is_unicast()) {
            return invalid(
                "mac",
                format!(
                    "mac {mac} is a group address or empty; give the network card's own address"
                ),
            );
        }
        if reservation.mac.is_none() && reservation.identities.is_empty() {
            return invalid(
                "mac",
                "mac is missing, and no client-id, UUID or circuit-id stands for it".to_owned(),
            );
        }
        if let Some(Err(problem)) = reservation.hostname.as_deref().map(check_hostname) {
            return invalid("hostname", format!("hostname {problem}"));
        }
        if let Err(problem) = check_reservation_id(&reservation.id) {
            return invalid("reservation_id", problem);
        }
        if let Some(problem) = reservation.address.and_then(|a| self.unusable(a)) {
            return invalid("address", problem);
        }
        let labels = reservation.labels.iter();
        if let Some(problem) = labels.filter_map(|(k, v)| check_label(k, v).err()).next() {
            return invalid("labels", format!("labels: {problem}"));
        }
        if let Some(problem) = self.unreadable(reservation) {
            return invalid("vars", problem);
        }
        self.check_profile(reservation)
    }

    fn check_untaken(&self, reservation: &Reservation) -> Result<(), Refusal> {
        let taken = |field, value: String, owner: &Reservation, what: &str| {
            let known_by = match owner.address {
                Some(address) if field != "address" => address.to_string(),
                _ => owner.known_by(),
            };
            Err(Refusal::Taken {
                title: reservation.title().to_owned(),
                field,
                value,
                owner: format!("{} ({known_by})", owner.title()),
                owner_id: owner.id.as_str().into(),
                next_step: match owner.source {
                    Source::Api => format!("pick another {what} or delete {}", owner.title()),
                    Source::ConfigFile => format!(
                        "pick another {what} or take {} out of the configuration file",
                        owner.title()
                    ),
                }
                .into(),
            })
        };
        if let Some(address) = reservation.address
            && let Some(owner) = self.by_address(address)
        {
            return taken("address", address.to_string(), owner, "address");
        }
        for mac in reservation.macs() {
            if let Some(owner) = self.by_mac(mac) {
                return taken("mac", mac.to_string(), owner, "MAC");
            }
        }
        for id in &reservation.identities.client_ids {
            if let Some(owner) = self.cards.client_ids.get(id) {
                return taken("client_ids", id.to_string(), owner, "client-id");
            }
        }
        for uuid in &reservation.identities.uuids {
            if let Some(owner) = self.by_uuid(*uuid) {
                return taken("uuids", uuid.to_string(), owner, "UUID");
            }
        }
        for id in &reservation.identities.circuit_ids {
            if let Some(owner) = self.cards.circuit_ids.get(id) {
                return taken("circuit_ids", id.to_string(), owner, "circuit-id");
            }
        }
        if let Some(hostname) = &reservation.hostname
            && let Some(owner) = self.names.hostname(hostname)
        {
            return taken("hostname", hostname.clone(), owner, "host name");
        }
        if let Some(owner) = self.by_id(&reservation.id) {
            return taken("id", reservation.id.clone(), owner, "id");
        }
        Ok(())
    }

    /// Why no machine can have this address, if none can.
    fn unusable(&self, address: Ipv4Addr) -> Option<String> {
        let Some(subnet) = self.subnet_of(address) else {
            let subnets: Vec<String> = self.subnets().iter().map(|s| s.cidr.to_string()).collect();
            return Some(format!(
                "address {address} is outside every subnet ({}); pick one inside, or add its subnet to the configuration file",
                subnets.join(", ")
            ));
        };
        (!subnet.can_be_given(address)).then(|| {
            format!(
                "address {address} is the network, broadcast or router address of subnet {}; pick another address",
                subnet.cidr
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Catalog {
        let mut subnet = Subnet::of("198.18.0.0/24".parse().expect("a network"));
        subnet.router = Some(Ipv4Addr::new(198, 18, 0, 1));
        Catalog::new(Settings {
            subnets: vec![subnet],
            profiles: BTreeMap::from([("debian-12".to_owned(), Profile::default())]),
            ..Settings::default()
        })
    }

    fn node(n: u8) -> Reservation {
        let mut reservation = Reservation::of(format!("node-{n}"), Source::Api);
        reservation.mac = Some(MacAddr([0x52, 0x54, 0, 0, 0, n]));
        reservation.address = Some(Ipv4Addr::new(198, 18, 0, n));
        reservation.hostname = Some(format!("node-{n}"));
        reservation.revision = 1;
        reservation
    }

    fn with(catalog: &Catalog, reservation: Reservation) -> Result<Catalog, String> {
        catalog
            .with(&Change::Create(reservation))
            .map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn a_reservation_is_found_by_every_identity() {
        let catalog = with(&catalog(), node(2)).expect("fits");
        for word in ["node-2", "NODE-2", "52:54:00:00:00:02", "52-54-00-00-00-02"] {
            assert_eq!(
                catalog.named(word).map(|r| r.id.as_str()),
                Some("node-2"),
                "{word}"
            );
        }
        assert!(catalog.by_address(Ipv4Addr::new(198, 18, 0, 2)).is_some());
    }

    #[test]
    fn what_belongs_to_another_is_refused_with_its_owner_and_a_way_out() {
        let catalog = with(&catalog(), node(2)).expect("fits");
        let mut third = node(3);
        third.address = Some(Ipv4Addr::new(198, 18, 0, 2));
        assert_eq!(
            with(&catalog, third).err().as_deref(),
            Some(
                "reservation node-3: address 198.18.0.2 already belongs to node-2 (52:54:00:00:00:02); pick another address or delete node-2"
            )
        );
        let mut third = node(3);
        third.mac = node(2).mac;
        assert_eq!(
            with(&catalog, third).err().as_deref(),
            Some(
                "reservation node-3: mac 52:54:00:00:00:02 already belongs to node-2 (198.18.0.2); pick another MAC or delete node-2"
            )
        );
        let mut third = node(3);
        third.hostname = Some("Node-2".into());
        assert_eq!(
            with(&catalog, third).err().as_deref(),
            Some(
                "reservation Node-2: hostname Node-2 already belongs to node-2 (198.18.0.2); pick another host name or delete node-2"
            )
        );
    }

    #[test]
    fn an_address_that_no_machine_can_have_is_refused() {
        for last in [0, 1, 255] {
            let mut reservation = node(2);
            reservation.address = Some(Ipv4Addr::new(198, 18, 0, last));
            assert!(with(&catalog(), reservation).is_err(), "{last}");
        }
        let mut outside = node(2);
        outside.address = Some(Ipv4Addr::new(198, 18, 1, 2));
        assert_eq!(
            with(&catalog(), outside).err().as_deref(),
            Some(
                "reservation node-2: address 198.18.1.2 is outside every subnet (198.18.0.0/24); pick one inside, or add its subnet to the configuration file"
            )
        );
    }

    #[test]
    fn an_update_may_keep_what_it_has_and_frees_what_it_leaves() {
        let catalog = with(&catalog(), node(2)).expect("fits");
        let mut moved = node(2);
        moved.address = Some(Ipv4Addr::new(198, 18, 0, 20));
        let update = Change::Update {
            reservation: moved,
            expected: Some(1),
        };
        let next = catalog.with(&update).expect("nothing in the way");
        assert!(next.by_address(Ipv4Addr::new(198, 18, 0, 2)).is_none());
        assert!(next.by_address(Ipv4Addr::new(198, 18, 0, 20)).is_some());
        let stale = Change::Update {
            reservation: node(2),
            expected: Some(7),
        };
        assert!(matches!(catalog.with(&stale), Err(Refusal::Stale { .. })));
    }

    #[test]
    fn what_the_file_says_is_changed_in_the_file() {
        let mut from_file = node(2);
        from_file.source = Source::ConfigFile;
        let catalog = with(&catalog(), from_file).expect("fits");
        let delete = Change::Delete {
            id: "node-2".into(),
            expected: None,
        };
        assert!(matches!(
            catalog.with(&delete),
            Err(Refusal::FromConfigFile(_))
        ));
    }
}
