//! What is in the store and should not be: contents that are damaged, and those that nobody needs.

use std::fs::{self, File};

use super::index::Entry;
use super::{Pruned, Store, temporary, uses};
use crate::exit::{Exit, Failure};
use crate::files;
use crate::images::Image;
use crate::images::digest::{Algorithm, Hasher, read_through};
use crate::images::pull::part;

impl Store {
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
        part::prune(&self.parts(), &mut pruned)?;
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
