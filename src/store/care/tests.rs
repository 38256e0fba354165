use std::net::Ipv4Addr;
use std::time::Duration;

use super::*;
use crate::model::{ClientKey, Lease, LeaseState, MacAddr, Reservation, Source};
use crate::store::RecordChange;

fn lease(last: u8) -> RecordChange {
    RecordChange::PutLease(Lease {
        address: Ipv4Addr::new(198, 18, 0, last),
        client: ClientKey::Mac(MacAddr([2, 0, 0, 0, 0, last])),
        state: LeaseState::Bound,
        expires_secs: 10,
        hostname: None,
        reservation: None,
        circuit_id: None,
    })
}

fn reservation(n: u8, revision: u64) -> [RecordChange; 2] {
    let mut reservation = Reservation::of(format!("node-{n}"), Source::Api);
    reservation.mac = Some(MacAddr([2, 0, 0, 0, 1, n]));
    reservation.revision = revision;
    [
        RecordChange::PutReservation(reservation),
        RecordChange::Revision(revision),
    ]
}

fn open(home: &Path) -> Local {
    Local::open(home, Duration::from_secs(3600)).expect("opens")
}

/// A store that runs: a snapshot, and writes since.
fn running() -> (tempfile::TempDir, Local) {
    let home = tempfile::tempdir().expect("a directory");
    let mut store = open(home.path());
    store.write(&reservation(1, 1)).expect("written");
    store.close();
    store.write(&[lease(1), lease(2)]).expect("written");
    store.close();
    store.write(&reservation(2, 2)).expect("written");
    store.write(&[lease(3)]).expect("written");
    (home, store)
}

/// Ids and last octets of what a store holds.
fn held(home: &Path) -> (Vec<String>, Vec<u8>, u64) {
    let records = open(home).load().expect("loads");
    let mut ids: Vec<String> = records.reservations.iter().map(|r| r.id.clone()).collect();
    let mut leases: Vec<u8> = (records.leases.iter())
        .map(|l| l.address.octets()[3])
        .collect();
    ids.sort();
    leases.sort_unstable();
    (ids, leases, records.revision)
}

fn all() -> (Vec<String>, Vec<u8>, u64) {
    (vec!["node-1".into(), "node-2".into()], vec![1, 2, 3], 2)
}

fn exported(home: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    export(home, &mut text).expect("exported");
    text
}

#[test]
fn a_running_store_is_exported_and_backed_up_with_everything_that_was_acknowledged() {
    let (home, mut store) = running();
    let text = exported(home.path());
    assert_eq!(
        export::read(&text[..]).expect("sound").reservations.len(),
        2
    );
    let to = tempfile::tempdir().expect("a directory");
    let copy = to.path().join("copy");
    let summary = backup(home.path(), &copy).expect("made");
    assert_eq!((summary.records, summary.revision), (6, 2));
    store.write(&[lease(9)]).expect("it goes on");
    drop(store);
    assert_eq!(held(&copy), all());
    assert!(
        backup(home.path(), &copy).is_err(),
        "a store is there already"
    );
    assert!(matches!(
        export(&to.path().join("none"), Vec::new()),
        Err(CareError::Missing(_))
    ));
}

#[test]
fn an_import_takes_the_place_of_everything_or_changes_nothing() {
    let (home, store) = running();
    drop(store);
    let text = exported(home.path());
    let other = tempfile::tempdir().expect("a directory");
    import(other.path(), "f", &text[..], false).expect("imported");
    assert_eq!(held(other.path()), all());

    let mut store = open(other.path());
    store.write(&reservation(7, 9)).expect("written");
    store.close();
    drop(store);
    let before = held(other.path());
    let refused = import(other.path(), "f", &text[..], false).expect_err("it is not empty");
    assert!(
        refused.to_string().contains("3 reservations and 3 leases"),
        "{refused}"
    );
    for length in [0, 10, text.len() / 2, text.len() - 2] {
        let refused = import(other.path(), "f", &text[..length], true);
        assert!(
            matches!(refused, Err(CareError::Unreadable { .. })),
            "{length}"
        );
    }
    assert_eq!(held(other.path()), before);

    let imported = import(other.path(), "f", &text[..], true).expect("imported");
    let (ids, leases, _) = all();
    assert_eq!(
        held(other.path()),
        (ids, leases, 9),
        "no revision is given out twice"
    );
    let kept = std::fs::File::open(imported.before.expect("kept")).expect("there");
    let kept = export::read(std::io::BufReader::new(kept)).expect("sound");
    assert_eq!(kept.reservations.len(), 3);
}

/// Wherever it is cut off, the one or the other is there as a whole.
#[test]
fn an_import_that_is_cut_off_leaves_what_was_there() {
    let (home, store) = running();
    drop(store);
    let layout = Layout::new(home.path());
    let number = next_number(&layout).expect("a number");
    // All but the rename that decides.
    std::fs::remove_file(layout.acknowledged()).expect("removed");
    snapshot::write(
        &layout.snapshot(number),
        Some(number),
        &Pace::default(),
        |to| put(to, b"revision", b"\x0177"),
    )
    .expect("written");
    Journal::create_beside(&layout.journal(), number).expect("made");
    assert_eq!(held(home.path()), all());
    assert!(!layout.snapshot(number).exists());
}

fn flip(file: &Path, at: usize) {
    let mut octets = std::fs::read(file).expect("readable");
    octets[at] ^= 1;
    std::fs::write(file, octets).expect("written");
}

fn verdict(home: &Path) -> Verdict {
    verify(home).expect("looked at").verdict
}

#[test]
fn verify_tells_sound_from_damaged_and_damaged_from_lost() {
    let (home, store) = running();
    let while_it_runs = verify(home.path()).expect("looked at");
    assert_eq!(while_it_runs.verdict, Verdict::Sound, "{while_it_runs:?}");
    assert!(
        while_it_runs
            .parts
            .iter()
            .any(|part| part.skipped.is_some())
    );
    drop(store);
    let verified = verify(home.path()).expect("looked at");
    assert_eq!(verified.verdict, Verdict::Sound, "{verified:?}");
    let names: Vec<&str> = verified
        .parts
        .iter()
        .map(|part| part.name.as_str())
        .collect();
    let wanted = [
        "snapshot-0000000001",
        "snapshot-0000000002",
        "journal-0000000001",
        "journal",
        "acknowledged",
        "db",
    ];
    assert_eq!(names, wanted);

    flip(&home.path().join("snapshot-0000000002"), 200);
    assert_eq!(verdict(home.path()), Verdict::Whole);
    std::fs::remove_dir_all(home.path().join("db")).expect("removed");
    assert_eq!(verdict(home.path()), Verdict::Whole, "the older snapshot");
    flip(&home.path().join("journal-0000000001"), 50);
    assert_eq!(verdict(home.path()), Verdict::Lost);
}

#[test]
fn repair_rebuilds_and_salvage_names_what_is_lost_and_keeps_the_rest() {
    let (home, store) = running();
    drop(store);
    assert_eq!(repair(home.path()), Ok(None), "nothing to do");
    std::fs::remove_dir_all(home.path().join("db")).expect("removed");
    let rebuilt = repair(home.path()).expect("rebuilt").expect("it says so");
    assert!(rebuilt.contains("there is none"), "{rebuilt}");
    assert_eq!(held(home.path()), all());

    let mut store = open(home.path());
    store.write(&reservation(3, 3)).expect("written");
    store.write(&[lease(4)]).expect("written");
    store.write(&[lease(5)]).expect("written");
    drop(store);
    // The first of three entries: the reservation and the revision that was acknowledged.
    flip(&home.path().join("journal"), 60);
    assert!(repair(home.path()).is_err());
    let planned = salvage(home.path(), false).expect("looked at");
    assert_eq!(planned.aside, None);
    let lost = planned.lost.join("\n");
    assert!(
        lost.contains("journal: octet 24: the checksum of an entry is wrong"),
        "{lost}"
    );
    assert!(
        lost.contains("revisions 3 to 3 were acknowledged"),
        "{lost}"
    );
    assert!(repair(home.path()).is_err(), "nothing was changed");

    let done = salvage(home.path(), true).expect("done");
    assert_eq!(done.lost, planned.lost);
    assert!(done.aside.expect("moved").join("journal").is_file());
    let (ids, mut leases, _) = all();
    leases.extend([4, 5]);
    assert_eq!(
        held(home.path()),
        (ids, leases, 3),
        "and no revision comes again"
    );
    assert_eq!(verdict(home.path()), Verdict::Sound);
}
