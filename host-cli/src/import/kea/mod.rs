//! Kea: the configuration of `kea-dhcp4`, JSON with comments and includes.

mod host;
mod include;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use self::include::Text;
use super::network::{Settings, Subnet};
use super::{Files, Imported, place};
use crate::options::{self, Kind};
use crate::tree::{self, Dialect, Fault, Node, Value};
use crate::wanted::Place;

/// Reads each configuration.
pub fn read(paths: &[String], files: &dyn Files) -> Imported {
    let mut reader = Reader::default();
    for path in paths {
        reader.file(path, files);
    }
    reader.out.sorted()
}

#[derive(Default)]
struct Reader {
    out: Imported,
    /// The text that is read, of all its files.
    text: Text,
    /// Options that the configuration defines.
    defined: BTreeMap<String, (u8, Option<Kind>)>,
}

/// Settings of a subnet, a shared network or everybody that say nothing of options, pools or reservations.
const QUIET: [&str; 30] = [
    "id",
    "subnet",
    "user-context",
    "comment",
    "interfaces-config",
    "control-socket",
    "control-sockets",
    "loggers",
    "lease-database",
    "valid-lifetime",
    "min-valid-lifetime",
    "max-valid-lifetime",
    "renew-timer",
    "rebind-timer",
    "calculate-tee-times",
    "t1-percent",
    "t2-percent",
    "expired-leases-processing",
    "sanity-checks",
    "multi-threading",
    "dhcp-queue-control",
    "dhcp4o6-port",
    "dhcp-ddns",
    "host-reservation-identifiers",
    "reservation-mode",
    "interface",
    "name",
    "statistic-default-sample-count",
    "statistic-default-sample-age",
    "parked-packet-limit",
];

/// What is told of a setting that does not come over: its name, why, what to do.
const INSTEAD: [(&str, &str, &str); 12] = [
    (
        "client-classes",
        "Bootjack's classes are rules, not expressions",
        "write a [[class]] in bootjackd.toml",
    ),
    (
        "client-class",
        "Bootjack's classes are rules, not expressions",
        "write a [[class]] in bootjackd.toml",
    ),
    (
        "require-client-classes",
        "Bootjack's classes are rules, not expressions",
        "write a [[class]] in bootjackd.toml",
    ),
    (
        "hosts-database",
        "reservations in a database are not in this file",
        "print them with Kea's reservation-get-all and import that",
    ),
    (
        "hosts-databases",
        "reservations in a database are not in this file",
        "print them with Kea's reservation-get-all and import that",
    ),
    ("hooks-libraries", "Bootjack has no hooks", ""),
    (
        "next-server",
        "machines fetch boot files from Bootjack itself",
        "",
    ),
    (
        "server-hostname",
        "machines fetch boot files from Bootjack itself",
        "",
    ),
    (
        "boot-file-name",
        "Bootjack chooses the network boot program by architecture, and then boots the profile",
        "nothing, or name a program in a [[class]]",
    ),
    (
        "relay",
        "Bootjack finds the subnet by the relay agent's own address",
        "see cidr of [[subnet]] in bootjackd.toml",
    ),
    (
        "authoritative",
        "Bootjack answers for its subnets",
        "authoritative = true in [dhcp] refuses strangers, too",
    ),
    ("4o6-subnet", "Bootjack gives IPv4 addresses", ""),
];

impl Reader {
    fn place(&self, at: tree::At) -> Place {
        let (file, line) = self.text.place(at.line);
        place(&file, line)
    }

    fn fault(&mut self, what: &str, fault: &Fault) {
        let place = self.place(fault.at);
        self.out.malformed(&place, what, fault.message.as_str());
    }

    fn file(&mut self, path: &str, files: &dyn Files) {
        self.text = match include::read(path, files) {
            Ok(text) => text,
            Err((file, line, problem)) => {
                let file: Arc<str> = file.into();
                return self.out.malformed(&place(&file, line), path, problem);
            }
        };
        let text = std::mem::take(&mut self.text.text);
        let root = match tree::read_json(&text, Dialect::Kea) {
            Ok(root) => root,
            Err(fault) => return self.fault(path, &fault),
        };
        let entries = match root.map() {
            Ok(entries) => entries,
            Err(fault) => return self.fault(path, &fault),
        };
        let mut knows_dhcp4 = false;
        for entry in entries {
            match entry.key.as_str() {
                "Dhcp4" => {
                    knows_dhcp4 = true;
                    self.dhcp4(&entry.node);
                }
                "Dhcp6" => {
                    let place = self.place(entry.at);
                    self.out
                        .leave(&place, "Dhcp6", "Bootjack gives IPv4 addresses", "");
                }
                _ => self.out.unrelated += 1,
            }
        }
        if !knows_dhcp4 {
            let place = self.place(root.at);
            self.out.leave(
                &place,
                path,
                "it has no Dhcp4",
                "give the configuration of kea-dhcp4",
            );
        }
    }

    fn dhcp4(&mut self, node: &Node) {
        if let Some(definitions) = node.get("option-def") {
            self.define(definitions);
        }
        let mut settings = Settings::new();
        self.scope(node, "Dhcp4", &mut settings);
        self.out.network.options.extend(settings);
        self.out.network.lease_secs = seconds(node);
        if let Some(networks) = node.get("shared-networks") {
            for network in self.list(networks, "shared-networks") {
                let mut settings = Settings::new();
                self.scope(&network, "shared-networks", &mut settings);
                self.subnets(&network, &settings, seconds(&network));
            }
        }
        self.subnets(node, &Settings::new(), None);
    }

    fn subnets(&mut self, node: &Node, shared: &Settings, lease_secs: Option<u64>) {
        let Some(list) = node.get("subnet4") else {
            return;
        };
        for node in self.list(list, "subnet4") {
            if let Err(fault) = self.subnet(&node, shared, lease_secs) {
                self.fault("subnet4", &fault);
            }
        }
    }

    fn subnet(
        &mut self,
        node: &Node,
        shared: &Settings,
        lease_secs: Option<u64>,
    ) -> Result<(), Fault> {
        let said = node
            .get("subnet")
            .ok_or_else(|| Fault::new(node.at, "it has no subnet"))?;
        let text = said.text()?;
        let net = text.split_once('/').and_then(|(address, prefix)| {
            let prefix = prefix
                .trim()
                .parse::<u8>()
                .ok()
                .filter(|prefix| *prefix <= 32)?;
            Some((address.trim().parse::<Ipv4Addr>().ok()?, prefix))
        });
        let (address, prefix) =
            net.ok_or_else(|| Fault::new(said.at, format!("`{text}` is no IPv4 network")))?;
        let mut subnet = Subnet::new(self.place(node.at), address, prefix);
        subnet.settings.clone_from(shared);
        subnet.lease_secs = seconds(node).or(lease_secs);
        if let Some(pools) = node.get("pools") {
            for pool in self.list(pools, "pools") {
                let said = pool
                    .get("pool")
                    .ok_or_else(|| Fault::new(pool.at, "it has no pool"))?;
                let text = said.text()?;
                let ends = pool_ends(text).ok_or_else(|| {
                    Fault::new(said.at, format!("`{text}` is no range of addresses"))
                })?;
                subnet.pools.push(ends);
                self.others(&pool, &["pool"], "pools");
            }
        }
        let mut settings = Settings::new();
        self.scope(node, "subnet4", &mut settings);
        subnet.settings.extend(settings);
        self.out.network.subnets.push(subnet);
        Ok(())
    }

    /// What can be said at every level: options and reservations. All else is told.
    fn scope(&mut self, node: &Node, what: &str, settings: &mut Settings) {
        if let Some(list) = node.get("option-data") {
            for data in self.list(list, "option-data") {
                match self.option(&data) {
                    Ok(Some((code, value))) => drop(settings.insert(code, value)),
                    Ok(None) => {}
                    Err(fault) => self.fault("option-data", &fault),
                }
            }
        }
        if let Some(list) = node.get("reservations") {
            for host in self.list(list, "reservations") {
                self.host(&host);
            }
        }
        let known = [
            "option-data",
            "reservations",
            "pools",
            "subnet4",
            "shared-networks",
            "option-def",
        ];
        self.others(node, &known, what);
    }

    fn others(&mut self, node: &Node, known: &[&str], what: &str) {
        let Value::Map(entries) = &node.value else {
            return;
        };
        for entry in entries {
            let key = entry.key.as_str();
            if known.contains(&key) || is_empty(&entry.node) {
                continue;
            }
            let place = self.place(entry.at);
            match INSTEAD.iter().find(|(name, _, _)| *name == key) {
                Some((_, why, todo)) => {
                    self.out
                        .leave(&place, format!("{what}: {key}"), *why, *todo)
                }
                None if QUIET.contains(&key)
                    || key.starts_with("ddns-")
                    || key.starts_with("reservations-") =>
                {
                    self.out.unrelated += 1
                }
                None => self.out.leave(
                    &place,
                    format!("{what}: {key}"),
                    "it has no counterpart",
                    "",
                ),
            }
        }
    }

    fn list(&mut self, node: &Node, what: &str) -> Vec<Node> {
        match node.list() {
            Ok(list) => list.to_vec(),
            Err(fault) => {
                self.fault(what, &fault);
                Vec::new()
            }
        }
    }

    /// `option-def`: what the configuration's own options are made of.
    fn define(&mut self, node: &Node) {
        for definition in self.list(node, "option-def") {
            let text = |key: &str| definition.get(key).and_then(|node| node.text().ok());
            let code = text("code").and_then(|code| code.parse::<u8>().ok());
            let (Some(name), Some(code)) = (text("name"), code) else {
                let fault = Fault::new(definition.at, "it has no name, or no code from 1 to 254");
                self.fault("option-def", &fault);
                continue;
            };
            let is_array = definition
                .get("array")
                .is_some_and(|node| node.value == Value::Bool(true));
            let kind = match text("type").unwrap_or_default() {
                "string" => Some(Kind::Text),
                "binary" => Some(Kind::Hex),
                "ipv4-address" if is_array => Some(Kind::Addresses),
                "ipv4-address" => Some(Kind::Address),
                "fqdn" => Some(Kind::Domains),
                "boolean" if !is_array => Some(Kind::Bool),
                "uint8" if !is_array => Some(Kind::U8),
                "uint16" if !is_array => Some(Kind::U16),
                "uint32" if !is_array => Some(Kind::U32),
                "int32" if !is_array => Some(Kind::I32),
                _ => None,
            };
            self.defined.insert(name.to_owned(), (code, kind));
        }
    }

    /// One `option-data`; nothing if it stays behind, which is told.
    fn option(&mut self, node: &Node) -> Result<Option<(u8, Json)>, Fault> {
        let text = |key: &str| node.get(key).map(Node::text).transpose();
        let name = text("name")?;
        let place = self.place(node.at);
        let shown = format!("option {}", name.or(text("code")?).unwrap_or("?"));
        if text("space")?.is_some_and(|space| space != "dhcp4") {
            self.out.leave(
                &place,
                shown,
                "it is of a vendor's space",
                "write the octets: options = { vendor_specific = \"01:…\" }",
            );
            return Ok(None);
        }
        let by_name = name.and_then(|name| {
            let known = || Some((options::by_isc(name).or_else(|| by_kea(name))?, None));
            self.defined.get(name).copied().or_else(known)
        });
        let by_code = text("code")?.map(str::parse::<u8>).transpose();
        let by_code = by_code.map_err(|_| Fault::new(node.at, "its code is not from 1 to 254"))?;
        let (code, kind) = match (by_name, by_code) {
            (Some(found), _) => found,
            (None, Some(code)) => (
                code,
                self.defined
                    .values()
                    .find(|(c, _)| *c == code)
                    .and_then(|(_, kind)| *kind),
            ),
            (None, None) => {
                return Err(Fault::new(
                    node.at,
                    format!("{shown} is none that Kea knows, and none that is defined"),
                ));
            }
        };
        if let Some(why) = options::decided_by_bootjack(code) {
            self.out.leave(&place, shown, why, "");
            return Ok(None);
        }
        if node
            .get("client-classes")
            .is_some_and(|classes| !is_empty(classes))
        {
            self.out.leave(
                &place,
                shown,
                "it holds for classes alone",
                "write a [[class]] in bootjackd.toml",
            );
            return Ok(None);
        }
        let data = text("data")?.unwrap_or_default();
        let is_csv = node
            .get("csv-format")
            .is_none_or(|node| node.value != Value::Bool(false));
        let value = value(code, kind, data, is_csv)
            .map_err(|problem| Fault::new(node.at, format!("{shown}: {problem}")))?;
        if node
            .get("always-send")
            .is_some_and(|node| node.value == Value::Bool(true))
        {
            self.out.leave(
                &place,
                format!("{shown}: always-send"),
                "a client is sent the options that it asks for",
                "",
            );
        }
        Ok(Some((code, value)))
    }
}

/// Names that Kea has and dhcpd writes otherwise.
fn by_kea(name: &str) -> Option<u8> {
    Some(match name {
        "boot-file-name" => 67,
        "tftp-server-name" => 66,
        "default-ip-ttl" => 23,
        "capwap-ac-v4" => 138,
        "sip-ua-cs-domains" => 141,
        "rdnss-selection" => 146,
        "v4-portparams" => 159,
        "option-6rd" => 212,
        "v4-access-domain" => 213,
        _ => return None,
    })
}

/// Commas part values unless a backslash is before them; octets are not parted.
fn value(code: u8, kind: Option<Kind>, data: &str, is_csv: bool) -> Result<Json, String> {
    let kind = kind.or_else(|| options::kind_of(code));
    if !is_csv || matches!(kind, None | Some(Kind::Hex)) {
        let quoted = data
            .trim()
            .strip_prefix('\'')
            .and_then(|data| data.strip_suffix('\''));
        return match (quoted, options::unhex(&data.replace(' ', ":"))) {
            (Some(text), _) => Ok(json!({ "text": text })),
            (None, Some(octets)) => Ok(json!({ "hex": options::hex(&octets) })),
            (None, None) => Err(format!("`{data}` is not hexadecimal")),
        };
    }
    let mut parts = vec![String::new()];
    let mut chars = data.chars();
    while let Some(c) = chars.next() {
        let last = parts.last_mut().expect("there is a first part");
        match c {
            ',' => parts.push(String::new()),
            '\\' => last.extend(chars.next()),
            c => last.push(c),
        }
    }
    let parts: Vec<&str> = parts.iter().map(|part| part.trim()).collect();
    options::value_of(code, kind.unwrap_or(Kind::Text), &parts)
}

fn seconds(node: &Node) -> Option<u64> {
    node.get("valid-lifetime")?.text().ok()?.parse().ok()
}

/// `a - b`, or a network.
fn pool_ends(text: &str) -> Option<(Ipv4Addr, Ipv4Addr)> {
    if let Some((address, prefix)) = text.split_once('/') {
        let prefix: u8 = prefix.trim().parse().ok().filter(|prefix| *prefix <= 32)?;
        let first = super::network::masked(address.trim().parse().ok()?, prefix);
        let size = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
        return Some((first, Ipv4Addr::from(u32::from(first) | size)));
    }
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last).then_some((first, last))
}

fn is_empty(node: &Node) -> bool {
    match &node.value {
        Value::Null | Value::Bool(false) => true,
        Value::Text(text) => text.is_empty() || text == "0.0.0.0",
        Value::List(list) => list.is_empty(),
        Value::Map(entries) => entries.is_empty(),
        Value::Bool(true) | Value::Number(..) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::tests_support::Texts;

    fn found(text: &str) -> Imported {
        read(&["kea.conf".to_owned()], &Texts::of(&[("kea.conf", text)]))
    }

    #[test]
    fn every_level_has_options_and_reservations() {
        let found = found(
            r#"{ "Dhcp4": { // comment
              "valid-lifetime": 3600,
              "option-def": [{ "name": "wpad", "code": 252, "type": "string" }],
              "option-data": [{ "name": "domain-name-servers", "data": "198.18.0.1, 198.18.0.2" }],
              "reservations": [{ "hw-address": "52:54:00:00:00:01", "hostname": "a" }],
              "shared-networks": [{ "name": "n", "option-data": [{ "name": "wpad", "data": "http://a\\,b" }],
                "subnet4": [{ "id": 1, "subnet": "198.18.0.0/24", "pools": [{ "pool": "198.18.0.100 - 198.18.0.199" }],
                  "reservations": [{ "hw-address": "52:54:00:00:00:02", "ip-address": "198.18.0.2" }] }] }],
              "subnet4": [{ "id": 2, "subnet": "198.19.0.0/24", "pools": [{ "pool": "198.19.0.64/26" }],
                "option-data": [{ "code": 3, "data": "198.19.0.1" }, { "code": 224, "csv-format": false, "data": "01 02" }] }]
            } }"#,
        );
        assert!(found.left.is_empty(), "{:?}", found.left);
        assert_eq!(found.wanted.len(), 2);
        let subnets = &found.network.subnets;
        assert_eq!(subnets[0].settings[&252], json!({"text": "http://a,b"}));
        assert_eq!(subnets[1].settings[&224], json!({"hex": "01:02"}));
        assert_eq!(subnets[1].pools[0].1, Ipv4Addr::new(198, 19, 0, 127));
        assert_eq!(
            found.network.options[&6],
            json!(["198.18.0.1", "198.18.0.2"])
        );
        assert_eq!(found.network.lease_secs, Some(3600));
    }

    #[test]
    fn what_bootjack_has_not_is_told_with_its_line() {
        let found = found(
            "{ \"Dhcp4\": {\n\"client-classes\": [{}],\n\"hosts-database\": {\"type\": \"mysql\"},\n\"hooks-libraries\": [],\n\"option-data\": [{\"name\": \"no-such\", \"data\": \"1\"}]\n}, \"Dhcp6\": {} }",
        );
        let lines: Vec<(usize, bool)> = found
            .left
            .iter()
            .map(|left| (left.place.line, left.is_malformed))
            .collect();
        assert_eq!(
            lines,
            [(2, false), (3, false), (5, true), (6, false)],
            "{:?}",
            found.left
        );
    }

    #[test]
    fn a_configuration_of_another_program_is_none() {
        assert_eq!(
            found("{\"Control-agent\": {}}").left[0].why,
            "it has no Dhcp4"
        );
        assert!(found("{\"Dhcp4\": ").left[0].is_malformed);
        assert!(found("[]").left[0].is_malformed);
    }
}
