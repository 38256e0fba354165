//! Leases and offers as an immutable value. In: changes that decisions ask for. Out: the next value, and answers about who
//! holds what. Copies are cheap (persistent maps), so a reader keeps its own and never waits.

mod free_times;

use std::net::Ipv4Addr;

use imbl::{HashMap, OrdMap};

use self::free_times::{FreeTimes, NEVER_FREE, NEVER_HELD};
use crate::model::{BindingChange, ClientKey, Lease, LeaseState, Pool};

/// Who holds which address, indexed both ways.
#[derive(Clone, Debug, Default)]
pub struct Bindings {
    by_address: OrdMap<Ipv4Addr, Lease>,
    /// Most clients hold one address; one per subnet they have been seen in.
    by_client: HashMap<ClientKey, Vec<Ipv4Addr>>,
    /// When what is known of an address ends.
    free_times: FreeTimes,
}

impl Bindings {
    /// What is known of this address.
    pub fn at(&self, address: Ipv4Addr) -> Option<&Lease> {
        self.by_address.get(&address)
    }

    /// Every lease of this client, whatever its state.
    pub fn of<'a>(&'a self, client: &ClientKey) -> impl Iterator<Item = &'a Lease> {
        self.by_client
            .get(client)
            .into_iter()
            .flatten()
            .filter_map(|address| self.by_address.get(address))
    }

    /// All of them, by address.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.by_address.values()
    }

    /// Those of addresses above `after`, in order.
    pub fn after(&self, after: Option<Ipv4Addr>) -> impl Iterator<Item = &Lease> {
        use std::ops::Bound::{Excluded, Unbounded};
        let start = after.map_or(Unbounded, Excluded);
        (self.by_address.range((start, Unbounded))).map(|(_, lease)| lease)
    }

    /// How many addresses something is known of.
    pub fn len(&self) -> usize {
        self.by_address.len()
    }

    /// Whether nothing is known of any address.
    pub fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }

    /// Whether the change takes nothing from anybody who holds it.
    pub fn permits(&self, change: &BindingChange, now_secs: u64) -> bool {
        let BindingChange::Put(lease) = change else {
            return true;
        };
        let takes = matches!(lease.state, LeaseState::Offered | LeaseState::Bound);
        let is_kept_out = self.at(lease.address).is_some_and(|held| {
            !held.same_machine(lease) && held.keeps_out(&lease.client, now_secs)
        });
        !(takes && is_kept_out)
    }

    /// Of a range, the address that has been free for longest and the time since when, 0 if nobody ever held it; a time to
    /// come if none is free yet. Of several the first. Costs the same however full the range is.
    pub fn longest_free(&self, range: &Pool) -> (u64, Ipv4Addr) {
        self.free_times.least_in(range)
    }

    /// Leaves an address out of `longest_free`, since it is reserved.
    pub fn reserve(&mut self, address: Ipv4Addr) {
        self.free_times.set(address, NEVER_FREE);
    }

    /// Has `longest_free` count it again.
    pub fn unreserve(&mut self, address: Ipv4Addr) {
        let expires = self.at(address).map(|lease| lease.expires_secs);
        self.free_times.set(address, expires.unwrap_or(NEVER_HELD));
    }

    fn set_free_time(&mut self, address: Ipv4Addr, time: u64) {
        if self.free_times.at(address) != NEVER_FREE {
            self.free_times.set(address, time);
        }
    }

    /// Makes the change.
    pub fn apply(&mut self, change: BindingChange) {
        match change {
            BindingChange::Put(lease) => {
                self.forget(lease.address);
                self.by_client
                    .entry(lease.client.clone())
                    .or_default()
                    .push(lease.address);
                self.set_free_time(lease.address, lease.expires_secs);
                self.by_address.insert(lease.address, lease);
            }
            BindingChange::Withdraw { address, client } => {
                let is_their_offer = self
                    .at(address)
                    .is_some_and(|l| l.client == client && l.state == LeaseState::Offered);
                if is_their_offer {
                    self.forget(address);
                }
            }
        }
    }

    /// Forgets all that is known of an address; answers what it was.
    pub fn forget(&mut self, address: Ipv4Addr) -> Option<Lease> {
        let known = self.by_address.remove(&address)?;
        self.set_free_time(address, NEVER_HELD);
        if let Some(addresses) = self.by_client.get_mut(&known.client) {
            addresses.retain(|other| *other != address);
            if addresses.is_empty() {
                self.by_client.remove(&known.client);
            }
        }
        Some(known)
    }
}

impl FromIterator<Lease> for Bindings {
    fn from_iter<I: IntoIterator<Item = Lease>>(leases: I) -> Self {
        let mut bindings = Self::default();
        for lease in leases {
            bindings.apply(BindingChange::Put(lease));
        }
        bindings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(last: u8, client: u8, state: LeaseState) -> Lease {
        Lease {
            address: Ipv4Addr::new(198, 18, 0, last),
            client: ClientKey::Mac(crate::model::MacAddr([2, 0, 0, 0, 0, client])),
            state,
            expires_secs: 100,
            hostname: None,
            reservation: None,
            circuit_id: None,
        }
    }

    #[test]
    fn an_address_has_one_holder_and_both_indexes_agree() {
        let mut bindings = Bindings::default();
        let (first, second) = (
            lease(10, 1, LeaseState::Bound),
            lease(10, 2, LeaseState::Bound),
        );
        bindings.apply(BindingChange::Put(first.clone()));
        bindings.apply(BindingChange::Put(second.clone()));
        assert_eq!(bindings.at(second.address), Some(&second));
        assert_eq!(bindings.of(&first.client).count(), 0);
        assert_eq!(bindings.of(&second.client).count(), 1);
        assert_eq!(bindings.forget(second.address), Some(second));
        assert!(bindings.is_empty());
    }

    #[test]
    fn the_longest_free_address_is_one_that_nobody_held_or_whose_lease_ended_first_and_never_a_reserved_one()
     {
        let range = Pool {
            first: Ipv4Addr::new(198, 18, 0, 10),
            last: Ipv4Addr::new(198, 18, 0, 12),
        };
        let ends = |last, expires_secs| Lease {
            expires_secs,
            ..lease(last, last, LeaseState::Bound)
        };
        let mut bindings: Bindings = [ends(10, 300), ends(11, 200)].into_iter().collect();
        let longest = |bindings: &Bindings| {
            let (time, address) = bindings.longest_free(&range);
            (time, address.octets()[3])
        };
        assert_eq!(longest(&bindings), (0, 12));
        bindings.reserve(Ipv4Addr::new(198, 18, 0, 12));
        assert_eq!(longest(&bindings), (200, 11));
        bindings.reserve(Ipv4Addr::new(198, 18, 0, 11));
        bindings.apply(BindingChange::Put(ends(11, 100)));
        assert_eq!(longest(&bindings), (300, 10), "its own machine's lease");
        bindings.unreserve(Ipv4Addr::new(198, 18, 0, 11));
        assert_eq!(longest(&bindings), (100, 11));
        bindings.forget(Ipv4Addr::new(198, 18, 0, 10));
        assert_eq!(longest(&bindings), (0, 10));
    }

    #[test]
    fn withdrawing_takes_back_an_offer_to_that_client_and_nothing_else() {
        let mut bindings = Bindings::default();
        let (bound, offered) = (
            lease(10, 1, LeaseState::Bound),
            lease(11, 2, LeaseState::Offered),
        );
        bindings.apply(BindingChange::Put(bound.clone()));
        bindings.apply(BindingChange::Put(offered.clone()));
        for (address, client) in [
            (bound.address, bound.client.clone()),
            (offered.address, bound.client.clone()),
        ] {
            bindings.apply(BindingChange::Withdraw { address, client });
        }
        assert_eq!(bindings.len(), 2);
        bindings.apply(BindingChange::Withdraw {
            address: offered.address,
            client: offered.client,
        });
        assert_eq!(bindings.len(), 1);
    }
}
