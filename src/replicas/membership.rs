//! Keeps this replica a member. In: etcd, and the addresses it serves from. Out: its key, as long as it lives; and word when the
//! others may think that it does not.
//!
//! A member is a key that is bound to a lease. The lease is kept several times in its time; where it could not be kept for the
//! whole of it, the others may have taken over. Where etcd is away from all, no lease ends: the shares stay as they were.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use thiserror::Error;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::group::Member;
use super::record::{self, Key, Record};
use super::shared::Known;
use crate::model::Event;
use crate::observe::emit;
use crate::store::etcd::{Client, Compare, EtcdError, KeyValue, LeaseId, Op, Txn};

/// How often in its time a lease is kept: one that is lost on the way is no harm.
const KEPT_EACH: u32 = 3;
/// How often the others are told what this one did, at most.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// How much longer than its lease a dead replica of the same name is waited for.
const GRACE: Duration = Duration::from_secs(3);
/// How long leaving may take: its lease ends by itself.
const LEAVING: Duration = Duration::from_secs(2);

/// The addresses that DHCP is served from, as they change.
pub type ServerIds = Arc<ArcSwap<Vec<Ipv4Addr>>>;

/// Why this replica is no member.
#[derive(Debug, Error)]
pub enum JoinError {
    #[error(
        "replicas: {id} is the id of another replica, which lives and serves from {addresses}; give each one an id of its own (replicas.id)"
    )]
    Taken { id: String, addresses: String },
    #[error("replicas: cannot join: {0}")]
    Etcd(#[from] EtcdError),
}

/// What this replica says of itself.
#[derive(Clone, Debug)]
pub struct Identity {
    /// As far as it does not change; addresses and counts are filled in.
    pub member: Member,
    /// Where others forward to; empty: wherever DHCP is served from.
    pub addresses: Vec<Ipv4Addr>,
}

/// This replica as a member.
pub struct Membership {
    client: Client,
    known: Arc<Known>,
    identity: Identity,
    server_ids: ServerIds,
    ttl: Duration,
    lease: LeaseId,
    /// When the lease was last known to have its whole time.
    confirmed: Instant,
    /// Its record as it was last written, and when.
    written: (Vec<u8>, Instant),
    /// Whether its key is its own, as far as is known.
    is_member: bool,
}

/// What became of a try to write its key.
enum Registered {
    Done,
    /// Another process has the key.
    Held(Box<Member>),
    /// Somebody wrote it meanwhile: look again.
    Overtaken,
}

impl Membership {
    /// Makes this replica a member. A dead one of the same name is waited for until its lease ends.
    pub async fn join(
        client: Client,
        identity: Identity,
        server_ids: ServerIds,
        known: Arc<Known>,
    ) -> Result<Self, JoinError> {
        let ttl = Duration::from_secs(identity.member.ttl_secs);
        let confirmed = Instant::now();
        let mut membership = Self {
            lease: client.grant(ttl).await?,
            client,
            known,
            identity,
            server_ids,
            ttl,
            confirmed,
            written: (Vec::new(), confirmed),
            is_member: true,
        };
        membership.wait_for_the_key().await?;
        membership.known.set_confirmed(true);
        Ok(membership)
    }

    async fn wait_for_the_key(&mut self) -> Result<(), JoinError> {
        let mut until: Option<Instant> = None;
        loop {
            let other = match self.register().await? {
                Registered::Done => return Ok(()),
                Registered::Held(other) => other,
                Registered::Overtaken => continue,
            };
            let wait = Duration::from_secs(other.ttl_secs) + GRACE;
            match until {
                None => tell_waiting(&other, wait),
                Some(until) if Instant::now() >= until => {
                    return Err(JoinError::Taken {
                        id: other.id,
                        addresses: list(&other.server_ids),
                    });
                }
                Some(_) => {}
            }
            until.get_or_insert(Instant::now() + wait);
            sleep(self.ttl / 10).await;
            // Its own lease must not end while it waits for another's.
            self.client.keep(self.lease).await?;
        }
    }

    /// Writes its key, if nobody has it or this process itself, from before.
    async fn register(&mut self) -> Result<Registered, EtcdError> {
        let (key, record) = (self.key(), self.record());
        let (current, _) = self.client.get(key.clone()).await?;
        let own = &self.identity.member;
        if let Some(other) = current.as_ref().and_then(|held| holder(&own.id, held))
            && other.instance != own.instance
        {
            return Ok(Registered::Held(Box::new(other)));
        }
        let is = current.map_or(0, |held| held.mod_revision);
        let txn = Txn {
            compare: vec![Compare::Revision {
                key: key.clone(),
                is,
            }],
            then: vec![self.put(key, &record)],
            otherwise: Vec::new(),
        };
        if !self.client.commit(txn).await?.succeeded {
            return Ok(Registered::Overtaken);
        }
        self.written = (record, Instant::now());
        Ok(Registered::Done)
    }

    /// Keeps the membership until `leave`, and ends it then, so that the others take over at once.
    pub async fn keep(mut self, leave: CancellationToken) {
        let mut ticks = interval(self.ttl / KEPT_EACH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let leaving = leave.clone();
        let keeping = async {
            loop {
                ticks.tick().await;
                self.keep_once().await;
            }
        };
        leaving.run_until_cancelled(keeping).await;
        let left = timeout(LEAVING, self.client.revoke(self.lease)).await;
        let problem = match left {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        emit(&Event::Noticed {
            about: "replicas",
            detail: format!("cannot leave: {problem}; its lease ends by itself"),
        });
    }

    async fn keep_once(&mut self) {
        let (began, over) = (Instant::now(), self.confirmed + self.ttl);
        let client = self.client.clone();
        let kept = client.keep(self.lease);
        tokio::pin!(kept);
        let kept = tokio::select! {
            kept = &mut kept => kept,
            () = sleep_until(over), if self.known.is_confirmed() => {
                self.tell_unconfirmed();
                kept.await
            }
        };
        let done = match kept {
            Ok(Some(_)) => {
                self.confirmed = began;
                self.write_again().await
            }
            Ok(None) => self.rejoin().await,
            Err(error) => Err(error),
        };
        let is_fresh = self.confirmed.elapsed() < self.ttl;
        if let Ok(is_member) = done {
            self.is_member = is_member;
        }
        match (done, is_fresh) {
            (Ok(true), true) => self.tell_confirmed(),
            (Err(_), true) => {}
            (Ok(false), _) | (_, false) => self.tell_unconfirmed(),
        }
    }

    /// Tells the others where it is now and, now and then, what it did; answers whether it is a member still.
    async fn write_again(&mut self) -> Result<bool, EtcdError> {
        if !self.is_member {
            return self.register_anew().await;
        }
        let record = self.record();
        let (before, at) = &self.written;
        let has_moved = !same_but_counts(before, &record, &self.identity.member.id);
        // Also where nothing is new: somebody may have deleted the key.
        if !has_moved && at.elapsed() < TOLD_EVERY {
            return Ok(true);
        }
        let key = self.key();
        let txn = Txn {
            compare: vec![Compare::Value {
                key: key.clone(),
                is: before.clone().into(),
            }],
            then: vec![self.put(key, &record)],
            otherwise: Vec::new(),
        };
        if self.client.commit(txn).await?.succeeded {
            self.written = (record, Instant::now());
            return Ok(true);
        }
        // An earlier try came through, or somebody deleted the key.
        self.register_anew().await
    }

    /// Its lease ended while it was away; its key went with it.
    async fn rejoin(&mut self) -> Result<bool, EtcdError> {
        let began = Instant::now();
        self.lease = self.client.grant(self.ttl).await?;
        self.confirmed = began;
        self.register_anew().await
    }

    /// Whether its key is its own again, or may be soon. That it is another's is said once.
    async fn register_anew(&mut self) -> Result<bool, EtcdError> {
        let registered = self.register().await?;
        if let Registered::Held(other) = &registered
            && self.is_member
        {
            emit(&Event::Failed {
                about: "replicas",
                error: format!(
                    "{} is the id of another replica, which serves from {}; give each one an id of its own (replicas.id)",
                    other.id,
                    list(&other.server_ids)
                ),
            });
        }
        Ok(!matches!(registered, Registered::Held(_)))
    }

    fn key(&self) -> Bytes {
        (self.client).key(record::member_key(&self.identity.member.id))
    }

    fn put(&self, key: Bytes, record: &[u8]) -> Op {
        Op::Put {
            key,
            value: Bytes::copy_from_slice(record),
            lease: Some(self.lease),
        }
    }

    /// The record as it is now.
    fn record(&self) -> Vec<u8> {
        let server_ids = self.server_ids.load().to_vec();
        let addresses = match self.identity.addresses.as_slice() {
            [] => server_ids.clone(),
            named => named.to_vec(),
        };
        record::member_text(&Member {
            addresses,
            server_ids,
            counts: self.known.counts(),
            ..self.identity.member.clone()
        })
    }

    fn tell_confirmed(&self) {
        if !self.known.set_confirmed(true) {
            tell(&self.known, "confirmed");
        }
    }

    fn tell_unconfirmed(&self) {
        if self.known.set_confirmed(false) {
            tell(&self.known, "unconfirmed");
        }
    }
}

/// Says how the group stands, and what changed.
pub(super) fn tell(known: &Known, change: &'static str) {
    let group = known.group();
    emit(&Event::Replicas {
        members: group.members().iter().map(|m| m.id.clone()).collect(),
        buckets: group.buckets_of(group.own_id()),
        is_confirmed: known.is_confirmed(),
        change,
    });
}

fn tell_waiting(other: &Member, wait: Duration) {
    emit(&Event::Noticed {
        about: "replicas",
        detail: format!(
            "a replica {} that serves from {} has not left; waiting up to {} s for its lease to end",
            other.id,
            list(&other.server_ids),
            wait.as_secs()
        ),
    });
}

/// Who has the key. One that cannot be read is nobody's.
fn holder(id: &str, held: &KeyValue) -> Option<Member> {
    match record::read(Key::Member(id.to_owned()), &held.value) {
        Ok(Record::Member(member)) => Some(member),
        _ => None,
    }
}

fn same_but_counts(before: &[u8], now: &[u8], id: &str) -> bool {
    let member = |text: &[u8]| match record::read(Key::Member(id.to_owned()), text) {
        Ok(Record::Member(member)) => Some(Member {
            counts: Default::default(),
            ..member
        }),
        _ => None,
    };
    member(before) == member(now)
}

fn list(addresses: &[Ipv4Addr]) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join(", ")
}
