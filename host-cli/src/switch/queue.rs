//! Frames that wait for a machine to read, or for their delay to be over: pure, and told the time.
//!
//! A unix datagram socket holds some ten datagrams (Linux: net.unix.max_dgram_qlen), fewer than one TCP window: without a
//! queue every burst would lose its end. The queue is bounded, as every switch's.

use std::collections::VecDeque;
use std::time::Instant;

/// Most frames that wait.
pub const FRAMES_MAX: usize = 1024;
/// Most octets that wait.
pub const OCTETS_MAX: usize = 4 << 20;

/// What waits for one machine, in order.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: VecDeque<(Instant, Box<[u8]>)>,
    octets: usize,
}

impl Queue {
    /// Puts a frame at the end, to leave at `due` or later: frames do not overtake each other. Whether there was room.
    pub fn push(&mut self, due: Instant, frame: &[u8]) -> bool {
        if self.waiting.len() >= FRAMES_MAX || self.octets + frame.len() > OCTETS_MAX {
            return false;
        }
        let due = self.waiting.back().map_or(due, |(last, _)| due.max(*last));
        self.octets += frame.len();
        self.waiting.push_back((due, frame.into()));
        true
    }

    /// The frames that may leave now, in order.
    pub fn due(&self, now: Instant) -> impl Iterator<Item = &[u8]> {
        (self.waiting.iter())
            .take_while(move |(due, _)| *due <= now)
            .map(|(_, frame)| &**frame)
    }

    /// When the first one may leave; none if none waits.
    pub fn next_due(&self) -> Option<Instant> {
        self.waiting.front().map(|(due, _)| *due)
    }

    /// Takes the first ones away.
    pub fn take(&mut self, count: usize) {
        for (_, frame) in self.waiting.drain(..count.min(self.waiting.len())) {
            self.octets -= frame.len();
        }
    }

    /// Takes all away; how many there were.
    pub fn clear(&mut self) -> usize {
        let count = self.waiting.len();
        self.take(count);
        count
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn frames_leave_in_order_and_not_before_they_are_due() {
        let now = Instant::now();
        let late = now + Duration::from_millis(5);
        let mut queue = Queue::default();
        assert!(queue.push(now, b"one") && queue.push(late, b"two") && queue.push(now, b"three"));
        assert_eq!(queue.due(now).collect::<Vec<_>>(), [b"one"]);
        queue.take(1);
        assert_eq!(queue.next_due(), Some(late));
        assert_eq!(queue.due(now).count(), 0);
        let due: Vec<&[u8]> = queue.due(late).collect();
        assert_eq!(due, [&b"two"[..], b"three"]);
    }

    #[test]
    fn it_is_full_by_frames_and_by_octets_and_has_room_again() {
        let now = Instant::now();
        let mut queue = Queue::default();
        let jumbo = vec![0; 65_535];
        let fit = std::iter::repeat_with(|| queue.push(now, &jumbo))
            .take_while(|had_room| *had_room)
            .count();
        assert_eq!(fit, OCTETS_MAX / jumbo.len());
        queue.take(1);
        assert!(queue.push(now, &jumbo));
        assert_eq!(queue.clear(), fit);
        let fit = std::iter::repeat_with(|| queue.push(now, b"x"))
            .take_while(|had_room| *had_room)
            .count();
        assert_eq!(fit, FRAMES_MAX);
        assert_eq!(queue.len(), FRAMES_MAX);
    }
}
