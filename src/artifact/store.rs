//! The directory that holds artefacts. In: octets and a name. Out: a file under their SHA-256, whole and on disk, or nothing at
//! all. Any number of processes may use it at once: what is there is never changed, and appears by being renamed.
//!
//! ```text
//! blobs/<sha256>      the content, which nobody writes again
//! names/<name>        a line: digest, length, where it came from
//! partial/<random>    what is being written
//! ```

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use uuid::Uuid;

use super::name::{Digest, Name};

/// Reads are as large as what is served from it.
const CHUNK: usize = 1 << 20;

/// The store of artefacts in one directory.
#[derive(Clone, Debug)]
pub struct Artifacts {
    dir: PathBuf,
}

/// A name and what it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: Name,
    pub digest: Digest,
    pub bytes: u64,
    /// The file or URL that it came from.
    pub source: String,
}

/// Why something is not in the store.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("cannot {doing} {path}: {error}")]
    Io {
        doing: &'static str,
        path: String,
        error: io::Error,
    },
    #[error("its SHA-256 is {found}, wanted {wanted}; nothing was kept")]
    WrongDigest { found: Digest, wanted: Digest },
    #[error("it ended after {found} of {wanted} octets; nothing was kept")]
    CutOff { found: u64, wanted: u64 },
    #[error("cannot read it any further after {found} octets: {error}; nothing was kept")]
    Unreadable { found: u64, error: io::Error },
    #[error("{dir} has {free} octets free, and it has {wanted}")]
    Full { dir: String, free: u64, wanted: u64 },
    #[error("{0}: something is being imported; try again when it is there")]
    InUse(String),
    #[error("{path} is damaged: {what}; import it again")]
    Damaged { path: String, what: String },
}

/// A lock on the store, while it lives.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "the lock goes with the file")] File);

/// What is known of octets before they are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    pub digest: Option<Digest>,
    pub length: Option<u64>,
}

impl Artifacts {
    /// The store in this directory, which need not be there yet.
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// The directory whose files are called by their digests.
    pub fn blobs(&self) -> PathBuf {
        self.dir.join("blobs")
    }

    /// Where this content is, if it is.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.to_string())
    }

    /// Takes in what `from` gives, and tells how far it is; keeps nothing of what is not as wanted.
    pub fn put(
        &self,
        from: &mut dyn Read,
        wanted: Wanted,
        told: &mut dyn FnMut(u64),
    ) -> Result<(Digest, u64), StoreError> {
        let partial = self
            .made("partial")?
            .join(Uuid::new_v4().simple().to_string());
        self.made("blobs")?;
        self.check_space(wanted.length)?;
        let file = File::create_new(&partial).map_err(io_error("make", &partial))?;
        let partial = Partial(partial);
        let (digest, bytes) = copy(from, &file, &partial.0, told)?;
        if let Some(length) = wanted.length.filter(|&length| length != bytes) {
            return Err(StoreError::CutOff {
                found: bytes,
                wanted: length,
            });
        }
        if let Some(expected) = wanted.digest.filter(|&expected| expected != digest) {
            return Err(StoreError::WrongDigest {
                found: digest,
                wanted: expected,
            });
        }
        let write = io_error("write", &partial.0);
        file.set_permissions(Permissions::from_mode(0o444))
            .map_err(&write)?;
        file.sync_all().map_err(&write)?;
        let blob = self.blob(&digest);
        fs::rename(&partial.0, &blob).map_err(io_error("make", &blob))?;
        self.sync("blobs")?;
        Ok((digest, bytes))
    }

    /// Has the name lead to this content from now on.
    pub fn set(&self, entry: &Entry) -> Result<(), StoreError> {
        let path = self.made("names")?.join(entry.name.file_name());
        let partial = self
            .made("partial")?
            .join(Uuid::new_v4().simple().to_string());
        let source = entry.source.replace(|c: char| c.is_control(), " ");
        let line = format!("{} {} {source}\n", entry.digest, entry.bytes);
        let mut file = File::create_new(&partial).map_err(io_error("make", &partial))?;
        let partial = Partial(partial);
        let write = io_error("write", &partial.0);
        file.write_all(line.as_bytes()).map_err(&write)?;
        file.sync_all().map_err(&write)?;
        fs::rename(&partial.0, &path).map_err(io_error("make", &path))?;
        self.sync("names")
    }

    /// What the name leads to.
    pub fn find(&self, name: &Name) -> Result<Option<Entry>, StoreError> {
        let path = self.dir.join("names").join(name.file_name());
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let mut words = text.trim_end().splitn(3, ' ');
        let digest = words.next().and_then(|word| word.parse().ok());
        let bytes = words.next().and_then(|word| word.parse().ok());
        let (Some(digest), Some(bytes)) = (digest, bytes) else {
            return Err(damaged(&path, "it is no line of digest and length"));
        };
        Ok(Some(Entry {
            name: name.clone(),
            digest,
            bytes,
            source: words.next().unwrap_or_default().to_owned(),
        }))
    }

    /// The same, if its content is there and as long as it was: what else happened to it, `verify` finds.
    pub fn find_whole(&self, name: &Name) -> Result<Option<Entry>, StoreError> {
        let Some(entry) = self.find(name)? else {
            return Ok(None);
        };
        let blob = self.blob(&entry.digest);
        let length = fs::metadata(&blob).map_err(io_error("read", &blob))?.len();
        if length != entry.bytes {
            let what = format!("it has {length} octets, and had {}", entry.bytes);
            return Err(damaged(&blob, &what));
        }
        Ok(Some(entry))
    }

    /// Every name, in order.
    pub fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        for file in self.list("names")? {
            if let Some(name) = Name::of_file_name(&file) {
                entries.extend(self.find(&name)?);
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// The digests of all content, with its length.
    pub fn contents(&self) -> Result<Vec<(Digest, u64)>, StoreError> {
        let files = self.list("blobs")?.into_iter();
        let mut contents = Vec::new();
        for digest in files.filter_map(|file| file.parse::<Digest>().ok()) {
            let blob = self.blob(&digest);
            contents.push((
                digest,
                fs::metadata(&blob).map_err(io_error("read", &blob))?.len(),
            ));
        }
        contents.sort();
        Ok(contents)
    }

    /// Reads the content anew, and holds it against its digest.
    pub fn verify(&self, digest: &Digest, told: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
        let path = self.blob(digest);
        let mut file = File::open(&path).map_err(io_error("read", &path))?;
        let mut hash = Sha256::new();
        let mut octets = vec![0; CHUNK];
        loop {
            let length = file.read(&mut octets).map_err(io_error("read", &path))?;
            if length == 0 {
                break;
            }
            hash.update(&octets[..length]);
            told(length as u64);
        }
        let found = Digest(hash.finalize().into());
        if found == *digest {
            Ok(())
        } else {
            Err(damaged(&path, &format!("its SHA-256 is {found}")))
        }
    }

    /// Forgets a name. Its content stays.
    pub fn forget(&self, name: &Name) -> Result<(), StoreError> {
        let path = self.dir.join("names").join(name.file_name());
        fs::remove_file(&path).map_err(io_error("remove", &path))
    }

    /// Removes content that no name leads to.
    pub fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.blob(digest);
        fs::remove_file(&path).map_err(io_error("remove", &path))
    }

    /// Removes what is left of imports that did not end. Whoever calls it is alone.
    pub fn tidy(&self) -> Result<(), StoreError> {
        for file in self.list("partial")? {
            let path = self.dir.join("partial").join(file);
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
        Ok(())
    }

    /// Keeps others from removing anything while something comes in, for as long as the answer is kept.
    pub fn hold(&self) -> Result<Hold, StoreError> {
        self.flock(FlockOperation::LockShared)
    }

    /// Waits for nobody: while something comes in there is a reason instead.
    pub fn hold_alone(&self) -> Result<Hold, StoreError> {
        self.flock(FlockOperation::NonBlockingLockExclusive)
    }

    fn flock(&self, operation: FlockOperation) -> Result<Hold, StoreError> {
        let path = self.made("")?;
        let directory = File::open(&path).map_err(io_error("read", &path))?;
        match rustix::fs::flock(&directory, operation) {
            Ok(()) => Ok(Hold(directory)),
            Err(Errno::WOULDBLOCK) => Err(StoreError::InUse(path.display().to_string())),
            Err(error) => Err(io_error("lock", &path)(error.into())),
        }
    }

    /// A directory of the store, made for its owner alone where it is missing.
    fn made(&self, name: &str) -> Result<PathBuf, StoreError> {
        let path = self.dir.join(name);
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&path);
        made.map_err(io_error("make", &path))?;
        Ok(path)
    }

    fn list(&self, name: &str) -> Result<Vec<String>, StoreError> {
        let path = self.dir.join(name);
        let read = match fs::read_dir(&path) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let names = read.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let names: io::Result<Vec<String>> = names.collect();
        names.map_err(io_error("read", &path))
    }

    /// A file that was renamed stays so once its directory is on disk.
    fn sync(&self, name: &str) -> Result<(), StoreError> {
        let path = self.dir.join(name);
        let directory = File::open(&path).and_then(|directory| directory.sync_all());
        directory.map_err(io_error("write", &path))
    }

    /// Said before an hour of downloading, not after it.
    fn check_space(&self, length: Option<u64>) -> Result<(), StoreError> {
        let (Some(wanted), Ok(found)) = (length, rustix::fs::statvfs(&self.dir)) else {
            return Ok(());
        };
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if wanted > free {
            let dir = self.dir.display().to_string();
            return Err(StoreError::Full { dir, free, wanted });
        }
        Ok(())
    }
}

/// A file that goes unless it got another name.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn copy(
    from: &mut dyn Read,
    mut file: &File,
    path: &Path,
    told: &mut dyn FnMut(u64),
) -> Result<(Digest, u64), StoreError> {
    let mut hash = Sha256::new();
    let mut octets = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        let length = match from.read(&mut octets) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(StoreError::Unreadable {
                    found: bytes,
                    error,
                });
            }
        };
        hash.update(&octets[..length]);
        file.write_all(&octets[..length])
            .map_err(io_error("write", path))?;
        bytes += length as u64;
        told(length as u64);
    }
    Ok((Digest(hash.finalize().into()), bytes))
}

fn io_error(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> StoreError {
    let path = path.display().to_string();
    move |error| StoreError::Io {
        doing,
        path: path.clone(),
        error,
    }
}

fn damaged(path: &Path, what: &str) -> StoreError {
    StoreError::Damaged {
        path: path.display().to_string(),
        what: what.to_owned(),
    }
}
