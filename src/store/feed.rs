//! What changes, remembered in bounds, for whoever follows. In: what a commit made, once it is published. Out: the changes after a
//! position, in order, none twice and none left out; or word that so much is no longer remembered.
//!
//! Nobody is waited for: a reader asks when it has time, and one that is too slow finds that what it wants is gone.
//!
//! Reservations are at the store's revision, which grows with every change and over restarts. Leases are counted since the start.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::catalog::Catalog;
use crate::model::{ClientKey, Lease, Reservation, Source, Var};

/// How many changes of reservations are remembered, and how many octets of them.
const MOST_RESERVATIONS: usize = 32_768;
const MOST_OCTETS: usize = 64 << 20;
/// How many changes of leases are.
const MOST_LEASES: usize = 65_536;

/// A reservation that was written.
#[derive(Clone, Debug)]
pub struct ReservationNote {
    pub revision: u64,
    /// None if it was made.
    pub before: Option<Arc<Reservation>>,
    /// None if it was deleted.
    pub after: Option<Arc<Reservation>>,
}

/// A lease that became another.
#[derive(Clone, Debug, PartialEq)]
pub enum LeaseNote {
    Put(Lease),
    /// Taken back: a reservation needs its address.
    Forgotten(Lease),
    /// An offer that its client did not take.
    Withdrawn {
        address: Ipv4Addr,
        client: ClientKey,
    },
}

/// What is wanted is older than what is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooOld;

/// Both feeds of one store.
pub struct Feed {
    reservations: Ring<ReservationNote>,
    leases: Ring<LeaseNote>,
    origin: String,
    run: String,
}

/// The last changes of one kind.
pub struct Ring<T> {
    kept: Mutex<Kept<T>>,
    last: watch::Sender<u64>,
}

struct Kept<T> {
    /// By position, which grows.
    notes: VecDeque<(u64, usize, Arc<T>)>,
    /// Nothing at or before this position is remembered.
    floor: u64,
    octets: usize,
    most: usize,
}

impl Feed {
    /// Of a store that is at this revision.
    pub(super) fn new(origin: String, revision: u64) -> Self {
        Self {
            reservations: Ring::new(revision, MOST_RESERVATIONS),
            leases: Ring::new(0, MOST_LEASES),
            origin,
            run: uuid::Uuid::new_v4().simple().to_string()[..8].to_owned(),
        }
    }

    pub fn reservations(&self) -> &Ring<ReservationNote> {
        &self.reservations
    }

    pub fn leases(&self) -> &Ring<LeaseNote> {
        &self.leases
    }

    /// What positions of reservations are relative to: it is another one if the configuration file says other reservations.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What positions of leases are relative to: the run of this service.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Tells what a commit made. The one place where anything is told.
    pub(super) fn publish(
        &self,
        reservations: Vec<ReservationNote>,
        leases: Vec<LeaseNote>,
        revision: u64,
    ) {
        let reservations = (reservations.into_iter())
            .map(|note| (note.revision, size_of(note.after.as_deref()), note));
        self.reservations.push(reservations, revision);
        if !leases.is_empty() {
            let next = self.leases.last() + 1;
            let last = next + leases.len() as u64 - 1;
            let leases = (next..).zip(leases).map(|(at, note)| (at, 0, note));
            self.leases.push(leases, last);
        }
    }
}

impl<T> Ring<T> {
    fn new(at: u64, most: usize) -> Self {
        let kept = Kept {
            notes: VecDeque::new(),
            floor: at,
            octets: 0,
            most,
        };
        Self {
            kept: Mutex::new(kept),
            last: watch::Sender::new(at),
        }
    }

    /// The position of the last change.
    pub fn last(&self) -> u64 {
        *self.last.borrow()
    }

    /// Changes whenever there is more.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// The changes after this position, each with its own; `most` of them.
    pub fn since(&self, position: u64, most: usize) -> Result<Vec<(u64, Arc<T>)>, TooOld> {
        let kept = self.lock();
        if position < kept.floor {
            return Err(TooOld);
        }
        let from = kept.notes.partition_point(|(at, ..)| *at <= position);
        let notes = kept.notes.range(from..).take(most);
        Ok(notes.map(|(at, _, note)| (*at, note.clone())).collect())
    }

    fn push(&self, notes: impl Iterator<Item = (u64, usize, T)>, last: u64) {
        if last == self.last() {
            return;
        }
        let mut kept = self.lock();
        for (at, octets, note) in notes {
            kept.octets += octets;
            kept.notes.push_back((at, octets, Arc::new(note)));
        }
        while kept.notes.len() > kept.most || kept.octets > MOST_OCTETS {
            let Some((at, octets, _)) = kept.notes.pop_front() else {
                break;
            };
            kept.octets -= octets;
            kept.floor = at;
        }
        drop(kept);
        self.last.send_replace(last);
    }

    fn lock(&self) -> MutexGuard<'_, Kept<T>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a token of this store is to hold: positions mean nothing where the configuration file says other reservations, which no
/// change tells of, or where others are set aside.
pub(super) fn origin(catalog: &Catalog, set_aside: &[&str]) -> String {
    let mut hash = Sha256::new();
    let from_file = catalog
        .reservations(None)
        .filter(|reservation| reservation.source == Source::ConfigFile);
    for reservation in from_file {
        hash.update(serde_json::to_vec(&**reservation).unwrap_or_default());
        hash.update([0]);
    }
    for id in set_aside {
        hash.update(id.as_bytes());
        hash.update([1]);
    }
    (hash.finalize()[..4].iter())
        .map(|octet| format!("{octet:02x}"))
        .collect()
}

/// About how many octets of memory it takes.
fn size_of(reservation: Option<&Reservation>) -> usize {
    fn of(var: &Var) -> usize {
        32 + match var {
            Var::Text(text) => text.len(),
            Var::List(vars) => vars.iter().map(of).sum(),
            Var::Map(vars) => vars.iter().map(|(name, var)| name.len() + of(var)).sum(),
            Var::Bool(_) | Var::Integer(_) | Var::Number(_) => 0,
        }
    }
    let Some(reservation) = reservation else {
        return 64;
    };
    let vars = reservation
        .vars
        .iter()
        .map(|(name, var)| name.len() + of(var));
    let labels = reservation
        .labels
        .iter()
        .map(|(k, v)| 64 + k.len() + v.len());
    let options = reservation
        .options
        .0
        .values()
        .map(|octets| 64 + octets.0.len());
    512 + vars.sum::<usize>() + labels.sum::<usize>() + options.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(n: u64, text: usize) -> ReservationNote {
        let mut after = Reservation::of(format!("node-{n}"), Source::Api);
        after
            .vars
            .insert("v".to_owned(), Var::Text("x".repeat(text)));
        ReservationNote {
            revision: n,
            before: None,
            after: Some(Arc::new(after)),
        }
    }

    fn positions(feed: &Feed, after: u64) -> Result<Vec<u64>, TooOld> {
        let notes = feed.reservations().since(after, usize::MAX)?;
        Ok(notes.into_iter().map(|(at, _)| at).collect())
    }

    #[test]
    fn each_change_is_told_once_in_order_and_from_any_position_that_is_remembered() {
        let feed = Feed::new(String::new(), 7);
        assert_eq!(positions(&feed, 7), Ok(vec![]));
        assert_eq!(positions(&feed, 6), Err(TooOld), "it is of an earlier run");
        feed.publish(vec![note(8, 0), note(9, 0)], vec![], 10);
        feed.publish(vec![note(11, 0)], vec![], 11);
        assert_eq!(positions(&feed, 7), Ok(vec![8, 9, 11]));
        assert_eq!(positions(&feed, 9), Ok(vec![11]));
        assert_eq!(
            positions(&feed, 10),
            Ok(vec![11]),
            "10 was no reservation's"
        );
        assert_eq!(positions(&feed, 11), Ok(vec![]));
        let first = feed.reservations().since(7, 2).expect("remembered");
        assert_eq!(first.len(), 2);
    }

    #[test]
    fn what_is_remembered_is_bounded_in_number_and_in_octets() {
        let feed = Feed::new(String::new(), 0);
        let many = MOST_RESERVATIONS as u64 + 10;
        feed.publish((1..=many).map(|n| note(n, 0)).collect(), vec![], many);
        assert_eq!(positions(&feed, 9), Err(TooOld));
        assert_eq!(
            positions(&feed, 10).map(|all| all.len()),
            Ok(MOST_RESERVATIONS)
        );
        let feed = Feed::new(String::new(), 0);
        for n in 1..=100 {
            feed.publish(vec![note(n, 1 << 20)], vec![], n);
        }
        let kept = positions(&feed, 40).expect("remembered").len();
        assert_eq!(positions(&feed, 30), Err(TooOld));
        assert_eq!(kept, 60);
    }

    #[test]
    fn whoever_waits_is_woken_by_what_is_new_and_by_nothing_else() {
        let feed = Feed::new(String::new(), 3);
        let mut last = feed.reservations().watch();
        feed.publish(vec![], vec![], 3);
        assert!(!last.has_changed().expect("it lives"));
        feed.publish(vec![note(4, 0)], vec![], 4);
        assert!(last.has_changed().expect("it lives"));
        assert_eq!(*last.borrow_and_update(), 4);
    }
}
