//! Reservations by every identity. In: reservations. Out: the one that has this identity, in O(log n); copies are cheap (persistent
//! trees).
//!
//! What a reservation is called stands in it once: an index of names holds reservations alone, and looks into them.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::net::Ipv4Addr;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use equivalent::{Comparable, Equivalent};
use imbl::{HashMap, OrdMap, OrdSet};

use crate::model::{MacAddr, Octets, Reservation, Uuid};

/// By what people and programs call them.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    ids: OrdSet<ById>,
    hostnames: OrdSet<ByHostname>,
    /// By the call that made it; of a batch the last one.
    requests: OrdSet<ByRequest>,
}

/// By what machines show.
#[derive(Clone, Debug, Default)]
pub(super) struct Cards {
    pub(super) macs: HashMap<MacAddr, Arc<Reservation>>,
    pub(super) client_ids: HashMap<Octets, Arc<Reservation>>,
    /// In canonical octet order.
    pub(super) uuids: HashMap<Uuid, Arc<Reservation>>,
    pub(super) circuit_ids: HashMap<Octets, Arc<Reservation>>,
    pub(super) addresses: OrdMap<Ipv4Addr, Arc<Reservation>>,
}

impl Names {
    pub(super) fn id(&self, id: &str) -> Option<&Arc<Reservation>> {
        self.ids.get(id).map(|entry| &entry.0)
    }

    /// Without regard to case (RFC 1123 §2.1).
    pub(super) fn hostname(&self, name: &str) -> Option<&Arc<Reservation>> {
        self.hostnames.get(&Caseless(name)).map(|entry| &entry.0)
    }

    pub(super) fn request(&self, id: &str) -> Option<&Arc<Reservation>> {
        self.requests.get(id).map(|entry| &entry.0)
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Those with an id after this one, ordered by id.
    pub(super) fn after(&self, id: Option<&str>) -> impl Iterator<Item = &Arc<Reservation>> {
        let start = id.map_or(Unbounded, Excluded);
        (self.ids.range::<_, str>((start, Unbounded))).map(|entry| &entry.0)
    }

    /// Adds one; answers whether its names were nobody's.
    pub(super) fn insert(&mut self, entry: &Arc<Reservation>) -> bool {
        if entry.request.is_some() {
            self.requests.insert(ByRequest(entry.clone()));
        }
        let is_named = entry.hostname.is_some();
        let had_name = is_named && self.hostnames.insert(ByHostname(entry.clone())).is_some();
        self.ids.insert(ById(entry.clone())).is_none() && !had_name
    }

    pub(super) fn remove(&mut self, known: &Reservation) {
        if let Some(request) = &known.request
            && (self.request(&request.id)).is_some_and(|made| made.id == known.id)
        {
            self.requests.remove(request.id.as_str());
        }
        if let Some(hostname) = &known.hostname {
            self.hostnames.remove(&Caseless(hostname));
        }
        self.ids.remove(known.id.as_str());
    }
}

impl Cards {
    /// Adds one; answers whether nothing that machines are known by was another's.
    pub(super) fn insert(&mut self, entry: &Arc<Reservation>) -> bool {
        let own = || entry.clone();
        let other = &entry.identities;
        let mut is_free = true;
        for mac in entry.macs() {
            is_free &= self.macs.insert(mac, own()).is_none();
        }
        for id in &other.client_ids {
            is_free &= self.client_ids.insert(id.clone(), own()).is_none();
        }
        for uuid in &other.uuids {
            is_free &= self.uuids.insert(uuid.canonical(), own()).is_none();
        }
        for id in &other.circuit_ids {
            is_free &= self.circuit_ids.insert(id.clone(), own()).is_none();
        }
        if let Some(address) = entry.address {
            is_free &= self.addresses.insert(address, own()).is_none();
        }
        is_free
    }

    pub(super) fn remove(&mut self, known: &Reservation) {
        for mac in known.macs() {
            self.macs.remove(&mac);
        }
        for id in &known.identities.client_ids {
            self.client_ids.remove(id);
        }
        for uuid in &known.identities.uuids {
            self.uuids.remove(&uuid.canonical());
        }
        for id in &known.identities.circuit_ids {
            self.circuit_ids.remove(id);
        }
        if let Some(address) = known.address {
            self.addresses.remove(&address);
        }
    }
}

/// Ordered by its id.
#[derive(Clone, Debug)]
struct ById(Arc<Reservation>);

/// Ordered by its host name, in lower case.
#[derive(Clone, Debug)]
struct ByHostname(Arc<Reservation>);

/// Ordered by the id of the call that made it.
#[derive(Clone, Debug)]
struct ByRequest(Arc<Reservation>);

/// A host name that is looked up.
struct Caseless<'a>(&'a str);

impl Borrow<str> for ById {
    fn borrow(&self) -> &str {
        &self.0.id
    }
}

impl Borrow<str> for ByRequest {
    fn borrow(&self) -> &str {
        self.0.request.as_ref().map_or("", |request| &request.id)
    }
}

impl ByHostname {
    fn name(&self) -> Caseless<'_> {
        Caseless(self.0.hostname.as_deref().unwrap_or_default())
    }
}

impl Caseless<'_> {
    fn order(&self, other: &Self) -> Ordering {
        let lower = |name: &Self| name.0.bytes().map(|octet| octet.to_ascii_lowercase());
        lower(self).cmp(lower(other))
    }
}

impl Equivalent<ByHostname> for Caseless<'_> {
    fn equivalent(&self, entry: &ByHostname) -> bool {
        self.compare(entry) == Ordering::Equal
    }
}

impl Comparable<ByHostname> for Caseless<'_> {
    fn compare(&self, entry: &ByHostname) -> Ordering {
        self.order(&entry.name())
    }
}

impl Ord for ByHostname {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().order(&other.name())
    }
}

/// What has a text to be ordered by.
macro_rules! ordered_by_text {
    ($($entry:ty)*) => {$(
        impl Ord for $entry {
            fn cmp(&self, other: &Self) -> Ordering {
                let (own, other): (&str, &str) = (self.borrow(), other.borrow());
                own.cmp(other)
            }
        }
    )*};
}

macro_rules! ordered {
    ($($entry:ty)*) => {$(
        impl PartialOrd for $entry {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl PartialEq for $entry {
            fn eq(&self, other: &Self) -> bool {
                self.cmp(other) == Ordering::Equal
            }
        }

        impl Eq for $entry {}
    )*};
}

ordered_by_text!(ById ByRequest);
ordered!(ById ByHostname ByRequest);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{RequestId, Source};

    fn named(id: &str, hostname: &str) -> Arc<Reservation> {
        let mut reservation = Reservation::of(id.to_owned(), Source::Api);
        reservation.hostname = Some(hostname.to_owned());
        Arc::new(reservation)
    }

    #[test]
    fn a_host_name_is_one_in_any_case_and_leaves_with_its_reservation() {
        let mut names = Names::default();
        assert!(names.insert(&named("a", "Node-1")));
        assert!(names.insert(&named("b", "node-10")));
        assert!(!names.clone().insert(&named("c", "NODE-1")));
        assert!(!names.clone().insert(&named("a", "other")));
        let found = |names: &Names, name: &str| names.hostname(name).map(|own| own.id.clone());
        assert_eq!(found(&names, "nODE-1").as_deref(), Some("a"));
        assert_eq!(found(&names, "node-10").as_deref(), Some("b"));
        names.remove(&named("a", "Node-1"));
        assert_eq!(found(&names, "node-1"), None);
        let ids: Vec<_> = names.after(None).map(|own| own.id.as_str()).collect();
        assert_eq!(ids, ["b"]);
        assert_eq!(names.after(Some("b")).count(), 0);
    }

    #[test]
    fn a_call_that_made_many_leads_to_the_last_of_them_and_leaves_with_that() {
        let made = |id: &str| {
            let mut reservation = Reservation::of(id.to_owned(), Source::Api);
            let request = RequestId {
                id: "r".to_owned(),
                digest: "d".to_owned(),
            };
            reservation.request = Some(request.into());
            Arc::new(reservation)
        };
        let mut names = Names::default();
        assert!(names.insert(&made("a")) && names.insert(&made("b")));
        names.remove(&made("a"));
        assert_eq!(names.request("r").map(|own| own.id.as_str()), Some("b"));
        names.remove(&made("b"));
        assert!(names.request("r").is_none());
    }
}
