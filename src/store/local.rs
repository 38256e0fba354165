//! The store of one machine. In: changes. Out: the same on disk, found again after any crash.
//!
//! A write is durable as soon as it is synced in the journal. The database gets what has been written now and then, the latest
//! value of each key alone, on a thread of its own (a checkpoint); so a grant waits for one short append and not for a tree. Each
//! checkpoint begins a new journal. On the same thread journals are put together into snapshots, on a schedule; the two newest
//! and all journals since the older one are kept (`layout`). A database that cannot be used is rebuilt from them (`rebuild`).
//!
//! The last revision of a reservation that was acknowledged stands in a file of its own: files that are behind it together are
//! not served as if the rest had never been.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::courtesy::{Courtesy, Pace};
use super::journal::{Journal, KeyValue};
use super::layout::Layout;
use super::rebuild::{self, Loaded};
use super::sled::Database;
use super::{Backend, Health, RecordChange, Records, StoreError, acknowledged, record, snapshot};

/// The latest value of each key; none if it was removed.
pub(super) type Latest = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A journal of this size is checkpointed even if there is no quiet second.
const LONGEST_JOURNAL: u64 = 32 << 20;
/// One of this size says that the checkpoint that is being made has taken too long: it no longer lets others go first.
const TOO_FAR_BEHIND: u64 = 2 * LONGEST_JOURNAL;
/// One of this size says that no new one can be begun, and is not made longer.
const TOO_LONG: u64 = if cfg!(test) { 4096 } else { 512 << 20 };
/// Otherwise a quiet second is used, but not more often than this;
const CHECKPOINT_PERIOD: Duration = Duration::from_secs(10);
/// and after this there is a checkpoint though no second is quiet.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long a process that was killed may take to let its lock go.
const PREDECESSOR_ENDS: Duration = Duration::from_secs(3);
/// Journals since the last snapshot have at most this, or what the snapshot has.
const SNAPSHOT_AFTER: u64 = 64 << 20;

/// An open store; it is closed, and its lock let go, when this is dropped.
pub struct Local {
    layout: Layout,
    journal: Journal,
    /// The journal's.
    number: u64,
    /// None while a checkpoint has it, and after it failed: it is opened again then.
    database: Option<Database>,
    /// The last checkpoint that the database is known to have.
    caught_up: u64,
    /// What the database does not have yet.
    ahead: Latest,
    /// Since when there is any.
    behind: Option<Instant>,
    running: Option<Running>,
    courtesy: Arc<Courtesy>,
    /// When the last checkpoint ended.
    checkpointed: Instant,
    snapshots: Schedule,
    /// What was found, until it is asked for.
    found: Option<Records>,
    health: Health,
    lock: File,
}

/// When snapshots are taken.
struct Schedule {
    period: Duration,
    /// None if there was none, or it was too long ago to say.
    last: Option<Instant>,
}

/// Work in the background, and what it is made of: kept until the database has it, also if that panics.
struct Running {
    thread: JoinHandle<Done>,
    ahead: Arc<Latest>,
    behind: Option<Instant>,
    /// The checkpoint that is made.
    number: u64,
    takes_snapshot: bool,
}

/// What came of it.
struct Done {
    database: Result<Database, String>,
    snapshot: Result<(), String>,
}

impl Local {
    /// Opens the store in `data_dir`; makes the directory, for its owner alone, if it is missing.
    pub fn open(data_dir: &Path, snapshot_period: Duration) -> Result<Self, StoreError> {
        let lock = lock(data_dir)?;
        let layout = Layout::new(data_dir);
        let broken = |problem: &dyn std::fmt::Display| self::broken(&layout, problem);
        layout.settle().map_err(|error| broken(&error))?;
        if layout.is_new().map_err(|error| broken(&error))? {
            Journal::create(&layout.journal(), 0).map_err(|error| broken(&error))?;
        }
        let Loaded {
            database,
            caught_up,
            current,
            ahead,
            records,
            rebuilt,
        } = rebuild::load_or_rebuild(&layout).map_err(|problem| broken(&problem))?;
        let number = current.checkpoint;
        layout
            .forget_what_is_ahead_of(number)
            .map_err(|error| broken(&error))?;
        let snapshots = Schedule {
            period: snapshot_period,
            last: layout.last_snapshot().map_err(|error| broken(&error))?,
        };
        let journal = Journal::open(&layout.journal(), &current);
        let journal = journal.map_err(|error| broken(&error))?;
        let health = Health {
            rebuilt,
            ..Health::default()
        };
        Ok(Self {
            journal,
            number,
            database: Some(database),
            caught_up,
            behind: (!ahead.is_empty()).then(Instant::now),
            ahead,
            running: None,
            courtesy: Arc::default(),
            checkpointed: Instant::now(),
            snapshots,
            found: Some(records),
            health,
            layout,
            lock,
        })
    }

    /// Closes the database; the directory stays this process's alone as long as the lock is kept.
    pub(super) fn into_lock(self) -> File {
        self.lock
    }

    /// Has the database catch up on a thread of its own, and a snapshot taken if one is due. What is written meanwhile goes into
    /// a new journal.
    fn begin(&mut self, takes_snapshot: bool) -> Result<(), StoreError> {
        if self.running.is_some() {
            return Ok(());
        }
        if !self.journal.is_empty() {
            self.seal()?;
        }
        let files = self.layout.scan().map_err(|error| self.broken(error))?;
        let newest = files.snapshots.last_key_value();
        let (number, octets) = newest.map_or((0, 0), |(number, octets)| (*number, *octets));
        let (journals, waiting) = files.since(number);
        let is_due = (self.snapshots.last)
            .is_none_or(|last| last.elapsed() >= self.snapshots.period)
            || waiting >= SNAPSHOT_AFTER.max(octets);
        // Journals from before there were snapshots do not lead anywhere.
        let takes_snapshot =
            files.chains(self.number).is_empty() || journals > 0 && (takes_snapshot || is_due);
        if self.ahead.is_empty() && self.caught_up == self.number && !takes_snapshot {
            return Ok(());
        }
        let ahead = Arc::new(std::mem::take(&mut self.ahead));
        let courtesy = self.courtesy.clone();
        let work = Work {
            layout: self.layout.clone(),
            database: self.database.take(),
            caught_up: self.caught_up,
            ahead: ahead.clone(),
            number: self.number,
            takes_snapshot,
        };
        self.running = Some(Running {
            thread: std::thread::spawn(move || work.run(&Pace::of_background(courtesy))),
            ahead,
            behind: self.behind.take(),
            number: self.number,
            takes_snapshot,
        });
        Ok(())
    }

    /// Begins a new journal.
    fn seal(&mut self) -> Result<(), StoreError> {
        let number = self.number + 1;
        let sealed = self.layout.kept(self.number);
        let new = Journal::create_beside(&self.layout.journal(), number)
            .map_err(|error| self.broken(error))?;
        self.journal =
            (self.journal.replaced_by(new, &sealed)).map_err(|error| self.broken(error))?;
        self.number = number;
        Ok(())
    }

    /// Takes note of work that has ended; with `wait`, of what runs.
    fn end(&mut self, wait: bool) {
        let has_ended = |running: &mut Running| wait || running.thread.is_finished();
        let Some(running) = self.running.take_if(has_ended) else {
            return;
        };
        self.checkpointed = Instant::now();
        let died = |_| Done {
            database: Err("its thread died".to_owned()),
            snapshot: Ok(()),
        };
        let done = running.thread.join().unwrap_or_else(died);
        let mut problems = Vec::new();
        match done.database {
            Ok(database) => {
                self.database = Some(database);
                self.caught_up = running.number;
            }
            Err(problem) => {
                // What was written since is newer.
                for (key, value) in Arc::unwrap_or_clone(running.ahead) {
                    self.ahead.entry(key).or_insert(value);
                }
                self.behind = running.behind.or(self.behind);
                problems.push(format!(
                    "database: {problem}; what is written is kept in journals and snapshots meanwhile"
                ));
            }
        }
        match done.snapshot {
            Ok(()) if running.takes_snapshot => self.snapshots.last = Some(Instant::now()),
            Ok(()) => {}
            Err(problem) => problems.push(format!("snapshot: {problem}")),
        }
        let place = self.layout.dir().display();
        self.health.trouble = match problems.as_slice() {
            [] => None,
            problems => Some(format!("store {place}: {}", problems.join("; "))),
        };
    }

    /// Has there be a new journal before the current one gets too long.
    fn make_room(&mut self) -> Result<(), StoreError> {
        if self.journal.length() <= TOO_LONG {
            return Ok(());
        }
        self.seal().map_err(|error| {
            self.broken(format!(
                "its journal has {} octets, and no new one can be begun: {error}",
                self.journal.length()
            ))
        })
    }

    /// Remembers what went wrong although nobody waits for it: it is tried again.
    fn note(&mut self, outcome: Result<(), StoreError>) {
        if let Err(error) = outcome {
            self.health.trouble = Some(error.to_string());
        }
    }

    fn broken(&self, problem: impl std::fmt::Display) -> StoreError {
        broken(&self.layout, &problem)
    }
}

impl Backend for Local {
    fn load(&mut self) -> Result<Records, StoreError> {
        (self.found.take()).ok_or_else(|| self.broken("it was loaded already"))
    }

    fn write(&mut self, changes: &[RecordChange]) -> Result<(), StoreError> {
        let records: Vec<KeyValue> = changes
            .iter()
            .map(record::encode)
            .collect::<Result<_, _>>()
            .map_err(|problem| self.broken(problem))?;
        if let Err(error) = self.make_room() {
            self.note(Err(error.clone()));
            return Err(error);
        }
        self.journal
            .write(&records)
            .map_err(|error| self.broken(error))?;
        self.courtesy.wrote(self.journal.length() > TOO_FAR_BEHIND);
        self.ahead.extend(records);
        self.behind.get_or_insert_with(Instant::now);
        let revisions = changes.iter().filter_map(|change| match change {
            RecordChange::Revision(revision) => Some(*revision),
            _ => None,
        });
        if let Some(last) = revisions.max() {
            // The write is durable, and cannot be taken back: the note only shows later what a disk forgot.
            let noted = acknowledged::write(&self.layout.acknowledged(), last)
                .map_err(|error| self.broken(error));
            self.note(noted);
        }
        self.end(false);
        let longest_wait = LONGEST_WAIT.min(self.snapshots.period);
        if self.journal.length() > LONGEST_JOURNAL || self.checkpointed.elapsed() >= longest_wait {
            let begun = self.begin(false);
            self.note(begun);
        }
        Ok(())
    }

    fn tidy(&mut self) {
        self.end(false);
        let pause = CHECKPOINT_PERIOD.min(self.snapshots.period);
        if self.checkpointed.elapsed() >= pause {
            let begun = self.begin(false);
            self.note(begun);
        }
    }

    fn health(&self) -> Health {
        let running = self.running.as_ref().and_then(|running| running.behind);
        let behind = running.or(self.behind);
        Health {
            journal_bytes: self.journal.length(),
            journal_age_secs: behind.map_or(0, |since| since.elapsed().as_secs()),
            ..self.health.clone()
        }
    }

    fn close(&mut self) {
        self.end(true);
        // A snapshot takes a part of many journals at a time.
        loop {
            let before = self.layout.scan().unwrap_or_default().snapshots;
            let begun = self.begin(true);
            self.note(begun);
            self.end(true);
            let after = self.layout.scan().unwrap_or_default().snapshots;
            if after.last_key_value() == before.last_key_value() {
                return;
            }
        }
    }
}

/// What is done in the background.
struct Work {
    layout: Layout,
    database: Option<Database>,
    caught_up: u64,
    ahead: Arc<Latest>,
    number: u64,
    takes_snapshot: bool,
}

impl Work {
    fn run(mut self, pace: &Pace) -> Done {
        let database = self.catch_up(pace);
        let snapshot = match self.takes_snapshot {
            true => self.snapshot(database.as_ref().ok(), pace),
            false => Ok(()),
        };
        Done { database, snapshot }
    }

    fn catch_up(&mut self, pace: &Pace) -> Result<Database, String> {
        let database = match self.database.take() {
            Some(database) => database,
            None => {
                let database = Database::open(&self.layout.db())?;
                if database.checkpoint()? < self.caught_up {
                    return Err(
                        "it has lost what was written to it; a restart rebuilds it".to_owned()
                    );
                }
                database
            }
        };
        database.catch_up(&self.ahead, self.number, pace.clone())?;
        Ok(database)
    }

    /// The next snapshot: of the chain there is, or, where that is of no use any more, of the database.
    fn snapshot(&self, database: Option<&Database>, pace: &Pace) -> Result<(), String> {
        let files = self.layout.scan().map_err(|error| error.to_string())?;
        let of_database = || match database {
            Some(database) => rebuild::snapshot_of(&self.layout, database, self.number, pace),
            None => Err("the journals do not lead back to a snapshot".to_owned()),
        };
        let taken = match files.chains(self.number).first() {
            None => of_database(),
            Some(chain) => snapshot::advance(&self.layout, chain, pace)
                .map(|_| ())
                .or_else(|problem| {
                    of_database()
                        .map_err(|other| format!("{problem}; {other}"))
                        .and(Err(format!(
                            "{problem}; one of the database was taken instead"
                        )))
                }),
        };
        let files = self.layout.scan().map_err(|error| error.to_string())?;
        for unneeded in files.unneeded(&self.layout) {
            std::fs::remove_file(unneeded).map_err(|error| error.to_string())?;
        }
        taken
    }
}

fn broken(layout: &Layout, problem: &dyn std::fmt::Display) -> StoreError {
    StoreError::Broken {
        path: layout.dir().display().to_string(),
        problem: problem.to_string(),
    }
}

/// Makes the directory, if it is missing, and holds it for this process alone. Refused if another holds it, and goes on doing so.
pub(super) fn lock(data_dir: &Path) -> Result<File, StoreError> {
    let layout = Layout::new(data_dir);
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .and_then(|()| std::fs::set_permissions(data_dir, Permissions::from_mode(0o700)));
    made.map_err(|error| broken(&layout, &error))?;
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(layout.lock())
        .map_err(|error| broken(&layout, &error))?;
    hold_alone(lock).ok_or_else(|| StoreError::Locked(data_dir.display().to_string()))
}

/// Holds a file for this process alone; none if another does, and goes on doing so. One that was killed holds its locks until
/// its last thread is gone, which may be after its parent was told, and lets one of them go after the other: whoever starts it
/// again at once waits for that here.
pub(super) fn hold_alone(lock: File) -> Option<File> {
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
        return Some(lock);
    }
    let (held, holds) = mpsc::channel();
    std::thread::spawn(move || {
        if flock(&lock, FlockOperation::LockExclusive).is_ok() {
            // Too late is no harm: nobody takes it, and it is let go with the channel.
            let _ = held.send(lock);
        }
    });
    holds.recv_timeout(PREDECESSOR_ENDS).ok()
}

#[cfg(test)]
mod tests;
