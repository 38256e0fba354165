use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::*;
use crate::model::{ClientKey, Lease, LeaseState, MacAddr};

fn put(last: u8, expires_secs: u64) -> RecordChange {
    RecordChange::PutLease(Lease {
        address: Ipv4Addr::new(198, 18, 0, last),
        client: ClientKey::Mac(MacAddr([2, 0, 0, 0, 0, last])),
        state: LeaseState::Bound,
        expires_secs,
        hostname: None,
        reservation: None,
        circuit_id: None,
    })
}

fn delete(last: u8) -> RecordChange {
    RecordChange::DeleteLease(Ipv4Addr::new(198, 18, 0, last))
}

fn open_at(home: &Path) -> Result<Local, StoreError> {
    Local::open(home, Duration::from_secs(3600))
}

/// The leases that a new start finds, as last octet and expiry.
fn found(home: &Path) -> Result<Vec<(u8, u64)>, StoreError> {
    let records = open_at(home)?.load()?;
    let mut leases: Vec<(u8, u64)> = (records.leases.iter())
        .map(|lease| (lease.address.octets()[3], lease.expires_secs))
        .collect();
    leases.sort_unstable();
    Ok(leases)
}

/// Every file below, and its octets; none where one of them leaves while they are read.
fn files(dir: &Path) -> Option<BTreeMap<PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).ok()? {
        let path = entry.ok()?.path();
        match path.is_dir() {
            true => found.extend(files(&path)?),
            false => drop(found.insert(path.clone(), std::fs::read(path).ok()?)),
        }
    }
    Some(found)
}

/// Copies what stands there at one moment: what others write meanwhile is no crash's doing, so it is read until it is twice the same.
fn copy(from: &Path, to: &Path) {
    let mut before = None;
    let moment = loop {
        let now = files(from);
        if now.is_some() && now == before {
            break now.unwrap_or_default();
        }
        before = now;
    };
    for (path, octets) in moment {
        let there = to.join(path.strip_prefix(from).expect("it is below"));
        std::fs::create_dir_all(there.parent().expect("a directory")).expect("made");
        std::fs::write(there, octets).expect("written");
    }
}

#[test]
fn what_was_written_is_found_wherever_a_checkpoint_was_cut_off() {
    let home = tempfile::tempdir().expect("a directory");
    let moments = tempfile::tempdir().expect("a directory");
    let mut taken = Vec::new();
    let mut take = |name: &str, wanted: &[(u8, u64)]| {
        copy(home.path(), &moments.path().join(name));
        taken.push((name.to_owned(), wanted.to_vec()));
    };
    let mut store = open_at(home.path()).expect("opens");
    store.write(&[put(1, 10), put(2, 10)]).expect("written");
    take("before", &[(1, 10), (2, 10)]);
    store.begin(false).expect("begun");
    store.write(&[put(1, 20), delete(2)]).expect("written");
    take("while it is made", &[(1, 20)]);
    store.end(true);
    store.write(&[put(3, 30)]).expect("written");
    take("after", &[(1, 20), (3, 30)]);
    store.begin(false).expect("begun");
    store.end(true);
    take("after another", &[(1, 20), (3, 30)]);
    store.write(&[delete(3)]).expect("written");
    store.close();
    take("closed", &[(1, 20)]);
    drop(store);
    for (name, wanted) in taken {
        let moment = moments.path().join(&name);
        assert_eq!(found(&moment), Ok(wanted.clone()), "{name}");
        assert_eq!(found(&moment), Ok(wanted), "{name}, once more");
    }
}

#[test]
fn a_journal_that_does_not_get_shorter_is_written_to_no_more_and_says_why() {
    let home = tempfile::tempdir().expect("a directory");
    let mut store = open_at(home.path()).expect("opens");
    // A directory of this name stands in the way of the next journal.
    let obstacle = home.path().join("journal.new");
    std::fs::create_dir(&obstacle).expect("made");
    let mut expires = 0;
    let mut until_refused = |store: &mut Local| {
        for _ in 0..100 {
            expires += 1;
            if let Err(error) = store.write(&[put(1, expires)]) {
                expires -= 1;
                return error.to_string();
            }
        }
        panic!("{} octets", store.journal.length());
    };
    for _ in 0..3 {
        until_refused(&mut store);
        let longest = store.journal.length();
        assert!(longest < TOO_LONG + 300, "{longest} octets");
        assert!(store.health().trouble.is_some());
    }
    std::fs::remove_dir(&obstacle).expect("removed");
    store.write(&[put(2, 7)]).expect("there is room again");
    assert!(store.journal.length() < TOO_LONG);
    store.close();
    assert_eq!(store.health().trouble, None);
    drop(store);
    assert_eq!(found(home.path()), Ok(vec![(1, expires), (2, 7)]));
}

/// What is done to a store, and what it is called or said of it.
type Spoiled = (&'static str, fn(&Path));

/// A store with two snapshots, journals since, and a database that has all but the last write.
fn store_with_everything() -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a directory");
    let mut store = open_at(home.path()).expect("opens");
    for n in 1..5 {
        store
            .write(&[
                put(n, 10),
                put(100, u64::from(n)),
                RecordChange::Revision(n.into()),
            ])
            .expect("written");
        store.begin(n != 2).expect("begun");
        store.end(true);
        assert_eq!(store.health().trouble, None);
    }
    store
        .write(&[put(5, 10), delete(1), RecordChange::Revision(5)])
        .expect("written");
    let files = store.layout.scan().expect("readable");
    assert_eq!(files.snapshots.keys().copied().collect::<Vec<_>>(), [3, 4]);
    assert_eq!(files.journals.keys().copied().collect::<Vec<_>>(), [3]);
    home
}

const EVERYTHING: [(u8, u64); 5] = [(2, 10), (3, 10), (4, 10), (5, 10), (100, 4)];

#[test]
fn a_database_that_is_gone_or_garbage_or_of_yesterday_is_rebuilt_and_it_is_said() {
    let home = store_with_everything();
    let spoil: [Spoiled; 4] = [
        ("gone", |db| std::fs::remove_dir_all(db).expect("removed")),
        ("garbage", |db| {
            std::fs::write(db.join("db"), vec![0x5a; 100_000]).expect("written")
        }),
        ("empty", |db| {
            std::fs::write(db.join("db"), "").expect("written")
        }),
        ("no database", |db| {
            std::fs::write(db.join("conf"), "gibberish").expect("written")
        }),
    ];
    for (name, spoil) in spoil {
        let other = tempfile::tempdir().expect("a directory");
        copy(home.path(), other.path());
        spoil(&other.path().join("db"));
        let mut store = open_at(other.path()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let rebuilt = store
            .health()
            .rebuilt
            .unwrap_or_else(|| panic!("{name} is said"));
        assert!(
            rebuilt.contains("rebuilt from snapshot 4 and 1 journals"),
            "{rebuilt}"
        );
        store.write(&[put(6, 10)]).expect("it works");
        drop(store);
        let mut all = EVERYTHING.to_vec();
        all.insert(4, (6, 10));
        assert_eq!(found(other.path()), Ok(all), "{name}");
        assert_eq!(
            open_at(other.path()).expect("opens").health().rebuilt,
            None,
            "once"
        );
    }
}

#[test]
fn a_database_of_yesterday_is_rebuilt_and_the_older_snapshot_does_too() {
    let home = tempfile::tempdir().expect("a directory");
    let yesterday = tempfile::tempdir().expect("a directory");
    drop(open_at(home.path()).expect("opens"));
    copy(home.path(), yesterday.path());
    drop(home);
    let home = store_with_everything();
    let db = home.path().join("db");
    std::fs::remove_dir_all(&db).expect("removed");
    copy(&yesterday.path().join("db"), &db);
    let newest = home.path().join("snapshot-0000000004");
    let mut octets = std::fs::read(&newest).expect("readable");
    let middle = octets.len() / 2;
    octets[middle] ^= 1;
    std::fs::write(&newest, octets).expect("written");
    let store = open_at(home.path()).expect("opens");
    let rebuilt = store.health().rebuilt.expect("it is said");
    assert!(
        rebuilt.contains("from snapshot 3 and 2 journals"),
        "{rebuilt}"
    );
    drop(store);
    assert_eq!(found(home.path()), Ok(EVERYTHING.to_vec()));
}

#[test]
fn what_cannot_be_rebuilt_is_not_served_and_nothing_is_changed() {
    let home = store_with_everything();
    let spoil: [Spoiled; 4] = [
        ("journal is missing", |dir| {
            std::fs::remove_file(dir.join("journal")).expect("removed")
        }),
        ("journal: damaged at octet", |dir| {
            flip(&dir.join("journal"), 30)
        }),
        (
            "and it cannot be rebuilt: no snapshot and journals lead to checkpoint 4",
            |dir| {
                std::fs::remove_dir_all(dir.join("db")).expect("removed");
                std::fs::remove_file(dir.join("snapshot-0000000003")).expect("removed");
                std::fs::remove_file(dir.join("snapshot-0000000004")).expect("removed");
            },
        ),
        ("ends at revision 5, and 77 was acknowledged", |dir| {
            std::fs::write(dir.join("acknowledged"), "77").expect("written");
        }),
    ];
    for (said, spoil) in spoil {
        let other = tempfile::tempdir().expect("a directory");
        copy(home.path(), other.path());
        spoil(other.path());
        for _ in 0..2 {
            let refused = open_at(other.path()).err().expect(said).to_string();
            assert!(
                refused.contains(said) && refused.contains("bootjackd store"),
                "{refused}"
            );
        }
        let aside = std::fs::read_dir(other.path()).expect("readable").flatten();
        let aside = aside.filter(|e| e.file_name().to_string_lossy().contains("broken"));
        assert_eq!(aside.count(), 0, "{said}");
    }
}

fn flip(file: &Path, at: usize) {
    let mut octets = std::fs::read(file).expect("readable");
    octets[at] ^= 1;
    std::fs::write(file, octets).expect("written");
}

/// Each file, at many places: whatever is wrong with it, everything is there, or the store does not open.
#[test]
fn a_flipped_bit_or_a_cut_in_any_file_loses_nothing_silently() {
    let home = store_with_everything();
    let (mut whole, mut refused) = (0, 0);
    for name in [
        "journal",
        "journal-0000000003",
        "snapshot-0000000003",
        "snapshot-0000000004",
        "acknowledged",
        "db/db",
        "db/conf",
    ] {
        let octets = std::fs::read(home.path().join(name)).expect(name);
        // What is behind that is room.
        let written = octets.iter().rposition(|octet| *octet != 0).expect(name) + 1;
        for n in 0..12 {
            let at = written * n / 12;
            for cut in [false, true] {
                let other = tempfile::tempdir().expect("a directory");
                copy(home.path(), other.path());
                let file = other.path().join(name);
                match cut {
                    true => {
                        let octets = std::fs::read(&file).expect("readable");
                        std::fs::write(&file, &octets[..at]).expect("written");
                    }
                    false => flip(&file, at),
                }
                match found(other.path()) {
                    Ok(leases) => {
                        assert_eq!(leases, EVERYTHING, "{name} at {at}, cut: {cut}");
                        whole += 1;
                    }
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(
        whole > 50 && refused > 20,
        "{whole} opened, {refused} refused"
    );
}

/// A directory as versions before snapshots left it: the database, its journal in form 1, and no way back to the beginning.
#[test]
fn a_store_from_before_there_were_snapshots_gets_one() {
    let home = store_with_everything();
    for name in [
        "journal-0000000003",
        "snapshot-0000000003",
        "snapshot-0000000004",
    ] {
        std::fs::remove_file(home.path().join(name)).expect("removed");
    }
    let mut store = open_at(home.path()).expect("opens");
    assert_eq!(store.health().rebuilt, None);
    store.close();
    assert_eq!(store.health().trouble, None);
    assert_eq!(store.layout.scan().expect("readable").snapshots.len(), 1);
    drop(store);
    std::fs::remove_dir_all(home.path().join("db")).expect("removed");
    assert_eq!(found(home.path()), Ok(EVERYTHING.to_vec()));
}

#[test]
fn a_database_that_fails_while_it_runs_is_told_of_and_snapshots_go_on_without_it() {
    let home = store_with_everything();
    let mut store = open_at(home.path()).expect("opens");
    // The next checkpoint opens it again, and finds no directory.
    store.database = None;
    let db = home.path().join("db");
    std::fs::rename(&db, home.path().join("elsewhere")).expect("renamed");
    std::fs::write(&db, "").expect("written");
    store.write(&[put(6, 10)]).expect("written");
    store.begin(true).expect("begun");
    store.end(true);
    let trouble = store.health().trouble.expect("it is told");
    assert!(trouble.contains("database: "), "{trouble}");
    assert!(
        store
            .layout
            .scan()
            .expect("readable")
            .snapshots
            .contains_key(&5)
    );
    std::fs::remove_file(&db).expect("removed");
    std::fs::rename(home.path().join("elsewhere"), &db).expect("renamed");
    store.write(&[put(7, 10)]).expect("written");
    store.close();
    assert_eq!(store.health().trouble, None, "it has caught up");
    drop(store);
    let mut all = EVERYTHING.to_vec();
    all.splice(4..4, [(6, 10), (7, 10)]);
    assert_eq!(found(home.path()), Ok(all));
}
