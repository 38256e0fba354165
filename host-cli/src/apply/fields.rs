//! The fields of a reservation: read from a tree, written for a file, and compared by what they mean.

use bootjack_api::v1::Reservation;
use serde_json::{Value as Json, json};

use crate::options::{self, hex, unhex};
use crate::tree::{Fault, Node, did_you_mean};
use crate::vars::{self, Vars};
use crate::wanted;

/// Every field that a file can set and an update mask can name, in the order that people read them.
pub const FIELDS: [&str; 13] = [
    "mac",
    "macs",
    "client_ids",
    "uuids",
    "circuit_ids",
    "address",
    "hostname",
    "profile",
    "labels",
    "vars",
    "options",
    "program",
    "local_boot",
];

/// What bootjackd shows in place of a secret.
pub const HIDDEN: &str = "(secret)";

/// One thing that is not as it is wanted. A whole field, or one key of a map such as `vars.ssh_key`.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    pub field: String,
    pub is: Json,
    pub wanted: Json,
}

/// The value of a field as a file has it; null for none.
pub fn get(r: &Reservation, field: &str) -> Json {
    let text = |text: &str| {
        if text.is_empty() {
            Json::Null
        } else {
            Json::from(text)
        }
    };
    let texts = |list: &[String]| {
        if list.is_empty() {
            Json::Null
        } else {
            json!(list)
        }
    };
    let map = |map: &Vars| {
        if map.is_empty() {
            Json::Null
        } else {
            vars::map_to_json(map)
        }
    };
    match field {
        "mac" => text(&r.mac),
        "macs" => texts(&r.macs),
        "client_ids" => texts(&r.client_ids),
        "uuids" => texts(&r.uuids),
        "circuit_ids" => texts(&r.circuit_ids),
        "address" => text(&r.address),
        "hostname" => text(&r.hostname),
        "profile" => text(&r.profile),
        "labels" if r.labels.is_empty() => Json::Null,
        "labels" => json!(r.labels),
        "vars" => map(&r.vars),
        "options" => map(&r.options),
        "program" => text(&r.program),
        "local_boot" => text(&r.local_boot),
        _ => Json::Null,
    }
}

/// Sets a field to what a tree says. An error has the place of what is wrong.
pub fn set(r: &mut Reservation, field: &str, node: &Node) -> Result<(), Fault> {
    if node.is_null() {
        return Ok(());
    }
    let wrong = |problem: String| Fault::new(node.at, problem);
    match field {
        "mac" => r.mac = wanted::mac(node.text()?).map_err(wrong)?,
        "macs" => r.macs = each(node, wanted::mac)?,
        "client_ids" => r.client_ids = each(node, octets)?,
        "circuit_ids" => r.circuit_ids = each(node, octets)?,
        "uuids" => r.uuids = each(node, uuid)?,
        "address" => r.address = address(node.text()?).map_err(wrong)?,
        "hostname" => {
            let name = node.text()?;
            wanted::check_hostname(name).map_err(wrong)?;
            name.clone_into(&mut r.hostname);
        }
        "profile" => node.text()?.clone_into(&mut r.profile),
        "labels" => r.labels = labels(node)?,
        "vars" => r.vars = values(node)?,
        "options" => r.options = values(node)?,
        "program" => r.program = program(node.text()?).map_err(wrong)?,
        "local_boot" => r.local_boot = local_boot(node.text()?).map_err(wrong)?,
        _ => {}
    }
    Ok(())
}

fn each(node: &Node, one: fn(&str) -> Result<String, String>) -> Result<Vec<String>, Fault> {
    let mut values = Vec::new();
    for item in node.list()? {
        let value = one(item.text()?).map_err(|problem| Fault::new(item.at, problem))?;
        values.push(value);
    }
    Ok(values)
}

fn address(text: &str) -> Result<String, String> {
    match text.parse::<std::net::Ipv4Addr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(format!(
            "`{text}` is not an IPv4 address; write it like 198.18.0.10"
        )),
    }
}

/// As bootjackd answers them: hexadecimal, of text its own octets.
fn octets(text: &str) -> Result<String, String> {
    let groups_are_pairs =
        !text.contains([':', '-']) || text.split([':', '-']).all(|group| group.len() == 2);
    let octets = unhex(text)
        .filter(|_| groups_are_pairs)
        .unwrap_or_else(|| text.as_bytes().to_vec());
    match octets.len() {
        1..=255 => Ok(hex(&octets)),
        _ => Err("wanted 1 to 255 octets, as 01:52:54:… or as text".to_owned()),
    }
}

fn uuid(text: &str) -> Result<String, String> {
    let digits: String = text
        .chars()
        .filter(|c| *c != '-')
        .collect::<String>()
        .to_ascii_lowercase();
    let digits = digits.trim_start_matches('{').trim_end_matches('}');
    if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(format!(
            "`{text}` is not a UUID; write it like 6ba7b810-9dad-11d1-80b4-00c04fd430c8"
        ));
    }
    let parts = [
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    ];
    Ok(parts.join("-"))
}

fn program(text: &str) -> Result<String, String> {
    match text.contains(char::is_whitespace) || text.len() > 255 {
        true => Err("wanted snponly, ipxe, undionly, a file's name or a URL".to_owned()),
        false => Ok(text.to_owned()),
    }
}

fn local_boot(text: &str) -> Result<String, String> {
    const KNOWN: [&str; 3] = ["exit", "sanboot", "reboot"];
    match KNOWN.contains(&text) {
        true => Ok(text.to_owned()),
        false => {
            let hint = did_you_mean(text, &KNOWN).map(|known| format!("; did you mean {known}?"));
            Err(format!(
                "wanted exit, sanboot or reboot, got `{text}`{}",
                hint.unwrap_or_default()
            ))
        }
    }
}

fn labels(node: &Node) -> Result<std::collections::BTreeMap<String, String>, Fault> {
    let mut labels = std::collections::BTreeMap::new();
    for entry in node.map()? {
        let value = match entry.node.is_null() {
            true => "",
            false => entry.node.text()?,
        };
        wanted::check_label(&entry.key, value).map_err(|problem| Fault::new(entry.at, problem))?;
        labels.insert(entry.key.clone(), value.to_owned());
    }
    Ok(labels)
}

fn values(node: &Node) -> Result<Vars, Fault> {
    let mut vars = Vars::new();
    for entry in node.map()? {
        vars.insert(entry.key.clone(), vars::from_json(entry.node.json()));
    }
    Ok(vars)
}

/// Everything about `is` that is not as `wanted` has it. Two ways to write the same octets are no difference, nor is the order of
/// identities; a secret cannot be compared, so that one is taken for the other.
pub fn differences(is: &Reservation, wanted: &Reservation) -> Vec<Difference> {
    let mut all = Vec::new();
    for field in FIELDS {
        match field {
            "labels" | "vars" | "options" => {
                by_key(&mut all, field, &get(is, field), &get(wanted, field))
            }
            _ => {
                let (is, wanted) = (get(is, field), get(wanted, field));
                if sorted(&is) != sorted(&wanted) {
                    let field = field.to_owned();
                    all.push(Difference { field, is, wanted });
                }
            }
        }
    }
    all
}

fn by_key(all: &mut Vec<Difference>, field: &str, is: &Json, wanted: &Json) {
    let empty = serde_json::Map::new();
    let is = is.as_object().unwrap_or(&empty);
    let wanted = wanted.as_object().unwrap_or(&empty);
    if field == "options" && encoded(is) == encoded(wanted) && encoded(is).is_some() {
        return;
    }
    let keys: std::collections::BTreeSet<&String> = is.keys().chain(wanted.keys()).collect();
    for key in keys {
        let pair = (
            is.get(key).unwrap_or(&Json::Null),
            wanted.get(key).unwrap_or(&Json::Null),
        );
        let is_same = match field {
            "options" => pair.0 == pair.1 || is_same_option(key, pair.0, pair.1),
            _ => is_same_value(pair.0, pair.1),
        };
        if !is_same {
            all.push(Difference {
                field: format!("{field}.{key}"),
                is: pair.0.clone(),
                wanted: pair.1.clone(),
            });
        }
    }
}

fn encoded(
    options: &serde_json::Map<String, Json>,
) -> Option<std::collections::BTreeMap<u8, Vec<u8>>> {
    options
        .iter()
        .map(|(name, value)| options::encode(name, value))
        .collect()
}

fn is_same_option(name: &str, is: &Json, wanted: &Json) -> bool {
    let (is, wanted) = (options::encode(name, is), options::encode(name, wanted));
    is.is_some() && is == wanted
}

/// Numbers are doubles on the way; `(secret)` stands for whatever secret is wanted.
fn is_same_value(is: &Json, wanted: &Json) -> bool {
    match (is, wanted) {
        (Json::String(hidden), secret) if hidden == HIDDEN && is_secret(secret) => true,
        (Json::Number(is), Json::Number(wanted)) => is.as_f64() == wanted.as_f64(),
        (Json::Array(is), Json::Array(wanted)) => {
            is.len() == wanted.len()
                && is
                    .iter()
                    .zip(wanted)
                    .all(|(is, wanted)| is_same_value(is, wanted))
        }
        (Json::Object(is), Json::Object(wanted)) => {
            is.len() == wanted.len()
                && is.iter().all(|(key, is)| {
                    wanted
                        .get(key)
                        .is_some_and(|wanted| is_same_value(is, wanted))
                })
        }
        (is, wanted) => is == wanted,
    }
}

fn is_secret(value: &Json) -> bool {
    match value {
        Json::Object(map) => {
            map.len() == 1
                && ["secret_file", "secret_env"]
                    .iter()
                    .any(|key| map.contains_key(*key))
        }
        _ => false,
    }
}

/// Lists of identities are sets.
fn sorted(value: &Json) -> Json {
    match value {
        Json::Array(list) => {
            let mut list = list.clone();
            list.sort_by_key(ToString::to_string);
            Json::Array(list)
        }
        other => other.clone(),
    }
}

/// The fields of an update mask that these differences are in.
pub fn mask(differences: &[Difference]) -> Vec<String> {
    let whole = |d: &Difference| d.field.split('.').next().unwrap_or(&d.field).to_owned();
    let mut paths: Vec<String> = differences.iter().map(whole).collect();
    paths.dedup();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    fn reservation(text: &str) -> Reservation {
        let node = tree::read_yaml(text).unwrap().remove(0);
        let mut r = Reservation::default();
        for entry in node.map().unwrap() {
            set(&mut r, &entry.key, &entry.node).unwrap();
        }
        r
    }

    #[test]
    fn two_ways_to_write_the_same_are_no_difference() {
        let one = reservation(
            "mac: 52-54-00-00-00-0A\nmacs: [52:54:00:00:00:02, 5254.0000.0003]\nclient_ids: [abc]\n\
             uuids: [6BA7B810-9DAD-11D1-80B4-00C04FD430C8]\noptions: {ntp_servers: 198.18.0.1, option_252: {text: ab}}\nvars: {n: 1.0, s: {secret_file: x}}\n",
        );
        let mut other = reservation(
            "mac: 52:54:00:00:00:0a\nmacs: [52:54:00:00:00:03, 52:54:00:00:00:02]\nclient_ids: ['61:62:63']\n\
             uuids: [6ba7b8109dad11d180b400c04fd430c8]\noptions: {option_42: [198.18.0.1], option_252: {hex: '6162'}}\nvars: {n: 1}\n",
        );
        other
            .vars
            .insert("s".into(), vars::from_json(HIDDEN.into()));
        assert_eq!(differences(&other, &one), []);
    }

    #[test]
    fn a_difference_names_its_key() {
        let is = reservation(
            "mac: 52:54:00:00:00:01\naddress: 198.18.0.1\nvars: {a: 1, b: x}\nlabels: {rack: r1}\n",
        );
        let wanted = reservation(
            "mac: 52:54:00:00:00:01\nhostname: node-1\nvars: {a: 2, b: x}\nlabels: {rack: r1, row: 7}\n",
        );
        let found = differences(&is, &wanted);
        let names: Vec<&str> = found.iter().map(|d| d.field.as_str()).collect();
        assert_eq!(names, ["address", "hostname", "labels.row", "vars.a"]);
        assert_eq!(
            (&found[0].is, &found[0].wanted),
            (&json!("198.18.0.1"), &Json::Null)
        );
        assert_eq!(mask(&found), ["address", "hostname", "labels", "vars"]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, line, part) in [
            ("mac: x\n", 1, "is not a MAC"),
            ("macs:\n- 52:54:00:00:00:02\n- y\n", 3, "is not a MAC"),
            ("address: 1.2.3\n", 1, "is not an IPv4 address"),
            ("hostname: a_b\n", 1, "is not a host name"),
            ("labels: {'a b': c}\n", 1, "is not a label's name"),
            ("local_boot: sanbot\n", 1, "did you mean sanboot?"),
            ("uuids: [abc]\n", 1, "is not a UUID"),
            ("vars: [a]\n", 1, "wanted a map, got a list"),
        ] {
            let node = tree::read_yaml(text).unwrap().remove(0);
            let entry = &node.map().unwrap()[0];
            let fault = set(&mut Reservation::default(), &entry.key, &entry.node).unwrap_err();
            assert!(fault.message.contains(part), "{text}: {fault:?}");
            assert_eq!(fault.at.line, line, "{text}");
        }
    }
}
