//! Downloads that are not whole yet: `KEY.part`, what is known of the server's file in `KEY.json`, and `KEY.lock`, which whoever
//! downloads holds. The key stands for what is to come of it, so that two downloads of the same file are one. What is known is
//! written after the part was emptied and before its first octet, so that a part never goes with what is known of another.

use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::answer::Known;
use crate::exit::Failure;
use crate::files;
use crate::images::store::Pruned;
use crate::images::store::lock::Lock;

/// A download that is this process's alone.
pub struct Part {
    path: PathBuf,
    _lock: Lock,
}

impl Part {
    /// Of this key; `waits` hears by whom it is held.
    pub fn open(parts: &Path, key: &str, waits: impl FnOnce(&str)) -> Result<Self, Failure> {
        let lock = Lock::exclusive(&parts.join(key).with_extension("lock"), waits)?;
        let path = parts.join(key).with_extension("part");
        Ok(Self { path, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn known_path(&self) -> PathBuf {
        self.path.with_extension("json")
    }

    /// Octets that are here.
    pub fn length(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// What they are of; nothing if that is lost, and then they are worth nothing.
    pub fn known(&self) -> Option<Known> {
        serde_json::from_slice(&fs::read(self.known_path()).ok()?).ok()
    }

    /// Forgets all of it.
    pub fn empty(&self) -> Result<(), Failure> {
        for path in [&self.path, &self.known_path()] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Failure::io("remove", path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Begins: what comes is of this file.
    pub fn begin(&self, known: &Known) -> Result<File, Failure> {
        self.empty()?;
        let text = serde_json::to_vec(known).expect("it has no maps with odd keys");
        files::write_whole(&self.known_path(), &text)?;
        File::create(&self.path).map_err(Failure::io("write", &self.path))
    }

    /// Goes on where it ends.
    pub fn go_on(&self) -> Result<File, Failure> {
        let open = || {
            // One that was whole once is protected.
            fs::set_permissions(&self.path, fs::Permissions::from_mode(0o644))?;
            let mut file = File::options().write(true).open(&self.path)?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        open().map_err(Failure::io("write", &self.path))
    }
}

/// Removes the parts that nobody is getting on with.
pub fn prune(parts: &Path, pruned: &mut Pruned) -> Result<(), Failure> {
    for entry in fs::read_dir(parts).map_err(Failure::io("read", parts))? {
        let lock = entry.map_err(Failure::io("read", parts))?.path();
        if lock.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        let Some(held) = Lock::held_by_nobody(&lock)? else {
            continue;
        };
        let notes = lock.with_extension("json");
        let mut left = vec![lock.with_extension("part"), notes.clone()];
        left.extend(files::begun(&notes));
        for path in left {
            if path.exists() {
                pruned.remove(&path)?;
            }
        }
        held.remove();
    }
    Ok(())
}
