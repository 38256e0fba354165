//! `[replicas]`: that others answer with this one, and what they are told of it.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::reader::Section;
use crate::replicas::group::USUAL_WEIGHT;
use crate::replicas::record::check_id;
use crate::replicas::shares::MOST_WEIGHT;

/// How long the others wait for one that says nothing: one lost packet to etcd is no death, and no client has given up by then.
pub const DEFAULT_TTL_SECS: u32 = 6;
/// etcd keeps no lease for less than one and a half of its election time-outs, which are a second each.
const SHORTEST_TTL_SECS: u32 = 3;
const LONGEST_TTL_SECS: u32 = 300;

/// This replica among others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// None: the name of the host.
    pub id: Option<String>,
    /// Where others forward to. Empty: the addresses that DHCP is served from.
    pub addresses: Vec<Ipv4Addr>,
    /// How long its share waits for it.
    pub ttl: Duration,
    pub weight: u16,
    /// Of the section, for problems that are seen later.
    pub line: usize,
}

/// None where the file does not speak of replicas. `is_shared`: the store is one that they all have.
pub(super) fn read(root: &mut Section, is_shared: bool) -> Option<Replicas> {
    if !root.has("replicas") {
        return None;
    }
    let replicas = read_section(&mut root.section("replicas"));
    if !is_shared {
        let text =
            "replicas share one store; set store.backend = \"etcd\", or leave [replicas] out";
        root.report(replicas.line, "replicas", text);
    }
    Some(replicas)
}

fn read_section(section: &mut Section) -> Replicas {
    let id = section.text("id").map(|at| {
        if let Err(problem) = check_id(&at.value) {
            section.report(at.line, "id", problem);
        }
        at.value
    });
    let mut addresses = Vec::new();
    for (index, at) in (section.texts("addresses").into_iter())
        .flat_map(|at| at.value)
        .enumerate()
    {
        let key = format!("addresses[{index}]");
        match at.value.parse::<Ipv4Addr>() {
            Ok(address)
                if address.is_unspecified() || address.is_broadcast() || address.is_multicast() =>
            {
                let text = format!(
                    "{address} is nobody's address; wanted one that the others reach this replica at"
                );
                section.report(at.line, &key, text);
            }
            Ok(address) if addresses.contains(&address) => {
                section.report(at.line, &key, format!("{address} is named twice"));
            }
            Ok(address) => addresses.push(address),
            Err(_) => {
                let text = format!(
                    "`{}` is no IPv4 address, such as 198.18.0.2",
                    at.value.escape_default()
                );
                section.report(at.line, &key, text);
            }
        }
    }
    let ttl = section.whole_number("ttl_secs", SHORTEST_TTL_SECS, LONGEST_TTL_SECS);
    let weight = section.whole_number("weight", 0, u32::from(MOST_WEIGHT));
    section.finish();
    let weight = weight.and_then(|at| u16::try_from(at.value).ok());
    Replicas {
        id,
        addresses,
        ttl: Duration::from_secs(ttl.map_or(DEFAULT_TTL_SECS, |at| at.value).into()),
        weight: weight.unwrap_or(USUAL_WEIGHT),
        line: section.line(),
    }
}
