//! The records of ECMA-119, and the system use fields of Rock Ridge in them (IEEE P1282). Numbers stand twice, in both octet
//! orders. Every date is the same.

use super::BLOCK;

/// 1 January 2020, Greenwich: years since 1900, month, day, hour, minute, second, quarters of an hour from Greenwich.
const DATE: [u8; 7] = [120, 1, 1, 0, 0, 0, 0];
const LONG_DATE: &[u8; 17] = b"2020010100000000\0";
/// No date at all.
const NO_DATE: &[u8; 17] = b"0000000000000000\0";
/// The longest record: its length is one octet.
const LONGEST: usize = 255;

/// File type of a directory, as in stat(2).
pub const DIRECTORY: u32 = 0o040_000;
/// That of a file.
pub const FILE: u32 = 0o100_000;

/// Whether it may stand in an identifier of a volume: d-characters (ECMA-119 §7.4.1).
pub fn is_plain(octet: u8) -> bool {
    octet.is_ascii_uppercase() || octet.is_ascii_digit() || octet == b'_'
}

/// What the primary volume descriptor says (ECMA-119 §8.4).
pub struct Primary<'a> {
    pub label: &'a str,
    /// Blocks of the whole image.
    pub total: u32,
    /// In octets.
    pub table_size: u32,
    /// Blocks where the path tables begin.
    pub table_little: u32,
    pub table_big: u32,
    pub root: Vec<u8>,
}

/// One member of a directory.
pub struct Member<'a> {
    /// Its name for those who know no better.
    pub identifier: &'a [u8],
    pub block: u32,
    pub size: u32,
    pub mode: u32,
    pub links: u32,
    pub owner: u32,
}

pub fn primary(volume: &Primary<'_>) -> Vec<u8> {
    let mut block = descriptor(1);
    block.push(0);
    block.extend(spaces("LINUX", 32));
    block.extend(spaces(volume.label, 32));
    block.extend([0; 8]);
    block.extend(both(volume.total));
    block.extend([0; 32]);
    // One volume, the first of its set; the size of a block.
    for number in [1, 1, BLOCK as u16] {
        block.extend(both_short(number));
    }
    block.extend(both(volume.table_size));
    block.extend(volume.table_little.to_le_bytes());
    block.extend([0; 4]);
    block.extend(volume.table_big.to_be_bytes());
    block.extend([0; 4]);
    block.extend(&volume.root);
    // Set, publisher, preparer, application; copyright, abstract and bibliography.
    block.extend(spaces("", 128 + 128 + 128));
    block.extend(spaces("BOOTJACK", 128));
    block.extend(spaces("", 37 * 3));
    // Made, changed, out of date, good from.
    for date in [LONG_DATE, LONG_DATE, NO_DATE, NO_DATE] {
        block.extend(date);
    }
    block.push(1);
    block.resize(BLOCK, 0);
    block
}

/// The end of the volume descriptors (ECMA-119 §8.3).
pub fn terminator() -> Vec<u8> {
    let mut block = descriptor(255);
    block.resize(BLOCK, 0);
    block
}

fn descriptor(kind: u8) -> Vec<u8> {
    let mut block = vec![kind];
    block.extend(b"CD001");
    block.push(1);
    block
}

/// A directory record (ECMA-119 §9.1) without system use fields: that in the primary descriptor.
pub fn bare(member: &Member<'_>) -> Vec<u8> {
    let mut record = vec![0, 0];
    record.extend(both(member.block));
    record.extend(both(member.size));
    record.extend(DATE);
    let is_directory = member.mode & DIRECTORY != 0;
    record.push(if is_directory { 2 } else { 0 });
    // Not interleaved; the first volume.
    record.extend([0, 0]);
    record.extend(both_short(1));
    record.push(member.identifier.len() as u8);
    record.extend(member.identifier);
    if record.len() % 2 == 1 {
        record.push(0);
    }
    sized(record)
}

/// A directory record with mode, owner and, unless it stands for a directory itself, its real name; `None` if that is too long.
pub fn rock_ridge(member: &Member<'_>, name: Option<&str>, is_first: bool) -> Option<Vec<u8>> {
    let mut record = bare(member);
    if is_first {
        // The whole image has such fields, from their beginning on.
        record.extend(field(b"SP", &[0xbe, 0xef, 0]));
    }
    let numbers = [member.mode, member.links, member.owner, member.owner];
    record.extend(field(b"PX", &numbers.map(both).concat()));
    if let Some(name) = name {
        let mut content = vec![0];
        content.extend(name.bytes());
        if record.len() + 4 + content.len() + 1 > LONGEST {
            return None;
        }
        record.extend(field(b"NM", &content));
    }
    if is_first {
        let id = b"RRIP_1991A";
        let mut content = vec![id.len() as u8, 0, 0, 1];
        content.extend(id);
        record.extend(field(b"ER", &content));
    }
    if record.len() % 2 == 1 {
        record.push(0);
    }
    Some(sized(record))
}

fn sized(mut record: Vec<u8>) -> Vec<u8> {
    record[0] = record.len() as u8;
    record
}

fn field(name: &[u8; 2], content: &[u8]) -> Vec<u8> {
    let mut field = name.to_vec();
    field.extend([content.len() as u8 + 4, 1]);
    field.extend(content);
    field
}

fn spaces(text: &str, width: usize) -> Vec<u8> {
    let mut octets = text.as_bytes().to_vec();
    octets.resize(width, b' ');
    octets
}

fn both(number: u32) -> [u8; 8] {
    let mut octets = [0; 8];
    octets[..4].copy_from_slice(&number.to_le_bytes());
    octets[4..].copy_from_slice(&number.to_be_bytes());
    octets
}

fn both_short(number: u16) -> [u8; 4] {
    let mut octets = [0; 4];
    octets[..2].copy_from_slice(&number.to_le_bytes());
    octets[2..].copy_from_slice(&number.to_be_bytes());
    octets
}
