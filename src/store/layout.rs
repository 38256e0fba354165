//! The files of a local store, and which of them lead to what was written. In: the directory. Out: names and numbers.
//!
//! | file | what |
//! |---|---|
//! | `lock` | held by the one process that has the store open |
//! | `journal` | what is written now; its number says which checkpoint came before it |
//! | `journal-0000000007` | the journal of that number, whole |
//! | `snapshot-0000000007` | everything from before the journal of that number |
//! | `acknowledged` | the last revision that somebody was told of |
//! | `db/` | sled |
//! | `db.broken-<time>/` | a database that was of no use any more, and was rebuilt |
//!
//! A chain is a snapshot and all journals from its number on, or all journals there ever were: what was written, with or without
//! the database.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::journal::{self, JournalError};

const JOURNAL: &str = "journal";
const NEW_JOURNAL: &str = "journal.new";
/// What versions before this one called the journal before the current one.
const SEALED: &str = "journal.sealed";
const KEPT: &str = "journal-";
const SNAPSHOT: &str = "snapshot-";

/// The directory of a store.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    dir: PathBuf,
}

/// What is there beside the current journal: octets by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Files {
    pub journals: BTreeMap<u64, u64>,
    pub snapshots: BTreeMap<u64, u64>,
}

/// What leads to everything that was written before the journal of number `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// The snapshot it begins with; none if it begins with nothing.
    pub snapshot: Option<u64>,
    /// The journals after it, in order; the current one is not among them.
    pub journals: Vec<u64>,
}

impl Layout {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    pub(super) fn db(&self) -> PathBuf {
        self.dir.join("db")
    }

    /// Where a database is made anew.
    pub(super) fn new_db(&self) -> PathBuf {
        self.dir.join("db.new")
    }

    pub(super) fn acknowledged(&self) -> PathBuf {
        self.dir.join("acknowledged")
    }

    /// The current journal.
    pub(super) fn journal(&self) -> PathBuf {
        self.dir.join(JOURNAL)
    }

    pub(super) fn kept(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{KEPT}{number:010}"))
    }

    pub(super) fn snapshot(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{SNAPSHOT}{number:010}"))
    }

    /// Ends what a crash has left half done to the names, and takes over those of versions before this one.
    pub(super) fn settle(&self) -> Result<(), JournalError> {
        let io = |error| JournalError::Io {
            path: self.dir.clone(),
            error,
        };
        let sealed = self.dir.join(SEALED);
        if let Some(number) = journal::number_of(&sealed)? {
            std::fs::rename(&sealed, self.kept(number)).map_err(io)?;
        }
        // Between two renames the current journal has no name; the one that follows it is there already.
        let new = self.dir.join(NEW_JOURNAL);
        let last = self
            .scan()
            .map_err(io)?
            .journals
            .last_entry()
            .map(|e| *e.key());
        let is_missing = !self.journal().try_exists().map_err(io)?;
        if is_missing
            && let Ok(Some(number)) = journal::number_of(&new)
            && last == number.checked_sub(1)
        {
            std::fs::rename(&new, self.journal()).map_err(io)?;
            journal::sync_directory(&new).map_err(io)?;
        }
        Ok(())
    }

    /// Removes what an interrupted import or a restored file has left behind: it would be taken for what comes later.
    pub(super) fn forget_what_is_ahead_of(&self, current: u64) -> io::Result<()> {
        let files = self.scan()?;
        for (number, _) in files.journals.range(current..) {
            std::fs::remove_file(self.kept(*number))?;
        }
        for (number, _) in files.snapshots.range(current + 1..) {
            std::fs::remove_file(self.snapshot(*number))?;
        }
        Ok(())
    }

    /// When the newest snapshot was taken, as far as the clock can say.
    pub(super) fn last_snapshot(&self) -> io::Result<Option<Instant>> {
        let Some((number, _)) = self.scan()?.snapshots.pop_last() else {
            return Ok(None);
        };
        let age = self.snapshot(number).metadata()?.modified()?.elapsed();
        Ok(Instant::now().checked_sub(age.unwrap_or_default()))
    }

    /// What is there.
    pub(super) fn scan(&self) -> io::Result<Files> {
        let mut files = Files::default();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let octets = entry.metadata()?.len();
            let number = |prefix: &str| name.strip_prefix(prefix)?.parse().ok();
            if let Some(number) = number(KEPT) {
                files.journals.insert(number, octets);
            } else if let Some(number) = number(SNAPSHOT) {
                files.snapshots.insert(number, octets);
            }
        }
        Ok(files)
    }

    /// Whether nothing was ever written here.
    pub(super) fn is_new(&self) -> io::Result<bool> {
        let there = [self.journal(), self.acknowledged(), self.db()];
        for path in there {
            if path.try_exists()? {
                return Ok(false);
            }
        }
        Ok(self.scan()? == Files::default())
    }
}

impl Files {
    /// What leads to everything from before the journal of number `to`, the shortest way first.
    pub(super) fn chains(&self, to: u64) -> Vec<Chain> {
        let to_there = |from: u64| {
            let journals: Vec<u64> = (from..to).collect();
            let is_whole = journals
                .iter()
                .all(|number| self.journals.contains_key(number));
            is_whole.then_some(journals)
        };
        let from_snapshots = (self.snapshots.range(..=to).rev()).filter_map(|(&number, _)| {
            Some(Chain {
                snapshot: Some(number),
                journals: to_there(number)?,
            })
        });
        let from_nothing = to_there(0).map(|journals| Chain {
            snapshot: None,
            journals,
        });
        from_snapshots.chain(from_nothing).collect()
    }

    /// The journals from this number on, and how many octets they have.
    pub(super) fn since(&self, number: u64) -> (usize, u64) {
        let since = self.journals.range(number..);
        (since.clone().count(), since.map(|(_, octets)| octets).sum())
    }

    /// Files that no chain needs which begins with one of the two newest snapshots.
    pub(super) fn unneeded(&self, layout: &Layout) -> Vec<PathBuf> {
        let Some((&oldest_needed, _)) = self.snapshots.iter().rev().nth(1) else {
            return Vec::new();
        };
        let journals = self.journals.range(..oldest_needed);
        let snapshots = self.snapshots.range(..oldest_needed);
        (journals.map(|(number, _)| layout.kept(*number)))
            .chain(snapshots.map(|(number, _)| layout.snapshot(*number)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(journals: &[u64], snapshots: &[u64]) -> Files {
        let of = |numbers: &[u64]| numbers.iter().map(|number| (*number, 10)).collect();
        Files {
            journals: of(journals),
            snapshots: of(snapshots),
        }
    }

    fn chain(snapshot: Option<u64>, journals: &[u64]) -> Chain {
        Chain {
            snapshot,
            journals: journals.to_vec(),
        }
    }

    #[test]
    fn a_chain_has_every_journal_from_its_snapshot_on() {
        assert_eq!(files(&[], &[]).chains(0), [chain(None, &[])]);
        assert_eq!(files(&[0, 1], &[]).chains(2), [chain(None, &[0, 1])]);
        assert_eq!(
            files(&[3, 4, 5], &[3, 5, 9]).chains(6),
            [chain(Some(5), &[5]), chain(Some(3), &[3, 4, 5])]
        );
        assert_eq!(files(&[3, 5], &[3, 5]).chains(6), [chain(Some(5), &[5])]);
        assert_eq!(files(&[3, 4], &[3]).chains(6), []);
    }

    #[test]
    fn two_snapshots_and_the_journals_since_the_older_one_are_kept() {
        let layout = Layout::new(Path::new("/s"));
        assert!(files(&[0, 1], &[1]).unneeded(&layout).is_empty());
        let gone = files(&[2, 3, 4, 5], &[1, 3, 5]).unneeded(&layout);
        assert_eq!(gone, [layout.kept(2), layout.snapshot(1)]);
    }
}
