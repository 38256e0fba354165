//! Finds an address in a subnet's pools that a client may be given.

use std::net::Ipv4Addr;

use super::view::View;
use crate::model::{ClientKey, Pool};

/// A free address for a client that has none: the one its identity hashes to, or the next free one, so that a client without a
/// record tends to get the address it had. An address that nobody ever held is preferred to one that somebody may return to.
pub fn find_free(client: &ClientKey, view: &View) -> Option<Ipv4Addr> {
    let pools = view.pools();
    let total: u64 = pools.iter().map(Pool::size).sum();
    if total == 0 {
        return None;
    }
    let start = stable_hash(client) % total;
    let mut held_before = None;
    for address in (0..total).filter_map(|step| nth(&pools, (start + step) % total)) {
        if !view.is_free_for(client, address) {
            continue;
        }
        if view.bindings.at(address).is_none() {
            return Some(address);
        }
        held_before = held_before.or(Some(address));
    }
    held_before
}

fn nth(pools: &[Pool], mut index: u64) -> Option<Ipv4Addr> {
    for pool in pools {
        if index < pool.size() {
            let offset = u32::try_from(index).ok()?;
            return Some(Ipv4Addr::from_bits(pool.first.to_bits() + offset));
        }
        index -= pool.size();
    }
    None
}

/// FNV-1a with a final mix, so that neighbouring MACs spread: the same on every machine and in every version.
fn stable_hash(client: &ClientKey) -> u64 {
    let octets: &[u8] = match client {
        ClientKey::Mac(mac) => &mac.0,
        ClientKey::Id(id) => id,
    };
    let hash = octets
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
            (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3)
        });
    (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20
}
