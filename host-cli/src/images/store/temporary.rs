//! Files that are being made. Each lies hidden beside the file it is to become, and the store keeps a note of it that its maker
//! holds locked: what a killed process leaves is found, told from what is still being made, and removed by `prune`.

use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::lock::Lock;
use super::random;
use crate::exit::{Exit, Failure};
use crate::files;

/// A path that is this process's alone; what is there goes when this value goes, unless it is kept.
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
    note: Option<Lock>,
}

impl Temporary {
    /// For a file that is to be `target`; `notes` is the store's directory of notes.
    pub fn beside(notes: &Path, target: &Path) -> Result<Self, Failure> {
        let directory = match target.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => directory,
            _ => Path::new("."),
        };
        let directory = directory
            .canonicalize()
            .map_err(Failure::io("use the directory", directory))?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let id = random()?;
        let path = directory.join(hidden(&name, &id));
        let mut note = Lock::try_exclusive(&notes.join(&id))?
            .ok_or_else(|| Failure::new(Exit::Failed, "the same random number came twice"))?;
        note.write(path.as_os_str().as_bytes())?;
        Ok(Self {
            path,
            note: Some(note),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it `target`, which must not be there, durably. Its directory is that it was made for.
    pub fn keep(self, target: &Path) -> Result<(), Failure> {
        files::sync(&self.path)?;
        files::move_new(&self.path, target)
    }
}

#[cfg(test)]
impl Temporary {
    /// Neither file nor note is removed, and the lock is gone.
    pub fn forget_as_if_killed(mut self) {
        drop(self.note.take());
        std::mem::forget(self);
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        if let Some(note) = self.note.take() {
            note.remove();
        }
    }
}

fn hidden(name: &str, id: &str) -> String {
    // File names have 255 octets at most.
    let mut end = name.len().min(200);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!(".{}.{id}.part", &name[..end])
}

/// Removes what the notes of processes that are no more name. Returns the files, and how many octets they had.
pub fn prune(notes: &Path) -> Result<Vec<(PathBuf, u64)>, Failure> {
    let mut removed = Vec::new();
    for entry in fs::read_dir(notes).map_err(Failure::io("read", notes))? {
        let entry = entry.map_err(Failure::io("read", notes))?;
        let id = entry.file_name().to_string_lossy().into_owned();
        let Some(mut note) = Lock::held_by_nobody(&entry.path())? else {
            continue;
        };
        let path = note.read()?;
        let path = PathBuf::from(std::ffi::OsString::from_vec(path));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Never anything else than what `beside` names.
        if name.starts_with('.') && name.ends_with(&format!(".{id}.part")) {
            let size = fs::metadata(&path).map_or(0, |metadata| files::allocated(&metadata));
            if fs::remove_file(&path).is_ok() {
                removed.push((path, size));
            }
        }
        note.remove();
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_leaves_is_removed_and_what_is_being_made_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let notes = dir.path().join("notes");
        fs::create_dir(&notes).unwrap();
        let target = dir.path().join("disk.qcow2");
        let made = Temporary::beside(&notes, &target).unwrap();
        fs::write(made.path(), "half").unwrap();
        assert_eq!(prune(&notes).unwrap(), []);
        let left = Temporary::beside(&notes, &target).unwrap();
        fs::write(left.path(), "half").unwrap();
        let path = left.path().to_owned();
        left.forget_as_if_killed();
        let removed = prune(&notes).unwrap();
        assert_eq!(removed.len(), 1);
        assert_eq!(removed[0].0, path);
        assert!(!path.exists() && made.path().exists());
        made.keep(&target).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"half");
        assert_eq!(fs::read_dir(&notes).unwrap().count(), 0);
    }

    #[test]
    fn a_note_that_names_something_else_removes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let notes = dir.path().join("notes");
        fs::create_dir(&notes).unwrap();
        let mine = dir.path().join(".thesis.0123456789abcdef.part");
        fs::write(&mine, "mine").unwrap();
        fs::write(notes.join("aaaa"), mine.to_str().unwrap()).unwrap();
        fs::write(notes.join("bbbb"), "").unwrap();
        assert_eq!(prune(&notes).unwrap(), []);
        assert!(mine.exists());
    }

    #[test]
    fn a_file_that_is_there_is_never_replaced_by_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("disk.qcow2");
        fs::write(&target, "mine").unwrap();
        let made = Temporary::beside(dir.path(), &target).unwrap();
        fs::write(made.path(), "new").unwrap();
        let path = made.path().to_owned();
        assert_eq!(made.keep(&target).unwrap_err().exit, Exit::Conflict);
        assert_eq!(fs::read(&target).unwrap(), b"mine");
        assert!(!path.exists());
    }
}
