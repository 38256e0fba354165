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
    /// How an address is looked for before it is first offered to a client, if it is.
    pub probe: Option<AddressProbe>,
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

/// How it is found out whether somebody uses an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressProbe {
    /// On the segment itself: whoever has the address must answer.
    Arp,
    /// Behind relay agents too; whoever drops echoes is not found.
    Icmp,
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
            probe: None,
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

    /// The addresses that no machine can be given, as `can_be_given` has it.
    pub fn never_given(&self) -> impl Iterator<Item = Ipv4Addr> {
        let ends = [self.cidr.network(), self.cidr.broadcast()];
        let never = ends.into_iter().chain(self.router);
        never.filter(|address| !self.can_be_given(*address))
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

    /// One address alone.
    pub fn of_one(address: Ipv4Addr) -> Self {
        Self {
            first: address,
            last: address,
        }
    }

    /// What is left of it beside the other: nothing, one range or two.
    pub fn without(&self, other: &Self) -> impl Iterator<Item = Self> + use<> {
        let (first, last) = (self.first.to_bits(), self.last.to_bits());
        let before = other
            .first
            .to_bits()
            .checked_sub(1)
            .map(|end| (first, end.min(last)));
        let after = other
            .last
            .to_bits()
            .checked_add(1)
            .map(|start| (start.max(first), last));
        [before, after]
            .into_iter()
            .flatten()
            .filter(|(first, last)| first <= last)
            .map(|(first, last)| Self {
                first: Ipv4Addr::from_bits(first),
                last: Ipv4Addr::from_bits(last),
            })
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
