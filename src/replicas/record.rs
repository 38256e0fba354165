//! The group as it stands in the shared store. In: keys and values below the store's prefix. Out: members, canary and overrides,
//! and the text of each. What cannot be read is refused with a reason, and changes nothing.
//!
//! ```text
//! replicas/ID                    a member; bound to its lease, so that it goes when the member does
//! replicas.canary                where a part of all clients goes
//! replicas.override/MAC          where one machine goes; bound to a lease that ends with it
//! ```

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::group::{Canary, Counts, Member, Override};
use crate::model::MacAddr;

/// What all of these keys begin with.
pub const PREFIX: &str = "replicas";
const MEMBERS: &str = "replicas/";
const OVERRIDES: &str = "replicas.override/";
/// The key of the canary.
pub const CANARY_KEY: &str = "replicas.canary";
/// The longest id: one label of a host name and its domain fit.
const LONGEST_ID: usize = 63;

/// What a key is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    Member(String),
    Canary,
    Override(MacAddr),
}

/// One of the values, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Member(Member),
    Canary(Canary),
    Override(Override),
}

/// Every value says how it is written; one of another version is not guessed at.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct MemberText {
    v: u32,
    instance: String,
    addresses: Vec<Ipv4Addr>,
    server_ids: Vec<Ipv4Addr>,
    weight: u16,
    ttl_secs: u64,
    version: String,
    since_secs: u64,
    #[serde(default)]
    taken: u64,
    #[serde(default)]
    forwarded: u64,
    #[serde(default)]
    left: u64,
}

#[derive(Serialize, Deserialize)]
struct CanaryText {
    v: u32,
    replica: String,
    percent: u8,
}

#[derive(Serialize, Deserialize)]
struct OverrideText {
    v: u32,
    replica: String,
    expires_secs: u64,
}

/// The key of a member.
pub fn member_key(id: &str) -> String {
    format!("{MEMBERS}{id}")
}

/// The key of an override.
pub fn override_key(mac: MacAddr) -> String {
    format!("{OVERRIDES}{mac}")
}

/// What a key, without the store's prefix, is about; none if it is nothing of ours.
pub fn read_key(key: &str) -> Option<Key> {
    if key == CANARY_KEY {
        return Some(Key::Canary);
    }
    if let Some(mac) = key.strip_prefix(OVERRIDES) {
        return mac.parse().ok().map(Key::Override);
    }
    let id = key.strip_prefix(MEMBERS)?;
    check_id(id).is_ok().then(|| Key::Member(id.to_owned()))
}

/// Whether a replica can have this name: letters, digits, `-`, `_` and `.`, beginning with a letter or digit.
pub fn check_id(id: &str) -> Result<(), String> {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let begins_well = id.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins_well && id.len() <= LONGEST_ID && id.chars().all(is_fit) {
        return Ok(());
    }
    Err(format!(
        "`{}` is no name of a replica; wanted 1 to {LONGEST_ID} letters, digits, `-`, `_` and `.`, the first a letter or digit",
        id.escape_default()
    ))
}

/// A member as it is written.
pub fn member_text(member: &Member) -> Vec<u8> {
    let Member {
        id: _,
        instance,
        addresses,
        server_ids,
        weight,
        ttl_secs,
        version,
        since_secs,
        counts,
    } = member.clone();
    json(&MemberText {
        v: VERSION,
        instance,
        addresses,
        server_ids,
        weight,
        ttl_secs,
        version,
        since_secs,
        taken: counts.taken,
        forwarded: counts.forwarded,
        left: counts.left,
    })
}

/// A canary as it is written.
pub fn canary_text(canary: &Canary) -> Vec<u8> {
    json(&CanaryText {
        v: VERSION,
        replica: canary.replica.clone(),
        percent: canary.percent,
    })
}

/// An override as it is written.
pub fn override_text(told: &Override) -> Vec<u8> {
    json(&OverrideText {
        v: VERSION,
        replica: told.replica.clone(),
        expires_secs: told.expires_secs,
    })
}

fn json<T: Serialize>(text: &T) -> Vec<u8> {
    serde_json::to_vec(text).expect("plain fields have a text")
}

/// Reads a value.
pub fn read(key: Key, value: &[u8]) -> Result<Record, String> {
    #[derive(Deserialize)]
    struct Versioned {
        v: u32,
    }
    let malformed = |error: serde_json::Error| format!("malformed value: {error}");
    let Versioned { v } = serde_json::from_slice(value).map_err(malformed)?;
    if v != VERSION {
        return Err(format!(
            "value of version {v}, this bootjackd reads {VERSION}; upgrade it"
        ));
    }
    Ok(match key {
        Key::Member(id) => {
            let text: MemberText = serde_json::from_slice(value).map_err(malformed)?;
            Record::Member(Member {
                id,
                instance: text.instance,
                addresses: text.addresses,
                server_ids: text.server_ids,
                weight: text.weight,
                ttl_secs: text.ttl_secs,
                version: text.version,
                since_secs: text.since_secs,
                counts: Counts {
                    taken: text.taken,
                    forwarded: text.forwarded,
                    left: text.left,
                },
            })
        }
        Key::Canary => {
            let CanaryText {
                replica, percent, ..
            } = serde_json::from_slice(value).map_err(malformed)?;
            Record::Canary(Canary { replica, percent })
        }
        Key::Override(mac) => {
            let text: OverrideText = serde_json::from_slice(value).map_err(malformed)?;
            Record::Override(Override {
                mac,
                replica: text.replica,
                expires_secs: text.expires_secs,
            })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::group::tests::member;
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_keeps_its_form() {
        let mut member = member(1);
        member.counts.taken = 7;
        let text = member_text(&member);
        let golden = r#"{"v":1,"instance":"i1","addresses":["198.18.0.1"],"server_ids":["198.18.0.1"],"weight":10,"ttl_secs":6,"version":"1.0.0","since_secs":1,"taken":7,"forwarded":0,"left":0}"#;
        assert_eq!(String::from_utf8_lossy(&text), golden);
        let key = read_key(&member_key(&member.id)).expect("a key");
        assert_eq!(read(key, &text), Ok(Record::Member(member)));

        let canary = Canary {
            replica: "a".to_owned(),
            percent: 5,
        };
        let text = canary_text(&canary);
        assert_eq!(text, br#"{"v":1,"replica":"a","percent":5}"#);
        assert_eq!(read(Key::Canary, &text), Ok(Record::Canary(canary)));

        let told = Override {
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            replica: "a".to_owned(),
            expires_secs: 9,
        };
        let text = override_text(&told);
        assert_eq!(text, br#"{"v":1,"replica":"a","expires_secs":9}"#);
        let key = read_key(&override_key(told.mac)).expect("a key");
        assert_eq!(read(key, &text), Ok(Record::Override(told)));
    }

    #[test]
    fn what_is_not_ours_or_not_understood_is_refused() {
        for key in [
            "replicas",
            "replicas/",
            "replicas/a/b",
            "replicas.override/x",
            "lease/1",
        ] {
            assert_eq!(read_key(key), None, "{key}");
        }
        let later = read(Key::Canary, br#"{"v":2,"replica":"a","percent":5}"#);
        assert!(later.unwrap_err().contains("version 2"));
        for value in [
            &b"{}"[..],
            b"",
            br#"{"v":1}"#,
            br#"{"v":1,"replica":"a","percent":300}"#,
        ] {
            assert!(read(Key::Canary, value).is_err());
        }
    }

    #[test]
    fn names_of_replicas_are_those_of_hosts_and_nothing_that_a_key_could_hide() {
        for id in ["a", "rack-1", "boot-2.example.net", "A_b"] {
            assert_eq!(check_id(id), Ok(()), "{id}");
        }
        let long = "a".repeat(64);
        for id in ["", "-a", ".a", "a/b", "a b", "ä", long.as_str()] {
            assert!(check_id(id).is_err(), "{id}");
        }
    }
}
