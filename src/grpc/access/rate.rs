//! How often one peer may call. In: whose call it is, and when. Out: whether it is one too many, and how soon the next one is not.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Those who are let in have few names. Strangers have an address each: more than these are forgotten, and begin anew.
const MOST: usize = 16_384;

/// So many calls a second, and twice as many at once.
pub(crate) struct Rate {
    per_second: u32,
    left: Mutex<HashMap<String, (f64, Instant)>>,
}

impl Rate {
    /// 0 is no limit.
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            per_second,
            left: Mutex::default(),
        }
    }

    /// Takes one call; in error, how long to wait for the next.
    pub(crate) fn take(&self, whose: &str, now: Instant) -> Result<(), Duration> {
        if self.per_second == 0 {
            return Ok(());
        }
        let (rate, most) = (f64::from(self.per_second), f64::from(self.per_second) * 2.0);
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if left.len() >= MOST && !left.contains_key(whose) {
            // Who has been silent for two seconds has everything left.
            left.retain(|_, (_, at)| now.duration_since(*at) < Duration::from_secs(2));
            if left.len() >= MOST {
                left.clear();
            }
        }
        if !left.contains_key(whose) {
            left.insert(whose.to_owned(), (most, now));
        }
        let Some((calls, at)) = left.get_mut(whose) else {
            return Ok(());
        };
        *calls = (*calls + now.duration_since(*at).as_secs_f64() * rate).min(most);
        *at = now;
        if *calls < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - *calls) / rate));
        }
        *calls -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_runs_dry_alone_and_is_told_when_to_come_back() {
        let (rate, start) = (Rate::new(10), Instant::now());
        for call in 0..20 {
            assert_eq!(rate.take("ci", start), Ok(()), "call {call}");
        }
        let wait = rate.take("ci", start).expect_err("one too many");
        assert!(wait > Duration::from_millis(90) && wait <= Duration::from_millis(100));
        assert_eq!(rate.take("other", start), Ok(()));
        let later = start + wait + Duration::from_millis(1);
        assert_eq!(rate.take("ci", later), Ok(()));
        assert!(rate.take("ci", later).is_err());
    }

    #[test]
    fn no_limit_is_none() {
        let (rate, now) = (Rate::new(0), Instant::now());
        assert!((0..10_000).all(|_| rate.take("ci", now).is_ok()));
    }

    #[test]
    fn ever_new_names_take_no_more_room() {
        let (rate, now) = (Rate::new(1), Instant::now());
        for n in 0..MOST * 2 {
            assert!(rate.take(&n.to_string(), now).is_ok());
        }
        assert!(rate.left.lock().expect("no panic").len() <= MOST);
    }
}
