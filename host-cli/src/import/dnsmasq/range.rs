//! `dhcp-range=…`: a pool, and with it a subnet.

use std::net::Ipv4Addr;

use super::line::Word;
use crate::import::Imported;
use crate::import::network::{Subnet, masked, prefix_of};
use crate::wanted::Place;

/// Reads a range into the network of `out`.
pub fn read(place: &Place, value: &Word, out: &mut Imported) {
    let what = format!("dhcp-range={}", value.text());
    let texts: Vec<String> = value.parts().iter().map(Word::text).collect();
    let mut tag = None;
    let mut addresses: Vec<Ipv4Addr> = Vec::new();
    let mut lease_secs = None;
    for (at, text) in texts.iter().enumerate() {
        if let Some(set) = text
            .strip_prefix("set:")
            .or_else(|| text.strip_prefix("net:"))
        {
            tag = Some(set.to_owned());
        } else if text.starts_with("tag:") {
            return out.leave(
                place,
                what,
                "it holds only for clients with a tag",
                "write a [[class]] with pools in bootjackd.toml",
            );
        } else if text.starts_with("constructor:") || text.contains(':') {
            return out.leave(place, what, "Bootjack gives IPv4 addresses", "");
        } else if let Ok(address) = text.parse() {
            addresses.push(address);
        } else if text == "proxy" {
            return out.leave(
                place,
                what,
                "another server gives the addresses there",
                "set mode = \"proxy\" in [dhcp] of bootjackd.toml",
            );
        } else if text == "static" || text.is_empty() {
        } else if let Some(secs) = seconds(text) {
            lease_secs = secs;
        } else if at == 0 {
            tag = Some(text.clone());
        } else {
            return out.malformed(
                place,
                what,
                format!("`{text}` is neither an address nor a lease time"),
            );
        }
    }
    let Some(first) = addresses.first().copied() else {
        return out.malformed(place, what, "it has no address");
    };
    let last = (!texts.iter().any(|text| text == "static"))
        .then(|| addresses.get(1).copied())
        .flatten();
    let mask = addresses
        .get(2)
        .or_else(|| addresses.get(1).filter(|_| last.is_none()));
    let prefix = match mask.map(|mask| prefix_of(*mask)) {
        Some(None) => return out.malformed(place, what, "its netmask is none"),
        Some(Some(prefix)) => Some(prefix),
        None => None,
    };
    if last.is_some_and(|last| last < first) {
        return out.malformed(place, what, "it ends before it begins");
    }
    let guessed = smallest(first, last.unwrap_or(first));
    let mut subnet = Subnet::new(place.clone(), first, prefix.unwrap_or(guessed));
    subnet.is_guessed = prefix.is_none();
    subnet.pools = last.map(|last| (first, last)).into_iter().collect();
    subnet.lease_secs = lease_secs;
    subnet.tag = tag;
    let known = &mut out.network.subnets;
    match known
        .iter_mut()
        .find(|other| (other.address, other.prefix) == (subnet.address, subnet.prefix))
    {
        Some(other) => {
            other.pools.extend(subnet.pools);
            other.tag = other.tag.take().or(subnet.tag);
        }
        None => known.push(subnet),
    }
}

/// The longest prefix up to 24 that holds both.
fn smallest(first: Ipv4Addr, last: Ipv4Addr) -> u8 {
    (0..=24)
        .rev()
        .find(|prefix| masked(first, *prefix) == masked(last, *prefix))
        .unwrap_or(0)
}

/// A lease time; that without end has no seconds.
fn seconds(text: &str) -> Option<Option<u64>> {
    if matches!(text, "infinite" | "deprecated") {
        return Some(None);
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    Some(number.checked_mul(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(lines: &[&str]) -> Imported {
        let mut out = Imported::default();
        for (at, line) in lines.iter().enumerate() {
            let place = Place {
                file: "d".into(),
                line: at + 1,
            };
            read(&place, &super::super::line::read(line).unwrap(), &mut out);
        }
        out
    }

    #[test]
    fn ranges_become_subnets_with_pools() {
        let out = network(&[
            "set:lab,198.18.0.50,198.18.0.150,255.255.255.0,12h",
            "198.18.0.200,198.18.0.210,255.255.255.0",
            "198.19.0.0,static",
            "192.0.2.1,192.0.2.9,45",
        ]);
        assert!(out.left.is_empty(), "{:?}", out.left);
        let subnets: Vec<_> = out
            .network
            .subnets
            .iter()
            .map(|s| {
                (
                    s.address.to_string(),
                    s.prefix,
                    s.is_guessed,
                    s.pools.len(),
                    s.lease_secs,
                )
            })
            .collect();
        assert_eq!(
            subnets,
            [
                ("198.18.0.0".to_owned(), 24, false, 2, Some(43_200)),
                ("198.19.0.0".to_owned(), 24, true, 0, None),
                ("192.0.2.0".to_owned(), 24, true, 1, Some(45)),
            ]
        );
    }

    #[test]
    fn what_is_no_pool_stays_behind() {
        let out = network(&[
            "198.18.0.1,proxy",
            "::1,constructor:eth0",
            "tag:x,198.18.0.1,198.18.0.9",
        ]);
        assert!(out.left.iter().all(|left| !left.is_malformed) && out.left.len() == 3);
        let out = network(&[
            "198.18.0.9,198.18.0.1",
            "198.18.0.1,x y",
            "lab",
            "198.18.0.1,198.18.0.9,255.0.255.0",
        ]);
        assert!(out.left.iter().all(|left| left.is_malformed) && out.left.len() == 4);
    }
}
