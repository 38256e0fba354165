//! Who may read what is made for a machine. In: the machine's reservation, leases, and the address of whoever asks. Out: whether
//! it is the machine, as far as an address can tell.

use std::net::{IpAddr, Ipv4Addr};

use crate::bindings::Bindings;
use crate::catalog::Catalog;
use crate::model::{ClientKey, Lease, LeaseState, Reservation};

/// What scripts and documents are bound to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bind {
    /// The address that the machine holds.
    #[default]
    Lease,
    /// The attempt's token alone: for machines behind a translator of addresses.
    Token,
}

/// What is looked at.
#[derive(Clone, Copy)]
pub struct World<'a> {
    pub catalog: &'a Catalog,
    pub bindings: &'a Bindings,
    pub bind: Bind,
    /// Whether addresses are ours to give: beside another DHCP server we know of none.
    pub gives_addresses: bool,
    pub now_secs: u64,
}

/// Whether an address is the machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Granted,
    /// No lease of ours says which address is the machine's: it belongs to who came first.
    FirstComer,
    Denied,
}

impl World<'_> {
    /// Whether the peer is the machine of this reservation. `known` is who came first.
    pub fn access(&self, reservation: &Reservation, known: Option<IpAddr>, peer: IpAddr) -> Access {
        if self.bind == Bind::Token {
            return Access::Granted;
        }
        let own = self.addresses(reservation);
        if let IpAddr::V4(peer) = peer
            && own.contains(&peer)
        {
            return Access::Granted;
        }
        match known {
            _ if !own.is_empty() || self.is_anothers(reservation, peer) => Access::Denied,
            None => Access::FirstComer,
            Some(known) if known == peer => Access::Granted,
            Some(_) => Access::Denied,
        }
    }

    /// Whether the address is known to be somebody else's: who has a lease of ours is not a machine that has none.
    fn is_anothers(&self, reservation: &Reservation, peer: IpAddr) -> bool {
        let IpAddr::V4(peer) = peer else {
            return false;
        };
        let reserved = self.catalog.by_address(peer);
        let lease = (self.bindings.at(peer))
            .filter(|lease| lease.state == LeaseState::Bound && lease.is_current(self.now_secs));
        self.gives_addresses
            && (reserved.is_some_and(|other| other.id != reservation.id) || lease.is_some())
    }

    /// The addresses that are the machine's by reservation or lease.
    fn addresses(&self, reservation: &Reservation) -> Vec<Ipv4Addr> {
        if !self.gives_addresses {
            return Vec::new();
        }
        let reserved =
            (reservation.address).filter(|address| self.catalog.subnet_of(*address).is_some());
        let keys = (reservation.macs().map(ClientKey::Mac)).chain(
            (reservation.identities.client_ids.iter()).map(|id| ClientKey::Id(id.0.clone())),
        );
        let holds = |lease: &&Lease| {
            lease.state == LeaseState::Bound
                && lease.is_current(self.now_secs)
                && lease
                    .reservation
                    .as_ref()
                    .is_none_or(|id| *id == reservation.id)
        };
        let mut own: Vec<Ipv4Addr> = reserved.into_iter().collect();
        for key in keys {
            own.extend(self.bindings.of(&key).filter(holds).map(|l| l.address));
        }
        // What a machine is known by beside these is no key of its leases.
        let others = &reservation.identities;
        if !(others.uuids.is_empty() && others.circuit_ids.is_empty()) {
            let named = |lease: &&Lease| lease.reservation.as_ref() == Some(&reservation.id);
            let leases = self.bindings.iter().filter(named).filter(holds);
            own.extend(leases.map(|lease| lease.address));
        }
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Change, Settings};
    use crate::model::{BindingChange, MacAddr, Source, Subnet};

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);

    fn at(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, 0, last)
    }

    fn machine(address: Option<u8>) -> Reservation {
        let mut machine = Reservation::of("node-1".into(), Source::Api);
        machine.mac = Some(MAC);
        machine.address = address.map(at);
        machine
    }

    fn access(
        machine: &Reservation,
        leases: &[(u8, LeaseState)],
        change: impl FnOnce(&mut World),
        known: Option<u8>,
        peer: u8,
    ) -> Access {
        let catalog = Catalog::new(Settings {
            subnets: vec![Subnet::of("198.18.0.0/24".parse().expect("a network"))],
            ..Settings::default()
        });
        let mut bindings = Bindings::default();
        for (last, state) in leases {
            bindings.apply(BindingChange::Put(Lease {
                address: at(*last),
                client: ClientKey::Mac(MAC),
                state: *state,
                expires_secs: 100,
                hostname: None,
                reservation: Some("node-1".into()),
                circuit_id: None,
            }));
        }
        let mut world = World {
            catalog: &catalog,
            bindings: &bindings,
            bind: Bind::Lease,
            gives_addresses: true,
            now_secs: 50,
        };
        change(&mut world);
        world.access(machine, known.map(|last| at(last).into()), at(peer).into())
    }

    #[test]
    fn only_who_has_the_machines_address_is_the_machine() {
        let reserved = machine(Some(10));
        assert_eq!(access(&reserved, &[], |_| (), None, 10), Access::Granted);
        assert_eq!(access(&reserved, &[], |_| (), None, 66), Access::Denied);
        assert_eq!(
            access(&reserved, &[], |_| (), Some(66), 66),
            Access::Denied,
            "who came first counts for nothing where an address is reserved"
        );
        let pooled = machine(None);
        let lease = [(100, LeaseState::Bound)];
        assert_eq!(access(&pooled, &lease, |_| (), None, 100), Access::Granted);
        assert_eq!(
            access(&pooled, &lease, |_| (), Some(66), 66),
            Access::Denied
        );
    }

    #[test]
    fn where_no_lease_of_ours_says_it_the_machine_is_who_came_first() {
        let pooled = machine(None);
        for leases in [
            vec![],
            vec![(100, LeaseState::Offered)],
            vec![(100, LeaseState::Released)],
        ] {
            let of = |known, peer| access(&pooled, &leases, |_| (), known, peer);
            assert_eq!(of(None, 66), Access::FirstComer, "{leases:?}");
            assert_eq!(of(Some(66), 66), Access::Granted);
            assert_eq!(of(Some(66), 67), Access::Denied);
        }
        let expired = |world: &mut World| world.now_secs = 100;
        let lease = [(100, LeaseState::Bound)];
        assert_eq!(
            access(&pooled, &lease, expired, Some(100), 100),
            Access::Granted
        );
        let beside_another = |world: &mut World| world.gives_addresses = false;
        let reserved = machine(Some(10));
        assert_eq!(
            access(&reserved, &[], beside_another, None, 200),
            Access::FirstComer
        );
    }

    #[test]
    fn who_holds_an_address_of_ours_is_not_taken_for_a_machine_that_has_none() {
        let catalog = Catalog::new(Settings {
            subnets: vec![Subnet::of("198.18.0.0/24".parse().expect("a network"))],
            ..Settings::default()
        });
        let mut other = machine(Some(20));
        (other.id, other.mac) = ("node-2".into(), Some(MacAddr([0x52, 0x54, 0, 0, 0, 2])));
        let catalog = catalog.with(&Change::Create(other)).expect("fits");
        let mut bindings = Bindings::default();
        bindings.apply(BindingChange::Put(Lease {
            address: at(66),
            client: ClientKey::Mac(MacAddr([2, 0, 0, 0, 0, 66])),
            state: LeaseState::Bound,
            expires_secs: 100,
            hostname: None,
            reservation: None,
            circuit_id: None,
        }));
        let world = World {
            catalog: &catalog,
            bindings: &bindings,
            bind: Bind::Lease,
            gives_addresses: true,
            now_secs: 50,
        };
        let pooled = machine(None);
        for (peer, access) in [
            (20, Access::Denied),
            (66, Access::Denied),
            (67, Access::FirstComer),
        ] {
            assert_eq!(
                world.access(&pooled, None, at(peer).into()),
                access,
                "{peer}"
            );
        }
    }

    #[test]
    fn behind_a_translator_of_addresses_the_token_alone_counts() {
        let by_token = |world: &mut World| world.bind = Bind::Token;
        let reserved = machine(Some(10));
        assert_eq!(access(&reserved, &[], by_token, None, 66), Access::Granted);
    }
}
