//! From what a backend keeps to what is served. In: its records, and what the configuration says. Out: the whole catalog and the
//! leases that can be held, with what was found; the backend has been told what follows from it.

use std::collections::BTreeSet;

use super::commit::may_hold;
use super::{Backend, Opened, RecordChange, StoreError, machines};
use crate::catalog::{Catalog, Work};
use crate::model::Lease;

/// What a store begins with.
pub(super) struct Assembled {
    pub(super) catalog: Catalog,
    pub(super) leases: Vec<Lease>,
    pub(super) revision: u64,
    pub(super) opened: Opened,
}

/// Reads all that is kept, holds it against what the configuration says, and writes what is to be true before anything is served;
/// again, where others write at the same time.
pub(super) fn assemble(
    backend: &mut dyn Backend,
    configured: &Catalog,
    now_secs: u64,
) -> Result<Assembled, StoreError> {
    loop {
        let (assembled, changes) = read(backend, configured.clone(), now_secs)?;
        let written = match changes.as_slice() {
            [] => Ok(()),
            changes => backend.write(changes),
        };
        match written {
            Err(StoreError::Overtaken) => {}
            written => return written.map(|()| assembled),
        }
    }
}

/// Does both on two threads.
fn at_once(one: Work, other: Work) {
    std::thread::scope(|scope| {
        scope.spawn(one);
        other();
    });
}

fn read(
    backend: &mut dyn Backend,
    catalog: Catalog,
    now_secs: u64,
) -> Result<(Assembled, Vec<RecordChange>), StoreError> {
    let records = backend.load()?;
    let (catalog, set_aside) = catalog.loaded(records.reservations, at_once);
    let mut opened = Opened {
        set_aside,
        ..Opened::default()
    };
    let (leases, revoked): (Vec<Lease>, Vec<Lease>) =
        (records.leases.into_iter()).partition(|lease| may_hold(&catalog, lease));
    opened.revoked = revoked;
    let forgotten = (opened.revoked.iter()).map(|lease| RecordChange::DeleteLease(lease.address));
    let mut changes: Vec<RecordChange> = forgotten.collect();
    // Another's configuration file may have its reservation.
    let is_shared = backend.is_shared();
    let aside: BTreeSet<&str> = (opened.set_aside.iter())
        .map(|(reservation, _)| reservation.id.as_str())
        .collect();
    let (catalog, settled) = machines::opened(
        catalog,
        records.machines,
        |id| is_shared || aside.contains(id),
        now_secs,
    );
    changes.extend(settled);
    let revision = records.revision;
    let assembled = Assembled {
        catalog,
        leases,
        revision,
        opened,
    };
    Ok((assembled, changes))
}
