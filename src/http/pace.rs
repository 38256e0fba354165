//! How fast one client is sent files. In: octets on their way to a client, and when. Out: how long the next ones wait. A rack
//! that installs at once shares the link; one machine cannot take all of it.

use std::collections::HashMap;
use std::future::Future as _;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;

/// How many clients are remembered before those that owe nothing are forgotten.
const CLIENTS: usize = 1024;

/// What each client has been sent lately, on all its connections together.
#[derive(Clone, Debug)]
pub struct Pace {
    octets_per_second: f64,
    /// When what a client has been sent would have arrived at its pace.
    even: Arc<Mutex<HashMap<IpAddr, Instant>>>,
}

impl Pace {
    /// None where there is no limit.
    pub fn new(mib_per_second: u32) -> Option<Self> {
        (mib_per_second > 0).then(|| Self {
            octets_per_second: f64::from(mib_per_second) * f64::from(1 << 20),
            even: Arc::default(),
        })
    }

    /// Notes what a client is sent; how long the next has to wait.
    fn spend(&self, client: IpAddr, octets: usize, now: Instant) -> Duration {
        let mut even = self.even.lock().unwrap_or_else(PoisonError::into_inner);
        if even.len() >= CLIENTS {
            even.retain(|_, at| *at > now);
        }
        let at = even.entry(client).or_insert(now);
        let takes = Duration::from_secs_f64(octets as f64 / self.octets_per_second);
        *at = (*at).max(now) + takes;
        at.duration_since(now)
    }
}

/// A body that is sent at its client's pace.
pub struct Paced {
    body: Body,
    pace: Pace,
    client: IpAddr,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    pub fn new(body: Body, pace: Pace, client: IpAddr) -> Self {
        Self {
            body,
            pace,
            client,
            pause: None,
        }
    }
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let wait = self.pace.spend(self.client, data.len(), Instant::now());
            self.pause = Some(Box::pin(tokio::time::sleep(wait)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_waits_for_all_its_connections_and_for_nobody_elses() {
        let pace = Pace::new(1).expect("a limit");
        let (one, other) = (
            IpAddr::from([198, 18, 0, 10]),
            IpAddr::from([198, 18, 0, 11]),
        );
        let now = Instant::now();
        let half = 1 << 19;
        assert_eq!(pace.spend(one, half, now), Duration::from_millis(500));
        assert_eq!(pace.spend(one, half, now), Duration::from_secs(1));
        assert_eq!(pace.spend(other, half, now), Duration::from_millis(500));
        let later = now + Duration::from_secs(10);
        assert_eq!(pace.spend(one, half, later), Duration::from_millis(500));
    }

    #[test]
    fn clients_that_owe_nothing_are_forgotten() {
        let pace = Pace::new(1).expect("a limit");
        let now = Instant::now();
        for n in 0..10_000_u32 {
            let at = now + Duration::from_secs(u64::from(n));
            pace.spend(IpAddr::from(n.to_be_bytes()), 1 << 20, at);
        }
        assert!(pace.even.lock().expect("no panic").len() <= CLIENTS);
    }

    #[test]
    fn without_a_limit_there_is_no_pace() {
        assert!(Pace::new(0).is_none());
    }
}
