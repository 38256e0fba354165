//! Images of disks: got, checked, kept, found. In: names of the catalogue, URLs, files, Vagrant boxes. Out: `Image`, a file that
//! never changes, to be a disk or to lie beneath one (`disk`).
//!
//! In reading order: `format` (what a file is, by its octets), `digest`, `checksums` (pure) ← `store` (what is kept), `import`,
//! `archive` (files, boxes to images), `catalogue` (names to URLs, pure) ← `pull` (URLs to images).

pub mod archive;
pub mod catalogue;
pub mod checksums;
pub mod digest;
pub mod format;
pub mod import;
pub mod progress;
pub mod pull;
pub mod store;

use std::path::{Path, PathBuf};

use crate::drivers::spec::Arch;
use crate::exit::{Exit, Failure};

pub use self::format::{Disk, DiskFormat};
pub use self::store::{Entry, Facts, Store};

/// A disk image that a machine can have, or that a disk can lie on top of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Absolute.
    pub path: PathBuf,
    pub format: DiskFormat,
    /// Octets that a machine sees.
    pub virtual_size: u64,
    /// What it is for, as far as that is known.
    pub arch: Option<Arch>,
    /// What the store knows of it; nothing if it is a file elsewhere.
    pub entry: Option<Entry>,
}

impl Image {
    /// A file that is an image by itself: nothing lies beneath it. `says` is the format its owner gives.
    pub fn at(path: &Path, says: Option<DiskFormat>, arch: Option<Arch>) -> Result<Self, Failure> {
        let disk = format::probe_file(path, says)?;
        refuse_beneath(path, &disk)?;
        Ok(Self {
            path: path.canonicalize().map_err(Failure::io("use", path))?,
            format: disk.format,
            virtual_size: disk.virtual_size,
            arch,
            entry: None,
        })
    }
}

/// A stranger's image may say that any file lies beneath it, and a machine would read that file.
pub fn refuse_beneath(path: &Path, disk: &Disk) -> Result<(), Failure> {
    match &disk.backing {
        None => Ok(()),
        Some(backing) => {
            let text = format!(
                "{}: wanted an image that is whole by itself, got one on top of '{}'; make it whole, if you trust it, with: bootjack disk export {0} --format qcow2 --to FILE",
                path.display(),
                backing.file
            );
            Err(Failure::new(Exit::Invalid, text))
        }
    }
}
