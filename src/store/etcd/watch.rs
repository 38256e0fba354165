//! Every change below a prefix, in order and each once. In: the revision that is known. Out: whole revisions, and what became of
//! the connection; a connection that is lost is made again, at the next server, where it left off.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::client::{Client, sentence};
use super::terms::{EtcdError, Event};
use super::wire::{self, Heard};

/// How many answers may wait for who watches.
const WAITING: usize = 64;
/// The pauses between two tries to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What a watch sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is connected; what it missed follows.
    Connected,
    /// The connection is lost, for this reason; it is being made again.
    Lost(String),
    /// Changes, maybe none, and the revision up to which all of them have been seen.
    Changes { events: Vec<Event>, revision: i64 },
    /// What happened since the last revision can no longer be had: read everything anew, and watch from there. The last word.
    Compacted,
}

/// A watch that runs until it is dropped.
pub struct Watch {
    seen: mpsc::Receiver<Seen>,
}

/// Whoever watches is gone.
struct Unheard;

impl Watch {
    pub(super) fn begin(client: Client, prefix: Bytes, after: i64) -> Self {
        let (tell, seen) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            let mut watcher = Watcher {
                client,
                prefix,
                next: after + 1,
                pause: FIRST_PAUSE,
                tell,
            };
            while watcher.watch_once().await.is_ok() {}
        });
        Self { seen }
    }

    /// What is seen next; none after the last word. May be left off and asked again.
    pub async fn next(&mut self) -> Option<Seen> {
        self.seen.recv().await
    }

    /// What has been seen by now, if anything.
    pub fn try_next(&mut self) -> Option<Seen> {
        self.seen.try_recv().ok()
    }
}

struct Watcher {
    client: Client,
    prefix: Bytes,
    /// The first revision that has not been seen.
    next: i64,
    pause: Duration,
    tell: mpsc::Sender<Seen>,
}

impl Watcher {
    /// One connection, from its beginning to its end.
    async fn watch_once(&mut self) -> Result<(), Unheard> {
        let problem = match self.listen().await? {
            EtcdError::Compacted => {
                self.tell(Seen::Compacted).await?;
                return Err(Unheard);
            }
            problem => problem.to_string(),
        };
        self.client.turn_away();
        self.tell(Seen::Lost(problem)).await?;
        tokio::select! {
            () = tokio::time::sleep(self.pause) => {}
            () = self.tell.closed() => return Err(Unheard),
        }
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }

    /// Tells what is heard until the connection ends; answers why it did.
    async fn listen(&mut self) -> Result<EtcdError, Unheard> {
        let (name, line) = match self.client.line().await {
            Ok(line) => line,
            Err(error) => return Ok(error),
        };
        let away = |text: String| EtcdError::Away(format!("{name}: {text}"));
        let begun = line.watch(&self.prefix, self.next);
        let mut listening = match timeout(self.client.timeout(), begun).await {
            Err(_) => return Ok(away("no answer in time".to_owned())),
            Ok(Ok(listening)) => listening,
            Ok(Err(status)) => {
                if wire::is_unknown_caller(&status) {
                    self.client.forget_token();
                }
                return Ok(away(sentence(&status)));
            }
        };
        let mut gathered: Vec<Event> = Vec::new();
        loop {
            let heard = tokio::select! {
                heard = listening.next() => heard,
                () = self.tell.closed() => return Err(Unheard),
            };
            let heard = match heard {
                Ok(heard) => heard,
                Err(status) => return Ok(away(sentence(&status))),
            };
            if let Heard::Canceled(reason) = heard {
                // A token that ran out is told this way too.
                self.client.forget_token();
                return Ok(away(format!("the watch was cancelled: {reason}")));
            }
            match heard {
                Heard::Compacted => return Ok(EtcdError::Compacted),
                Heard::Canceled(_) => {}
                Heard::Begun(revision) => {
                    if revision + 1 < self.next && self.is_lost().await {
                        return Ok(EtcdError::Compacted);
                    }
                    self.pause = FIRST_PAUSE;
                    self.tell(Seen::Connected).await?;
                }
                Heard::Progress(revision) if revision >= self.next => {
                    self.next = revision + 1;
                    let events = Vec::new();
                    self.tell(Seen::Changes { events, revision }).await?;
                }
                Heard::Progress(_) => {}
                Heard::Changes {
                    events,
                    is_part: true,
                    ..
                } => gathered.extend(events),
                Heard::Changes { events, .. } => {
                    gathered.extend(events);
                    let last = gathered.iter().map(|event| event.revision).max();
                    let revision = last.unwrap_or(self.next - 1);
                    self.next = revision + 1;
                    let events = std::mem::take(&mut gathered);
                    self.tell(Seen::Changes { events, revision }).await?;
                }
            }
        }
    }

    /// Whether etcd as a whole, and not just one server that is behind, knows nothing of what was seen: it was restored from a
    /// copy.
    async fn is_lost(&self) -> bool {
        let now = self.client.get(self.prefix.clone()).await;
        now.is_ok_and(|(_, revision)| revision + 1 < self.next)
    }

    async fn tell(&self, seen: Seen) -> Result<(), Unheard> {
        self.tell.send(seen).await.map_err(|_| Unheard)
    }
}
