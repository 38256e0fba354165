//! Reservations and leases that survive. In: changes. Out: the same changes on disk, then in memory, then acknowledged.
//!
//! Readers take the current catalog and bindings from an atomic pointer and never wait. One thread writes: it takes every job
//! that is waiting, checks each one purely against the state after the ones before it, commits all of them with one sync, and
//! publishes. A job whose commit fails changes nothing.

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

pub use self::memory::Memory;
pub use self::sled::Sled;
use crate::bindings::Bindings;
use crate::catalog::{Catalog, Change, Refusal};
use crate::model::{BindingChange, ClientKey, Lease, LeaseState, Reservation};

/// How many jobs may wait; more make their callers wait.
const WAITING_JOBS: usize = 1024;
/// How many jobs one commit carries.
const JOBS_PER_COMMIT: usize = 256;

/// What a backend keeps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    pub reservations: Vec<Reservation>,
    pub leases: Vec<Lease>,
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

enum Job {
    Change {
        change: Change,
        now_secs: u64,
        reply: oneshot::Sender<Result<Written, ChangeError>>,
    },
    Bind {
        changes: Vec<BindingChange>,
        now_secs: u64,
        reply: oneshot::Sender<Result<Vec<bool>, StoreError>>,
    },
    Close,
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
    pub fn open(
        mut backend: Box<dyn Backend>,
        catalog: Catalog,
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
        if !forgotten.is_empty() {
            backend.write(&forgotten, true)?;
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

    /// The machine that has this address, as far as reservations and leases say.
    pub fn machine_at(&self, address: std::net::IpAddr) -> Option<String> {
        let std::net::IpAddr::V4(address) = address else {
            return None;
        };
        let catalog = self.shared.catalog.load();
        if let Some(reservation) = catalog.by_address(address) {
            return Some(reservation.title().to_owned());
        }
        let bindings = self.shared.bindings.load();
        match &bindings.at(address)?.client {
            ClientKey::Mac(mac) => Some(catalog.by_mac(*mac)?.title().to_owned()),
            ClientKey::Id(_) => None,
        }
    }

    /// Writes a reservation. Returns when it is on disk and every later `catalog()` has it.
    pub async fn change(&self, change: Change, now_secs: u64) -> Result<Written, ChangeError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Change {
            change,
            now_secs,
            reply,
        };
        self.jobs.send(job).await.map_err(|_| StoreError::Stopped)?;
        answer.await.map_err(|_| StoreError::Stopped)?
    }

    /// Commits what decisions want, in order; answers for each whether it still could be. Returns when all that must survive a
    /// power cut does: everything but offers and the leases of reserved addresses, which their reservation brings back.
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

/// Whether the lease's holder may have its address: nobody else's reservation says otherwise.
fn may_hold(catalog: &Catalog, lease: &Lease) -> bool {
    let for_its_client = |reservation: &Arc<Reservation>| {
        lease.client == ClientKey::Mac(reservation.mac) || lease.state == LeaseState::Declined
    };
    catalog.by_address(lease.address).is_none_or(for_its_client)
}

/// The writing thread's own.
struct Committer {
    backend: Box<dyn Backend>,
    shared: Arc<Shared>,
    revision: u64,
    /// Reservations that are on disk and not in the catalog; they can only be deleted.
    set_aside: Vec<Reservation>,
}

/// The state that a batch of jobs works towards.
struct Draft {
    catalog: Catalog,
    bindings: Bindings,
    records: Vec<RecordChange>,
    revision: u64,
    sync: bool,
}

type Acknowledge = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

impl Committer {
    fn run(&mut self, mut waiting: mpsc::Receiver<Job>) {
        let mut closing = false;
        while !closing && let Some(first) = waiting.blocking_recv() {
            let mut jobs = vec![first];
            while jobs.len() < JOBS_PER_COMMIT
                && let Ok(job) = waiting.try_recv()
            {
                jobs.push(job);
            }
            closing = jobs.iter().any(|job| matches!(job, Job::Close));
            self.commit(jobs);
        }
        // The last word of a stopping service: what was written without a sync is synced.
        let _ = self.backend.write(&[], true);
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        let mut draft = Draft {
            catalog: (**self.shared.catalog.load()).clone(),
            bindings: (**self.shared.bindings.load()).clone(),
            records: Vec::new(),
            revision: self.revision,
            sync: false,
        };
        let acknowledgements: Vec<Acknowledge> = jobs
            .into_iter()
            .filter_map(|job| self.prepare(job, &mut draft))
            .collect();
        let outcome = if draft.records.is_empty() {
            Ok(())
        } else {
            self.backend.write(&draft.records, draft.sync)
        };
        if outcome.is_ok() {
            self.revision = draft.revision;
            self.shared.catalog.store(Arc::new(draft.catalog));
            self.shared.bindings.store(Arc::new(draft.bindings));
            for record in &draft.records {
                if let RecordChange::DeleteReservation(id) = record {
                    self.set_aside.retain(|reservation| reservation.id != *id);
                }
            }
        }
        for acknowledge in acknowledgements {
            acknowledge(outcome.clone());
        }
    }

    /// Makes the job's change in the draft; answers how to acknowledge it, unless it was refused and told so.
    fn prepare(&self, job: Job, draft: &mut Draft) -> Option<Acknowledge> {
        match job {
            Job::Close => None,
            Job::Change {
                change,
                now_secs,
                reply,
            } => match self.draft_change(change, now_secs, draft) {
                Ok(written) => Some(Box::new(move |outcome| {
                    let _ = reply.send(outcome.map(|()| written).map_err(ChangeError::from));
                })),
                Err(refusal) => {
                    let _ = reply.send(Err(refusal.into()));
                    None
                }
            },
            Job::Bind {
                changes,
                now_secs,
                reply,
            } => {
                let accepted: Vec<bool> = changes
                    .into_iter()
                    .map(|change| draft.bind(change, now_secs))
                    .collect();
                Some(Box::new(move |outcome| {
                    let _ = reply.send(outcome.map(|()| accepted));
                }))
            }
        }
    }

    fn draft_change(
        &self,
        mut change: Change,
        now_secs: u64,
        draft: &mut Draft,
    ) -> Result<Written, Refusal> {
        let revision = draft.revision + 1;
        match &mut change {
            Change::Create(reservation) => {
                reservation.revision = revision;
                reservation.created_secs = now_secs;
                reservation.updated_secs = now_secs;
                self.refuse_set_aside(&reservation.id)?;
            }
            Change::Update { reservation, .. } => {
                let known = draft.catalog.by_id(&reservation.id);
                reservation.created_secs = known.map_or(now_secs, |known| known.created_secs);
                reservation.revision = revision;
                reservation.updated_secs = now_secs;
            }
            Change::Delete { id, .. } => {
                if let Some(reservation) = self.set_aside.iter().find(|r| r.id == *id)
                    && draft.catalog.by_id(id).is_none()
                {
                    draft.write_reservation(RecordChange::DeleteReservation(id.clone()), revision);
                    return Ok(Written {
                        reservation: reservation.clone(),
                        revoked: Vec::new(),
                    });
                }
            }
        }
        let next = draft.catalog.with(&change)?;
        let (reservation, record) = match change {
            Change::Create(reservation) | Change::Update { reservation, .. } => {
                let record = RecordChange::PutReservation(reservation.clone());
                (reservation, record)
            }
            Change::Delete { id, .. } => {
                let known = draft.catalog.by_id(&id).map(|known| (**known).clone());
                let reservation = known.ok_or_else(|| Refusal::NotFound(id.clone()))?;
                (reservation, RecordChange::DeleteReservation(id))
            }
        };
        draft.catalog = next;
        draft.write_reservation(record, revision);
        let revoked = draft.revoke_against(&reservation);
        Ok(Written {
            reservation,
            revoked,
        })
    }

    fn refuse_set_aside(&self, id: &str) -> Result<(), Refusal> {
        match self.set_aside.iter().find(|r| r.id == id) {
            None => Ok(()),
            Some(other) => Err(Refusal::Taken {
                title: id.to_owned(),
                field: "id",
                value: id.to_owned(),
                owner: format!("{} ({}), which is set aside", other.title(), other.mac),
                next_step: format!("delete {id} first, or pick another id"),
            }),
        }
    }
}

impl Draft {
    fn write_reservation(&mut self, record: RecordChange, revision: u64) {
        self.revision = revision;
        self.records.push(record);
        self.records.push(RecordChange::Revision(revision));
        self.sync = true;
    }

    /// Takes back the lease that stands in the reservation's way: its address is no longer its holder's.
    fn revoke_against(&mut self, reservation: &Reservation) -> Vec<Lease> {
        let held = reservation
            .address
            .and_then(|address| self.bindings.at(address))
            .filter(|lease| !may_hold(&self.catalog, lease))
            .cloned();
        if let Some(lease) = &held {
            self.bindings.forget(lease.address);
            self.records.push(RecordChange::DeleteLease(lease.address));
        }
        held.into_iter().collect()
    }

    /// Makes the change, unless what was true when it was decided no longer is.
    fn bind(&mut self, change: BindingChange, now_secs: u64) -> bool {
        if let BindingChange::Put(lease) = &change {
            if !self.still_stands(lease, now_secs) {
                return false;
            }
            let is_reserved = self.catalog.by_address(lease.address).is_some();
            if lease.state != LeaseState::Offered {
                self.records.push(RecordChange::PutLease(lease.clone()));
                self.sync |= !is_reserved;
            }
        }
        self.bindings.apply(change);
        true
    }

    fn still_stands(&self, lease: &Lease, now_secs: u64) -> bool {
        let reserved_elsewhere = || {
            let ClientKey::Mac(mac) = lease.client else {
                return false;
            };
            let reserved = self.catalog.by_mac(mac).and_then(|r| r.address);
            reserved.is_some_and(|reserved| {
                reserved != lease.address
                    && self.catalog.subnet_of(reserved).map(|s| s.cidr)
                        == self.catalog.subnet_of(lease.address).map(|s| s.cidr)
            })
        };
        let takes = matches!(lease.state, LeaseState::Offered | LeaseState::Bound);
        let kept_out = self
            .bindings
            .at(lease.address)
            .is_some_and(|held| held.keeps_out(&lease.client, now_secs));
        may_hold(&self.catalog, lease) && !(takes && (kept_out || reserved_elsewhere()))
    }
}

#[cfg(test)]
mod tests;
