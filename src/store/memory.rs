//! A backend that keeps nothing beyond its own life: for tests, and for looking at a configuration without touching a disk.

use std::sync::Arc;

use super::{Backend, RecordChange, Records, StoreError};

/// Records in memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    records: Records,
}

impl Memory {
    /// A backend that starts with these records.
    pub fn with(records: Records) -> Self {
        Self { records }
    }
}

impl Backend for Memory {
    fn load(&mut self) -> Result<Records, StoreError> {
        Ok(self.records.clone())
    }

    fn write(&mut self, changes: &[RecordChange]) -> Result<(), StoreError> {
        for change in changes {
            let Records {
                reservations,
                leases,
                machines,
                revision,
            } = &mut self.records;
            match change {
                RecordChange::PutReservation(new) => {
                    reservations.retain(|old| old.id != new.id);
                    reservations.push(Arc::new(new.clone()));
                }
                RecordChange::DeleteReservation(id) => reservations.retain(|old| old.id != *id),
                RecordChange::PutLease(new) => {
                    leases.retain(|old| old.address != new.address);
                    leases.push(new.clone());
                }
                RecordChange::DeleteLease(address) => leases.retain(|old| old.address != *address),
                RecordChange::PutMachine(new) => {
                    machines.retain(|old| old.id != new.id);
                    machines.push(new.clone());
                }
                RecordChange::DeleteMachine(id) => machines.retain(|old| old.id != *id),
                RecordChange::Revision(new) => *revision = *new,
            }
        }
        Ok(())
    }
}
