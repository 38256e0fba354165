//! Sockets, before anything is served on them. In: the configuration. Out: sockets that listen, or one sentence that says which
//! cannot and what to do about it.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use thiserror::Error;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::dhcp::bootfile::{BootServers, PROGRAMS};
use crate::grpc;
use crate::model::{Cpu, Event, Firmware};
use crate::observe::emit;

/// A socket that could not be bound.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct CannotListen(String);

impl CannotListen {
    /// With a sentence of one's own.
    pub fn new(sentence: String) -> Self {
        Self(sentence)
    }
}

/// What is bound whatever interfaces there are, and not yet served.
pub struct Bound {
    pub grpc: Vec<grpc::listen::Bound>,
    pub admin: Option<TcpListener>,
}

/// Binds what operators and their programs use, and says where and why.
pub async fn bind(config: &Config) -> anyhow::Result<Bound> {
    let mut grpc = Vec::new();
    for place in &config.grpc.listen {
        let bound = grpc::listen::bind(place, config.grpc.socket_group.as_deref())
            .await
            .map_err(|error| cannot_listen("grpc", &place.to_string(), &error))?;
        let reason = match config.grpc.is_default {
            true => "default: nobody but this machine's root can reach it",
            false => "configured",
        };
        listening("grpc", &bound.address()?, reason);
        grpc.push(bound);
    }
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
    Ok(Bound { grpc, admin })
}

/// The network boot programs that are there.
fn programs(config: &Config) -> BTreeSet<String> {
    (PROGRAMS.iter())
        .flat_map(|(_, _, names)| names.iter())
        .filter(|(_, name)| config.boot.programs.join(name).is_file())
        .map(|(_, name)| (*name).to_owned())
        .collect()
}

/// What machines boot from, and where.
pub fn boot_servers(config: &Config) -> BootServers {
    let http_address = match config.http.listen.map(|listen| listen.ip()) {
        Some(IpAddr::V4(address)) if !address.is_unspecified() => Some(address),
        _ => None,
    };
    BootServers {
        programs: programs(config),
        http_port: config.http.listen.map_or(80, |listen| listen.port()),
        http_address,
    }
}

/// Says which machines there is no network boot program for.
pub fn say_what_is_missing(servers: &BootServers, config: &Config) {
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
}

/// Says that it listens there, and why there.
pub fn listening(protocol: &'static str, address: &str, reason: &str) {
    emit(&Event::Listening {
        protocol,
        address: address.to_owned(),
        reason: reason.to_owned(),
    });
}

/// One sentence: what, where, why, and what to do about it.
pub fn cannot_listen(protocol: &str, place: &str, error: &io::Error) -> CannotListen {
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
