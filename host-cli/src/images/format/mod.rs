//! What a disk image is, by its own octets and never by its name. In: a file. Out: its format, the size that a machine sees, and
//! the file beneath it, if it has one. It refuses formats that QEMU's tools or this program do not handle, encrypted and damaged
//! images, and every image that keeps its data in files that it names itself: opening a stranger's image must never
//! open another file.

mod qcow2;
mod vdi;
mod vmdk;

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure};
use crate::output::io_reason;

/// How a disk is kept in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// QEMU's own: takes no more room than was written, can lie on top of another image
    Qcow2,
    /// The disk's octets, one after the other
    Raw,
    /// VMware's, in one file
    Vmdk,
    /// VirtualBox's
    Vdi,
}

impl DiskFormat {
    /// As QEMU calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
            Self::Vmdk => "vmdk",
            Self::Vdi => "vdi",
        }
    }
}

impl fmt::Display for DiskFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A disk image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    pub format: DiskFormat,
    /// Octets that a machine sees.
    pub virtual_size: u64,
    /// The image beneath, as this one names it.
    pub backing: Option<Backing>,
}

/// What a qcow2 image says of the image beneath it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    pub file: String,
    pub format: Option<String>,
}

/// Reads the beginning of a file, and its end.
pub fn probe_file(path: &Path, says: Option<DiskFormat>) -> Result<Disk, Failure> {
    let mut file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::new(Exit::NotFound, format!("{}: no such file", path.display()))
        }
        _ => Failure::io("read", path)(error),
    })?;
    let metadata = file.metadata().map_err(Failure::io("read", path))?;
    if !metadata.is_file() {
        let text = format!("{}: wanted a file with a disk image", path.display());
        return Err(Failure::new(Exit::Invalid, text));
    }
    probe(&mut file, says)
        .map_err(|problem| Failure::new(Exit::Invalid, format!("{}: {problem}", path.display())))
}

/// `says` is what its owner says that it is: needed for raw images alone, which may look like nothing, and refused if it is
/// something else.
pub fn probe(file: &mut (impl Read + Seek), says: Option<DiskFormat>) -> Result<Disk, String> {
    let unread = |error: io::Error| format!("cannot be read: {}", io_reason(&error));
    let length = file.seek(SeekFrom::End(0)).map_err(unread)?;
    if length == 0 {
        return Err("the file is empty".to_owned());
    }
    let head = read_at(file, 0, HEAD).map_err(unread)?;
    let disk = if head.starts_with(qcow2::MAGIC) {
        qcow2::read(file, &head)?
    } else if head.starts_with(vmdk::MAGIC) {
        vmdk::read(file, &head)?
    } else if vdi::is_one(&head) {
        vdi::read(&head)?
    } else {
        let tail = read_at(file, length.saturating_sub(512), 512).map_err(unread)?;
        if let Some(what) = foreign(&head, &tail) {
            return Err(what);
        }
        if says != Some(DiskFormat::Raw) && !looks_like_a_disk(&head) {
            return Err(
                "wanted a disk image, got octets of no known format; if it is a raw disk, say so with --format raw"
                    .to_owned(),
            );
        }
        Disk {
            format: DiskFormat::Raw,
            // As QEMU does.
            virtual_size: length.next_multiple_of(512),
            backing: None,
        }
    };
    match says {
        Some(says) if says != disk.format => Err(format!("wanted {says}, got {}", disk.format)),
        _ => Ok(disk),
    }
}

/// Enough for every header, and for what tells raw disks: the volume descriptor of an ISO 9660 is the last of it.
const HEAD: usize = 0x1_0100;

/// Formats that are something else than a disk's octets, and what to do about them.
fn foreign(head: &[u8], tail: &[u8]) -> Option<String> {
    const PACKED: [(&[u8], &str, &str); 5] = [
        (b"\x1f\x8b", "gzip", "gunzip"),
        (b"\xfd7zXZ\0", "xz", "unxz"),
        (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
        (b"BZh", "bzip2", "bunzip2"),
        (b"PK\x03\x04", "zip", "unzip"),
    ];
    const OTHERS: [(&[u8], &str); 7] = [
        (b"QED\0", "QED"),
        (b"conectix", "VHD"),
        (b"vhdxfile", "VHDX"),
        (b"WithoutFreeSpace", "Parallels"),
        (b"WithouFreSpacExt", "Parallels"),
        (b"LUKS\xba\xbe", "LUKS"),
        (b"COWD", "VMDK, version 3"),
    ];
    if let Some((_, name, by)) = PACKED.iter().find(|(magic, ..)| head.starts_with(magic)) {
        return Some(format!(
            "it is packed by {name}; unpack it first with: {by}"
        ));
    }
    let other = OTHERS.iter().find(|(magic, _)| head.starts_with(magic));
    let other = other.map(|(_, name)| *name).or_else(|| {
        let tails: [(&[u8], &str); 2] = [(b"conectix", "VHD"), (b"koly", "Apple disk image")];
        tails
            .iter()
            .find(|(magic, _)| tail.starts_with(magic))
            .map(|(_, name)| *name)
    });
    if let Some(name) = other {
        return Some(format!(
            "wanted qcow2, raw, vmdk or vdi, got {name}; convert it first, if you trust it, with: qemu-img convert -O qcow2"
        ));
    }
    let text = String::from_utf8_lossy(&head[..head.len().min(512)]).to_lowercase();
    text.trim_start()
        .starts_with("# disk descriptorfile")
        .then(|| {
            "a VMDK of several files names the others itself, and is not opened; make one file of it, if you trust it, with: qemu-img convert -O qcow2"
                .to_owned()
        })
}

/// A boot sector, a partition table, or a file system without one.
fn looks_like_a_disk(head: &[u8]) -> bool {
    let at = |place: usize, magic: &[u8]| head.get(place..place + magic.len()) == Some(magic);
    at(510, b"\x55\xaa")
        || at(512, b"EFI PART")
        || at(4096, b"EFI PART")
        || at(0x438, b"\x53\xef")
        || at(0, b"XFSB")
        || at(0x1_0040, b"_BHRfS_M")
        || at(0x8001, b"CD001")
}

/// Fewer octets at the end of the file.
fn read_at(file: &mut (impl Read + Seek), at: u64, length: usize) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut octets = Vec::new();
    file.take(length as u64).read_to_end(&mut octets)?;
    Ok(octets)
}

fn be32(octets: &[u8], at: usize) -> Option<u32> {
    let four = octets.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

fn be64(octets: &[u8], at: usize) -> Option<u64> {
    let eight = octets.get(at..at.checked_add(8)?)?;
    Some(u64::from_be_bytes(eight.try_into().ok()?))
}

fn le32(octets: &[u8], at: usize) -> Option<u32> {
    be32(octets, at).map(u32::swap_bytes)
}

fn le64(octets: &[u8], at: usize) -> Option<u64> {
    be64(octets, at).map(u64::swap_bytes)
}

#[cfg(test)]
mod tests;
