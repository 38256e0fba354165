//! Subnets and the pools in them.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::Serialize;

use super::Options;

/// One IPv4 network that addresses are given out in, and what its clients are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subnet {
    /// The network, without host bits.
    pub cidr: Ipv4Net,
    /// Ranges that machines without a reserved address are served from, ordered and apart.
    pub pools: Vec<Pool>,
    /// Addresses of the pools that nobody gets.
    pub exclude: Vec<Pool>,
    /// Options beside those below.
    pub options: Options,
    /// Whether an address is looked for (by ARP) before it is first offered to a client.
    pub probe: bool,
    /// What leases are kept under.
    pub client_policy: ClientPolicy,
    /// Option 3.
    pub router: Option<Ipv4Addr>,
    /// Option 6.
    pub dns: Vec<Ipv4Addr>,
    /// Option 15.
    pub domain: Option<String>,
    /// Option 51, the longest a client is granted.
    pub lease_time: Duration,
}

/// What leases of a subnet are kept under.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientPolicy {
    /// The MAC, whatever client-id comes with it: firmware, initramfs and system each send another one.
    #[default]
    Mac,
    /// The client-id (option 61) where there is one, as RFC 2131 has it: for hosts that share a card.
    ClientId,
}

/// Addresses from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pool {
    pub first: Ipv4Addr,
    pub last: Ipv4Addr,
}

impl Subnet {
    /// A network that nothing is said of: no pool, no router, leases of an hour.
    pub fn of(cidr: Ipv4Net) -> Self {
        Self {
            cidr,
            pools: Vec::new(),
            exclude: Vec::new(),
            options: Options::default(),
            probe: false,
            client_policy: ClientPolicy::default(),
            router: None,
            dns: Vec::new(),
            domain: None,
            lease_time: Duration::from_secs(3600),
        }
    }

    /// Whether a machine can be given this address: inside the network, and neither its network nor its broadcast address nor
    /// the router.
    pub fn can_be_given(&self, address: Ipv4Addr) -> bool {
        let has_both_ends = self.cidr.prefix_len() < 31; // RFC 3021
        self.cidr.contains(&address)
            && Some(address) != self.router
            && !(has_both_ends
                && (address == self.cidr.network() || address == self.cidr.broadcast()))
    }

    /// Whether the address is taken out of the pools.
    pub fn excludes(&self, address: Ipv4Addr) -> bool {
        self.exclude.iter().any(|range| range.holds(address))
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
