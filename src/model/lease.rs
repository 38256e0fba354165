//! Leases: addresses granted for a time, and the states around them.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{MacAddr, Octets, hex};

/// How long an offered address is held: a PXE ROM repeats its DISCOVER after 4, 8, 16 and 32 seconds (PXE 2.1 §2.2.2).
pub const OFFER_HOLD_SECS: u64 = 64;

/// Who a lease belongs to: the MAC for Ethernet, whatever client-id firmware, initramfs and operating system send in turn; the
/// client-id (option 61) or the raw hardware address for links without a 6-byte one (RFC 4390).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientKey {
    Mac(MacAddr),
    Id(Vec<u8>),
}

/// One address and its holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub address: Ipv4Addr,
    pub client: ClientKey,
    pub state: LeaseState,
    /// Unix time in seconds at which the state ends.
    pub expires_secs: u64,
    /// The name the client gave itself (option 12), if it did.
    pub hostname: Option<String>,
    /// The id of the reservation it was granted by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// The port its client is plugged in, as a relay agent said (option 82, sub-option 1): who renews does so past the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_id: Option<Octets>,
}

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// Offered and held for the client's answer; in memory only.
    Offered,
    /// Acknowledged.
    Bound,
    /// Given back; kept so that the client can return to it.
    Released,
    /// A client found it in use by somebody else (RFC 2131 §4.3.3); nobody gets it until the state ends.
    Declined,
    /// An operator took it back: it is free for others, and its holder is refused when it asks to go on with it.
    Revoked,
}

/// What a decision wants changed in the bindings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindingChange {
    /// Replaces whatever is known of the lease's address.
    Put(Lease),
    /// Forgets an offer that the client did not take; anything but an offer to this client stays.
    Withdraw {
        address: Ipv4Addr,
        client: ClientKey,
    },
}

impl Lease {
    /// Whether the state still holds at `now_secs`.
    pub fn is_current(&self, now_secs: u64) -> bool {
        now_secs < self.expires_secs
    }

    /// Whether both were granted to one machine by its reservation, whichever of its identities it showed.
    pub fn same_machine(&self, other: &Self) -> bool {
        self.reservation.is_some() && self.reservation == other.reservation
    }

    /// Whether nobody but `client` may be given the address at `now_secs`.
    pub fn keeps_out(&self, client: &ClientKey, now_secs: u64) -> bool {
        match self.state {
            LeaseState::Offered | LeaseState::Bound => {
                self.client != *client && self.is_current(now_secs)
            }
            LeaseState::Declined => self.is_current(now_secs),
            LeaseState::Released | LeaseState::Revoked => false,
        }
    }
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => mac.fmt(f),
            Self::Id(bytes) => {
                f.write_str("id-")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl FromStr for ClientKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(digits) = text.strip_prefix("id-") else {
            return text
                .parse()
                .map(Self::Mac)
                .map_err(|e: super::MalformedMac| e.to_string());
        };
        hex::octets(digits)
            .map(Self::Id)
            .ok_or_else(|| format!("`{text}` is not a client key"))
    }
}

impl Serialize for ClientKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ClientKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}
