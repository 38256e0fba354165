//! Disks of machines: files of one machine each, unlike images, which never change. In: sizes, images, other disks. Out: files that
//! are there whole or not at all. It refuses to replace a file, to shrink a disk unless that is asked for, and to touch one that
//! a running machine has (QEMU locks it).
//!
//! `chain` reads what lies beneath; `qemu_img` makes command lines; `export` makes files for others.

pub mod chain;
pub mod export;
pub mod qemu_img;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};
use crate::files;
use crate::images::{DiskFormat, Image, Store};
use crate::labfile::shown_size;
use crate::output;

/// An empty disk of so many octets; qcow2 and raw take no room until they are written to.
pub async fn create(
    store: &Store,
    path: &Path,
    size: u64,
    format: DiskFormat,
) -> Result<(), Failure> {
    let path = new_path(path)?;
    let made = store.temporary(&path)?;
    match format {
        DiskFormat::Raw => File::options()
            .write(true)
            .create_new(true)
            .open(made.path())
            .and_then(|file| file.set_len(size))
            .map_err(Failure::io("write", &path))?,
        _ => qemu_img::run(&qemu_img::create(made.path(), size, format)).await?,
    }
    made.keep(&path)
}

/// A qcow2 disk on top of an image, which keeps what differs; without a size it is as large as the image. The image of a store
/// stays there as long as the disk does.
pub async fn overlay(
    store: &Store,
    base: &Image,
    path: &Path,
    size: Option<u64>,
) -> Result<(), Failure> {
    let path = new_path(path)?;
    if let Some(size) = size
        && size < base.virtual_size
    {
        let text = format!(
            "a disk of {} on top of an image of {}: wanted at least {}; a smaller disk would end in the middle of its file systems",
            shown_size(size),
            shown_size(base.virtual_size),
            shown_size(base.virtual_size),
        );
        return Err(Failure::new(Exit::Invalid, text));
    }
    let make = async {
        let made = store.temporary(&path)?;
        let arguments = qemu_img::overlay(made.path(), &base.path, base.format, size);
        qemu_img::run(&arguments).await?;
        made.keep(&path)
    };
    store.using(&base.path, &path, make).await
}

/// A raw disk with an image's octets and room behind them: for what knows no other format.
pub async fn raw_of(store: &Store, image: &Image, path: &Path, size: u64) -> Result<(), Failure> {
    let path = new_path(path)?;
    let made = store.temporary(&path)?;
    let raw = DiskFormat::Raw;
    qemu_img::run(&qemu_img::convert(
        &image.path,
        image.format,
        made.path(),
        raw,
        &[],
    ))
    .await?;
    File::options()
        .write(true)
        .open(made.path())
        .and_then(|file| file.set_len(size))
        .map_err(Failure::io("write", &path))?;
    made.keep(&path)
}

/// A disk as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    pub path: PathBuf,
    pub format: DiskFormat,
    /// Octets that a machine sees.
    pub virtual_size: u64,
    /// Octets that the file takes.
    pub allocated: u64,
    /// The images beneath, the next one first.
    pub beneath: Vec<PathBuf>,
    pub snapshots: Vec<qemu_img::Snapshot>,
    /// A machine has it right now.
    pub in_use: bool,
}

/// Looks at a disk; a running machine is not disturbed.
pub async fn info(path: &Path, says: Option<DiskFormat>) -> Result<Info, Failure> {
    let chain = chain::read(path, says)?;
    let first = &chain[0];
    let metadata = fs::metadata(&first.path).map_err(Failure::io("read", path))?;
    let asked = qemu_img::info(&first.path, first.disk.format).await?;
    Ok(Info {
        format: first.disk.format,
        virtual_size: asked.virtual_size,
        allocated: files::allocated(&metadata),
        beneath: chain[1..].iter().map(|link| link.path.clone()).collect(),
        snapshots: asked.snapshots,
        in_use: asked.in_use,
        path: first.path.clone(),
    })
}

/// Makes it larger; or smaller, if `shrink` says that what lies behind may be lost.
pub async fn resize(
    path: &Path,
    says: Option<DiskFormat>,
    size: u64,
    shrink: bool,
) -> Result<(), Failure> {
    let chain = chain::read(path, says)?;
    let (path, disk) = (&chain[0].path, &chain[0].disk);
    if !matches!(disk.format, DiskFormat::Qcow2 | DiskFormat::Raw) {
        let text = format!(
            "{}: wanted qcow2 or raw to change its size, got {}",
            path.display(),
            disk.format
        );
        return Err(Failure::new(Exit::Invalid, text));
    }
    if size < disk.virtual_size && !shrink {
        let text = format!(
            "{} has {}, and {} is less: what lies behind would be lost; if it may be, give --shrink",
            path.display(),
            output::size(disk.virtual_size),
            output::size(size)
        );
        return Err(Failure::new(Exit::Conflict, text));
    }
    qemu_img::run(&qemu_img::resize(path, disk.format, size, shrink)).await
}

/// What is done with a snapshot within a qcow2 disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotVerb {
    Create,
    Apply,
    Delete,
}

/// Does it; snapshots have names that are not taken, or are there.
pub async fn snapshot(path: &Path, verb: SnapshotVerb, name: &str) -> Result<(), Failure> {
    let chain = chain::read(path, None)?;
    let (path, disk) = (&chain[0].path, &chain[0].disk);
    if disk.format != DiskFormat::Qcow2 {
        let text = format!(
            "{}: wanted qcow2, which keeps snapshots, got {}",
            path.display(),
            disk.format
        );
        return Err(Failure::new(Exit::Invalid, text));
    }
    let known = qemu_img::info(path, disk.format).await?.snapshots;
    let is_there = known.iter().any(|snapshot| snapshot.name == name);
    // QEMU makes a second one of the same name, and nobody could tell them apart.
    let refusal = match (verb, is_there) {
        (SnapshotVerb::Create, true) => Some((Exit::Conflict, "has a snapshot of this name")),
        (SnapshotVerb::Apply | SnapshotVerb::Delete, false) => {
            Some((Exit::NotFound, "has no snapshot of this name"))
        }
        _ => None,
    };
    if let Some((exit, why)) = refusal {
        let text = format!("{} {why}: {name}", path.display());
        return Err(Failure::new(exit, text));
    }
    qemu_img::run(&qemu_img::snapshot(path, verb, name)).await
}

/// A second disk with the same octets, and the same image beneath; without a copy where the file system shares them.
pub async fn clone(
    store: &Store,
    from: &Path,
    says: Option<DiskFormat>,
    to: &Path,
) -> Result<(), Failure> {
    let chain = chain::read(from, says)?;
    let from = &chain[0].path;
    let to = new_path(to)?;
    if qemu_img::info(from, chain[0].disk.format).await?.in_use {
        return Err(in_use(from));
    }
    let make = async {
        let made = store.temporary(&to)?;
        files::clone(from, made.path())?;
        made.keep(&to)
    };
    match chain.get(1) {
        Some(beneath) => {
            // A name that is relative to the disk would be another one there.
            if chain[0]
                .disk
                .backing
                .as_ref()
                .is_some_and(|b| !b.file.starts_with('/'))
                && from.parent() != to.parent()
            {
                let text = format!(
                    "{} names the image beneath it relative to its own directory; clone it into that directory",
                    from.display()
                );
                return Err(Failure::new(Exit::Invalid, text));
            }
            store.using(&beneath.path, &to, make).await
        }
        None => make.await,
    }
}

/// The refusal to touch a disk of a running machine.
pub fn in_use(path: &Path) -> Failure {
    let text = format!(
        "{}: a machine that runs has it; stop that one first",
        path.display()
    );
    Failure::new(Exit::Conflict, text)
}

/// Absolute, in a directory that is there; refuses a file that is there.
fn new_path(path: &Path) -> Result<PathBuf, Failure> {
    if path.symlink_metadata().is_ok() {
        return Err(files::exists(path));
    }
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or_else(|| {
        let text = format!("{}: wanted the name of a file", path.display());
        Failure::new(Exit::Usage, text)
    })?;
    let directory = directory.canonicalize().map_err(|error| {
        let why = output::io_reason(&error);
        let text = format!("cannot make {}: its directory: {why}", path.display());
        Failure::new(Exit::NotFound, text)
    })?;
    Ok(directory.join(name))
}

#[cfg(test)]
mod tests;
