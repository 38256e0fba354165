//! Whether a store is sound. In: its directory. Out: what each file is like, and what that comes to. Changes nothing; the database
//! is looked at in a copy, since opening it writes to it.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};

use super::{CareError, Pace, failed};
use crate::store::journal;
use crate::store::layout::{Files, Layout};
use crate::store::local::Latest;
use crate::store::sled::Database;
use crate::store::snapshot::{self, Overlay};
use crate::store::{Records, rebuild, record};

/// A file, or the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    pub bytes: u64,
    pub records: u64,
    /// What is wrong with it.
    pub problem: Option<String>,
    /// Why it was not looked at.
    pub skipped: Option<String>,
}

/// What a store comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is as it was written.
    Sound,
    /// Something is damaged, and everything that was acknowledged is there all the same.
    Whole,
    /// Something that was acknowledged is not there, or cannot be shown to be.
    Lost,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub parts: Vec<Part>,
    pub verdict: Verdict,
    /// What is wrong with the whole.
    pub problems: Vec<String>,
}

/// One way to everything that was written: its digest, or why it leads nowhere.
type Way = Result<[u8; 32], String>;

/// Reads everything and holds it against each other.
pub fn verify(data_dir: &Path) -> Result<Verified, CareError> {
    let layout = Layout::new(data_dir);
    if layout.is_new().unwrap_or(true) {
        return Err(CareError::Missing(data_dir.display().to_string()));
    }
    let io = |error: std::io::Error| failed(data_dir, error.to_string());
    let files = layout.scan().map_err(io)?;
    let mut verified = Verified {
        parts: Vec::new(),
        verdict: Verdict::Sound,
        problems: Vec::new(),
    };
    for number in files.snapshots.keys() {
        let path = layout.snapshot(*number);
        let read = snapshot::read(&path, Some(*number), |key, value| {
            record::check(&key, &value)
        });
        verified.add(&path, read.map(|summary| summary.records));
    }
    for number in files.journals.keys() {
        let path = layout.kept(*number);
        verified.add(&path, journal_records(&path, Some(*number)));
    }
    verified.add(&layout.journal(), journal_records(&layout.journal(), None));
    let acknowledged = rebuild::acknowledged(&layout);
    let one = acknowledged.clone().map(|_| 1);
    if layout.acknowledged().exists() {
        verified.add(&layout.acknowledged(), one);
    }
    let by_snapshot = chain_way(&layout, &files, acknowledged.clone());
    let by_database = verified.database(&layout, &files, acknowledged);
    verified.conclude(by_snapshot, by_database);
    Ok(verified)
}

impl Verified {
    fn add(&mut self, path: &Path, records: Result<u64, String>) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.parts.push(Part {
            name: name.into_owned(),
            bytes: path.metadata().map_or(0, |metadata| metadata.len()),
            records: *records.as_ref().unwrap_or(&0),
            problem: records.err(),
            skipped: None,
        });
    }

    /// Looks at the database, unless a service has it; none if it was not looked at.
    fn database(
        &mut self,
        layout: &Layout,
        files: &Files,
        acknowledged: Result<u64, String>,
    ) -> Option<Way> {
        let part = |records, problem, skipped| Part {
            name: "db".to_owned(),
            bytes: size_of(&layout.db()),
            records,
            problem,
            skipped,
        };
        let lock = File::open(layout.lock());
        let is_free = |lock: &File| flock(lock, FlockOperation::NonBlockingLockExclusive).is_ok();
        let Some(_lock) = lock.ok().filter(is_free) else {
            let skipped = "a running bootjackd has it".to_owned();
            self.parts.push(part(0, None, Some(skipped)));
            return None;
        };
        let copy = layout.dir().join("db.verify");
        let (mut records, mut way) = (0, Err(String::new()));
        let looked = (rebuild::remove_dir(&copy).map_err(|error| error.to_string()))
            .and_then(|()| copy_dir(&layout.db(), &copy).map_err(|error| error.to_string()))
            .and_then(|()| {
                let database = Database::open(&copy)?;
                database.each(|_, _| {
                    records += 1;
                    Ok(())
                })?;
                way = database_way(layout, files, &database, acknowledged);
                Ok(())
            });
        let _ = rebuild::remove_dir(&copy);
        if let Err(problem) = &looked {
            way = Err(problem.clone());
        }
        let problem = looked.err().or_else(|| way.clone().err());
        self.parts.push(part(records, problem, None));
        Some(way)
    }

    fn conclude(&mut self, by_snapshot: Way, by_database: Option<Way>) {
        let is_damaged = self.parts.iter().any(|part| part.problem.is_some());
        let (verdict, problem) = match (by_snapshot, by_database) {
            (Ok(one), Some(Ok(other))) if one != other => (
                Verdict::Lost,
                Some("database and snapshots do not say the same".to_owned()),
            ),
            (Ok(_), None | Some(Ok(_))) if !is_damaged => (Verdict::Sound, None),
            (Ok(_), _) => (Verdict::Whole, None),
            (Err(problem), Some(Ok(_))) => (Verdict::Whole, Some(problem)),
            (Err(problem), None | Some(Err(_))) => (Verdict::Lost, Some(problem)),
        };
        self.verdict = verdict;
        self.problems.extend(problem);
    }
}

fn journal_records(path: &Path, number: Option<u64>) -> Result<u64, String> {
    let found = journal::read(path).map_err(|error| error.to_string())?;
    let found = found.ok_or("it is missing")?;
    if number.is_some_and(|number| number != found.checkpoint) {
        return Err(format!("it is that of number {}", found.checkpoint));
    }
    for (key, value) in &found.records {
        if let Some(value) = value {
            record::check(key, value)?;
        }
    }
    Ok(found.records.len() as u64)
}

/// The digest of what the first chain that is sound comes to.
fn chain_way(layout: &Layout, files: &Files, acknowledged: Result<u64, String>) -> Way {
    let current = (journal::read(&layout.journal()).map_err(|error| error.to_string())?)
        .ok_or("its file journal is missing")?;
    let mut problem = "no snapshot and journals lead to the current journal".to_owned();
    for chain in files.chains(current.checkpoint) {
        let way = snapshot::latest(layout, &chain.journals).and_then(|mut newer| {
            newer.extend(current.records.iter().cloned());
            let mut digest = Content::default();
            let base = snapshot::base(layout, &chain, &Pace::default())?;
            snapshot::merge(base, &newer, |key, value| digest.take(key, value))?;
            digest.end(acknowledged.clone()?)
        });
        match way {
            Ok(digest) => return Ok(digest),
            Err(text) => problem = text,
        }
    }
    Err(problem)
}

/// The digest of what the database and the journals that it does not have come to.
fn database_way(
    layout: &Layout,
    files: &Files,
    database: &Database,
    acknowledged: Result<u64, String>,
) -> Way {
    let current = (journal::read(&layout.journal()).map_err(|error| error.to_string())?)
        .ok_or("its file journal is missing")?;
    let caught_up = database.checkpoint()?;
    let journals: Vec<u64> = (caught_up..current.checkpoint).collect();
    let is_there = |number: &u64| files.journals.contains_key(number);
    if caught_up > current.checkpoint || !journals.iter().all(is_there) {
        return Err(format!(
            "it ends at checkpoint {caught_up}, which does not lead to {}",
            current.checkpoint
        ));
    }
    let mut newer: Latest = snapshot::latest(layout, &journals)?;
    newer.extend(current.records);
    let mut digest = Content::default();
    let mut give = |key: &[u8], value: &[u8]| digest.take(key, value);
    let mut overlay = Overlay::new(&newer);
    database.each(|key, value| overlay.pass(key, value, &mut give))?;
    overlay.end(&mut give)?;
    digest.end(acknowledged?)
}

/// Of records, in the order of their keys.
#[derive(Default)]
struct Content {
    digest: Sha256,
    revision: u64,
}

impl Content {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        self.revision = record::revision(key, value).unwrap_or(self.revision);
        record::decode(key, value, &mut Records::default())?;
        for octets in [key, value] {
            self.digest.update((octets.len() as u64).to_be_bytes());
            self.digest.update(octets);
        }
        Ok(())
    }

    fn end(self, acknowledged: u64) -> Way {
        if self.revision < acknowledged {
            return Err(rebuild::behind(self.revision, acknowledged));
        }
        Ok(self.digest.finalize().into())
    }
}

fn copy_dir(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let there = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_dir(&entry.path(), &there)?,
            false => drop(std::fs::copy(entry.path(), there)?),
        }
    }
    Ok(())
}

fn size_of(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| Some(entry.metadata().ok()?.len()));
    sizes.sum()
}
