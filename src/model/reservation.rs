//! Reservations: a machine's fixed place in the network and what it boots.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::MacAddr;

/// What an operator wants for one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reservation {
    /// Last part of its resource name; unique, never changes.
    pub id: String,
    pub mac: MacAddr,
    /// Without one the machine is served from a pool.
    pub address: Option<Ipv4Addr>,
    pub hostname: Option<String>,
    /// Without one the machine is told to boot its local disk.
    pub profile: Option<String>,
    #[serde(default)]
    pub vars: Vars,
    pub source: Source,
    /// Store revision of the last write; 0 for the configuration file.
    pub revision: u64,
    /// Unix time in seconds; 0 for the configuration file.
    pub created_secs: u64,
    pub updated_secs: u64,
}

/// Variables by name, in a fixed order.
pub type Vars = BTreeMap<String, Var>;

/// The value of one variable of a template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Var {
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text(String),
    List(Vec<Var>),
    Map(BTreeMap<String, Var>),
}

/// Who wrote a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    ConfigFile,
    Api,
}

/// Text that cannot be a host name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MalformedHostname(String);

impl Reservation {
    /// What people call the machine: its host name, or else its id.
    pub fn title(&self) -> &str {
        self.hostname.as_deref().unwrap_or(&self.id)
    }
}

/// Checks an RFC 1123 host name, with or without a domain: labels of 1 to 63 letters, digits and inner hyphens, 253 in all.
pub fn check_hostname(name: &str) -> Result<(), MalformedHostname> {
    let label_is_good = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() <= 253 && name.split('.').all(label_is_good) {
        Ok(())
    } else {
        Err(MalformedHostname(name.to_owned()))
    }
}

/// Checks the last part of a resource name: 1 to 253 of `a-z 0-9 . -`.
pub fn check_reservation_id(id: &str) -> Result<(), String> {
    let good = (1..=253).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
    if good {
        Ok(())
    } else {
        Err(format!(
            "`{}` is not a reservation id; use 1 to 253 of a-z 0-9 . -",
            id.escape_default()
        ))
    }
}

impl fmt::Display for MalformedHostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a host name; use letters, digits and hyphens in labels of at most 63",
            self.0.escape_default()
        )
    }
}

impl std::error::Error for MalformedHostname {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_follow_rfc_1123() {
        for good in ["node-1", "1st", "a.b.c", "N0DE"] {
            assert!(check_hostname(good).is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in [
            "",
            "-a",
            "a-",
            "a..b",
            "a_b",
            "a b",
            "a\nb",
            "ä",
            long.as_str(),
        ] {
            assert!(check_hostname(bad).is_err(), "{bad}");
        }
    }
}
