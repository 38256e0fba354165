//! `[dhcp]`, `[http.tls]`: how the services serve.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::reader::Section;
use super::subnets::SHORTEST_LEASE_TIME;
use super::{Dhcp, HttpTls};
use crate::dhcp::answer::Mode;
use crate::dhcp::limit::Limit;
use crate::http::access::Bind;

/// Packets a second from one client: no boot comes near, and a client that storms takes a hundredth of what is answered.
pub const DEFAULT_RATE_LIMIT: u32 = 1000;
/// An installation is over in minutes, and what runs after it is another system: its address must follow soon.
pub const DEFAULT_INSTALL_LEASE_SECS: u32 = 300;

pub(super) fn read_dhcp(section: &mut Section, lines: &mut BTreeMap<&'static str, usize>) -> Dhcp {
    let interfaces = section.texts("interfaces").map(|at| {
        lines.insert("dhcp.interfaces", at.line);
        if at.value.is_empty() {
            section.report(
                at.line,
                "interfaces",
                "wanted at least one interface name; leave the key out to serve every interface with an address in a subnet",
            );
        }
        let mut names: Vec<String> = Vec::new();
        for (index, name) in at.value.into_iter().enumerate() {
            let key = format!("interfaces[{index}]");
            // IFNAMSIZ is 16 with the closing NUL.
            if !(1..=15).contains(&name.value.len()) || name.value.contains(['/', '\0', ' ']) {
                let text = format!("`{}` is not an interface name", name.value.escape_default());
                section.report(name.line, &key, text);
            } else if names.contains(&name.value) {
                section.report(name.line, &key, format!("{} is named twice", name.value));
            }
            names.push(name.value);
        }
        names
    });
    let wait_for_interfaces = (section.boolean("wait_for_interfaces")).is_some_and(|at| at.value);
    let authoritative = section.boolean("authoritative").is_some_and(|at| at.value);
    let mode = match section.text("mode") {
        None => Mode::Server,
        Some(at) => match at.value.as_str() {
            "server" => Mode::Server,
            "proxy" => Mode::Proxy,
            _ => {
                section.report(at.line, "mode", "wanted \"server\" or \"proxy\"");
                Mode::Server
            }
        },
    };
    let look_for_others = section.boolean("look_for_others").is_none_or(|at| at.value);
    let answer_ipv6_solicitations =
        (section.boolean("answer_ipv6_solicitations")).is_none_or(|at| at.value);
    let per_second = section.whole_number("rate_limit", 0, 1_000_000);
    let shortest = u32::try_from(SHORTEST_LEASE_TIME.as_secs()).unwrap_or(u32::MAX);
    let install_lease_secs = section.whole_number("install_lease_secs", shortest, 86_400);
    let install_lease_secs = install_lease_secs.map_or(DEFAULT_INSTALL_LEASE_SECS, |at| at.value);
    section.finish();
    let per_second = per_second.map_or(DEFAULT_RATE_LIMIT, |at| at.value);
    Dhcp {
        interfaces,
        wait_for_interfaces,
        mode,
        authoritative,
        look_for_others,
        answer_ipv6_solicitations,
        limit: Limit {
            per_second,
            burst: per_second.saturating_mul(2),
        },
        install_lease: Duration::from_secs(u64::from(install_lease_secs)),
    }
}

pub(super) fn read_tls(section: &mut Section) -> Option<HttpTls> {
    let listen = section.parsed::<SocketAddr>("listen", "198.18.0.1:443");
    let certificate = section.text("certificate");
    let key = section.text("key");
    for (name, is_missing) in [
        ("listen", listen.is_none()),
        ("certificate", certificate.is_none()),
        ("key", key.is_none()),
    ] {
        if is_missing && !section.has(name) {
            section.report(section.line(), name, "is missing; http.tls needs it");
        }
    }
    section.finish();
    Some(HttpTls {
        listen: listen?.value,
        certificate: certificate?.value.into(),
        key: key?.value.into(),
    })
}

pub(super) fn read_bind(section: &mut Section) -> Bind {
    match section.text("bind_documents") {
        None => Bind::default(),
        Some(at) => match at.value.as_str() {
            "lease" => Bind::Lease,
            "token" => Bind::Token,
            _ => {
                section.report(at.line, "bind_documents", "wanted \"lease\" or \"token\"");
                Bind::default()
            }
        },
    }
}
