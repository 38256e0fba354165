//! Subnets and the pools in them.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::Serialize;

/// One IPv4 network that addresses are given out in, and what its clients are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subnet {
    /// The network, without host bits.
    pub cidr: Ipv4Net,
    /// Ranges that machines without a reserved address are served from, ordered and apart.
    pub pools: Vec<Pool>,
    /// Option 3.
    pub router: Option<Ipv4Addr>,
    /// Option 6.
    pub dns: Vec<Ipv4Addr>,
    /// Option 15.
    pub domain: Option<String>,
    /// Option 51, the longest a client is granted.
    pub lease_time: Duration,
}

/// Addresses from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pool {
    pub first: Ipv4Addr,
    pub last: Ipv4Addr,
}

impl Subnet {
    /// Whether a machine can be given this address: inside the network, and neither its network nor its broadcast address nor
    /// the router.
    pub fn can_be_given(&self, address: Ipv4Addr) -> bool {
        let has_both_ends = self.cidr.prefix_len() < 31; // RFC 3021
        self.cidr.contains(&address)
            && Some(address) != self.router
            && !(has_both_ends
                && (address == self.cidr.network() || address == self.cidr.broadcast()))
    }

    /// Whether one of the pools holds this address.
    pub fn pools_hold(&self, address: Ipv4Addr) -> bool {
        self.pools.iter().any(|pool| pool.holds(address))
    }
}

impl Pool {
    /// Whether the address lies in the range.
    pub fn holds(&self, address: Ipv4Addr) -> bool {
        self.first <= address && address <= self.last
    }

    /// How many addresses it has.
    pub fn size(&self) -> u64 {
        u64::from(self.last.to_bits()) - u64::from(self.first.to_bits()) + 1
    }
}

impl std::fmt::Display for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}
