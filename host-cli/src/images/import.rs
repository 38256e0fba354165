//! A local file becomes an image of the store. In: a path, and what its owner says of it. Out: the image; vmdk and vdi have become
//! qcow2, which disks can lie on top of. It refuses what `format` refuses, and then nothing is kept.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::archive;
use super::digest::{Algorithm, Digest, Hasher, read_through};
use super::format::{self, Disk, DiskFormat};
use super::progress::Progress;
use super::store::temporary::Temporary;
use super::{Facts, Image, Store, refuse_beneath};
use crate::disk::qemu_img;
use crate::exit::{Exit, Failure};
use crate::files::{self, CopyError};

/// A disk is not larger than that, packed or not, unless its owner says so.
pub const SIZE_MAX: u64 = 1 << 40;

/// Copies the file, or of a Vagrant box or OVA the disk in it; it is not needed afterwards. `member` is the disk of an archive that
/// has several.
pub async fn file(
    store: &Store,
    path: &Path,
    says: Option<DiskFormat>,
    member: Option<&str>,
    facts: Facts,
) -> Result<Image, Failure> {
    if archive::is_one(path)? {
        return from_archive(store, path, says, member, facts).await;
    }
    if member.is_some() {
        let text = format!(
            "{}: wanted a Vagrant box or OVA for --member",
            path.display()
        );
        return Err(Failure::new(Exit::Usage, text));
    }
    // Before anything is copied, and below again: the copy is what counts.
    let disk = format::probe_file(path, says)?;
    refuse_beneath(path, &disk)?;
    let mut from = File::open(path).map_err(Failure::io("read", path))?;
    let size = from.metadata().map_err(Failure::io("read", path))?.len();
    let (copy, sha256) = copied(
        store,
        &mut from,
        &path.display().to_string(),
        Some(size),
        SIZE_MAX,
    )?;
    disk_taken_in(store, copy.path(), &sha256, says, facts).await
}

async fn from_archive(
    store: &Store,
    path: &Path,
    says: Option<DiskFormat>,
    member: Option<&str>,
    mut facts: Facts,
) -> Result<Image, Failure> {
    let found = archive::look(path, member)?;
    facts.arch = facts.arch.or(found.arch);
    let (staged, sha256) = archive::with_disk(path, &found, |disk| {
        let name = format!("{}: {}", path.display(), found.disk);
        copied(store, disk, &name, None, SIZE_MAX)
    })?;
    disk_taken_in(store, staged.path(), &sha256, says, facts).await
}

/// A copy in the store's staging, and the SHA-256 of its octets.
pub fn copied(
    store: &Store,
    from: &mut dyn Read,
    name: &str,
    size: Option<u64>,
    limit: u64,
) -> Result<(Temporary, Digest), Failure> {
    if let (Some(size), Some(free)) = (size, files::free(store.root()))
        && size > free.saturating_mul(8)
    {
        return Err(no_room(store));
    }
    let staged = store.staged("image")?;
    let mut to = File::options()
        .write(true)
        .create_new(true)
        .open(staged.path())
        .map_err(Failure::io("write", staged.path()))?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let progress = Progress::octets("reading", size);
    let copied = files::copy_sparse(from, &mut to, limit, |octets| {
        hasher.update(octets);
        progress.advance(octets.len() as u64);
    });
    match copied {
        Ok(_) => Ok((staged, hasher.finish().0)),
        Err(CopyError::Read(error)) => Err(Failure::io("read", name)(error)),
        Err(CopyError::Write(error)) if is_full(&error) => Err(no_room(store)),
        Err(CopyError::Write(error)) => Err(Failure::io("write", staged.path())(error)),
        Err(CopyError::TooLarge) => Err(Failure::new(
            Exit::Invalid,
            format!(
                "{name}: it has more than {}; larger ones are not taken",
                crate::output::size(limit)
            ),
        )),
    }
}

/// Whether the disk, or what this process may write, is full.
pub fn is_full(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::StorageFull
            | std::io::ErrorKind::QuotaExceeded
            | std::io::ErrorKind::FileTooLarge
    )
}

/// The failure to find room in the store.
pub fn no_room(store: &Store) -> Failure {
    let free = files::free(store.root()).map_or(String::new(), |free| {
        format!(" ({} are free)", crate::output::size(free))
    });
    let text = format!(
        "no room for the image in {}{free}; make room, such as with: bootjack image prune, or put the store elsewhere with BOOTJACK_IMAGES",
        store.root().display()
    );
    Failure::new(Exit::Failed, text)
}

/// The last steps, the same for every source: look at the file, which is in the store's file system, make it a format that disks can
/// lie on top of, name it. The file itself stays.
pub async fn taken_in(
    store: &Store,
    file: &Path,
    sha256: &Digest,
    says: Option<DiskFormat>,
    facts: Facts,
) -> Result<Image, Failure> {
    match archive::is_one(file)? {
        true => from_archive(store, file, says, None, facts).await,
        false => disk_taken_in(store, file, sha256, says, facts).await,
    }
}

async fn disk_taken_in(
    store: &Store,
    file: &Path,
    sha256: &Digest,
    says: Option<DiskFormat>,
    facts: Facts,
) -> Result<Image, Failure> {
    let origin = facts.origin.clone();
    let of_origin = |failure: Failure| {
        // The name of the copy says nothing to anybody.
        let copy = file.display().to_string();
        Failure::new(failure.exit, failure.message.replace(&copy, &origin))
    };
    let disk = format::probe_file(file, says).map_err(of_origin)?;
    refuse_beneath(file, &disk).map_err(of_origin)?;
    match disk.format {
        DiskFormat::Qcow2 | DiskFormat::Raw => store.add(file, sha256, facts),
        DiskFormat::Vmdk | DiskFormat::Vdi => {
            let (made, sha256) = as_qcow2(store, file, &disk).await.map_err(of_origin)?;
            store.add(made.path(), &sha256, facts)
        }
    }
}

async fn as_qcow2(store: &Store, path: &Path, disk: &Disk) -> Result<(Temporary, Digest), Failure> {
    qemu_img::agrees(path, disk).await?;
    let made = store.staged("image")?;
    let arguments = qemu_img::convert(path, disk.format, made.path(), DiskFormat::Qcow2, &[]);
    qemu_img::run_with_progress("converting", &arguments).await?;
    let (sha256, _) = digest(made.path(), Algorithm::Sha256, "checking")?;
    Ok((made, sha256))
}

/// The SHA-256 of a file, and its digest of an algorithm; shows how far it is.
pub fn digest(path: &Path, algorithm: Algorithm, what: &str) -> Result<(Digest, Digest), Failure> {
    let mut file = File::open(path).map_err(Failure::io("read", path))?;
    let size = file.metadata().map_err(Failure::io("read", path))?.len();
    let progress = Progress::octets(what, Some(size));
    let mut hasher = Hasher::new(algorithm);
    read_through(&mut file, &mut hasher, |read| progress.advance(read))
        .map_err(Failure::io("read", path))?;
    Ok(hasher.finish())
}
