//! Which disks lie on top of an image: as long as one does, its content stays. In: notes that `disk::overlay` makes before it makes
//! the disk. Out: the disks that are still there and still on top of it.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use crate::exit::Failure;
use crate::files;
use crate::images::format;

/// Notes that a disk, an absolute path, lies on top of the content, or soon will.
pub fn note(uses: &Path, sha256: &str, disk: &Path) -> Result<(), Failure> {
    let directory = uses.join(sha256);
    fs::create_dir_all(&directory).map_err(Failure::io("make", &directory))?;
    let mut hasher = DefaultHasher::new();
    disk.hash(&mut hasher);
    let note = directory.join(format!("{:016x}", hasher.finish()));
    files::write_whole(&note, disk.as_os_str().as_bytes())
}

/// The disks on top of `blob`, the file of that content. Notes of others are removed.
pub fn disks(uses: &Path, sha256: &str, blob: &Path) -> Result<Vec<PathBuf>, Failure> {
    let directory = uses.join(sha256);
    let notes = match fs::read_dir(&directory) {
        Ok(notes) => notes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::io("read", &directory)(error)),
    };
    let mut disks = Vec::new();
    for note in notes {
        let note = note.map_err(Failure::io("read", &directory))?.path();
        let disk = fs::read(&note).map_err(Failure::io("read", &note))?;
        let disk = PathBuf::from(std::ffi::OsString::from_vec(disk));
        match lies_on(&disk, blob) {
            true => disks.push(disk),
            false => {
                let _ = fs::remove_file(&note);
            }
        }
    }
    let _ = fs::remove_dir(&directory);
    disks.sort();
    Ok(disks)
}

/// What cannot be read counts: it is not known to be without.
fn lies_on(disk: &Path, blob: &Path) -> bool {
    match disk.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return false,
        Err(_) => return true,
        Ok(_) => {}
    }
    match format::probe_file(disk, None) {
        Ok(found) => found.backing.is_some_and(|backing| {
            let beneath = disk.parent().unwrap_or(Path::new("/")).join(backing.file);
            same(&beneath, blob)
        }),
        Err(_) => true,
    }
}

fn same(one: &Path, other: &Path) -> bool {
    one == other
        || match (one.canonicalize(), other.canonicalize()) {
            (Ok(one), Ok(other)) => one == other,
            _ => false,
        }
}
