//! Where operators' wishes are written: the canary, and overrides. In: a wish that has been checked. Out: the same in etcd, and in
//! this replica's own group by the time the call returns; the others follow.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::group::{Canary, Override};
use super::record;
use super::shared::Known;
use crate::model::MacAddr;
use crate::store::etcd::{Client, EtcdError};

/// How long a write waits for its own echo: it is written in any case.
const ECHO: Duration = Duration::from_secs(5);

/// A cheap copy writes at the same place.
#[derive(Clone)]
pub struct Desk {
    client: Client,
    known: Arc<Known>,
    seen: watch::Receiver<i64>,
}

impl Desk {
    pub fn new(client: Client, known: Arc<Known>, seen: watch::Receiver<i64>) -> Self {
        Self {
            client,
            known,
            seen,
        }
    }

    /// The group as it stands.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// Puts this canary in place of any other.
    pub async fn set_canary(&self, canary: &Canary) -> Result<(), EtcdError> {
        let text = record::canary_text(canary).into();
        let key = self.client.key(record::CANARY_KEY);
        self.echo(self.client.put(key, text, None).await?).await;
        Ok(())
    }

    /// Ends the canary.
    pub async fn clear_canary(&self) -> Result<(), EtcdError> {
        let key = self.client.key(record::CANARY_KEY);
        self.echo(self.client.delete(key).await?).await;
        Ok(())
    }

    /// Puts this override in place of any other for the machine. etcd forgets it when it ends.
    pub async fn put_override(&self, told: &Override, now_secs: u64) -> Result<(), EtcdError> {
        let rest = told.expires_secs.saturating_sub(now_secs).max(1);
        let lease = self.client.grant(Duration::from_secs(rest)).await?;
        let key = self.client.key(record::override_key(told.mac));
        let text = record::override_text(told).into();
        self.echo(self.client.put(key, text, Some(lease)).await?)
            .await;
        Ok(())
    }

    /// Ends an override.
    pub async fn delete_override(&self, mac: MacAddr) -> Result<(), EtcdError> {
        let key = self.client.key(record::override_key(mac));
        self.echo(self.client.delete(key).await?).await;
        Ok(())
    }

    /// Waits until the group shows what was written in this revision.
    async fn echo(&self, revision: i64) {
        let mut seen = self.seen.clone();
        let shown = seen.wait_for(|seen| *seen >= revision);
        let _ = timeout(ECHO, shown).await;
    }
}
