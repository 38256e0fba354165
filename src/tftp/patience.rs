//! How long an acknowledgement is waited for. In: round-trip times as they are seen, and time-outs. Out: the next time-out,
//! after RFC 6298, and whether to give up.

use std::time::Duration;

/// Before anything is known (RFC 6298 §2.1).
const FIRST: Duration = Duration::from_secs(1);
/// RFC 6298 §2.4 has one second; systems wait this long, and so a lost block costs a fifth of a second and not a whole one.
/// Emulated machines and slow firmware still answer within it, and nothing but a block is wasted if they do not.
const SHORTEST: Duration = Duration::from_millis(200);
/// Clients ask again after some five seconds of silence: to wait longer is to be late.
const LONGEST: Duration = Duration::from_secs(5);
/// Time-outs in a row, after which the client is taken to be gone: 20 s to 30 s of silence.
const MOST_TRIES: u32 = 8;
/// Where the client chose a long time-out, silence counts and not tries.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// One client's patience.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Smoothed round-trip time and its variation.
    seen: Option<(Duration, Duration)>,
    time_out: Duration,
    /// RFC 2349: the client's own.
    asked: Option<Duration>,
    tries: u32,
}

impl Patience {
    /// `asked` is the time-out that the client wants.
    pub fn new(asked: Option<Duration>) -> Self {
        Self {
            seen: None,
            time_out: asked.unwrap_or(FIRST),
            asked,
            tries: 0,
        }
    }

    /// The time to wait from now on.
    pub fn time_out(&self) -> Duration {
        self.time_out
    }

    /// The smoothed round-trip time.
    pub fn round_trip(&self) -> Option<Duration> {
        self.seen.map(|(smoothed, _)| smoothed)
    }

    /// Something new was acknowledged. `took` is the round trip, unless more than one packet may have been answered (Karn).
    pub fn answered(&mut self, took: Option<Duration>) {
        self.tries = 0;
        let Some(took) = took else { return };
        let (smoothed, variation) = match self.seen {
            None => (took, took / 2),
            Some((smoothed, variation)) => (
                smoothed * 7 / 8 + took / 8,
                variation * 3 / 4 + smoothed.abs_diff(took) / 4,
            ),
        };
        self.seen = Some((smoothed, variation));
        if self.asked.is_none() {
            self.time_out = (smoothed + variation * 4).clamp(SHORTEST, LONGEST);
        }
    }

    /// Nothing came in time. Whether to send again; `silence` is how long nothing came.
    pub fn timed_out(&mut self, silence: Duration) -> bool {
        if self.tries >= MOST_TRIES || (self.tries > 0 && silence >= LONGEST_SILENCE) {
            return false;
        }
        self.tries += 1;
        if self.asked.is_none() {
            self.time_out = (self.time_out * 2).min(LONGEST);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every time-out until it gives up.
    fn time_outs(mut patience: Patience) -> Vec<Duration> {
        let mut waited = Vec::new();
        loop {
            waited.push(patience.time_out());
            if !patience.timed_out(waited.iter().sum()) {
                return waited;
            }
        }
    }

    #[test]
    fn it_waits_longer_each_time_and_gives_up_after_half_a_minute() {
        let waited = time_outs(Patience::new(None)).into_iter();
        let seconds: Vec<u64> = waited.map(|d| d.as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 5, 5, 5, 5, 5, 5]);
    }

    #[test]
    fn near_clients_are_asked_again_soon_and_far_ones_later() {
        let after = |round_trips: &[u64]| {
            let mut patience = Patience::new(None);
            for trip in round_trips {
                patience.answered(Some(Duration::from_millis(*trip)));
            }
            patience.time_out()
        };
        assert_eq!(after(&[1]), SHORTEST);
        assert_eq!(after(&[300]), Duration::from_millis(900));
        assert!(after(&[300; 50]) < Duration::from_millis(310));
        assert_eq!(after(&[60_000]), LONGEST);
    }

    #[test]
    fn a_longer_time_out_stays_until_a_round_trip_is_seen() {
        let mut patience = Patience::new(None);
        assert!(patience.timed_out(FIRST));
        patience.answered(None);
        assert_eq!(patience.time_out(), FIRST * 2);
        patience.answered(Some(Duration::from_millis(1)));
        assert_eq!(patience.time_out(), SHORTEST);
    }

    #[test]
    fn the_clients_own_time_out_is_kept_to() {
        let mut patience = Patience::new(Some(Duration::from_secs(3)));
        patience.answered(Some(Duration::from_millis(1)));
        assert_eq!(time_outs(patience), [Duration::from_secs(3); 9]);
        let slow = time_outs(Patience::new(Some(Duration::from_secs(255))));
        assert_eq!(slow.len(), 2, "the longest does not hold a place for long");
    }
}
