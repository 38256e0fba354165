//! Records in sled 0.34: the only file that names it. In: the latest values of keys, and the number of the checkpoint that they
//! lead to. Out: all records, or why there are none; never a panic.
//!
//! A write is durable before sled hears of it (`local`), so what sled 0.34 is known for concerns nobody who was acknowledged:
//!
//! - its `flush` ends in `sync_file_range`, which a power cut can undo; a checkpoint ends with `sync_data` on its file;
//! - where its file is damaged, it takes the damage for the torn end of its log and opens with what came before, without a
//!   word. The number of the last checkpoint, which is written after everything else, tells;
//! - after a crash it can refuse to open, or panic. Whoever asked is told, and makes it anew.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::courtesy::Pace;
use super::local::{Latest, hold_alone};

/// The key of the last checkpoint's number.
const CHECKPOINT: &[u8] = b"checkpoint";
/// How many records sled is given at once: what it makes of them is a piece of work that others may have to wait for.
const BATCH: usize = 125;
/// Everything that is read often is in the catalog.
const CACHE: u64 = 16 << 20;

/// An open database; it is closed when this is dropped.
#[derive(Debug)]
pub(super) struct Database {
    db: ::sled::Db,
    /// Its one file of records.
    file: PathBuf,
}

impl Database {
    /// Opens the database in this directory, which is made if it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let file = path.join("db");
        if let Ok(there) = File::open(&file)
            && hold_alone(there).is_none()
        {
            return Err("another process has it".to_owned());
        }
        guarded(|| {
            let db = ::sled::Config::new()
                .path(path)
                .cache_capacity(CACHE)
                // It is told when.
                .flush_every_ms(None)
                .open()
                .map_err(|error| error.to_string())?;
            // Tokens of running installations are in it.
            std::fs::set_permissions(&file, Permissions::from_mode(0o600))
                .map_err(|error| error.to_string())?;
            Ok(Self { db, file })
        })
    }

    /// The number of the checkpoint that was made last; 0 if none was.
    pub(super) fn checkpoint(&self) -> Result<u64, String> {
        guarded(|| {
            let Some(octets) = self.db.get(CHECKPOINT).map_err(|e| e.to_string())? else {
                return Ok(0);
            };
            let octets = <[u8; 8]>::try_from(octets.as_ref());
            octets
                .map(u64::from_be_bytes)
                .map_err(|_| "its checkpoint has no number".to_owned())
        })
    }

    /// Gives every record, in the order of the keys.
    pub(super) fn each(
        &self,
        mut give: impl FnMut(&[u8], &[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        guarded(|| {
            for entry in self.db.iter() {
                let (key, value) = entry.map_err(|error| error.to_string())?;
                if *key != *CHECKPOINT {
                    give(&key, &value)?;
                }
            }
            Ok(())
        })
    }

    /// Takes what it does not have, and then the checkpoint's number. All of it would survive a power cut once this returns.
    pub(super) fn catch_up(&self, ahead: &Latest, number: u64, pace: Pace) -> Result<(), String> {
        guarded(|| {
            let mut filler = self.filler(pace);
            for (key, value) in ahead {
                filler.put(key, value.as_deref())?;
            }
            filler.end(number)
        })
    }

    /// For more than is in memory at once; what it is given is there when its end says so.
    pub(super) fn filler(&self, pace: Pace) -> Filler<'_> {
        Filler {
            database: self,
            pace,
            batch: ::sled::Batch::default(),
            in_batch: 0,
        }
    }

    fn sync(&self) -> Result<(), String> {
        self.db.flush().map_err(|error| error.to_string())?;
        (File::open(&self.file).and_then(|file| file.sync_data())).map_err(|e| e.to_string())
    }
}

/// Fills a database in batches.
pub(super) struct Filler<'a> {
    database: &'a Database,
    pace: Pace,
    batch: ::sled::Batch,
    in_batch: usize,
}

impl Filler<'_> {
    pub(super) fn put(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), String> {
        match value {
            Some(value) => self.batch.insert(key, value),
            None => self.batch.remove(key),
        }
        self.in_batch += 1;
        if self.in_batch == BATCH {
            self.apply()?;
        }
        Ok(())
    }

    /// Syncs everything, and then that this checkpoint is made.
    pub(super) fn end(mut self, number: u64) -> Result<(), String> {
        self.apply()?;
        self.database.sync()?;
        let db = &self.database.db;
        guarded(|| {
            let inserted = db.insert(CHECKPOINT, &number.to_be_bytes());
            inserted.map(|_| ()).map_err(|error| error.to_string())
        })?;
        guarded(|| self.database.sync())
    }

    fn apply(&mut self) -> Result<(), String> {
        self.in_batch = 0;
        let batch = std::mem::take(&mut self.batch);
        let Database { db, .. } = self.database;
        guarded(|| db.apply_batch(batch).map_err(|error| error.to_string()))?;
        self.pace.piece(|| guarded(|| self.database.sync()))
    }
}

/// What sled does where it should say something: its words are on standard error.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = (panic.downcast_ref::<String>().map(String::as_str))
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!(
            "sled panicked: {}",
            said.unwrap_or("without words")
        ))
    })
}
