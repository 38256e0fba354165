//! What people do to a local store by hand: copy it, carry it elsewhere, look whether it is sound, and save what can be saved.
//!
//! Copies are made of a snapshot and the journals since, which need no lock: files that are whole never change, and the current
//! journal only grows. So they are made of a running service's store too, and have everything that was acknowledged when they
//! were begun. What replaces a store is written beside it first, and takes its place by one rename: that of the journal.

mod salvage;
mod verify;

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;

pub use self::salvage::{Saved, repair, salvage};
pub use self::verify::{Part, Verdict, Verified, verify};
use super::courtesy::Pace;
use super::export::{self, Encoder, ReadError, Summary};
use super::journal::{self, Journal};
use super::layout::Layout;
use super::local::{self, Latest, Local};
use super::snapshot::Base;
use super::{Backend as _, Records, StoreError, acknowledged, rebuild, record, snapshot};

/// How often a copy is begun anew because the service removed a file that it was about to read.
const TRIES: usize = 10;

/// Why nothing was done.
#[derive(Debug, Error)]
pub enum CareError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("store {0}: there is none here")]
    Missing(String),
    #[error("store {place}: {problem}")]
    Failed { place: String, problem: String },
    #[error("{file}: {error}")]
    Unreadable { file: String, error: ReadError },
    #[error(
        "store {place}: it holds {reservations} reservations and {leases} leases; --replace puts the file in their place, and keeps them in a file of their own"
    )]
    NotEmpty {
        place: String,
        reservations: usize,
        leases: usize,
    },
}

/// Everything that was written, at one moment.
struct Whole {
    base: Option<Base>,
    newer: Latest,
    /// That of the journal that comes next.
    number: u64,
}

impl Whole {
    fn each(self, give: impl FnMut(&[u8], &[u8]) -> Result<(), String>) -> Result<(), String> {
        snapshot::merge(self.base, &self.newer, give)
    }
}

/// Writes everything as text to a file, which has its name when it has been read back.
pub fn export_to(data_dir: &Path, file: &Path) -> Result<Summary, CareError> {
    let whole = whole(data_dir)?;
    let put = |to: &mut snapshot::To| whole.each(|key, value| put(to, key, value));
    snapshot::write(file, None, &Pace::default(), put).map_err(|problem| failed(data_dir, problem))
}

/// Writes everything as text.
pub fn export(data_dir: &Path, to: impl Write) -> Result<Summary, CareError> {
    let io = |error: std::io::Error| failed(data_dir, error.to_string());
    let whole = whole(data_dir)?;
    let mut to = Encoder::begin(to, None, now_secs()).map_err(io)?;
    (whole.each(|key, value| put(&mut to, key, value)))
        .map_err(|problem| failed(data_dir, problem))?;
    Ok(to.end().map_err(io)?.1)
}

/// Makes a store of its own in `to`, which must be empty or missing, with everything in it: a snapshot that was read back.
pub fn backup(data_dir: &Path, to: &Path) -> Result<Summary, CareError> {
    let whole = whole(data_dir)?;
    let _lock = local::lock(to)?;
    let there = Layout::new(to);
    let is_new = there.is_new().map_err(|e| failed(to, e.to_string()))?;
    if !is_new {
        let problem = "a store is here already; name another directory".to_owned();
        return Err(failed(to, problem));
    }
    let number = whole.number;
    let put = |to: &mut snapshot::To| whole.each(|key, value| put(to, key, value));
    install(&there, number, put).map_err(|problem| failed(to, problem))
}

/// What an import has done.
#[derive(Debug)]
pub struct Imported {
    pub records: Records,
    /// Where the state that was there before is now, if there was one.
    pub before: Option<PathBuf>,
}

/// Puts what `from` says, read from `file`, in the place of everything; all of it or nothing.
pub fn import(
    data_dir: &Path,
    file: &str,
    from: impl BufRead,
    replace: bool,
) -> Result<Imported, CareError> {
    let mut records = export::read(from).map_err(|error| CareError::Unreadable {
        file: file.to_owned(),
        error,
    })?;
    let mut store = Local::open(data_dir, Duration::MAX)?;
    let known = store.load()?;
    let is_empty = known.reservations.is_empty() && known.leases.is_empty();
    if !is_empty && !replace {
        return Err(CareError::NotEmpty {
            place: data_dir.display().to_string(),
            reservations: known.reservations.len(),
            leases: known.leases.len(),
        });
    }
    store.close();
    let layout = Layout::new(data_dir);
    let before = data_dir.join(format!("before-import-{}.jsonl", now_secs()));
    if !is_empty {
        export_to(data_dir, &before)?;
    }
    // A revision is never given out twice.
    records.revision = records.revision.max(known.revision);
    let of_all = state_of(&records).map_err(|problem| failed(data_dir, problem))?;
    let number = next_number(&layout).map_err(|problem| failed(data_dir, problem))?;
    // It closes the database, and keeps the lock.
    let _lock = store.into_lock();
    install(&layout, number, |to| {
        snapshot::merge(None, &of_all, |key, value| put(to, key, value))
    })
    .map_err(|problem| failed(data_dir, problem))?;
    Ok(Imported {
        records,
        before: (!is_empty).then_some(before),
    })
}

fn state_of(records: &Records) -> Result<Latest, String> {
    let changes = export::changes(records);
    changes.map(|change| record::encode(&change)).collect()
}

fn put<W: Write>(to: &mut Encoder<W>, key: &[u8], value: &[u8]) -> Result<(), String> {
    to.put(key, value).map_err(|error| error.to_string())
}

/// Everything that is in a store, whether a service runs on it or not.
fn whole(data_dir: &Path) -> Result<Whole, CareError> {
    let layout = Layout::new(data_dir);
    if layout.is_new().unwrap_or(true) {
        return Err(CareError::Missing(data_dir.display().to_string()));
    }
    let mut problem = String::new();
    for _ in 0..TRIES {
        match whole_now(&layout) {
            Ok(whole) => return Ok(whole),
            Err(text) => problem = text,
        }
    }
    Err(failed(
        data_dir,
        format!("{problem}; look at it with: bootjackd store verify"),
    ))
}

fn whole_now(layout: &Layout) -> Result<Whole, String> {
    let current = (journal::read(&layout.journal()).map_err(|error| error.to_string())?)
        .ok_or("its file journal is missing")?;
    let files = layout.scan().map_err(|error| error.to_string())?;
    let chains = files.chains(current.checkpoint);
    let chain = chains.first().ok_or(
        "its journals lead back to no snapshot; the service takes one when it has run for some seconds",
    )?;
    let base = snapshot::base(layout, chain, &Pace::default())?;
    let mut newer = snapshot::latest(layout, &chain.journals)?;
    newer.extend(current.records);
    Ok(Whole {
        base,
        newer,
        number: current.checkpoint + 1,
    })
}

/// A number that no file of the store has, nor the next one.
fn next_number(layout: &Layout) -> Result<u64, String> {
    let files = layout.scan().map_err(|error| error.to_string())?;
    let numbers = files.journals.keys().chain(files.snapshots.keys());
    let current = journal::number_of(&layout.journal()).ok().flatten();
    let last = numbers.copied().max().max(current);
    Ok(last.map_or(0, |last| last + 2))
}

/// Puts a snapshot of this number in the place of everything. Whatever happens, either is there as a whole: the journal's rename
/// decides.
fn install(
    layout: &Layout,
    number: u64,
    fill: impl FnOnce(&mut snapshot::To) -> Result<(), String>,
) -> Result<Summary, String> {
    let io = |error: std::io::Error| error.to_string();
    // It is of what was there before.
    match std::fs::remove_file(layout.acknowledged()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let summary = snapshot::write(
        &layout.snapshot(number),
        Some(number),
        &Pace::default(),
        fill,
    )?;
    Journal::create(&layout.journal(), number).map_err(io)?;
    acknowledged::write(&layout.acknowledged(), summary.revision).map_err(io)?;
    rebuild::remove_dir(&layout.db()).map_err(io)?;
    let files = layout.scan().map_err(io)?;
    for old in files.journals.keys() {
        std::fs::remove_file(layout.kept(*old)).map_err(io)?;
    }
    for (old, _) in files.snapshots.range(..number) {
        std::fs::remove_file(layout.snapshot(*old)).map_err(io)?;
    }
    journal::sync_directory(&layout.journal()).map_err(io)?;
    Ok(summary)
}

fn failed(place: &Path, problem: String) -> CareError {
    CareError::Failed {
        place: place.display().to_string(),
        problem,
    }
}

fn now_secs() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
