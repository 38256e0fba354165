//! Parts of pools: so that several who give addresses of the same pools each begin somewhere else.

use std::net::Ipv4Addr;

use super::Pool;

/// Some of the equal parts that pools, taken as one, are cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slices(u32);

impl Slices {
    /// How many parts there are.
    pub const COUNT: u32 = 32;
    pub const ALL: Self = Self(u32::MAX);

    /// Those that `is_one` says yes to; all of them rather than none.
    pub fn chosen(is_one: impl Fn(u32) -> bool) -> Self {
        let chosen = (0..Self::COUNT).filter(|number| is_one(*number));
        match chosen.fold(0, |mask, number| mask | (1 << number)) {
            0 => Self::ALL,
            mask => Self(mask),
        }
    }

    /// The addresses of these pools that are in the parts, in the pools' order.
    pub fn of(self, pools: &[Pool]) -> Vec<Pool> {
        let mut found: Vec<Pool> = Vec::new();
        let total: u64 = pools.iter().map(Pool::size).sum();
        let begin = |number: u32| total * u64::from(number) / u64::from(Self::COUNT);
        let mut number = 0;
        while number < Self::COUNT {
            if self.0 & (1 << number) == 0 {
                number += 1;
                continue;
            }
            let first = number;
            while number < Self::COUNT && self.0 & (1 << number) != 0 {
                number += 1;
            }
            found.extend(stretch(pools, begin(first), begin(number)));
        }
        found
    }
}

/// The addresses from this place among all of the pools up to, and without, that one.
fn stretch(pools: &[Pool], from: u64, to: u64) -> impl Iterator<Item = Pool> {
    let mut before = 0;
    pools.iter().filter_map(move |pool| {
        let (begin, end) = (before, before + pool.size());
        before = end;
        let (first, last) = (from.max(begin), to.min(end));
        let at = |place: u64| {
            let offset =
                u32::try_from(place - begin).expect("a pool has no more addresses than there are");
            Ipv4Addr::from_bits(pool.first.to_bits() + offset)
        };
        (first < last).then(|| Pool {
            first: at(first),
            last: at(last - 1),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(first: u8, last: u8) -> Pool {
        let address = |last| Ipv4Addr::new(198, 18, 0, last);
        Pool {
            first: address(first),
            last: address(last),
        }
    }

    fn addresses(pools: &[Pool]) -> Vec<u32> {
        (pools.iter())
            .flat_map(|pool| pool.first.to_bits()..=pool.last.to_bits())
            .collect()
    }

    #[test]
    fn parts_that_make_up_the_whole_hold_each_address_once() {
        for pools in [
            vec![pool(10, 10)],
            vec![pool(1, 20), pool(40, 45)],
            vec![pool(0, 255)],
            vec![pool(5, 6), pool(8, 8), pool(100, 199)],
            vec![],
        ] {
            let third = |n| Slices::chosen(|number| number % 3 == n).of(&pools);
            let mut parts = [third(0), third(1), third(2)].concat();
            parts.sort_by_key(|pool| pool.first);
            assert_eq!(addresses(&parts), addresses(&pools));
            assert_eq!(Slices::ALL.of(&pools), pools);
        }
    }

    #[test]
    fn who_has_no_part_has_all() {
        assert_eq!(Slices::chosen(|_| false), Slices::ALL);
    }
}
