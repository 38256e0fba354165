//! Who is a member, as real etcd servers see it: joining, leaving, dying, being cut off, and what operators write.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bootjackd::model::MacAddr;
use bootjackd::replicas::desk::Desk;
use bootjackd::replicas::following::Following;
use bootjackd::replicas::group::{Canary, Counts, Group, Member, Override};
use bootjackd::replicas::membership::{Identity, JoinError, Membership};
use bootjackd::replicas::shared::Known;
use bootjackd::store::etcd::{Client, Settings};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::support::etcd::{Cluster, Etcd, Switch};
use crate::support::netns::Netns;

/// A hang is a failure; this only bounds how long one is waited for.
const HANG: Duration = Duration::from_secs(60);
const TTL_SECS: u64 = 3;

/// A replica without its DHCP.
struct Replica {
    known: Arc<Known>,
    desk: Desk,
    keeping: JoinHandle<()>,
    following: JoinHandle<()>,
    leave: CancellationToken,
}

fn identity(n: u8) -> Identity {
    let member = Member {
        id: format!("replica-{n}"),
        instance: format!("{n}-{:?}", std::time::Instant::now()),
        addresses: Vec::new(),
        server_ids: Vec::new(),
        weight: 10,
        ttl_secs: TTL_SECS,
        version: "1".to_owned(),
        since_secs: 1,
        counts: Counts::default(),
    };
    let addresses = Vec::new();
    Identity { member, addresses }
}

fn client(endpoints: &[String]) -> Client {
    let settings = Settings {
        endpoints: endpoints.to_vec(),
        prefix: "test".to_owned(),
        tls: None,
        login: None,
        timeout: Duration::from_millis(500),
    };
    Client::new(settings).expect("sound")
}

impl Replica {
    async fn join(n: u8, endpoints: &[String]) -> Result<Self, JoinError> {
        let client = client(endpoints);
        let known = Known::new(format!("replica-{n}"));
        let server_ids = Arc::new(ArcSwap::from_pointee(vec![Ipv4Addr::new(198, 18, 0, n)]));
        let membership =
            Membership::join(client.clone(), identity(n), server_ids, known.clone()).await?;
        let following = Following::begin(client.clone(), known.clone()).await?;
        let leave = CancellationToken::new();
        Ok(Self {
            desk: Desk::new(client, known.clone(), following.seen()),
            keeping: tokio::spawn(membership.keep(leave.clone())),
            following: tokio::spawn(following.keep_up()),
            known,
            leave,
        })
    }

    async fn leave(self) {
        self.leave.cancel();
        let left = timeout(HANG, self.keeping).await;
        left.expect("it leaves in time").expect("no panic");
        self.following.abort();
    }

    /// What SIGKILL leaves of it: nobody keeps its lease.
    fn die(self) {
        self.keeping.abort();
        self.following.abort();
    }

    fn members(&self) -> Vec<String> {
        let group = self.known.group();
        group
            .members()
            .iter()
            .map(|m| m.id.replace("replica-", ""))
            .collect()
    }

    /// Waits until it knows these members, and answers how long that took.
    async fn sees(&self, members: &[&str]) -> Duration {
        self.until(|group| {
            let ids = group.members().iter().map(|m| m.id.replace("replica-", ""));
            ids.eq(members.iter().copied())
        })
        .await
    }

    async fn until(&self, is_so: impl Fn(&Group) -> bool) -> Duration {
        let began = Instant::now();
        while !is_so(&self.known.group()) {
            assert!(began.elapsed() < HANG, "still {:?}", self.known.group());
            sleep(Duration::from_millis(5)).await;
        }
        began.elapsed()
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

#[test]
fn replicas_join_and_leave_and_every_other_one_follows() {
    let netns = Netns::new("etcd");
    let etcd = Etcd::start(&netns);
    run_in(&netns, async {
        let endpoints = [etcd.endpoint()];
        let first = Replica::join(1, &endpoints).await.expect("joined");
        assert_eq!(first.members(), ["1"], "known as soon as it has joined");
        assert_eq!(first.known.group().buckets_of("replica-1"), 256);
        let second = Replica::join(2, &endpoints).await.expect("joined");
        let third = Replica::join(3, &endpoints).await.expect("joined");
        for replica in [&first, &second, &third] {
            replica.sees(&["1", "2", "3"]).await;
        }
        let shares = [1, 2, 3].map(|n| first.known.group().buckets_of(&format!("replica-{n}")));
        assert_eq!(shares.iter().sum::<usize>(), 256);
        assert!(shares.iter().all(|share| *share > 40), "{shares:?}");
        second.leave().await;
        first.sees(&["1", "3"]).await;
        assert!(first.known.group().has_left(Ipv4Addr::new(198, 18, 0, 2)));
        // Nothing but those who live stands in etcd.
        let keys = etcd.ctl(&["get", "--prefix", "--keys-only", "test/"]);
        let keys: Vec<&str> = keys.split_whitespace().collect();
        assert_eq!(keys, ["test/replicas/replica-1", "test/replicas/replica-3"]);
    });
}

#[test]
fn a_dead_replica_is_gone_with_its_lease_and_one_that_was_cut_off_says_so_and_comes_back() {
    let switch = Switch::new();
    let mut cluster = Cluster::start(&switch);
    let (here, there) = (Netns::new("here"), Netns::new("there"));
    switch.plug(&here, "eth0", "192.0.2.1/24");
    let port = switch.plug(&there, "eth0", "192.0.2.2/24");
    let endpoints = cluster.endpoints();
    std::thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        let (ask, asked) = tokio::sync::oneshot::channel::<()>();
        let of_there = endpoints.clone();
        let there = &there;
        scope.spawn(move || {
            run_in(there, async {
                let second = Replica::join(2, &of_there).await.expect("joined");
                tell.send(second.known.clone()).expect("heard");
                let _ = asked.await;
                second.leave().await;
            });
        });
        let second = told.recv().expect("it joined");
        run_in(&here, async {
            let first = Replica::join(1, &endpoints).await.expect("joined");
            first.sees(&["1", "2"]).await;

            let doomed = Replica::join(3, &endpoints).await.expect("joined");
            first.sees(&["1", "2", "3"]).await;
            doomed.die();
            let took = first.sees(&["1", "2"]).await;
            println!(
                "a dead replica was gone {took:?} after it died, its lease being {TTL_SECS} s"
            );

            switch.cut(&port);
            first.sees(&["1"]).await;
            let began = Instant::now();
            while second.is_confirmed() {
                assert!(began.elapsed() < HANG, "it does not notice");
                sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(
                second.group().members().len(),
                2,
                "it goes on with what it knew"
            );
            switch.mend(&port);
            first.sees(&["1", "2"]).await;
            while !second.is_confirmed() {
                assert!(began.elapsed() < HANG, "it does not come back");
                sleep(Duration::from_millis(20)).await;
            }

            // Without most of etcd no lease ends, and the shares stay as they were.
            cluster.members[0].kill();
            cluster.members[1].kill();
            let began = Instant::now();
            while first.known.is_confirmed() {
                assert!(began.elapsed() < HANG, "it does not notice");
                sleep(Duration::from_millis(20)).await;
            }
            assert_eq!(first.members(), ["1", "2"]);
            assert_eq!(second.group().members().len(), 2);
            cluster.members[0].run();
            while !first.known.is_confirmed() {
                assert!(began.elapsed() < HANG, "it does not come back");
                sleep(Duration::from_millis(20)).await;
            }
            first.sees(&["1", "2"]).await;
            ask.send(()).expect("it waits");
            first.sees(&["1"]).await;
        });
    });
}

#[test]
fn the_id_of_a_replica_that_lives_is_refused_and_that_of_a_dead_one_taken_over_when_its_lease_ends()
{
    let netns = Netns::new("etcd");
    let etcd = Etcd::start(&netns);
    run_in(&netns, async {
        let endpoints = [etcd.endpoint()];
        let first = Replica::join(1, &endpoints).await.expect("joined");
        let error = Replica::join(1, &endpoints).await.err().expect("refused");
        assert_eq!(
            error.to_string(),
            "replicas: replica-1 is the id of another replica, which lives and serves from 198.18.0.1; give each one an id of its own (replicas.id)"
        );
        assert_eq!(first.members(), ["1"], "nobody noticed");
        first.die();
        let again = Replica::join(1, &endpoints).await.expect("its lease ended");
        assert_eq!(again.members(), ["1"]);
    });
}

#[test]
fn what_operators_write_is_followed_by_all_and_an_override_ends_in_etcd_too() {
    let netns = Netns::new("etcd");
    let etcd = Etcd::start(&netns);
    run_in(&netns, async {
        let endpoints = [etcd.endpoint()];
        let first = Replica::join(1, &endpoints).await.expect("joined");
        let second = Replica::join(2, &endpoints).await.expect("joined");
        let canary = Canary {
            replica: "replica-2".to_owned(),
            percent: 10,
        };
        first.desk.set_canary(&canary).await.expect("written");
        assert_eq!(first.known.group().canary(), Some(&canary), "at once");
        second.until(|group| group.canary() == Some(&canary)).await;
        let told = Override {
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            replica: "replica-1".to_owned(),
            expires_secs: 2,
        };
        second.desk.put_override(&told, 0).await.expect("written");
        first.until(|group| group.overrides(0) == [&told]).await;
        first.desk.clear_canary().await.expect("written");
        second.until(|group| group.canary().is_none()).await;
        first.until(|group| group.overrides(0).is_empty()).await;

        // A watch that missed what etcd has forgotten since reads everything anew.
        etcd.freeze();
        etcd.thaw();
        etcd.compact();
        first.desk.put_override(&told, 0).await.expect("written");
        second.until(|group| group.overrides(0) == [&told]).await;
        first.desk.delete_override(told.mac).await.expect("written");
        second.until(|group| group.overrides(0).is_empty()).await;
    });
}

#[test]
fn a_key_that_somebody_deleted_comes_back_and_one_that_is_anothers_is_said_until_it_is_free() {
    let netns = Netns::new("etcd");
    let etcd = Etcd::start(&netns);
    let key = "test/replicas/replica-1";
    run_in(&netns, async {
        let endpoints = [etcd.endpoint()];
        let first = Replica::join(1, &endpoints).await.expect("joined");
        let second = Replica::join(2, &endpoints).await.expect("joined");
        etcd.ctl(&["del", key]);
        second.sees(&["2"]).await;
        // Nobody asks it for anything: it looks by itself.
        second.sees(&["1", "2"]).await;

        let record = etcd.ctl(&["get", "--print-value-only", key]);
        let stolen = record.trim_end().replacen("\"1-", "\"x-", 1);
        assert_ne!(stolen, record.trim_end(), "{record}");
        etcd.ctl(&["put", key, &stolen]);
        let confirmed = async |is: bool| {
            let began = Instant::now();
            while first.known.is_confirmed() != is {
                assert!(began.elapsed() < HANG, "is_confirmed is not {is}");
                sleep(Duration::from_millis(20)).await;
            }
        };
        confirmed(false).await;
        etcd.ctl(&["del", key]);
        confirmed(true).await;
        second.sees(&["1", "2"]).await;
        let record = etcd.ctl(&["get", "--print-value-only", key]);
        assert!(record.contains("\"1-"), "{record}");
    });
}
