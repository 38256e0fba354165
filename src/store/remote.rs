//! What others have written to the same store. In: their records, in order, or all that there is. Out: the same in memory, told
//! like one's own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::commit::{Committer, Draft, may_hold};
use super::feed::LeaseNote;
use super::{News, RecordChange, Records};
use crate::bindings::Bindings;
use crate::catalog::{Catalog, Change};
use crate::model::{BindingChange, Lease, LeaseState, Machine, Reservation, Source};

impl Committer {
    /// Takes in what has been heard since the last time.
    pub(super) fn take_in_news(&mut self) {
        if !self.backend.is_shared() {
            return;
        }
        for news in self.backend.news() {
            let changes = match news {
                News::Changes(changes) => changes,
                News::All(records) => self.difference(records),
            };
            self.take_in(changes);
        }
        self.shared.set_health(&*self.backend);
    }

    fn take_in(&mut self, changes: Vec<RecordChange>) {
        if changes.is_empty() {
            return;
        }
        let mut draft = self.draft();
        draft.is_renewed = true;
        let mut reservations = BTreeMap::new();
        let mut machines = BTreeMap::new();
        let mut leases = Vec::new();
        for change in changes {
            match change {
                RecordChange::PutReservation(new) => {
                    reservations.insert(new.id.clone(), Some(new));
                }
                RecordChange::DeleteReservation(id) => {
                    reservations.insert(id, None);
                }
                RecordChange::PutMachine(new) => {
                    machines.insert(new.id.clone(), Some(new));
                }
                RecordChange::DeleteMachine(id) => {
                    machines.insert(id, None);
                }
                RecordChange::PutLease(lease) => leases.push(Ok(lease)),
                RecordChange::DeleteLease(address) => leases.push(Err(address)),
                RecordChange::Revision(revision) => draft.revision = revision,
            }
        }
        self.follow_reservations(&mut draft, reservations);
        follow_machines(&mut draft, machines);
        {
            let mut bindings = self.shared.bindings();
            for lease in leases {
                match lease {
                    Ok(lease) => follow_lease(&mut draft, &mut bindings, lease),
                    Err(address) => {
                        let is_kept = |lease: &Lease| lease.state != LeaseState::Offered;
                        if bindings.at(address).is_some_and(is_kept)
                            && let Some(lease) = bindings.forget(address)
                        {
                            draft.lease_notes.push(LeaseNote::Forgotten(lease));
                        }
                    }
                }
            }
        }
        self.publish(draft, true);
    }

    /// All that are another now leave first, and come back as they are: two may have changed places.
    fn follow_reservations(
        &mut self,
        draft: &mut Draft,
        changed: BTreeMap<String, Option<Reservation>>,
    ) {
        let is_other = |catalog: &Catalog, id: &str, new: &Option<Reservation>| {
            catalog.by_id(id).map(|known| &**known) != new.as_ref()
        };
        let mut changed = changed;
        changed.retain(|id, new| is_other(&draft.catalog, id, new));
        if changed.is_empty() {
            return;
        }
        let before: BTreeMap<String, _> = (changed.keys())
            .map(|id| (id.clone(), draft.catalog.by_id(id).cloned()))
            .collect();
        self.set_aside
            .retain(|aside| !changed.contains_key(&aside.id));
        for known in before.values().flatten() {
            let delete = Change::Delete {
                id: known.id.clone(),
                expected: None,
            };
            if let Ok(next) = draft.catalog.with(&delete) {
                draft.catalog = next;
                draft.touched.extend(known.address);
            }
        }
        // What stood aside may fit now.
        let aside = std::mem::take(&mut self.set_aside);
        let changed = changed.into_values().flatten().map(Arc::new);
        for new in changed.chain(aside) {
            match draft.catalog.with(&Change::Create((*new).clone())) {
                Ok(next) => {
                    draft.touched.extend(new.address);
                    draft.catalog = next;
                }
                Err(_) => self.set_aside.push(new),
            }
        }
        let revision = draft.revision;
        for (id, before) in before {
            let after = draft.catalog.by_id(&id).cloned();
            if before != after {
                let at = after.as_ref().map_or(revision, |after| after.revision);
                draft.note(before, &id, at.max(self.revision));
            }
        }
        draft.reservation_notes.sort_by_key(|note| note.revision);
    }

    /// What makes of what is known here all that there is.
    fn difference(&self, all: Records) -> Vec<RecordChange> {
        let catalog = self.shared.catalog.load();
        let reservations: BTreeSet<&str> = all.reservations.iter().map(|r| r.id.as_str()).collect();
        let machines: BTreeSet<&str> = all.machines.iter().map(|m| m.id.as_str()).collect();
        let leases: BTreeSet<_> = all.leases.iter().map(|lease| lease.address).collect();
        let mut changes = vec![RecordChange::Revision(all.revision)];
        let known = (catalog.reservations(None))
            .filter(|known| known.source == Source::Api)
            .map(|known| &known.id)
            .chain(self.set_aside.iter().map(|aside| &aside.id));
        let gone = known.filter(|id| !reservations.contains(id.as_str()));
        changes.extend(gone.map(|id| RecordChange::DeleteReservation(id.clone())));
        let gone = (catalog.machines()).filter(|known| !machines.contains(known.id.as_str()));
        changes.extend(gone.map(|known| RecordChange::DeleteMachine(known.id.clone())));
        let bindings = self.shared.bindings();
        let gone = (bindings.iter())
            .map(|lease| lease.address)
            .filter(|address| !leases.contains(address));
        changes.extend(gone.map(RecordChange::DeleteLease));
        changes.extend(
            (all.reservations.into_iter())
                .map(|own| RecordChange::PutReservation(Arc::unwrap_or_clone(own))),
        );
        changes.extend(all.machines.into_iter().map(RecordChange::PutMachine));
        changes.extend(all.leases.into_iter().map(RecordChange::PutLease));
        changes
    }
}

fn follow_machines(draft: &mut Draft, changed: BTreeMap<String, Option<Machine>>) {
    for (id, new) in changed {
        match new {
            // One whose reservation is set aside here, or stands in another's configuration file.
            Some(_) if draft.catalog.by_id(&id).is_none() => {}
            Some(new) if draft.catalog.machine(&id) == Some(&new) => {}
            Some(new) => draft.catalog = draft.catalog.with_machine(new),
            None if draft.catalog.machine(&id).is_some() => {
                draft.catalog = draft.catalog.without_machine(&id);
            }
            None => {}
        }
    }
}

fn follow_lease(draft: &mut Draft, bindings: &mut Bindings, lease: Lease) {
    if bindings.at(lease.address) == Some(&lease) {
        return;
    }
    if !may_hold(&draft.catalog, &lease) {
        if let Some(lease) = bindings.forget(lease.address) {
            draft.lease_notes.push(LeaseNote::Forgotten(lease));
        }
        return;
    }
    if lease.state == LeaseState::Bound {
        withdraw_others(draft, bindings, &lease);
    }
    draft.lease_notes.push(LeaseNote::Put(lease.clone()));
    bindings.apply(BindingChange::Put(lease));
}

/// A client that has taken what another offered it does not take ours.
fn withdraw_others(draft: &mut Draft, bindings: &mut Bindings, taken: &Lease) {
    let subnet = |address| draft.catalog.subnet_of(address).map(|subnet| subnet.cidr);
    let offered: Vec<_> = (bindings.of(&taken.client))
        .filter(|other| other.state == LeaseState::Offered && other.address != taken.address)
        .filter(|other| subnet(other.address) == subnet(taken.address))
        .map(|other| other.address)
        .collect();
    for address in offered {
        let client = taken.client.clone();
        bindings.apply(BindingChange::Withdraw {
            address,
            client: client.clone(),
        });
        draft
            .lease_notes
            .push(LeaseNote::Withdrawn { address, client });
    }
}
