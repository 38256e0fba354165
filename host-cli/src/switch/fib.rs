//! Which port a machine's address was last seen at: pure, and told the time.
//!
//! What is not known is flooded, so forgetting is always safe. No port can fill the table for the others.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::frame::Mac;

/// A port of the switch. Never used twice while a switch runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortKey(pub u32);

/// How long an address that is silent is believed to be where it was.
pub const AGE: Duration = Duration::from_secs(300);
/// Addresses of one port that are remembered: a machine that makes addresses up is flooded to, nothing worse.
pub const MACS_PER_PORT: usize = 256;

/// The forwarding table.
#[derive(Debug, Default)]
pub struct Fib {
    entries: HashMap<Mac, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    port: PortKey,
    seen: Instant,
}

impl Entry {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.seen) < AGE
    }
}

impl Fib {
    /// A frame from `mac` came in at `port`. The last port counts.
    pub fn learn(&mut self, now: Instant, mac: Mac, port: PortKey) {
        if mac.is_group() {
            return;
        }
        let known = self.entries.get(&mac).is_some_and(|at| at.port == port);
        if !known && self.count(port) >= MACS_PER_PORT {
            self.entries.retain(|_, entry| entry.is_fresh(now));
            if self.count(port) >= MACS_PER_PORT {
                // Where it was before it is no longer.
                self.entries.remove(&mac);
                return;
            }
        }
        self.entries.insert(mac, Entry { port, seen: now });
    }

    /// Where `mac` is, if that is known.
    pub fn port_of(&self, now: Instant, mac: Mac) -> Option<PortKey> {
        let entry = self.entries.get(&mac)?;
        entry.is_fresh(now).then_some(entry.port)
    }

    /// Nothing is at this port any more.
    pub fn forget(&mut self, port: PortKey) {
        self.entries.retain(|_, entry| entry.port != port);
    }

    /// The addresses at a port, in order.
    pub fn macs(&self, now: Instant, port: PortKey) -> Vec<Mac> {
        let at_port = (self.entries.iter())
            .filter(|(_, entry)| entry.port == port && entry.is_fresh(now))
            .map(|(mac, _)| *mac);
        let mut macs: Vec<Mac> = at_port.collect();
        macs.sort_unstable();
        macs
    }

    fn count(&self, port: PortKey) -> usize {
        (self.entries.values())
            .filter(|entry| entry.port == port)
            .count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mac(last: u16) -> Mac {
        let [high, low] = last.to_be_bytes();
        Mac([0x52, 0x54, 0, 0, high, low])
    }

    #[test]
    fn an_address_is_where_it_was_last_seen_until_it_is_old() {
        let now = Instant::now();
        let mut fib = Fib::default();
        assert_eq!(fib.port_of(now, mac(1)), None);
        fib.learn(now, mac(1), PortKey(1));
        fib.learn(now, mac(1), PortKey(2));
        assert_eq!(fib.port_of(now, mac(1)), Some(PortKey(2)));
        assert!(fib.macs(now, PortKey(1)).is_empty());
        assert_eq!(fib.macs(now, PortKey(2)), [mac(1)]);
        let just = now + AGE - Duration::from_nanos(1);
        assert_eq!(fib.port_of(just, mac(1)), Some(PortKey(2)));
        assert_eq!(fib.port_of(now + AGE, mac(1)), None);
        fib.learn(now + AGE, mac(1), PortKey(2));
        fib.forget(PortKey(2));
        assert_eq!(fib.port_of(now + AGE, mac(1)), None);
    }

    #[test]
    fn a_port_that_makes_addresses_up_takes_no_room_of_others_and_gets_room_again() {
        let now = Instant::now();
        let mut fib = Fib::default();
        fib.learn(now, mac(9999), PortKey(2));
        for last in 0..5000 {
            fib.learn(now, mac(last), PortKey(1));
        }
        assert_eq!(fib.macs(now, PortKey(1)).len(), MACS_PER_PORT);
        assert_eq!(fib.port_of(now, mac(9999)), Some(PortKey(2)));
        // A machine that moved to the full port is no longer sought at the old one.
        fib.learn(now, mac(9999), PortKey(1));
        assert_eq!(fib.port_of(now, mac(9999)), None);
        let later = now + AGE;
        fib.learn(later, mac(6000), PortKey(1));
        assert_eq!(fib.macs(later, PortKey(1)), [mac(6000)]);
    }

    proptest! {
        /// Against the plainest model: the history itself.
        #[test]
        fn what_it_knows_is_what_it_saw_last(
            history in prop::collection::vec((0u64..400, 0u16..40, 0u32..5, any::<bool>()), 0..200),
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut fib = Fib::default();
            let mut seen: Vec<(Instant, Mac, PortKey)> = Vec::new();
            for (pause, last, port, is_gone) in history {
                now += Duration::from_secs(pause / 8);
                let port = PortKey(port);
                if is_gone && last == 0 {
                    fib.forget(port);
                    let history = seen.clone();
                    seen.retain(|(_, mac, _)| {
                        let lasts = history.iter().rev().find(|(_, other, _)| other == mac);
                        lasts.is_none_or(|(_, _, at)| *at != port)
                    });
                } else {
                    fib.learn(now, mac(last), port);
                    seen.push((now, mac(last), port));
                }
                for last in 0..40 {
                    let model = seen.iter().rev().find(|(_, other, _)| *other == mac(last));
                    let wanted = model.filter(|(at, _, _)| now - *at < AGE).map(|(_, _, port)| *port);
                    prop_assert_eq!(fib.port_of(now, mac(last)), wanted);
                }
            }
        }
    }
}
