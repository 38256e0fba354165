//! Start, wire, drain, exit. In: the configuration file's path. Out: a running service, or one sentence that says what stands
//! in the way. Everything is read and bound before anything is served.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use metrics_exporter_prometheus::PrometheusBuilder;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::catalog::{Catalog, Change};
use crate::config::reader::{Problem, Problems};
use crate::config::{self, Config, GrpcListen};
use crate::dhcp::bootfile::{BootServers, PROGRAMS};
use crate::dhcp::route::SERVER_PORT;
use crate::dhcp::server::Server as DhcpServer;
use crate::model::{Cpu, Event, Firmware};
use crate::net::{DhcpSocket, Interface, interfaces};
use crate::observe::emit;
use crate::store::{Store, open_sled, profiles};
use crate::{grpc, http, tftp};

/// How long requests that run may take to finish once the service is asked to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// What is wrong with the configuration; nothing was started.
#[derive(Debug, Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct BadConfig(pub Vec<Problems>);

/// A socket that could not be bound.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct CannotListen(String);

/// A configuration that is sound on this machine, with its profiles.
pub struct Loaded {
    pub config: Config,
    pub catalog: Catalog,
}

/// Reads the file and the profiles it names, and looks whether the directories it names exist.
pub fn load(path: &Path) -> anyhow::Result<Loaded> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned();
    let profiles_dir = config::profiles_dir(&text);
    let mut all = Vec::new();
    let profiles = profiles_dir
        .as_ref()
        .map(|at| at.value.as_path())
        .filter(|dir| dir.is_dir());
    let profiles = profiles::read(profiles)
        .map_err(|problems| all.extend(problems))
        .ok();
    let mut list = Vec::new();
    let config = config::read(&text, profiles.as_ref())
        .map_err(|problems| list = problems)
        .ok();
    if let Some(config) = &config {
        list.extend(missing_directories(config));
    }
    if !list.is_empty() {
        all.insert(0, Problems { file, list });
    }
    match (config, profiles) {
        (Some(config), Some(profiles)) if all.is_empty() => {
            let mut catalog = Catalog::new(config.subnets.clone(), profiles);
            for at in &config.reservations {
                // Held against each other while the file was read; this finds nothing new.
                catalog = catalog.with(&Change::Create(at.value.clone()))?;
            }
            Ok(Loaded { config, catalog })
        }
        _ => Err(BadConfig(all).into()),
    }
}

fn missing_directories(config: &Config) -> Vec<Problem> {
    let named: [(&'static str, Option<&PathBuf>, &str); 4] = [
        (
            "boot.programs",
            Some(&config.boot.programs),
            "install the package ipxe, or name another directory",
        ),
        (
            "boot.profiles",
            config.boot.profiles.as_ref(),
            "make it, or leave the key out to use the shipped profiles alone",
        ),
        (
            "http.files",
            config.http.files.as_ref(),
            "make it, or leave the key out",
        ),
        (
            "tftp.root",
            config.tftp.root.as_ref(),
            "make it, or leave the key out",
        ),
    ];
    named
        .into_iter()
        .filter_map(|(place, path, next_step)| {
            let (line, path) = (*config.lines.get(place)?, path?);
            (!path.is_dir()).then(|| Problem {
                line,
                place: place.to_owned(),
                text: format!("{} is not a directory; {next_step}", path.display()),
            })
        })
        .collect()
}

/// Everything that is bound and not yet served.
struct Bound {
    dhcp: Vec<DhcpServer>,
    tftp: Vec<tftp::server::Bound>,
    http: Vec<TcpListener>,
    grpc: grpc::server::Bound,
    admin: Option<TcpListener>,
}

/// Runs the service until `stop`; everything acknowledged is on disk when it returns.
pub async fn serve(loaded: Loaded, stop: CancellationToken) -> anyhow::Result<()> {
    let Loaded { config, catalog } = loaded;
    raise_file_limit();
    let backend = open_sled(&config.data_dir)?;
    let (store, writer, opened) = Store::open(backend, catalog)?;
    tell_opened(&opened);
    let metrics = PrometheusBuilder::new().build_recorder();
    let render_metrics = metrics.handle();
    // A second service in one process (a test) keeps the first one's.
    let _ = metrics::set_global_recorder(metrics);

    let bound = bind(&config, &store).await?;
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    for server in bound.dhcp {
        let stop = stop.clone();
        tasks.spawn(async move {
            server.serve(stop).await;
            Ok(())
        });
    }
    let mut tftp_roots = vec![config.boot.programs.as_path()];
    tftp_roots.extend(config.tftp.root.as_deref());
    let served = tftp::server::Served::new(&tftp_roots, store.clone());
    for server in bound.tftp {
        let (served, stop) = (served.clone(), stop.clone());
        tasks.spawn(async move { Ok(server.serve(served, stop).await?) });
    }
    let shared = http::server::Shared::new(
        store.clone(),
        config.http.files.as_deref(),
        &config.boot.programs,
    )?;
    for listener in bound.http {
        let (shared, stop) = (shared.clone(), stop.clone());
        tasks.spawn(async move {
            http::server::serve(listener, shared, stop).await;
            Ok(())
        });
    }
    if let Some(listener) = bound.admin {
        let stop = stop.clone();
        tasks.spawn(async move { serve_admin(listener, render_metrics, stop).await });
    }
    let (grpc_store, grpc_stop) = (store.clone(), stop.clone());
    tasks.spawn(async move {
        let served = bound.grpc.serve(grpc_store, grpc_stop).await;
        served.map_err(|error| anyhow::anyhow!("grpc: {error}"))
    });
    emit(&Event::Ready {
        reservations: store.catalog().len(),
        leases: store.bindings().len(),
    });

    let ended = run(&mut tasks, &stop).await;
    let stopping = Instant::now();
    drain(tasks).await;
    tokio::task::spawn_blocking(move || writer.close()).await??;
    emit(&Event::Stopped {
        elapsed_ms: u64::try_from(stopping.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    ended
}

/// A thousand machines that boot at once hold a thousand transfers: the soft limit of 1024 files is a habit, not a need.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        emit(&Event::Noticed {
            about: "files",
            detail: format!(
                "the limit of open files stays at {:?}: {error}",
                limit.current
            ),
        });
    }
}

/// Waits for `stop`, or for a task that ends by itself: none should.
async fn run(
    tasks: &mut JoinSet<anyhow::Result<()>>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        ended = tasks.join_next() => {
            let ended = ended.map_or(Ok(Ok(())), |ended| ended);
            let already_stopping = stop.is_cancelled();
            stop.cancel();
            match ended {
                Ok(Ok(())) if already_stopping => Ok(()),
                Ok(Ok(())) => Err(anyhow::anyhow!("a server ended by itself")),
                Ok(Err(error)) => Err(error),
                Err(panic) => Err(anyhow::anyhow!("a server died: {panic}")),
            }
        }
    }
}

async fn drain(mut tasks: JoinSet<anyhow::Result<()>>) {
    let finish = async {
        while let Some(ended) = tasks.join_next().await {
            let error = match ended {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(panic) => panic.to_string(),
            };
            emit(&Event::Failed {
                about: "stop",
                error,
            });
        }
    };
    let in_time = tokio::time::timeout(DRAIN, finish).await.is_ok();
    if !in_time {
        emit(&Event::Noticed {
            about: "stop",
            detail: format!(
                "requests were still running after {} s and are cut",
                DRAIN.as_secs()
            ),
        });
        tasks.shutdown().await;
    }
}

fn tell_opened(opened: &crate::store::Opened) {
    for (reservation, refusal) in &opened.set_aside {
        emit(&Event::SetAside {
            machine: reservation.title().to_owned(),
            reason: refusal.to_string(),
        });
    }
    for lease in &opened.revoked {
        emit(&Event::Revoked {
            address: lease.address,
            client: lease.client.to_string(),
            machine: "configuration file".to_owned(),
        });
    }
}

/// An interface that DHCP is served on, and the address it is served from.
struct Port {
    interface: String,
    server_id: Ipv4Addr,
    reason: String,
}

async fn bind(config: &Config, store: &Store) -> anyhow::Result<Bound> {
    let here = interfaces().context("cannot list this machine's interfaces")?;
    let ports = choose_ports(config, &here)?;
    let on_each_port = |port: u16| -> Vec<(SocketAddr, &'static str)> {
        let why = "default: the address that DHCP serves from";
        (ports.iter())
            .map(|p| (SocketAddr::new(p.server_id.into(), port), why))
            .collect()
    };
    let configured = |listen: Option<SocketAddr>, port: u16| match listen {
        Some(address) => vec![(address, "configured")],
        None => on_each_port(port),
    };

    let mut http = Vec::new();
    for (address, reason) in configured(config.http.listen, 80) {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| cannot_listen("http", &format!("{address}/tcp"), &error))?;
        listening("http", &listener.local_addr()?.to_string(), reason);
        http.push(listener);
    }
    let boot = Arc::new(boot_servers(config, &http)?);
    let mut tftp = Vec::new();
    for (address, reason) in configured(config.tftp.listen, 69) {
        for address in each_address(address, &here) {
            let bound = tftp::server::bind(address)
                .map_err(|error| cannot_listen("tftp", &format!("{address}/udp"), &error))?;
            listening("tftp", &bound.address().to_string(), reason);
            tftp.push(bound);
        }
    }
    let mut dhcp = Vec::new();
    for port in ports {
        dhcp.push(bind_dhcp(config, store, &boot, port)?);
    }
    let grpc = grpc::server::bind(&config.grpc.listen)
        .await
        .map_err(|error| cannot_listen("grpc", &config.grpc.listen.to_string(), &error))?;
    let reason = match (&config.grpc.listen, config.grpc.is_default) {
        (_, false) => "configured",
        (GrpcListen::Unix(_), true) => "default: nobody but this machine's root can reach it",
        (GrpcListen::Tcp(_), true) => "default",
    };
    listening("grpc", &grpc.address()?, reason);
    let admin = match config.admin.listen {
        Some(address) => {
            let listener = TcpListener::bind(address)
                .await
                .map_err(|error| cannot_listen("admin", &format!("{address}/tcp"), &error))?;
            listening("admin", &listener.local_addr()?.to_string(), "configured");
            Some(listener)
        }
        None => None,
    };
    Ok(Bound {
        dhcp,
        tftp,
        http,
        grpc,
        admin,
    })
}

/// async-tftp answers from the address it is bound to: where all are asked for, each gets its own server.
fn each_address(address: SocketAddr, here: &[Interface]) -> Vec<SocketAddr> {
    if address.ip() != IpAddr::V4(Ipv4Addr::UNSPECIFIED) || address.port() == 0 {
        return vec![address];
    }
    here.iter()
        .flat_map(|interface| &interface.addresses)
        .map(|a| SocketAddr::new((*a).into(), address.port()))
        .collect()
}

fn bind_dhcp(
    config: &Config,
    store: &Store,
    boot: &Arc<BootServers>,
    port: Port,
) -> anyhow::Result<DhcpServer> {
    let Port {
        interface,
        server_id,
        reason,
    } = port;
    let place = format!("0.0.0.0:{SERVER_PORT}/udp");
    let socket = DhcpSocket::bind(&interface, SERVER_PORT)
        .map_err(|error| cannot_listen("dhcp", &place, &error))?;
    if !socket.can_send_frames() {
        emit(&Event::Noticed {
            about: "dhcp",
            detail: format!(
                "{interface}: no raw socket (CAP_NET_RAW); clients without an address are answered by broadcast"
            ),
        });
    }
    listening(
        "dhcp",
        &format!("0.0.0.0:{SERVER_PORT}%{interface}"),
        &format!("{reason}; server identifier {server_id}"),
    );
    Ok(DhcpServer {
        interface,
        server_id,
        authoritative: config.dhcp.authoritative,
        socket,
        boot: boot.clone(),
        store: store.clone(),
    })
}

/// The interfaces named, or else those with an address in a subnet; each with the address it serves from.
fn choose_ports(config: &Config, here: &[Interface]) -> anyhow::Result<Vec<Port>> {
    let in_a_subnet = |interface: &Interface| {
        (interface.addresses.iter().copied())
            .find(|a| config.subnets.iter().any(|subnet| subnet.cidr.contains(a)))
    };
    let Some(names) = &config.dhcp.interfaces else {
        let ports: Vec<Port> = (here.iter())
            .filter_map(|interface| {
                Some(Port {
                    server_id: in_a_subnet(interface)?,
                    interface: interface.name.clone(),
                    reason: "default: it has an address in a subnet".to_owned(),
                })
            })
            .collect();
        if ports.is_empty() {
            anyhow::bail!(CannotListen(
                "dhcp: no interface has an address in a subnet; give one an address, or name interfaces in dhcp.interfaces"
                    .to_owned()
            ));
        }
        return Ok(ports);
    };
    let port = |name: &String| {
        let Some(interface) = here.iter().find(|interface| interface.name == *name) else {
            let names: Vec<&str> = here.iter().map(|i| i.name.as_str()).collect();
            anyhow::bail!(CannotListen(format!(
                "dhcp: interface {name} does not exist; this machine has: {}",
                names.join(", ")
            )));
        };
        let first = interface.addresses.first().copied();
        let Some(server_id) = in_a_subnet(interface).or(first) else {
            anyhow::bail!(CannotListen(format!(
                "dhcp: interface {name} has no IPv4 address; give it one: ip address add ADDRESS/PREFIX dev {name}"
            )));
        };
        Ok(Port {
            interface: name.clone(),
            server_id,
            reason: "configured".to_owned(),
        })
    };
    names.iter().map(port).collect()
}

fn boot_servers(config: &Config, http: &[TcpListener]) -> io::Result<BootServers> {
    let programs: BTreeMap<String, ()> = (PROGRAMS.iter())
        .flat_map(|(_, _, names)| names.iter())
        .filter(|name| config.boot.programs.join(name).is_file())
        .map(|name| ((*name).to_owned(), ()))
        .collect();
    let addresses = http
        .iter()
        .map(TcpListener::local_addr)
        .collect::<io::Result<Vec<SocketAddr>>>()?;
    let one_address = match addresses[..] {
        [SocketAddr::V4(one)] if !one.ip().is_unspecified() => Some(*one.ip()),
        _ => None,
    };
    let servers = BootServers {
        programs: programs.into_keys().collect(),
        http_port: addresses.first().map_or(80, SocketAddr::port),
        http_address: one_address,
    };
    for (cpu, firmware) in [
        (Cpu::X86_64, Firmware::Bios),
        (Cpu::X86_64, Firmware::Uefi),
        (Cpu::Aarch64, Firmware::Uefi),
    ] {
        if servers.program(cpu, firmware).is_none() {
            emit(&Event::Noticed {
                about: "boot",
                detail: format!(
                    "no network boot program for {cpu} {firmware} in {}; such machines get an address and no boot file",
                    config.boot.programs.display()
                ),
            });
        }
    }
    Ok(servers)
}

async fn serve_admin(
    listener: TcpListener,
    metrics: metrics_exporter_prometheus::PrometheusHandle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let render = move || async move { metrics.render() };
    let app = axum::Router::new()
        .route("/metrics", axum::routing::get(render))
        .route("/healthz", axum::routing::get(|| async { "ok\n" }));
    axum::serve(listener, app)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await?;
    Ok(())
}

fn listening(protocol: &'static str, address: &str, reason: &str) {
    emit(&Event::Listening {
        protocol,
        address: address.to_owned(),
        reason: reason.to_owned(),
    });
}

/// One sentence: what, where, why, and what to do about it.
fn cannot_listen(protocol: &str, place: &str, error: &io::Error) -> CannotListen {
    let (kind, port) = match place.rsplit_once('/') {
        Some((address, "udp")) => ("u", address.rsplit_once(':').map(|(_, port)| port)),
        Some((address, "tcp")) => ("t", address.rsplit_once(':').map(|(_, port)| port)),
        _ => ("", None),
    };
    let (why, next_step) = match (error.kind(), port) {
        (io::ErrorKind::AddrInUse, Some(port)) => (
            "address already in use".to_owned(),
            format!(
                "; another {} runs here{}; see: ss -l{kind}np 'sport = :{port}'",
                match protocol {
                    "dhcp" => "DHCP server",
                    "tftp" => "TFTP server",
                    _ => "server",
                },
                if protocol == "dhcp" || protocol == "tftp" {
                    " (dnsmasq, libvirt?)"
                } else {
                    ""
                }
            ),
        ),
        (io::ErrorKind::AddrInUse, None) => (
            "address already in use".to_owned(),
            "; another bootjackd listens there".to_owned(),
        ),
        (io::ErrorKind::PermissionDenied, Some(_)) => (
            "permission denied".to_owned(),
            match protocol {
                "dhcp" => "; run as root or grant CAP_NET_BIND_SERVICE and CAP_NET_RAW".to_owned(),
                _ => "; run as root or grant CAP_NET_BIND_SERVICE".to_owned(),
            },
        ),
        (io::ErrorKind::AddrNotAvailable, _) => (
            "no interface of this machine has that address".to_owned(),
            "; see: ip -brief address".to_owned(),
        ),
        _ => (error.to_string(), String::new()),
    };
    CannotListen(format!(
        "{protocol}: cannot listen on {place}: {why}{next_step}"
    ))
}
