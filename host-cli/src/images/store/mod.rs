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

mod index;
pub mod lock;
pub mod temporary;
mod uses;

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::ValueEnum as _;

use self::index::Index;
pub use self::index::{Entry, check_name};
use self::lock::Lock;
use self::temporary::Temporary;
use super::Image;
use super::digest::{Algorithm, Digest, Hasher, read_through};
use super::files;
use super::format::{self, DiskFormat};
use crate::exit::{Exit, Failure};
use crate::lab::paths::Bases;
use crate::qemu::Arch;

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
        match path.symlink_metadata().is_ok() {
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

    /// Takes a whole file in, one of the store's file system: it becomes the content and gets the name. The file itself stays, until
    /// whoever made it removes it: a process killed in between has lost nothing. Returns the image.
    pub fn add(&self, file: &Path, sha256: &Digest, facts: Facts) -> Result<Image, Failure> {
        let disk = format::probe_file(file, Some(self.format_of(file)?))?;
        let metadata = fs::metadata(file).map_err(Failure::io("read", file))?;
        let replace = facts.replace;
        let entry = self.entry(
            sha256,
            disk.format,
            disk.virtual_size,
            metadata.len(),
            facts,
        );
        files::sync(file)?;
        let read_only = fs::Permissions::from_mode(0o444);
        fs::set_permissions(file, read_only).map_err(Failure::io("protect", file))?;

        let _lock = self.lock()?;
        let mut index = self.index()?;
        Self::refuse_another(&index, &entry, replace)?;
        // One that is there already may be damaged, and this one is not.
        let new = self
            .root
            .join("staging")
            .join(format!("{}.new", entry.sha256));
        files::put(file, &new, &self.root.join(entry.blob()))?;
        index.put(entry.clone());
        index.write(&self.index_path())?;
        Ok(self.image(entry))
    }

    /// Gives a content that is there another name. Returns the image.
    pub fn name_again(&self, image: &Image, facts: Facts) -> Result<Image, Failure> {
        let Some(old) = &image.entry else {
            return Err(Failure::new(
                Exit::Failed,
                "only images of the store have names",
            ));
        };
        let sha256 = Digest::new(Algorithm::Sha256, &old.sha256)
            .ok_or_else(|| Failure::new(Exit::Invalid, "the list of images is damaged"))?;
        let entry = self.entry(
            &sha256,
            old.format,
            old.virtual_size,
            old.size,
            facts.clone(),
        );
        let _lock = self.lock()?;
        let mut index = self.index()?;
        Self::refuse_another(&index, &entry, facts.replace)?;
        index.put(entry.clone());
        index.write(&self.index_path())?;
        Ok(self.image(entry))
    }

    fn entry(
        &self,
        sha256: &Digest,
        format: DiskFormat,
        virtual_size: u64,
        size: u64,
        facts: Facts,
    ) -> Entry {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Entry {
            name: facts.name,
            arch: facts.arch.map(|arch| arch.as_str().to_owned()),
            sha256: sha256.hex().to_owned(),
            format,
            virtual_size,
            size,
            origin: facts.origin,
            verified: facts.verified.map(|digest| digest.to_string()),
            boot: facts.boot,
            cloud_init: facts.cloud_init,
            added: now.map_or(0, |now| now.as_secs()),
        }
    }

    /// Raw is what nothing else is: who adds has looked.
    fn format_of(&self, path: &Path) -> Result<DiskFormat, Failure> {
        match format::probe_file(path, None) {
            Ok(disk) => Ok(disk.format),
            Err(_) => format::probe_file(path, Some(DiskFormat::Raw)).map(|disk| disk.format),
        }
    }

    fn refuse_another(index: &Index, new: &Entry, replace: bool) -> Result<(), Failure> {
        let old = index
            .images
            .iter()
            .find(|old| (&old.name, &old.arch) == (&new.name, &new.arch));
        match old {
            Some(old) if old.sha256 != new.sha256 && !replace => {
                let text = format!(
                    "there is another image {}, sha256 {}; remove it, choose another name, or give --replace",
                    old.title(),
                    old.sha256
                );
                Err(Failure::new(Exit::Conflict, text))
            }
            _ => Ok(()),
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

    /// Reads the whole content; `read` hears how much. Refuses one that is not what it was.
    pub fn verify(&self, image: &Image, read: impl FnMut(u64)) -> Result<(), Failure> {
        let Some(entry) = &image.entry else {
            return Err(Failure::new(
                Exit::Usage,
                "only images of the store can be verified",
            ));
        };
        let damaged = |problem: String| {
            let text = format!(
                "image {} is damaged: {problem}; remove it with: bootjack image rm {}, and get it again",
                entry.title(),
                entry.name
            );
            Failure::new(Exit::Unverified, text)
        };
        let mut file = File::open(&image.path).map_err(|error| {
            damaged(format!(
                "{}: {}",
                image.path.display(),
                crate::output::io_reason(&error)
            ))
        })?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        read_through(&mut file, &mut hasher, read).map_err(Failure::io("read", &image.path))?;
        let (found, _) = hasher.finish();
        match found.hex() == entry.sha256 {
            true => Ok(()),
            false => Err(damaged(format!(
                "wanted sha256 {}, got {}",
                entry.sha256,
                found.hex()
            ))),
        }
    }

    /// Forgets the name, and removes the content if it has no other. Refused while a disk lies on top of it. Returns the octets that
    /// became free.
    pub fn remove(&self, image: &Image) -> Result<u64, Failure> {
        let Some(entry) = &image.entry else {
            return Err(Failure::new(
                Exit::Usage,
                "only images of the store can be removed",
            ));
        };
        let _lock = self.lock()?;
        let mut index = self.index()?;
        let is_it = |other: &Entry| (&other.name, &other.arch) == (&entry.name, &entry.arch);
        index.images.retain(|other| !is_it(other));
        let is_last = !index.names(&entry.sha256);
        if is_last {
            let disks = self.disks_on(image)?;
            if !disks.is_empty() {
                let disks: Vec<String> = disks.iter().map(|d| d.display().to_string()).collect();
                let text = format!(
                    "image {} is beneath {}; destroy the machine, or remove the disk, first",
                    entry.title(),
                    disks.join(" and ")
                );
                return Err(Failure::new(Exit::Conflict, text));
            }
        }
        index.write(&self.index_path())?;
        if !is_last {
            return Ok(0);
        }
        let freed = fs::metadata(&image.path).map_or(0, |m| files::allocated(&m));
        match fs::remove_file(&image.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::io("remove", &image.path)(error))
            }
            _ => Ok(freed),
        }
    }

    /// Removes what nobody needs: contents without a name and without a disk on top of them, what killed processes left, and
    /// downloads that nobody is getting on with.
    pub fn prune(&self) -> Result<Pruned, Failure> {
        let mut pruned = Pruned::default();
        for (path, bytes) in temporary::prune(&self.root.join("notes"))? {
            pruned.files.push(path);
            pruned.bytes += bytes;
        }
        super::pull::part::prune(&self.parts(), &mut pruned)?;
        let _lock = self.lock()?;
        let index = self.index()?;
        // Made only by who holds the lock.
        let staging = self.root.join("staging");
        for file in fs::read_dir(&staging).map_err(Failure::io("read", &staging))? {
            let path = file.map_err(Failure::io("read", &staging))?.path();
            if path.extension().is_some_and(|extension| extension == "new") {
                pruned.remove(&path)?;
            }
        }
        let blobs = self.root.join("blobs/sha256");
        for blob in fs::read_dir(&blobs).map_err(Failure::io("read", &blobs))? {
            let blob = blob.map_err(Failure::io("read", &blobs))?;
            let (sha256, path) = (blob.file_name().to_string_lossy().into_owned(), blob.path());
            let is_needed =
                index.names(&sha256) || !uses::disks(&self.uses(), &sha256, &path)?.is_empty();
            if !is_needed {
                pruned.remove(&path)?;
            }
        }
        Ok(pruned)
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
