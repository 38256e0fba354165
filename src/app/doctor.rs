//! `bootjackd doctor`: everything that could be in the way, looked at before or while the service runs. In: the configuration. Out:
//! each need with how it stands. It sends one DHCPDISCOVER on each interface, and takes no port for longer than a look.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use super::capabilities::survey;
use super::health::health;
use super::port::choose;
use super::privileges::whom;
use super::{Loaded, reach};
use crate::config::Config;
use crate::dhcp::answer::Mode;
use crate::dhcp::rogue::{Lookout, OwnXid};
use crate::model::{Capability, MacAddr};
use crate::net::{Interface, interfaces};

/// Looks at everything.
pub async fn examine(loaded: &Loaded) -> Vec<Capability> {
    let config = &loaded.config;
    let running = health(loaded).await.ok();
    let mut all = vec![match &running {
        Some(places) => Capability::good("service", format!("runs and answers on {places}")),
        None => Capability::good("service", "does not run, or not for whom this is"),
    }];
    all.extend(survey(config));
    all.push(directories(config));
    let here = interfaces().unwrap_or_default();
    all.extend(on_interfaces(config, &here));
    if running.is_none() {
        all.extend(ports(config, &here));
    }
    all.extend(other_servers(config, &here).await);
    all
}

/// Whether whom the service becomes can use what the configuration names.
fn directories(config: &Config) -> Capability {
    let places = reach::places(config);
    let find = || reach::first_unreachable(&places).or_else(|| reach::first_unusable(&places));
    let is_root = rustix::process::geteuid().is_root();
    let lacks = match whom(config) {
        Ok(user) if is_root => user.as_them(find).unwrap_or_default(),
        _ => find(),
    };
    match lacks {
        None => Capability::good(
            "directories",
            "all that the configuration names can be used",
        ),
        Some(place) if is_root => Capability::degraded(
            "directories",
            format!("{place} is out of reach for user {}", config.process.user),
            "started by root, the service stays root",
            format!("give {} to that user", place.path.display()),
        ),
        Some(place) => Capability::degraded(
            "directories",
            format!("{place} cannot be used"),
            "the service does not start, or does not serve what is there",
            format!("give {} to the service's user", place.path.display()),
        )
        .missing(),
    }
}

fn on_interfaces(config: &Config, here: &[Interface]) -> Vec<Capability> {
    let (chosen, missing) = choose(config, here);
    let consequence = match config.dhcp.wait_for_interfaces {
        true => "no DHCP there until it comes",
        false => "the service does not start",
    };
    let missing = missing.into_iter().map(|text| {
        let text = text.trim_start_matches("dhcp: ");
        let (detail, next) = text.split_once("; ").unwrap_or((text, ""));
        let found = Capability::degraded("interface", detail, consequence, next);
        match config.dhcp.wait_for_interfaces {
            true => found,
            false => found.missing(),
        }
    });
    let chosen = chosen.iter().map(|port| {
        let name = &port.interface;
        let detail = format!("{name} with {} ({})", port.server_id, port.reason);
        let state = std::fs::read_to_string(format!("/sys/class/net/{name}/operstate"));
        match state.as_deref().map(str::trim) {
            Ok("down" | "lowerlayerdown") => Capability::degraded(
                "interface",
                format!("{name} is down"),
                "nobody on that segment is heard",
                format!("plug the cable in; ip link set {name} up"),
            ),
            _ => Capability::good("interface", detail),
        }
    });
    missing.chain(chosen.collect::<Vec<_>>()).collect()
}

/// Whether the ports are free, while no service of ours has them.
fn ports(config: &Config, here: &[Interface]) -> Vec<Capability> {
    let ids: BTreeSet<IpAddr> = (choose(config, here).0.iter())
        .map(|port| IpAddr::from(port.server_id))
        .collect();
    let of = |listen: Option<SocketAddr>, number: u16| -> Vec<SocketAddr> {
        let each = || ids.iter().map(|id| SocketAddr::new(*id, number)).collect();
        listen.map_or_else(each, |listen| vec![listen])
    };
    let mut all = vec![port(
        "dhcp",
        "udp",
        SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 67),
        |at| UdpSocket::bind(at).map(drop),
    )];
    for at in of(config.tftp.listen, 69) {
        all.push(port("tftp", "udp", at, |at| UdpSocket::bind(at).map(drop)));
    }
    for at in of(config.http.listen, 80) {
        all.push(port("http", "tcp", at, |at| {
            TcpListener::bind(at).map(drop)
        }));
    }
    all
}

fn port(
    protocol: &str,
    kind: &str,
    at: SocketAddr,
    bind: impl FnOnce(SocketAddr) -> io::Result<()>,
) -> Capability {
    match bind(at) {
        Ok(()) => Capability::good("port", format!("{at}/{kind} is free for {protocol}")),
        Err(error) => {
            let said = super::bind::cannot_listen(protocol, &format!("{at}/{kind}"), &error);
            let said = said.to_string();
            let (detail, next) = said.split_once("; ").unwrap_or((&said, ""));
            Capability::degraded("port", detail, "the service does not start", next).missing()
        }
    }
}

async fn other_servers(config: &Config, here: &[Interface]) -> Vec<Capability> {
    let mut all = Vec::new();
    if config.dhcp.mode != Mode::Server {
        return all;
    }
    for port in choose(config, here).0 {
        let lookout = Lookout {
            interface: port.interface.clone(),
            mac: port.mac.unwrap_or(MacAddr([2, 0, 0, 0, 0, 1])),
            server_id: port.server_id,
            own_xid: OwnXid::default(),
        };
        let name = &port.interface;
        all.push(match lookout.look().await {
            Ok(others) if others.is_empty() => {
                Capability::good("other_dhcp_servers", format!("none answers on {name}"))
            }
            Ok(others) => {
                let others: Vec<String> = others.iter().map(ToString::to_string).collect();
                Capability::degraded(
                    "other_dhcp_servers",
                    format!("{} answers on {name}", others.join(", ")),
                    "machines take whichever answer comes first",
                    "stop it, or serve with dhcp.mode = \"proxy\" beside it",
                )
            }
            Err(error) => Capability::degraded(
                "other_dhcp_servers",
                format!("cannot look on {name}: {error}"),
                "another DHCP server of the segment stays unseen",
                "run the doctor as root",
            ),
        });
    }
    all
}
