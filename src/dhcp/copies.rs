//! Copies of one packet. In: relayed packets as they come, each with who sent it. Out: whether the same one has come another way
//! just before: a relay agent that knows several replicas sends to each of them, and those that do not own the client send it on.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::Ipv4Addr;

/// A copy comes this soon or never; a client that is not answered waits longer before it sends again.
const GENERATION_MS: u64 = 400;
/// How many packets one generation remembers; the one before is remembered too.
const MOST: usize = 16_384;

/// The packets of the last moments.
#[derive(Debug, Default)]
pub struct Copies {
    hasher: RandomState,
    /// Who sent a packet first, by its hash.
    current: HashMap<u64, Ipv4Addr>,
    previous: HashMap<u64, Ipv4Addr>,
    rotated_ms: u64,
}

impl Copies {
    /// Whether these octets came from somebody else just before. `now_ms` only ever grows.
    pub fn holds(&mut self, octets: &[u8], from: Ipv4Addr, now_ms: u64) -> bool {
        let age = now_ms.saturating_sub(self.rotated_ms);
        if self.current.len() >= MOST || age >= GENERATION_MS {
            self.previous = std::mem::take(&mut self.current);
            self.rotated_ms = now_ms;
            if age >= 2 * GENERATION_MS {
                self.previous.clear();
            }
        }
        let hash = self.hasher.hash_one(octets);
        let first = self.current.get(&hash).or_else(|| self.previous.get(&hash));
        match first {
            Some(first) if *first != from => true,
            _ => {
                self.current.insert(hash, from);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 250);
    const PEER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

    #[test]
    fn the_same_octets_from_somebody_else_are_a_copy_for_a_moment() {
        let mut copies = Copies::default();
        assert!(!copies.holds(b"a", AGENT, 0));
        assert!(copies.holds(b"a", PEER, 1));
        assert!(!copies.holds(b"b", PEER, 2), "another packet");
        assert!(!copies.holds(b"a", AGENT, 3), "its sender sends it again");
        assert!(copies.holds(b"a", PEER, 500));
        assert!(!copies.holds(b"a", PEER, 3000), "that is long ago");
        assert!(copies.holds(b"a", AGENT, 3001));
    }

    #[test]
    fn no_flood_makes_it_remember_without_bound() {
        let mut copies = Copies::default();
        for n in 0..100_000_u32 {
            copies.holds(&n.to_be_bytes(), AGENT, 1);
        }
        assert!(copies.current.len() + copies.previous.len() <= 2 * MOST);
    }
}
