//! How many connections there are, and of whom. In: a connection that begins. Out: a visit, or none if this address has enough of
//! them. Strangers, who have not yet shown that they may be here, have a room of their own and little time: when it is full the one
//! that waits longest makes place, so that a flood of them keeps nobody out who knows the way in.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::identity::Credential;

/// A handshake and a first call take a slow client over a slow link a second.
const STRANGERS_TIME: Duration = Duration::from_secs(15);
const MOST_STRANGERS: usize = 256;
const MOST_STRANGERS_OF_ONE: usize = 32;
/// Those who are known, in all: a watcher needs one connection.
const MOST_KNOWN: usize = 4096;

/// All connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Visitors(Arc<Mutex<Inside>>);

#[derive(Debug, Default)]
struct Inside {
    next: u64,
    /// Who came first stands first.
    strangers: VecDeque<(u64, IpAddr, CancellationToken)>,
    of_address: HashMap<IpAddr, usize>,
    known: HashSet<u64>,
    all: HashMap<u64, Weak<Visit>>,
}

/// One connection's place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Visit {
    number: u64,
    visitors: Visitors,
    /// Cancelled when the connection is to end.
    end: CancellationToken,
    /// Cancelled once they are known.
    known: CancellationToken,
    /// What calls on it were let in for, by id.
    credentials: Mutex<BTreeMap<String, Credential>>,
}

impl Visitors {
    /// A place for a connection from this address.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<Arc<Visit>> {
        let mut inside = self.inside();
        let of_address = inside.of_address.entry(address).or_default();
        if *of_address >= MOST_STRANGERS_OF_ONE {
            return None;
        }
        *of_address += 1;
        if inside.strangers.len() >= MOST_STRANGERS {
            inside.turn_out_the_first();
        }
        let visit = self.begin(&mut inside);
        let (number, end) = (visit.number, visit.end.clone());
        inside.strangers.push_back((number, address, end));
        Some(visit)
    }

    /// One that needs no place: the kernel has let it in.
    pub(crate) fn welcome(&self) -> Arc<Visit> {
        let visit = self.begin(&mut self.inside());
        visit.known.cancel();
        visit
    }

    /// Ends every connection that was used with a certificate or token that `is_bad`.
    pub(crate) fn end_those_with(&self, is_bad: impl Fn(&Credential) -> bool) {
        // The last holder of one looks inside when it lets go.
        let all: Vec<Arc<Visit>> = (self.inside().all.values())
            .filter_map(Weak::upgrade)
            .collect();
        for visit in all {
            visit.end_if(&is_bad);
        }
    }

    fn begin(&self, inside: &mut Inside) -> Arc<Visit> {
        inside.next += 1;
        let visit = Arc::new(Visit {
            number: inside.next,
            visitors: self.clone(),
            end: CancellationToken::new(),
            known: CancellationToken::new(),
            credentials: Mutex::default(),
        });
        inside.all.insert(visit.number, Arc::downgrade(&visit));
        visit
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn turn_out_the_first(&mut self) {
        if let Some((_, address, end)) = self.strangers.pop_front() {
            end.cancel();
            self.one_less_of(address);
        }
    }

    fn forget_stranger(&mut self, number: u64) -> bool {
        let found = self.strangers.iter().position(|(n, _, _)| *n == number);
        let Some((_, address, _)) = found.and_then(|at| self.strangers.remove(at)) else {
            return false;
        };
        self.one_less_of(address);
        true
    }

    fn one_less_of(&mut self, address: IpAddr) {
        if let Some(count) = self.of_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.of_address.remove(&address);
            }
        }
    }
}

impl Visit {
    /// They have shown who they are, by this certificate or token; false if there are too many already.
    pub(crate) fn is_known_by(&self, credential: Option<&Credential>) -> bool {
        if let Some(credential) = credential {
            let mut credentials = (self.credentials.lock()).unwrap_or_else(PoisonError::into_inner);
            if !credentials.contains_key(credential.id()) {
                credentials.insert(credential.id().to_owned(), credential.clone());
            }
        }
        if self.known.is_cancelled() {
            return true;
        }
        let mut inside = self.visitors.inside();
        if inside.known.len() >= MOST_KNOWN {
            return false;
        }
        // Who was turned out meanwhile is on the way out.
        if inside.forget_stranger(self.number) {
            inside.known.insert(self.number);
            self.known.cancel();
        }
        true
    }

    fn end_if(&self, is_bad: impl Fn(&Credential) -> bool) {
        let credentials = (self.credentials.lock()).unwrap_or_else(PoisonError::into_inner);
        if credentials.values().any(is_bad) {
            self.end.cancel();
        }
    }

    /// Waits until they are to go.
    pub(crate) async fn until_over(self: Arc<Self>) {
        let over = self.over_after(STRANGERS_TIME);
        // A connection must not hold itself.
        drop(self);
        over.await;
    }

    /// Ready when their time is over, which is this long while they are strangers.
    fn over_after(&self, time: Duration) -> impl Future<Output = ()> + use<> {
        let (end, known) = (self.end.clone(), self.known.clone());
        async move {
            let time_is_over = async {
                let is_known = tokio::time::timeout(time, known.cancelled()).await;
                if is_known.is_ok() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = end.cancelled() => {}
                () = time_is_over => {}
            }
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut inside = self.visitors.inside();
        inside.forget_stranger(self.number);
        inside.known.remove(&self.number);
        inside.all.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: usize) -> IpAddr {
        IpAddr::from([198, 18, (n >> 8) as u8, n as u8])
    }

    fn token(id: &str) -> Credential {
        Credential::Token {
            id: id.to_owned(),
            expires: 9,
        }
    }

    #[test]
    fn one_address_cannot_take_every_place() {
        let visitors = Visitors::default();
        let held: Vec<Arc<Visit>> = (0..MOST_STRANGERS_OF_ONE)
            .map(|_| visitors.enter(address(1)).expect("a place"))
            .collect();
        assert!(visitors.enter(address(1)).is_none());
        assert!(visitors.enter(address(2)).is_some());
        drop(held);
        assert!(visitors.enter(address(1)).is_some());
    }

    #[test]
    fn of_many_strangers_the_first_makes_place_and_who_is_known_stays() {
        let visitors = Visitors::default();
        let friend = visitors.enter(address(0)).expect("a place");
        assert!(friend.is_known_by(Some(&token("t-1"))));
        let strangers: Vec<Arc<Visit>> = (1..=MOST_STRANGERS + 2)
            .map(|n| visitors.enter(address(n)).expect("a place"))
            .collect();
        let ended: Vec<bool> = strangers.iter().map(|v| v.end.is_cancelled()).collect();
        assert_eq!(ended[..3], [true, true, false]);
        assert!(!friend.end.is_cancelled());
        drop(strangers);
        drop(friend);
        let inside = visitors.inside();
        assert!(inside.strangers.is_empty() && inside.known.is_empty());
        assert!(inside.all.is_empty());
        assert!(inside.of_address.is_empty(), "{:?}", inside.of_address);
    }

    #[test]
    fn a_connection_ends_with_what_it_was_let_in_for() {
        let visitors = Visitors::default();
        let visit = visitors.welcome();
        assert!(visit.is_known_by(Some(&token("t-1"))));
        visitors.end_those_with(|credential| credential.id() == "t-2");
        assert!(!visit.end.is_cancelled());
        visitors.end_those_with(|credential| credential.id() == "t-1");
        assert!(visit.end.is_cancelled());
    }

    #[tokio::test]
    async fn a_strangers_time_is_over_some_day_and_that_of_who_is_known_is_not() {
        let visitors = Visitors::default();
        let visit = visitors.enter(address(1)).expect("a place");
        visit.over_after(Duration::ZERO).await;
        assert!(visit.is_known_by(None));
        let over = visit.over_after(Duration::ZERO);
        let soon = tokio::time::timeout(Duration::from_millis(20), over).await;
        assert!(soon.is_err(), "it is over");
    }
}
