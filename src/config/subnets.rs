//! `[[subnet]]`: networks, the pools in them, and what their clients are told.

use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

use ipnet::Ipv4Net;

use super::layers::read_options;
use super::reader::{At, Section};
use crate::model::{AddressProbe, ClientPolicy, Pool, Subnet, check_hostname};

/// RFC 2131 leaves it open; an hour lets an address return soon, and renewals stay rare.
pub const DEFAULT_LEASE_TIME: Duration = Duration::from_secs(3600);
/// Shorter leases than this would have clients renew at every breath.
pub const SHORTEST_LEASE_TIME: Duration = Duration::from_secs(60);

pub(super) fn read_subnets(root: &mut Section) -> Vec<At<Subnet>> {
    let mut subnets: Vec<At<Subnet>> = Vec::new();
    let is_missing = !root.has("subnet");
    let sections = root.sections("subnet");
    if is_missing {
        root.report(0, "subnet", "none is given; add [[subnet]] with its cidr");
    }
    for mut section in sections {
        let line = section.line();
        let Some(subnet) = read_subnet(&mut section) else {
            continue;
        };
        let overlapped = subnets.iter().find(|other| {
            let (a, b) = (other.value.cidr, subnet.cidr);
            a.contains(&b.network()) || b.contains(&a.network())
        });
        if let Some(other) = overlapped {
            section.report(
                line,
                "cidr",
                format!(
                    "{} overlaps subnet {} of line {}",
                    subnet.cidr, other.value.cidr, other.line
                ),
            );
        }
        subnets.push(At {
            line,
            value: subnet,
        });
    }
    subnets
}

/// One `[[subnet]]`; nothing if it has no usable cidr, and everything else of it is looked at all the same.
fn read_subnet(section: &mut Section) -> Option<Subnet> {
    let has_cidr = section.has("cidr");
    let cidr = section.parsed::<Ipv4Net>("cidr", "198.18.0.0/24");
    let pools = section.all_parsed_by_index::<PoolText>("pools", "198.18.0.100-198.18.0.199");
    let router = section.parsed::<Ipv4Addr>("router", "198.18.0.1");
    let dns = section.all_parsed::<Ipv4Addr>("dns", "198.18.0.1");
    let domain = section.text("domain").map(|at| {
        if let Err(error) = check_hostname(&at.value) {
            section.report(at.line, "domain", error);
        }
        at.value
    });
    let lease_time = read_lease_time(section);
    let exclude = section.all_parsed::<PoolText>("exclude", "198.18.0.150-198.18.0.159");
    let client_policy = match section.text("lease_key") {
        None => ClientPolicy::Mac,
        Some(at) => match at.value.as_str() {
            "mac" => ClientPolicy::Mac,
            "client_id" => ClientPolicy::ClientId,
            _ => {
                section.report(at.line, "lease_key", "wanted \"mac\" or \"client_id\"");
                ClientPolicy::Mac
            }
        },
    };
    let probe = match section.text("probe") {
        None => None,
        Some(at) => match at.value.as_str() {
            "none" => None,
            "arp" => Some(AddressProbe::Arp),
            "icmp" => Some(AddressProbe::Icmp),
            _ => {
                let text = "wanted \"none\", \"arp\" or \"icmp\"";
                section.report(at.line, "probe", text);
                None
            }
        },
    };
    let options = read_options(section);
    section.finish();
    let cidr = cidr.or_else(|| {
        if !has_cidr {
            section.report(
                section.line(),
                "cidr",
                "is missing; write it like cidr = \"198.18.0.0/24\"",
            );
        }
        None
    })?;
    check_cidr(section, &cidr);
    if let Some(router) = router.as_ref().filter(|at| !cidr.value.contains(&at.value)) {
        let text = format!("{} is outside subnet {}", router.value, cidr.value);
        section.report(router.line, "router", text);
    }
    Some(Subnet {
        pools: check_pools(section, cidr.value, pools),
        exclude: exclude.into_iter().map(|at| at.value.0).collect(),
        options,
        probe,
        client_policy,
        cidr: cidr.value,
        router: router.map(|at| at.value),
        dns: dns.into_iter().map(|at| at.value).collect(),
        domain,
        lease_time,
    })
}

fn check_cidr(section: &Section, cidr: &At<Ipv4Net>) {
    let net = cidr.value;
    if net.addr() != net.network() {
        let text = format!("{net} has host bits set; write {}", net.trunc());
        section.report(cidr.line, "cidr", text);
    } else if net.prefix_len() < 8 {
        let text = format!("{net} is larger than any real network; use a prefix from /8 to /32");
        section.report(cidr.line, "cidr", text);
    }
}

fn check_pools(section: &Section, cidr: Ipv4Net, pools: Vec<(usize, At<PoolText>)>) -> Vec<Pool> {
    let mut good: Vec<Pool> = Vec::new();
    for (index, at) in pools {
        let (key, PoolText(pool)) = (format!("pools[{index}]"), at.value);
        if !cidr.contains(&pool.first) || !cidr.contains(&pool.last) {
            let text = format!("{pool} is outside subnet {cidr}");
            section.report(at.line, &key, text);
        } else if let Some(other) = good
            .iter()
            .find(|other| other.first <= pool.last && pool.first <= other.last)
        {
            section.report(at.line, &key, format!("{pool} overlaps pool {other}"));
        } else {
            good.push(pool);
        }
    }
    good.sort_by_key(|pool| pool.first);
    good
}

pub(super) fn read_lease_time(section: &mut Section) -> Duration {
    let Some(at) = section.text("lease_time") else {
        return DEFAULT_LEASE_TIME;
    };
    let longest = Duration::from_secs(u64::from(u32::MAX) - 1);
    match humantime::parse_duration(&at.value) {
        Ok(time) if (SHORTEST_LEASE_TIME..=longest).contains(&time) => time,
        Ok(_) => {
            let text = format!("{} is not between 1m and 136 years", at.value);
            section.report(at.line, "lease_time", text);
            DEFAULT_LEASE_TIME
        }
        Err(error) => {
            let text = format!(
                "`{}` does not parse: {error}; write it like 1h or 90m",
                at.value
            );
            section.report(at.line, "lease_time", text);
            DEFAULT_LEASE_TIME
        }
    }
}

/// `198.18.0.100-198.18.0.199`, or one address alone.
pub(super) struct PoolText(pub(super) Pool);

impl FromStr for PoolText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let address = |part: &str| {
            part.trim()
                .parse::<Ipv4Addr>()
                .map_err(|_| format!("`{}` is not an IPv4 address", part.trim()))
        };
        let (first, last) = (address(first)?, address(last)?);
        if last < first {
            return Err(format!("{last} comes before {first}"));
        }
        Ok(Self(Pool { first, last }))
    }
}
