//! Reservations as files want them. In: what was written. Out: the form that bootjackd answers, so that what is wanted and what is
//! there can be held against each other, or what is wrong.

use std::fmt;
use std::sync::Arc;

use bootjack_api::v1::Reservation;

/// Line of a file, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub file: Arc<str>,
    pub line: usize,
}

/// A reservation that a file wants; its name is set.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    pub place: Place,
    pub reservation: Reservation,
}

/// What every reservation's resource name starts with.
pub const COLLECTION: &str = "reservations/";
/// The label that says which set of files a reservation belongs to.
pub const OWNER: &str = "bootjack/owner";

/// The last part of its resource name.
pub fn id(reservation: &Reservation) -> &str {
    let name = &reservation.name;
    name.strip_prefix(COLLECTION).unwrap_or(name)
}

/// The id that bootjackd would give it: its host name, or else what it is known by.
pub fn default_id(reservation: &Reservation) -> String {
    match reservation.hostname.as_str() {
        "" => known_by(reservation).replace(':', "-"),
        hostname => hostname.to_ascii_lowercase(),
    }
}

/// What it is known by, for people: its MAC, or else its first other identity; empty if it has none.
pub fn known_by(reservation: &Reservation) -> String {
    let r = reservation;
    let mac = Some(&r.mac).filter(|mac| !mac.is_empty());
    mac.or(r.macs.first())
        .or(r.uuids.first())
        .or(r.client_ids.first())
        .or(r.circuit_ids.first())
        .cloned()
        .unwrap_or_default()
}

/// What belongs to one reservation alone, beside its id: the field, and the value as it is compared.
pub fn keys(r: &Reservation) -> Vec<(&'static str, String)> {
    let mut keys = Vec::new();
    let mut add = |field, values: &[String]| {
        let values = values.iter().filter(|value| !value.is_empty());
        keys.extend(values.map(|value| (field, value.to_ascii_lowercase())));
    };
    add("mac", std::slice::from_ref(&r.mac));
    add("mac", &r.macs);
    add("address", std::slice::from_ref(&r.address));
    add("hostname", std::slice::from_ref(&r.hostname));
    add("client_id", &r.client_ids);
    add("uuid", &r.uuids);
    add("circuit_id", &r.circuit_ids);
    keys
}

/// `52:54:00:00:00:01`, out of that with hyphens, dots or nothing between the digits, in either case, and with groups of one.
pub fn mac(text: &str) -> Result<String, String> {
    let wrong = || format!("`{text}` is not a MAC address; write it like 52:54:00:00:00:01");
    let groups: Vec<&str> = text.split([':', '-', '.']).collect();
    let digits = match groups.len() {
        6 if groups.iter().all(|group| (1..=2).contains(&group.len())) => {
            let padded = groups.iter().map(|group| format!("{group:0>2}"));
            padded.collect::<String>()
        }
        3 if groups.iter().all(|group| group.len() == 4) => groups.concat(),
        1 if text.len() == 12 => text.to_owned(),
        _ => return Err(wrong()),
    };
    let digits = digits.to_ascii_lowercase();
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let pairs: Vec<&str> = (0..6).map(|n| &digits[2 * n..2 * n + 2]).collect();
    Ok(pairs.join(":"))
}

/// An RFC 1123 host name, with or without a domain.
pub fn check_hostname(name: &str) -> Result<(), String> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    match name.len() <= 253 && name.split('.').all(is_label) {
        true => Ok(()),
        false => Err(format!(
            "`{name}` is not a host name; use letters, digits and hyphens in labels of at most 63"
        )),
    }
}

/// The last part of a resource name.
pub fn check_id(id: &str) -> Result<(), String> {
    let is_of_id = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    match (1..=253).contains(&id.len()) && id.bytes().all(is_of_id) {
        true => Ok(()),
        false => Err(format!(
            "`{id}` is not a reservation id; use 1 to 253 of a-z 0-9 . -"
        )),
    }
}

/// One label.
pub fn check_label(name: &str, value: &str) -> Result<(), String> {
    let is_name = (1..=63).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b));
    if !is_name {
        return Err(format!(
            "`{name}` is not a label's name; use 1 to 63 letters, digits and . _ - /"
        ));
    }
    match value.chars().count() <= 63 && !value.chars().any(char::is_control) {
        true => Ok(()),
        false => Err(format!(
            "the value of {name} is not one line of at most 63 characters"
        )),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_understood_in_every_spelling() {
        for text in [
            "52:54:00:00:00:0A",
            "52-54-0-0-0-a",
            "5254.0000.000a",
            "52540000000A",
        ] {
            assert_eq!(mac(text).as_deref(), Ok("52:54:00:00:00:0a"), "{text}");
        }
        for text in [
            "",
            "52:54:00:00:00",
            "52:54:00:00:00:zz",
            "52:54:00:00:00:001",
            "525400",
        ] {
            assert!(mac(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_id_is_the_host_name_or_what_the_machine_is_known_by() {
        let mut reservation = Reservation {
            mac: "52:54:00:00:00:01".into(),
            ..Reservation::default()
        };
        assert_eq!(default_id(&reservation), "52-54-00-00-00-01");
        reservation.hostname = "Node-1".into();
        assert_eq!(default_id(&reservation), "node-1");
    }
}
