//! Finds an address in a subnet's pools that a client may be given.

use std::net::Ipv4Addr;

use super::view::View;
use crate::model::{ClientKey, Pool, Slices};

/// A free address for a client that has none: the one its identity hashes to, or the next free one, so that a client without a
/// record tends to get the address it had. An address that nobody ever held is preferred to one that somebody may return to,
/// and of those the one whose holder has been gone for longest. Costs the same in an empty and in a full pool.
///
/// One of several replicas gives of its own parts of the pools first, so that no two offer one address to two clients.
pub fn find_free(client: &ClientKey, view: &View) -> Option<Ipv4Addr> {
    let pools = view.pools();
    let of_own = match view.own_slices {
        Slices::ALL => None,
        own => find_free_in(&own.of(&pools), client, view),
    };
    of_own.or_else(|| find_free_in(&pools, client, view))
}

fn find_free_in(pools: &[Pool], client: &ClientKey, view: &View) -> Option<Ipv4Addr> {
    let mut ranges = in_turn(pools, stable_hash(client));
    for taken_out in view.taken_out() {
        ranges = without(&ranges, &taken_out);
    }
    loop {
        let longest_free = ranges.iter().map(|range| view.bindings.longest_free(range));
        let (since, address) = longest_free.min_by_key(|(since, _)| *since)?;
        if since > view.now_secs {
            return None;
        }
        if view.is_free_for(client, address) {
            return Some(address);
        }
        // A reservation that the bindings have not been told of.
        ranges = without(&ranges, &Pool::of_one(address));
    }
}

/// The pools' addresses in their order, beginning in the middle of one of them and ending before it.
fn in_turn(pools: &[Pool], hash: u64) -> Vec<Pool> {
    let total: u64 = pools.iter().map(Pool::size).sum();
    let mut skipped = hash.checked_rem(total).unwrap_or(0);
    for (number, pool) in pools.iter().enumerate() {
        if skipped >= pool.size() {
            skipped -= pool.size();
            continue;
        }
        let first =
            u32::try_from(skipped).map_or(pool.first.to_bits(), |n| pool.first.to_bits() + n);
        let from_there = Pool {
            first: Ipv4Addr::from_bits(first),
            last: pool.last,
        };
        let mut turn = vec![from_there];
        turn.extend(&pools[number + 1..]);
        turn.extend(&pools[..number]);
        turn.extend(pool.without(&from_there));
        return turn;
    }
    Vec::new()
}

fn without(ranges: &[Pool], taken_out: &Pool) -> Vec<Pool> {
    let left = ranges.iter().flat_map(|range| range.without(taken_out));
    left.collect()
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::request::Request;
    use super::super::request::tests::packet;
    use super::super::view::Ingress;
    use super::*;
    use crate::bindings::Bindings;
    use crate::catalog::{Catalog, Change, Settings};
    use crate::model::{Lease, LeaseState, MacAddr, Reservation, Source, Subnet};

    const NOW: u64 = 1000;

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, 0, last)
    }

    fn pool(first: u8, last: u8) -> Pool {
        Pool {
            first: address(first),
            last: address(last),
        }
    }

    fn lease(last: u8, state: LeaseState, expires_secs: u64) -> Lease {
        Lease {
            address: address(last),
            client: ClientKey::Mac(MacAddr([2, 0, 0, 0, 0, last])),
            state,
            expires_secs,
            hostname: None,
            reservation: None,
            circuit_id: None,
        }
    }

    /// Every address in turn, one after the other: slow and plain.
    fn obvious(client: &ClientKey, view: &View) -> Option<Ipv4Addr> {
        let pools = view.pools();
        let mut all: Vec<u32> = (pools.iter())
            .flat_map(|pool| pool.first.to_bits()..=pool.last.to_bits())
            .collect();
        let start = stable_hash(client) % u64::try_from(all.len()).expect("small");
        all.rotate_left(usize::try_from(start).expect("small"));
        let all = all.into_iter().map(Ipv4Addr::from_bits);
        all.filter(|address| view.is_free_for(client, *address))
            .min_by_key(|address| {
                let known = view.bindings.at(*address);
                known.map_or(0, |lease| lease.expires_secs)
            })
    }

    proptest! {
        #[test]
        fn the_address_found_is_the_one_that_a_look_at_each_would_find(
            client in any::<u8>(),
            leases in proptest::collection::vec((100..140_u8, 0..4_u8, 900..1100_u64), 0..60),
            reserved in proptest::collection::vec((95..140_u8, any::<bool>()), 0..10),
            excluded in 98..140_u8,
        ) {
            let mut subnet = Subnet::of("198.18.0.0/24".parse().expect("a network"));
            subnet.router = Some(address(101));
            subnet.pools = vec![pool(100, 109), pool(120, 135)];
            subnet.exclude = vec![pool(excluded, excluded + 2)];
            let mut catalog = Catalog::new(Settings {
                subnets: vec![subnet],
                ..Settings::default()
            });
            let states = [LeaseState::Offered, LeaseState::Bound, LeaseState::Released, LeaseState::Declined];
            let mut bindings: Bindings = leases
                .into_iter()
                .map(|(last, state, expires)| match states[usize::from(state)] {
                    LeaseState::Released => lease(last, LeaseState::Released, expires.min(NOW)),
                    state => lease(last, state, expires),
                })
                .collect();
            for (last, is_told) in reserved {
                let mut own = Reservation::of(format!("node-{last}"), Source::Api);
                own.mac = Some(MacAddr([2, 0, 0, 0, 1, last]));
                own.address = Some(address(last));
                catalog = catalog.with(&Change::Create(own)).unwrap_or(catalog);
                if is_told && catalog.by_address(address(last)).is_some() {
                    bindings.reserve(address(last));
                }
            }
            let request = Request::parse(&packet(&[(53, &[1])])).expect("valid");
            let ingress = Ingress {
                server_id: address(122),
                is_unicast: false,
                authoritative: false,
                now_secs: NOW,
            };
            let view = View::new(&request, &catalog, &bindings, ingress).expect("a subnet");
            let client = ClientKey::Mac(MacAddr([2, 0, 0, 0, 2, client]));
            prop_assert_eq!(find_free(&client, &view), obvious(&client, &view));
        }
    }
}
