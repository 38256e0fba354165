//! Our client of etcd against etcd itself: transactions, leases, watches over lost connections, certificates and passwords.

use std::time::Duration;

use bootjackd::store::etcd::{
    Client, Compare, EtcdError, Event, Login, Op, Seen, Settings, Tls, Txn, Watch,
};
use bytes::Bytes;

use crate::support::etcd::{Cluster, Etcd, Switch, certificates, with_tls};
use crate::support::netns::Netns;

/// A hang is a failure; this only bounds how long one is waited for.
const HANG: Duration = Duration::from_secs(60);

fn settings(endpoints: Vec<String>) -> Settings {
    Settings {
        endpoints,
        prefix: "test".to_owned(),
        tls: None,
        login: None,
        timeout: Duration::from_secs(5),
    }
}

/// Runs it on a runtime whose sockets are of this namespace.
fn run_in<T: Send>(netns: &Netns, work: impl Future<Output = T> + Send) -> T {
    netns.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(work)
    })
}

fn put(key: &Bytes, value: &'static str) -> Op {
    Op::Put {
        key: key.clone(),
        value: Bytes::from_static(value.as_bytes()),
        lease: None,
    }
}

/// Changes as text, until `last` has been seen; what became of the connection meanwhile is passed over.
async fn changes_until(watch: &mut Watch, last: &str) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        let seen = tokio::time::timeout(HANG, watch.next()).await;
        let seen = seen.unwrap_or_else(|_| panic!("no {last} after {told:?}"));
        match seen.expect("it goes on") {
            Seen::Changes { events, .. } => told.extend(events.iter().map(text)),
            Seen::Connected | Seen::Lost(_) => {}
            Seen::Compacted => told.push("compacted".to_owned()),
        }
        if told.last().is_some_and(|it| it == last) {
            return told;
        }
    }
}

fn text(event: &Event) -> String {
    let key = String::from_utf8_lossy(&event.key).replace("test/", "");
    match &event.value {
        Some(value) => format!("{key}={}", String::from_utf8_lossy(value)),
        None => format!("{key} gone"),
    }
}

#[test]
fn a_transaction_is_made_whole_or_not_at_all_and_says_what_it_found() {
    let netns = Netns::new("etcd");
    let etcd = Etcd::start(&netns);
    run_in(&netns, async {
        let client = Client::new(settings(vec![etcd.endpoint()])).expect("sound");
        let (a, b) = (client.key("a"), client.key("b"));
        let first = Txn {
            compare: vec![Compare::Revision {
                key: a.clone(),
                is: 0,
            }],
            then: vec![put(&a, "1"), put(&b, "1")],
            otherwise: vec![Op::Get { key: a.clone() }, Op::Get { key: b.clone() }],
        };
        let made = client.commit(first.clone()).await.expect("answered");
        assert!(made.succeeded && !made.was_repeated, "{made:?}");
        let again = client.commit(first).await.expect("answered");
        assert!(!again.succeeded);
        let revisions: Vec<Option<i64>> = (again.found.iter())
            .map(|found| found.as_ref().map(|kv| kv.mod_revision))
            .collect();
        assert_eq!(revisions, [Some(made.revision), Some(made.revision)]);
        let (found, _) = client.get(b).await.expect("answered");
        assert_eq!(&found.expect("it is there").value[..], b"1");
        assert!(
            client
                .get(client.key("c"))
                .await
                .expect("answered")
                .0
                .is_none()
        );
        assert!(client.version().await.expect("answered").starts_with("3."));
    });
}

#[test]
fn a_listing_of_many_pages_is_of_one_revision() {
    let netns = Netns::new("etcd");
    let etcd = Etcd::start(&netns);
    run_in(&netns, async {
        let client = Client::new(settings(vec![etcd.endpoint()])).expect("sound");
        for hundred in 0..25 {
            let then =
                (0..100).map(|n| put(&client.key(format!("n/{:04}", hundred * 100 + n)), "x"));
            let txn = Txn {
                then: then.collect(),
                ..Txn::default()
            };
            client.commit(txn).await.expect("answered");
        }
        let listing = client.list(&client.key("n/")).await.expect("answered");
        let keys: Vec<String> = (listing.entries.iter())
            .map(|kv| String::from_utf8_lossy(&kv.key).into_owned())
            .collect();
        assert_eq!(keys.len(), 2500);
        assert!(keys.is_sorted());
        let newest = listing.entries.iter().map(|kv| kv.mod_revision).max();
        assert_eq!(newest, Some(listing.revision));
    });
}

#[test]
fn a_watch_tells_every_change_once_though_etcd_is_killed_in_between() {
    let netns = Netns::new("etcd");
    let mut etcd = Etcd::start(&netns);
    let endpoint = etcd.endpoint();
    run_in(&netns, async {
        let client = Client::new(settings(vec![endpoint])).expect("sound");
        let (a, b) = (client.key("a"), client.key("b"));
        let now = client.put(a.clone(), "0".into(), None).await.expect("put");
        let mut watch = client.watch(client.key(""), now);
        client.put(a.clone(), "1".into(), None).await.expect("put");
        assert_eq!(changes_until(&mut watch, "a=1").await, ["a=1"]);
        etcd.kill();
        let lost = client.get(a.clone()).await;
        assert!(matches!(lost, Err(EtcdError::Away(_))), "{lost:?}");
        etcd.run();
        // Somebody else's, before the watch is back.
        etcd.ctl(&["put", "test/a", "2"]);
        client.put(b.clone(), "3".into(), None).await.expect("put");
        client.delete(b).await.expect("deleted");
        let told = changes_until(&mut watch, "b gone").await;
        assert_eq!(told, ["a=2", "b=3", "b gone"]);
    });
}

#[test]
fn a_watch_that_missed_what_was_compacted_says_so_and_ends() {
    let netns = Netns::new("etcd");
    let etcd = Etcd::start(&netns);
    run_in(&netns, async {
        let client = Client::new(settings(vec![etcd.endpoint()])).expect("sound");
        let key = client.key("a");
        let then = client
            .put(key.clone(), "1".into(), None)
            .await
            .expect("put");
        client
            .put(key.clone(), "2".into(), None)
            .await
            .expect("put");
        client.put(key, "3".into(), None).await.expect("put");
        etcd.compact();
        let mut watch = client.watch(client.key(""), then);
        assert_eq!(changes_until(&mut watch, "compacted").await, ["compacted"]);
        assert_eq!(watch.next().await, None);
    });
}

#[test]
fn keys_end_with_their_lease_unless_it_is_kept() {
    let netns = Netns::new("etcd");
    let etcd = Etcd::start(&netns);
    run_in(&netns, async {
        let client = Client::new(settings(vec![etcd.endpoint()])).expect("sound");
        let mut watch = client.watch(client.key(""), 0);
        let lease = client.grant(Duration::from_secs(2)).await.expect("granted");
        let (kept, freed) = (client.key("kept"), client.key("freed"));
        for key in [&kept, &freed] {
            let is_new = client.create(key.clone(), "x".into(), Some(lease)).await;
            assert_eq!(is_new, Ok(true));
        }
        let is_new = client.create(kept.clone(), "y".into(), None).await;
        assert_eq!(is_new, Ok(false), "it is there already");
        let txn = Txn {
            then: vec![Op::Rebind {
                key: freed.clone(),
                lease: None,
            }],
            ..Txn::default()
        };
        client.commit(txn).await.expect("rebound");
        let time = client.keep(lease).await.expect("answered");
        assert_eq!(time, Some(Duration::from_secs(2)));
        // Nobody keeps it.
        changes_until(&mut watch, "kept gone").await;
        assert_eq!(client.keep(lease).await, Ok(None));
        let (found, _) = client.get(freed).await.expect("answered");
        assert_eq!(&found.expect("it is there").value[..], b"x");
        client
            .revoke(lease)
            .await
            .expect("over already is no error");
        let missing = Txn {
            then: vec![Op::Rebind {
                key: kept,
                lease: None,
            }],
            ..Txn::default()
        };
        let refused = client.commit(missing).await;
        assert!(matches!(refused, Err(EtcdError::Refused(_))), "{refused:?}");
    });
}

#[test]
fn calls_go_to_the_next_server_where_one_is_dead_hangs_or_is_cut_off() {
    let switch = Switch::new();
    let mut cluster = Cluster::start(&switch);
    let netns = Netns::new("client");
    switch.plug(&netns, "eth0", "192.0.2.1/24");
    let endpoints = cluster.endpoints();
    let mut settings = settings(endpoints);
    settings.timeout = Duration::from_secs(3);
    run_in(&netns, async {
        let client = Client::new(settings).expect("sound");
        let key = client.key("a");
        let mut watch = client.watch(client.key(""), 0);
        let write = |value: &'static str| {
            let (client, key) = (client.clone(), key.clone());
            async move {
                // An election may take a while.
                for _ in 0..20 {
                    if client.put(key.clone(), value.into(), None).await.is_ok() {
                        return;
                    }
                }
                panic!("nobody takes {value}");
            }
        };
        write("1").await;
        changes_until(&mut watch, "a=1").await;
        cluster.members[0].kill();
        write("2").await;
        changes_until(&mut watch, "a=2").await;
        cluster.members[0].run();
        cluster.members[1].freeze();
        write("3").await;
        changes_until(&mut watch, "a=3").await;
        cluster.members[1].thaw();
        switch.cut(&cluster.ports[2]);
        write("4").await;
        changes_until(&mut watch, "a=4").await;
        switch.mend(&cluster.ports[2]);
    });
}

#[test]
fn who_has_no_certificate_or_trusts_another_signer_gets_nowhere() {
    let netns = Netns::new("etcd");
    let mut made = None;
    let etcd = Etcd::start_with(&netns, |dir| {
        made = Some(certificates(dir));
        with_tls(dir)
    });
    let (ca, identity) = made.expect("made");
    let elsewhere = tempfile::tempdir().expect("a directory");
    let (foreign, _) = certificates(elsewhere.path());
    run_in(&netns, async {
        for (ca, identity, is_good) in [
            (ca.clone(), Some(identity.clone()), true),
            (ca, None, false),
            (foreign, Some(identity), false),
        ] {
            let settings = Settings {
                tls: Some(Tls { ca, identity }),
                ..settings(vec![etcd.endpoint()])
            };
            let client = Client::new(settings).expect("sound");
            let answer = client.put(client.key("a"), "1".into(), None).await;
            assert_eq!(answer.is_ok(), is_good, "{answer:?}");
        }
    });
}

#[test]
fn a_user_is_known_by_the_password_and_again_when_the_token_has_run_out() {
    let netns = Netns::new("etcd");
    let mut etcd = Etcd::start(&netns);
    let mut settings = settings(vec![etcd.endpoint()]);
    for command in [
        "user add root:rootpw",
        "role add root",
        "user grant-role root root",
        "user add bootjack:secret",
        "role add bootjack",
        "role grant-permission bootjack --prefix=true readwrite test/",
        "user grant-role bootjack bootjack",
        "auth enable",
    ] {
        etcd.ctl(&command.split(' ').collect::<Vec<_>>());
    }
    run_in(&netns, async {
        let stranger = Client::new(settings.clone()).expect("sound");
        let refused = stranger.put(stranger.key("a"), "1".into(), None).await;
        assert!(matches!(refused, Err(EtcdError::Refused(_))), "{refused:?}");
        let login = |password: &str| {
            Some(Login {
                user: "bootjack".to_owned(),
                password: password.to_owned(),
            })
        };
        settings.login = login("wrong");
        let wrong = Client::new(settings.clone()).expect("sound");
        let refused = wrong.put(wrong.key("a"), "1".into(), None).await;
        let error = refused.expect_err("refused").to_string();
        assert!(error.contains("authentication failed"), "{error}");
        assert!(!error.contains("wrong"), "{error}");
        settings.login = login("secret");
        let client = Client::new(settings).expect("sound");
        let key = client.key("a");
        client
            .put(key.clone(), "1".into(), None)
            .await
            .expect("put");
        let mut watch = client.watch(client.key(""), 0);
        let outside = client.put("elsewhere".into(), "1".into(), None).await;
        assert!(matches!(outside, Err(EtcdError::Refused(_))), "{outside:?}");
        // Tokens are kept in memory by the server that gave them.
        etcd.kill();
        etcd.run();
        client.put(key, "2".into(), None).await.expect("put");
        changes_until(&mut watch, "a=2").await;
    });
}
