//! The header of a qcow2 image (QEMU, docs/interop/qcow2.txt), all numbers big-endian.

use std::io::{Read, Seek};

use super::{Backing, Disk, DiskFormat, be32, be64, read_at};

pub const MAGIC: &[u8] = b"QFI\xfb";

/// Bits of `incompatible_features`: who does not know one must not open the image.
const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
/// These, compression (3) and extended L2 entries (4).
const KNOWN: u64 = 0b1_1111;

/// Header extensions.
const END: u32 = 0;
const DATA_FILE_NAME: u32 = 0x4441_5441;
const BACKING_FORMAT: u32 = 0xe279_2aca;

const TRUNCATED: &str = "the header of the qcow2 image ends too soon";
const DATA_ELSEWHERE: &str =
    "a qcow2 image that keeps its data in another file is not opened: it may name any file";

pub fn read(file: &mut (impl Read + Seek), head: &[u8]) -> Result<Disk, String> {
    let word = |at| be32(head, at).ok_or(TRUNCATED);
    let version = word(4)?;
    if version != 2 && version != 3 {
        return Err(format!(
            "wanted a qcow2 image of version 2 or 3, got version {version}"
        ));
    }
    let virtual_size = be64(head, 24).ok_or(TRUNCATED)?;
    if word(32)? != 0 {
        return Err("the qcow2 image is encrypted; decrypt it first".to_owned());
    }
    let mut header_length = 72;
    if version == 3 {
        refuse_features(be64(head, 72).ok_or(TRUNCATED)?)?;
        header_length = word(100)? as usize;
        if !(104..=4096).contains(&header_length) || header_length % 8 != 0 {
            return Err(format!(
                "the qcow2 image says that its header has {header_length} octets"
            ));
        }
    }
    let format = extensions(head, header_length)?;
    let (at, length) = (be64(head, 8).ok_or(TRUNCATED)?, word(16)? as usize);
    let backing = match at {
        0 => None,
        // The limit is the format's own.
        _ if length > 1023 => return Err(TRUNCATED.to_owned()),
        _ => {
            let name = read_at(file, at, length).map_err(|error| error.to_string())?;
            if name.len() != length {
                return Err(TRUNCATED.to_owned());
            }
            let file = String::from_utf8(name)
                .map_err(|_| "the image beneath the qcow2 image has a name that is no text")?;
            Some(Backing { file, format })
        }
    };
    Ok(Disk {
        format: DiskFormat::Qcow2,
        virtual_size,
        backing,
    })
}

fn refuse_features(features: u64) -> Result<(), String> {
    if features & DATA_FILE != 0 {
        return Err(DATA_ELSEWHERE.to_owned());
    }
    if features & CORRUPT != 0 {
        return Err("the qcow2 image is marked as damaged".to_owned());
    }
    if features & DIRTY != 0 {
        return Err(
            "the qcow2 image was not closed; repair it first with: qemu-img check -r all"
                .to_owned(),
        );
    }
    match features & !KNOWN {
        0 => Ok(()),
        unknown => Err(format!(
            "the qcow2 image needs features that are not known here ({unknown:#x})"
        )),
    }
}

/// The backing file's format, out of the list of type, length and octets padded to eight.
fn extensions(head: &[u8], header_length: usize) -> Result<Option<String>, String> {
    let mut at = header_length;
    let mut format = None;
    loop {
        let kind = match be32(head, at) {
            Some(kind) => kind,
            // An image without any may end here.
            None if at == header_length => return Ok(format),
            None => return Err(TRUNCATED.to_owned()),
        };
        let length = be32(head, at + 4).ok_or(TRUNCATED)? as usize;
        match kind {
            END => return Ok(format),
            DATA_FILE_NAME => return Err(DATA_ELSEWHERE.to_owned()),
            BACKING_FORMAT => {
                let name = head.get(at + 8..at + 8 + length).ok_or(TRUNCATED)?;
                format = Some(String::from_utf8_lossy(name).into_owned());
            }
            _ => {}
        }
        at = at
            .checked_add(8 + length.next_multiple_of(8))
            .ok_or(TRUNCATED)?;
    }
}
