//! Records in sled 0.34: the only file that names it.
//!
//! sled's `flush` ends in `sync_file_range`, which a power cut can undo; a true fsync follows only every half second. So each
//! synced write ends with `sync_data` on the database file itself.
//!
//! Where its file is damaged, sled takes the damage for the torn end of its log and opens with what came before, without a
//! word. So the last revision that was acknowledged stands in a file beside it, and a database that is behind it is not served
//! as if the rest had never been.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::{Backend, RecordChange, Records, StoreError, record};

/// An open database; it is closed, and its lock let go, when this is dropped.
pub struct Sled {
    path: PathBuf,
    db: ::sled::Db,
    /// sled's own file, for true syncs.
    file: File,
    directory: File,
    _lock: File,
}

/// The file that holds the last acknowledged revision.
const ACKNOWLEDGED: &str = "acknowledged";

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
        let file = File::open(path.join("db")).map_err(|error| broken(&error))?;
        // Tokens of running installations are in it.
        file.set_permissions(Permissions::from_mode(0o600))
            .map_err(|error| broken(&error))?;
        let directory = File::open(data_dir).map_err(|error| broken(&error))?;
        Ok(Self {
            path: data_dir.to_owned(),
            db,
            file,
            directory,
            _lock: lock,
        })
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
        for entry in self.db.iter() {
            let (key, value) = entry.map_err(|error| self.broken(error))?;
            record::decode(&key, &value, &mut records).map_err(|problem| {
                self.broken(format!("record {}: {problem}", key.escape_ascii()))
            })?;
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

    fn write(&mut self, changes: &[RecordChange], sync: bool) -> Result<(), StoreError> {
        let mut batch = ::sled::Batch::default();
        for change in changes {
            match record::encode(change).map_err(|problem| self.broken(problem))? {
                (key, Some(value)) => batch.insert(key, value),
                (key, None) => batch.remove(key),
            }
        }
        self.db
            .apply_batch(batch)
            .map_err(|error| self.broken(error))?;
        if sync {
            self.db.flush().map_err(|error| self.broken(error))?;
            self.file.sync_data().map_err(|error| self.broken(error))?;
        }
        for change in changes {
            if let RecordChange::Revision(revision) = change {
                self.acknowledge(*revision)
                    .map_err(|error| self.broken(error))?;
            }
        }
        Ok(())
    }
}
