//! The store over etcd by itself, where a service would hide what happens in between.

use std::time::{Duration, Instant};

use bootjackd::model::{MacAddr, Reservation, Source};
use bootjackd::store::etcd::{Etcd as Store, Settings};
use bootjackd::store::{Backend as _, News, RecordChange, StoreError};

use crate::support::etcd::{Etcd, Switch};
use crate::support::netns::Netns;

/// A hang is a failure; this only bounds how long one is waited for.
const HANG: Duration = Duration::from_secs(60);
const ETCD: &str = "192.0.2.10";

fn store(endpoint: String) -> Store {
    let settings = Settings {
        endpoints: vec![endpoint],
        prefix: "test".to_owned(),
        tls: None,
        login: None,
        timeout: Duration::from_secs(2),
    };
    Store::new(settings).expect("sound")
}

fn made(n: u8, revision: u64) -> [RecordChange; 2] {
    let mut reservation = Reservation::of(format!("node-{n}"), Source::Api);
    reservation.mac = Some(MacAddr([2, 0, 0, 0, 0, n]));
    reservation.revision = revision;
    let put = RecordChange::PutReservation(reservation);
    [put, RecordChange::Revision(revision)]
}

/// One who was cut off while etcd forgot what happened, and cannot read all of it at first, reads it before the next write; and then
/// all of it is told, or that write would be checked against what nobody there has heard of.
#[test]
fn what_was_missed_is_told_also_where_a_write_finds_it_out() {
    let (switch, netns, away) = (Switch::new(), Netns::new("etcd"), Netns::new("away"));
    switch.plug(&netns, "eth0", &format!("{ETCD}/24"));
    let port = switch.plug(&away, "eth0", "192.0.2.1/24");
    let mut etcd = Etcd::start_at(&netns, ETCD);
    away.inside(|| {
        let mut missing = store(etcd.endpoint());
        missing.load().expect("it is empty");
        // What the kernel had sent to it already would come when it is reached again.
        etcd.kill();
        switch.cut(&port);
        etcd.run();
        netns.inside(|| {
            let mut other = store(etcd.endpoint());
            other.load().expect("it is empty");
            other.write(&made(1, 1)).expect("written");
        });
        etcd.ctl(&["put", "test/reservation/bad", "\u{1}{"]);
        etcd.compact();
        switch.mend(&port);
        let began = Instant::now();
        while missing.health().trouble.is_none() {
            assert!(began.elapsed() < HANG, "it has not looked");
            assert_eq!(missing.news(), [], "nothing can be told yet");
            std::thread::yield_now();
        }
        let trouble = missing.health().trouble.expect("some");
        assert!(trouble.contains("cannot be read anew"), "{trouble}");
        etcd.ctl(&["del", "test/reservation/bad"]);
        let overtaken = missing.write(&made(2, 1));
        assert_eq!(overtaken, Err(StoreError::Overtaken));
        missing.catch_up().expect("it reads");
        let news = missing.news();
        let [News::All(records)] = news.as_slice() else {
            panic!("{news:?}");
        };
        assert_eq!(records.reservations[0].id, "node-1");
        assert_eq!(missing.health().trouble, None);
        missing.write(&made(2, 2)).expect("it knows all by now");
    });
}
