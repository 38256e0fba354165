//! Where each record stands in etcd, below the prefix. Keys are text that people can read with etcdctl; values are those of
//! `store::record`, whose form is held by golden octets.
//!
//! | key | value |
//! |---|---|
//! | `reservation/ID`, `lease/ADDRESS`, `machine/ID` | the record |
//! | `revision` | [`Head`]: written with every change of reservations and machines, and compared by it |
//! | `reserved` | the revision that last changed a reservation: compared by every lease that is granted |
//! | `staged/BATCH/NUMBER` | records of a batch that is too large for one transaction |

use std::net::Ipv4Addr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::model::{Lease, Machine, Reservation};
use crate::store::{RecordChange, record};

pub(super) const HEAD: &str = "revision";
pub(super) const FENCE: &str = "reserved";
pub(super) const STAGED: &str = "staged/";
const RESERVATION: &str = "reservation/";
const LEASE: &str = "lease/";
const MACHINE: &str = "machine/";

/// What all changes of reservations and machines agree on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The store's last revision.
    pub(super) revision: u64,
    /// A random word of the transaction that wrote it, by which its writer knows it again.
    pub(super) by: String,
    /// The batch whose records are true from this transaction on, until they stand under their own keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) staged: Option<String>,
}

/// What a key and its value say.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)] // nearly all are records
pub(super) enum Item {
    Record(RecordChange),
    Head(Head),
    Fence,
    /// Part of this batch; none once it is gone.
    Staged {
        batch: String,
        octets: Option<Bytes>,
    },
    /// Somebody else's.
    Other,
}

/// The key, below the prefix, and its value, or none where it is deleted. None: the head has a form of its own.
pub(super) fn encode(change: &RecordChange) -> Result<Option<(String, Option<Bytes>)>, String> {
    let value = |octets: Vec<u8>| Some(Bytes::from(octets));
    Ok(Some(match change {
        RecordChange::PutReservation(r) => (reservation(&r.id), value(record::value(r)?)),
        RecordChange::DeleteReservation(id) => (reservation(id), None),
        RecordChange::PutLease(l) => (lease(l.address), value(record::value(l)?)),
        RecordChange::DeleteLease(address) => (lease(*address), None),
        RecordChange::PutMachine(m) => (machine(&m.id), value(record::value(m)?)),
        RecordChange::DeleteMachine(id) => (machine(id), None),
        RecordChange::Revision(_) => return Ok(None),
    }))
}

/// What the key of this name says with this value; none: it is deleted.
pub(super) fn decode(name: &str, value: Option<&Bytes>) -> Result<Item, String> {
    let of = |problem: String| format!("{name}: {problem}");
    if let Some(id) = name.strip_prefix(RESERVATION) {
        return Ok(Item::Record(match value {
            Some(octets) => {
                RecordChange::PutReservation(record::parse::<Reservation>(octets).map_err(of)?)
            }
            None => RecordChange::DeleteReservation(id.to_owned()),
        }));
    }
    if let Some(address) = name.strip_prefix(LEASE) {
        let address: Ipv4Addr = (address.parse()).map_err(|_| format!("{name}: is no address"))?;
        return Ok(Item::Record(match value {
            Some(octets) => {
                let lease = record::parse::<Lease>(octets).map_err(of)?;
                if lease.address != address {
                    return Err(format!("{name}: is of {}", lease.address));
                }
                RecordChange::PutLease(lease)
            }
            None => RecordChange::DeleteLease(address),
        }));
    }
    if let Some(id) = name.strip_prefix(MACHINE) {
        return Ok(Item::Record(match value {
            Some(octets) => RecordChange::PutMachine(record::parse::<Machine>(octets).map_err(of)?),
            None => RecordChange::DeleteMachine(id.to_owned()),
        }));
    }
    if let Some(rest) = name.strip_prefix(STAGED) {
        let batch = rest.split('/').next().unwrap_or_default().to_owned();
        let octets = value.cloned();
        return Ok(Item::Staged { batch, octets });
    }
    Ok(match (name, value) {
        (HEAD, Some(octets)) => Item::Head(record::parse(octets).map_err(of)?),
        (HEAD, None) => Item::Head(Head::default()),
        (FENCE, _) => Item::Fence,
        _ => Item::Other,
    })
}

/// The address whose lease stands under this key.
pub(super) fn address(name: &str) -> Option<Ipv4Addr> {
    name.strip_prefix(LEASE)?.parse().ok()
}

fn reservation(id: &str) -> String {
    format!("{RESERVATION}{id}")
}

pub(super) fn lease(address: Ipv4Addr) -> String {
    format!("{LEASE}{address}")
}

fn machine(id: &str) -> String {
    format!("{MACHINE}{id}")
}

/// The key of one part of a batch; parts sort by their number.
pub(super) fn staged(batch: &str, number: usize) -> String {
    format!("{STAGED}{batch}/{number:06}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClientKey, LeaseState, MacAddr};

    /// Replicas of several versions share these: they are not to be changed, only added to.
    #[test]
    fn keys_and_values_are_what_they_were() {
        let lease = Lease {
            address: Ipv4Addr::new(198, 18, 0, 100),
            client: ClientKey::Mac(MacAddr([0x52, 0x54, 0, 0, 0, 1])),
            state: LeaseState::Bound,
            expires_secs: 1_800_000_000,
            hostname: None,
            reservation: None,
            circuit_id: None,
        };
        let put = RecordChange::PutLease(lease);
        let (name, value) = encode(&put).expect("encodes").expect("a key");
        assert_eq!(name, "lease/198.18.0.100");
        let text = value.as_ref().map(|o| o.escape_ascii().to_string());
        assert_eq!(
            text.as_deref(),
            Some(
                r#"\x01{\"address\":\"198.18.0.100\",\"client\":\"52:54:00:00:00:01\",\"state\":\"bound\",\"expires_secs\":1800000000,\"hostname\":null}"#
            )
        );
        assert_eq!(decode(&name, value.as_ref()), Ok(Item::Record(put)));
        for (json, head) in [
            (
                r#"{"revision":7,"by":"00ff"}"#,
                Head {
                    revision: 7,
                    by: "00ff".to_owned(),
                    staged: None,
                },
            ),
            (
                r#"{"revision":8,"by":"00ff","staged":"ab"}"#,
                Head {
                    revision: 8,
                    by: "00ff".to_owned(),
                    staged: Some("ab".to_owned()),
                },
            ),
        ] {
            let octets = Bytes::from([&[1], json.as_bytes()].concat());
            assert_eq!(record::value(&head).expect("encodes"), &octets[..]);
            assert_eq!(decode("revision", Some(&octets)), Ok(Item::Head(head)));
        }
    }

    #[test]
    fn a_record_under_a_key_that_is_not_its_own_is_refused_and_one_of_others_is_left_alone() {
        let value = Bytes::from_static(b"\x01{\"address\":\"198.18.0.100\",\"client\":\"52:54:00:00:00:01\",\"state\":\"bound\",\"expires_secs\":1,\"hostname\":null}");
        for name in ["lease/198.18.0.101", "lease/x"] {
            assert!(decode(name, Some(&value)).is_err(), "{name}");
        }
        assert_eq!(decode("replicas/a", Some(&value)), Ok(Item::Other));
        let gone = RecordChange::DeleteMachine("a".to_owned());
        assert_eq!(decode("machine/a", None), Ok(Item::Record(gone)));
    }
}
