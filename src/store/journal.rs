//! What was written, in order, in one file that only grows: a write is durable as soon as its entry is synced here, and can be
//! put into the database later, together with others. In: records as octets. Out: the same, in the same order, after a crash.
//!
//! | octets | what |
//! |---|---|
//! | 8 | `bootjack` |
//! | 4 | form of the file, 1 |
//! | 8 | number of the checkpoint that the database has at least |
//! | then, for each write, 4 | length of the content |
//! | 8 | how much of the file was synced before: where it stands itself |
//! | 4 | CRC-32 of the content |
//! | 4 | CRC-32 of these 16 octets |
//! | … | for each record: length of the key (2), key, 1 and length of the value (4) and value, or 0 for a removal |
//!
//! Numbers are big-endian. Each entry is synced before the next is written, so that a crash can tear the last one alone, which
//! nobody was told of: what is wrong before a whole entry is damage. (Versions before this one could leave several unsynced; their
//! files are read by what each entry knows to have been synced.) Behind the last entry there are zeros: where a file does not grow,
//! a sync writes what was written and nothing else.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

const MAGIC: &[u8; 8] = b"bootjack";
const FORM: u32 = 1;
const HEADER: usize = 20;
/// What stands before the content of an entry.
const HEAD: usize = 20;
/// How much the file grows by.
const STEP: usize = 1 << 20;

/// A key, and its value or none if it was removed.
pub(super) type KeyValue = (Vec<u8>, Option<Vec<u8>>);

/// Why a journal cannot be read.
#[derive(Debug, Error)]
pub(super) enum JournalError {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{}: damaged at octet {at}: {problem}", path.display())]
    Damaged {
        path: PathBuf,
        at: usize,
        problem: &'static str,
    },
}

/// A journal that is written.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// How much of it is whole and synced.
    length: u64,
    /// Something that failed stands behind that.
    is_torn: bool,
    /// How far there is room.
    room: u64,
    /// Of the entry that is being written; kept for its room.
    entry: Vec<u8>,
}

/// What was found in one.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    /// The database has all that came before this checkpoint.
    pub checkpoint: u64,
    pub records: Vec<KeyValue>,
    /// How much of the file is whole.
    pub length: u64,
}

impl Journal {
    /// A new one, in the place of any that is there.
    pub(super) fn create(path: &Path, checkpoint: u64) -> io::Result<Self> {
        let mut new = Self::create_beside(path, checkpoint)?;
        std::fs::rename(&new.path, path)?;
        sync_directory(path)?;
        new.path = path.to_owned();
        Ok(new)
    }

    /// A new one, under another name as long as it is not needed.
    pub(super) fn create_beside(path: &Path, checkpoint: u64) -> io::Result<Self> {
        let path = path.with_extension("new");
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&path)?;
        let header = [&MAGIC[..], &FORM.to_be_bytes(), &checkpoint.to_be_bytes()].concat();
        file.write_all_at(&header, 0)?;
        file.sync_data()?;
        Ok(Self {
            path,
            file,
            length: HEADER as u64,
            is_torn: false,
            room: HEADER as u64,
            entry: Vec::new(),
        })
    }

    /// The one that was read, to go on behind its last whole entry.
    pub(super) fn open(path: &Path, found: &Found) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(path)?;
        // What a crash has torn must not stand behind what comes next.
        file.set_len(found.length)?;
        file.sync_data()?;
        Ok(Self {
            path: path.to_owned(),
            file,
            length: found.length,
            is_torn: false,
            room: found.length,
            entry: Vec::new(),
        })
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Adds one write: all of it or, after an error, none. It would survive a power cut once this returns.
    pub(super) fn write(&mut self, records: &[KeyValue]) -> io::Result<()> {
        if self.is_torn {
            self.cut()?;
        }
        let written = self
            .append(records)
            .and_then(|end| self.file.sync_data().map(|()| end));
        match written {
            Ok(end) => self.length = end,
            Err(_) => {
                self.is_torn = true;
                // Where even that fails, it is tried again before anything else is written.
                let _ = self.cut();
            }
        }
        written.map(|_| ())
    }

    /// Half an entry must not stand before the next one, and one that failed must not be there tomorrow.
    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.length)?;
        self.room = self.length;
        self.is_torn = false;
        Ok(())
    }

    /// Writes an entry and syncs nothing; answers where it ends.
    fn append(&mut self, records: &[KeyValue]) -> io::Result<u64> {
        let entry = &mut self.entry;
        entry.clear();
        entry.extend([0; HEAD]);
        for (key, value) in records {
            let length = u16::try_from(key.len()).map_err(io::Error::other)?;
            entry.extend(length.to_be_bytes());
            entry.extend(key);
            match value {
                None => entry.push(0),
                Some(value) => {
                    let length = u32::try_from(value.len()).map_err(io::Error::other)?;
                    entry.push(1);
                    entry.extend(length.to_be_bytes());
                    entry.extend(value);
                }
            }
        }
        let length = u32::try_from(entry.len() - HEAD).map_err(io::Error::other)?;
        entry[..4].copy_from_slice(&length.to_be_bytes());
        entry[4..12].copy_from_slice(&self.length.to_be_bytes());
        let sum = crc32fast::hash(&entry[HEAD..]);
        entry[12..16].copy_from_slice(&sum.to_be_bytes());
        let sum = crc32fast::hash(&entry[..16]);
        entry[16..HEAD].copy_from_slice(&sum.to_be_bytes());
        let end = self.length + entry.len() as u64;
        if end > self.room {
            self.file.write_all_at(&vec![0; STEP], end)?;
            self.room = end + STEP as u64;
        }
        self.file.write_all_at(entry, self.length)?;
        Ok(end)
    }

    /// Puts `new` in its place and itself under the name `sealed`, where it is kept until the database has what it says.
    pub(super) fn replaced_by(&self, mut new: Self, sealed: &Path) -> io::Result<Self> {
        std::fs::rename(&self.path, sealed)?;
        std::fs::rename(&new.path, &self.path)?;
        sync_directory(sealed)?;
        new.path.clone_from(&self.path);
        Ok(new)
    }
}

/// Reads one; nothing if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Found>, JournalError> {
    let mut octets = Vec::new();
    match File::open(path).and_then(|mut file| file.read_to_end(&mut octets)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(JournalError::Io {
                path: path.to_owned(),
                error,
            });
        }
    }
    parse(&octets)
        .map(Some)
        .map_err(|(at, problem)| JournalError::Damaged {
            path: path.to_owned(),
            at,
            problem,
        })
}

/// The whole entries, up to the end or to the first that is not whole.
fn parse(octets: &[u8]) -> Result<Found, (usize, &'static str)> {
    let (header, _) = octets
        .split_first_chunk::<HEADER>()
        .ok_or((0, "it is shorter than its header"))?;
    if !header.starts_with(MAGIC) {
        return Err((0, "it is no journal"));
    }
    if header[8..12] != FORM.to_be_bytes() {
        return Err((8, "another version wrote it"));
    }
    let mut found = Found {
        checkpoint: number(&header[12..]),
        ..Found::default()
    };
    let mut at = HEADER;
    while let Some(entry) = Entry::at(octets, at) {
        records(entry.content, &mut found.records).ok_or((at, "an entry makes no sense"))?;
        at += HEAD + entry.content.len();
    }
    let was_synced =
        |later: usize| Entry::at(octets, later).is_some_and(|entry| entry.synced > at as u64);
    if (at + 1..octets.len()).any(was_synced) {
        return Err((at, "the checksum of an entry is wrong"));
    }
    found.length = at as u64;
    Ok(found)
}

/// One whole entry.
struct Entry<'a> {
    content: &'a [u8],
    synced: u64,
}

impl<'a> Entry<'a> {
    fn at(octets: &'a [u8], at: usize) -> Option<Self> {
        let (head, rest) = octets.get(at..)?.split_first_chunk::<HEAD>()?;
        if u64::from(crc32fast::hash(&head[..16])) != number(&head[16..]) {
            return None;
        }
        let content = rest.get(..usize::try_from(number(&head[..4])).ok()?)?;
        (u64::from(crc32fast::hash(content)) == number(&head[12..16])).then(|| Self {
            content,
            synced: number(&head[4..12]),
        })
    }
}

/// A big-endian number of up to 8 octets.
fn number(octets: &[u8]) -> u64 {
    (octets.iter()).fold(0, |number, octet| (number << 8) | u64::from(*octet))
}

fn records(mut content: &[u8], into: &mut Vec<KeyValue>) -> Option<()> {
    while let Some((length, rest)) = content.split_first_chunk::<2>() {
        let (key, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let (has_value, rest) = rest.split_first()?;
        let (value, rest) = match has_value {
            0 => (None, rest),
            _ => {
                let (length, rest) = rest.split_first_chunk::<4>()?;
                let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
                let (value, rest) = rest.split_at_checked(length)?;
                (Some(value.to_vec()), rest)
            }
        };
        into.push((key.to_vec(), value));
        content = rest;
    }
    content.is_empty().then_some(())
}

fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_data(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(n: u8) -> KeyValue {
        (vec![b'k', n], Some(vec![n; usize::from(n)]))
    }

    fn written(path: &Path, writes: u8) {
        let mut journal = Journal::create(path, 7).expect("made");
        for n in 0..writes {
            let removal = (vec![b'k', n.wrapping_sub(1)], None);
            journal.write(&[removal, put(n)]).expect("written");
        }
    }

    #[test]
    fn what_was_written_is_read_in_order() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("journal");
        assert!(read(&path).expect("no error").is_none());
        written(&path, 3);
        let found = read(&path).expect("readable").expect("there");
        assert_eq!(found.checkpoint, 7);
        assert_eq!(found.records.len(), 6);
        assert_eq!(found.records[5], put(2));
        let mut journal = Journal::open(&path, &found).expect("opens");
        journal.write(&[put(9)]).expect("written");
        let found = read(&path).expect("readable").expect("there");
        assert_eq!(found.records.last(), Some(&put(9)));
    }

    #[test]
    fn a_torn_end_is_left_out_and_written_over() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("journal");
        written(&path, 3);
        let mut whole = std::fs::read(&path).expect("readable");
        let end = parse(&whole).expect("whole").length;
        whole.truncate(usize::try_from(end).expect("short"));
        let second_ends = parse(&whole[..whole.len() - 1]).expect("torn").length;
        for length in usize::try_from(second_ends).expect("short")..whole.len() {
            for zeros in [0, 5] {
                let mut torn = whole[..length].to_vec();
                torn.resize(length + zeros, 0);
                let found = parse(&torn).expect("a torn end");
                assert_eq!(
                    (found.records.len(), found.length),
                    (4, second_ends),
                    "{length}+{zeros}"
                );
            }
        }
        std::fs::write(&path, &whole[..whole.len() - 3]).expect("written");
        let found = read(&path).expect("readable").expect("there");
        let mut journal = Journal::open(&path, &found).expect("opens");
        journal.write(&[put(5)]).expect("written");
        let found = read(&path).expect("readable").expect("there");
        assert_eq!(found.records.len(), 5);
    }

    #[test]
    fn a_flipped_bit_before_the_last_entry_is_damage() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("journal");
        written(&path, 6);
        let whole = std::fs::read(&path).expect("readable");
        let end = usize::try_from(parse(&whole).expect("whole").length).expect("short");
        let whole = &whole[..end];
        let last_begins = end - (HEAD + 2 * 2 + 2 * 2 + 2 + 4 + 5);
        assert!(Entry::at(whole, last_begins).is_some());
        for at in 0..last_begins {
            let mut damaged = whole.to_vec();
            damaged[at] ^= 0x10;
            let is_number = (12..HEADER).contains(&at);
            assert_eq!(parse(&damaged).is_ok(), is_number, "octet {at}");
        }
    }

    /// What versions before this one left: form 1, with entries that were not synced before the next was written.
    #[test]
    fn entries_that_were_not_synced_may_be_torn_in_any_order() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("journal");
        written(&path, 3);
        let mut octets = std::fs::read(&path).expect("readable");
        let mut at = HEADER;
        while let Some(entry) = Entry::at(&octets, at) {
            let next = at + HEAD + entry.content.len();
            octets[at + 4..at + 12].copy_from_slice(&(HEADER as u64).to_be_bytes());
            let sum = crc32fast::hash(&octets[at..at + 16]);
            octets[at + 16..at + HEAD].copy_from_slice(&sum.to_be_bytes());
            at = next;
        }
        assert_eq!(parse(&octets).expect("whole").records.len(), 6);
        octets[HEADER + HEAD + 3] ^= 1; // in the first, with two whole ones behind it
        assert!(parse(&octets).expect("torn").records.is_empty());
    }

    #[test]
    fn what_could_not_be_written_is_not_there_and_what_comes_next_is() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("journal");
        written(&path, 1);
        let mut journal =
            Journal::open(&path, &read(&path).expect("readable").expect("there")).expect("opens");
        let writable = std::mem::replace(&mut journal.file, File::open(&path).expect("opens"));
        journal.write(&[put(1)]).expect_err("it cannot be written");
        journal.write(&[put(2)]).expect_err("nor cut");
        journal.file = writable;
        journal.write(&[put(3)]).expect("written");
        let found = read(&path).expect("readable").expect("there");
        assert_eq!(found.records.len(), 3);
        assert_eq!(found.records.last(), Some(&put(3)));
    }
}
