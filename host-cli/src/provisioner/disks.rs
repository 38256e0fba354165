//! The read-only disks that are made for a provisioner: its seed, and what its targets are served. In: entries, directories. Out:
//! an ISO image each, written whole or not at all. Files are told apart by names: of two of one name the last directory's is
//! taken. It refuses names that are no UTF-8, and what an ISO image cannot hold.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};
use crate::seed::iso::{Content, Entry, Iso};

/// Where the disk of files is found in the provisioner, and in its container.
pub const SERVED: &str = "/srv/bootjack";
/// Its directories: of profiles, and of files that they name.
pub const PROFILES: &str = "profiles";
pub const FILES: &str = "files";
/// What the disk is called.
const LABEL: &str = "BOOTJACK_FILES";

/// Writes an image of these files.
pub fn write(path: &Path, label: &str, entries: &[Entry]) -> Result<(), Failure> {
    let invalid = |why| Failure::new(Exit::Invalid, format!("{}: {why}", path.display()));
    let iso = Iso::new(label, entries).map_err(invalid)?;
    let mut partial = path.as_os_str().to_owned();
    partial.push(".new");
    let partial = PathBuf::from(partial);
    let written = File::create(&partial).and_then(|file| {
        let mut file = BufWriter::with_capacity(1 << 20, file);
        iso.write(&mut file)?;
        file.flush()?;
        file.get_ref().sync_all()?;
        std::fs::rename(&partial, path)
    });
    written.map_err(|error| {
        let _ = std::fs::remove_file(&partial);
        Failure::io("write", path)(error)
    })
}

/// Writes the disk of what targets are served; answers whether there is anything to serve, and a digest of what it is: names, sizes
/// and times of change.
pub fn write_served(
    path: &Path,
    profiles: Option<&Path>,
    files: &[PathBuf],
) -> Result<Option<String>, Failure> {
    let mut entries = BTreeMap::new();
    let mut stamps = String::new();
    let mut all: Vec<(&str, &Path)> = profiles.iter().map(|dir| (PROFILES, *dir)).collect();
    all.extend(files.iter().map(|dir| (FILES, dir.as_path())));
    for (below, directory) in all {
        collect(directory, below, &mut entries, &mut stamps)?;
    }
    if entries.is_empty() {
        return Ok(None);
    }
    let entries: Vec<Entry> = entries.into_values().collect();
    let digest = crate::seed::digest(stamps.as_bytes());
    let mut stamp = path.as_os_str().to_owned();
    stamp.push(".digest");
    let stamp = PathBuf::from(stamp);
    // Hundreds of megabytes that are as they were are not written again.
    if path.exists() && std::fs::read_to_string(&stamp).is_ok_and(|known| known == digest) {
        return Ok(Some(digest));
    }
    let _ = std::fs::remove_file(&stamp);
    write(path, LABEL, &entries)?;
    std::fs::write(&stamp, &digest).map_err(Failure::io("write", &stamp))?;
    Ok(Some(digest))
}

/// Every file below a directory, links followed, for everybody to read.
fn collect(
    directory: &Path,
    below: &str,
    entries: &mut BTreeMap<String, Entry>,
    stamps: &mut String,
) -> Result<(), Failure> {
    let read = |error| Failure::io("read", directory)(error);
    for found in std::fs::read_dir(directory).map_err(read)? {
        let path = found.map_err(read)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            let text = format!("{}: the name is no UTF-8", path.display());
            return Err(Failure::new(Exit::Invalid, text));
        };
        let inside = format!("{below}/{name}");
        let meta = std::fs::metadata(&path).map_err(Failure::io("read", &path))?;
        if meta.is_dir() {
            collect(&path, &inside, entries, stamps)?;
        } else if meta.is_file() {
            let changed = meta.modified().ok();
            let since = changed.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
            let nanos = since.map_or(0, |since| since.as_nanos());
            stamps.push_str(&format!("{inside}\0{}\0{nanos}\n", meta.len()));
            let size = meta.len();
            let content = Content::File { path, size };
            let entry = Entry {
                path: inside.clone(),
                mode: 0o644,
                owner: 0,
                content,
            };
            entries.insert(inside, entry);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_targets_are_served_is_written_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (name, text) in [
            ("profiles/tiny/profile.toml", "kernel = \"vmlinuz\""),
            ("guest/vmlinuz", "kernel"),
            ("guest/deep/initrd.img", "initrd"),
        ] {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), text).unwrap();
        }
        let iso = at("files.iso");
        let write = || {
            let profiles = at("profiles");
            write_served(&iso, Some(&profiles), &[at("guest")]).unwrap()
        };
        let first = write().unwrap();
        let octets = std::fs::read(&iso).unwrap();
        let has = |text: &str| octets.windows(text.len()).any(|part| part == text.as_bytes());
        for name in ["profile.toml", "vmlinuz", "initrd.img", "deep"] {
            assert!(has(name), "{name}");
        }
        let before = std::fs::metadata(&iso).unwrap().modified().unwrap();
        assert_eq!(write().unwrap(), first);
        assert_eq!(std::fs::metadata(&iso).unwrap().modified().unwrap(), before);
        std::fs::write(at("guest/vmlinuz"), "another kernel").unwrap();
        assert_ne!(write().unwrap(), first);
        assert_eq!(write_served(&iso, None, &[]).unwrap(), None);
        assert!(write_served(&iso, Some(&at("nowhere")), &[]).is_err());
    }

    #[test]
    fn an_image_is_written_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seed.iso");
        let gone = Entry {
            content: Content::File {
                path: dir.path().join("gone"),
                size: 3,
            },
            ..Entry::text("file", 0o644, "")
        };
        write(&path, "CIDATA", &[Entry::text("a", 0o644, "1")]).unwrap();
        let before = std::fs::read(&path).unwrap();
        assert!(write(&path, "CIDATA", &[gone]).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert!(!dir.path().join("seed.iso.new").exists());
    }
}
