//! When each address becomes free. In: an address and a time. Out: of a range, the address that has been free for longest,
//! in a number of steps that does not grow with the range or with how much of it is taken.
//!
//! A tree over the 32 bits of an address, four to a level, where every node knows the least time below it. Copies are cheap:
//! they share all that neither of them changes.

use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::model::Pool;

/// Of an address that nobody ever held.
pub const NEVER_HELD: u64 = 0;
/// Of an address that no pool gives away.
pub const NEVER_FREE: u64 = u64::MAX;

/// Ways below a node, and the bits of an address that choose among them.
const WAYS: usize = 16;
const BITS: u32 = 4;

/// Times by address; `NEVER_HELD` where none was set.
#[derive(Clone, Debug, Default)]
pub struct FreeTimes(Arc<Node>);

#[derive(Clone, Debug, Default)]
struct Node {
    /// The least time below each way; at the last level the address's own.
    least: [u64; WAYS],
    below: [Option<Arc<Node>>; WAYS],
}

/// The part of a node that lies in the range asked for: addresses relative to the node's first.
#[derive(Clone, Copy)]
struct Part {
    /// How many bits of an address are decided below one way.
    shift: u32,
    first: u32,
    last: u32,
}

impl FreeTimes {
    pub fn at(&self, address: Ipv4Addr) -> u64 {
        let mut node = &self.0;
        for shift in (0..u32::BITS / BITS).rev().map(|level| level * BITS) {
            let way = way(address.to_bits(), shift);
            match &node.below[way] {
                Some(below) => node = below,
                None => return node.least[way],
            }
        }
        NEVER_HELD
    }

    pub fn set(&mut self, address: Ipv4Addr, time: u64) {
        Arc::make_mut(&mut self.0).set(address.to_bits(), u32::BITS - BITS, time);
    }

    /// The range's least time, and the first address that has it.
    pub fn least_in(&self, range: &Pool) -> (u64, Ipv4Addr) {
        self.least_counted(range, &mut 0)
    }

    /// The same, and how many nodes were looked at.
    fn least_counted(&self, range: &Pool, nodes: &mut usize) -> (u64, Ipv4Addr) {
        let part = Part {
            shift: u32::BITS - BITS,
            first: range.first.to_bits(),
            last: range.last.to_bits(),
        };
        let (time, address) = self.0.least_in(part, nodes);
        (time, Ipv4Addr::from_bits(address))
    }
}

impl Node {
    fn set(&mut self, address: u32, shift: u32, time: u64) {
        let way = way(address, shift);
        if shift == 0 {
            self.least[way] = time;
            return;
        }
        let below = Arc::make_mut(self.below[way].get_or_insert_default());
        below.set(address, shift - BITS, time);
        self.least[way] = below.least.iter().copied().min().unwrap_or(NEVER_HELD);
        if below.is_empty() {
            self.below[way] = None;
        }
    }

    fn is_empty(&self) -> bool {
        self.least == [NEVER_HELD; WAYS] && self.below.iter().all(Option::is_none)
    }

    /// Looks below the first and the last way where the part does not cover them whole, and below the best of the others.
    fn least_in(&self, part: Part, nodes: &mut usize) -> (u64, u32) {
        *nodes += 1;
        let (first, last) = (way(part.first, part.shift), way(part.last, part.shift));
        let whole = (1_u32 << part.shift) - 1;
        let cut_first = (part.first & whole != 0).then_some(first);
        let cut_last = (part.last & whole != whole).then_some(last);
        let covered =
            (first..=last).filter(|way| Some(*way) != cut_first && Some(*way) != cut_last);
        let covered = covered.min_by_key(|way| self.least[*way]);
        let cut_last = cut_last.filter(|last| cut_first != Some(*last));
        let mut best: Option<(u64, u32)> = None;
        for way in [cut_first, covered, cut_last].into_iter().flatten() {
            let is_better = |time: u64| best.is_none_or(|(least, _)| time < least);
            if is_better(self.least[way]) {
                let found = self.least_below(way, part, nodes);
                best = Some(found).filter(|(time, _)| is_better(*time)).or(best);
            }
        }
        best.unwrap_or((NEVER_FREE, part.first))
    }

    fn least_below(&self, way: usize, part: Part, nodes: &mut usize) -> (u64, u32) {
        let whole = (1_u32 << part.shift) - 1;
        let start = u32::try_from(way).unwrap_or(0) << part.shift;
        let below = Part {
            shift: part.shift.saturating_sub(BITS),
            first: part.first.saturating_sub(start),
            last: (part.last - start).min(whole),
        };
        match &self.below[way] {
            Some(node) => {
                let (time, address) = node.least_in(below, nodes);
                (time, start + address)
            }
            None => (self.least[way], start + below.first),
        }
    }
}

fn way(address: u32, shift: u32) -> usize {
    (address >> shift) as usize % WAYS
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn range(first: u32, last: u32) -> Pool {
        Pool {
            first: Ipv4Addr::from_bits(first),
            last: Ipv4Addr::from_bits(last),
        }
    }

    #[test]
    fn the_longest_free_address_is_found_at_the_same_cost_in_a_small_and_a_large_and_a_full_range()
    {
        let start = Ipv4Addr::new(198, 18, 0, 0).to_bits();
        let mut times = FreeTimes::default();
        let mut most = 0;
        for taken in 0..1 << 16 {
            // One after the other is taken, in an order that leaves holes all over.
            let address = start + (taken * 40_503) % (1 << 16);
            times.set(Ipv4Addr::from_bits(address), 1_000_000 - u64::from(taken));
            if taken % 257 == 0 || taken > 65_500 {
                let mut nodes = 0;
                let (time, _) = times.least_counted(&range(start, start + 65_535), &mut nodes);
                assert_eq!(time == NEVER_HELD, taken < 65_535, "{taken}");
                times.least_counted(&range(start + 4999, start + 60_001), &mut nodes);
                most = most.max(nodes);
            }
        }
        assert!(most <= 40, "{most} nodes for two questions");
        let (time, _) = times.least_in(&range(start, start + 65_535));
        assert_eq!(time, 1_000_000 - 65_535);
    }

    #[test]
    fn the_ends_of_the_address_space_are_addresses_like_others() {
        let mut times = FreeTimes::default();
        for address in [0, u32::MAX] {
            times.set(Ipv4Addr::from_bits(address), 7);
            assert_eq!(times.at(Ipv4Addr::from_bits(address)), 7);
        }
        assert_eq!(times.least_in(&range(0, u32::MAX)).1.to_bits(), 1);
        assert_eq!(times.least_in(&range(u32::MAX, u32::MAX)).0, 7);
    }

    #[test]
    fn what_is_taken_back_leaves_nothing_behind() {
        let mut times = FreeTimes::default();
        for address in 0..5000 {
            times.set(Ipv4Addr::from_bits(address * 77_777), 9);
        }
        for address in 0..5000 {
            times.set(Ipv4Addr::from_bits(address * 77_777), NEVER_HELD);
        }
        assert!(times.0.is_empty());
    }

    proptest! {
        /// Against the obvious way to find it.
        #[test]
        fn the_first_of_the_least_is_found(
            set in proptest::collection::vec((0..600_u32, 0..5_u64), 0..700),
            ends in (0..600_u32, 0..600_u32),
        ) {
            let (mut times, mut plain) = (FreeTimes::default(), BTreeMap::new());
            for (address, time) in set {
                times.set(Ipv4Addr::from_bits(address), time);
                plain.insert(address, time);
            }
            let (first, last) = (ends.0.min(ends.1), ends.0.max(ends.1));
            let at = |address: u32| plain.get(&address).copied().unwrap_or(NEVER_HELD);
            let wanted = (first..=last).map(|address| (at(address), address)).min();
            let (time, address) = times.least_in(&range(first, last));
            prop_assert_eq!(Some((time, address.to_bits())), wanted);
            prop_assert_eq!(times.at(address), time);
        }
    }
}
