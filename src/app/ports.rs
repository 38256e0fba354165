//! Everything that depends on this machine's interfaces and addresses: DHCP on the interfaces, TFTP and HTTP on the addresses.
//! In: the interfaces, whenever they may have changed. Out: sockets that listen where the configuration says, as long as there is
//! such a place; an interface that is made anew or gets another address is listened on anew.
//!
//! At start a place that is missing is an error, since a name that is mistyped would serve nobody in silence, unless the
//! configuration says to wait for it. Later it is waited for in any case.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bind::{CannotListen, boot_servers, cannot_listen, listening, say_what_is_missing};
use super::port::{BoundPort, Port, choose};
use crate::artifact::store::Artifacts as ArtifactStore;
use crate::config::{Artifacts, Config};
use crate::dhcp::answer::Mode;
use crate::dhcp::bootfile::BootServers;
use crate::dhcp::rogue::Lookout;
use crate::grpc::server::ServerIds;
use crate::http::pace::Pace;
use crate::http::tls::Tls;
use crate::model::Event;
use crate::net::tls::Shown;
use crate::net::watch::Watch;
use crate::net::{Interface, interfaces};
use crate::observe::emit;
use crate::replicas::shared::Known;
use crate::store::Store;
use crate::{http, tftp};

/// How soon it is tried again to listen where it could not be listened.
const RETRY: Duration = Duration::from_secs(5);

/// What is served, and where.
pub struct Ports {
    config: Arc<Config>,
    store: Store,
    replicas: Option<Arc<Known>>,
    files: tftp::server::Server,
    documents: http::server::Shared,
    tls: Option<Tls>,
    boot: Arc<BootServers>,
    server_ids: ServerIds,
    watch: Watch,
    /// Until then what is bound waits: nothing is served before everything is bound.
    started: CancellationToken,
    stop: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
    /// By interface.
    serving: BTreeMap<String, Serving>,
    /// An address that goes takes nobody's place: what listens there serves again when it is back.
    listening: BTreeSet<(&'static str, SocketAddr)>,
    /// What stands in the way, and has been said.
    in_the_way: BTreeSet<String>,
}

/// One interface that is served.
struct Serving {
    port: Port,
    stop: CancellationToken,
    /// Until these have ended, its sockets are taken.
    tasks: TaskTracker,
}

/// Why it is not listened somewhere.
enum Problem {
    /// There is no such interface or address.
    Missing(String),
    Failed(anyhow::Error),
}

impl Ports {
    /// Listens wherever the configuration says.
    pub async fn open(
        config: Arc<Config>,
        certificate: Option<Arc<Shown>>,
        store: Store,
        replicas: Option<Arc<Known>>,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let boot = Arc::new(boot_servers(&config));
        say_what_is_missing(&boot, &config);
        let watch = Watch::open().unwrap_or_else(|error| {
            emit(&Event::Noticed {
                about: "interfaces",
                detail: format!(
                    "the kernel does not tell of changes ({error}); looked at every 2 s"
                ),
            });
            Watch::by_the_clock()
        });
        let (programs, root) = (&config.boot.programs, config.tftp.root.as_deref());
        let most = tftp::server::Most {
            in_all: config.tftp.max_transfers,
            per_client: config.tftp.max_transfers_per_client,
        };
        let single_port = config.tftp.single_port;
        let files = tftp::server::Server::new(programs, root, most, single_port, store.clone());
        let rules = http::server::Rules {
            bind: config.http.bind_documents,
            gives_addresses: config.dhcp.mode == Mode::Server,
            pace: Pace::new(config.http.rate_limit_mib),
        };
        let tls = certificate.map(Tls::new).transpose()?;
        let directory = config.http.files.as_deref();
        let artifacts = served_artifacts(&config)?;
        let documents =
            http::server::Shared::new(store.clone(), directory, programs, artifacts, rules)?;
        let mut ports = Self {
            boot,
            started: CancellationToken::new(),
            server_ids: ServerIds::default(),
            serving: BTreeMap::new(),
            listening: BTreeSet::new(),
            in_the_way: BTreeSet::new(),
            tasks: JoinSet::new(),
            config,
            store,
            replicas,
            files,
            documents,
            tls,
            watch,
            stop,
        };
        let here = interfaces().context("cannot list this machine's interfaces")?;
        let problems = ports.follow(&here).await;
        let can_wait = ports.config.dhcp.wait_for_interfaces;
        for problem in problems {
            match problem {
                Problem::Missing(text) if can_wait => ports.tell(text, true),
                Problem::Missing(text) => anyhow::bail!(CannotListen::new(text)),
                Problem::Failed(error) => return Err(error),
            }
        }
        Ok(ports)
    }

    pub fn boot(&self) -> Arc<BootServers> {
        self.boot.clone()
    }

    /// The addresses that DHCP is served from, as they change.
    pub fn server_ids(&self) -> ServerIds {
        self.server_ids.clone()
    }

    /// Serves, and follows every change, until it is to stop; requests that run by then are finished.
    pub async fn keep_up(mut self) -> anyhow::Result<()> {
        self.started.cancel();
        loop {
            let is_waiting = !self.in_the_way.is_empty();
            tokio::select! {
                () = self.stop.cancelled() => break,
                Some(ended) = self.tasks.join_next() => {
                    ended.context("a server died")??;
                    continue;
                }
                () = self.watch.changed() => {}
                () = tokio::time::sleep(RETRY), if is_waiting => {}
            }
            let here = match interfaces() {
                Ok(here) => here,
                Err(error) => {
                    self.tell(
                        format!("cannot list this machine's interfaces: {error}"),
                        false,
                    );
                    continue;
                }
            };
            let problems = self.follow(&here).await;
            let said = std::mem::take(&mut self.in_the_way);
            for problem in problems {
                let (text, is_missing) = match problem {
                    Problem::Missing(text) => (text, true),
                    Problem::Failed(error) => (format!("{error:#}"), false),
                };
                match said.contains(&text) {
                    true => drop(self.in_the_way.insert(text)),
                    false => self.tell(text, is_missing),
                }
            }
        }
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a server died")??;
        }
        Ok(())
    }

    fn tell(&mut self, text: String, is_missing: bool) {
        emit(&match is_missing {
            true => Event::Noticed {
                about: "interfaces",
                detail: format!("{text}; waiting for it"),
            },
            false => Event::Failed {
                about: "interfaces",
                error: text.clone(),
            },
        });
        self.in_the_way.insert(text);
    }

    /// Listens where it should and does not yet, and no longer where it should not; what stands in the way.
    async fn follow(&mut self, here: &[Interface]) -> Vec<Problem> {
        let (wanted, missing) = choose(&self.config, here);
        let mut problems: Vec<Problem> = missing.into_iter().map(Problem::Missing).collect();
        problems.extend(self.listen_on_addresses(&wanted).await);
        let outdated: Vec<String> = (self.serving.values())
            .filter(|serving| !wanted.contains(&serving.port))
            .map(|serving| serving.port.interface.clone())
            .collect();
        for interface in outdated {
            let now = wanted.iter().find(|port| port.interface == interface);
            self.leave(&interface, now).await;
        }
        for port in wanted {
            if !self.serving.contains_key(&port.interface)
                && let Err(error) = self.serve(port).await
            {
                problems.push(Problem::Failed(error));
            }
        }
        let ids = self.serving.values().map(|serving| serving.port.server_id);
        self.server_ids.store(Arc::new(ids.collect()));
        problems
    }

    /// Stops serving on an interface, which is gone or another one now.
    async fn leave(&mut self, interface: &str, now: Option<&Port>) {
        let Some(serving) = self.serving.remove(interface) else {
            return;
        };
        serving.stop.cancel();
        serving.tasks.close();
        serving.tasks.wait().await;
        let reason = match now {
            None => format!(
                "the interface or its address {} is gone",
                serving.port.server_id
            ),
            Some(now) if now.index != serving.port.index => {
                "the interface was made anew".to_owned()
            }
            Some(now) => format!("its address is {} now", now.server_id),
        };
        emit(&Event::Gone {
            protocol: "dhcp",
            address: serving.port.address(),
            reason,
        });
    }

    /// Serves on an interface from now on. One that must be alone looks first whether it is.
    async fn serve(&mut self, port: Port) -> anyhow::Result<()> {
        let BoundPort { dhcp, lookout, ndp } = {
            let replicas = self.replicas.as_ref();
            port.bind(&self.config, &self.store, &self.boot, replicas)?
        };
        if self.config.dhcp.authoritative {
            refuse_beside_others(&lookout).await?;
        }
        let (stop, tasks) = (self.stop.child_token(), TaskTracker::new());
        for server in dhcp {
            let (started, stop) = (self.started.clone(), stop.clone());
            self.tasks.spawn(tasks.track_future(async move {
                started.cancelled().await;
                let serving = stop.clone();
                tokio::task::spawn_blocking(move || server.serve(&serving)).await?;
                ended(&stop)
            }));
        }
        if let Some(server) = ndp {
            tasks.spawn(server.serve(stop.clone()));
        }
        if self.config.dhcp.look_for_others && self.config.dhcp.mode == Mode::Server {
            let look = lookout.keep_looking(stop.clone());
            tasks.spawn(stop.clone().run_until_cancelled_owned(look));
        }
        let interface = port.interface.clone();
        let serving = Serving { port, stop, tasks };
        self.serving.insert(interface, serving);
        Ok(())
    }

    /// HTTP and TFTP, each where the configuration says or else on every address that DHCP serves from.
    async fn listen_on_addresses(&mut self, ports: &[Port]) -> Vec<Problem> {
        let of_ports = |number: u16| -> Vec<SocketAddr> {
            let ids = ports.iter().map(|port| port.server_id);
            ids.map(|id| SocketAddr::new(id.into(), number)).collect()
        };
        let config = self.config.clone();
        let (http, why_http) = match config.http.listen {
            Some(address) => (vec![address], "configured"),
            None => (of_ports(80), FROM_DHCP),
        };
        let (tftp, why_tftp) = match config.tftp.listen {
            Some(address) => (vec![address], "configured"),
            None => (of_ports(69), FROM_DHCP),
        };
        let mut problems = Vec::new();
        for address in http {
            if !self.listening.contains(&("http", address)) {
                let opened = self.open_http(address, why_http).await;
                problems.extend(opened.err().map(|e| problem("http", address, "tcp", &e)));
            }
        }
        if let (Some(tls), Some(at)) = (self.tls.clone(), &config.http.tls)
            && !self.listening.contains(&("https", at.listen))
        {
            let opened = self.open_https(at.listen, tls).await;
            problems.extend(opened.err().map(|e| problem("https", at.listen, "tcp", &e)));
        }
        for address in tftp {
            if !self.listening.contains(&("tftp", address)) {
                let opened = self.open_tftp(address, why_tftp);
                problems.extend(opened.err().map(|e| problem("tftp", address, "udp", &e)));
            }
        }
        problems
    }

    async fn open_http(&mut self, address: SocketAddr, reason: &str) -> io::Result<()> {
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        listening("http", &bound.to_string(), reason);
        if self.config.http.listen.is_some() {
            let mut boot = (*self.boot).clone();
            boot.http_port = bound.port();
            self.boot = Arc::new(boot);
        }
        self.serve_http(listener, None);
        self.listening.insert(("http", address));
        Ok(())
    }

    async fn open_https(&mut self, address: SocketAddr, tls: Tls) -> io::Result<()> {
        let listener = TcpListener::bind(address).await?;
        listening("https", &listener.local_addr()?.to_string(), "configured");
        self.serve_http(listener, Some(tls));
        self.listening.insert(("https", address));
        Ok(())
    }

    fn serve_http(&mut self, listener: TcpListener, tls: Option<Tls>) {
        let (documents, stop) = (self.documents.clone(), self.stop.clone());
        let started = self.started.clone();
        self.tasks.spawn(async move {
            started.cancelled().await;
            http::server::serve(listener, tls, documents, stop.clone()).await;
            ended(&stop)
        });
    }

    fn open_tftp(&mut self, address: SocketAddr, reason: &str) -> io::Result<()> {
        let bound = tftp::server::bind(address)?;
        listening("tftp", &bound.address().to_string(), reason);
        let (files, stop) = (self.files.clone(), self.stop.clone());
        let started = self.started.clone();
        self.tasks.spawn(async move {
            started.cancelled().await;
            bound.serve(files, stop.clone()).await?;
            ended(&stop)
        });
        self.listening.insert(("tftp", address));
        Ok(())
    }
}

const FROM_DHCP: &str = "default: the address that DHCP serves from";

fn problem(protocol: &'static str, address: SocketAddr, kind: &str, error: &io::Error) -> Problem {
    let text = cannot_listen(protocol, &format!("{address}/{kind}"), error);
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => Problem::Missing(text.to_string()),
        _ => Problem::Failed(text.into()),
    }
}

/// The store of artefacts, which is made where it is missing.
fn served_artifacts(config: &Config) -> anyhow::Result<http::artifacts::Served> {
    let dir = config.artifacts_dir();
    let Artifacts {
        upstream, offline, ..
    } = &config.artifacts;
    let store = ArtifactStore::new(&dir);
    http::artifacts::Served::new(store, upstream, *offline)
        .with_context(|| format!("cannot keep artefacts in {}", dir.display()))
}

/// A server ends when it is told to, and never by itself.
fn ended(stop: &CancellationToken) -> anyhow::Result<()> {
    anyhow::ensure!(stop.is_cancelled(), "a server ended by itself");
    Ok(())
}

/// An authoritative server refuses what others have promised: it must be alone.
async fn refuse_beside_others(lookout: &Lookout) -> anyhow::Result<()> {
    let others = lookout.look().await.unwrap_or_default();
    if let Some(other) = others.first() {
        anyhow::bail!(
            "dhcp: another DHCP server, {other}, answers on {}; stop it, or take dhcp.authoritative out of the configuration",
            lookout.interface
        );
    }
    Ok(())
}
