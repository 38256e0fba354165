//! The pure part against a model of etcd: replicas that hear of each other late, or not for long, never grant one address twice.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::mirror::Mirror;
use super::names;
use super::plan::Plan;
use super::terms::Event;
use crate::bindings::Bindings;
use crate::model::{BindingChange, ClientKey, Lease, LeaseState, MacAddr, Reservation, Source};
use crate::store::RecordChange;

/// Keys with value and revision, and everything that ever happened.
#[derive(Default)]
struct Model {
    revision: i64,
    keys: BTreeMap<String, (Bytes, i64)>,
    history: Vec<(String, Event)>,
}

/// One replica: what it knows, and how much of the history it has heard.
#[derive(Default)]
struct Replica {
    mirror: Mirror,
    heard: usize,
}

#[derive(Clone, Debug)]
enum Step {
    /// This replica grants this address to this client for so long.
    Grant(usize, u8, u8, u64),
    /// It reserves the address.
    Reserve(usize, u8),
    /// It hears of so many more changes.
    Hear(usize, usize),
    /// Time goes on.
    Wait(u64),
}

impl Model {
    /// As etcd does it: all conditions, then all writes.
    fn commit(&mut self, plan: &Plan) -> Option<i64> {
        let at = |name: &String| self.keys.get(name).map_or(0, |(_, at)| *at);
        if !plan.compare.iter().all(|(name, is)| at(name) == *is) {
            return None;
        }
        self.revision += 1;
        for (name, value) in &plan.writes {
            match value {
                Some(value) => {
                    let entry = (value.clone(), self.revision);
                    self.keys.insert(name.clone(), entry);
                }
                None => {
                    self.keys.remove(name);
                }
            }
            let event = Event {
                key: name.clone().into(),
                value: value.clone(),
                revision: self.revision,
            };
            self.history.push((name.clone(), event));
        }
        Some(self.revision)
    }
}

impl Replica {
    /// Hears of whole revisions, about so many changes.
    fn hear(&mut self, model: &Model, changes: usize) {
        let mut until = (self.heard + changes).min(model.history.len());
        while until > 0
            && until < model.history.len()
            && model.history[until].1.revision == model.history[until - 1].1.revision
        {
            until += 1;
        }
        if until > self.heard {
            let events = model.history[self.heard..until].to_vec();
            let revision = model.history[until - 1].1.revision;
            let (_, problems) = self.mirror.hear(events, revision);
            assert!(problems.is_empty(), "{problems:?}");
            self.heard = until;
        }
    }

    fn write(&mut self, model: &mut Model, records: &[RecordChange], word: usize) -> bool {
        let plan = Plan::of(records, &self.mirror, &word.to_string()).expect("it can be written");
        let Some(at) = model.commit(&plan) else {
            return false;
        };
        self.mirror.wrote(records, plan.head, at);
        true
    }
}

fn address(n: u8) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::new(198, 18, 0, n)
}

fn bound(n: u8, client: u8, expires_secs: u64) -> Lease {
    Lease {
        address: address(n),
        client: ClientKey::Mac(MacAddr([2, 0, 0, 0, 0, client])),
        state: LeaseState::Bound,
        expires_secs,
        hostname: None,
        reservation: None,
        circuit_id: None,
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let replica = 0..3_usize;
    let step = prop_oneof![
        6 => (replica.clone(), 0..4_u8, 0..6_u8, 1..50_u64).prop_map(|(r, a, c, t)| Step::Grant(r, a, c, t)),
        1 => (replica.clone(), 0..4_u8).prop_map(|(r, a)| Step::Reserve(r, a)),
        5 => (replica, 1..10_usize).prop_map(|(r, n)| Step::Hear(r, n)),
        1 => (1..30_u64).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..200)
}

proptest! {
    #[test]
    fn replicas_that_hear_late_of_each_other_grant_no_address_twice(steps in steps()) {
        let mut model = Model::default();
        let mut replicas: [Replica; 3] = Default::default();
        // Who may use each address until when, as the clients were told.
        let mut told: BTreeMap<u8, (u8, u64)> = BTreeMap::new();
        let mut reserved: BTreeMap<u8, usize> = BTreeMap::new();
        let mut now = 1000;
        for (word, step) in steps.into_iter().enumerate() {
            match step {
                Step::Wait(secs) => now += secs,
                Step::Hear(r, changes) => replicas[r].hear(&model, changes),
                Step::Reserve(r, n) => {
                    let mut new = Reservation::of(format!("node-{n}"), Source::Api);
                    new.address = Some(address(n));
                    let revision = replicas[r].mirror.head.revision + 1;
                    let records = [RecordChange::PutReservation(new), RecordChange::Revision(revision)];
                    if replicas[r].write(&mut model, &records, word) {
                        prop_assert!(reserved.values().all(|at| *at != revision as usize), "one revision twice");
                        reserved.insert(n, revision as usize);
                    }
                }
                Step::Grant(r, n, client, secs) => {
                    let replica = &mut replicas[r];
                    // What it checks first, against what it knows.
                    let known: Bindings = replica.mirror.leases().cloned().collect();
                    let lease = bound(n, client, now + secs);
                    let change = BindingChange::Put(lease.clone());
                    let knows_reserved = reserved
                        .get(&n)
                        .is_some_and(|at| *at as u64 <= replica.mirror.head.revision);
                    if knows_reserved || !known.permits(&change, now) {
                        continue;
                    }
                    if replica.write(&mut model, &[RecordChange::PutLease(lease)], word) {
                        prop_assert!(!reserved.contains_key(&n), "granted what was reserved");
                        if let Some((holder, until)) = told.get(&n) {
                            prop_assert!(*holder == client || *until <= now, "{n} has two holders");
                        }
                        told.insert(n, (client, now + secs));
                    }
                }
            }
        }
        // Whoever has heard everything knows what etcd knows.
        for replica in &mut replicas {
            replica.hear(&model, usize::MAX / 2);
            for n in 0..4 {
                let there = model.keys.get(&names::lease(address(n))).map_or(0, |(_, at)| *at);
                prop_assert_eq!(replica.mirror.lease_at(address(n)), there);
            }
        }
    }
}
