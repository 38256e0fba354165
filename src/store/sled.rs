//! Records in sled 0.34: the only file that names it.
//!
//! A write is durable as soon as it is synced in the journal beside the database (`journal`); sled gets what has been written
//! now and then, the latest value of each key alone, on a thread of its own (a checkpoint). So a grant waits for one short
//! append and not for a tree, and what sled 0.34 is known for concerns nobody who was acknowledged:
//!
//! - its `flush` ends in `sync_file_range`, which a power cut can undo; a checkpoint ends with `sync_data` on its file;
//! - where its file is damaged, it takes the damage for the torn end of its log and opens with what came before, without a
//!   word. The database holds the number of its last checkpoint, and the journal the number it must have at least.
//!
//! The last revision of a reservation that was acknowledged stands in a file of its own: a database and journal that are behind
//! it together are not served as if the rest had never been.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::journal::{self, Journal, KeyValue};
use super::{Backend, Health, RecordChange, Records, StoreError, record};

/// An open database; it is closed, and its lock let go, when this is dropped.
pub struct Sled {
    path: PathBuf,
    db: ::sled::Db,
    directory: File,
    journal: Journal,
    /// The number of the last checkpoint that was begun.
    checkpoint: u64,
    /// What sled does not have yet.
    ahead: Latest,
    /// The checkpoint that is being made.
    running: Option<Running>,
    /// Whether the journal before is still there.
    is_sealed: bool,
    /// When the last checkpoint ended.
    checkpointed: Instant,
    /// Since when sled is behind.
    behind: Option<Instant>,
    /// Why the last checkpoint failed, if it did.
    trouble: Option<String>,
    _lock: File,
}

/// The latest value of each key.
type Latest = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A checkpoint that is being made, and what it is made of: kept until sled has it, also if sled panics.
struct Running {
    thread: JoinHandle<Result<(), String>>,
    ahead: Arc<Latest>,
    behind: Option<Instant>,
}

/// The file that holds the last acknowledged revision.
const ACKNOWLEDGED: &str = "acknowledged";
/// The journal, and the one before it while its checkpoint is made.
const JOURNAL: &str = "journal";
const SEALED: &str = "journal.sealed";
/// The key of the last checkpoint's number in sled.
const CHECKPOINT: &[u8] = b"checkpoint";
/// A journal of this size is checkpointed even if there is no quiet second.
const LONGEST_JOURNAL: u64 = 32 << 20;
/// One of this size says that checkpoints fail, and is not made longer.
const TOO_LONG: u64 = if cfg!(test) { 4096 } else { 512 << 20 };
/// Otherwise a quiet second is used, but not more often than this.
const CHECKPOINT_PERIOD: Duration = Duration::from_secs(10);
/// How many records sled is given at once.
const BATCH: usize = 1000;

impl Sled {
    /// Opens the database in `data_dir`; makes the directory, for its owner alone, if it is missing.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let broken = |problem: &dyn std::fmt::Display| StoreError::Broken {
            path: data_dir.display().to_string(),
            problem: problem.to_string(),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data_dir)
            .and_then(|()| std::fs::set_permissions(data_dir, Permissions::from_mode(0o700)))
            .map_err(|error| broken(&error))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(data_dir.join("lock"))
            .map_err(|error| broken(&error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| StoreError::Locked(data_dir.display().to_string()))?;

        let path = data_dir.join("db");
        let db = ::sled::Config::new()
            .path(&path)
            .cache_capacity(64 << 20)
            .open()
            .map_err(|error| broken(&error))?;
        // Tokens of running installations are in it.
        std::fs::set_permissions(path.join("db"), Permissions::from_mode(0o600))
            .map_err(|error| broken(&error))?;
        let directory = File::open(data_dir).map_err(|error| broken(&error))?;
        let checkpoint = match db.get(CHECKPOINT).map_err(|error| broken(&error))? {
            None => 0,
            Some(octets) => u64::from_be_bytes(
                (octets.as_ref().try_into())
                    .map_err(|_| broken(&"its checkpoint has no number"))?,
            ),
        };
        let read = |name: &str| journal::read(&data_dir.join(name)).map_err(|e| broken(&e));
        let (sealed, current) = (read(SEALED)?, read(JOURNAL)?);
        let wanted = match [&sealed, &current] {
            [Some(oldest), _] | [None, Some(oldest)] => oldest.checkpoint,
            [None, None] if checkpoint == 0 => 0,
            [None, None] => {
                return Err(broken(&format!(
                    "its file {JOURNAL} is missing, and with it what was written last; restore a copy of the directory"
                )));
            }
        };
        if checkpoint < wanted {
            return Err(broken(&format!(
                "the database has lost what was written to it: it ends at checkpoint {checkpoint}, and {wanted} was made; restore a copy of the directory"
            )));
        }
        let is_sealed = sealed.is_some();
        let ahead = ([&sealed, &current].into_iter().flatten())
            .flat_map(|found| found.records.iter().cloned())
            .collect();
        let path = data_dir.join(JOURNAL);
        let journal = match &current {
            Some(found) => Journal::open(&path, found),
            None => Journal::create(&path, checkpoint),
        };
        Ok(Self {
            path: data_dir.to_owned(),
            db,
            directory,
            journal: journal.map_err(|error| broken(&error))?,
            checkpoint: checkpoint.max(current.map_or(0, |found| found.checkpoint)),
            ahead,
            is_sealed,
            running: None,
            checkpointed: Instant::now(),
            behind: None,
            trouble: None,
            _lock: lock,
        })
    }

    /// Has sled catch up, on a thread of its own. What is written meanwhile goes into a new journal.
    fn begin_checkpoint(&mut self) -> Result<(), StoreError> {
        if self.running.is_some() || (self.ahead.is_empty() && !self.is_sealed) {
            return Ok(());
        }
        if !self.is_sealed {
            let number = self.checkpoint + 1;
            let new = Journal::create_beside(&self.path.join(JOURNAL), number)
                .map_err(|error| self.broken(error))?;
            let sealed = self.path.join(SEALED);
            self.journal =
                (self.journal.replaced_by(new, &sealed)).map_err(|error| self.broken(error))?;
            self.is_sealed = true;
            self.checkpoint = number;
        }
        let (db, number) = (self.db.clone(), self.checkpoint);
        let file = self.path.join("db").join("db");
        let ahead = Arc::new(std::mem::take(&mut self.ahead));
        let given = ahead.clone();
        let thread = std::thread::spawn(move || {
            let caught_up = || catch_up(&db, &file, &given, number);
            catch_unwind(AssertUnwindSafe(caught_up))
                .unwrap_or_else(|_| Err("sled panicked; its words are in the log".to_owned()))
        });
        self.running = Some(Running {
            thread,
            ahead,
            behind: self.behind.take(),
        });
        Ok(())
    }

    /// Takes note of a checkpoint that has ended; with `wait`, of the one that runs.
    fn end_checkpoint(&mut self, wait: bool) -> Result<(), StoreError> {
        let has_ended = |running: &mut Running| wait || running.thread.is_finished();
        let Some(running) = self.running.take_if(has_ended) else {
            return Ok(());
        };
        self.checkpointed = Instant::now();
        let caught_up = (running.thread.join()).unwrap_or_else(|_| Err("sled panicked".to_owned()));
        let sealed_removed = caught_up.and_then(|()| {
            std::fs::remove_file(self.path.join(SEALED)).map_err(|error| error.to_string())
        });
        let Err(problem) = sealed_removed else {
            self.is_sealed = false;
            self.trouble = None;
            return Ok(());
        };
        // It is still in the sealed journal, and tried again; what was written since is newer.
        self.behind = running.behind.or(self.behind);
        for (key, value) in Arc::unwrap_or_clone(running.ahead) {
            self.ahead.entry(key).or_insert(value);
        }
        Err(self.broken(problem))
    }

    /// Has sled catch up until the journal is short enough to be written to.
    fn make_room(&mut self) -> Result<(), StoreError> {
        // The first may be one that ran or failed before, which leaves the journal as long as it is.
        for _ in 0..3 {
            if self.journal.length() <= TOO_LONG {
                return Ok(());
            }
            self.end_checkpoint(true)?;
            self.begin_checkpoint()?;
        }
        Err(self.broken(format!(
            "its journal has {} octets and does not get shorter",
            self.journal.length()
        )))
    }

    /// Remembers what went wrong in the background: it is tried again, and all of it is in the journals meanwhile.
    fn note(&mut self, outcome: Result<(), StoreError>) {
        if let Err(error) = outcome {
            self.trouble = Some(format!(
                "{error}; what is written stays in the journals, which grow until this is mended"
            ));
        }
    }

    /// The last revision that was acknowledged; 0 if none was, or by a version that did not note it.
    fn acknowledged(&self) -> Result<u64, StoreError> {
        match std::fs::read_to_string(self.path.join(ACKNOWLEDGED)) {
            Ok(text) => (text.trim().parse())
                .map_err(|_| self.broken("its file `acknowledged` holds no number")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(self.broken(error)),
        }
    }

    /// Notes a revision whose write is synced, and before it is acknowledged.
    fn acknowledge(&self, revision: u64) -> std::io::Result<()> {
        let (new, path) = (
            self.path.join("acknowledged.new"),
            self.path.join(ACKNOWLEDGED),
        );
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(format!("{revision}\n").as_bytes())?;
        file.sync_data()?;
        std::fs::rename(new, path)?;
        self.directory.sync_data()
    }

    fn broken(&self, problem: impl std::fmt::Display) -> StoreError {
        StoreError::Broken {
            path: self.path.display().to_string(),
            problem: problem.to_string(),
        }
    }
}

impl Backend for Sled {
    fn load(&mut self) -> Result<Records, StoreError> {
        let mut records = Records::default();
        let mut decode = |key: &[u8], value: &[u8]| {
            record::decode(key, value, &mut records)
                .map_err(|problem| self.broken(format!("record {}: {problem}", key.escape_ascii())))
        };
        for entry in self.db.iter() {
            let (key, value) = entry.map_err(|error| self.broken(error))?;
            if *key != *CHECKPOINT && !self.ahead.contains_key(&*key) {
                decode(&key, &value)?;
            }
        }
        for (key, value) in &self.ahead {
            if let Some(value) = value {
                decode(key, value)?;
            }
        }
        let acknowledged = self.acknowledged()?;
        if records.revision < acknowledged {
            return Err(self.broken(format!(
                "the database has lost what was written to it: it ends at revision {}, and {acknowledged} was acknowledged; restore a copy of the directory, or, to go on with what is left ({} reservations), remove its file `acknowledged`",
                records.revision,
                records.reservations.len()
            )));
        }
        Ok(records)
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
        self.ahead.extend(records);
        self.behind.get_or_insert_with(Instant::now);
        for change in changes {
            if let RecordChange::Revision(revision) = change {
                self.acknowledge(*revision)
                    .map_err(|error| self.broken(error))?;
            }
        }
        if self.journal.length() > LONGEST_JOURNAL {
            let ended = self.end_checkpoint(false);
            self.note(ended);
            let begun = self.begin_checkpoint();
            self.note(begun);
        }
        Ok(())
    }

    fn tidy(&mut self) {
        let ended = self.end_checkpoint(false);
        self.note(ended);
        if self.checkpointed.elapsed() >= CHECKPOINT_PERIOD {
            let begun = self.begin_checkpoint();
            self.note(begun);
        }
    }

    fn health(&self) -> Health {
        let running = self.running.as_ref().and_then(|running| running.behind);
        let behind = running.or(self.behind);
        Health {
            trouble: self.trouble.clone(),
            journal_bytes: self.journal.length(),
            journal_age_secs: behind.map_or(0, |since| since.elapsed().as_secs()),
            ..Health::default()
        }
    }

    fn close(&mut self) {
        for _ in 0..2 {
            let ended = self.end_checkpoint(true);
            self.note(ended);
            let begun = self.begin_checkpoint();
            self.note(begun);
        }
        let ended = self.end_checkpoint(true);
        self.note(ended);
    }
}

/// Gives sled what it does not have, and the checkpoint's number when it has all of it.
fn catch_up(db: &::sled::Db, file: &Path, ahead: &Latest, number: u64) -> Result<(), String> {
    let sync = || {
        db.flush().map_err(|error| error.to_string())?;
        (File::open(file).and_then(|file| file.sync_data())).map_err(|error| error.to_string())
    };
    let mut records = ahead.iter().peekable();
    while records.peek().is_some() {
        let mut batch = ::sled::Batch::default();
        for (key, value) in records.by_ref().take(BATCH) {
            match value {
                Some(value) => batch.insert(key.as_slice(), value.as_slice()),
                None => batch.remove(key.as_slice()),
            }
        }
        db.apply_batch(batch).map_err(|error| error.to_string())?;
    }
    sync()?;
    db.insert(CHECKPOINT, &number.to_be_bytes())
        .map_err(|error| error.to_string())?;
    sync()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::{ClientKey, Lease, LeaseState, MacAddr};

    fn put(last: u8, expires_secs: u64) -> RecordChange {
        RecordChange::PutLease(Lease {
            address: Ipv4Addr::new(198, 18, 0, last),
            client: ClientKey::Mac(MacAddr([2, 0, 0, 0, 0, last])),
            state: LeaseState::Bound,
            expires_secs,
            hostname: None,
            reservation: None,
            circuit_id: None,
        })
    }

    fn delete(last: u8) -> RecordChange {
        RecordChange::DeleteLease(Ipv4Addr::new(198, 18, 0, last))
    }

    /// The leases that a new start finds, as last octet and expiry.
    fn found(home: &Path) -> Result<Vec<(u8, u64)>, StoreError> {
        let records = Sled::open(home)?.load()?;
        let mut leases: Vec<(u8, u64)> = (records.leases.iter())
            .map(|lease| (lease.address.octets()[3], lease.expires_secs))
            .collect();
        leases.sort_unstable();
        Ok(leases)
    }

    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).expect("made");
        for entry in std::fs::read_dir(from).expect("readable").flatten() {
            let (here, there) = (entry.path(), to.join(entry.file_name()));
            match here.is_dir() {
                true => copy(&here, &there),
                false => drop(std::fs::copy(here, there).expect("copied")),
            }
        }
    }

    #[test]
    fn what_was_written_is_found_wherever_a_checkpoint_was_cut_off() {
        let home = tempfile::tempdir().expect("a directory");
        let moments = tempfile::tempdir().expect("a directory");
        let mut taken = Vec::new();
        let mut take = |name: &str, wanted: &[(u8, u64)]| {
            copy(home.path(), &moments.path().join(name));
            taken.push((name.to_owned(), wanted.to_vec()));
        };
        let mut store = Sled::open(home.path()).expect("opens");
        store.write(&[put(1, 10), put(2, 10)]).expect("written");
        take("before", &[(1, 10), (2, 10)]);
        store.begin_checkpoint().expect("begun");
        store.write(&[put(1, 20), delete(2)]).expect("written");
        take("while it is made", &[(1, 20)]);
        store.end_checkpoint(true).expect("made");
        store.write(&[put(3, 30)]).expect("written");
        take("after", &[(1, 20), (3, 30)]);
        store.begin_checkpoint().expect("begun");
        store.end_checkpoint(true).expect("made");
        take("after another", &[(1, 20), (3, 30)]);
        store.write(&[delete(3)]).expect("written");
        store.close();
        take("closed", &[(1, 20)]);
        drop(store);
        for (name, wanted) in taken {
            let moment = moments.path().join(&name);
            assert_eq!(found(&moment), Ok(wanted.clone()), "{name}");
            assert_eq!(found(&moment), Ok(wanted), "{name}, once more");
        }
    }

    #[test]
    fn a_journal_that_does_not_get_shorter_is_written_to_no_more_and_says_why() {
        let home = tempfile::tempdir().expect("a directory");
        let mut store = Sled::open(home.path()).expect("opens");
        // A directory of this name stands in the way of the next journal.
        let obstacle = home.path().join("journal.new");
        std::fs::create_dir(&obstacle).expect("made");
        let mut expires = 0;
        let mut until_refused = |store: &mut Sled| {
            for _ in 0..100 {
                expires += 1;
                if let Err(error) = store.write(&[put(1, expires)]) {
                    expires -= 1;
                    return error.to_string();
                }
            }
            panic!("{} octets", store.journal.length());
        };
        for _ in 0..3 {
            until_refused(&mut store);
            let longest = store.journal.length();
            assert!(longest < TOO_LONG + 300, "{longest} octets");
            assert!(store.health().trouble.is_some());
        }
        std::fs::remove_dir(&obstacle).expect("removed");
        store.write(&[put(2, 7)]).expect("there is room again");
        assert!(store.journal.length() < TOO_LONG);
        store.close();
        assert_eq!(store.health().trouble, None);
        drop(store);
        assert_eq!(found(home.path()), Ok(vec![(1, expires), (2, 7)]));
    }

    #[test]
    fn a_database_that_lost_its_checkpoint_or_its_journal_is_not_served() {
        let home = tempfile::tempdir().expect("a directory");
        let mut store = Sled::open(home.path()).expect("opens");
        store.write(&[put(1, 10)]).expect("written");
        store.close();
        drop(store);
        let without = |name: &str| {
            let other = tempfile::tempdir().expect("a directory");
            copy(home.path(), other.path());
            let gone = other.path().join(name);
            let removed = match gone.is_dir() {
                true => std::fs::remove_dir_all(gone),
                false => std::fs::remove_file(gone),
            };
            removed.expect("removed");
            found(other.path()).expect_err("refused").to_string()
        };
        assert!(without("db").contains("ends at checkpoint 0, and 1 was made"));
        assert!(without(JOURNAL).contains("journal is missing"));
    }
}
