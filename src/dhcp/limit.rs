//! Flood protection: how many packets one client may have answered. In: who sent a packet, and when. Out: whether it is looked
//! at. Memory is bounded however many clients there seem to be.
//!
//! Each client draws from an allowance of its own, so that no flood under other names can starve it.

use std::collections::HashMap;

use crate::model::ClientKey;

/// How many clients one generation remembers; the one before is remembered too.
const CLIENTS: usize = 65_536;
/// A client that was silent for so long has its whole allowance back.
const GENERATION_MS: u64 = 10_000;

/// How much one client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Packets a second in the long run; 0 for no limit.
    pub per_second: u32,
    /// Packets at once. A PXE ROM, iPXE and an installer together send some twenty in a boot.
    pub burst: u32,
}

/// The allowances of the clients seen lately.
#[derive(Debug)]
pub struct Limiter {
    limit: Limit,
    current: HashMap<ClientKey, Allowance>,
    previous: HashMap<ClientKey, Allowance>,
    rotated_ms: u64,
}

/// What is left of a client's burst, in thousandths of a packet, at a time.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    left: u64,
    at_ms: u64,
}

impl Limiter {
    pub fn new(limit: Limit) -> Self {
        Self {
            limit,
            current: HashMap::new(),
            previous: HashMap::new(),
            rotated_ms: 0,
        }
    }

    /// Takes one packet from the client's allowance; false if there is none left. `now_ms` only ever grows.
    pub fn admits(&mut self, client: &ClientKey, now_ms: u64) -> bool {
        if self.limit.per_second == 0 {
            return true;
        }
        if self.current.len() >= CLIENTS || now_ms.saturating_sub(self.rotated_ms) >= GENERATION_MS
        {
            self.previous = std::mem::take(&mut self.current);
            self.rotated_ms = now_ms;
        }
        let whole = u64::from(self.limit.burst) * 1000;
        let known = self
            .current
            .get(client)
            .or_else(|| self.previous.get(client));
        let left = known.map_or(whole, |allowance| {
            let earned = now_ms.saturating_sub(allowance.at_ms) * u64::from(self.limit.per_second);
            (allowance.left + earned).min(whole)
        });
        let admitted = left >= 1000;
        let allowance = Allowance {
            left: if admitted { left - 1000 } else { left },
            at_ms: now_ms,
        };
        self.current.insert(client.clone(), allowance);
        admitted
    }

    /// How many clients are remembered.
    pub fn len(&self) -> usize {
        self.current.len() + self.previous.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit {
        per_second: 10,
        burst: 20,
    };

    fn client(n: u32) -> ClientKey {
        ClientKey::Id(n.to_be_bytes().to_vec())
    }

    #[test]
    fn a_client_has_its_burst_and_then_its_rate() {
        let mut limiter = Limiter::new(LIMIT);
        let admitted = (0..100).filter(|_| limiter.admits(&client(1), 0)).count();
        assert_eq!(admitted, 20);
        let later = (0..100)
            .filter(|_| limiter.admits(&client(1), 1000))
            .count();
        assert_eq!(later, 10);
        let rested = (0..100)
            .filter(|_| limiter.admits(&client(1), 60_000))
            .count();
        assert_eq!(rested, 20);
    }

    #[test]
    fn a_flood_under_other_names_takes_nothing_from_a_client_and_no_memory_without_bound() {
        let mut limiter = Limiter::new(LIMIT);
        for n in 0..300_000 {
            limiter.admits(&client(n + 10), u64::from(n / 100));
            assert!(limiter.len() <= 2 * CLIENTS);
        }
        assert!(limiter.admits(&client(1), 3000));
    }

    #[test]
    fn a_client_does_not_get_a_new_burst_because_others_were_remembered_meanwhile() {
        let mut limiter = Limiter::new(LIMIT);
        while limiter.admits(&client(1), 0) {}
        for n in 0..70_000 {
            limiter.admits(&client(n + 10), 0);
        }
        assert!(!limiter.admits(&client(1), 0));
    }

    #[test]
    fn without_a_limit_everything_is_admitted_and_nothing_remembered() {
        let mut limiter = Limiter::new(Limit {
            per_second: 0,
            burst: 0,
        });
        assert!((0..1000).all(|_| limiter.admits(&client(1), 0)));
        assert!(limiter.is_empty());
    }
}
