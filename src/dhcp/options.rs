//! Options by name. In: a name and a value, as configuration and API have them. Out: a code and the content it is sent with, or
//! what is wrong with the value.
//!
//! A value of any option can be given raw, as a table: `{ hex = "01:02" }`, `{ text = "…" }`, `{ ip = ["198.18.0.1"] }`.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::model::{Octets, Var};

/// What an option's content is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Address,
    Addresses,
    Text,
    Bool,
    U8,
    U16,
    U32,
    I32,
    /// Domain names in DNS form (RFC 3397 without compression, which every reader takes).
    Domains,
    /// Destinations and routers (RFC 3442).
    Routes,
    Hex,
}

/// Options in common use; any other is written `option_NNN`.
pub const NAMED: [(&str, u8, Kind); 44] = [
    ("subnet_mask", 1, Kind::Address),
    ("time_offset", 2, Kind::I32),
    ("routers", 3, Kind::Addresses),
    ("time_servers", 4, Kind::Addresses),
    ("domain_name_servers", 6, Kind::Addresses),
    ("log_servers", 7, Kind::Addresses),
    ("lpr_servers", 9, Kind::Addresses),
    ("host_name", 12, Kind::Text),
    ("domain_name", 15, Kind::Text),
    ("swap_server", 16, Kind::Address),
    ("root_path", 17, Kind::Text),
    ("ip_forwarding", 19, Kind::Bool),
    ("default_ttl", 23, Kind::U8),
    ("interface_mtu", 26, Kind::U16),
    ("broadcast_address", 28, Kind::Address),
    ("router_discovery", 31, Kind::Bool),
    ("arp_cache_timeout", 35, Kind::U32),
    ("tcp_default_ttl", 37, Kind::U8),
    ("nis_domain", 40, Kind::Text),
    ("nis_servers", 41, Kind::Addresses),
    ("ntp_servers", 42, Kind::Addresses),
    ("vendor_specific", 43, Kind::Hex),
    ("netbios_name_servers", 44, Kind::Addresses),
    ("netbios_node_type", 46, Kind::U8),
    ("netbios_scope", 47, Kind::Text),
    ("vendor_class", 60, Kind::Text),
    ("tftp_server_name", 66, Kind::Text),
    ("smtp_servers", 69, Kind::Addresses),
    ("pop3_servers", 70, Kind::Addresses),
    ("slp_directory_agents", 78, Kind::Hex),
    ("posix_timezone", 100, Kind::Text),
    ("tz_database_timezone", 101, Kind::Text),
    ("ipv6_only_preferred", 108, Kind::U32),
    ("captive_portal", 114, Kind::Text),
    ("auto_configure", 116, Kind::Bool),
    ("domain_search", 119, Kind::Domains),
    ("sip_servers", 120, Kind::Hex),
    ("classless_routes", 121, Kind::Routes),
    ("vendor_identifying_class", 124, Kind::Hex),
    ("vendor_identifying_specific", 125, Kind::Hex),
    ("tftp_servers", 150, Kind::Addresses),
    ("config_file", 209, Kind::Text),
    ("path_prefix", 210, Kind::Text),
    ("ms_classless_routes", 249, Kind::Routes),
];

/// Codes that the server decides, and why they cannot be configured.
fn decided_here(code: u8) -> Option<&'static str> {
    Some(match code {
        0 | 255 => "are padding and end",
        50 | 53..=55 | 57 | 61 | 82 | 97 | 118 => "belongs to the exchange itself",
        51 | 58 | 59 => "follows from lease_time",
        52 => "is set when it is needed",
        56 => "is said in refusals alone",
        67 => "is chosen by architecture; name a program instead",
        _ => return None,
    })
}

/// The code of a name: one of `NAMED`, or `option_NNN`.
pub fn code_of(name: &str) -> Result<(u8, Kind), String> {
    let (code, kind) = match NAMED.iter().find(|(known, _, _)| *known == name) {
        Some((_, code, kind)) => (*code, *kind),
        None => {
            let number = name.strip_prefix("option_").and_then(|n| n.parse().ok());
            let code = number.ok_or_else(|| unknown(name))?;
            let known = NAMED.iter().find(|(_, c, _)| *c == code);
            (code, known.map_or(Kind::Hex, |(_, _, kind)| *kind))
        }
    };
    match decided_here(code) {
        Some(why) => Err(format!("option {code} {why}")),
        None => Ok((code, kind)),
    }
}

/// The name of a code.
pub fn name_of(code: u8) -> String {
    NAMED.iter().find(|(_, c, _)| *c == code).map_or_else(
        || format!("option_{code}"),
        |(name, _, _)| (*name).to_owned(),
    )
}

fn unknown(name: &str) -> String {
    let closest = NAMED
        .iter()
        .map(|(known, _, _)| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, _)| *distance <= 3)
        .min();
    match closest {
        Some((_, known)) => format!("unknown option; did you mean {known}?"),
        None => "unknown option; write those without a name option_NNN".to_owned(),
    }
}

/// The code and content of an option given by name.
pub fn encode(name: &str, value: &Var) -> Result<(u8, Octets), String> {
    let (code, kind) = code_of(name)?;
    let content = match value {
        Var::Map(raw) => encode_raw(raw)?,
        value => encode_kind(kind, value)?,
    };
    if content.is_empty() && kind != Kind::Text {
        return Err("is empty".to_owned());
    }
    if content.len() > 1024 {
        return Err(format!(
            "has {} octets; no client takes more than 1024",
            content.len()
        ));
    }
    Ok((code, Octets(content)))
}

fn encode_raw(raw: &crate::model::Sorted<String, Var>) -> Result<Vec<u8>, String> {
    let mut entries = raw.iter();
    let (Some((form, value)), None) = (entries.next(), entries.next()) else {
        return Err("wanted one of { hex = … }, { text = … }, { ip = … }".to_owned());
    };
    match form.as_str() {
        "hex" => encode_kind(Kind::Hex, value),
        "text" => encode_kind(Kind::Text, value),
        "ip" => encode_kind(Kind::Addresses, value),
        other => Err(format!("`{other}` is none of hex, text and ip")),
    }
}

fn encode_kind(kind: Kind, value: &Var) -> Result<Vec<u8>, String> {
    match kind {
        Kind::Address => Ok(address(value)?.octets().to_vec()),
        Kind::Addresses => each(value, |one| Ok(address(one)?.octets().to_vec())),
        Kind::Text => text(value).map(|text| text.as_bytes().to_vec()),
        Kind::Bool => match value {
            Var::Bool(value) => Ok(vec![u8::from(*value)]),
            _ => Err("wanted true or false".to_owned()),
        },
        Kind::U8 => number(value, 0, u8::MAX.into()).map(|n| n.to_be_bytes()[7..].to_vec()),
        Kind::U16 => number(value, 0, u16::MAX.into()).map(|n| n.to_be_bytes()[6..].to_vec()),
        Kind::U32 => number(value, 0, u32::MAX.into()).map(|n| n.to_be_bytes()[4..].to_vec()),
        Kind::I32 => {
            number(value, i32::MIN.into(), i32::MAX.into()).map(|n| n.to_be_bytes()[4..].to_vec())
        }
        Kind::Domains => each(value, |one| domain(text(one)?)),
        Kind::Routes => routes(value),
        Kind::Hex => {
            let said = text(value)?;
            Octets::from_hex(said)
                .map(|octets| octets.0)
                .ok_or_else(|| format!("`{said}` is not hexadecimal; write it like 01:0a:ff"))
        }
    }
}

fn each(value: &Var, one: impl Fn(&Var) -> Result<Vec<u8>, String>) -> Result<Vec<u8>, String> {
    match value {
        Var::List(values) => {
            let parts: Vec<Vec<u8>> = values.iter().map(one).collect::<Result<_, _>>()?;
            Ok(parts.concat())
        }
        value => one(value),
    }
}

fn text(value: &Var) -> Result<&str, String> {
    match value {
        Var::Text(text) => Ok(text),
        _ => Err("wanted a string".to_owned()),
    }
}

fn address(value: &Var) -> Result<Ipv4Addr, String> {
    let said = text(value)?;
    said.parse()
        .map_err(|_| format!("`{said}` is not an IPv4 address; write it like 198.18.0.1"))
}

fn number(value: &Var, least: i64, most: i64) -> Result<i64, String> {
    match value {
        Var::Integer(number) if (least..=most).contains(number) => Ok(*number),
        _ => Err(format!("wanted a whole number from {least} to {most}")),
    }
}

/// A name as labels with their lengths (RFC 1035 §3.1).
fn domain(name: &str) -> Result<Vec<u8>, String> {
    crate::model::check_hostname(name).map_err(|error| error.to_string())?;
    let mut octets = Vec::new();
    for label in name.split('.') {
        octets.push(u8::try_from(label.len()).map_err(|_| "a label is too long".to_owned())?);
        octets.extend(label.as_bytes());
    }
    octets.push(0);
    Ok(octets)
}

/// `["192.0.2.0/24 via 198.18.0.1"]`.
fn routes(value: &Var) -> Result<Vec<u8>, String> {
    each(value, |one| {
        let said = text(one)?;
        let malformed =
            || format!("`{said}` is not a route; write it like 192.0.2.0/24 via 198.18.0.1");
        let (net, router) = said.split_once(" via ").ok_or_else(malformed)?;
        let net: Ipv4Net = net.trim().parse().map_err(|_| malformed())?;
        let router: Ipv4Addr = router.trim().parse().map_err(|_| malformed())?;
        Ok(route(net, router))
    })
}

/// One route: the prefix length, as many octets of the destination as it needs, and the router (RFC 3442).
pub fn route(net: Ipv4Net, router: Ipv4Addr) -> Vec<u8> {
    let significant = usize::from(net.prefix_len().div_ceil(8));
    let destination = net.network().octets();
    [
        &[net.prefix_len()],
        &destination[..significant],
        &router.octets(),
    ]
    .concat()
}

/// An option's content as a value that `encode` takes, for people to read.
pub fn decode(code: u8, content: &[u8]) -> Var {
    let kind = NAMED
        .iter()
        .find(|(_, c, _)| *c == code)
        .map(|(_, _, kind)| *kind);
    let number = || {
        content
            .iter()
            .fold(0_i64, |n, octet| (n << 8) | i64::from(*octet))
    };
    let raw = || {
        Var::Map(
            [(
                "hex".to_owned(),
                Var::Text(Octets(content.to_vec()).to_string()),
            )]
            .into(),
        )
    };
    let addresses = || -> Vec<Var> {
        (content.as_chunks::<4>().0.iter())
            .map(|octets| Var::Text(Ipv4Addr::from(*octets).to_string()))
            .collect()
    };
    match (kind, content.len()) {
        (Some(Kind::Address), 4) => addresses().remove(0),
        (Some(Kind::Addresses), n) if n > 0 && n % 4 == 0 => Var::List(addresses()),
        (Some(Kind::Text), _) => match std::str::from_utf8(content) {
            Ok(text) => Var::Text(text.to_owned()),
            Err(_) => raw(),
        },
        (Some(Kind::Bool), 1) if content[0] <= 1 => Var::Bool(content[0] == 1),
        (Some(Kind::U8), 1) | (Some(Kind::U16), 2) | (Some(Kind::U32), 4) => Var::Integer(number()),
        (Some(Kind::I32), 4) => Var::Integer(i64::from(number() as i32)),
        _ => raw(),
    }
}

/// Whether a list of routes has one to everywhere.
pub fn has_default_route(mut content: &[u8]) -> bool {
    while let [prefix, rest @ ..] = content {
        if *prefix == 0 {
            return true;
        }
        let length = usize::from(prefix.div_ceil(8)) + 4;
        content = rest.get(length..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: &str, value: Var) -> Result<Vec<u8>, String> {
        encode(name, &value).map(|(_, octets)| octets.0)
    }

    fn words(words: &[&str]) -> Var {
        Var::List(words.iter().map(|w| Var::Text((*w).to_owned())).collect())
    }

    #[test]
    fn values_become_the_content_their_rfc_describes() {
        assert_eq!(
            said("ntp_servers", words(&["198.18.0.1", "198.18.0.2"])),
            Ok(vec![198, 18, 0, 1, 198, 18, 0, 2])
        );
        assert_eq!(
            said("interface_mtu", Var::Integer(9000)),
            Ok(vec![0x23, 0x28])
        );
        assert_eq!(
            said("ipv6_only_preferred", Var::Integer(1800)),
            Ok(vec![0, 0, 7, 8])
        );
        assert_eq!(
            said("time_offset", Var::Integer(-3600)),
            Ok(vec![0xff, 0xff, 0xf1, 0xf0])
        );
        assert_eq!(
            said("domain_search", words(&["a.bc", "d"])),
            Ok(b"\x01a\x02bc\0\x01d\0".to_vec())
        );
        assert_eq!(
            said(
                "classless_routes",
                words(&["192.0.2.0/25 via 198.18.0.1", "0.0.0.0/0 via 198.18.0.9"])
            ),
            Ok(vec![25, 192, 0, 2, 0, 198, 18, 0, 1, 0, 198, 18, 0, 9])
        );
        assert_eq!(
            said("option_252", Var::Text("68:69".into())),
            Ok(b"hi".to_vec())
        );
        let raw = Var::Map([("text".to_owned(), Var::Text("hi".into()))].into());
        assert_eq!(said("option_252", raw), Ok(b"hi".to_vec()));
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_right_form() {
        for (name, value, wanted) in [
            ("ntp_servres", Var::Integer(1), "did you mean ntp_servers?"),
            ("lease", Var::Integer(1), "option_NNN"),
            (
                "option_54",
                Var::Text("01".into()),
                "belongs to the exchange",
            ),
            ("option_67", Var::Text("01".into()), "program"),
            ("option_300", Var::Text("01".into()), "unknown option"),
            ("interface_mtu", Var::Integer(70_000), "from 0 to 65535"),
            ("routers", Var::Text("x".into()), "198.18.0.1"),
            ("classless_routes", Var::Text("10.0.0.0/8".into()), "via"),
            ("option_252", Var::Text("zz".into()), "hexadecimal"),
        ] {
            let refused = said(name, value).expect_err(name);
            assert!(refused.contains(wanted), "{name}: {refused}");
        }
    }

    #[test]
    fn a_default_route_is_found_wherever_it_stands() {
        let content = said(
            "classless_routes",
            words(&["192.0.2.0/24 via 198.18.0.1", "0.0.0.0/0 via 198.18.0.9"]),
        );
        assert!(has_default_route(&content.expect("routes")));
        let content = said("classless_routes", words(&["192.0.2.0/24 via 198.18.0.1"]));
        assert!(!has_default_route(&content.expect("routes")));
        assert!(!has_default_route(&[24, 1]));
    }
}
