//! `[[class]]`: which clients have something in common, and what those get.

use std::str::FromStr;
use std::time::Duration;

use super::layers::{read_options, read_program};
use super::reader::{At, Section};
use super::subnets::{PoolText, read_lease_time};
use crate::model::{Class, ClientArch, Match, Octets, Subnet};

pub(super) fn read_classes(root: &mut Section, subnets: &[At<Subnet>]) -> Vec<Class> {
    let mut classes: Vec<Class> = Vec::new();
    for mut section in root.sections("class") {
        let line = section.line();
        let name = section.text("name");
        let mut rules = section.section("match");
        let matches = read_match(&mut rules);
        rules.finish();
        let pools = section.all_parsed_by_index::<PoolText>("pools", "198.18.0.100-198.18.0.199");
        for (index, at) in &pools {
            let in_one = |subnet: &At<Subnet>| {
                let cidr = subnet.value.cidr;
                cidr.contains(&at.value.0.first) && cidr.contains(&at.value.0.last)
            };
            if !subnets.iter().any(in_one) {
                let text = format!("{} is inside no subnet", at.value.0);
                section.report(at.line, &format!("pools[{index}]"), text);
            }
        }
        let class = Class {
            options: read_options(&mut section),
            program: read_program(&mut section),
            lease_time: read_class_lease_time(&mut section),
            boot_server: section.boolean("boot_server").is_some_and(|at| at.value),
            ignore: section.boolean("ignore").is_some_and(|at| at.value),
            pools: pools.into_iter().map(|(_, at)| at.value.0).collect(),
            name: name.map_or_else(String::new, |at| at.value),
            matches,
        };
        section.finish();
        if class.name.is_empty() {
            section.report(
                line,
                "name",
                "is missing; logs and explain call the class by it",
            );
        } else if classes.iter().any(|other| other.name == class.name) {
            section.report(
                line,
                "name",
                format!("{} is the name of two classes", class.name),
            );
        }
        if class.matches.is_empty() {
            section.report(
                line,
                "match",
                "has no rule, so it would hold every client; give one, or use [options]",
            );
        }
        classes.push(class);
    }
    classes
}

/// What a class matches. A rule that no packet can satisfy is a problem.
fn read_match(rules: &mut Section) -> Match {
    let texts = |rules: &mut Section, key: &'static str| -> Vec<String> {
        let texts = rules.texts(key).map(|at| at.value).unwrap_or_default();
        for (index, at) in texts.iter().enumerate() {
            if at.value.is_empty() || at.value.len() > 255 {
                let text = "can never match: an option holds 1 to 255 octets";
                rules.report(at.line, &format!("{key}[{index}]"), text);
            }
        }
        texts.into_iter().map(|at| at.value).collect()
    };
    let vendor_class = texts(rules, "vendor_class");
    let user_class = texts(rules, "user_class");
    let arch = rules.all_parsed::<ArchText>("arch", "\"0x0007\", \"7\" or \"x86_64-uefi\"");
    let prefixes = rules.all_parsed::<PrefixText>("mac_prefix", "52:54:00");
    let circuit_id = texts(rules, "circuit_id");
    Match {
        vendor_class,
        user_class,
        arch: arch.into_iter().flat_map(|at| at.value.0).collect(),
        mac_prefix: prefixes.into_iter().map(|at| at.value.0).collect(),
        circuit_id: circuit_id.iter().map(|text| Octets::parse(text)).collect(),
    }
}

fn read_class_lease_time(section: &mut Section) -> Option<Duration> {
    let is_given = section.has("lease_time");
    let time = read_lease_time(section);
    is_given.then_some(time)
}

/// The architectures meant by a number (`7`, `0x0007`) or by `PROCESSOR-FIRMWARE` (`x86_64-uefi`).
pub fn parse_arch(text: &str) -> Result<Vec<ClientArch>, String> {
    text.parse::<ArchText>().map(|archs| archs.0)
}

/// An architecture by number, or all of a processor and firmware.
struct ArchText(Vec<ClientArch>);

impl FromStr for ArchText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = match text.strip_prefix("0x") {
            Some(hex) => u16::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        };
        if let Some(number) = number {
            return Ok(Self(vec![ClientArch(number)]));
        }
        let named: Vec<ClientArch> = (0..0x40)
            .map(ClientArch)
            .filter(|arch| {
                let platform = arch.platform();
                platform.is_some_and(|(cpu, firmware)| text == format!("{cpu}-{firmware}"))
            })
            .collect();
        if named.is_empty() {
            return Err("neither a number nor PROCESSOR-FIRMWARE".to_owned());
        }
        Ok(Self(named))
    }
}

/// The first octets of a hardware address.
struct PrefixText(Octets);

impl FromStr for PrefixText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match Octets::from_hex(text) {
            Some(octets) if octets.0.len() <= 16 => Ok(Self(octets)),
            Some(_) => Err("can never match: a hardware address has at most 16 octets".to_owned()),
            None => Err("not hexadecimal".to_owned()),
        }
    }
}
