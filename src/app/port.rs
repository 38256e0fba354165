//! The interfaces that DHCP is served on. In: the configuration and the interfaces that are there. Out: which of them, from which
//! address and why; and on each the sockets that listen.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use super::bind::{cannot_listen, listening};
use crate::config::Config;
use crate::dhcp::bootfile::BootServers;
use crate::dhcp::copies::Copies;
use crate::dhcp::limit::Limiter;
use crate::dhcp::prober::Prober;
use crate::dhcp::proxy::{BOOT_SERVER_PORT, Port as DhcpPort};
use crate::dhcp::rogue::{Lookout, OwnXid};
use crate::dhcp::route::SERVER_PORT;
use crate::dhcp::server::{PATIENCE, Server as DhcpServer};
use crate::model::{Event, MacAddr};
use crate::ndp;
use crate::net::{DhcpSocket, Interface};
use crate::observe::emit;
use crate::replicas::shared::Known;
use crate::store::Store;

/// An interface that DHCP is served on, and the address it is served from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub interface: String,
    /// The kernel's number for it: another one is another interface, whatever its name.
    pub index: u32,
    pub server_id: Ipv4Addr,
    pub reason: &'static str,
    pub mac: Option<MacAddr>,
}

/// What listens on one of them and is not yet served.
pub struct BoundPort {
    pub dhcp: Vec<DhcpServer>,
    pub lookout: Lookout,
    pub ndp: Option<ndp::server::Server>,
}

/// The interfaces named, or else those with an address in a subnet; and a sentence for each that cannot be served on as it is.
pub fn choose(config: &Config, here: &[Interface]) -> (Vec<Port>, Vec<String>) {
    let in_a_subnet = |interface: &Interface| {
        (interface.addresses.iter().copied())
            .find(|a| config.subnets.iter().any(|subnet| subnet.cidr.contains(a)))
    };
    let port = |interface: &Interface, server_id, reason| {
        Some(Port {
            interface: interface.name.clone(),
            index: Interface::index(&interface.name).ok()?,
            server_id,
            reason,
            mac: interface.mac,
        })
    };
    let Some(names) = &config.dhcp.interfaces else {
        let ports: Vec<Port> = (here.iter())
            .filter_map(|i| port(i, in_a_subnet(i)?, "default: it has an address in a subnet"))
            .collect();
        let none = "dhcp: no interface has an address in a subnet; give one an address, or name interfaces in dhcp.interfaces";
        let missing = ports.is_empty().then(|| none.to_owned());
        return (ports, missing.into_iter().collect());
    };
    let mut missing = Vec::new();
    let chosen = names.iter().filter_map(|name| {
        let Some(interface) = here.iter().find(|interface| interface.name == *name) else {
            let names: Vec<&str> = here.iter().map(|i| i.name.as_str()).collect();
            missing.push(format!(
                "dhcp: interface {name} does not exist; this machine has: {}",
                names.join(", ")
            ));
            return None;
        };
        let first = interface.addresses.first().copied();
        let Some(server_id) = in_a_subnet(interface).or(first) else {
            missing.push(format!(
                "dhcp: interface {name} has no IPv4 address; give it one: ip address add ADDRESS/PREFIX dev {name}"
            ));
            return None;
        };
        port(interface, server_id, "configured")
    });
    (chosen.collect(), missing)
}

impl Port {
    /// Listens there, and says so.
    pub fn bind(
        &self,
        config: &Config,
        store: &Store,
        boot: &Arc<BootServers>,
        replicas: Option<&Arc<Known>>,
    ) -> anyhow::Result<BoundPort> {
        let lookout = Lookout {
            interface: self.interface.clone(),
            mac: self.mac.unwrap_or(MacAddr([2, 0, 0, 0, 0, 1])),
            server_id: self.server_id,
            own_xid: OwnXid::default(),
        };
        let dhcp = [DhcpPort::Server, DhcpPort::BootServer]
            .into_iter()
            .map(|kind| {
                let own_xid = lookout.own_xid.clone();
                let server = self.bind_dhcp(config, store, boot, kind, own_xid)?;
                let replicas = replicas.cloned();
                Ok(DhcpServer { replicas, ..server })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let ndp = match config.dhcp.answer_ipv6_solicitations {
            true => self.bind_ndp(),
            false => None,
        };
        Ok(BoundPort { dhcp, lookout, ndp })
    }

    /// Where clients find it.
    pub fn address(&self) -> String {
        format!("0.0.0.0:{SERVER_PORT}%{}", self.interface)
    }

    fn bind_dhcp(
        &self,
        config: &Config,
        store: &Store,
        boot: &Arc<BootServers>,
        kind: DhcpPort,
        own_xid: OwnXid,
    ) -> anyhow::Result<DhcpServer> {
        let Self {
            interface,
            index,
            server_id,
            reason,
            mac,
        } = self;
        let number = match kind {
            DhcpPort::Server => SERVER_PORT,
            DhcpPort::BootServer => BOOT_SERVER_PORT,
        };
        let socket = DhcpSocket::bind(interface, number, PATIENCE)
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
        let prober = Prober::new(interface.clone(), *index, *server_id, *mac, store.clone());
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
            replicas: None,
            copies: Copies::default(),
        })
    }

    /// Best effort: without it machines boot all the same, later.
    fn bind_ndp(&self) -> Option<ndp::server::Server> {
        let interface = &self.interface;
        match ndp::server::Server::bind(interface, self.index, self.mac?) {
            Ok(server) => {
                let reason = "default: iPXE waits 15 s for an IPv6 router where nobody says that there is none";
                listening("ndp", &format!("[ff02::2]%{interface}"), reason);
                Some(server)
            }
            Err(error) => {
                emit(&Event::Noticed {
                    about: "ndp",
                    detail: format!(
                        "{interface}: cannot answer IPv6 router solicitations: {error}; iPXE waits 15 s for them"
                    ),
                });
                None
            }
        }
    }
}
