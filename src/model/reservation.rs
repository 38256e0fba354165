//! Reservations: a machine's fixed place in the network and what it boots.

use std::fmt;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::{Labels, LocalBoot, MacAddr, Move, Options, RequestId, Sorted, Uuid, hex};

/// What an operator wants for one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reservation {
    /// Last part of its resource name; unique, never changes.
    pub id: String,
    /// The card it boots from. A machine without one here is known by its other identities alone.
    pub mac: Option<MacAddr>,
    #[serde(default, skip_serializing_if = "Identities::is_empty")]
    pub identities: Identities,
    /// Without one the machine is served from a pool.
    pub address: Option<Ipv4Addr>,
    pub hostname: Option<String>,
    /// Without one the machine is told to boot its local disk.
    pub profile: Option<String>,
    #[serde(default)]
    pub vars: Vars,
    /// Choose the groups that the machine is in.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// DHCP options for this machine alone.
    #[serde(default, skip_serializing_if = "Options::is_empty")]
    pub options: Options,
    /// The network boot program for this machine, such as `ipxe` where `snponly` does not work with its card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// How this machine is sent to its own disk, where its profile or its firmware's usual way does not suit it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_boot: Option<LocalBoot>,
    pub source: Source,
    /// Store revision of the last write; 0 for the configuration file.
    pub revision: u64,
    /// Unix time in seconds; 0 for the configuration file.
    pub created_secs: u64,
    pub updated_secs: u64,
    /// The call that made it, if that said who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Box<RequestId>>,
    /// The last change that gave its machine another address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved: Option<Box<Move>>,
}

/// What a machine is known by beside its first MAC. Each belongs to one reservation alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identities {
    /// Its other cards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub macs: Vec<MacAddr>,
    /// Option 61, with its type octet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client_ids: Vec<Octets>,
    /// Option 97 and SMBIOS, in either octet order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uuids: Vec<Uuid>,
    /// What a relay agent says of the port the machine is plugged in (option 82, sub-option 1).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub circuit_ids: Vec<Octets>,
}

/// Octets that are written in hexadecimal, or as text where they are text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Octets(pub Vec<u8>);

/// Variables by name, in a fixed order.
pub type Vars = Sorted<String, Var>;

/// The value of one variable of a template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Var {
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text(String),
    List(Vec<Var>),
    Map(Sorted<String, Var>),
}

/// Where the value of a variable is read from when it is needed; written as a map with this one key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretRef {
    /// `{ secret_file = "/path" }`: the file's text, without the line end it closes with.
    File(String),
    /// `{ secret_env = "NAME" }`: of the service's environment.
    Env(String),
}

/// What stands for a secret wherever it is shown.
pub const HIDDEN: &str = "(secret)";

impl SecretRef {
    pub const FILE_KEY: &str = "secret_file";
    pub const ENV_KEY: &str = "secret_env";
}

impl Var {
    /// The place its value is to be read from, if it is a secret.
    pub fn secret(&self) -> Option<SecretRef> {
        let Self::Map(fields) = self else {
            return None;
        };
        let mut fields = fields.iter();
        match (fields.next(), fields.next()) {
            (Some((key, Self::Text(text))), None) if key == SecretRef::FILE_KEY => {
                Some(SecretRef::File(text.clone()))
            }
            (Some((key, Self::Text(text))), None) if key == SecretRef::ENV_KEY => {
                Some(SecretRef::Env(text.clone()))
            }
            _ => None,
        }
    }

    /// Every secret in it, however deep.
    pub fn secrets(&self) -> Vec<SecretRef> {
        if let Some(secret) = self.secret() {
            return vec![secret];
        }
        match self {
            Self::List(vars) => vars.iter().flat_map(Self::secrets).collect(),
            Self::Map(fields) => fields.values().flat_map(Self::secrets).collect(),
            Self::Bool(_) | Self::Integer(_) | Self::Number(_) | Self::Text(_) => Vec::new(),
        }
    }
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
    /// One that says nothing yet.
    pub fn of(id: String, source: Source) -> Self {
        Self {
            id,
            mac: None,
            identities: Identities::default(),
            address: None,
            hostname: None,
            profile: None,
            vars: Vars::new(),
            labels: Labels::new(),
            options: Options::default(),
            program: None,
            local_boot: None,
            source,
            revision: 0,
            created_secs: 0,
            updated_secs: 0,
            request: None,
            moved: None,
        }
    }

    /// Every MAC that is its.
    pub fn macs(&self) -> impl Iterator<Item = MacAddr> {
        self.mac
            .into_iter()
            .chain(self.identities.macs.iter().copied())
    }

    /// What it is known by, for people: its MAC, or else its first other identity.
    pub fn known_by(&self) -> String {
        let other = &self.identities;
        (self.macs().next().map(|mac| mac.to_string()))
            .or_else(|| other.uuids.first().map(ToString::to_string))
            .or_else(|| other.client_ids.first().map(ToString::to_string))
            .or_else(|| other.circuit_ids.first().map(ToString::to_string))
            .unwrap_or_default()
    }

    /// What people call the machine: its host name, or else its id.
    pub fn title(&self) -> &str {
        self.hostname.as_deref().unwrap_or(&self.id)
    }
}

impl Identities {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Octets {
    /// From hexadecimal, with or without colons, if it is that; or else the text's own octets.
    pub fn parse(text: &str) -> Self {
        Self::from_hex(text).unwrap_or_else(|| Self(text.as_bytes().to_vec()))
    }

    /// From hexadecimal: `01:52:54`, `0x015254` or `015254`.
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.strip_prefix("0x").unwrap_or(text);
        let groups: Vec<&str> = text.split([':', '-']).collect();
        if groups.len() > 1 && groups.iter().any(|group| group.len() != 2) {
            return None;
        }
        hex::octets(&groups.concat())
            .filter(|octets| !octets.is_empty())
            .map(Self)
    }
}

impl fmt::Display for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, octet) in self.0.iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            write!(f, "{colon}{octet:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Octets {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_hex(&text)
            .or(text.is_empty().then(|| Self(Vec::new())))
            .ok_or_else(|| serde::de::Error::custom("wanted hexadecimal octets"))
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
