//! ISO 9660 (ECMA-119), as far as finding files in an installation medium needs it, with Rock Ridge's names (IEEE P1282 NM). In:
//! anything that can be read and sought. Out: paths and where their content lies. What the medium says is believed of nothing:
//! not where it leads, not how deep it goes, not what it calls things.

use std::collections::BTreeSet;
use std::io::{self, Read, Seek, SeekFrom};

const SECTOR: u64 = 2048;
/// ECMA-119 allows eight; Rock Ridge's deeper trees are moved aside, and no boot file is there.
const DEEPEST: usize = 16;
/// A medium with more directories, or larger ones, is none that installs anything.
const MOST_DIRECTORIES: usize = 20_000;
const LARGEST_DIRECTORY: u64 = 16 << 20;

/// A file inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// As the medium calls it: parts with slashes between them, of any octets that are text.
    pub path: String,
    /// Where it begins, and how long it is, in octets.
    pub at: u64,
    pub length: u64,
}

/// Whether there is one: its first descriptor stands in sector 16 (ECMA-119 §6.7.1).
pub fn is_iso(medium: &mut (impl Read + Seek)) -> io::Result<bool> {
    let mut head = [0; 6];
    medium.seek(SeekFrom::Start(16 * SECTOR))?;
    match medium.read_exact(&mut head) {
        Ok(()) => Ok(&head == b"\x01CD001"),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Every file of the medium.
pub fn files(medium: &mut (impl Read + Seek)) -> io::Result<Vec<File>> {
    let end = medium.seek(SeekFrom::End(0))?;
    let mut descriptor = [0; SECTOR as usize];
    medium.seek(SeekFrom::Start(16 * SECTOR))?;
    medium.read_exact(&mut descriptor)?;
    let root = Record::read(&descriptor[156..190]).ok_or_else(|| broken("no root directory"))?;
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let mut waiting = vec![(root, String::new(), 0)];
    while let Some((directory, path, depth)) = waiting.pop() {
        if !seen.insert(directory.at) {
            continue;
        }
        if seen.len() > MOST_DIRECTORIES || directory.length > LARGEST_DIRECTORY {
            return Err(broken("its directories are too many or too large"));
        }
        let octets = content(medium, &directory, end)?;
        for record in records(&octets) {
            let path = if path.is_empty() {
                record.name.clone()
            } else {
                format!("{path}/{}", record.name)
            };
            if record.is_directory && depth < DEEPEST {
                waiting.push((record, path, depth + 1));
            } else if !record.is_directory && !record.goes_on {
                if record.at.saturating_add(record.length) > end {
                    return Err(broken(&format!("{path} lies beyond its end; is it whole?")));
                }
                found.push(File {
                    path,
                    at: record.at,
                    length: record.length,
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// A directory record (ECMA-119 §9.1).
struct Record {
    name: String,
    at: u64,
    length: u64,
    is_directory: bool,
    /// It is one of several extents: files above 4 GiB, of which none boots.
    goes_on: bool,
}

impl Record {
    fn read(octets: &[u8]) -> Option<Self> {
        let number = |at: usize| {
            let octets = octets.get(at..at + 4)?.try_into().ok()?;
            Some(u64::from(u32::from_le_bytes(octets)))
        };
        let length = usize::from(*octets.get(32)?);
        let identifier = octets.get(33..33 + length)?;
        let flags = *octets.get(25)?;
        // One octet of padding where the identifier's length is even.
        let more = octets
            .get(33 + length + (length + 1) % 2..)
            .unwrap_or_default();
        Some(Self {
            name: rock_ridge_name(more).unwrap_or_else(|| plain_name(identifier)),
            at: number(2)?.checked_mul(SECTOR)?,
            length: number(10)?,
            is_directory: flags & 2 != 0,
            goes_on: flags & 0x80 != 0,
        })
    }
}

/// The records of a directory; none crosses the end of a sector. The first two are itself and its parent.
fn records(directory: &[u8]) -> impl Iterator<Item = Record> {
    directory
        .chunks(SECTOR as usize)
        .enumerate()
        .flat_map(|(sector, octets)| {
            let mut rest = octets;
            let mut number = 0;
            std::iter::from_fn(move || {
                loop {
                    let length = usize::from(*rest.first()?);
                    if length == 0 || length > rest.len() {
                        return None;
                    }
                    let (octets, after) = rest.split_at(length);
                    rest = after;
                    number += 1;
                    if (sector > 0 || number > 2)
                        && let Some(record) = Record::read(octets)
                    {
                        return Some(record);
                    }
                }
            })
        })
}

fn content(medium: &mut (impl Read + Seek), record: &Record, end: u64) -> io::Result<Vec<u8>> {
    if record.at.saturating_add(record.length) > end {
        return Err(broken("a directory lies beyond its end; is it whole?"));
    }
    medium.seek(SeekFrom::Start(record.at))?;
    let mut octets = Vec::new();
    medium.take(record.length).read_to_end(&mut octets)?;
    Ok(octets)
}

/// `VMLINUZ.;1` is vmlinuz.
fn plain_name(identifier: &[u8]) -> String {
    let text = String::from_utf8_lossy(identifier).to_ascii_lowercase();
    let name = text.split(';').next().unwrap_or_default();
    name.trim_end_matches('.').to_owned()
}

/// The NM entries of a record's system use area, one after the other.
fn rock_ridge_name(mut area: &[u8]) -> Option<String> {
    let mut name = None;
    while let [a, b, length, _, ..] = *area {
        let length = usize::from(length);
        if length < 4 || length > area.len() {
            break;
        }
        if [a, b] == *b"NM" && length > 5 {
            let text = String::from_utf8_lossy(&area[5..length]);
            name.get_or_insert_with(String::new).push_str(&text);
        }
        area = &area[length..];
    }
    name
}

fn broken(why: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("no sound ISO 9660: {why}"),
    )
}
