//! What is known here of what stands in etcd, pure. In: what was read, heard and written, each with its revision. Out: the records
//! that others changed, and the revisions that the next transaction compares.
//!
//! What is heard of a change may come before or after the answer to one's own transaction: the later revision is true.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;

use super::names::{self, Head, Item};
use super::staged;
use super::terms::{Event, KeyValue};
use crate::model::Lease;
use crate::store::{RecordChange, Records};

/// What is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Mirror {
    pub(super) head: Head,
    /// The revision that `revision` was last written in, 0 if never.
    pub(super) head_at: i64,
    /// That of `reserved`.
    pub(super) fence_at: i64,
    /// Each with the revision of its key.
    leases: HashMap<Ipv4Addr, (Lease, i64)>,
    /// Addresses without a lease, and since which revision, until nothing older can be heard of them.
    gone: HashMap<Ipv4Addr, i64>,
    /// Everything up to here has been heard.
    pub(super) heard: i64,
    /// The last words of heads that were heard: of one's own transaction whose answer was lost, among them.
    words: VecDeque<String>,
}

/// How many words of heads are remembered.
const WORDS: usize = 1024;

impl Mirror {
    /// All keys below the prefix, by name, as they stood at one revision.
    pub(super) fn read(
        entries: Vec<(String, KeyValue)>,
        revision: i64,
    ) -> Result<(Self, Records), String> {
        let mut mirror = Self {
            heard: revision,
            ..Self::default()
        };
        let mut records = Found::default();
        let mut parts = Vec::new();
        for (name, kv) in entries {
            match names::decode(&name, Some(&kv.value))? {
                Item::Record(change) => {
                    if let RecordChange::PutLease(lease) = &change {
                        mirror.know(lease.address, Some(lease.clone()), kv.mod_revision);
                    }
                    records.put(change);
                }
                Item::Head(head) => (mirror.head, mirror.head_at) = (head, kv.mod_revision),
                Item::Fence => mirror.fence_at = kv.mod_revision,
                Item::Staged {
                    batch,
                    octets: Some(octets),
                } => parts.push((batch, octets)),
                Item::Staged { .. } | Item::Other => {}
            }
        }
        let staged = mirror.head.staged.clone();
        for (batch, octets) in parts {
            if staged.as_ref() == Some(&batch) {
                for change in unpacked(octets)? {
                    records.put(change);
                }
            }
        }
        let mut records = records.into_records();
        records.revision = mirror.head.revision;
        Ok((mirror, records))
    }

    /// Takes in what was heard; answers what others changed. What cannot be read is said, and the rest goes on.
    pub(super) fn hear(
        &mut self,
        events: Vec<(String, Event)>,
        revision: i64,
    ) -> (Vec<RecordChange>, Vec<String>) {
        let (mut changes, mut problems) = (Vec::new(), Vec::new());
        let mut parts: Vec<(String, Bytes, i64)> = Vec::new();
        let own_until = self.head_at;
        for (name, event) in events {
            let item = match names::decode(&name, event.value.as_ref()) {
                Ok(item) => item,
                Err(problem) => {
                    problems.push(problem);
                    continue;
                }
            };
            match item {
                Item::Record(change) => {
                    let is_news = match &change {
                        RecordChange::PutLease(lease) => {
                            self.know(lease.address, Some(lease.clone()), event.revision)
                        }
                        RecordChange::DeleteLease(address) => {
                            self.know(*address, None, event.revision)
                        }
                        _ => event.revision > own_until,
                    };
                    if is_news {
                        changes.push(change);
                    }
                }
                Item::Head(head) => {
                    self.remember(head.by.clone());
                    if event.revision > self.head_at {
                        changes.push(RecordChange::Revision(head.revision));
                        let batch = head.staged.clone();
                        let of_batch = |(of, _, at): &&(String, Bytes, i64)| {
                            batch.as_ref() == Some(of) && *at == event.revision
                        };
                        for (_, octets, _) in parts.iter().filter(of_batch) {
                            match unpacked(octets.clone()) {
                                Ok(staged) => changes.extend(staged),
                                Err(problem) => problems.push(problem),
                            }
                        }
                        self.head = head;
                        self.head_at = event.revision;
                    }
                }
                Item::Fence => self.fence_at = self.fence_at.max(event.revision),
                Item::Staged {
                    batch,
                    octets: Some(octets),
                } => parts.push((batch, octets, event.revision)),
                Item::Staged { .. } | Item::Other => {}
            }
        }
        self.heard = self.heard.max(revision);
        let heard = self.heard;
        self.gone.retain(|_, at| *at > heard);
        (changes, problems)
    }

    /// Takes in what a transaction of one's own has written at this revision.
    pub(super) fn wrote(&mut self, changes: &[RecordChange], head: Option<(Head, bool)>, at: i64) {
        for change in changes {
            match change {
                RecordChange::PutLease(lease) => {
                    self.know(lease.address, Some(lease.clone()), at);
                }
                RecordChange::DeleteLease(address) => {
                    self.know(*address, None, at);
                }
                _ => {}
            }
        }
        if let Some((head, with_fence)) = head.filter(|_| at > self.head_at) {
            self.head = head;
            self.head_at = at;
            if with_fence {
                self.fence_at = self.fence_at.max(at);
            }
        }
    }

    /// The revision that the key of this address was last written in, 0 if there is none.
    pub(super) fn lease_at(&self, address: Ipv4Addr) -> i64 {
        self.leases.get(&address).map_or(0, |(_, at)| *at)
    }

    pub(super) fn lease(&self, address: Ipv4Addr) -> Option<&Lease> {
        self.leases.get(&address).map(|(lease, _)| lease)
    }

    /// All leases.
    pub(super) fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values().map(|(lease, _)| lease)
    }

    /// Whether a head with this word was heard of.
    pub(super) fn knows_word(&self, word: &str) -> bool {
        self.head.by == word || self.words.iter().any(|known| known == word)
    }

    fn remember(&mut self, word: String) {
        if self.words.len() == WORDS {
            self.words.pop_front();
        }
        self.words.push_back(word);
    }

    /// Whether it is news.
    fn know(&mut self, address: Ipv4Addr, lease: Option<Lease>, at: i64) -> bool {
        let gone_at = self.gone.get(&address).copied();
        if self.lease_at(address).max(gone_at.unwrap_or_default()) >= at {
            return false;
        }
        match lease {
            Some(lease) => {
                self.gone.remove(&address);
                self.leases.insert(address, (lease, at));
            }
            None => {
                self.leases.remove(&address);
                self.gone.insert(address, at);
            }
        }
        true
    }
}

/// Records by what they are of: those of a batch stand above those under their own keys.
#[derive(Default)]
struct Found {
    reservations: std::collections::BTreeMap<String, crate::model::Reservation>,
    machines: std::collections::BTreeMap<String, crate::model::Machine>,
    leases: std::collections::BTreeMap<Ipv4Addr, Lease>,
}

impl Found {
    fn put(&mut self, change: RecordChange) {
        match change {
            RecordChange::PutReservation(new) => {
                self.reservations.insert(new.id.clone(), new);
            }
            RecordChange::DeleteReservation(id) => {
                self.reservations.remove(&id);
            }
            RecordChange::PutMachine(new) => {
                self.machines.insert(new.id.clone(), new);
            }
            RecordChange::DeleteMachine(id) => {
                self.machines.remove(&id);
            }
            RecordChange::PutLease(new) => {
                self.leases.insert(new.address, new);
            }
            RecordChange::DeleteLease(address) => {
                self.leases.remove(&address);
            }
            RecordChange::Revision(_) => {}
        }
    }

    fn into_records(self) -> Records {
        Records {
            reservations: self.reservations.into_values().map(Arc::new).collect(),
            leases: self.leases.into_values().collect(),
            machines: self.machines.into_values().collect(),
            ..Records::default()
        }
    }
}

fn unpacked(part: Bytes) -> Result<Vec<RecordChange>, String> {
    let mut changes = Vec::new();
    for (name, value) in staged::unpack(part)? {
        if let Item::Record(change) = names::decode(&name, value.as_ref())? {
            changes.push(change);
        }
    }
    Ok(changes)
}
