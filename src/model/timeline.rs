//! What happened to a machine, one value for each thing that people want to see when a boot does not end as it should.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Whose timeline it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A machine that is reserved, by its reservation's id.
    Machine(String),
    /// A client that nobody has reserved, as DHCP knows it: a MAC where it has one.
    Client(String),
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Counted over all machines and restarts; never given out twice.
    pub sequence: u64,
    /// Unix time in milliseconds.
    pub at_ms: u64,
    pub subject: Subject,
    /// Of the installation it belongs to; 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempt: u32,
    pub kind: Kind,
    /// A boot file, a document's name, a path, a call-back, a change.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub what: String,
    /// A reason, an address, a machine's own words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elapsed_ms: Option<u64>,
    /// How often it happened in a row.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u32,
    /// When it last did, if more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ms: Option<u64>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// DHCP: a DISCOVER was answered.
    Offer,
    /// DHCP: an address was given, or confirmed.
    Ack,
    /// DHCP: a wish was refused.
    Nak,
    /// DHCP: a packet got no answer.
    Silent,
    /// DHCP: an answer could not be sent.
    NotSent,
    /// A network boot program was fetched.
    Program,
    /// The boot script was fetched.
    Script,
    Kernel,
    Initrd,
    /// Any other file.
    File,
    Document,
    /// A document or script could not be made.
    NotRendered,
    /// A request was refused.
    Refused,
    /// The machine said something of its installation.
    CallBack,
    /// Its installation, or what is wanted of it, became another.
    Lifecycle,
    /// Its reservation was written.
    Reserved,
    /// What should have followed did not.
    Stalled,
}

impl Entry {
    /// When it last happened.
    pub fn until_ms(&self) -> u64 {
        self.last_ms.unwrap_or(self.at_ms)
    }

    /// Whether the other says nothing new.
    pub fn repeats(&self, other: &Self) -> bool {
        (self.kind, self.attempt, &self.what, &self.detail)
            == (other.kind, other.attempt, &other.what, &other.detail)
            && self.bytes.is_none()
            && other.bytes.is_none()
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine(id) => write!(f, "machines/{id}"),
            Self::Client(key) => write!(f, "clients/{key}"),
        }
    }
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some(("machines", id)) if !id.is_empty() => Ok(Self::Machine(id.to_owned())),
            Some(("clients", key)) if !key.is_empty() => Ok(Self::Client(key.to_owned())),
            _ => Err("wanted machines/ID or clients/MAC".to_owned()),
        }
    }
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

fn one() -> u32 {
    1
}

fn is_one(count: &u32) -> bool {
    *count == 1
}

fn is_zero(attempt: &u32) -> bool {
    *attempt == 0
}
