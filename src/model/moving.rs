//! What is kept with a reservation beside what it says: the call that made it, and the way of its machine to another address.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// The call that made a reservation, so that one that is repeated makes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestId {
    /// A UUID in lower case, made by the caller.
    pub id: String,
    /// Of all that the call said.
    pub digest: String,
}

/// The last change that gave a machine another address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The store's revision that the change made.
    pub revision: u64,
    /// The address that the machine had, if one was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Ipv4Addr>,
    /// The address that it is to take.
    pub to: Ipv4Addr,
    /// Unix time in seconds.
    pub since_secs: u64,
    /// When it is given up.
    pub deadline_secs: u64,
}
