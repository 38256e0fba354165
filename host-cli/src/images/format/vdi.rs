//! The header of a VDI (VirtualBox), all numbers little-endian. One that lies on top of another is refused: it holds no whole disk.

use super::{Disk, DiskFormat, le32, le64};

/// In front of it stands a text that is each program's own.
const SIGNATURE: (usize, u32) = (0x40, 0xbeda_107f);

pub fn is_one(head: &[u8]) -> bool {
    le32(head, SIGNATURE.0) == Some(SIGNATURE.1)
}

pub fn read(head: &[u8]) -> Result<Disk, String> {
    let short = "the header of the VDI ends too soon";
    let version = le32(head, 0x44).ok_or(short)?;
    if version != 0x0001_0001 {
        return Err(format!(
            "wanted a VDI of version 1.1, got version {}.{}",
            version >> 16,
            version & 0xffff
        ));
    }
    let kind = le32(head, 0x4c).ok_or(short)?;
    let parents = head.get(0x1a8..0x1c8).ok_or(short)?;
    if !matches!(kind, 1 | 2) || parents.iter().any(|octet| *octet != 0) {
        return Err(
            "a VDI that lies on top of another holds no whole disk; merge them first with: VBoxManage clonemedium"
                .to_owned(),
        );
    }
    let virtual_size = le64(head, 0x170).ok_or(short)?;
    if virtual_size == 0 || virtual_size > 64 << 40 {
        return Err(format!("the VDI says that it has {virtual_size} octets"));
    }
    Ok(Disk {
        format: DiskFormat::Vdi,
        virtual_size,
        backing: None,
    })
}
