//! Snapshots: everything that was written before a journal, in one file, in the text of `export`. In: the snapshot before and the
//! journals since. Out: the next one, which was read back and found sound before it has its name. The database is not asked, so
//! that what is wrong with it does not get into the snapshots.

use std::collections::btree_map;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Write as _};
use std::iter::Peekable;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{Advice, fadvise};

use super::courtesy::{PIECE, Pace, Paced};
use super::export::{Decoder, Encoder, Summary};
use super::journal;
use super::layout::{Chain, Layout};
use super::local::Latest;

/// How much of journals is put into a snapshot at once: what is in memory meanwhile.
const MOST_AT_ONCE: u64 = 64 << 20;

/// What a snapshot is written to.
pub(super) type To = Encoder<BufWriter<Paced>>;

/// Writes a snapshot of this number, or an export if it has none, under a name that it gets when it has been read back.
pub(super) fn write(
    path: &Path,
    number: Option<u64>,
    pace: &Pace,
    fill: impl FnOnce(&mut To) -> Result<(), String>,
) -> Result<Summary, String> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    let written = write_new(new, number, pace, fill).and_then(|summary| {
        (std::fs::rename(new, path).and_then(|()| journal::sync_directory(path)))
            .map_err(|error| error.to_string())?;
        Ok(summary)
    });
    if written.is_err() {
        // It may be large, and the disk full.
        let _ = std::fs::remove_file(new);
    }
    written.map_err(|problem| format!("{}: {problem}", path.display()))
}

fn write_new(
    new: &Path,
    number: Option<u64>,
    pace: &Pace,
    fill: impl FnOnce(&mut To) -> Result<(), String>,
) -> Result<Summary, String> {
    let io = |error: std::io::Error| error.to_string();
    let file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(new)
        .map_err(io)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_secs = now.map_or(0, |since| since.as_secs());
    let to = BufWriter::with_capacity(PIECE, Paced::new(file, pace.clone()));
    let mut to = Encoder::begin(to, number, now_secs).map_err(io)?;
    fill(&mut to)?;
    let (mut to, summary) = to.end().map_err(io)?;
    to.flush().map_err(io)?;
    let file = &to.get_ref().file;
    file.sync_all().map_err(io)?;
    // It is to be read from the disk and not from what is still in memory.
    let _ = fadvise(file, 0, None, Advice::DontNeed);
    let back = File::open(new).map_err(io)?;
    match read_file(Paced::new(back, pace.clone()), number, |_, _| Ok(())) {
        Ok(read) if read == summary => Ok(summary),
        Ok(_) => Err("what was read back is not what was written".to_owned()),
        Err(problem) => Err(format!("read back: {problem}")),
    }
}

/// Reads the snapshot of this number in the order of its keys. What was given is sound once this returns.
pub(super) fn read(
    path: &Path,
    number: Option<u64>,
    give: impl FnMut(Vec<u8>, Vec<u8>) -> Result<(), String>,
) -> Result<Summary, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    read_file(Paced::new(file, Pace::default()), number, give)
}

fn read_file(
    file: Paced,
    number: Option<u64>,
    mut give: impl FnMut(Vec<u8>, Vec<u8>) -> Result<(), String>,
) -> Result<Summary, String> {
    let mut decoder =
        Decoder::begin(BufReader::with_capacity(PIECE, file)).map_err(|error| error.to_string())?;
    if decoder.checkpoint() != number {
        return Err(format!(
            "it is of checkpoint {:?}, wanted {number:?}",
            decoder.checkpoint()
        ));
    }
    while let Some((key, value)) = decoder.next().map_err(|error| error.to_string())? {
        give(key, value)?;
    }
    Ok(decoder.summary().clone())
}

/// A snapshot that is held open: it can be read though it is removed meanwhile.
pub(super) struct Base {
    number: u64,
    path: PathBuf,
    file: Paced,
}

/// Opens the snapshot that a chain begins with.
pub(super) fn base(layout: &Layout, chain: &Chain, pace: &Pace) -> Result<Option<Base>, String> {
    let open = |number| {
        let path = layout.snapshot(number);
        let file = File::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let file = Paced::new(file, pace.clone());
        Ok(Base { number, path, file })
    };
    chain.snapshot.map(open).transpose()
}

/// Gives everything that a snapshot, or nothing, and what was written since add up to, in the order of the keys.
pub(super) fn merge(
    base: Option<Base>,
    newer: &Latest,
    mut give: impl FnMut(&[u8], &[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let mut overlay = Overlay::new(newer);
    if let Some(Base { number, path, file }) = base {
        read_file(file, Some(number), |key, value| {
            overlay.pass(&key, &value, &mut give)
        })
        .map_err(|problem| format!("{}: {problem}", path.display()))?;
    }
    overlay.end(&mut give)
}

/// What is newer, laid over what is older: both in the order of their keys.
pub(super) struct Overlay<'a> {
    newer: Peekable<btree_map::Iter<'a, Vec<u8>, Option<Vec<u8>>>>,
}

/// What takes a key and its value.
type Give<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), String>;

impl<'a> Overlay<'a> {
    pub(super) fn new(newer: &'a Latest) -> Self {
        Self {
            newer: newer.iter().peekable(),
        }
    }

    /// Gives what comes before an older record, and it, unless there is a newer one.
    pub(super) fn pass(&mut self, key: &[u8], value: &[u8], give: Give) -> Result<(), String> {
        while let Some((first, latest)) = self.newer.next_if(|(first, _)| first.as_slice() < key) {
            if let Some(latest) = latest {
                give(first, latest)?;
            }
        }
        match self.newer.next_if(|(first, _)| first.as_slice() == key) {
            Some((_, Some(latest))) => give(key, latest),
            Some((_, None)) => Ok(()),
            None => give(key, value),
        }
    }

    /// Gives the rest.
    pub(super) fn end(self, give: Give) -> Result<(), String> {
        for (key, latest) in self.newer {
            if let Some(latest) = latest {
                give(key, latest)?;
            }
        }
        Ok(())
    }
}

/// What these journals say last of each key.
pub(super) fn latest(layout: &Layout, journals: &[u64]) -> Result<Latest, String> {
    let mut latest = Latest::new();
    for number in journals {
        let path = layout.kept(*number);
        let found = journal::read(&path).map_err(|error| error.to_string())?;
        let found = found.ok_or_else(|| format!("{} is missing", path.display()))?;
        if found.checkpoint != *number {
            return Err(format!(
                "{} is the journal of number {}",
                path.display(),
                found.checkpoint
            ));
        }
        latest.extend(found.records);
    }
    Ok(latest)
}

/// Writes the next snapshot of a chain; answers its number. It has all of the chain's journals, or as many as fit into memory.
pub(super) fn advance(layout: &Layout, chain: &Chain, pace: &Pace) -> Result<Option<u64>, String> {
    let mut octets = 0;
    let fits = |number: &&u64| {
        let size = layout.kept(**number).metadata().map_or(0, |m| m.len());
        let is_first = octets == 0;
        octets += size;
        is_first || octets <= MOST_AT_ONCE
    };
    let journals: Vec<u64> = chain.journals.iter().take_while(fits).copied().collect();
    let Some(number) = journals.last().map(|last| last + 1) else {
        return Ok(None);
    };
    let newer = latest(layout, &journals)?;
    let base = base(layout, chain, pace)?;
    write(&layout.snapshot(number), Some(number), pace, |to| {
        merge(base, &newer, |key, value| {
            to.put(key, value).map_err(|error| error.to_string())
        })
    })?;
    Ok(Some(number))
}
