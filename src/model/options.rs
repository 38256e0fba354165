//! DHCP options as they are configured: content by code.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::reservation::Octets;

/// Options of one layer, each with the content it is sent with. Longer than 255 octets is sent in parts (RFC 3396).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Options(pub BTreeMap<u8, Octets>);

/// Where an option's content was said; a later one wins over an earlier.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    Global,
    Subnet,
    Class(String),
    Reservation,
    /// What holds while the machine is being installed.
    Installation,
}

impl Options {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Global => f.write_str("global"),
            Self::Subnet => f.write_str("subnet"),
            Self::Class(name) => write!(f, "class {name}"),
            Self::Reservation => f.write_str("reservation"),
            Self::Installation => f.write_str("installation"),
        }
    }
}
