//! The store that several `bootjackd` share. In: records, as the writing thread hands them over. Out: one transaction, made or
//! overtaken; and what others write, as it is heard of.
//!
//! It has a runtime of its own for its connections, and its calls wait for etcd: for the writing thread alone.

use std::collections::VecDeque;
use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::batch::{self, Move};
use super::client::Client;
use super::mirror::Mirror;
use super::names::{self, HEAD};
use super::plan::{MOST_OPS, Plan};
use super::settings::Settings;
use super::staged::Entry;
use super::terms::{Committed, Compare, EtcdError, KeyValue, Op, Txn};
use super::watch::{Seen, Watch};
use crate::model::Lease;
use crate::store::{Backend, Health, News, RecordChange, Records, StoreError};

/// How long what others have written is waited for: it is on its way already.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a server that is silent is asked whether it is there.
const PROBE: Duration = Duration::from_secs(3);
/// Who was away for longer than its lease and this much more is no longer given its former address back.
const KEEP_ENDED_SECS: u64 = 7 * 86_400;
/// How long a batch is left to whoever committed it.
const ORPHANED: Duration = Duration::from_secs(5);
/// How often leases that ended long ago are looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// Records in etcd.
pub struct Etcd {
    client: Client,
    mirror: Mirror,
    watch: Option<Watch>,
    /// What the watch saw that was not taken in yet.
    seen: VecDeque<Seen>,
    news: Vec<News>,
    /// The keys that overtook the last transaction, each with the revision it has; 0: it is gone.
    awaited: Vec<(String, i64)>,
    /// The word of a transaction that was sent twice, and did not succeed the second time.
    repeated: Option<String>,
    moving: Option<Move>,
    /// Since when a batch has been named that somebody is to move.
    staged_since: Option<Instant>,
    state: State,
    trouble: Option<String>,
    swept: Instant,
    prefix: Bytes,
    /// Last: what runs on it ends with it.
    runtime: Option<Runtime>,
}

/// How etcd is.
struct State {
    away: Option<(u64, String)>,
    is_watching: bool,
    answered: Instant,
    probe: Option<oneshot::Receiver<Result<i64, EtcdError>>>,
}

impl Etcd {
    /// A client of this etcd, which is asked nothing yet. Not on a runtime, nor is any of its calls.
    pub fn new(settings: Settings) -> Result<Self, StoreError> {
        let broken = |problem: String| StoreError::Broken {
            path: "etcd".to_owned(),
            problem,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("etcd")
            .enable_all()
            .build()
            .map_err(|error| broken(error.to_string()))?;
        let client = {
            let _here = runtime.enter();
            Client::new(settings).map_err(|error| broken(error.to_string()))?
        };
        Ok(Self {
            prefix: client.key(""),
            client,
            mirror: Mirror::default(),
            watch: None,
            seen: VecDeque::new(),
            news: Vec::new(),
            awaited: Vec::new(),
            repeated: None,
            moving: None,
            staged_since: None,
            state: State {
                away: None,
                is_watching: false,
                answered: Instant::now(),
                probe: None,
            },
            trouble: None,
            swept: Instant::now(),
            runtime: Some(runtime),
        })
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime().block_on(work)
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is there until the end")
    }

    /// The key's name below the prefix.
    fn name(&self, key: &[u8]) -> String {
        let name = key.get(self.prefix.len()..).unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }

    /// Reads everything anew, and has it told: what happened in between is not known otherwise, and the next transaction would be
    /// compared with what nobody here has heard of.
    fn read_anew(&mut self) -> Result<(), StoreError> {
        match self.read() {
            Ok(records) => {
                self.trouble = None;
                self.news.push(News::All(records));
                Ok(())
            }
            Err(error) => {
                let problem = format!("what others have written cannot be read anew: {error}");
                self.trouble = Some(problem);
                Err(error)
            }
        }
    }

    /// Everything that there is, and a watch of what follows.
    fn read(&mut self) -> Result<Records, StoreError> {
        let listing = loop {
            let listing = self.wait(self.client.list(&self.prefix));
            match listing {
                Err(EtcdError::Compacted) => {}
                other => break other.map_err(failed)?,
            }
        };
        let entries = (listing.entries.into_iter())
            .map(|kv| (self.name(&kv.key), kv))
            .collect();
        let (mirror, records) =
            Mirror::read(entries, listing.revision).map_err(|problem| StoreError::Broken {
                path: format!("etcd {}", String::from_utf8_lossy(&self.prefix)),
                problem,
            })?;
        self.mirror = mirror;
        self.seen.clear();
        let watch = {
            let _here = self.runtime().enter();
            self.client.watch(self.prefix.clone(), listing.revision)
        };
        self.watch = Some(watch);
        self.answered();
        Ok(records)
    }

    fn answered(&mut self) {
        self.state.answered = Instant::now();
    }

    fn go_away(&mut self, problem: &str) {
        if self.state.away.is_none() {
            self.state.away = Some((unix_now(), problem.to_owned()));
        }
    }

    fn take_in(&mut self, seen: Seen) {
        match seen {
            Seen::Connected => {
                self.state.is_watching = true;
                self.answered();
            }
            Seen::Lost(_) => self.state.is_watching = false,
            Seen::Changes { events, revision } => {
                self.answered();
                let events = (events.into_iter())
                    .map(|event| (self.name(&event.key), event))
                    .collect();
                let (changes, problems) = self.mirror.hear(events, revision);
                if let Some(problem) = problems.first() {
                    self.trouble = Some(format!(
                        "a record of another replica is passed over: {problem}"
                    ));
                }
                if !changes.is_empty() {
                    self.news.push(News::Changes(changes));
                }
            }
            Seen::Compacted => {
                self.watch = None;
                // Without an answer it is tried again.
                let _ = self.read_anew();
            }
        }
    }

    /// Takes in all that was seen, and waits for nothing.
    fn take_in_all(&mut self) {
        loop {
            while let Some(seen) = self.seen.pop_front() {
                self.take_in(seen);
            }
            match self.watch.as_mut().and_then(Watch::try_next) {
                Some(seen) => self.take_in(seen),
                None => return,
            }
        }
    }

    /// Waits until what is known has become so, and takes in what is heard meanwhile.
    fn wait_until(&mut self, is_so: impl Fn(&Self) -> bool) -> Result<(), StoreError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.take_in_all();
            if is_so(self) {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let seen = match &mut self.watch {
                None => None,
                Some(watch) => {
                    let next = async { tokio::time::timeout(left, watch.next()).await };
                    let runtime = self.runtime.as_ref().expect("it is there until the end");
                    runtime.block_on(next).ok().flatten()
                }
            };
            match seen {
                Some(seen) => self.take_in(seen),
                None if self.watch.is_none() && self.read_anew().is_ok() => {}
                None => {
                    let problem = "what others wrote was not heard of in time";
                    self.go_away(problem);
                    return Err(StoreError::Away(problem.to_owned()));
                }
            }
        }
    }

    /// Carries out one transaction.
    fn carry_out(&mut self, plan: Plan, records: &[RecordChange]) -> Result<(), StoreError> {
        let compared: Vec<(String, i64)> = plan.compare.clone().into_iter().collect();
        let txn = self.txn(&plan, &compared);
        match self.wait(self.client.commit(txn)) {
            Err(error) => Err(self.lost(error)),
            Ok(committed) if committed.succeeded => {
                self.answered();
                self.mirror.wrote(records, plan.head, committed.revision);
                Ok(())
            }
            Ok(committed) => {
                self.answered();
                self.repeated =
                    (plan.head.filter(|_| committed.was_repeated)).map(|(head, _)| head.by);
                self.overtaken(compared, committed);
                Err(StoreError::Overtaken)
            }
        }
    }

    fn overtaken(&mut self, compared: Vec<(String, i64)>, committed: Committed) {
        let found = committed.found.into_iter();
        let found = found.map(|kv| kv.map_or(0, |kv: KeyValue| kv.mod_revision));
        self.awaited = (compared.into_iter().zip(found))
            .filter(|((_, was), is)| was != is)
            .map(|((name, _), is)| (name, is))
            .collect();
    }

    fn lost(&mut self, error: EtcdError) -> StoreError {
        if let EtcdError::Away(problem) = &error {
            self.go_away(problem);
        }
        failed(error)
    }

    fn txn(&self, plan: &Plan, compared: &[(String, i64)]) -> Txn {
        let key = |name: &String| self.client.key(name);
        Txn {
            compare: (compared.iter())
                .map(|(name, is)| Compare::Revision {
                    key: key(name),
                    is: *is,
                })
                .collect(),
            then: (plan.writes.iter())
                .map(|(name, value)| match value {
                    Some(value) => Op::Put {
                        key: key(name),
                        value: value.clone(),
                        lease: None,
                    },
                    None => Op::Delete { key: key(name) },
                })
                .collect(),
            otherwise: (compared.iter())
                .map(|(name, _)| Op::Get { key: key(name) })
                .collect(),
        }
    }

    /// Whether what is awaited is known by now: that revision or a later one.
    fn knows(&self, name: &str, is: i64) -> bool {
        let at = match name {
            HEAD => self.mirror.head_at,
            names::FENCE => self.mirror.fence_at,
            _ => match names::address(name) {
                Some(address) if is == 0 => {
                    return self.mirror.lease_at(address) == 0;
                }
                Some(address) => self.mirror.lease_at(address),
                None => return true,
            },
        };
        at >= is
    }

    /// Has a batch that somebody has committed stand under the keys of its records: before that nothing else is changed.
    fn finish_move(&mut self) -> Result<(), StoreError> {
        if self.moving.is_none() {
            self.begin_move();
        }
        let Some(moving) = self.moving.take() else {
            return Ok(());
        };
        let before = self.mirror.head_at;
        let moved = self.wait(moving.end());
        moved.map_err(|error| self.lost(error))?;
        self.wait_until(|etcd| etcd.mirror.head_at > before || etcd.mirror.head.staged.is_none())
    }

    fn begin_move(&mut self) {
        let client = self.client.clone();
        let (head, at) = (self.mirror.head.clone(), self.mirror.head_at);
        let _here = self.runtime.as_ref().map(Runtime::enter);
        self.moving = Some(Move::begin(client, head, at));
    }

    /// Whoever has committed a batch moves it, unless it has died.
    fn look_after_moves(&mut self) {
        if self.mirror.head.staged.is_none() {
            self.staged_since = None;
            self.moving = None;
            return;
        }
        let since = *self.staged_since.get_or_insert_with(Instant::now);
        if self.moving.is_none() && since.elapsed() >= ORPHANED {
            self.begin_move();
        }
    }

    /// A batch: staged first, and made true by one transaction.
    fn write_staged(&mut self, plan: Plan, records: &[RecordChange]) -> Result<(), StoreError> {
        let Some((head, with_fence)) = plan.head else {
            return Ok(());
        };
        let entries: Vec<Entry> = (plan.writes.iter())
            .filter(|(name, _)| *name != HEAD && *name != names::FENCE)
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let head = names::Head {
            staged: Some(head.by.clone()),
            ..head
        };
        let committed = self.wait(batch::commit(
            &self.client,
            &entries,
            &head,
            self.mirror.head_at,
        ));
        match committed {
            Err(batch::BatchError::TooLarge(problem)) => Err(StoreError::Broken {
                path: "etcd".to_owned(),
                problem,
            }),
            Err(batch::BatchError::Etcd(error)) => Err(self.lost(error)),
            Ok(committed) if committed.succeeded => {
                self.answered();
                let head = Some((head, with_fence));
                self.mirror.wrote(records, head, committed.revision);
                self.begin_move();
                Ok(())
            }
            Ok(committed) => {
                self.answered();
                self.repeated = committed.was_repeated.then(|| head.by.clone());
                self.overtaken(vec![(HEAD.to_owned(), self.mirror.head_at)], committed);
                Err(StoreError::Overtaken)
            }
        }
    }

    /// Whether etcd is there again, or still: asked on the side.
    fn look_after(&mut self) {
        if let Some(probe) = &mut self.state.probe {
            match probe.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => return,
                Ok(Ok(head_at)) => {
                    self.state.probe = None;
                    self.answered();
                    self.take_in_all();
                    if self.watch.is_none() {
                        let _ = self.read_anew();
                    }
                    if self.state.is_watching && self.mirror.head_at >= head_at {
                        self.state.away = None;
                    }
                }
                Ok(Err(error)) => {
                    self.state.probe = None;
                    self.go_away(&error.to_string());
                }
                Err(oneshot::error::TryRecvError::Closed) => self.state.probe = None,
            }
        }
        let is_silent = self.state.answered.elapsed() >= PROBE;
        if self.state.away.is_some() || !self.state.is_watching || is_silent {
            let (tell, told) = oneshot::channel();
            let client = self.client.clone();
            self.runtime().spawn(async move {
                let head = client.get(client.key(HEAD)).await;
                let head = head.map(|(kv, _)| kv.map_or(0, |kv| kv.mod_revision));
                let _ = tell.send(head);
            });
            self.state.probe = Some(told);
        }
    }

    /// Takes leases away that ended so long ago that nobody comes back to them.
    fn sweep(&mut self) {
        if self.swept.elapsed() < SWEEP || self.state.away.is_some() {
            return;
        }
        self.swept = Instant::now();
        let now = unix_now();
        let ended: Vec<RecordChange> = (self.mirror.leases())
            .filter(|lease| lease.expires_secs.saturating_add(KEEP_ENDED_SECS) < now)
            .take(MOST_OPS - 1)
            .map(|lease| RecordChange::DeleteLease(lease.address))
            .collect();
        if let [_, ..] = ended.as_slice()
            && let Ok(plan) = Plan::of(&ended, &self.mirror, "")
            && self.carry_out(plan, &ended).is_ok()
        {
            self.news.push(News::Changes(ended));
        }
    }
}

impl Backend for Etcd {
    fn load(&mut self) -> Result<Records, StoreError> {
        self.read()
    }

    fn write(&mut self, changes: &[RecordChange]) -> Result<(), StoreError> {
        if let Some((_, problem)) = &self.state.away {
            return Err(StoreError::Away(problem.clone()));
        }
        let word = random_word();
        let broken = |problem| StoreError::Broken {
            path: "etcd".to_owned(),
            problem,
        };
        let plan = Plan::of(changes, &self.mirror, &word).map_err(broken)?;
        if plan.head.is_some() && self.mirror.head.staged.is_some() {
            self.finish_move()?;
            return Err(StoreError::Overtaken);
        }
        match (plan.fits(), &plan.head) {
            (true, _) => self.carry_out(plan, changes),
            (false, Some(_)) => self.write_staged(plan, changes),
            // Leases alone need not be written together.
            (false, None) => {
                (changes.chunks(MOST_OPS / 2)).try_for_each(|changes| self.write(changes))
            }
        }
    }

    fn tidy(&mut self) {
        self.take_in_all();
        self.look_after();
        self.sweep();
        self.look_after_moves();
    }

    fn health(&self) -> Health {
        let away = self.state.away.as_ref();
        let trouble = away.map(|(_, problem)| {
            format!("{problem}; known machines are answered from memory, new clients are not")
        });
        Health {
            trouble: trouble.or_else(|| self.trouble.clone()),
            away_since_secs: away.map(|(since, _)| *since),
            ..Health::default()
        }
    }

    fn close(&mut self) {
        self.watch = None;
        if let Some(moving) = self.moving.take() {
            // Whoever comes next does it otherwise.
            let _ = self.wait(moving.end());
        }
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn records_per_write(&self) -> usize {
        MOST_OPS - 20
    }

    fn heard(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            if !self.news.is_empty() || !self.seen.is_empty() {
                return;
            }
            let seen = match &mut self.watch {
                Some(watch) => watch.next().await,
                None => std::future::pending().await,
            };
            match seen {
                Some(seen) => self.seen.push_back(seen),
                None => {
                    self.watch = None;
                    self.state.is_watching = false;
                }
            }
        })
    }

    fn news(&mut self) -> Vec<News> {
        self.take_in_all();
        std::mem::take(&mut self.news)
    }

    fn catch_up(&mut self) -> Result<(), StoreError> {
        let awaited = std::mem::take(&mut self.awaited);
        self.wait_until(|etcd| awaited.iter().all(|(name, is)| etcd.knows(name, *is)))
    }

    fn confirm(&mut self) -> Result<(), StoreError> {
        if let Some((_, problem)) = &self.state.away {
            return Err(StoreError::Away(problem.clone()));
        }
        let head = self.wait(self.client.get(self.client.key(HEAD)));
        let (head, _) = head.map_err(|error| self.lost(error))?;
        self.answered();
        let at = head.map_or(0, |head| head.mod_revision);
        if at == self.mirror.head_at {
            return Ok(());
        }
        self.awaited = vec![(HEAD.to_owned(), at)];
        Err(StoreError::Overtaken)
    }

    fn kept(&self, address: Ipv4Addr) -> Option<Lease> {
        self.mirror.lease(address).cloned()
    }

    fn all_kept(&self) -> Vec<Lease> {
        self.mirror.leases().cloned().collect()
    }

    fn was_made(&mut self) -> bool {
        let word = self.repeated.take();
        word.is_some_and(|word| self.mirror.knows_word(&word))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may be dropped where nobody may wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn failed(error: EtcdError) -> StoreError {
    match error {
        EtcdError::Away(problem) => StoreError::Away(problem),
        other => StoreError::Broken {
            path: "etcd".to_owned(),
            problem: other.to_string(),
        },
    }
}

fn unix_now() -> u64 {
    (SystemTime::now().duration_since(UNIX_EPOCH)).map_or(0, |since| since.as_secs())
}

fn random_word() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
