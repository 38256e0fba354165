//! The header of a VMDK in one file ("sparse extent" in VMware's Virtual Disk Format 5.0), all numbers little-endian. Such a file
//! has a text with it that may name a parent, or other files; those are refused.

use std::io::{Read, Seek};

use super::{Disk, DiskFormat, le32, le64, read_at};

pub const MAGIC: &[u8] = b"KDMV";
const SECTOR: u64 = 512;
/// As much of the text as QEMU reads.
const TEXT: u64 = 20;
/// No VMDK is larger.
const SIZE_MAX: u64 = 64 << 40;

pub fn read(file: &mut (impl Read + Seek), head: &[u8]) -> Result<Disk, String> {
    let short = "the header of the VMDK ends too soon";
    let version = le32(head, 4).ok_or(short)?;
    if !(1..=3).contains(&version) {
        return Err(format!(
            "wanted a VMDK of version 1 to 3, got version {version}"
        ));
    }
    let sectors = le64(head, 12).ok_or(short)?;
    // QEMU takes such a file for the text alone.
    if sectors == 0 {
        return Err(
            "a VMDK of several files names the others itself, and is not opened".to_owned(),
        );
    }
    if sectors > SIZE_MAX / SECTOR {
        return Err(format!("the VMDK says that it has {sectors} sectors"));
    }
    let text_at = le64(head, 28).ok_or(short)?;
    // QEMU looks for the text where it usually is, whatever the header says.
    for sector in [1, text_at] {
        if sector == 0 {
            continue;
        }
        let at = sector.checked_mul(SECTOR).ok_or(short)?;
        let text =
            read_at(file, at, (TEXT * SECTOR) as usize).map_err(|error| error.to_string())?;
        refuse_parents(&text)?;
    }
    Ok(Disk {
        format: DiskFormat::Vmdk,
        virtual_size: sectors * SECTOR,
        backing: None,
    })
}

fn refuse_parents(text: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(text).to_lowercase();
    if text.contains("parentfilenamehint") {
        return Err(
            "a VMDK that lies on top of another file is not opened: it may name any file; merge them first, if you trust it, with: qemu-img convert -O qcow2"
                .to_owned(),
        );
    }
    let split = ["twogbmax", "flat\"", "vmfs", "fullde", "partitioned"];
    let kind = text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "createtype").then(|| value.trim().to_owned())
    });
    match kind {
        Some(kind) if split.iter().any(|name| kind.contains(name)) => Err(format!(
            "a VMDK of the kind {kind} keeps its data in files that it names itself, and is not opened"
        )),
        _ => Ok(()),
    }
}
