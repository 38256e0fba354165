//! Vagrant boxes and OVAs: archives with a disk, and with what says which. In: a tar, packed by gzip or not. Out: which member is the
//! disk, and its octets. Nothing is unpacked by its name, and what is read into memory has a limit. It refuses archives that name
//! files outside of themselves, disks that are links, and to choose among several disks.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};
use std::path::{Component, Path};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use tar::{Archive, Entry};

use super::progress::Progress;
use crate::drivers::spec::Arch;
use crate::exit::{Exit, Failure};

/// `metadata.json` is small.
const METADATA_MAX: u64 = 1 << 20;
const MEMBERS_MAX: usize = 4096;
const GZIP: &[u8] = b"\x1f\x8b";

/// What an archive holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The member that is the disk, as the archive names it.
    pub disk: String,
    /// Of which machines it is, if it says so.
    pub arch: Option<Arch>,
}

/// `metadata.json`, as far as it matters here: of every box, and version 2 of vagrant-libvirt's.
#[derive(Debug, Default, Deserialize)]
struct Metadata {
    architecture: Option<String>,
    #[serde(default)]
    disks: Vec<MetadataDisk>,
}

#[derive(Debug, Deserialize)]
struct MetadataDisk {
    path: Option<String>,
}

/// Whether the file is a tar, packed by gzip or not.
pub fn is_one(path: &Path) -> Result<bool, Failure> {
    let unread = |error| Failure::io("read", path)(error);
    let mut file = match File::open(path) {
        Ok(file) => file,
        // Whoever looks closer says it better.
        Err(_) => return Ok(false),
    };
    if !file.metadata().map_err(unread)?.is_file() {
        return Ok(false);
    }
    let mut head = [0; 512];
    let mut length = read_some(&mut file, &mut head).map_err(unread)?;
    if head.starts_with(GZIP) {
        file.rewind().map_err(unread)?;
        // What cannot be unpacked is none.
        length = read_some(&mut MultiGzDecoder::new(file), &mut head).unwrap_or(0);
    }
    Ok(length == head.len() && &head[257..262] == b"ustar")
}

fn read_some(from: &mut impl Read, head: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < head.len() {
        match from.read(&mut head[length..])? {
            0 => break,
            more => length += more,
        }
    }
    Ok(length)
}

/// Reads through it once: which member is the disk.
pub fn look(path: &Path, wanted: Option<&str>) -> Result<Found, Failure> {
    let mut members = Vec::new();
    let mut metadata = Metadata::default();
    each(path, "looking", |name, entry| {
        if members.len() == MEMBERS_MAX {
            return Err(format!("it has more than {MEMBERS_MAX} files"));
        }
        if name == "metadata.json" {
            let mut text = Vec::new();
            (entry.take(METADATA_MAX + 1).read_to_end(&mut text)).map_err(|e| e.to_string())?;
            if text.len() as u64 > METADATA_MAX {
                return Err("its metadata.json is too long".to_owned());
            }
            metadata = serde_json::from_slice(&text)
                .map_err(|error| format!("its metadata.json is not understood: {error}"))?;
        }
        members.push(name.to_owned());
        Ok(false)
    })?;
    choose(&members, &metadata, wanted)
        .map_err(|problem| Failure::new(Exit::Invalid, format!("{}: {problem}", path.display())))
}

/// Gives the disk's octets to `take`.
pub fn with_disk<T>(
    path: &Path,
    found: &Found,
    take: impl FnOnce(&mut dyn Read) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut take = Some(take);
    let mut taken = None;
    each(path, "unpacking", |name, entry| {
        // Of two members of one name the first is it.
        if name == found.disk
            && let Some(take) = take.take()
        {
            taken = Some(take(entry));
            return Ok(true);
        }
        Ok(false)
    })?;
    taken.unwrap_or_else(|| {
        let text = format!("{}: {} is not there any more", path.display(), found.disk);
        Err(Failure::new(Exit::Failed, text))
    })
}

/// Calls `visit` with the name of each file, until it has enough.
fn each(
    path: &Path,
    what: &str,
    mut visit: impl FnMut(&str, &mut dyn Read) -> Result<bool, String>,
) -> Result<(), Failure> {
    let invalid =
        |problem: String| Failure::new(Exit::Invalid, format!("{}: {problem}", path.display()));
    let damaged = |error: io::Error| {
        invalid(format!(
            "the archive is damaged or cut off: {}",
            crate::output::io_reason(&error)
        ))
    };
    let mut file = File::open(path).map_err(Failure::io("read", path))?;
    let size = file.metadata().map_err(Failure::io("read", path))?.len();
    let mut magic = [0; 2];
    let is_packed = file.read_exact(&mut magic).is_ok() && magic == *GZIP;
    file.rewind().map_err(Failure::io("read", path))?;
    let progress = Progress::octets(what, Some(size));
    let file = BufReader::with_capacity(1 << 18, progress.reading(file));
    let octets: Box<dyn Read> = match is_packed {
        true => Box::new(MultiGzDecoder::new(file)),
        false => Box::new(file),
    };
    let mut archive = Archive::new(octets);
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        if entry.header().entry_type().is_dir() {
            continue;
        }
        let name = name_of(&entry).map_err(invalid)?;
        let kind = entry.header().entry_type();
        if !kind.is_file() && !kind.is_gnu_sparse() {
            // A link names a file that need not be in the archive.
            return Err(invalid(format!(
                "wanted files alone, got a link or a device: {name}"
            )));
        }
        if visit(&name, &mut entry).map_err(invalid)? {
            break;
        }
    }
    Ok(())
}

fn name_of(entry: &Entry<'_, impl Read>) -> Result<String, String> {
    let path = entry.path().map_err(|error| error.to_string())?;
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            _ => {
                return Err(format!(
                    "it names a file outside of itself: {}",
                    path.display()
                ));
            }
        }
    }
    if parts.iter().any(|part| part.starts_with("GNUSparseFile.")) {
        return Err(
            "its disk is kept with holes as PAX does it, which is not read here; pack it again with: tar --format=gnu -S"
                .to_owned(),
        );
    }
    Ok(parts.join("/"))
}

/// Pure.
fn choose(members: &[String], metadata: &Metadata, wanted: Option<&str>) -> Result<Found, String> {
    let arch = match metadata.architecture.as_deref() {
        Some("amd64" | "x86_64") => Some(Arch::X86_64),
        Some("arm64" | "aarch64") => Some(Arch::Aarch64),
        _ => None,
    };
    let found = |disk: &str| Found {
        disk: disk.to_owned(),
        arch,
    };
    let is_there = |name: &str| members.iter().any(|member| member == name);
    let listed: Vec<&str> = metadata
        .disks
        .iter()
        .filter_map(|d| d.path.as_deref())
        .collect();
    let disks: Vec<&str> = match listed.is_empty() {
        false => listed,
        true => members
            .iter()
            .map(String::as_str)
            .filter(|name| is_disk(name))
            .collect(),
    };
    match (wanted, disks.as_slice()) {
        (Some(wanted), _) if is_there(wanted) => Ok(found(wanted)),
        (Some(wanted), _) => Err(format!(
            "it has no {wanted}; it has {}",
            listing(members.iter().map(String::as_str))
        )),
        (None, [disk]) if is_there(disk) => Ok(found(disk)),
        (None, [disk]) => Err(format!("its metadata.json names {disk}, which it has not")),
        (None, []) => Err(format!(
            "wanted a Vagrant box or OVA, got an archive without a disk; it has {}",
            listing(members.iter().map(String::as_str))
        )),
        (None, several) => Err(format!(
            "it has several disks; say which with --member: {}",
            listing(several.iter().copied())
        )),
    }
}

fn is_disk(name: &str) -> bool {
    let ending = name.rsplit('.').next().unwrap_or_default();
    let endings = ["img", "qcow2", "vmdk", "vdi", "raw"];
    endings.contains(&ending.to_ascii_lowercase().as_str())
}

fn listing<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 8;
    let names: Vec<&str> = names.collect();
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len() {
        0 => "no files".to_owned(),
        many if many > SHOWN => format!("{shown} and {} more", many - SHOWN),
        _ => shown,
    }
}

#[cfg(test)]
mod tests;
