//! This service among others. In: the configuration, and the addresses that DHCP is served from. Out: a member of the group, for as
//! long as the service runs; when it is asked to stop, it leaves first and stops then, so that no client is nobody's.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::keep;
use crate::config::{Backend, Config, Replicas};
use crate::net::now_secs;
use crate::replicas::desk::Desk;
use crate::replicas::following::Following;
use crate::replicas::group::{Counts, Member};
use crate::replicas::membership::{Identity, Membership, ServerIds};
use crate::replicas::record::check_id;
use crate::replicas::shared::Known;
use crate::store::etcd::{Client, Settings};

/// The replica that the configuration makes of this service, if it does.
pub fn of(config: &Config) -> anyhow::Result<Option<Replica>> {
    match (&config.replicas, &config.store.backend) {
        (Some(replicas), Backend::Etcd(etcd)) => {
            Replica::new(replicas, keep::settings(etcd)?).map(Some)
        }
        // The configuration is refused where it has replicas and no etcd.
        _ => Ok(None),
    }
}

/// A replica that has not joined.
pub struct Replica {
    known: Arc<Known>,
    client: Client,
    identity: Identity,
}

/// A replica that has.
pub struct Joined {
    desk: Desk,
    keeping: JoinHandle<()>,
    following: JoinHandle<()>,
    leave: CancellationToken,
}

impl Replica {
    /// What the configuration says, and where etcd is.
    pub fn new(replicas: &Replicas, etcd: Settings) -> anyhow::Result<Self> {
        let id = match &replicas.id {
            Some(id) => id.clone(),
            None => own_name()?,
        };
        // A lease is kept over one server that does not answer, and another.
        let soon = (replicas.ttl / 6).max(Duration::from_millis(500));
        let client = Client::new(Settings {
            timeout: etcd.timeout.min(soon),
            ..etcd
        })?;
        let member = Member {
            instance: uuid::Uuid::new_v4().to_string(),
            addresses: Vec::new(),
            server_ids: Vec::new(),
            weight: replicas.weight,
            ttl_secs: replicas.ttl.as_secs(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since_secs: now_secs(),
            counts: Counts::default(),
            id: id.clone(),
        };
        Ok(Self {
            known: Known::new(id),
            client,
            identity: Identity {
                member,
                addresses: replicas.addresses.clone(),
            },
        })
    }

    /// The group, as it will be known.
    pub fn known(&self) -> Arc<Known> {
        self.known.clone()
    }

    /// Joins. From here on others leave its share to it: it is to serve at once.
    pub async fn join(self, server_ids: ServerIds) -> anyhow::Result<Joined> {
        let Self {
            known,
            client,
            identity,
        } = self;
        let membership =
            Membership::join(client.clone(), identity, server_ids, known.clone()).await?;
        let following = Following::begin(client.clone(), known.clone())
            .await
            .context("replicas: cannot read the group")?;
        let leave = CancellationToken::new();
        Ok(Joined {
            desk: Desk::new(client, known, following.seen()),
            keeping: tokio::spawn(membership.keep(leave.clone())),
            following: tokio::spawn(following.keep_up()),
            leave,
        })
    }
}

impl Joined {
    pub fn desk(&self) -> Desk {
        self.desk.clone()
    }

    /// Waits until the service is asked to stop, leaves, and has it stop then.
    pub async fn leave_before_it_stops(self, asked: CancellationToken, stop: CancellationToken) {
        asked.cancelled().await;
        self.leave.cancel();
        // It ends soon in any case; what became of it is said there.
        let _ = self.keeping.await;
        self.following.abort();
        stop.cancel();
    }
}

/// The name of this host, which is its replica's where the configuration says none.
fn own_name() -> anyhow::Result<String> {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let name = name.to_lowercase();
    check_id(&name).map_err(|problem| {
        anyhow::anyhow!("replicas: the name of this host: {problem}; give replicas.id")
    })?;
    Ok(name)
}
