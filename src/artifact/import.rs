//! How artefacts come in. In: a source and a name. Out: names in the store: the source's own, and those of the kernels and RAM
//! disks inside it, if it is an ISO or a tarball; or one reason, and the store as it was.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use thiserror::Error;

use super::fetch::{self, FetchError};
use super::inside;
use super::iso;
use super::name::{Digest, Name};
use super::store::{Artifacts, Entry, StoreError, Wanted};

/// What is to come in.
#[derive(Clone, Debug)]
pub struct Order {
    /// A path or a URL.
    pub source: String,
    pub name: Name,
    pub digest: Option<Digest>,
    /// Whether kernels and RAM disks inside it become artefacts of their own.
    pub looks_inside: bool,
}

/// Why nothing came in.
#[derive(Debug, Error)]
pub enum ImportError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{name}: {error}")]
    Store { name: String, error: StoreError },
    #[error("{source_name}: {error}")]
    Inside {
        source_name: String,
        error: io::Error,
    },
    #[error(
        "{source_name}: it calls a kernel or a RAM disk `{path}`, which is no path below its own; nothing was imported"
    )]
    BadPath { source_name: String, path: String },
}

/// How far it is.
pub trait Progress {
    /// Something of this length begins.
    fn begins(&mut self, what: &str, length: Option<u64>);
    /// So much more of it is there.
    fn more(&mut self, octets: u64);
}

/// Brings it in: content first, and the names once all of it is there.
pub fn import(
    artifacts: &Artifacts,
    order: &Order,
    progress: &mut dyn Progress,
) -> Result<Vec<Entry>, ImportError> {
    let store_error = |error| ImportError::Store {
        name: order.name.to_string(),
        error,
    };
    let _hold = artifacts.hold().map_err(store_error)?;
    let before: BTreeSet<Digest> = artifacts
        .contents()
        .map_err(store_error)?
        .into_iter()
        .map(|(digest, _)| digest)
        .collect();
    let mut entries = Vec::new();
    let done = bring(artifacts, order, progress, &mut entries).and_then(|()| {
        let mut named = entries.iter();
        named
            .try_for_each(|entry| artifacts.set(entry))
            .map_err(store_error)
    });
    if done.is_err() {
        for entry in entries
            .iter()
            .filter(|entry| !before.contains(&entry.digest))
        {
            let _ = artifacts.remove(&entry.digest);
        }
    }
    done.map(|()| entries)
}

fn bring(
    artifacts: &Artifacts,
    order: &Order,
    progress: &mut dyn Progress,
    entries: &mut Vec<Entry>,
) -> Result<(), ImportError> {
    let mut source = fetch::open(&order.source)?;
    let wanted = Wanted {
        digest: order.digest,
        length: source.length,
    };
    progress.begins(order.name.as_str(), source.length);
    entries.push(put(
        artifacts,
        &order.name,
        &order.source,
        &mut source.octets,
        wanted,
        progress,
    )?);
    if order.looks_inside {
        let blob = artifacts.blob(&entries[0].digest);
        look_inside(artifacts, order, &blob, progress, entries)?;
    }
    Ok(())
}

fn put(
    artifacts: &Artifacts,
    name: &Name,
    source: &str,
    octets: &mut dyn Read,
    wanted: Wanted,
    progress: &mut dyn Progress,
) -> Result<Entry, ImportError> {
    let (digest, bytes) = artifacts
        .put(octets, wanted, &mut |octets| progress.more(octets))
        .map_err(|error| ImportError::Store {
            name: name.to_string(),
            error,
        })?;
    Ok(Entry {
        name: name.clone(),
        digest,
        bytes,
        source: source.to_owned(),
    })
}

fn look_inside(
    artifacts: &Artifacts,
    order: &Order,
    blob: &Path,
    progress: &mut dyn Progress,
    entries: &mut Vec<Entry>,
) -> Result<(), ImportError> {
    let failed = |error| ImportError::Inside {
        source_name: order.source.clone(),
        error,
    };
    let mut take = |path: &str, length: u64, octets: &mut dyn Read| {
        if inside::kind_of(path).is_none() {
            return Ok::<(), ImportError>(());
        }
        let plain = path.strip_prefix("./").unwrap_or(path);
        let name = order.name.join(plain).map_err(|_| ImportError::BadPath {
            source_name: order.source.clone(),
            path: path.escape_default().to_string(),
        })?;
        progress.begins(name.as_str(), Some(length));
        let wanted = Wanted {
            digest: None,
            length: Some(length),
        };
        let source = format!("{}#{plain}", order.source);
        entries.push(put(artifacts, &name, &source, octets, wanted, progress)?);
        Ok(())
    };
    let mut medium = File::open(blob).map_err(failed)?;
    if iso::is_iso(&mut medium).map_err(failed)? {
        for file in iso::files(&mut medium).map_err(failed)? {
            medium.seek(SeekFrom::Start(file.at)).map_err(failed)?;
            take(&file.path, file.length, &mut (&medium).take(file.length))?;
        }
        return Ok(());
    }
    let Some(tarball) = tarball(medium).map_err(failed)? else {
        return Ok(());
    };
    let mut archive = tar::Archive::new(tarball);
    for member in archive.entries().map_err(failed)? {
        let mut member = member.map_err(failed)?;
        if !member.header().entry_type().is_file() {
            continue;
        }
        let path = String::from_utf8_lossy(&member.path_bytes()).into_owned();
        let length = member.size();
        take(&path, length, &mut member)?;
    }
    Ok(())
}

/// The tar archive in the file, if there is one, compressed by gzip or not at all.
fn tarball(mut file: File) -> io::Result<Option<Box<dyn Read>>> {
    let mut magic = [0; 2];
    file.rewind()?;
    let is_gzip = file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
    file.rewind()?;
    let mut head = [0; 512];
    let opened = |file: File| -> Box<dyn Read> {
        if is_gzip {
            Box::new(MultiGzDecoder::new(file))
        } else {
            Box::new(file)
        }
    };
    // POSIX.1-1988 and GNU both have this in the first header.
    let is_tar =
        opened(file.try_clone()?).read_exact(&mut head).is_ok() && &head[257..262] == b"ustar";
    file.rewind()?;
    Ok(is_tar.then(|| opened(file)))
}
