//! Opening a local store, whatever state its database is in. In: the files. Out: the records and an open database; or, where
//! something that was acknowledged cannot be found again, a refusal that says what to do.
//!
//! The database is used if it is as far as it has to be, with the journals that it does not have yet. Where it does not open, or
//! has lost something, it is moved aside and made anew of a snapshot and the journals since, before anything is served.

use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::courtesy::Pace;
use super::journal::{self, Found};
use super::layout::{Chain, Files, Layout};
use super::local::Latest;
use super::sled::Database;
use super::{Records, acknowledged, decoding, record, snapshot};

const REPAIR: &str =
    "see what can be saved with: bootjackd store verify, then repair; or restore a backup";

/// A store that was opened.
pub(super) struct Loaded {
    pub database: Database,
    /// The checkpoint that the database has.
    pub caught_up: u64,
    /// The journal that is to be gone on with; its records are in `ahead`.
    pub current: Found,
    /// What the database does not have.
    pub ahead: Latest,
    pub records: Records,
    /// Why the database had to be made anew, if it had.
    pub rebuilt: Option<String>,
}

/// Opens the database, or makes it anew.
pub(super) fn load_or_rebuild(layout: &Layout) -> Result<Loaded, String> {
    let acknowledged = acknowledged(layout)?;
    let mut current = (journal::read(&layout.journal()))
        .map_err(|error| format!("{error}: what was written last cannot be read; {REPAIR}"))?
        .ok_or_else(|| {
            format!("its file journal is missing, and with it what was written last; {REPAIR}")
        })?;
    let newest: Latest = std::mem::take(&mut current.records).into_iter().collect();
    let problem = match load(layout, &current, newest.clone(), acknowledged) {
        Ok(loaded) => return Ok(loaded),
        Err(problem) => problem,
    };
    let from = rebuild(layout, &current, &newest, acknowledged).map_err(|why| {
        format!("its database cannot be used: {problem}; and it cannot be rebuilt: {why}; {REPAIR}")
    })?;
    let mut loaded = load(layout, &current, newest, acknowledged)?;
    loaded.rebuilt = Some(format!(
        "its database could not be used: {problem}; it was rebuilt from {}, nothing that was acknowledged is lost; the old one is kept as {}",
        from.source,
        from.aside.as_deref().unwrap_or("nothing: there was none")
    ));
    Ok(loaded)
}

fn load(
    layout: &Layout,
    current: &Found,
    newest: Latest,
    acknowledged: u64,
) -> Result<Loaded, String> {
    let files = layout.scan().map_err(|error| error.to_string())?;
    if !files.snapshots.is_empty() && !layout.db().exists() {
        return Err("there is none".to_owned());
    }
    let database = Database::open(&layout.db())?;
    let caught_up = database.checkpoint()?;
    let journals: Vec<u64> = (caught_up..current.checkpoint).collect();
    if caught_up > current.checkpoint {
        return Err(format!(
            "it is ahead of the journal, which begins at checkpoint {}, with {caught_up}",
            current.checkpoint
        ));
    }
    if let Some(missing) = journals.iter().find(|n| !files.journals.contains_key(n)) {
        return Err(format!(
            "it has lost what was written to it: it ends at checkpoint {caught_up}, and {} was made",
            missing + 1
        ));
    }
    let mut ahead = snapshot::latest(layout, &journals)?;
    ahead.extend(newest);
    let records = decoding::decoded(|to| {
        database.each(|key, value| match ahead.contains_key(key) {
            true => Ok(()),
            false => to.put(key, value),
        })?;
        let ahead = ahead.iter();
        let mut there = ahead.filter_map(|(key, value)| Some((key, value.as_ref()?)));
        there.try_for_each(|(key, value)| to.put(key, value))
    })?;
    if records.revision < acknowledged {
        return Err(behind(records.revision, acknowledged));
    }
    Ok(Loaded {
        database,
        caught_up,
        current: Found {
            records: Vec::new(),
            ..*current
        },
        ahead,
        records,
        rebuilt: None,
    })
}

pub(super) fn behind(revision: u64, acknowledged: u64) -> String {
    format!(
        "it has lost what was written to it: it ends at revision {revision}, and {acknowledged} was acknowledged"
    )
}

/// What a database was made of, and where the one before it is.
struct Rebuilt {
    source: String,
    aside: Option<String>,
}

/// Makes the database anew, and puts it in the place of the one that is there. That is untouched if it cannot be.
fn rebuild(
    layout: &Layout,
    current: &Found,
    newest: &Latest,
    acknowledged: u64,
) -> Result<Rebuilt, String> {
    let files = layout.scan().map_err(|error| error.to_string())?;
    let mut problems = Vec::new();
    for chain in files.chains(current.checkpoint) {
        let made = fill_new(layout, &chain, current.checkpoint, newest, acknowledged);
        match made {
            Ok(()) => {
                let aside = put_in_place(layout).map_err(|error| error.to_string())?;
                return Ok(Rebuilt {
                    source: describe(&chain),
                    aside,
                });
            }
            Err(problem) => problems.push(problem),
        }
    }
    let _ = remove_dir(&layout.new_db());
    match problems.as_slice() {
        [] => Err(no_chain(&files, current.checkpoint)),
        problems => Err(problems.join("; ")),
    }
}

fn no_chain(files: &Files, to: u64) -> String {
    let snapshots: Vec<u64> = files.snapshots.keys().copied().collect();
    let journals: Vec<u64> = files.journals.keys().copied().collect();
    format!(
        "no snapshot and journals lead to checkpoint {to} (snapshots: {snapshots:?}, journals: {journals:?})"
    )
}

/// What a chain is, for people.
pub(super) fn describe(chain: &Chain) -> String {
    let journals = chain.journals.len() + 1;
    match chain.snapshot {
        Some(number) => format!("snapshot {number} and {journals} journals"),
        None => format!("all {journals} journals"),
    }
}

fn fill_new(
    layout: &Layout,
    chain: &Chain,
    number: u64,
    newest: &Latest,
    acknowledged: u64,
) -> Result<(), String> {
    let mut newer = snapshot::latest(layout, &chain.journals)?;
    newer.extend(newest.clone());
    let new = layout.new_db();
    remove_dir(&new).map_err(|error| error.to_string())?;
    let database = Database::open(&new)?;
    let mut filler = database.filler(Pace::default());
    let mut revision = 0;
    snapshot::merge(
        snapshot::base(layout, chain, &Pace::default())?,
        &newer,
        |key, value| {
            revision = record::revision(key, value).unwrap_or(revision);
            filler.put(key, Some(value))
        },
    )?;
    if revision < acknowledged {
        return Err(behind(revision, acknowledged));
    }
    filler.end(number)
}

/// Gives the new database its name; answers the one that the old one has now.
fn put_in_place(layout: &Layout) -> io::Result<Option<String>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    let db = layout.db();
    let name = format!("db.broken-{now}");
    let aside = layout.dir().join(&name);
    let was_there = db.try_exists()?;
    if was_there {
        // Two in one second: the first one is what broke.
        remove_dir(&aside)?;
        std::fs::rename(&db, &aside)?;
    }
    std::fs::rename(layout.new_db(), &db)?;
    journal::sync_directory(&db)?;
    Ok(was_there.then_some(name))
}

pub(super) fn remove_dir(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A snapshot of what the database has, for a store that has none.
pub(super) fn snapshot_of(
    layout: &Layout,
    database: &Database,
    number: u64,
    pace: &Pace,
) -> Result<(), String> {
    snapshot::write(&layout.snapshot(number), Some(number), pace, |to| {
        database.each(|key, value| to.put(key, value).map_err(|error| error.to_string()))
    })
    .map(|_| ())
}

/// The last revision that was acknowledged; 0 if none was, or by a version that did not note it.
pub(super) fn acknowledged(layout: &Layout) -> Result<u64, String> {
    acknowledged::read(&layout.acknowledged()).map_err(|problem| format!("{problem}; {REPAIR}"))
}
