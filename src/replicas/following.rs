//! Follows the other replicas. In: what stands in etcd about them, and every change of it. Out: the group as it stands, for
//! whoever answers packets to read without waiting; and word of who came and who went.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::group::{Group, Member};
use super::membership::tell;
use super::record::PREFIX;
use super::roll::Roll;
use super::shared::Known;
use crate::model::Event;
use crate::observe::emit;
use crate::store::etcd::{Client, EtcdError, Seen, Watch};

/// The pause before all is read anew where it could not be.
const PAUSE: Duration = Duration::from_millis(500);

/// The others, as they are followed.
pub struct Following {
    client: Client,
    known: Arc<Known>,
    roll: Roll,
    watch: Watch,
    /// The revision up to which the group is known.
    seen: watch::Sender<i64>,
}

impl Following {
    /// Reads how all stands.
    pub async fn begin(client: Client, known: Arc<Known>) -> Result<Self, EtcdError> {
        let (roll, revision) = read(&client).await?;
        let following = Self {
            watch: client.watch(client.key(PREFIX), revision),
            client,
            known,
            roll,
            seen: watch::channel(revision).0,
        };
        following.publish();
        Ok(following)
    }

    /// Tells up to which revision the group is known.
    pub fn seen(&self) -> watch::Receiver<i64> {
        self.seen.subscribe()
    }

    /// Follows for as long as it is polled.
    pub async fn keep_up(mut self) {
        loop {
            match self.watch.next().await {
                Some(Seen::Connected | Seen::Lost(_)) => {}
                Some(Seen::Changes { events, revision }) => {
                    for event in &events {
                        take(
                            &self.client,
                            &mut self.roll,
                            &event.key,
                            event.value.as_deref(),
                        );
                    }
                    if !events.is_empty() {
                        self.publish();
                    }
                    self.seen.send_replace(revision);
                }
                Some(Seen::Compacted) | None => self.read_anew().await,
            }
        }
    }

    async fn read_anew(&mut self) {
        let (roll, revision) = loop {
            match read(&self.client).await {
                Ok(read) => break read,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        };
        self.watch = self.client.watch(self.client.key(PREFIX), revision);
        self.roll = roll;
        self.publish();
        self.seen.send_replace(revision);
    }

    fn publish(&self) {
        let before = Group::clone(&self.known.group());
        let group = self.roll.group(before.clone());
        let change = what_changed(&before, &group);
        self.known.publish(group);
        if let Some(change) = change {
            tell(&self.known, change);
        }
    }
}

async fn read(client: &Client) -> Result<(Roll, i64), EtcdError> {
    let listing = client.list(&client.key(PREFIX)).await?;
    let mut roll = Roll::default();
    for entry in &listing.entries {
        take(client, &mut roll, &entry.key, Some(&entry.value));
    }
    Ok((roll, listing.revision))
}

fn take(client: &Client, roll: &mut Roll, key: &[u8], value: Option<&[u8]>) {
    let own = client.key("");
    let key = (key.strip_prefix(&own[..])).and_then(|key| std::str::from_utf8(key).ok());
    let Some(key) = key else {
        return;
    };
    if let Err(problem) = roll.take(key, value) {
        emit(&Event::Failed {
            about: "replicas",
            error: format!("{key}: {problem}"),
        });
    }
}

/// In a word, as far as it moves a share.
fn what_changed(before: &Group, now: &Group) -> Option<&'static str> {
    let weighed = |members: &[Member]| -> Vec<(String, u16)> {
        members.iter().map(|m| (m.id.clone(), m.weight)).collect()
    };
    let (old, new) = (weighed(before.members()), weighed(now.members()));
    if new.iter().any(|(id, _)| before.member(id).is_none()) {
        Some("joined")
    } else if old.iter().any(|(id, _)| now.member(id).is_none()) {
        Some("left")
    } else {
        (old != new).then_some("weighed")
    }
}
