//! How things stand, for whoever reads the metrics. In: the store. Out: leases, pools and machines, counted.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::model::{LeaseState, Pool, Subnet};
use crate::observe::Standing;
use crate::store::Store;

const LEASE_STATES: [(LeaseState, &str); 4] = [
    (LeaseState::Offered, "offered"),
    (LeaseState::Bound, "bound"),
    (LeaseState::Released, "released"),
    (LeaseState::Declined, "declined"),
];
const PHASES: [&str; 5] = ["idle", "armed", "installing", "installed", "failed"];

/// Counts what there is now. Every state is there, also when nothing is in it.
pub(super) fn count(store: &Store, now_secs: u64) -> Standing {
    let (catalog, bindings) = (store.catalog(), store.bindings());
    let mut leases = LEASE_STATES.map(|(_, name)| (name, 0)).to_vec();
    let mut expired = 0;
    let mut taken: BTreeMap<usize, u64> = BTreeMap::new();
    for lease in bindings.iter() {
        let kind = LEASE_STATES
            .iter()
            .position(|(state, _)| *state == lease.state);
        if !lease.is_current(now_secs) {
            expired += 1;
            continue;
        }
        if let Some(kind) = kind {
            leases[kind].1 += 1;
        }
        let holds = |subnet: &Subnet| is_given(subnet, lease.address);
        if lease.state != LeaseState::Released
            && let Some(subnet) = catalog.subnets().iter().position(holds)
        {
            *taken.entry(subnet).or_default() += 1;
        }
    }
    leases.push(("expired", expired));
    let pools = catalog.subnets().iter().enumerate().map(|(n, subnet)| {
        let taken = taken.get(&n).copied().unwrap_or_default();
        (subnet.cidr.to_string(), taken, size(subnet))
    });
    let mut phases: BTreeMap<&'static str, u64> = PHASES.map(|phase| (phase, 0)).into();
    for machine in catalog.machines() {
        *phases.entry(machine.phase.as_str()).or_default() += 1;
    }
    let health = store.health();
    Standing {
        leases,
        pools: pools.collect(),
        machines: phases.into_iter().collect(),
        journal: (health.journal_bytes, health.journal_age_secs),
        store_in_trouble: health.trouble.is_some(),
        store_is_away: health.away_since_secs.is_some(),
    }
}

fn is_given(subnet: &Subnet, address: Ipv4Addr) -> bool {
    let holds = |pool: &Pool| (pool.first..=pool.last).contains(&address);
    subnet.pools.iter().any(holds) && !subnet.exclude.iter().any(holds)
}

/// Addresses of the subnet's pools that somebody can have.
fn size(subnet: &Subnet) -> u64 {
    let length = |first: Ipv4Addr, last: Ipv4Addr| {
        u64::from(u32::from(last))
            .saturating_add(1)
            .saturating_sub(u32::from(first).into())
    };
    let (pools, exclude) = (&subnet.pools, &subnet.exclude);
    let all: u64 = pools.iter().map(|pool| length(pool.first, pool.last)).sum();
    let overlaps = pools.iter().flat_map(|pool| {
        exclude
            .iter()
            .map(move |gap| length(pool.first.max(gap.first), pool.last.min(gap.last)))
    });
    all.saturating_sub(overlaps.sum())
}
