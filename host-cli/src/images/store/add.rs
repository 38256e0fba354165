//! What comes into the store: a file that is whole, or another name of one that is there.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::index::{Entry, Index};
use super::{Facts, Store};
use crate::exit::{Exit, Failure};
use crate::files;
use crate::images::Image;
use crate::images::digest::{Algorithm, Digest};
use crate::images::format::{self, DiskFormat};

impl Store {
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
}
