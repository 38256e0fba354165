//! The form of records on disk: keys that sort as people read them, and values that say their version, so that a later
//! version can read what this one wrote.
//!
//! | key | value |
//! |---|---|
//! | `lease/` + 4 octets of the address | version octet, then the lease as JSON |
//! | `machine/` + id of the reservation | version octet, then the machine as JSON |
//! | `reservation/` + id | version octet, then the reservation as JSON |
//! | `revision` | version octet, then the number as JSON |

use std::net::Ipv4Addr;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{RecordChange, Records};
use crate::model::{Lease, Machine, Reservation};

/// The first octet of every value.
const VERSION: u8 = 1;

const LEASE: &[u8] = b"lease/";
const MACHINE: &[u8] = b"machine/";
const RESERVATION: &[u8] = b"reservation/";
const REVISION: &[u8] = b"revision";

/// A key, and its new value or none to remove it.
pub(super) fn encode(change: &RecordChange) -> Result<(Vec<u8>, Option<Vec<u8>>), String> {
    Ok(match change {
        RecordChange::PutReservation(r) => (reservation_key(&r.id), Some(value(r)?)),
        RecordChange::DeleteReservation(id) => (reservation_key(id), None),
        RecordChange::PutLease(lease) => (lease_key(lease.address), Some(value(lease)?)),
        RecordChange::DeleteLease(address) => (lease_key(*address), None),
        RecordChange::PutMachine(machine) => (machine_key(&machine.id), Some(value(machine)?)),
        RecordChange::DeleteMachine(id) => (machine_key(id), None),
        RecordChange::Revision(revision) => (REVISION.to_vec(), Some(value(revision)?)),
    })
}

/// Adds one key and value to `records`.
pub(super) fn decode(key: &[u8], octets: &[u8], records: &mut Records) -> Result<(), String> {
    if key.starts_with(LEASE) {
        records.leases.push(parse::<Lease>(octets)?);
    } else if key.starts_with(RESERVATION) {
        records
            .reservations
            .push(Arc::new(parse::<Reservation>(octets)?));
    } else if key.starts_with(MACHINE) {
        records.machines.push(parse::<Machine>(octets)?);
    } else if key == REVISION {
        records.revision = parse(octets)?;
    } else {
        return Err(format!("unknown key {}", key.escape_ascii()));
    }
    Ok(())
}

/// A key as people write it: a lease's has its address in dots.
pub(super) fn name(key: &[u8]) -> Result<String, String> {
    if let Some(octets) = key.strip_prefix(LEASE) {
        let octets = <[u8; 4]>::try_from(octets)
            .map_err(|_| format!("key {} is no lease's", key.escape_ascii()))?;
        return Ok(format!("lease/{}", Ipv4Addr::from(octets)));
    }
    std::str::from_utf8(key)
        .map(str::to_owned)
        .map_err(|_| format!("key {} is no text", key.escape_ascii()))
}

/// The key that is written like this.
pub(super) fn key(name: &str) -> Result<Vec<u8>, String> {
    match name.strip_prefix("lease/") {
        Some(address) => (address.parse())
            .map(lease_key)
            .map_err(|_| format!("key {name} is no lease's")),
        None => Ok(name.as_bytes().to_vec()),
    }
}

/// What a key as people write it is of: `lease`, `reservation`.
pub(super) fn kind(name: &str) -> &str {
    name.split_once('/').map_or(name, |(kind, _)| kind)
}

/// The last revision given out, if it is this record that says it.
pub(super) fn revision(key: &[u8], octets: &[u8]) -> Option<u64> {
    (key == REVISION).then(|| parse(octets).ok()).flatten()
}

/// Whether a record is one that this version would write, with nothing in it that would be left out.
pub(super) fn check(key: &[u8], octets: &[u8]) -> Result<(), String> {
    let name = name(key)?;
    let of = |problem: String| format!("{name}: {problem}");
    let mut records = Records::default();
    decode(key, octets, &mut records).map_err(of)?;
    let change = super::export::changes(&records)
        .next()
        .ok_or_else(|| of("empty".to_owned()))?;
    let (its_key, again) = encode(&change).map_err(of)?;
    if its_key != key {
        let its_name = self::name(&its_key)?;
        return Err(of(format!("its value is that of {its_name}")));
    }
    let again = again.unwrap_or_default();
    if again == octets {
        return Ok(());
    }
    match unknown_field(&parse(octets).map_err(of)?, &parse(&again).map_err(of)?) {
        Some(field) => Err(of(format!("unknown field `{field}`"))),
        None => Ok(()),
    }
}

/// A field of the one that the other does not have, however deep.
fn unknown_field(given: &Value, known: &Value) -> Option<String> {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            given
                .iter()
                .find_map(|(name, value)| match known.get(name) {
                    Some(known) => {
                        unknown_field(value, known).map(|inner| format!("{name}.{inner}"))
                    }
                    // What is empty is left out.
                    None if is_empty(value) => None,
                    None => Some(name.clone()),
                })
        }
        (Value::Array(given), Value::Array(known)) => {
            (given.iter().zip(known)).find_map(|(given, known)| unknown_field(given, known))
        }
        _ => None,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Number(number) => number.as_u64() == Some(0),
        _ => false,
    }
}

fn reservation_key(id: &str) -> Vec<u8> {
    [RESERVATION, id.as_bytes()].concat()
}

fn machine_key(id: &str) -> Vec<u8> {
    [MACHINE, id.as_bytes()].concat()
}

fn lease_key(address: Ipv4Addr) -> Vec<u8> {
    [LEASE, &address.octets()].concat()
}

pub(super) fn value<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    let mut octets = vec![VERSION];
    serde_json::to_writer(&mut octets, value).map_err(|error| error.to_string())?;
    Ok(octets)
}

pub(super) fn parse<T: DeserializeOwned>(octets: &[u8]) -> Result<T, String> {
    match octets {
        [VERSION, json @ ..] => serde_json::from_slice(json).map_err(|error| error.to_string()),
        [version, ..] => Err(format!(
            "written in form {version}, which this bootjackd does not know; use the version that wrote it"
        )),
        [] => Err("empty".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClientKey, LeaseState, MacAddr};

    /// What version 1 wrote must stay readable for ever: this text is not to be changed, only added to.
    #[test]
    fn records_of_version_1_are_read_and_written_octet_by_octet() {
        let lease = Lease {
            address: Ipv4Addr::new(198, 18, 0, 100),
            client: ClientKey::Mac(MacAddr([0x52, 0x54, 0, 0, 0, 1])),
            state: LeaseState::Bound,
            expires_secs: 1_800_000_000,
            hostname: Some("node-1".into()),
            reservation: None,
            circuit_id: None,
        };
        let (key, octets) = encode(&RecordChange::PutLease(lease.clone())).expect("encodes");
        assert_eq!(key, b"lease/\xc6\x12\x00\x64");
        assert_eq!(
            octets
                .as_deref()
                .map(|o| o.escape_ascii().to_string())
                .as_deref(),
            Some(
                r#"\x01{\"address\":\"198.18.0.100\",\"client\":\"52:54:00:00:00:01\",\"state\":\"bound\",\"expires_secs\":1800000000,\"hostname\":\"node-1\"}"#
            )
        );
        let mut records = Records::default();
        decode(&key, &octets.expect("a value"), &mut records).expect("decodes");
        assert_eq!(records.leases, [lease]);

        let reservation = br#"{"id":"node-1","mac":"52:54:00:00:00:01","address":"198.18.0.10","hostname":"node-1","profile":"debian-12","vars":{"cpus":2,"ssh_key":"ssh-ed25519 AAAA"},"source":"api","revision":7,"created_secs":1,"updated_secs":2}"#;
        let octets = [&[1], &reservation[..]].concat();
        decode(b"reservation/node-1", &octets, &mut records).expect("decodes");
        let read = records.reservations.pop().expect("one");
        let (_, written) = encode(&RecordChange::PutReservation((*read).clone())).expect("encodes");
        assert_eq!(written, Some(octets));
        let labelled = br#"{"id":"n","mac":"52:54:00:00:00:01","address":null,"hostname":null,"profile":null,"vars":{},"labels":{"rack":"r1"},"source":"api","revision":7,"created_secs":1,"updated_secs":2}"#;
        let octets = [&[1], &labelled[..]].concat();
        decode(b"reservation/n", &octets, &mut records).expect("decodes");
        let read = records.reservations.pop().expect("one");
        let (_, written) = encode(&RecordChange::PutReservation((*read).clone())).expect("encodes");
        assert_eq!(written, Some(octets));
    }

    /// Machines came later; they, too, are only added to.
    #[test]
    fn machines_of_version_1_are_read_and_written_octet_by_octet() {
        for json in [
            r#"{"id":"node-1","attempt":0,"phase":"idle","since_secs":1}"#,
            r#"{"id":"node-1","attempt":1,"phase":"armed","since_secs":1,"mode":"held","next_boot":{"from":"disk"}}"#,
            r#"{"id":"node-1","attempt":2,"phase":"installing","since_secs":1,"next_boot":{"from":"network","taken_secs":3},"retries_used":1,"token":"000102030405060708090a0b0c0d0e0f","former":["1111111111111111111111111111111111111111111111111111111111111111"],"peer":"198.18.0.10"}"#,
            r#"{"id":"node-1","attempt":2,"phase":"installed","since_secs":1,"mode":"rescue","ready_secs":9}"#,
            r#"{"id":"node-1","attempt":2,"phase":{"failed":{"reason":"disk full","log":"the end"}},"since_secs":1}"#,
            r#"{"id":"node-1","attempt":2,"phase":{"failed":{"reason":"deadline","by_deadline":true}},"since_secs":1}"#,
        ] {
            let octets = [&[1], json.as_bytes()].concat();
            let mut records = Records::default();
            decode(b"machine/node-1", &octets, &mut records).expect(json);
            let machine = records.machines.pop().expect("one");
            let written = encode(&RecordChange::PutMachine(machine)).expect("encodes");
            assert_eq!(written, (b"machine/node-1".to_vec(), Some(octets)));
        }
    }

    /// What the API keeps beside a reservation came later still, and a lease that was taken back.
    #[test]
    fn requests_moves_and_revoked_leases_are_read_and_written_octet_by_octet() {
        let reservation = br#"{"id":"n","mac":null,"address":"198.18.0.20","hostname":null,"profile":null,"vars":{},"source":"api","revision":7,"created_secs":1,"updated_secs":2,"request":{"id":"6ba7b810-9dad-11d1-80b4-00c04fd430c8","digest":"00ff"},"moved":{"revision":7,"from":"198.18.0.10","to":"198.18.0.20","since_secs":2,"deadline_secs":602}}"#;
        let lease = br#"{"address":"198.18.0.100","client":"52:54:00:00:00:01","state":"revoked","expires_secs":9,"hostname":null}"#;
        let (mut records, mut octets) = (Records::default(), vec![1]);
        octets.extend_from_slice(reservation);
        decode(b"reservation/n", &octets, &mut records).expect("decodes");
        let read = records.reservations.pop().expect("one");
        let (_, written) = encode(&RecordChange::PutReservation((*read).clone())).expect("encodes");
        assert_eq!(written, Some(octets));
        let octets = [&[1], &lease[..]].concat();
        decode(b"lease/\xc6\x12\x00\x64", &octets, &mut records).expect("decodes");
        let read = records.leases.pop().expect("one");
        let (_, written) = encode(&RecordChange::PutLease(read)).expect("encodes");
        assert_eq!(written, Some(octets));
    }

    #[test]
    fn a_later_form_is_refused_rather_than_misread() {
        let refused = decode(b"revision", b"\x027", &mut Records::default()).expect_err("refused");
        assert!(refused.contains("form 2"), "{refused}");
    }
}
