//! What becomes of a frame: pure. In: a frame, the port it came in at, the time and a source of chance. Out: the ports it goes to.
//!
//! Learns, floods what it does not know, never sends a frame back to where it came from, keeps isolated ports apart, and
//! counts everything it drops, by reason.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::fib::{Fib, PortKey};
use super::frame::{self, Mac};

/// What one port is like.
#[derive(Clone, Debug, Default)]
pub struct Port {
    /// Isolated ports reach only ports that are not.
    pub isolated: bool,
    /// The cable is pulled.
    pub down: bool,
    pub impairment: Impairment,
    pub counters: Counters,
}

/// A bad cable.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Impairment {
    /// Share of frames that get lost, in each direction: 0 none, 1 all.
    pub loss: f64,
    /// How late frames to the machine are.
    pub delay: Duration,
}

/// What one port has seen. `received` is from the machine, `sent` to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub received_frames: u64,
    pub received_octets: u64,
    pub sent_frames: u64,
    pub sent_octets: u64,
    pub dropped: Drops,
}

/// Frames that went nowhere, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drops {
    /// From the machine: too short, too long, or from a group address.
    pub bad: u64,
    /// The cable is pulled.
    pub link_down: u64,
    /// By chance, as it was asked for.
    pub loss: u64,
    /// To the machine: it does not run.
    pub absent: u64,
    /// To the machine: it does not read, and its queue is full.
    pub full: u64,
    /// To the machine: refused for another reason.
    pub refused: u64,
}

/// The switch without its sockets.
#[derive(Debug, Default)]
pub struct Bridge {
    ports: BTreeMap<PortKey, Port>,
    fib: Fib,
}

impl Bridge {
    /// Plugs a port in.
    pub fn add(&mut self, key: PortKey, port: Port) {
        self.ports.insert(key, port);
    }

    /// Unplugs it; what was learned there is forgotten.
    pub fn remove(&mut self, key: PortKey) {
        self.ports.remove(&key);
        self.fib.forget(key);
    }

    pub fn port(&self, key: PortKey) -> Option<&Port> {
        self.ports.get(&key)
    }

    pub fn port_mut(&mut self, key: PortKey) -> Option<&mut Port> {
        self.ports.get_mut(&key)
    }

    /// The addresses at a port.
    pub fn macs(&self, now: Instant, key: PortKey) -> Vec<Mac> {
        self.fib.macs(now, key)
    }

    /// Where a frame that came in at `from` goes: `to` is cleared and filled. `chance` gives numbers from 0 up to 1.
    /// Returns whether it was a frame that came over the cable at all.
    pub fn forward(
        &mut self,
        now: Instant,
        from: PortKey,
        frame: &[u8],
        chance: &mut impl FnMut() -> f64,
        to: &mut Vec<PortKey>,
    ) -> bool {
        to.clear();
        let Some(port) = self.ports.get_mut(&from) else {
            return false;
        };
        let counters = &mut port.counters;
        let Some((destination, source)) = frame::addresses(frame) else {
            counters.dropped.bad += 1;
            return false;
        };
        if port.down {
            counters.dropped.link_down += 1;
            return false;
        }
        if is_lost(port.impairment.loss, chance) {
            counters.dropped.loss += 1;
            return false;
        }
        counters.received_frames += 1;
        counters.received_octets += frame.len() as u64;
        let isolated = port.isolated;
        self.fib.learn(now, source, from);
        let known = match destination.is_group() {
            true => None,
            false => self.fib.port_of(now, destination),
        };
        for (&key, port) in &mut self.ports {
            let is_wanted = key != from && known.is_none_or(|known| known == key);
            if !is_wanted || isolated && port.isolated {
                continue;
            }
            if port.down {
                port.counters.dropped.link_down += 1;
            } else if is_lost(port.impairment.loss, chance) {
                port.counters.dropped.loss += 1;
            } else {
                to.push(key);
            }
        }
        true
    }
}

fn is_lost(loss: f64, chance: &mut impl FnMut() -> f64) -> bool {
    loss > 0.0 && chance() < loss
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROADCAST: u8 = 0xff;

    /// From the machine with this number to another one.
    fn frame(to: u8, from: u8) -> Vec<u8> {
        let mut frame = vec![0x52, 0x54, 0, 0, 0, to, 0x52, 0x54, 0, 0, 0, from, 8, 0];
        if to == BROADCAST {
            frame[..6].fill(0xff);
        }
        frame
    }

    fn bridge(ports: u32) -> Bridge {
        let mut bridge = Bridge::default();
        for key in 1..=ports {
            bridge.add(PortKey(key), Port::default());
        }
        bridge
    }

    fn sent(bridge: &mut Bridge, from: u32, frame: &[u8]) -> Vec<u32> {
        let mut to = Vec::new();
        bridge.forward(Instant::now(), PortKey(from), frame, &mut || 0.5, &mut to);
        to.iter().map(|key| key.0).collect()
    }

    #[test]
    fn the_unknown_is_flooded_the_known_goes_straight_and_nothing_comes_back() {
        let mut bridge = bridge(3);
        assert_eq!(sent(&mut bridge, 1, &frame(2, 1)), [2, 3]);
        assert_eq!(sent(&mut bridge, 2, &frame(1, 2)), [1]);
        assert_eq!(sent(&mut bridge, 1, &frame(2, 1)), [2]);
        assert_eq!(sent(&mut bridge, 1, &frame(BROADCAST, 1)), [2, 3]);
        // Both on one port: they have heard each other already.
        assert!(sent(&mut bridge, 1, &frame(1, 7)).is_empty());
        assert!(
            sent(&mut bridge, 9, &frame(1, 2)).is_empty(),
            "no such port"
        );
    }

    #[test]
    fn a_machine_that_moved_is_found_at_its_new_port_and_one_that_left_is_sought() {
        let mut bridge = bridge(3);
        sent(&mut bridge, 2, &frame(BROADCAST, 2));
        sent(&mut bridge, 3, &frame(BROADCAST, 2));
        assert_eq!(sent(&mut bridge, 1, &frame(2, 1)), [3]);
        bridge.remove(PortKey(3));
        assert_eq!(sent(&mut bridge, 1, &frame(2, 1)), [2]);
    }

    #[test]
    fn isolated_ports_reach_only_those_that_are_not() {
        let mut bridge = bridge(3);
        for key in [2, 3] {
            bridge.port_mut(PortKey(key)).unwrap().isolated = true;
        }
        assert_eq!(sent(&mut bridge, 2, &frame(BROADCAST, 2)), [1]);
        assert_eq!(sent(&mut bridge, 1, &frame(BROADCAST, 1)), [2, 3]);
        let beside = sent(&mut bridge, 3, &frame(2, 3));
        assert!(beside.is_empty(), "known, and out of reach");
        assert_eq!(sent(&mut bridge, 3, &frame(1, 3)), [1]);
    }

    #[test]
    fn a_pulled_cable_and_a_bad_one_lose_frames_both_ways_and_count_them() {
        let mut bridge = bridge(2);
        bridge.port_mut(PortKey(2)).unwrap().down = true;
        assert!(sent(&mut bridge, 1, &frame(BROADCAST, 1)).is_empty());
        assert!(sent(&mut bridge, 2, &frame(BROADCAST, 2)).is_empty());
        assert_eq!(
            bridge.port(PortKey(2)).unwrap().counters.dropped.link_down,
            2
        );
        let port = bridge.port_mut(PortKey(2)).unwrap();
        port.down = false;
        // Chance is always one half here.
        port.impairment.loss = 0.4;
        assert_eq!(sent(&mut bridge, 1, &frame(BROADCAST, 1)), [2]);
        bridge.port_mut(PortKey(2)).unwrap().impairment.loss = 0.6;
        assert!(sent(&mut bridge, 1, &frame(BROADCAST, 1)).is_empty());
        assert!(sent(&mut bridge, 2, &frame(BROADCAST, 2)).is_empty());
        assert_eq!(bridge.port(PortKey(2)).unwrap().counters.dropped.loss, 2);
    }

    #[test]
    fn what_is_no_frame_is_counted_and_teaches_nothing() {
        let mut bridge = bridge(2);
        let mut spoofed = frame(2, 1);
        spoofed[6] = 0xff;
        assert!(sent(&mut bridge, 1, &spoofed).is_empty());
        assert!(sent(&mut bridge, 1, b"short").is_empty());
        let counters = bridge.port(PortKey(1)).unwrap().counters;
        assert_eq!((counters.dropped.bad, counters.received_frames), (2, 0));
        assert!(bridge.macs(Instant::now(), PortKey(1)).is_empty());
    }
}
