//! Every socket, before anything is served. In: the configuration. Out: sockets that listen, or one sentence that says which
//! cannot and what to do about it.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use thiserror::Error;
use tokio::net::TcpListener;

use crate::config::{Config, GrpcListen};
use crate::dhcp::bootfile::{BootServers, PROGRAMS};
use crate::dhcp::limit::Limiter;
use crate::dhcp::prober::Prober;
use crate::dhcp::proxy::{BOOT_SERVER_PORT, Port as DhcpPort};
use crate::dhcp::rogue::{Lookout, OwnXid};
use crate::dhcp::route::SERVER_PORT;
use crate::dhcp::server::Server as DhcpServer;
use crate::model::{Cpu, Event, Firmware, MacAddr};
use crate::net::{DhcpSocket, Interface, interfaces};
use crate::observe::emit;
use crate::store::Store;
use crate::{grpc, ndp, tftp};

/// A socket that could not be bound.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct CannotListen(String);

/// Everything that is bound and not yet served.
pub struct Bound {
    pub dhcp: Vec<DhcpServer>,
    pub tftp: Vec<tftp::server::Bound>,
    pub http: Vec<TcpListener>,
    pub grpc: grpc::server::Bound,
    pub admin: Option<TcpListener>,
    /// One for each interface.
    pub lookouts: Vec<Lookout>,
    pub ndp: Vec<ndp::server::Server>,
    pub boot: Arc<BootServers>,
    /// The addresses that DHCP is served from.
    pub server_ids: Vec<Ipv4Addr>,
}

/// An interface that DHCP is served on, and the address it is served from.
struct Port {
    interface: String,
    server_id: Ipv4Addr,
    reason: String,
    mac: Option<MacAddr>,
}

/// Binds all that the configuration asks for, and says where and why.
pub async fn bind(config: &Config, store: &Store) -> anyhow::Result<Bound> {
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
        let bound = tftp::server::bind(address)
            .map_err(|error| cannot_listen("tftp", &format!("{address}/udp"), &error))?;
        listening("tftp", &bound.address().to_string(), reason);
        tftp.push(bound);
    }
    let mut dhcp = Vec::new();
    let mut lookouts = Vec::new();
    let mut ndp = Vec::new();
    for port in &ports {
        let lookout = Lookout {
            interface: port.interface.clone(),
            mac: port.mac.unwrap_or(MacAddr([2, 0, 0, 0, 0, 1])),
            server_id: port.server_id,
            own_xid: OwnXid::default(),
        };
        for kind in [DhcpPort::Server, DhcpPort::BootServer] {
            let own_xid = lookout.own_xid.clone();
            dhcp.push(bind_dhcp(config, store, &boot, port, kind, own_xid)?);
        }
        if config.dhcp.answer_ipv6_solicitations {
            ndp.extend(bind_ndp(port));
        }
        lookouts.push(lookout);
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
        lookouts,
        ndp,
        boot,
        server_ids: ports.iter().map(|port| port.server_id).collect(),
    })
}

fn bind_dhcp(
    config: &Config,
    store: &Store,
    boot: &Arc<BootServers>,
    port: &Port,
    kind: DhcpPort,
    own_xid: OwnXid,
) -> anyhow::Result<DhcpServer> {
    let Port {
        interface,
        server_id,
        reason,
        mac,
    } = port;
    let number = match kind {
        DhcpPort::Server => SERVER_PORT,
        DhcpPort::BootServer => BOOT_SERVER_PORT,
    };
    let socket = DhcpSocket::bind(interface, number)
        .map_err(|error| cannot_listen("dhcp", &format!("0.0.0.0:{number}/udp"), &error))?;
    if kind == DhcpPort::Server && !socket.can_send_frames() {
        emit(&Event::Noticed {
            about: "dhcp",
            detail: format!(
                "{interface}: no raw socket (CAP_NET_RAW); clients without an address are answered by broadcast"
            ),
        });
    }
    let reason = match kind {
        DhcpPort::Server => format!("{reason}; server identifier {server_id}"),
        DhcpPort::BootServer => format!("{reason}; boot server of PXE 2.1 §2.5"),
    };
    listening("dhcp", &format!("0.0.0.0:{number}%{interface}"), &reason);
    let index = Interface::index(interface).context("the interface has gone")?;
    let prober = Prober::new(interface.clone(), index, *mac, store.clone());
    Ok(DhcpServer {
        interface: interface.clone(),
        server_id: *server_id,
        port: kind,
        mode: config.dhcp.mode,
        authoritative: config.dhcp.authoritative,
        limiter: Limiter::new(config.dhcp.limit),
        started: Instant::now(),
        own_xid,
        prober: Arc::new(prober),
        socket: Arc::new(socket),
        boot: boot.clone(),
        store: store.clone(),
    })
}

/// Best effort: without it machines boot all the same, later.
fn bind_ndp(port: &Port) -> Option<ndp::server::Server> {
    let index = Interface::index(&port.interface).ok()?;
    match ndp::server::Server::bind(&port.interface, index, port.mac?) {
        Ok(server) => {
            let reason =
                "default: iPXE waits 15 s for an IPv6 router where nobody says that there is none";
            listening("ndp", &format!("[ff02::2]%{}", port.interface), reason);
            Some(server)
        }
        Err(error) => {
            emit(&Event::Noticed {
                about: "ndp",
                detail: format!(
                    "{}: cannot answer IPv6 router solicitations: {error}; iPXE waits 15 s for them",
                    port.interface
                ),
            });
            None
        }
    }
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
                    mac: interface.mac,
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
            mac: interface.mac,
        })
    };
    names.iter().map(port).collect()
}

/// The network boot programs that are there.
pub fn programs(config: &Config) -> BTreeSet<String> {
    (PROGRAMS.iter())
        .flat_map(|(_, _, names)| names.iter())
        .filter(|(_, name)| config.boot.programs.join(name).is_file())
        .map(|(_, name)| (*name).to_owned())
        .collect()
}

fn boot_servers(config: &Config, http: &[TcpListener]) -> io::Result<BootServers> {
    let addresses = http
        .iter()
        .map(TcpListener::local_addr)
        .collect::<io::Result<Vec<SocketAddr>>>()?;
    let one_address = match addresses[..] {
        [SocketAddr::V4(one)] if !one.ip().is_unspecified() => Some(*one.ip()),
        _ => None,
    };
    let servers = BootServers {
        programs: programs(config),
        http_port: addresses.first().map_or(80, SocketAddr::port),
        http_address: one_address,
    };
    for (cpu, firmware) in [
        (Cpu::X86_64, Firmware::Bios),
        (Cpu::X86_64, Firmware::Uefi),
        (Cpu::Aarch64, Firmware::Uefi),
    ] {
        if servers.program(cpu, firmware, None).is_none() {
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
