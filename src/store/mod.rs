//! Reservations and leases that survive. In: changes. Out: the same changes on disk, then in memory, then acknowledged.
//!
//! Readers take the current catalog and bindings from an atomic pointer and never wait. One thread writes: it takes every job
//! that is waiting, checks each one purely against the state after the ones before it, commits all of them with one sync, and
//! publishes. A job whose commit fails changes nothing.

mod commit;
mod machines;
mod memory;
pub mod profiles;
mod record;
mod sled;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use self::commit::{Committer, Job, may_hold};
pub use self::machines::{Act, ActError, Moved};
pub use self::memory::Memory;
pub use self::sled::Sled;
use crate::bindings::Bindings;
use crate::catalog::{Catalog, Change, Refusal};
use crate::model::{BindingChange, Lease, Machine, Reservation};

/// How many jobs may wait; more make their callers wait.
const WAITING_JOBS: usize = 1024;
/// What a backend keeps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    pub reservations: Vec<Reservation>,
    pub leases: Vec<Lease>,
    pub machines: Vec<Machine>,
    /// The last revision given out.
    pub revision: u64,
}

/// One record to write or to remove.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordChange {
    PutReservation(Reservation),
    DeleteReservation(String),
    PutLease(Lease),
    DeleteLease(std::net::Ipv4Addr),
    PutMachine(Machine),
    DeleteMachine(String),
    Revision(u64),
}

/// A place where records are kept.
pub trait Backend: Send {
    /// All that is kept.
    fn load(&mut self) -> Result<Records, StoreError>;

    /// Makes all the changes or none. With `sync`, they survive a power cut once this returns.
    fn write(&mut self, changes: &[RecordChange], sync: bool) -> Result<(), StoreError>;
}

/// The store cannot do its work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    #[error("store {0}: locked by another process; is bootjackd already running?")]
    Locked(String),
    #[error("store {path}: {problem}")]
    Broken { path: String, problem: String },
    #[error("the store has stopped")]
    Stopped,
}

/// Why a reservation was not written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChangeError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Failed(#[from] StoreError),
}

/// A reservation as written, or as it was before it was deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    pub reservation: Reservation,
    /// Leases of other clients on its address, taken back in the same commit.
    pub revoked: Vec<Lease>,
}

/// What opening a store found.
#[derive(Debug, Default)]
pub struct Opened {
    /// Reservations that contradict the configuration: kept, not followed.
    pub set_aside: Vec<(Reservation, Refusal)>,
    /// Leases of addresses that the configuration file reserves for another machine.
    pub revoked: Vec<Lease>,
}

struct Shared {
    catalog: ArcSwap<Catalog>,
    bindings: ArcSwap<Bindings>,
}

/// The store, shared by all shells.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
}

/// The writing thread, to be closed when the service stops.
pub struct Writer {
    thread: JoinHandle<()>,
    jobs: mpsc::Sender<Job>,
}

impl Store {
    /// Opens a store over `backend`. `catalog` holds what the configuration says; the reservations of the backend are added.
    ///
    /// `now_secs` is what machines are armed at that the configuration file names for the first time.
    pub fn open(
        mut backend: Box<dyn Backend>,
        catalog: Catalog,
        now_secs: u64,
    ) -> Result<(Self, Writer, Opened), StoreError> {
        let records = backend.load()?;
        let mut opened = Opened::default();
        let mut catalog = catalog;
        for reservation in records.reservations {
            match catalog.with(&Change::Create(reservation.clone())) {
                Ok(next) => catalog = next,
                Err(refusal) => opened.set_aside.push((reservation, refusal)),
            }
        }
        let (leases, revoked): (Vec<Lease>, Vec<Lease>) = records
            .leases
            .into_iter()
            .partition(|lease| may_hold(&catalog, lease));
        opened.revoked = revoked;
        let forgotten: Vec<RecordChange> = opened
            .revoked
            .iter()
            .map(|lease| RecordChange::DeleteLease(lease.address))
            .collect();
        let (catalog, settled) = machines::opened(
            catalog,
            records.machines,
            |id| opened.set_aside.iter().any(|(aside, _)| aside.id == id),
            now_secs,
        );
        let changes = [forgotten, settled].concat();
        if !changes.is_empty() {
            backend.write(&changes, true)?;
        }
        let shared = Arc::new(Shared {
            catalog: ArcSwap::from_pointee(catalog),
            bindings: ArcSwap::from_pointee(leases.into_iter().collect()),
        });
        let (jobs, waiting) = mpsc::channel(WAITING_JOBS);
        let mut committer = Committer {
            backend,
            shared: shared.clone(),
            revision: records.revision,
            set_aside: opened
                .set_aside
                .iter()
                .map(|(reservation, _)| reservation.clone())
                .collect(),
        };
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || committer.run(waiting))
            .map_err(|error| StoreError::Broken {
                path: "writer thread".to_owned(),
                problem: error.to_string(),
            })?;
        let writer = Writer {
            thread,
            jobs: jobs.clone(),
        };
        Ok((Self { shared, jobs }, writer, opened))
    }

    /// Subnets, profiles and reservations as they are now.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.shared.catalog.load_full()
    }

    /// Leases and offers as they are now.
    pub fn bindings(&self) -> Arc<Bindings> {
        self.shared.bindings.load_full()
    }

    /// The name of the machine that has this address, as far as reservations and leases say.
    pub fn machine_at(&self, address: std::net::IpAddr) -> Option<String> {
        Some(self.reservation_at(address)?.title().to_owned())
    }

    /// Writes a reservation. Returns when it is on disk and every later `catalog()` has it.
    pub async fn change(&self, change: Change, now_secs: u64) -> Result<Written, ChangeError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Change {
            change: Box::new(change),
            now_secs,
            reply,
        };
        self.jobs.send(job).await.map_err(|_| StoreError::Stopped)?;
        answer.await.map_err(|_| StoreError::Stopped)?
    }

    /// Commits what decisions want, in order; answers for each whether it still could be. Returns when all of it but
    /// offers, which are not kept, would survive a power cut.
    pub async fn bind(
        &self,
        changes: Vec<BindingChange>,
        now_secs: u64,
    ) -> Result<Vec<bool>, StoreError> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answer) = oneshot::channel();
        let job = Job::Bind {
            changes,
            now_secs,
            reply,
        };
        self.jobs.send(job).await.map_err(|_| StoreError::Stopped)?;
        answer.await.map_err(|_| StoreError::Stopped)?
    }
}

impl Writer {
    /// Commits what waits, syncs, and ends; whoever asks for more is told that the store has stopped. Blocks.
    pub fn close(self) -> Result<(), StoreError> {
        // It fails where the thread is gone already, and then joining says so.
        let _ = self.jobs.blocking_send(Job::Close);
        self.thread.join().map_err(|_| StoreError::Stopped)
    }
}

/// Opens the database in `data_dir`, which is made if it is missing, for one process alone.
pub fn open_sled(data_dir: &Path) -> Result<Box<dyn Backend>, StoreError> {
    Ok(Box::new(Sled::open(data_dir)?))
}

#[cfg(test)]
mod tests;
