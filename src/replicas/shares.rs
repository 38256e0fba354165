//! Which replica has which bucket. In: the names of those that live, and their weights. Out: one owner for each bucket, the same
//! wherever it is computed.
//!
//! Each replica draws as many numbers for a bucket as it has weight, and the highest number of all wins (rendezvous hashing).
//! Nobody's numbers depend on who else is there: one that joins takes only what it wins, and what one leaves goes to those that
//! were second, each its part.

use super::bucket::BUCKETS;

/// The heaviest a replica can be.
pub const MOST_WEIGHT: u16 = 100;

/// One that takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    pub id: &'a str,
    /// 0 to 100. With 0 it has a bucket only where nobody has a weight.
    pub weight: u16,
}

/// The buckets, each with its owner's place among the candidates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares(Option<Box<[u16; BUCKETS]>>);

impl Shares {
    /// Deals the buckets. Without candidates none has an owner.
    pub fn deal(candidates: &[Candidate]) -> Self {
        let all_are_weightless = candidates.iter().all(|c| c.weight == 0);
        let draws = |candidate: &Candidate| match all_are_weightless {
            true => 1,
            false => candidate.weight.min(MOST_WEIGHT),
        };
        let best = |bucket: usize| {
            let highest = candidates
                .iter()
                .enumerate()
                .filter_map(|(place, candidate)| {
                    let numbers = (0..draws(candidate)).map(|n| number(candidate.id, bucket, n));
                    // Two that draw alike are told apart by their names.
                    Some((numbers.max()?, candidate.id, place))
                });
            let (_, _, place) = highest.max()?;
            u16::try_from(place).ok()
        };
        let mut owners = Box::new([0; BUCKETS]);
        for (bucket, owner) in owners.iter_mut().enumerate() {
            match best(bucket) {
                Some(place) => *owner = place,
                None => return Self(None),
            }
        }
        Self(Some(owners))
    }

    /// The owner's place among the candidates.
    pub fn owner(&self, bucket: u8) -> Option<usize> {
        Some(usize::from(self.0.as_ref()?[usize::from(bucket)]))
    }

    /// How many buckets the candidate at this place has.
    pub fn count(&self, place: usize) -> usize {
        let owners = self.0.iter().flat_map(|owners| owners.iter());
        owners.filter(|owner| usize::from(**owner) == place).count()
    }
}

/// What a replica draws. FNV-1a with the end of splitmix64: the same on every machine and in every version.
fn number(id: &str, bucket: usize, draw: u16) -> u64 {
    let [low, high] = draw.to_le_bytes();
    let octets = id.bytes().chain([0, bucket.to_le_bytes()[0], low, high]);
    mix(octets)
}

/// A hash of octets, well mixed.
pub(super) fn mix(octets: impl Iterator<Item = u8>) -> u64 {
    let hash = octets.fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidates<'a>(ids: &'a [String], weights: &[u16]) -> Vec<Candidate<'a>> {
        (ids.iter().zip(weights))
            .map(|(id, weight)| Candidate {
                id,
                weight: *weight,
            })
            .collect()
    }

    fn owners<'a>(candidates: &[Candidate<'a>]) -> Vec<&'a str> {
        let shares = Shares::deal(candidates);
        (0..=255)
            .map(|bucket| candidates[shares.owner(bucket).expect("somebody lives")].id)
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn every_bucket_has_exactly_one_owner_whatever_the_order(
            weights in proptest::collection::vec(0..=MOST_WEIGHT, 1..8),
            turn in 0..8_usize,
        ) {
            let ids: Vec<String> = (0..weights.len()).map(|n| format!("replica-{n}")).collect();
            let all = candidates(&ids, &weights);
            let mut turned = all.clone();
            turned.rotate_left(turn % all.len());
            prop_assert_eq!(owners(&all), owners(&turned));
            let shares = Shares::deal(&all);
            let counts: usize = (0..all.len()).map(|place| shares.count(place)).sum();
            prop_assert_eq!(counts, BUCKETS);
        }

        #[test]
        fn who_joins_takes_from_the_others_and_who_leaves_gives_to_them_and_nothing_else_moves(
            weights in proptest::collection::vec(1..=MOST_WEIGHT, 2..8),
            who in 0..8_usize,
        ) {
            let ids: Vec<String> = (0..weights.len()).map(|n| format!("replica-{n}")).collect();
            let with = candidates(&ids, &weights);
            let who = who % with.len();
            let mut without = with.clone();
            without.remove(who);
            for (before, after) in owners(&without).into_iter().zip(owners(&with)) {
                prop_assert!(after == before || after == with[who].id);
            }
        }

        #[test]
        fn who_gets_heavier_only_gains(weight in 1..MOST_WEIGHT, more in 1..MOST_WEIGHT) {
            let ids = ["a", "b", "c"].map(str::to_owned);
            let heavier = weight.saturating_add(more).min(MOST_WEIGHT);
            let before = owners(&candidates(&ids, &[weight, 10, 10]));
            let after = owners(&candidates(&ids, &[heavier, 10, 10]));
            for (before, after) in before.into_iter().zip(after) {
                prop_assert!(after == before || after == "a");
            }
        }
    }

    #[test]
    fn shares_follow_weights() {
        // Over many names: 256 buckets alone say little.
        let mut first = 0;
        for n in 0..50 {
            let ids = [format!("a{n}"), format!("b{n}")];
            first += Shares::deal(&candidates(&ids, &[30, 10])).count(0);
        }
        let percent = first * 100 / (50 * BUCKETS);
        assert!((72..=78).contains(&percent), "{percent}");
    }

    #[test]
    fn who_weighs_nothing_has_nothing_unless_nobody_weighs_anything() {
        let ids = ["a", "b"].map(str::to_owned);
        assert_eq!(Shares::deal(&candidates(&ids, &[0, 1])).count(0), 0);
        let all_weightless = Shares::deal(&candidates(&ids, &[0, 0]));
        assert!(all_weightless.count(0) > 90 && all_weightless.count(1) > 90);
        assert_eq!(Shares::deal(&[]).owner(0), None);
    }

    #[test]
    fn shares_are_the_same_in_every_version() {
        // Two versions that differ here would answer some clients both and others not at all while they are rolled.
        let ids = ["a", "b", "c"].map(str::to_owned);
        let shares = Shares::deal(&candidates(&ids, &[10, 10, 10]));
        let first: Vec<Option<usize>> = (0..16).map(|bucket| shares.owner(bucket)).collect();
        let golden = [1, 1, 0, 1, 0, 2, 2, 1, 0, 0, 1, 1, 2, 1, 2, 0];
        assert_eq!(first, golden.map(Some));
        assert_eq!([0, 1, 2].map(|place| shares.count(place)), [94, 77, 85]);
    }
}
