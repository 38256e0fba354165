use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::catalog::Settings;
use crate::lifecycle::{self, Command, Said, Signal};
use crate::model::{
    ClientKey, Install, LeaseState, MacAddr, Phase, Pool, Profile, Source, Subnet, Token, Verdict,
    Why,
};

const HOUR: Duration = Duration::from_secs(3600);

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, last)
}

fn mac(last: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0, 0, last])
}

fn catalog() -> Catalog {
    let mut subnet = Subnet::of("198.18.0.0/24".parse().expect("a network"));
    subnet.pools = vec![Pool {
        first: address(100),
        last: address(199),
    }];
    Catalog::new(Settings {
        subnets: vec![subnet],
        ..Settings::default()
    })
}

fn node(n: u8) -> Reservation {
    let mut node = Reservation::of(format!("node-{n}"), Source::Api);
    node.mac = Some(mac(n));
    node.address = Some(address(n));
    node
}

fn lease(last: u8, client: u8, state: LeaseState) -> Lease {
    Lease {
        address: address(last),
        client: ClientKey::Mac(mac(client)),
        state,
        expires_secs: 1000,
        hostname: None,
        reservation: None,
        circuit_id: None,
    }
}

fn open(backend: Box<dyn Backend>) -> (Store, Writer, Opened) {
    Store::open(backend, catalog(), 1).expect("opens")
}

#[tokio::test]
async fn the_search_for_a_free_address_passes_by_what_is_reserved_now_and_comes_back_to_what_no_longer_is()
 {
    let from_the_file = catalog().with(&Change::Create(node(100)));
    let from_the_file = from_the_file.expect("fits");
    let opened = Store::open(Box::<Memory>::default(), from_the_file, 0);
    let (store, _writer, _) = opened.expect("opens");
    let pool = store.catalog().subnets()[0].pools[0];
    let first = || store.bindings().longest_free(&pool).1.octets()[3];
    assert_eq!(first(), 101);
    let created = store.change(Change::Create(node(101)), 0).await;
    assert_eq!(first(), 102);
    let mut moved = created.expect("created").reservation;
    moved.address = Some(address(102));
    let update = Change::Update {
        reservation: moved,
        expected: None,
    };
    store.change(update, 0).await.expect("updated");
    assert_eq!(first(), 101);
    let bound = BindingChange::Put(lease(101, 9, LeaseState::Bound));
    assert_eq!(store.bind(vec![bound], 0).await, Ok(vec![true]));
    assert_eq!(first(), 103);
    let delete = Change::Delete {
        id: "node-101".into(),
        expected: None,
    };
    store.change(delete, 0).await.expect("deleted");
    assert_eq!(first(), 102);
}

/// A backend that fails when told to, and counts its writes.
#[derive(Clone, Default)]
struct Faulty {
    inner: Memory,
    fails: Arc<AtomicBool>,
}

impl Backend for Faulty {
    fn load(&mut self) -> Result<Records, StoreError> {
        self.inner.load()
    }

    fn write(&mut self, changes: &[RecordChange]) -> Result<(), StoreError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(StoreError::Broken {
                path: "memory".into(),
                problem: "no space left on device".into(),
            });
        }
        self.inner.write(changes)
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_opening_again() {
    let home = tempfile::tempdir().expect("a directory");
    let (store, writer, _) = open(open_sled(home.path(), HOUR).expect("opens"));
    store
        .change(Change::Create(node(1)), 7)
        .await
        .expect("created");
    store
        .change(Change::Create(node(2)), 8)
        .await
        .expect("created");
    let delete = Change::Delete {
        id: "node-2".into(),
        expected: None,
    };
    store.change(delete, 9).await.expect("deleted");
    let bound = BindingChange::Put(lease(100, 9, LeaseState::Bound));
    assert_eq!(store.bind(vec![bound], 0).await, Ok(vec![true]));
    tokio::task::spawn_blocking(|| writer.close())
        .await
        .expect("no panic")
        .expect("ends");
    let late = store.change(Change::Create(node(4)), 0).await;
    assert_eq!(late, Err(ChangeError::Failed(StoreError::Stopped)));

    let (store, _writer, _) = open(open_sled(home.path(), HOUR).expect("opens again"));
    let catalog = store.catalog();
    assert_eq!(catalog.len(), 1);
    let kept = catalog.by_id("node-1").expect("kept");
    assert_eq!((kept.revision, kept.created_secs), (1, 7));
    assert_eq!(
        store.bindings().at(address(100)).map(|l| l.state),
        Some(LeaseState::Bound)
    );
    let third = store
        .change(Change::Create(node(3)), 0)
        .await
        .expect("created");
    assert_eq!(
        third.reservation.revision, 4,
        "a revision is never given out twice"
    );
}

#[test]
fn one_that_comes_while_another_ends_waits_for_it() {
    let home = tempfile::tempdir().expect("a directory");
    let held = super::local::lock(home.path()).expect("is free");
    let waits = {
        let path = home.path().to_owned();
        std::thread::spawn(move || super::local::lock(&path).map(drop))
    };
    drop(held);
    waits.join().expect("ends").expect("is free by now");
    // Another lock of the same process may be let go later.
    drop(open_sled(home.path(), HOUR));
    let db = std::fs::File::open(home.path().join("db/db")).expect("is there");
    let held = super::local::hold_alone(db).expect("is free");
    let waits = {
        let path = home.path().to_owned();
        std::thread::spawn(move || open_sled(&path, HOUR).map(drop))
    };
    drop(held);
    waits.join().expect("ends").expect("is free by now");
}

#[test]
fn a_second_process_is_refused_in_a_sentence() {
    let home = tempfile::tempdir().expect("a directory");
    let _first = open_sled(home.path(), HOUR).expect("opens");
    let second = open_sled(home.path(), HOUR)
        .err()
        .map(|error| error.to_string());
    let wanted = format!(
        "store {}: locked by another process; is bootjackd already running?",
        home.path().display()
    );
    assert_eq!(second, Some(wanted));
}

#[tokio::test]
async fn writing_a_reservation_takes_the_address_back_from_whoever_leased_it() {
    let (store, _writer, _) = open(Box::new(Memory::default()));
    let bound = BindingChange::Put(lease(100, 9, LeaseState::Bound));
    store.bind(vec![bound.clone()], 0).await.expect("bound");
    let mut reservation = node(1);
    reservation.address = Some(address(100));
    let written = store
        .change(Change::Create(reservation), 0)
        .await
        .expect("created");
    assert_eq!(written.revoked.len(), 1);
    assert!(store.bindings().at(address(100)).is_none());
    assert_eq!(
        store.bind(vec![bound], 0).await,
        Ok(vec![false]),
        "decided before, committed after"
    );
}

#[tokio::test]
async fn two_decisions_for_one_address_do_not_both_stand() {
    let (store, _writer, _) = open(Box::new(Memory::default()));
    let both = [1, 2].map(|client| BindingChange::Put(lease(100, client, LeaseState::Bound)));
    assert_eq!(store.bind(both.to_vec(), 0).await, Ok(vec![true, false]));
}

#[tokio::test]
async fn a_write_that_fails_grants_nothing_and_says_so() {
    let backend = Faulty::default();
    let (store, _writer, _) = open(Box::new(backend.clone()));
    store
        .change(Change::Create(node(1)), 0)
        .await
        .expect("created");
    backend.fails.store(true, Ordering::Relaxed);
    let failed = store
        .change(Change::Create(node(2)), 0)
        .await
        .expect_err("fails");
    assert!(failed.to_string().contains("no space left"), "{failed}");
    let bound = BindingChange::Put(lease(100, 9, LeaseState::Bound));
    assert!(store.bind(vec![bound], 0).await.is_err());
    assert_eq!(store.catalog().len(), 1);
    // What was promised is an offer: the client may try again, and it runs out.
    let held = store.bindings().at(address(100)).cloned().expect("held");
    assert_eq!(
        (held.state, held.expires_secs),
        (LeaseState::Offered, crate::model::OFFER_HOLD_SECS)
    );
    backend.fails.store(false, Ordering::Relaxed);
    store
        .change(Change::Create(node(2)), 0)
        .await
        .expect("works again");
}

#[tokio::test]
async fn a_stored_reservation_that_the_configuration_contradicts_is_kept_but_not_followed() {
    let mut contradicting = node(1);
    contradicting.mac = Some(mac(7));
    let records = Records {
        reservations: vec![contradicting.into(), node(2).into()],
        leases: vec![
            lease(1, 7, LeaseState::Bound),
            lease(100, 8, LeaseState::Bound),
        ],
        revision: 5,
        ..Records::default()
    };
    let mut from_file = node(1);
    from_file.source = Source::ConfigFile;
    from_file.id = "from-file".into();
    let catalog = catalog().with(&Change::Create(from_file)).expect("fits");
    let (store, _writer, opened) =
        Store::open(Box::new(Memory::with(records)), catalog, 1).expect("opens");
    assert_eq!(opened.set_aside.len(), 1);
    assert_eq!(opened.revoked, [lease(1, 7, LeaseState::Bound)]);
    assert_eq!(store.catalog().len(), 2);
    let delete = Change::Delete {
        id: "node-1".into(),
        expected: None,
    };
    store
        .change(delete.clone(), 0)
        .await
        .expect("it can be deleted");
    assert!(store.change(delete, 0).await.is_err(), "once");
}

/// The catalog above, with a profile that installs.
fn installing() -> Catalog {
    let profile = Profile {
        name: "installer".to_owned(),
        boot: [(
            crate::model::Cpu::X86_64,
            crate::model::BootFiles {
                kernel: "k".to_owned(),
                initrd: Vec::new(),
                args: Vec::new(),
            },
        )]
        .into(),
        install: Some(Install {
            deadline: std::time::Duration::from_secs(3600),
            retries: 0,
        }),
        ..Profile::default()
    };
    Catalog::new(Settings {
        subnets: catalog().subnets().to_vec(),
        profiles: [(profile.name.clone(), profile)].into(),
        ..Settings::default()
    })
}

fn to_install(n: u8) -> Reservation {
    Reservation {
        profile: Some("installer".to_owned()),
        ..node(n)
    }
}

fn verdict(store: &Store, id: &str) -> Verdict {
    let catalog = store.catalog();
    let reservation = catalog.by_id(id).expect("it is there");
    lifecycle::verdict(&catalog, reservation, 10)
}

fn fetched() -> Act {
    Act::Signal(Signal::ScriptFetched {
        peer: None,
        fresh: Token([7; 16]),
    })
}

fn done() -> Act {
    Act::Signal(Signal::CallBack {
        token: Token([7; 16]),
        said: Said::Done,
    })
}

#[tokio::test]
async fn where_a_machine_stands_is_there_after_opening_again() {
    let home = tempfile::tempdir().expect("a directory");
    let open = || {
        Store::open(
            open_sled(home.path(), HOUR).expect("opens"),
            installing(),
            1,
        )
    };
    let (store, writer, _) = open().expect("opens");
    store
        .change(Change::Create(to_install(1)), 2)
        .await
        .expect("created");
    assert_eq!(verdict(&store, "node-1"), Verdict::Serve { attempt: 1 });
    store.act("node-1", fetched(), 3).await.expect("told");
    let moved = store.act("node-1", done(), 4).await.expect("told");
    assert_eq!(moved.after.phase, Phase::Installed);
    drop(store);
    tokio::task::spawn_blocking(|| writer.close())
        .await
        .expect("no panic")
        .expect("ends");

    let (store, _writer, _) = open().expect("opens again");
    assert_eq!(
        verdict(&store, "node-1"),
        Verdict::LocalDisk(Why::Installed)
    );
    let delete = Change::Delete {
        id: "node-1".into(),
        expected: None,
    };
    store.change(delete, 5).await.expect("deleted");
    assert_eq!(store.act("node-1", done(), 6).await, Err(ActError::Unknown));
    store
        .change(Change::Create(to_install(1)), 7)
        .await
        .expect("created");
    assert_eq!(verdict(&store, "node-1"), Verdict::Serve { attempt: 1 });
}

#[tokio::test]
async fn a_database_without_machines_opens_and_nothing_in_it_is_armed() {
    let records = Records {
        reservations: vec![to_install(1).into()],
        revision: 3,
        ..Records::default()
    };
    let backend = Box::new(Memory::with(records));
    let (store, _writer, _) = Store::open(backend, installing(), 1).expect("opens");
    assert_eq!(verdict(&store, "node-1"), Verdict::LocalDisk(Why::NotArmed));
    let arm = Act::Command(Command::Arm);
    store.act("node-1", arm, 2).await.expect("armed");
    assert_eq!(verdict(&store, "node-1"), Verdict::Serve { attempt: 1 });
}

#[tokio::test]
async fn a_state_that_cannot_be_written_is_not_taken() {
    let backend = Faulty::default();
    let (store, _writer, _) =
        Store::open(Box::new(backend.clone()), installing(), 1).expect("opens");
    store
        .change(Change::Create(to_install(1)), 2)
        .await
        .expect("created");
    store.act("node-1", fetched(), 3).await.expect("told");
    backend.fails.store(true, Ordering::Relaxed);
    let failed = store.act("node-1", done(), 4).await.expect_err("fails");
    assert!(failed.to_string().contains("no space left"), "{failed}");
    assert_eq!(verdict(&store, "node-1"), Verdict::Serve { attempt: 1 });
    backend.fails.store(false, Ordering::Relaxed);
    store.act("node-1", done(), 5).await.expect("heard again");
    assert_eq!(
        verdict(&store, "node-1"),
        Verdict::LocalDisk(Why::Installed)
    );
}

fn requested(n: u8, request: &str, digest: &str) -> Reservation {
    Reservation {
        request: Some(Box::new(crate::model::RequestId {
            id: request.to_owned(),
            digest: digest.to_owned(),
        })),
        ..node(n)
    }
}

#[tokio::test]
async fn a_batch_is_written_whole_or_not_at_all_and_each_offender_is_named() {
    let (store, _writer, _) = open(Box::new(Memory::default()));
    store
        .change(Change::Create(node(5)), 1)
        .await
        .expect("created");
    let mut same_mac = node(4);
    same_mac.id = "other".to_owned();
    same_mac.address = None;
    let batch = vec![node(3), node(4), node(5), same_mac];
    let refused = store.create_all(batch, 2).await.expect_err("two of them");
    let BatchError::Refused(refused) = refused else {
        panic!("{refused}");
    };
    let places: Vec<usize> = refused.iter().map(|(at, _)| *at).collect();
    assert_eq!(places, [2, 3]);
    assert_eq!(store.catalog().len(), 1);
    let before = store.snapshot();
    let written = store.create_all(vec![node(3), node(4)], 3).await;
    let revisions = written.expect("they fit").into_iter();
    let revisions: Vec<u64> = revisions.map(|w| w.reservation.revision).collect();
    assert_eq!(revisions, [before.revision + 1, before.revision + 2]);
    let told = store.feed().reservations().since(before.revision, 10);
    let told = told.expect("remembered").into_iter().map(|(at, _)| at);
    assert_eq!(told.collect::<Vec<u64>>(), revisions);
    let next = store.change(Change::Create(node(6)), 4).await;
    assert_eq!(
        next.expect("created").reservation.revision,
        before.revision + 3
    );
}

#[tokio::test]
async fn a_batch_is_there_after_opening_again() {
    let home = tempfile::tempdir().expect("a directory");
    let (store, writer, _) = open(open_sled(home.path(), HOUR).expect("opens"));
    let batch = (1..=50).map(|n| requested(n, "r", "d")).collect();
    store.create_all(batch, 3).await.expect("they fit");
    drop(store);
    tokio::task::spawn_blocking(|| writer.close())
        .await
        .expect("no panic")
        .expect("ends");
    let (store, _writer, _) = open(open_sled(home.path(), HOUR).expect("opens again"));
    assert_eq!(store.catalog().len(), 50);
    assert_eq!(store.snapshot().revision, 50);
    let again = (1..=50).map(|n| requested(n, "r", "d")).collect();
    let again = store.create_all(again, 9).await.expect("the same call");
    assert!(
        again
            .iter()
            .all(|w| w.is_repeat && w.reservation.created_secs == 3)
    );
    assert_eq!(store.snapshot().revision, 50, "nothing was written");
}

#[tokio::test]
async fn a_call_that_is_repeated_makes_nothing_and_one_that_only_says_so_is_refused() {
    let (store, _writer, _) = open(Box::new(Memory::default()));
    let create = |new: Reservation| store.change(Change::Create(new), 1);
    let made = create(requested(1, "r", "d")).await.expect("created");
    let again = create(requested(1, "r", "d")).await.expect("repeated");
    assert_eq!(
        (again.reservation, again.is_repeat),
        (made.reservation, true)
    );
    let other = create(requested(2, "r", "e")).await.expect_err("other");
    assert!(
        matches!(&other, ChangeError::Refused(Refusal::RequestReused { made, .. }) if made == "node-1"),
        "{other}"
    );
    let delete = Change::Delete {
        id: "node-1".to_owned(),
        expected: None,
    };
    store.change(delete, 2).await.expect("deleted");
    create(requested(2, "r", "e"))
        .await
        .expect("it is free again");
}

#[tokio::test]
async fn a_lease_is_taken_back_on_disk_and_only_if_it_is_the_one_that_is_meant() {
    let home = tempfile::tempdir().expect("a directory");
    let (store, writer, _) = open(open_sled(home.path(), HOUR).expect("opens"));
    let bound = BindingChange::Put(lease(100, 9, LeaseState::Bound));
    store.bind(vec![bound], 0).await.expect("bound");
    assert!(matches!(
        store.release(address(100), |_| false, 5).await,
        Err(ReleaseError::Changed(_))
    ));
    let nothing = store.release(address(101), |_| true, 5).await;
    assert_eq!(nothing, Err(ReleaseError::NothingHeld));
    let was = store.release(address(100), |_| true, 5).await;
    assert_eq!(was.map(|lease| lease.state), Ok(LeaseState::Bound));
    let again = store.release(address(100), |_| true, 5).await;
    assert_eq!(again, Err(ReleaseError::NothingHeld));
    drop(store);
    tokio::task::spawn_blocking(|| writer.close())
        .await
        .expect("no panic")
        .expect("ends");
    let (store, _writer, _) = open(open_sled(home.path(), HOUR).expect("opens again"));
    let kept = store.bindings().at(address(100)).cloned().expect("kept");
    assert_eq!((kept.state, kept.expires_secs), (LeaseState::Revoked, 5));
}

#[tokio::test]
async fn a_lease_that_cannot_be_taken_back_on_disk_stays_what_it_was() {
    let backend = Faulty::default();
    let (store, _writer, _) = open(Box::new(backend.clone()));
    let held = lease(100, 9, LeaseState::Bound);
    let bound = BindingChange::Put(held.clone());
    store.bind(vec![bound], 0).await.expect("bound");
    backend.fails.store(true, Ordering::Relaxed);
    let failed = store.release(address(100), |_| true, 5).await;
    assert!(matches!(failed, Err(ReleaseError::Failed(_))), "{failed:?}");
    assert_eq!(store.bindings().at(address(100)), Some(&held));
}

#[tokio::test]
async fn leases_are_told_in_order_and_those_that_a_reservation_takes_back_too() {
    let (store, _writer, _) = open(Box::new(Memory::default()));
    let put = |state| BindingChange::Put(lease(100, 9, state));
    for state in [LeaseState::Offered, LeaseState::Bound] {
        store.bind(vec![put(state)], 0).await.expect("made");
    }
    let mut reservation = node(1);
    reservation.address = Some(address(100));
    let create = Change::Create(reservation);
    store.change(create, 0).await.expect("created");
    let told = store.feed().leases().since(0, 10).expect("remembered");
    let told: Vec<feed::LeaseNote> = told.into_iter().map(|(_, note)| (*note).clone()).collect();
    assert_eq!(
        told,
        [
            feed::LeaseNote::Put(lease(100, 9, LeaseState::Offered)),
            feed::LeaseNote::Put(lease(100, 9, LeaseState::Bound)),
            feed::LeaseNote::Forgotten(lease(100, 9, LeaseState::Bound)),
        ]
    );
}
