//! Saving what can be saved. In: a store that does not open. Out: one that does, and a list of what was lost; what was there
//! before is moved aside as it is. A store that opens, or whose database alone is broken, loses nothing here.

use std::path::{Path, PathBuf};

use super::{CareError, failed, install, next_number, now_secs, put};
use crate::store::journal;
use crate::store::layout::{Files, Layout};
use crate::store::local::{Latest, Local, lock};
use crate::store::sled::Database;
use crate::store::{Backend as _, StoreError};
use crate::store::{rebuild, record, snapshot};

/// What can be saved, or was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// What it was made of.
    pub sources: Vec<String>,
    /// What was lost, as far as that can be said.
    pub lost: Vec<String>,
    pub records: usize,
    /// Where the files are that were there before; none if nothing was done yet.
    pub aside: Option<PathBuf>,
}

/// Does what a start would do: rebuilds the database if it cannot be used. Answers what was done, if anything had to be.
pub fn repair(data_dir: &Path) -> Result<Option<String>, StoreError> {
    let mut store = Local::open(data_dir, std::time::Duration::MAX)?;
    let rebuilt = store.health().rebuilt;
    store.close();
    Ok(rebuilt)
}

/// Says what is readable of a store that does not open; with `do_it`, makes a store of that.
pub fn salvage(data_dir: &Path, do_it: bool) -> Result<Saved, CareError> {
    let _lock = lock(data_dir)?;
    let layout = Layout::new(data_dir);
    let wrong = |problem: String| failed(data_dir, problem);
    let files = layout.scan().map_err(|error| wrong(error.to_string()))?;
    let mut saved = Saved::default();
    let (mut state, from) = best_base(&layout, &files, &mut saved);
    add_journals(&layout, &files, from, &mut state, &mut saved);
    state.retain(|_, value| value.is_some());
    drop_what_makes_no_sense(&mut state, &mut saved);
    let revision = settle_revision(&layout, &mut state, &mut saved);
    saved.records = state.len();
    if !do_it {
        return Ok(saved);
    }
    let (key, value) =
        record::encode(&crate::store::RecordChange::Revision(revision)).map_err(wrong)?;
    state.insert(key, value);
    let number = next_number(&layout).map_err(wrong)?;
    let aside = data_dir.join(format!("broken-{}", now_secs()));
    move_aside(&layout, &files, &aside).map_err(|error| wrong(error.to_string()))?;
    saved.aside = Some(aside);
    install(&layout, number, |to| {
        snapshot::merge(None, &state, |key, value| put(to, key, value))
    })
    .map_err(wrong)?;
    Ok(saved)
}

/// What is newest of the snapshots and the database, and the number of the first journal that is not in it.
fn best_base(layout: &Layout, files: &Files, saved: &mut Saved) -> (Latest, u64) {
    let mut best = (Latest::new(), 0);
    let mut best_source = None;
    let mut consider = |name: String, number: u64, state: Latest, problem: Option<String>| {
        let is_sound = problem.is_none();
        if let Some(problem) = problem {
            saved.lost.push(format!("{name}: {problem}"));
        }
        let is_better = best_source.is_none() || is_sound && number >= best.1;
        if is_better && !state.is_empty() {
            best = (state, number);
            best_source = Some(name);
        }
    };
    for number in files.snapshots.keys() {
        let path = layout.snapshot(*number);
        let mut state = Latest::new();
        let read = snapshot::read(&path, Some(*number), |key, value| {
            state.insert(key, Some(value));
            Ok(())
        });
        consider(format!("snapshot-{number:010}"), *number, state, read.err());
    }
    if layout.db().exists() {
        let mut state = Latest::new();
        let number = Database::open(&layout.db()).and_then(|database| {
            database.each(|key, value| {
                state.insert(key.to_vec(), Some(value.to_vec()));
                Ok(())
            })?;
            database.checkpoint()
        });
        let (number, problem) = number.map_or_else(|p| (0, Some(p)), |n| (n, None));
        consider("db".to_owned(), number, state, problem);
    }
    saved.sources.extend(best_source);
    best
}

/// Lays every entry that is readable over the state, from the journal of this number on.
fn add_journals(layout: &Layout, files: &Files, from: u64, state: &mut Latest, saved: &mut Saved) {
    let current = journal::number_of(&layout.journal()).ok().flatten();
    let last = files.journals.last_key_value().map(|(number, _)| *number);
    let to = current.or(last.map(|last| last + 1)).unwrap_or(from);
    let journals = (from..to).map(|number| (format!("journal-{number:010}"), layout.kept(number)));
    let newest = ("journal".to_owned(), layout.journal());
    for (name, path) in journals.chain([newest]) {
        if !path.exists() {
            saved.lost.push(format!("{name}: it is missing"));
            continue;
        }
        match journal::salvage(&path) {
            Ok((records, wrong)) => {
                let places = wrong.iter();
                saved
                    .lost
                    .extend(places.map(|(at, problem)| format!("{name}: octet {at}: {problem}")));
                if !records.is_empty() {
                    saved.sources.push(name);
                }
                state.extend(records);
            }
            Err(error) => saved.lost.push(format!("{name}: {error}")),
        }
    }
}

fn drop_what_makes_no_sense(state: &mut Latest, saved: &mut Saved) {
    state.retain(|key, value| {
        let checked = value
            .as_deref()
            .map_or(Ok(()), |value| record::check(key, value));
        saved.lost.extend(checked.clone().err());
        checked.is_ok()
    });
}

/// The revision to go on with: none that somebody was told of is given out again.
fn settle_revision(layout: &Layout, state: &mut Latest, saved: &mut Saved) -> u64 {
    let found = (state.iter())
        .find_map(|(key, value)| record::revision(key, value.as_deref()?))
        .unwrap_or_default();
    let acknowledged = rebuild::acknowledged(layout).unwrap_or_else(|problem| {
        saved.lost.push(problem);
        found
    });
    if found < acknowledged {
        saved.lost.push(format!(
            "revisions {} to {acknowledged} were acknowledged, and are not there",
            found + 1
        ));
    }
    found.max(acknowledged)
}

fn move_aside(layout: &Layout, files: &Files, aside: &Path) -> std::io::Result<()> {
    std::fs::create_dir(aside)?;
    let journals = files.journals.keys().map(|number| layout.kept(*number));
    let snapshots = files
        .snapshots
        .keys()
        .map(|number| layout.snapshot(*number));
    let others = [layout.journal(), layout.db(), layout.acknowledged()];
    for path in journals.chain(snapshots).chain(others) {
        if path.exists() {
            std::fs::rename(&path, aside.join(path.file_name().unwrap_or_default()))?;
        }
    }
    journal::sync_directory(aside)
}
