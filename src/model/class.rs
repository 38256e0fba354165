//! Client classes: which clients they hold, and what those get.

use std::time::Duration;

use super::{ClientArch, Octets, Options, Pool};

/// Clients that have something in common, and what is different for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    pub name: String,
    pub matches: Match,
    pub options: Options,
    /// Members without a reserved address get one from these, where one of them lies in their subnet; nobody else does.
    pub pools: Vec<Pool>,
    /// The network boot program for members.
    pub program: Option<String>,
    /// The longest lease a member is granted.
    pub lease_time: Option<Duration>,
    /// Members are to ask port 4011 for their boot file (PXE 2.1 §2.5): some firmware does so whatever it is told.
    pub boot_server: bool,
    /// Members are not answered at all.
    pub ignore: bool,
}

/// What a member has in common with the others. Each rule that is given must hold; of a list, one entry must.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Option 60 starts with one of these.
    pub vendor_class: Vec<String>,
    /// Option 77 holds one of these.
    pub user_class: Vec<String>,
    /// Option 93 holds one of these.
    pub arch: Vec<ClientArch>,
    /// The hardware address starts with one of these: a vendor's first three octets, say.
    pub mac_prefix: Vec<Octets>,
    /// The relay agent's circuit-id is one of these.
    pub circuit_id: Vec<Octets>,
}

impl Match {
    /// Whether it has no rule, so that it would hold everybody.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
