//! Settings of dnsmasq that are no reservations: what each becomes, as far as it says anything of DHCP or booting.

use crate::import::Imported;
use crate::wanted::Place;

const CLASS: &str = "write a [[class]] in bootjackd.toml";

/// What to do in place of a setting: the first whose name it begins with.
const INSTEAD: [(&str, &str, &str); 23] = [
    (
        "dhcp-authoritative",
        "Bootjack answers for its subnets",
        "authoritative = true in [dhcp] refuses strangers, too",
    ),
    (
        "dhcp-leasefile",
        "leases are not carried over",
        "machines keep their addresses: Bootjack gives a client the one it asks for, if it is free",
    ),
    ("dhcp-lease-max", "there is no such limit", ""),
    ("dhcp-ignore-names", "host names come from reservations", ""),
    (
        "dhcp-ignore-clid",
        "client-ids are ignored already, unless the subnet says lease_key = \"client_id\"",
        "",
    ),
    (
        "dhcp-ignore",
        "clients are left out by class, and strangers by a subnet without pools",
        CLASS,
    ),
    ("dhcp-vendorclass", "tags for clients are classes", CLASS),
    ("dhcp-userclass", "tags for clients are classes", CLASS),
    ("dhcp-mac", "tags for clients are classes", CLASS),
    ("dhcp-circuitid", "tags for clients are classes", CLASS),
    ("dhcp-remoteid", "it is no rule of classes", ""),
    ("dhcp-subscrid", "it is no rule of classes", ""),
    ("dhcp-match", "tags for clients are classes", CLASS),
    ("dhcp-name-match", "it is no rule of classes", ""),
    ("dhcp-relay", "Bootjack is no relay agent", ""),
    (
        "dhcp-script",
        "Bootjack runs no script",
        "watch leases with: bootjack lease watch",
    ),
    (
        "dhcp-luascript",
        "Bootjack runs no script",
        "watch leases with: bootjack lease watch",
    ),
    ("dhcp-", "it has no counterpart", ""),
    (
        "pxe-",
        "what a machine boots is its profile",
        "bootjack reservation update NAME --profile PROFILE",
    ),
    ("enable-tftp", "TFTP is on where DHCP is", ""),
    (
        "tftp-root",
        "files for machines' own boot programs are below tftp.root",
        "set root in [tftp] of bootjackd.toml",
    ),
    ("tftp-", "it has no counterpart", ""),
    ("bootp-dynamic", "Bootjack answers DHCP alone", ""),
];

const IPV6: [&str; 2] = ["enable-ra", "ra-param"];
const LISTENING: [&str; 3] = ["interface", "except-interface", "no-dhcp-interface"];

pub fn read(place: &Place, key: &str, value: &str, out: &mut Imported) {
    let what = match value {
        "" => key.to_owned(),
        value => format!("{key}={value}"),
    };
    let is_key = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if key.is_empty() || !key.chars().all(is_key) {
        out.malformed(place, what, "it is no setting of dnsmasq");
    } else if IPV6.contains(&key) {
        out.leave(place, what, "Bootjack gives IPv4 addresses", "");
    } else if LISTENING.contains(&key) {
        out.leave(
            place,
            what,
            "where DHCP listens is configured",
            "set interfaces in [dhcp] of bootjackd.toml",
        );
    } else if let Some((_, why, todo)) = INSTEAD.iter().find(|(name, _, _)| key.starts_with(name)) {
        out.leave(place, what, *why, *todo);
    } else {
        out.unrelated += 1;
    }
}
