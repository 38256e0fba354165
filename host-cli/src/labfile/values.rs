//! What single keys of a lab's file say: sizes, counts, names, addresses; and those that names alone give.

use std::net::Ipv4Addr;

use sha2::{Digest as _, Sha256};

use super::reader::{Found, Table};
use super::{Subnet, parse_size};
use crate::drivers::spec::Arch;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// As much as a BIOS, a kernel and a small root in memory need at the least.
const LEAST_MEMORY: u64 = 64 * MIB;
/// More than any computer has: a typing error.
const MOST_MEMORY: u64 = 4096 * GIB;
const MOST_CPUS: i64 = 255;

pub const ARCHES: [(&str, Option<Arch>); 5] = [
    ("x86_64", Some(Arch::X86_64)),
    ("amd64", Some(Arch::X86_64)),
    ("aarch64", Some(Arch::Aarch64)),
    ("arm64", Some(Arch::Aarch64)),
    ("host", None),
];

pub fn size(table: &Table<'_>, key: &'static str) -> Option<Found<u64>> {
    table
        .string(key)?
        .parsed(table.problems(), |text| parse_size(text))
}

/// In MiB.
pub fn memory(table: &Table<'_>) -> Option<u32> {
    let found = size(table, "memory")?.parsed(table.problems(), |size| {
        match (LEAST_MEMORY..=MOST_MEMORY).contains(size) {
            true => Ok(u32::try_from(size / MIB).expect("4 TiB are few MiB")),
            false => Err("wanted 64MiB to 4TiB".to_owned()),
        }
    });
    found.map(|found| found.value)
}

pub fn cpus(table: &Table<'_>) -> Option<u32> {
    let found = table
        .integer("cpus")?
        .parsed(table.problems(), |cpus| match cpus {
            1..=MOST_CPUS => Ok(u32::try_from(*cpus).expect("255 are few")),
            _ => Err(format!("wanted 1 to {MOST_CPUS}, found {cpus}")),
        });
    found.map(|found| found.value)
}

/// One label of a host name (RFC 1123 §2.1) that fits into file names and DHCP's option 12.
pub fn label(text: &str) -> Result<String, String> {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let fits = !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-');
    match fits {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "wanted a name of a-z, 0-9 and hyphens within, found \"{text}\""
        )),
    }
}

pub fn subnet(text: &str) -> Result<Subnet, String> {
    let wrong = || format!("wanted a subnet such as 198.18.0.0/24, found \"{text}\"");
    let (network, prefix) = text.split_once('/').ok_or_else(wrong)?;
    let network: Ipv4Addr = network.parse().map_err(|_| wrong())?;
    let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
    if !(8..=28).contains(&prefix) {
        return Err(format!("wanted a prefix of 8 to 28, found {prefix}"));
    }
    let subnet = Subnet { network, prefix };
    let first = Ipv4Addr::from(u32::from(network) & subnet.mask());
    match first == network {
        true => Ok(subnet),
        false => Err(format!(
            "{network} is inside {first}/{prefix}; write {first}/{prefix}"
        )),
    }
}

pub fn host_address(text: &str, subnet: Subnet) -> Result<Ipv4Addr, String> {
    let address: Ipv4Addr = text.parse().map_err(|_| {
        format!(
            "wanted an address such as {}, found \"{text}\"",
            subnet.host(11)
        )
    })?;
    if !subnet.contains(address) {
        return Err(format!("{address} is outside network.cidr, {subnet}"));
    }
    match address == subnet.network || address == subnet.broadcast() {
        true => Err(format!(
            "{address} is the network's own or its broadcast address"
        )),
        false => Ok(address),
    }
}

pub fn mac_address(text: &str) -> Result<String, String> {
    let mac = crate::wanted::mac(text)?;
    let first = u8::from_str_radix(&mac[..2], 16).unwrap_or(1);
    match first & 1 {
        0 => Ok(mac),
        _ => Err(format!(
            "{mac} is a group address; its first octet must be even"
        )),
    }
}

/// QEMU's prefix, then three octets that the names give.
pub fn derived_mac(lab: &str, name: &str) -> String {
    let digest = Sha256::digest(format!("mac {lab}/{name}"));
    format!(
        "52:54:00:{:02x}:{:02x}:{:02x}",
        digest[0], digest[1], digest[2]
    )
}

/// RFC 9562 §5.8: version 8, the bits of which are ours to choose.
pub fn derived_uuid(lab: &str, name: &str) -> String {
    let digest = Sha256::digest(format!("uuid {lab}/{name}"));
    let mut octets: [u8; 16] = digest[..16].try_into().expect("a digest has 32 octets");
    octets[6] = 0x80 | (octets[6] & 0x0f);
    octets[8] = 0x80 | (octets[8] & 0x3f);
    let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}
