//! DHCP options as other servers and as Bootjack write them. In: a code, or a name in dhcpd's, Kea's or dnsmasq's words, and text.
//! Out: the option as a reservation has it, or why it cannot have it.

use std::net::Ipv4Addr;

use serde_json::{Value as Json, json};

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
    Domains,
    Routes,
    Hex,
}

/// One option in everybody's words; empty where somebody has none.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub code: u8,
    pub ours: &'static str,
    /// As dhcpd and Kea call it.
    pub isc: &'static str,
    pub dnsmasq: &'static str,
    pub kind: Kind,
}

const fn known(
    code: u8,
    ours: &'static str,
    isc: &'static str,
    dnsmasq: &'static str,
    kind: Kind,
) -> Known {
    Known {
        code,
        ours,
        isc,
        dnsmasq,
        kind,
    }
}

use Kind::{Address, Addresses, Bool, Domains, Hex, I32, Routes, Text, U8, U16, U32};

#[rustfmt::skip]
const KNOWN: &[Known] = &[
    known(1, "subnet_mask", "subnet-mask", "netmask", Address),
    known(2, "time_offset", "time-offset", "time-offset", I32),
    known(3, "routers", "routers", "router", Addresses),
    known(4, "time_servers", "time-servers", "", Addresses),
    known(5, "", "ien116-name-servers", "", Addresses),
    known(6, "domain_name_servers", "domain-name-servers", "dns-server", Addresses),
    known(7, "log_servers", "log-servers", "log-server", Addresses),
    known(9, "lpr_servers", "lpr-servers", "lpr-server", Addresses),
    known(12, "host_name", "host-name", "", Text),
    known(13, "", "boot-size", "boot-file-size", U16),
    known(15, "domain_name", "domain-name", "domain-name", Text),
    known(16, "swap_server", "swap-server", "swap-server", Address),
    known(17, "root_path", "root-path", "root-path", Text),
    known(18, "", "extensions-path", "extension-path", Text),
    known(19, "ip_forwarding", "ip-forwarding", "ip-forward-enable", Bool),
    known(23, "default_ttl", "default-ip-ttl", "default-ttl", U8),
    known(26, "interface_mtu", "interface-mtu", "mtu", U16),
    known(27, "", "all-subnets-local", "all-subnets-local", Bool),
    known(28, "broadcast_address", "broadcast-address", "", Address),
    known(31, "router_discovery", "router-discovery", "router-discovery", Bool),
    known(33, "", "static-routes", "static-route", Addresses),
    known(35, "arp_cache_timeout", "arp-cache-timeout", "arp-timeout", U32),
    known(37, "tcp_default_ttl", "default-tcp-ttl", "tcp-ttl", U8),
    known(38, "", "tcp-keepalive-interval", "tcp-keepalive", U32),
    known(40, "nis_domain", "nis-domain", "nis-domain", Text),
    known(41, "nis_servers", "nis-servers", "nis-server", Addresses),
    known(42, "ntp_servers", "ntp-servers", "ntp-server", Addresses),
    known(43, "vendor_specific", "vendor-encapsulated-options", "", Hex),
    known(44, "netbios_name_servers", "netbios-name-servers", "netbios-ns", Addresses),
    known(45, "", "netbios-dd-server", "netbios-dd", Addresses),
    known(46, "netbios_node_type", "netbios-node-type", "netbios-nodetype", U8),
    known(47, "netbios_scope", "netbios-scope", "netbios-scope", Text),
    known(48, "", "font-servers", "x-windows-fs", Addresses),
    known(49, "", "x-display-manager", "x-windows-dm", Addresses),
    known(51, "", "dhcp-lease-time", "", U32),
    known(54, "", "dhcp-server-identifier", "", Address),
    known(58, "", "dhcp-renewal-time", "T1", U32),
    known(59, "", "dhcp-rebinding-time", "T2", U32),
    known(60, "vendor_class", "vendor-class-identifier", "vendor-class", Text),
    known(61, "", "dhcp-client-identifier", "", Hex),
    known(66, "tftp_server_name", "tftp-server-name", "tftp-server", Text),
    known(67, "", "bootfile-name", "bootfile-name", Text),
    known(69, "smtp_servers", "smtp-server", "smtp-server", Addresses),
    known(70, "pop3_servers", "pop-server", "pop3-server", Addresses),
    known(71, "", "nntp-server", "nntp-server", Addresses),
    known(74, "", "irc-server", "irc-server", Addresses),
    known(78, "slp_directory_agents", "slp-directory-agent", "", Hex),
    known(97, "", "uuid-guid", "client-machine-id", Hex),
    known(100, "posix_timezone", "pcode", "posix-timezone", Text),
    known(101, "tz_database_timezone", "tcode", "tzdb-timezone", Text),
    known(108, "ipv6_only_preferred", "v6-only-preferred", "ipv6-only", U32),
    known(114, "captive_portal", "v4-captive-portal", "", Text),
    known(116, "auto_configure", "auto-config", "", Bool),
    known(119, "domain_search", "domain-search", "domain-search", Domains),
    known(120, "sip_servers", "sip-server", "sip-server", Hex),
    known(121, "classless_routes", "classless-static-route", "classless-static-route", Routes),
    known(121, "classless_routes", "rfc3442-classless-static-routes", "", Routes),
    known(124, "vendor_identifying_class", "vivco", "", Hex),
    known(125, "vendor_identifying_specific", "vivso", "vendor-id-encap", Hex),
    known(150, "tftp_servers", "tftp-server-address", "tftp-server-address", Addresses),
    known(209, "config_file", "loader-configfile", "", Text),
    known(210, "path_prefix", "loader-pathprefix", "", Text),
    known(249, "ms_classless_routes", "ms-classless-static-routes", "", Routes),
];

pub const HOST_NAME: u8 = 12;
pub const BOOT_FILE: u8 = 67;

/// Dnsmasq's `option:NAME`.
pub fn by_dnsmasq(name: &str) -> Option<u8> {
    let is_it =
        |known: &&Known| !known.dnsmasq.is_empty() && known.dnsmasq.eq_ignore_ascii_case(name);
    KNOWN.iter().find(is_it).map(|known| known.code)
}

/// Dhcpd's and Kea's `option NAME`, also as `option-NNN`.
pub fn by_isc(name: &str) -> Option<u8> {
    let number = || name.strip_prefix("option-")?.parse().ok();
    (KNOWN.iter().find(|known| known.isc == name))
        .map(|known| known.code)
        .or_else(number)
}

/// What this code's content is, if that is known.
pub fn kind_of(code: u8) -> Option<Kind> {
    Some(KNOWN.iter().find(|known| known.code == code)?.kind)
}

/// The name of a code in a reservation.
pub fn name_of(code: u8) -> String {
    (KNOWN
        .iter()
        .find(|known| known.code == code && !known.ours.is_empty()))
    .map_or_else(|| format!("option_{code}"), |known| known.ours.to_owned())
}

/// Why Bootjack takes this option from nobody, and what to do.
pub fn decided_by_bootjack(code: u8) -> Option<&'static str> {
    Some(match code {
        51 | 58 | 59 => "follows from lease_time of the subnet; set it in bootjackd.toml",
        67 => "the boot file is chosen by architecture; a reservation may name a program",
        0 | 255 | 50 | 52..=57 | 61 | 82 | 97 | 118 => {
            "belongs to the exchange itself; nothing to do"
        }
        _ => return None,
    })
}

/// The option of this code as a reservation has it, out of what stands between commas. Of a code whose content is not known
/// the kind is what the text looks like.
pub fn value(code: u8, parts: &[&str]) -> Result<Json, String> {
    let kind = kind_of(code).unwrap_or_else(|| looks_like(parts));
    value_of(code, kind, parts)
}

/// The same, of this kind.
pub fn value_of(code: u8, kind: Kind, parts: &[&str]) -> Result<Json, String> {
    let is_named = KNOWN
        .iter()
        .any(|k| k.code == code && !k.ours.is_empty() && k.kind == kind);
    let value = typed(kind, parts)?;
    if is_named {
        return Ok(value);
    }
    // An option without a name takes octets; text and addresses can be said as such.
    Ok(match kind {
        Kind::Address | Kind::Addresses => json!({ "ip": parts }),
        Kind::Text => json!({ "text": value }),
        Kind::Hex => json!({ "hex": value }),
        _ => json!({ "hex": hex(&octets(kind, &value)?) }),
    })
}

/// The value of an option that a reservation calls so, as far as its name is known here; the service knows the rest.
pub fn typed_of(name: &str, text: &str) -> Result<Json, String> {
    let known = KNOWN.iter().find(|known| known.ours == name);
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    match (known, name.strip_prefix("option_").map(str::parse::<u8>)) {
        (Some(known), _) => typed(known.kind, &parts),
        (None, Some(Ok(code))) => value(code, &parts),
        _ => Ok(Json::from(text)),
    }
}

fn looks_like(parts: &[&str]) -> Kind {
    let all = |is_it: fn(&str) -> bool| !parts.is_empty() && parts.iter().all(|part| is_it(part));
    if all(|part| part.parse::<Ipv4Addr>().is_ok()) {
        Kind::Addresses
    } else if parts.len() == 1 && parts[0].contains(':') && unhex(parts[0]).is_some() {
        Kind::Hex
    } else {
        Kind::Text
    }
}

fn typed(kind: Kind, parts: &[&str]) -> Result<Json, String> {
    let one = || match parts {
        [one] => Ok(*one),
        _ => Err(format!("wanted one value, got {}", parts.len())),
    };
    let address = |text: &str| match text.parse::<Ipv4Addr>() {
        Ok(address) => Ok(Json::from(address.to_string())),
        Err(_) => Err(format!("`{text}` is no IPv4 address")),
    };
    match kind {
        Kind::Address => address(one()?),
        Kind::Addresses if parts.is_empty() => Err("has no value".to_owned()),
        Kind::Addresses => parts.iter().map(|part| address(part)).collect(),
        Kind::Text => Ok(Json::from(parts.join(","))),
        Kind::Bool => match one()?.to_ascii_lowercase().as_str() {
            "1" | "true" | "on" => Ok(Json::from(true)),
            "0" | "false" | "off" => Ok(Json::from(false)),
            other => Err(format!("wanted true or false, got `{other}`")),
        },
        Kind::U8 => number(one()?, 0, u8::MAX.into()),
        Kind::U16 => number(one()?, 0, u16::MAX.into()),
        Kind::U32 => number(one()?, 0, u32::MAX.into()),
        Kind::I32 => number(one()?, i32::MIN.into(), i32::MAX.into()),
        Kind::Domains => Ok(parts
            .iter()
            .map(|part| part.trim_end_matches('.'))
            .collect()),
        Kind::Routes => routes(parts),
        Kind::Hex => match unhex(&parts.join(":")) {
            Some(octets) => Ok(Json::from(hex(&octets))),
            None => Err(format!("`{}` is not hexadecimal", parts.join(","))),
        },
    }
}

fn number(text: &str, least: i64, most: i64) -> Result<Json, String> {
    match text.parse::<i64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(Json::from(number)),
        _ => Err(format!(
            "wanted a number from {least} to {most}, got `{text}`"
        )),
    }
}

/// Dnsmasq writes `192.0.2.0/24,198.18.0.1`, Kea `192.0.2.0/24 - 198.18.0.1`, and dhcpd every octet as RFC 3442 sends it.
fn routes(parts: &[&str]) -> Result<Json, String> {
    let words: Vec<&str> = (parts.iter())
        .flat_map(|part| part.split([' ', '-']))
        .filter(|word| !word.is_empty() && *word != "via")
        .collect();
    let octets: Option<Vec<u8>> = words.iter().map(|word| word.parse().ok()).collect();
    if let Some(octets) = octets.filter(|octets| !octets.is_empty()) {
        return routes_of_octets(&octets)
            .ok_or_else(|| "these octets are no routes (RFC 3442)".to_owned());
    }
    let pairs = words.chunks(2).map(|pair| match pair {
        [net, router] if is_net(net) && router.parse::<Ipv4Addr>().is_ok() => {
            let net = if net.contains('/') {
                (*net).to_owned()
            } else {
                format!("{net}/32")
            };
            Ok(Json::from(format!("{net} via {router}")))
        }
        other => Err(format!(
            "`{}` is no route; wanted 192.0.2.0/24,198.18.0.1",
            other.join(",")
        )),
    });
    pairs.collect()
}

fn is_net(text: &str) -> bool {
    let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
    address.parse::<Ipv4Addr>().is_ok() && prefix.parse::<u8>().is_ok_and(|prefix| prefix <= 32)
}

fn routes_of_octets(mut octets: &[u8]) -> Option<Json> {
    let mut routes = Vec::new();
    while let [prefix, rest @ ..] = octets {
        let significant = usize::from(prefix.div_ceil(8));
        if *prefix > 32 || rest.len() < significant + 4 {
            return None;
        }
        let mut net = [0; 4];
        net[..significant].copy_from_slice(&rest[..significant]);
        let router = <[u8; 4]>::try_from(&rest[significant..significant + 4]).ok()?;
        let (net, router) = (Ipv4Addr::from(net), Ipv4Addr::from(router));
        routes.push(Json::from(format!("{net}/{prefix} via {router}")));
        octets = &rest[significant + 4..];
    }
    Some(Json::Array(routes))
}

/// Code and content of an option of a reservation, so that two ways to write one are the same. `None`: the service knows
/// better.
pub fn encode(name: &str, value: &Json) -> Option<(u8, Vec<u8>)> {
    let named = KNOWN.iter().find(|known| known.ours == name);
    let (code, kind) = match named {
        Some(known) => (known.code, known.kind),
        None => {
            let code = name.strip_prefix("option_")?.parse().ok()?;
            let known = KNOWN.iter().find(|k| k.code == code && !k.ours.is_empty());
            (code, known.map_or(Kind::Hex, |known| known.kind))
        }
    };
    let content = match value {
        Json::Object(raw) => {
            let (form, value) = raw.iter().next()?;
            let kind = match form.as_str() {
                "hex" => Kind::Hex,
                "text" => Kind::Text,
                "ip" => Kind::Addresses,
                _ => return None,
            };
            octets(kind, value).ok()?
        }
        value => octets(kind, value).ok()?,
    };
    Some((code, content))
}

fn octets(kind: Kind, value: &Json) -> Result<Vec<u8>, String> {
    let unexpected = || format!("{value} is not of this kind");
    let text = || value.as_str().ok_or_else(unexpected);
    let whole = || value.as_f64().map(|n| n as i64).ok_or_else(unexpected);
    let each = |one: &dyn Fn(&str) -> Option<Vec<u8>>| -> Result<Vec<u8>, String> {
        let parts = match value {
            Json::Array(list) => list.clone(),
            one => vec![one.clone()],
        };
        let parts: Option<Vec<Vec<u8>>> = parts.iter().map(|part| one(part.as_str()?)).collect();
        Ok(parts.ok_or_else(unexpected)?.concat())
    };
    let address = |text: &str| Some(text.parse::<Ipv4Addr>().ok()?.octets().to_vec());
    Ok(match kind {
        Kind::Address | Kind::Addresses => each(&address)?,
        Kind::Text => text()?.as_bytes().to_vec(),
        Kind::Bool => vec![u8::from(value.as_bool().ok_or_else(unexpected)?)],
        Kind::U8 => whole()?.to_be_bytes()[7..].to_vec(),
        Kind::U16 => whole()?.to_be_bytes()[6..].to_vec(),
        Kind::U32 | Kind::I32 => whole()?.to_be_bytes()[4..].to_vec(),
        Kind::Domains => each(&|name| {
            let mut labels = Vec::new();
            for label in name.split('.') {
                labels.push(u8::try_from(label.len()).ok()?);
                labels.extend(label.as_bytes());
            }
            labels.push(0);
            Some(labels)
        })?,
        Kind::Routes => each(&|route| {
            let (net, router) = route.split_once(" via ")?;
            let (net, prefix) = net.trim().split_once('/')?;
            let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
            let net = address(net)?;
            let significant = usize::from(prefix.div_ceil(8));
            Some([&[prefix][..], &net[..significant], &address(router.trim())?].concat())
        })?,
        Kind::Hex => unhex(text()?).ok_or_else(unexpected)?,
    })
}

/// `01:0a:ff`.
pub fn hex(octets: &[u8]) -> String {
    let pairs: Vec<String> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    pairs.join(":")
}

/// Octets out of `01:0a:ff`, `1:a:ff`, `0x010aff` or `010aff`.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_prefix("0x").unwrap_or(text);
    if text.is_empty()
        || !text
            .chars()
            .all(|c| c.is_ascii_hexdigit() || ":-".contains(c))
    {
        return None;
    }
    if text.contains([':', '-']) {
        let groups = text.split([':', '-']);
        return groups
            .map(|group| (group.len() <= 2).then(|| u8::from_str_radix(group, 16).ok())?)
            .collect();
    }
    text.len().is_multiple_of(2).then(|| {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
            .collect()
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_option_has_many_names() {
        assert_eq!(by_dnsmasq("ntp-server"), Some(42));
        assert_eq!(by_isc("ntp-servers"), Some(42));
        assert_eq!(by_isc("option-252"), Some(252));
        assert_eq!(by_dnsmasq(""), None);
        assert_eq!(
            (name_of(42), name_of(252)),
            ("ntp_servers".into(), "option_252".into())
        );
    }

    #[test]
    fn text_becomes_what_the_option_is_made_of() {
        for (code, parts, written) in [
            (3, &["198.18.0.1"][..], json!(["198.18.0.1"])),
            (1, &["255.255.255.0"], json!("255.255.255.0")),
            (26, &["9000"], json!(9000)),
            (19, &["true"], json!(true)),
            (
                119,
                &["lab.internal", "example."],
                json!(["lab.internal", "example"]),
            ),
            (
                121,
                &["192.0.2.0/24", "198.18.0.1"],
                json!(["192.0.2.0/24 via 198.18.0.1"]),
            ),
            (
                121,
                &["192.0.2.0/24 - 198.18.0.1"],
                json!(["192.0.2.0/24 via 198.18.0.1"]),
            ),
            (
                121,
                &["24", "192", "0", "2", "198", "18", "0", "1"],
                json!(["192.0.2.0/24 via 198.18.0.1"]),
            ),
            (
                252,
                &["http://198.18.0.1/wpad.dat"],
                json!({"text": "http://198.18.0.1/wpad.dat"}),
            ),
            (
                224,
                &["198.18.0.1", "198.18.0.2"],
                json!({"ip": ["198.18.0.1", "198.18.0.2"]}),
            ),
            (224, &["1:2:ff"], json!({"hex": "01:02:ff"})),
            (38, &["300"], json!({"hex": "00:00:01:2c"})),
        ] {
            assert_eq!(value(code, parts), Ok(written), "{code}");
        }
        for (code, parts) in [
            (3, &["nowhere"][..]),
            (3, &[]),
            (26, &["70000"]),
            (1, &["1.2.3.4", "1.2.3.4"]),
            (121, &["1.2.3.4"]),
        ] {
            assert!(value(code, parts).is_err(), "{code}");
        }
    }

    #[test]
    fn two_ways_to_write_an_option_are_the_same_content() {
        for (one, other) in [
            (
                ("ntp_servers", json!("198.18.0.1")),
                ("option_42", json!(["198.18.0.1"])),
            ),
            (
                ("domain_search", json!(["a.b"])),
                ("domain_search", json!({"hex": "01:61:01:62:00"})),
            ),
            (
                ("classless_routes", json!(["192.0.2.0/24 via 198.18.0.1"])),
                ("option_121", json!({"hex": "18c00002c6120001"})),
            ),
            (
                ("option_252", json!({"text": "ab"})),
                ("option_252", json!({"hex": "6162"})),
            ),
        ] {
            assert_eq!(
                encode(one.0, &one.1).unwrap(),
                encode(other.0, &other.1).unwrap()
            );
        }
        assert_eq!(encode("no_such", &json!(1)), None);
    }
}
