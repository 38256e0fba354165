//! What was written, in order, in one file that only grows: a write is durable as soon as its entry is synced here, and can be
//! put into the database later, together with others. In: records as octets. Out: the same, in the same order, after a crash.
//!
//! | octets | what |
//! |---|---|
//! | 8 | `bootjack` |
//! | 4 | form of the file: 2 |
//! | 8 | number of the checkpoint that the database has at least |
//! | 4 | CRC-32 of these 20 octets; not in form 1 |
//! | then, for each write, 4 | length of the content |
//! | 8 | how much of the file was synced before: where it stands itself |
//! | 4 | CRC-32 of the content |
//! | 4 | CRC-32 of these 16 octets |
//! | … | for each record: length of the key (2), key, 1 and length of the value (4) and value, or 0 for a removal |
//!
//! Numbers are big-endian. Behind the last entry there are zeros, 20 at least, which are on disk before anything is written over
//! them. So what a crash can leave is known: each entry is synced before the next is written, and a disk writes a sector of 512
//! octets whole or not at all. The last entry alone can be torn, and where it is, zeros are left of it; nobody was told of it.
//! Everything else is damage: something wrong before a whole entry, an entry that is wrong without zeros in it, a file that ends
//! before its zeros.
//!
//! Form 1, of versions before this one, promises less, and its files are read by what each entry knows to have been synced.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

const MAGIC: &[u8; 8] = b"bootjack";
const FORM: u32 = 2;
/// What stands before the first entry, in form 1 and in form 2.
const HEADER_1: usize = 20;
const HEADER: usize = 24;
/// What stands before the content of an entry, and how many zeros there are behind the last one.
const HEAD: usize = 20;
/// How much the file grows by.
const STEP: usize = 1 << 20;
/// What the room is made of.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

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
    /// Where entries begin.
    start: u64,
    /// How much of it is whole and synced.
    length: u64,
    /// Something that failed stands behind that.
    is_torn: bool,
    /// How far there are zeros on disk.
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
    /// Where its entries begin.
    pub start: usize,
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
        let mut header = [&MAGIC[..], &FORM.to_be_bytes(), &checkpoint.to_be_bytes()].concat();
        header.extend(crc32fast::hash(&header).to_be_bytes());
        header.extend([0; HEAD]);
        file.write_all_at(&header, 0)?;
        file.sync_data()?;
        Ok(Self {
            path,
            file,
            start: HEADER as u64,
            length: HEADER as u64,
            is_torn: false,
            room: (HEADER + HEAD) as u64,
            entry: Vec::new(),
        })
    }

    /// The one that was read, to go on behind its last whole entry.
    pub(super) fn open(path: &Path, found: &Found) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(path)?;
        let mut journal = Self {
            path: path.to_owned(),
            file,
            start: found.start as u64,
            length: found.length,
            is_torn: true,
            room: found.length,
            entry: Vec::new(),
        };
        journal.cut()?;
        journal.file.sync_data()?;
        Ok(journal)
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Whether nothing was written to it yet.
    pub(super) fn is_empty(&self) -> bool {
        self.length == self.start
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

    /// What a crash has torn, or what failed, must not stand behind what comes next, nor be there tomorrow.
    fn cut(&mut self) -> io::Result<()> {
        self.file.write_all_at(&[0; HEAD], self.length)?;
        self.room = self.length + HEAD as u64;
        self.file.set_len(self.room)?;
        self.is_torn = false;
        Ok(())
    }

    /// Writes an entry and syncs nothing of it; answers where it ends.
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
        if end + HEAD as u64 > self.room {
            let room = self.room + (entry.len() + STEP) as u64;
            let mut at = self.room;
            while at < room {
                let zeros = &ZEROS[..ZEROS.len().min((room - at) as usize)];
                self.file.write_all_at(zeros, at)?;
                at += zeros.len() as u64;
            }
            self.file.sync_data()?;
            self.room = room;
        }
        self.file.write_all_at(entry, self.length)?;
        Ok(end)
    }

    /// Puts `new` in its place and itself under the name `sealed`, where it is kept as long as it is needed.
    pub(super) fn replaced_by(&self, mut new: Self, sealed: &Path) -> io::Result<Self> {
        // It gets no longer, and needs no room.
        self.file.set_len(self.length + HEAD as u64)?;
        self.file.sync_data()?;
        std::fs::rename(&self.path, sealed)?;
        std::fs::rename(&new.path, &self.path)?;
        sync_directory(sealed)?;
        new.path.clone_from(&self.path);
        Ok(new)
    }
}

/// Reads one; nothing if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Found>, JournalError> {
    let Some(octets) = octets(path)? else {
        return Ok(None);
    };
    let damaged = |(at, problem)| JournalError::Damaged {
        path: path.to_owned(),
        at,
        problem,
    };
    parse(&octets).map(Some).map_err(damaged)
}

/// The number that one begins with; nothing if there is none.
pub(super) fn number_of(path: &Path) -> Result<Option<u64>, JournalError> {
    let io = |error| JournalError::Io {
        path: path.to_owned(),
        error,
    };
    let mut start = Vec::new();
    match File::open(path) {
        Ok(file) => file
            .take(HEADER as u64)
            .read_to_end(&mut start)
            .map_err(io)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let damaged = |(at, problem)| JournalError::Damaged {
        path: path.to_owned(),
        at,
        problem,
    };
    header(&start)
        .map(|header| Some(header.number))
        .map_err(damaged)
}

fn octets(path: &Path) -> Result<Option<Vec<u8>>, JournalError> {
    match std::fs::read(path) {
        Ok(octets) => Ok(Some(octets)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(JournalError::Io {
            path: path.to_owned(),
            error,
        }),
    }
}

struct Header {
    form: u32,
    number: u64,
    length: usize,
}

fn header(octets: &[u8]) -> Result<Header, (usize, &'static str)> {
    let too_short = (0, "it is shorter than its header");
    let start = octets.get(..HEADER_1).ok_or(too_short)?;
    if !start.starts_with(MAGIC) {
        return Err((0, "it is no journal"));
    }
    let (form, number) = (number(&start[8..12]), number(&start[12..]));
    match form {
        1 => Ok(Header {
            form: 1,
            number,
            length: HEADER_1,
        }),
        2 => {
            let sum = octets.get(HEADER_1..HEADER).ok_or(too_short)?;
            if sum != crc32fast::hash(start).to_be_bytes() {
                return Err((0, "the checksum of its header is wrong"));
            }
            Ok(Header {
                form: 2,
                number,
                length: HEADER,
            })
        }
        _ => Err((8, "another version wrote it")),
    }
}

/// The whole entries, up to the end or to the one that a crash has torn.
fn parse(octets: &[u8]) -> Result<Found, (usize, &'static str)> {
    let header = header(octets)?;
    let mut found = Found {
        checkpoint: header.number,
        start: header.length,
        ..Found::default()
    };
    let mut at = header.length;
    while let Some(entry) = Entry::at(octets, at) {
        records(entry.content, &mut found.records).ok_or((at, "an entry makes no sense"))?;
        at += HEAD + entry.content.len();
    }
    let was_synced =
        |later: usize| Entry::at(octets, later).is_some_and(|entry| entry.synced > at as u64);
    if (at + 1..written_end(octets)).any(was_synced) {
        return Err((at, "the checksum of an entry is wrong"));
    }
    if header.form > 1 {
        may_be_torn(octets, at).map_err(|problem| (at, problem))?;
    }
    found.length = at as u64;
    Ok(found)
}

/// Where only zeros are left.
fn written_end(octets: &[u8]) -> usize {
    (octets.iter().rposition(|octet| *octet != 0)).map_or(0, |last| last + 1)
}

/// Whether what stands behind the last whole entry is what a crash leaves, and no entry that somebody was told of.
fn may_be_torn(octets: &[u8], at: usize) -> Result<(), &'static str> {
    let cut_off = "the file has been cut off there";
    let head = octets.get(at..at + HEAD).ok_or(cut_off)?;
    if head.iter().all(|octet| *octet == 0) {
        return Ok(());
    }
    let has_zero_sector = |from: usize, to: usize| {
        let mut pieces = (from / SECTOR..to.div_ceil(SECTOR))
            .map(|sector| from.max(sector * SECTOR)..to.min((sector + 1) * SECTOR));
        pieces.any(|piece| octets[piece].iter().all(|octet| *octet == 0))
    };
    if !is_head(head) {
        return has_zero_sector(at, at + HEAD)
            .then_some(())
            .ok_or("the head of an entry is wrong");
    }
    let end = usize::try_from(number(&head[..4]))
        .map_or(usize::MAX, |length| (at + HEAD).saturating_add(length));
    if end.saturating_add(HEAD) > octets.len() {
        return Err(cut_off);
    }
    has_zero_sector(at, end)
        .then_some(())
        .ok_or("the checksum of the last entry is wrong")
}

fn is_head(head: &[u8]) -> bool {
    u64::from(crc32fast::hash(&head[..16])) == number(&head[16..HEAD])
}

/// Places in a journal where something is wrong, and what.
pub(super) type Wrong = Vec<(usize, &'static str)>;

/// All that can be read of one, whatever else is wrong with it, and the places where something is.
pub(super) fn salvage(path: &Path) -> Result<(Vec<KeyValue>, Wrong), JournalError> {
    let octets = octets(path)?.unwrap_or_default();
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    let mut at = match header(&octets) {
        Ok(header) => header.length,
        Err(problem) => {
            wrong.push(problem);
            0
        }
    };
    while at < octets.len() {
        if let Some(entry) = Entry::at(&octets, at) {
            match records(entry.content, &mut found) {
                Some(()) => {}
                None => wrong.push((at, "an entry makes no sense")),
            }
            at += HEAD + entry.content.len();
            continue;
        }
        let next =
            (at + 1..written_end(&octets)).find(|later| Entry::at(&octets, *later).is_some());
        match next {
            Some(next) => {
                if at > 0 {
                    wrong.push((at, "the checksum of an entry is wrong"));
                }
                at = next;
            }
            None => {
                wrong.extend(may_be_torn(&octets, at).err().map(|problem| (at, problem)));
                break;
            }
        }
    }
    Ok((found, wrong))
}

/// One whole entry.
struct Entry<'a> {
    content: &'a [u8],
    synced: u64,
}

impl<'a> Entry<'a> {
    fn at(octets: &'a [u8], at: usize) -> Option<Self> {
        let (head, rest) = octets.get(at..)?.split_first_chunk::<HEAD>()?;
        if !is_head(head) {
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

pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
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

    /// Form 1 as versions before this one wrote it: entries may know of less that was synced.
    fn as_form_1(octets: &[u8], synced: impl Fn(usize) -> usize) -> Vec<u8> {
        let mut old = [&octets[..8], &1_u32.to_be_bytes(), &octets[12..HEADER_1]].concat();
        let mut at = HEADER;
        while let Some(entry) = Entry::at(octets, at) {
            let next = at + HEAD + entry.content.len();
            let mut head = octets[at..at + 16].to_vec();
            head[4..12].copy_from_slice(&(synced(old.len()) as u64).to_be_bytes());
            head.extend(crc32fast::hash(&head).to_be_bytes());
            old.extend(head);
            old.extend(entry.content);
            at = next;
        }
        old
    }

    /// The octets of a journal, and where each entry begins and the last ends.
    fn written_out(writes: u8) -> (Vec<u8>, Vec<usize>) {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("journal");
        written(&path, writes);
        let octets = std::fs::read(&path).expect("readable");
        let mut places = vec![HEADER];
        while let Some(entry) = Entry::at(&octets, *places.last().expect("one")) {
            places.push(places[places.len() - 1] + HEAD + entry.content.len());
        }
        assert_eq!(places.len(), usize::from(writes) + 1);
        (octets, places)
    }

    #[test]
    fn an_end_torn_by_sectors_is_left_out_and_written_over() {
        let lies_in_two =
            |places: &[usize], last: usize| places[last] / SECTOR < (places[last + 1] - 1) / SECTOR;
        let (_, places) = written_out(90);
        let last = (60..90).find(|n| lies_in_two(&places, *n)).expect("one");
        let (whole, places) = written_out(last as u8 + 1);
        let (begins, ends) = (places[last], places[last + 1]);
        let boundary = (begins / SECTOR + 1) * SECTOR;
        for lost in [begins..boundary, boundary..ends, begins..ends] {
            let mut torn = whole.clone();
            torn[lost.clone()].fill(0);
            let found = parse(&torn).expect("a torn end");
            assert_eq!(
                (found.records.len(), found.length),
                (2 * last, begins as u64),
                "{lost:?}"
            );

            let home = tempfile::tempdir().expect("a directory");
            let path = home.path().join("journal");
            std::fs::write(&path, &torn).expect("written");
            let mut journal = Journal::open(&path, &found).expect("opens");
            let once_more = read(&path).expect("readable").expect("there");
            assert_eq!(once_more, found);
            journal.write(&[put(5)]).expect("written");
            let found = read(&path).expect("readable").expect("there");
            assert_eq!(found.records.len(), 2 * last + 1);
        }
    }

    #[test]
    fn a_file_that_was_cut_off_anywhere_is_damaged() {
        let (whole, places) = written_out(6);
        let ends = places[6];
        for length in 0..ends + HEAD {
            assert!(
                parse(&whole[..length]).is_err(),
                "{length} octets of {ends}"
            );
        }
        assert!(parse(&whole[..ends + HEAD]).is_ok());
    }

    #[test]
    fn a_flipped_bit_anywhere_is_damage_in_the_last_entry_too() {
        let (whole, places) = written_out(6);
        for at in 0..places[6] + HEAD {
            for bit in [0, 4, 7] {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << bit;
                assert!(parse(&damaged).is_err(), "octet {at}");
            }
        }
    }

    #[test]
    fn what_is_readable_of_a_damaged_journal_is_salvaged_and_the_rest_is_named() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("journal");
        let (mut octets, places) = written_out(6);
        octets[places[2] + HEAD + 2] ^= 1;
        octets[places[5] + HEAD + 2] ^= 1;
        std::fs::write(&path, &octets).expect("written");
        let (found, wrong) = salvage(&path).expect("readable");
        assert_eq!(found.len(), 8);
        let places_of =
            |wrong: &[(usize, &str)]| wrong.iter().map(|(at, _)| *at).collect::<Vec<_>>();
        assert_eq!(places_of(&wrong), [places[2], places[5]]);
        octets[0] = b'x';
        std::fs::write(&path, &octets).expect("written");
        let (found, wrong) = salvage(&path).expect("readable");
        assert_eq!((found.len(), wrong[0].0), (8, 0), "without its header, too");
    }

    #[test]
    fn form_1_is_read_with_whatever_its_writer_had_not_synced_yet() {
        let (whole, _) = written_out(6);
        let synced = as_form_1(&whole, |at| at);
        let found = parse(&synced).expect("readable");
        assert_eq!((found.checkpoint, found.records.len()), (7, 12));
        assert_eq!(
            parse(&synced[..synced.len() - 3])
                .expect("torn")
                .records
                .len(),
            10
        );
        let mut damaged = synced.clone();
        damaged[HEADER_1 + HEAD + 3] ^= 1;
        assert!(
            parse(&damaged).is_err(),
            "before entries that knew it to be synced"
        );

        let unsynced = as_form_1(&whole, |_| HEADER_1);
        let mut torn = unsynced.clone();
        torn[HEADER_1 + HEAD + 3] ^= 1;
        assert!(parse(&torn).expect("torn").records.is_empty());

        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("journal");
        std::fs::write(&path, &synced).expect("written");
        let found = read(&path).expect("readable").expect("there");
        let mut journal = Journal::open(&path, &found).expect("opens");
        journal.write(&[put(9)]).expect("it is gone on with");
        let found = read(&path).expect("readable").expect("there");
        assert_eq!(found.records.len(), 13);
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
