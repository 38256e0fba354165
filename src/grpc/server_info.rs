//! `bootjack.v1.Server`: what runs, where it listens, what it cannot do, and all of its state as a file.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use bootjack_api::v1;
use bootjack_api::v1::server_server::Server;
use ipnet::Ipv4Net;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::values::{duration, json_struct, time};
use crate::model::LeaseState;
use crate::net::now_secs;
use crate::observe::listening;
use crate::store::{Records, Store, export};

/// How large the pieces of an export are, and how many may wait for a reader.
const PIECE: usize = 256 << 10;
const WAITING: usize = 4;

/// What the service is told of itself.
#[derive(Clone)]
pub struct Facts {
    /// `sled`, `etcd` or `memory`.
    pub backend: &'static str,
    /// The configuration as it is followed, without secrets.
    pub config: Arc<serde_json::Value>,
    /// What the service cannot do here, worked out when somebody asks.
    pub degraded: Arc<dyn Fn() -> Vec<Degraded> + Send + Sync>,
}

/// Something that the service cannot do here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degraded {
    pub capability: String,
    pub state: String,
    pub consequence: String,
    pub next_step: String,
}

/// The service.
pub struct Desk {
    store: Store,
    facts: Facts,
    started: Instant,
    started_secs: u64,
}

impl Desk {
    pub fn new(store: Store, facts: Facts) -> Self {
        Self {
            store,
            facts,
            started: Instant::now(),
            started_secs: now_secs(),
        }
    }

    fn store_info(&self) -> v1::StoreInfo {
        let health = self.store.health();
        v1::StoreInfo {
            backend: self.facts.backend.to_owned(),
            revision: i64::try_from(self.store.feed().reservations().last()).unwrap_or(i64::MAX),
            healthy: health.trouble.is_none(),
            problem: health.trouble.clone().unwrap_or_default(),
        }
    }

    fn subnets(&self) -> Vec<v1::SubnetInfo> {
        let (now, secs) = (self.store.snapshot(), now_secs());
        let mut counts: HashMap<Ipv4Net, (i64, i64)> = HashMap::new();
        for (address, _) in now.catalog.reserved(None) {
            if let Some(subnet) = now.catalog.subnet_of(address) {
                counts.entry(subnet.cidr).or_default().0 += 1;
            }
        }
        let is_bound = |state, is_current| state == LeaseState::Bound && is_current;
        for lease in now.bindings.iter() {
            if is_bound(lease.state, lease.is_current(secs))
                && let Some(subnet) = now.catalog.subnet_of(lease.address)
            {
                counts.entry(subnet.cidr).or_default().1 += 1;
            }
        }
        let subnets = now.catalog.subnets().iter().map(|subnet| {
            let (reserved, bound) = counts.get(&subnet.cidr).copied().unwrap_or_default();
            v1::SubnetInfo {
                cidr: subnet.cidr.to_string(),
                pools: (subnet.pools.iter())
                    .map(|pool| format!("{}-{}", pool.first, pool.last))
                    .collect(),
                router: (subnet.router).map_or_else(String::new, |router| router.to_string()),
                reserved,
                bound,
            }
        });
        subnets.collect()
    }
}

/// Writes pieces to whoever reads them, and waits for it.
struct Pieces(mpsc::Sender<Result<v1::ExportStateResponse, Status>>);

impl Write for Pieces {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let piece = v1::ExportStateResponse {
            octets: octets.to_vec(),
        };
        match self.0.blocking_send(Ok(piece)) {
            Ok(()) => Ok(octets.len()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.unwrap_or_default().trim().to_owned()
}

#[tonic::async_trait]
impl Server for Desk {
    async fn get_server_info(
        &self,
        _: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::ServerInfo>, Status> {
        let facts = self.facts.clone();
        // It may look at files and sockets.
        let degraded = tokio::task::spawn_blocking(move || (facts.degraded)()).await;
        let degraded = degraded.map_err(|panic| Status::internal(panic.to_string()))?;
        Ok(Response::new(v1::ServerInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            start_time: Some(time(self.started_secs)),
            uptime: Some(duration(self.started.elapsed())),
            hostname: hostname(),
            process_id: std::process::id(),
            store: Some(self.store_info()),
            listeners: (listening::all().into_iter())
                .map(|(protocol, address, reason)| v1::Listener {
                    protocol: protocol.to_owned(),
                    address,
                    reason,
                })
                .collect(),
            subnets: self.subnets(),
            reservations: i64::try_from(self.store.catalog().len()).unwrap_or(i64::MAX),
            leases: i64::try_from(self.store.bindings().len()).unwrap_or(i64::MAX),
            degraded: (degraded.into_iter())
                .map(|degraded| v1::Degraded {
                    capability: degraded.capability,
                    state: degraded.state,
                    consequence: degraded.consequence,
                    next_step: degraded.next_step,
                })
                .collect(),
        }))
    }

    async fn get_effective_config(
        &self,
        _: Request<v1::GetEffectiveConfigRequest>,
    ) -> Result<Response<v1::EffectiveConfig>, Status> {
        Ok(Response::new(v1::EffectiveConfig {
            config: json_struct(&self.facts.config),
        }))
    }

    type ExportStateStream = ReceiverStream<Result<v1::ExportStateResponse, Status>>;

    async fn export_state(
        &self,
        _: Request<v1::ExportStateRequest>,
    ) -> Result<Response<Self::ExportStateStream>, Status> {
        let now = self.store.snapshot();
        let (to, stream) = mpsc::channel(WAITING);
        tokio::task::spawn_blocking(move || {
            let records = Records::of(&now);
            let mut pieces = io::BufWriter::with_capacity(PIECE, Pieces(to.clone()));
            let written = export::write(&records, now_secs(), &mut pieces);
            let written = written.and_then(|_| pieces.flush());
            // Nobody is left to tell where nobody reads.
            if let Err(error) = written.as_ref().map_err(ToString::to_string) {
                let _ = to.blocking_send(Err(Status::internal(error.clone())));
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
