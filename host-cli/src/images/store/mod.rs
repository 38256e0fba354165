//! The images of this user, each content once. In: files that are whole. Out: images by name, in files that never change.
//!
//! ```text
//! images.json          which name is which content (index)
//! images.lock          whoever changes the list or a blob holds it; whoever makes a disk on top of a blob shares it
//! blobs/sha256/HEX     the contents, read-only
//! uses/HEX/            notes of the disks on top of a content (uses)
//! notes/               notes of the files that are being made, wherever they are (temporary)
//! staging/  parts/     where they are: imports; downloads that go on later
//! ```
//!
//! A process killed between any two steps leaves a file that a note names, a part of a download, or a blob without a name:
//! `prune` removes those, and nothing else. It refuses to remove a content while a disk lies on top of it.

mod add;
mod index;
pub mod lock;
mod remove;
pub mod temporary;
mod uses;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use clap::ValueEnum as _;

use self::index::Index;
pub use self::index::{Entry, check_name};
use self::lock::Lock;
use self::temporary::Temporary;
use super::Image;
use super::digest::Digest;
use crate::drivers::spec::Arch;
use crate::exit::{Exit, Failure};
use crate::lab::paths::Bases;

/// The store's directory.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// What is known of a new image beside its octets.
#[derive(Clone, Debug)]
pub struct Facts {
    pub name: String,
    pub arch: Option<Arch>,
    pub origin: String,
    /// The digest that its publisher gave, and that was found.
    pub verified: Option<Digest>,
    pub boot: Vec<String>,
    pub cloud_init: Option<bool>,
    /// Whether an image of this name may have another content from now on.
    pub replace: bool,
}

/// What was removed.
#[derive(Clone, Debug, Default)]
pub struct Pruned {
    pub files: Vec<PathBuf>,
    pub bytes: u64,
}

impl Store {
    /// This user's: BOOTJACK_IMAGES, or bootjack/images in the user's data directory.
    pub fn usual() -> Result<Self, Failure> {
        Self::open(&Bases::of_environment().images())
    }

    /// The one in a directory, which is made if need be.
    pub fn open(root: &Path) -> Result<Self, Failure> {
        let make = |directory: &Path| {
            fs::create_dir_all(directory).map_err(Failure::io("make", directory))
        };
        make(root)?;
        let root = root.canonicalize().map_err(Failure::io("use", root))?;
        for name in ["blobs/sha256", "uses", "notes", "staging", "parts"] {
            make(&root.join(name))?;
        }
        Ok(Self { root })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Downloads that are not whole yet.
    pub fn parts(&self) -> PathBuf {
        self.root.join("parts")
    }

    fn index_path(&self) -> PathBuf {
        self.root.join("images.json")
    }

    fn index(&self) -> Result<Index, Failure> {
        Index::read(&self.index_path())
    }

    fn uses(&self) -> PathBuf {
        self.root.join("uses")
    }

    fn lock(&self) -> Result<Lock, Failure> {
        Lock::exclusive(&self.root.join("images.lock"), |_| {})
    }

    /// A file to be made that becomes an image.
    pub fn staged(&self, name: &str) -> Result<Temporary, Failure> {
        self.temporary(&self.root.join("staging").join(name))
    }

    /// A file to be made that becomes `target`.
    pub fn temporary(&self, target: &Path) -> Result<Temporary, Failure> {
        Temporary::beside(&self.root.join("notes"), target)
    }

    /// All, by name.
    pub fn list(&self) -> Result<Vec<Image>, Failure> {
        let index = self.index()?;
        Ok(index.images.into_iter().map(|e| self.image(e)).collect())
    }

    /// The image of this name, or else the disk image at this path, which is then looked at. Of two architectures one has to be
    /// asked for.
    pub fn find(&self, wanted: &str, arch: Option<Arch>) -> Result<Option<Image>, Failure> {
        if let Some(image) = self.named(wanted, arch)? {
            return Ok(Some(image));
        }
        let path = Path::new(wanted);
        match path.is_file() {
            true => Image::at(path, None, arch).map(Some),
            false => Ok(None),
        }
    }

    /// The image of this name.
    pub fn named(&self, name: &str, arch: Option<Arch>) -> Result<Option<Image>, Failure> {
        let fits = |entry: &Entry| match (&entry.arch, arch) {
            (Some(has), Some(wanted)) => has == wanted.as_str(),
            _ => true,
        };
        let mut images = self.index()?.images;
        images.retain(|entry| entry.name == name && fits(entry));
        // The one for this architecture is meant rather than the one for any.
        if images.len() > 1 && arch.is_some() {
            images.retain(|entry| entry.arch.is_some());
        }
        match images.len() {
            0 => Ok(None),
            1 => Ok(images.pop().map(|entry| self.image(entry))),
            _ => {
                let archs: Vec<&str> = images.iter().filter_map(|e| e.arch.as_deref()).collect();
                let text = format!(
                    "there are images {name} for {}; say which with --arch",
                    archs.join(" and ")
                );
                Err(Failure::new(Exit::Conflict, text))
            }
        }
    }

    /// An image whose publisher gave this digest.
    pub fn with_digest(&self, digest: &Digest) -> Result<Option<Image>, Failure> {
        let digest = digest.to_string();
        let found = self.index()?.images.into_iter().find(|entry| {
            entry.verified.as_ref() == Some(&digest) || digest == format!("sha256:{}", entry.sha256)
        });
        let image = found.map(|entry| self.image(entry));
        Ok(image.filter(|image| image.path.is_file()))
    }

    fn image(&self, entry: Entry) -> Image {
        Image {
            path: self.root.join(entry.blob()),
            format: entry.format,
            virtual_size: entry.virtual_size,
            arch: entry
                .arch
                .as_deref()
                .and_then(|arch| Arch::from_str(arch, false).ok()),
            entry: Some(entry),
        }
    }

    /// Runs `make`, which makes a disk at `disk`, an absolute path, on top of a file of the store; that file stays as long as the
    /// disk does. Other files beneath are nobody's concern.
    pub async fn using<T>(
        &self,
        beneath: &Path,
        disk: &Path,
        make: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let Some(sha256) = self.content_at(beneath) else {
            return make.await;
        };
        let _lock = Lock::shared(&self.root.join("images.lock"))?;
        if !beneath.is_file() {
            let text = format!("{}: the image was removed meanwhile", beneath.display());
            return Err(Failure::new(Exit::NotFound, text));
        }
        uses::note(&self.uses(), &sha256, disk)?;
        make.await
    }

    /// Which content the path is, if it is one.
    fn content_at(&self, path: &Path) -> Option<String> {
        let path = path.canonicalize().ok()?;
        let name = path.strip_prefix(self.root.join("blobs/sha256")).ok()?;
        Some(name.to_str()?.to_owned())
    }

    /// The disks on top of an image.
    pub fn disks_on(&self, image: &Image) -> Result<Vec<PathBuf>, Failure> {
        match &image.entry {
            Some(entry) => uses::disks(&self.uses(), &entry.sha256, &image.path),
            None => Ok(Vec::new()),
        }
    }
}

impl Pruned {
    /// Removes a file.
    pub fn remove(&mut self, path: &Path) -> Result<(), Failure> {
        let bytes = fs::metadata(path).map_or(0, |metadata| metadata.blocks() * 512);
        fs::remove_file(path).map_err(Failure::io("remove", path))?;
        self.files.push(path.to_owned());
        self.bytes += bytes;
        Ok(())
    }
}

/// Sixteen hexadecimal digits.
fn random() -> Result<String, Failure> {
    let mut octets = [0; 8];
    getrandom::fill(&mut octets)
        .map_err(|error| Failure::new(Exit::Failed, format!("no random numbers: {error}")))?;
    Ok(super::digest::hex(&octets))
}

#[cfg(test)]
mod tests;
