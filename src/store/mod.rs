//! Reservations and leases that survive. In: changes. Out: the same changes on disk, then in memory, then acknowledged.
//!
//! Readers take the current catalog from an atomic pointer and never wait. One thread writes: it takes every job that is
//! waiting, checks each one purely against the state after the ones before it, commits all of them with one sync, and
//! publishes. A reservation whose commit fails changes nothing.
//!
//! Bindings are promised in memory first, by whoever decides, with nobody in between; nothing that was promised is
//! acknowledged before it is on disk. A promise that cannot be written is an offer, which runs out.

mod acknowledged;
mod assemble;
pub mod care;
mod commit;
mod courtesy;
mod decoding;
pub mod etcd;
pub mod export;
pub mod feed;
mod job;
mod journal;
mod layout;
mod leases;
mod local;
mod machines;
mod memory;
pub mod own_profiles;
pub mod profiles;
mod rebuild;
mod record;
mod remote;
mod sled;
mod snapshot;

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use self::assemble::{Assembled, assemble};
use self::commit::Committer;
use self::feed::Feed;
use self::job::Job;
pub use self::leases::ReleaseError;
pub use self::local::Local;
pub use self::machines::{Act, ActError, Moved};
pub use self::memory::Memory;
use crate::bindings::Bindings;
use crate::catalog::{Catalog, Change, Refusal};
use crate::model::{BindingChange, Lease, LeaseState, Machine, Profile, Reservation, Source};

/// How many jobs may wait; more make their callers wait.
const WAITING_JOBS: usize = 1024;
/// What a backend keeps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    pub reservations: Vec<Arc<Reservation>>,
    pub leases: Vec<Lease>,
    pub machines: Vec<Machine>,
    /// The last revision given out.
    pub revision: u64,
}

impl Records {
    /// What a backend would keep of this moment. Offers are not kept, nor is what the configuration file says.
    pub fn of(now: &Snapshot) -> Self {
        let own = (now.catalog.reservations(None)).filter(|own| own.source == Source::Api);
        let leases = (now.bindings.iter()).filter(|lease| lease.state != LeaseState::Offered);
        Self {
            reservations: own.chain(now.aside.iter()).cloned().collect(),
            leases: leases.cloned().collect(),
            machines: (now.catalog.machines())
                .map(|machine| (**machine).clone())
                .collect(),
            revision: now.revision,
        }
    }
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

    /// Makes all the changes or none. They survive a power cut once this returns.
    fn write(&mut self, changes: &[RecordChange]) -> Result<(), StoreError>;

    /// Puts things in order; called about once a second while nothing else is to do. What goes wrong with it is in `health`.
    fn tidy(&mut self) {}

    /// How it is, as far as writes that were acknowledged do not show it.
    fn health(&self) -> Health {
        Health::default()
    }

    /// The last call.
    fn close(&mut self) {}

    /// Whether others write to it too. What follows is for those that answer yes.
    fn is_shared(&self) -> bool {
        false
    }

    /// How many records it writes in one go without much ado.
    fn records_per_write(&self) -> usize {
        usize::MAX
    }

    /// Returns when others have written something; may be left off and asked again.
    fn heard(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::pending())
    }

    /// What others have written, as far as it was heard of.
    fn news(&mut self) -> Vec<News> {
        Vec::new()
    }

    /// After `StoreError::Overtaken`: waits until what stood in the way is among the news.
    fn catch_up(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether reservations and machines are as they are known here; `StoreError::Overtaken` if not.
    fn confirm(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// After `StoreError::Overtaken` and `catch_up`: whether it was this one's own write that stood in the way, of which no answer
    /// had come. It is among the news.
    fn was_made(&mut self) -> bool {
        false
    }

    /// The lease of this address that is kept, as far as it is known.
    fn kept(&self, _address: std::net::Ipv4Addr) -> Option<Lease> {
        None
    }

    /// All of them.
    fn all_kept(&self) -> Vec<Lease> {
        Vec::new()
    }
}

/// What others have written.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// In order.
    Changes(Vec<RecordChange>),
    /// All that there is: what happened in between is not known one by one.
    All(Records),
}

/// How a backend is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// What goes wrong in the background, and what it leads to; none if nothing does.
    pub trouble: Option<String>,
    /// Octets that were written and that the database does not have yet.
    pub journal_bytes: u64,
    /// How long the database has been behind, in seconds; 0 if it has everything.
    pub journal_age_secs: u64,
    /// That the database had to be rebuilt when it was opened, why, and from what; none if it had not.
    pub rebuilt: Option<String>,
    /// Since when the backend cannot be reached, in unix time; none while it can.
    pub away_since_secs: Option<u64>,
}

/// Called on the writing thread when a commit has ended: for each change, whether it still could be made. What it does is
/// short and never waits.
pub type Then = Box<dyn FnOnce(Result<Vec<bool>, StoreError>) + Send>;

/// The store cannot do its work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    #[error("store {0}: locked by another process; is bootjackd already running?")]
    Locked(String),
    #[error("store {path}: {problem}")]
    Broken { path: String, problem: String },
    #[error("the store has stopped")]
    Stopped,
    /// It cannot be reached, or not in time. What was to be written may have been.
    #[error("the store is away: {0}")]
    Away(String),
    /// Others have written what this one did not know of; nothing was written.
    #[error("others wrote to the store at the same time; try again")]
    Overtaken,
}

/// Why a reservation was not written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChangeError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Failed(#[from] StoreError),
}

/// Why a batch of reservations was not written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BatchError {
    /// Each that stands in the way, by its place in the batch.
    #[error("{}", .0.iter().map(|(_, why)| why.to_string()).collect::<Vec<_>>().join("; "))]
    Refused(Vec<(usize, Refusal)>),
    #[error(transparent)]
    Failed(#[from] StoreError),
}

/// Why profiles were not put in place.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProfilesError {
    /// They do not fit these reservations.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Refused(Vec<Refusal>),
    #[error(transparent)]
    Failed(#[from] StoreError),
}

/// A reservation as written, or as it was before it was deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    pub reservation: Reservation,
    /// Leases of other clients on its address, taken back in the same commit.
    pub revoked: Vec<Lease>,
    /// The same call made it before, and nothing was written now.
    pub is_repeat: bool,
}

impl Written {
    fn of(reservation: Reservation) -> Self {
        Self {
            reservation,
            revoked: Vec::new(),
            is_repeat: false,
        }
    }
}

/// Everything as it was at one moment.
#[derive(Clone)]
pub struct Snapshot {
    pub catalog: Arc<Catalog>,
    pub bindings: Bindings,
    /// Reservations that are kept and not followed.
    pub aside: Arc<Vec<Arc<Reservation>>>,
    /// How far the feed of reservations was, and that of leases.
    pub revision: u64,
    pub lease_sequence: u64,
}

/// What opening a store found.
#[derive(Debug, Default)]
pub struct Opened {
    /// Reservations that contradict the configuration: kept, not followed.
    pub set_aside: Vec<(Arc<Reservation>, Refusal)>,
    /// Leases of addresses that the configuration file reserves for another machine.
    pub revoked: Vec<Lease>,
}

struct Shared {
    catalog: ArcSwap<Catalog>,
    /// The catalog is published with this locked, so that who has locked it sees both agree.
    bindings: Mutex<Bindings>,
    feed: Feed,
    /// Held by whoever reads profiles to put them in place.
    profiles_turn: tokio::sync::Mutex<()>,
    /// Reservations that are kept and not followed.
    aside: ArcSwap<Vec<Arc<Reservation>>>,
    health: ArcSwap<Health>,
    /// While the backend is away: the leases that it keeps.
    kept: ArcSwapOption<Bindings>,
}

impl Shared {
    fn set_health(&self, backend: &dyn Backend) {
        let health = backend.health();
        let is_away = health.away_since_secs.is_some();
        if is_away != self.kept.load().is_some() {
            let kept = is_away.then(|| Arc::new(backend.all_kept().into_iter().collect()));
            self.kept.store(kept);
        }
        self.health.store(Arc::new(health));
    }

    fn bindings(&self) -> MutexGuard<'_, Bindings> {
        // Each change of it is whole in itself.
        self.bindings.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        let Assembled {
            catalog,
            leases,
            revision,
            opened,
        } = assemble(&mut *backend, &catalog, now_secs)?;
        let mut bindings: Bindings = leases.into_iter().collect();
        for reservation in catalog.reservations(None) {
            reservation
                .address
                .into_iter()
                .for_each(|address| bindings.reserve(address));
        }
        let aside: Vec<&str> = (opened.set_aside.iter())
            .map(|(reservation, _)| reservation.id.as_str())
            .collect();
        let feed = Feed::new(feed::origin(&catalog, &aside), revision);
        let shared = Arc::new(Shared {
            feed,
            profiles_turn: tokio::sync::Mutex::default(),
            aside: ArcSwap::from_pointee(opened.set_aside.iter().map(|(r, _)| r.clone()).collect()),
            catalog: ArcSwap::from_pointee(catalog),
            bindings: Mutex::new(bindings),
            health: ArcSwap::from_pointee(backend.health()),
            kept: ArcSwapOption::empty(),
        });
        let (jobs, waiting) = mpsc::channel(WAITING_JOBS);
        let mut committer = Committer {
            backend,
            shared: shared.clone(),
            revision,
            set_aside: opened
                .set_aside
                .iter()
                .map(|(reservation, _)| reservation.clone())
                .collect(),
        };
        let no_thread = |error: std::io::Error| StoreError::Broken {
            path: "writer thread".to_owned(),
            problem: error.to_string(),
        };
        let clock = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(no_thread)?;
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || committer.run(waiting, &clock))
            .map_err(no_thread)?;
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

    /// Leases and offers as they are now; a cheap copy.
    pub fn bindings(&self) -> Bindings {
        self.shared.bindings().clone()
    }

    /// Looks at what is known and promises addresses, with nobody in between. Short: every other decision waits.
    pub fn decide<T>(&self, decide: impl FnOnce(&Catalog, &mut Bindings) -> T) -> T {
        let mut bindings = self.shared.bindings();
        let catalog = self.shared.catalog.load();
        decide(&catalog, &mut bindings)
    }

    /// Writes what was promised, in order; `then` is told when it would survive a power cut. Blocks while too much waits: for
    /// threads that may.
    pub fn record(&self, changes: Vec<BindingChange>, now_secs: u64, then: Then) {
        let job = Job::Bind {
            changes,
            now_secs,
            then,
        };
        if let Err(mpsc::error::SendError(Job::Bind { then, .. })) = self.jobs.blocking_send(job) {
            then(Err(StoreError::Stopped));
        }
    }

    /// All of it, as it was between one commit and the next.
    pub fn snapshot(&self) -> Snapshot {
        let bindings = self.shared.bindings();
        Snapshot {
            catalog: self.catalog(),
            bindings: bindings.clone(),
            aside: self.shared.aside.load_full(),
            revision: self.feed().reservations().last(),
            lease_sequence: self.feed().leases().last(),
        }
    }

    /// Whoever reads profiles, or writes their files, and then puts them in place holds this: what one has read is not put in place of
    /// what another has written since.
    pub async fn turn_with_profiles(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.shared.profiles_turn.lock().await
    }

    /// What changes, in order, for whoever wants to follow.
    pub fn feed(&self) -> &Feed {
        &self.shared.feed
    }

    /// How the backend is; not older than some seconds.
    pub fn health(&self) -> Arc<Health> {
        self.shared.health.load_full()
    }

    /// While the backend cannot be reached: the leases that it is known to keep. What is promised beside them may be promised by
    /// somebody else too.
    pub fn kept_while_away(&self) -> Option<Arc<Bindings>> {
        self.shared.kept.load_full()
    }

    /// Whether the backend cannot be reached.
    pub fn is_away(&self) -> bool {
        self.shared.kept.load().is_some()
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
        self.queue(job).await?;
        answer.await.map_err(|_| StoreError::Stopped)?
    }

    /// Writes new reservations, all or none, with one sync.
    pub async fn create_all(
        &self,
        new: Vec<Reservation>,
        now_secs: u64,
    ) -> Result<Vec<Written>, BatchError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Batch {
            new,
            now_secs,
            reply,
        };
        self.queue(job).await?;
        answer.await.map_err(|_| StoreError::Stopped)?
    }

    /// Promises and writes in one; answers for each change whether it could be made. Returns when all of it but offers, which
    /// are not kept, would survive a power cut.
    pub async fn bind(
        &self,
        changes: Vec<BindingChange>,
        now_secs: u64,
    ) -> Result<Vec<bool>, StoreError> {
        let mut possible = Vec::with_capacity(changes.len());
        let mut promised = Vec::with_capacity(changes.len());
        self.decide(|_, bindings| {
            for change in changes {
                let is_possible = bindings.permits(&change, now_secs);
                possible.push(is_possible);
                if is_possible {
                    bindings.apply(change.clone());
                    promised.push(change);
                }
            }
        });
        let (reply, answer) = oneshot::channel();
        let job = Job::Bind {
            changes: promised,
            now_secs,
            then: Box::new(move |outcome| {
                let _ = reply.send(outcome);
            }),
        };
        self.queue(job).await?;
        let mut written = answer.await.map_err(|_| StoreError::Stopped)??.into_iter();
        Ok((possible.into_iter())
            .map(|is_possible| is_possible && written.next() == Some(true))
            .collect())
    }

    /// Puts these profiles in place of those that are served from, between one packet and the next, if every reservation fits
    /// them. What was made under the ones before stays as it is.
    pub async fn replace_profiles(
        &self,
        profiles: BTreeMap<String, Profile>,
    ) -> Result<(), ProfilesError> {
        let (reply, answer) = oneshot::channel();
        self.queue(Job::Profiles { profiles, reply }).await?;
        answer.await.map_err(|_| StoreError::Stopped)?
    }

    /// Waits for its turn without holding up the thread.
    async fn queue(&self, job: Job) -> Result<(), StoreError> {
        let queued = self.jobs.send(job).await;
        queued.map_err(|_| StoreError::Stopped)
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

/// Opens the store in `data_dir`, which is made if it is missing, for one process alone.
pub fn open_sled(
    data_dir: &Path,
    snapshot_period: Duration,
) -> Result<Box<dyn Backend>, StoreError> {
    Ok(Box::new(Local::open(data_dir, snapshot_period)?))
}

#[cfg(test)]
mod tests;
