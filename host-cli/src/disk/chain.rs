//! What lies beneath a disk. In: its file. Out: itself and each image beneath it, in order. It refuses chains that would have QEMU
//! open something else than a file, or guess what a file is: a guess is what a guest can write.

use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};
use crate::images::format::{self, Disk, DiskFormat};

/// Longer ones are a circle, or a mistake.
const LENGTH_MAX: usize = 16;

/// One file of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Absolute.
    pub path: PathBuf,
    pub disk: Disk,
}

/// At least one. `says` is the format that the owner of the first one gives.
pub fn read(path: &Path, says: Option<DiskFormat>) -> Result<Vec<Link>, Failure> {
    let mut chain = vec![link(path, says)?];
    while let Some(backing) = chain.last().and_then(|link| link.disk.backing.clone()) {
        let above = chain
            .last()
            .map(|link| link.path.clone())
            .unwrap_or_default();
        let refuse = |problem: String| {
            let text = format!("{}: {problem}", above.display());
            Err(Failure::new(Exit::Invalid, text))
        };
        if chain.len() == LENGTH_MAX {
            return refuse(format!(
                "more than {LENGTH_MAX} images lie beneath each other"
            ));
        }
        // As QEMU reads it: what stands before a colon, unless a slash comes first, is no file name.
        let first = backing.file.find([':', '/']);
        if first.is_some_and(|at| backing.file[at..].starts_with(':')) {
            return refuse(format!("wanted a file beneath it, got '{}'", backing.file));
        }
        let format = match backing.format.as_deref() {
            Some("qcow2") => DiskFormat::Qcow2,
            Some("raw") => DiskFormat::Raw,
            Some("vmdk") => DiskFormat::Vmdk,
            Some("vdi") => DiskFormat::Vdi,
            Some(other) => {
                return refuse(format!("an image of the format {other} lies beneath it"));
            }
            None => {
                return refuse(format!(
                    "it does not say of which format the image beneath it is; say it with: qemu-img rebase -u -b {} -F FORMAT",
                    backing.file
                ));
            }
        };
        let beneath = above.parent().unwrap_or(Path::new("/")).join(&backing.file);
        chain.push(link(&beneath, Some(format))?);
    }
    Ok(chain)
}

fn link(path: &Path, says: Option<DiskFormat>) -> Result<Link, Failure> {
    let disk = format::probe_file(path, says)?;
    let path = path.canonicalize().map_err(Failure::io("use", path))?;
    Ok(Link { path, disk })
}
