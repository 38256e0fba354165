//! How much of what happens is noted: so many events a second, and far fewer of clients that nobody knows, so that a flood under
//! made-up names costs the packet path next to nothing and leaves room for what happens to machines. In: the second it happens in.
//! Out: whether it is noted.

use std::sync::atomic::{AtomicU64, Ordering};

/// A thousand machines that boot at once have some five hundred events a second.
pub const OF_MACHINES: u64 = 5_000;
pub const OF_CLIENTS: u64 = 500;

/// What is left of one second: the second in the upper half, what was taken of it in the lower.
#[derive(Debug, Default)]
pub struct Budget(AtomicU64);

impl Budget {
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Takes one of `most` in this second. Two that come at once may both be told of the last one.
    pub fn take(&self, now_secs: u64, most: u64) -> bool {
        let second = now_secs << 32;
        let seen = self.0.load(Ordering::Relaxed);
        let taken = if seen & !0xffff_ffff == second {
            seen & 0xffff_ffff
        } else {
            0
        };
        if taken >= most {
            return false;
        }
        self.0.store(second | (taken + 1), Ordering::Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_own_budget() {
        let budget = Budget::new();
        for second in [0, 1, 2, 1_800_000_000] {
            let taken = (0..100).filter(|_| budget.take(second, 7)).count();
            assert_eq!(taken, 7, "second {second}");
        }
    }
}
