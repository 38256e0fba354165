//! Batches that are too large for one transaction. First their records are staged, bound to a lease of etcd's, where nobody looks at
//! them; then one transaction on `revision` names the batch, and all of it is true; then its records move under their own keys.
//! Whoever dies before that transaction leaves what ends with the lease; whoever dies after it leaves a move that anybody can make,
//! as often as it takes.

use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::client::Client;
use super::names::{self, FENCE, HEAD, Head, STAGED};
use super::staged::{self, Entry};
use super::terms::{Committed, Compare, EtcdError, Op, Txn};
use crate::store::record;

/// How long what is staged may take to become true.
const STAGE_TIME: Duration = Duration::from_secs(120);
/// How much moves in one transaction.
const MOVED_AT_ONCE: usize = 100;
const OCTETS_AT_ONCE: usize = 1 << 20;

/// Why a batch was not written.
#[derive(Debug)]
pub(super) enum BatchError {
    TooLarge(String),
    Etcd(EtcdError),
}

impl From<EtcdError> for BatchError {
    fn from(error: EtcdError) -> Self {
        Self::Etcd(error)
    }
}

/// Stages the records and makes them true, if `revision` was last written in `head_at`. What the transaction found is `revision`.
pub(super) async fn commit(
    client: &Client,
    entries: &[Entry],
    head: &Head,
    head_at: i64,
) -> Result<Committed, BatchError> {
    let parts = staged::pack(entries.iter()).map_err(BatchError::TooLarge)?;
    let lease = client.grant(STAGE_TIME).await?;
    let committed = commit_parts(client, parts, head, head_at, lease).await;
    if !matches!(committed, Err(EtcdError::Away(_))) {
        // What is true by now is bound to it no longer; the rest ends.
        let _ = client.revoke(lease).await;
    }
    Ok(committed?)
}

async fn commit_parts(
    client: &Client,
    parts: Vec<Bytes>,
    head: &Head,
    head_at: i64,
    lease: super::terms::LeaseId,
) -> Result<Committed, EtcdError> {
    let unusable = EtcdError::Unusable;
    let key = client.key(HEAD);
    let mut txn = Txn {
        compare: vec![Compare::Revision {
            key: key.clone(),
            is: head_at,
        }],
        then: Vec::new(),
        otherwise: vec![Op::Get { key: key.clone() }],
    };
    for (number, part) in parts.into_iter().enumerate() {
        let key = client.key(names::staged(&head.by, number));
        let is = client.put(key.clone(), part, Some(lease)).await?;
        let compare = Compare::Revision {
            key: key.clone(),
            is,
        };
        txn.compare.push(compare);
        txn.then.push(Op::Rebind { key, lease: None });
    }
    let put = |key: Bytes, value: Vec<u8>| Op::Put {
        key,
        value: value.into(),
        lease: None,
    };
    txn.then
        .push(put(key, record::value(head).map_err(unusable)?));
    let fence = record::value(&head.revision).map_err(unusable)?;
    txn.then.push(put(client.key(FENCE), fence));
    client.commit(txn).await
}

/// A batch on its way to the keys of its records.
pub(super) struct Move {
    task: JoinHandle<Result<(), EtcdError>>,
}

impl Move {
    /// Moves the batch that this head names, which was written in `head_at`. On a runtime.
    pub(super) fn begin(client: Client, head: Head, head_at: i64) -> Self {
        let task = tokio::spawn(async move { run(&client, head, head_at).await });
        Self { task }
    }

    /// Waits for its end. It is over too if somebody else has made it.
    pub(super) async fn end(self) -> Result<(), EtcdError> {
        let ended = self.task.await;
        ended.unwrap_or_else(|_| {
            Err(EtcdError::Away(
                "the move of a batch was cut off".to_owned(),
            ))
        })
    }
}

async fn run(client: &Client, head: Head, head_at: i64) -> Result<(), EtcdError> {
    let Some(batch) = &head.staged else {
        return Ok(());
    };
    let prefix = client.key(format!("{STAGED}{batch}/"));
    let parts = client.list(&prefix).await?;
    let still_named = Compare::Revision {
        key: client.key(HEAD),
        is: head_at,
    };
    for part in parts.entries {
        let entries = staged::unpack(part.value).map_err(EtcdError::Unusable)?;
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            let (mut then, mut octets) = (Vec::new(), 0);
            while then.len() < MOVED_AT_ONCE
                && octets < OCTETS_AT_ONCE / 2
                && let Some((name, value)) = entries.next()
            {
                octets += name.len() + value.as_ref().map_or(0, Bytes::len);
                let key = client.key(name);
                then.push(match value {
                    Some(value) => Op::Put {
                        key,
                        value,
                        lease: None,
                    },
                    None => Op::Delete { key },
                });
            }
            let txn = Txn {
                compare: vec![still_named.clone()],
                then,
                otherwise: Vec::new(),
            };
            if !client.commit(txn).await?.succeeded {
                return Ok(());
            }
        }
    }
    let done = Head {
        by: uuid::Uuid::new_v4().simple().to_string(),
        staged: None,
        ..head
    };
    let value = record::value(&done).map_err(EtcdError::Unusable)?;
    let txn = Txn {
        compare: vec![still_named],
        then: vec![
            Op::Put {
                key: client.key(HEAD),
                value: value.into(),
                lease: None,
            },
            Op::DeleteAll { prefix },
        ],
        otherwise: Vec::new(),
    };
    client.commit(txn).await?;
    Ok(())
}
