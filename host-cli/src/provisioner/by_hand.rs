//! The container image that somebody has loaded by hand in place of the lab file's. In: its archive. Out: a copy in the lab's own
//! directory, which every start takes until it is forgotten. What cannot be copied whole leaves what there was.

use std::fs;
use std::path::PathBuf;

use super::container::Archive;
use crate::exit::Failure;
use crate::files;
use crate::lab::paths::VmPaths;

/// Where it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByHand {
    file: PathBuf,
}

impl ByHand {
    /// That of this machine.
    pub fn of(paths: &VmPaths) -> Self {
        let file = paths.dir.join("container.tar");
        Self { file }
    }

    /// The one that is kept, if there is one.
    pub fn archive(&self) -> Result<Option<Archive>, Failure> {
        match self.file.exists() {
            true => Archive::read(&self.file).map(Some),
            false => Ok(None),
        }
    }

    /// Keeps this one.
    pub fn keep(&self, archive: &Archive) -> Result<(), Failure> {
        if archive.path == self.file {
            return Ok(());
        }
        let new = self.file.with_extension("new");
        let kept = files::clone(&archive.path, &new)
            .and_then(|()| files::sync(&new))
            .and_then(|()| {
                // A machine that runs has the one before open, and goes on with it.
                fs::rename(&new, &self.file).map_err(Failure::io("write", &self.file))
            });
        if kept.is_err() {
            let _ = fs::remove_file(&new);
        }
        kept
    }

    /// From now on it is the lab file's again.
    pub fn forget(&self) -> Result<(), Failure> {
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::io("remove", &self.file)(error))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::paths::{Bases, PROVISIONER};

    #[test]
    fn an_image_that_was_loaded_by_hand_is_kept_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let home = |_: &str| Some(dir.path().to_owned());
        let paths = Bases::new(home, 0, false).lab("demo").vm(PROVISIONER);
        fs::create_dir_all(&paths.dir).unwrap();
        let archive = |name: &str| {
            let path = dir.path().join(name);
            let mut tar = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            tar.append_data(&mut header, name, &b""[..]).unwrap();
            fs::write(&path, tar.into_inner().unwrap()).unwrap();
            Archive::read(&path).unwrap()
        };
        let kept = ByHand::of(&paths);
        assert_eq!(kept.archive().unwrap(), None);
        for name in ["one", "two"] {
            let archive = archive(name);
            kept.keep(&archive).unwrap();
            fs::remove_file(&archive.path).unwrap();
            let is = kept.archive().unwrap().unwrap();
            assert_eq!(is.sha256, archive.sha256);
            assert_ne!(is.path, archive.path);
            // Itself, once more.
            kept.keep(&is).unwrap();
        }
        let gone = Archive {
            path: dir.path().join("nowhere"),
            ..archive("three")
        };
        let before = kept.archive().unwrap();
        assert!(kept.keep(&gone).is_err());
        assert_eq!(kept.archive().unwrap(), before);
        kept.forget().unwrap();
        kept.forget().unwrap();
        assert_eq!(kept.archive().unwrap(), None);
    }
}
