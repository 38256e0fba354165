//! From records to a transaction, pure. In: what is to be written, and what is known of etcd. Out: conditions under which it may
//! be, and the writes; each key once.
//!
//! - A change of reservations or machines compares `revision`, and writes it: such changes are made one after the other, whoever
//!   makes them, so that what was checked against the catalog before is true.
//! - A lease compares its own key, and `reserved`, which every change of a reservation writes: nobody grants what somebody else
//!   has granted or reserved meanwhile. Leases of different addresses do not stand in each other's way.
//! - A reservation compares the key of the lease of its address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use bytes::Bytes;

use super::mirror::Mirror;
use super::names::{self, FENCE, HEAD, Head};
use crate::store::{RecordChange, record};

/// How many writes and conditions one transaction has: etcd takes 128 of each unless its operator said otherwise.
pub(super) const MOST_OPS: usize = 120;
/// How many octets: etcd takes 1.5 MiB.
const MOST_OCTETS: usize = 1 << 20;

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Keys below the prefix, each with the revision it must have.
    pub(super) compare: BTreeMap<String, i64>,
    /// Keys and values; without one they are deleted.
    pub(super) writes: BTreeMap<String, Option<Bytes>>,
    /// The head that it writes, if it changes reservations or machines, and whether it changes reservations.
    pub(super) head: Option<(Head, bool)>,
}

impl Plan {
    /// `word` is a random one.
    pub(super) fn of(
        records: &[RecordChange],
        mirror: &Mirror,
        word: &str,
    ) -> Result<Self, String> {
        let mut plan = Self::default();
        let mut addresses = BTreeSet::new();
        let mut revision = None;
        let mut has_reservations = false;
        for change in records {
            match change {
                RecordChange::PutLease(lease) => {
                    addresses.insert(lease.address);
                }
                RecordChange::DeleteLease(address) => {
                    addresses.insert(*address);
                }
                RecordChange::PutReservation(reservation) => {
                    addresses.extend(reservation.address);
                    has_reservations = true;
                }
                RecordChange::DeleteReservation(_) => has_reservations = true,
                RecordChange::PutMachine(_) | RecordChange::DeleteMachine(_) => {}
                RecordChange::Revision(new) => revision = Some(*new),
            }
            if let Some((name, value)) = names::encode(change)? {
                plan.writes.insert(name, value);
            }
        }
        let is_lease = |name: &String| name.starts_with("lease/");
        let has_catalog = revision.is_some() || !plan.writes.keys().all(is_lease);
        plan.compare = (addresses.iter())
            .map(|address: &Ipv4Addr| (names::lease(*address), mirror.lease_at(*address)))
            .collect();
        if has_catalog {
            let head = Head {
                revision: revision.unwrap_or(mirror.head.revision),
                by: word.to_owned(),
                staged: None,
            };
            plan.compare.insert(HEAD.to_owned(), mirror.head_at);
            let value = record::value(&head)?;
            plan.writes.insert(HEAD.to_owned(), Some(value.into()));
            if has_reservations {
                let value = record::value(&head.revision)?;
                plan.writes.insert(FENCE.to_owned(), Some(value.into()));
            }
            plan.head = Some((head, has_reservations));
        } else {
            plan.compare.insert(FENCE.to_owned(), mirror.fence_at);
        }
        Ok(plan)
    }

    /// Whether etcd takes it as one transaction.
    pub(super) fn fits(&self) -> bool {
        let octets: usize = (self.writes.iter())
            .map(|(name, value)| 64 + name.len() + value.as_ref().map_or(0, Bytes::len))
            .sum();
        self.writes.len() <= MOST_OPS && self.compare.len() <= MOST_OPS && octets <= MOST_OCTETS
    }
}
