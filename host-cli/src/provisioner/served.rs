//! The read-only disks that are made for a machine: its seed, and what targets are served. In: entries, directories. Out:
//! an ISO image each, written whole or not at all. It refuses what an ISO image cannot hold.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};
use crate::lab::files;
use crate::seed::digest;
use crate::seed::iso::{Content, Entry, Iso};

/// Where the disk of files is found in the provisioner, and in its container.
pub const SERVED: &str = "/srv/bootjack";
/// Its directory of files that profiles name.
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

/// Writes the disk of what targets are served, unless it is there as it would be written now.
pub fn write_served(path: &Path, directories: &[PathBuf]) -> Result<(), Failure> {
    let (entries, stamps) = all(directories)?;
    if entries.is_empty() {
        return Ok(());
    }
    let stamp = path.with_extension("stamp");
    // Hundreds of megabytes that are as they were are not written again.
    if path.exists() && std::fs::read_to_string(&stamp).is_ok_and(|known| known == stamps) {
        return Ok(());
    }
    let _ = std::fs::remove_file(&stamp);
    write(path, LABEL, &entries)?;
    std::fs::write(&stamp, &stamps).map_err(Failure::io("write", &stamp))
}

/// A digest of what would be served: names, sizes and times of change.
pub fn stamp(directories: &[PathBuf]) -> Result<String, Failure> {
    Ok(digest(all(directories)?.1.as_bytes()))
}

/// The files as they are on the disk, for everybody to read, and what tells that one has changed.
fn all(sources: &[PathBuf]) -> Result<(Vec<Entry>, String), Failure> {
    let (mut entries, mut stamps) = (Vec::new(), String::new());
    for (name, path) in files::named(sources)? {
        let meta = std::fs::metadata(&path).map_err(Failure::io("read", &path))?;
        let changed = meta.modified().ok();
        let since = changed.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let nanos = since.map_or(0, |since| since.as_nanos());
        let inside = format!("{FILES}/{name}");
        stamps.push_str(&format!("{inside}\0{}\0{nanos}\n", meta.len()));
        entries.push(Entry {
            path: inside,
            mode: 0o644,
            owner: 0,
            content: Content::File {
                path,
                size: meta.len(),
            },
        });
    }
    Ok((entries, stamps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_targets_are_served_is_written_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (name, text) in [
            ("guest/vmlinuz", "kernel"),
            ("guest/deep/initrd.img", "initrd"),
            ("guest/.lock", "mark"),
        ] {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), text).unwrap();
        }
        let iso = at("files.iso");
        let write = || {
            write_served(&iso, &[at("guest")]).unwrap();
            stamp(&[at("guest")]).unwrap()
        };
        let first = write();
        let octets = std::fs::read(&iso).unwrap();
        let has = |text: &str| {
            octets
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        };
        for name in ["files", "guest", "vmlinuz", "initrd.img", "deep"] {
            assert!(has(name), "{name}");
        }
        assert!(!has("mark"));
        let before = std::fs::metadata(&iso).unwrap().modified().unwrap();
        assert_eq!(write(), first);
        assert_eq!(std::fs::metadata(&iso).unwrap().modified().unwrap(), before);
        std::fs::write(at("guest/vmlinuz"), "another kernel").unwrap();
        assert_ne!(write(), first);
        assert!(write_served(&iso, &[at("nowhere")]).is_err());
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
