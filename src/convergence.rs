//! Machines on their way to another address. In: a reservation that is changed, or was, with leases, the machine's timeline and the
//! time. Out: the move that is to be kept with it; and how far it is, told from facts alone, so that a restart changes nothing.

use std::net::Ipv4Addr;

use crate::bindings::Bindings;
use crate::model::{ClientKey, Entry, Kind, Lease, LeaseState, Move, Reservation};

/// A machine has at least this long, unless somebody says otherwise, and so long after its lease has ended.
const USUAL_SECS: u64 = 600;
const AFTER_LEASE_SECS: u64 = 60;

/// How far a machine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It holds its new address.
    Converged,
    /// It holds another one, by a lease that has not ended.
    HoldsFormer { address: Ipv4Addr, until_secs: u64 },
    /// It was offered the new one, and has not taken it.
    Offered { at_ms: u64 },
    /// It was refused another one, and has not asked again.
    Refused { at_ms: u64, reason: String },
    /// It asked and got no answer.
    Unanswered { at_ms: u64, reason: String },
    /// Nothing was heard of it since.
    NotHeardOf,
}

/// What is to be kept of a change, if it moves the machine: the reservation as it was, if it was, and as it is to be.
pub fn moved(
    before: Option<&Reservation>,
    after: &Reservation,
    bindings: &Bindings,
    timeout_secs: Option<u64>,
    now_secs: u64,
) -> Option<Box<Move>> {
    let to = after.address?;
    if let Some(before) = before.filter(|before| before.address == Some(to)) {
        return before.moved.clone();
    }
    let held = held(after, bindings, now_secs).filter(|lease| lease.address != to);
    let is_taken = || {
        let other = bindings.at(to).filter(|lease| !is_of(lease, after));
        other.is_some_and(|lease| lease.state == LeaseState::Bound && lease.is_current(now_secs))
    };
    // Who is made and has held nothing yet moves from nowhere.
    if before.is_none() && held.is_none() && !is_taken() {
        return None;
    }
    let lease_ends = held.map_or(0, |lease| lease.expires_secs + AFTER_LEASE_SECS);
    Some(Box::new(Move {
        revision: 0,
        from: held
            .map(|lease| lease.address)
            .or_else(|| before.and_then(|before| before.address)),
        to,
        since_secs: now_secs,
        deadline_secs: match timeout_secs {
            Some(secs) => now_secs + secs,
            None => lease_ends.max(now_secs + USUAL_SECS),
        },
    }))
}

/// How far the machine is. `entries` is its timeline.
pub fn progress<'a>(
    reservation: &Reservation,
    moved: &Move,
    bindings: &Bindings,
    entries: impl Iterator<Item = &'a Entry>,
    now_secs: u64,
) -> Progress {
    let since_ms = moved.since_secs * 1000;
    let to = moved.to.to_string();
    let mut last = None;
    for entry in entries.filter(|entry| entry.until_ms() >= since_ms) {
        match entry.kind {
            Kind::Ack if entry.detail == to => return Progress::Converged,
            Kind::Offer if entry.detail == to => last = Some(entry),
            Kind::Nak | Kind::Silent | Kind::NotSent => last = Some(entry),
            _ => {}
        }
    }
    // A lease that has ended since, and one from before that is still there, are kept under the address.
    let took = (bindings.at(moved.to)).is_some_and(|lease| {
        let is_granted = matches!(lease.state, LeaseState::Bound | LeaseState::Released);
        is_of(lease, reservation) && is_granted && lease.expires_secs > moved.since_secs
    });
    if took {
        return Progress::Converged;
    }
    let reason = |entry: &Entry| entry.detail.clone();
    match last {
        Some(entry) if entry.kind == Kind::Offer => Progress::Offered {
            at_ms: entry.until_ms(),
        },
        Some(entry) if entry.kind == Kind::Nak => Progress::Refused {
            at_ms: entry.until_ms(),
            reason: reason(entry),
        },
        Some(entry) => Progress::Unanswered {
            at_ms: entry.until_ms(),
            reason: reason(entry),
        },
        None => match held(reservation, bindings, now_secs) {
            Some(lease) => Progress::HoldsFormer {
                address: lease.address,
                until_secs: lease.expires_secs,
            },
            None => Progress::NotHeardOf,
        },
    }
}

/// When the machine was last heard of over DHCP, in Unix milliseconds.
pub fn last_seen<'a>(entries: impl Iterator<Item = &'a Entry>) -> Option<u64> {
    let is_dhcp = |kind| {
        matches!(
            kind,
            Kind::Offer | Kind::Ack | Kind::Nak | Kind::Silent | Kind::NotSent
        )
    };
    (entries.filter(|entry| is_dhcp(entry.kind)))
        .map(Entry::until_ms)
        .max()
}

/// The lease that the machine holds now; of several the one that ends last.
fn held<'a>(reservation: &Reservation, bindings: &'a Bindings, now_secs: u64) -> Option<&'a Lease> {
    let by_mac = reservation.macs().map(ClientKey::Mac);
    let former = reservation.moved.as_ref().and_then(|moved| moved.from);
    let addresses = reservation.address.into_iter().chain(former);
    let by_address = addresses.filter_map(|address| bindings.at(address));
    (by_mac.flat_map(|key| bindings.of(&key).collect::<Vec<_>>()))
        .chain(by_address.filter(|lease| is_of(lease, reservation)))
        .filter(|lease| lease.state == LeaseState::Bound && lease.is_current(now_secs))
        .max_by_key(|lease| lease.expires_secs)
}

/// Whether the lease is the machine's, by its reservation or by one of its cards.
fn is_of(lease: &Lease, reservation: &Reservation) -> bool {
    match (&lease.reservation, &lease.client) {
        (Some(id), _) if *id == reservation.id => true,
        (_, ClientKey::Mac(mac)) => reservation.macs().any(|own| own == *mac),
        (_, ClientKey::Id(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BindingChange, MacAddr, Source, Subject};

    const NOW: u64 = 1000;

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, 0, last)
    }

    fn node(last: u8) -> Reservation {
        let mut node = Reservation::of("node-1".to_owned(), Source::Api);
        node.mac = Some(MacAddr([0x52, 0x54, 0, 0, 0, 1]));
        node.address = Some(address(last));
        node
    }

    fn lease(last: u8, client: u8, expires_secs: u64) -> Lease {
        Lease {
            address: address(last),
            client: ClientKey::Mac(MacAddr([0x52, 0x54, 0, 0, 0, client])),
            state: LeaseState::Bound,
            expires_secs,
            hostname: None,
            reservation: None,
            circuit_id: None,
        }
    }

    fn bindings(leases: &[Lease]) -> Bindings {
        let mut bindings = Bindings::default();
        for lease in leases {
            bindings.apply(BindingChange::Put(lease.clone()));
        }
        bindings
    }

    fn entry(kind: Kind, at_secs: u64, detail: &str) -> Entry {
        Entry {
            sequence: 0,
            at_ms: at_secs * 1000,
            subject: Subject::Machine("node-1".to_owned()),
            attempt: 0,
            kind,
            what: String::new(),
            detail: detail.to_owned(),
            bytes: None,
            elapsed_ms: None,
            count: 1,
            last_ms: None,
        }
    }

    fn moving() -> (Reservation, Move) {
        let before = node(10);
        let held = bindings(&[lease(10, 1, NOW + 3600)]);
        let mut after = node(20);
        after.moved = moved(Some(&before), &after, &held, None, NOW);
        let moved = *after.moved.clone().expect("it moves");
        (after, moved)
    }

    fn at(leases: &[Lease], entries: &[Entry], now: u64) -> Progress {
        let (after, moved) = moving();
        progress(&after, &moved, &bindings(leases), entries.iter(), now)
    }

    #[test]
    fn a_change_of_the_address_is_a_move_and_no_other_change_is() {
        let (after, moved_now) = moving();
        assert_eq!(
            (moved_now.from, moved_now.to),
            (Some(address(10)), address(20))
        );
        assert_eq!(
            moved_now.deadline_secs,
            NOW + 3660,
            "its lease may run out first"
        );
        let none = bindings(&[]);
        let short = moved(Some(&node(10)), &node(20), &none, Some(5), NOW).expect("it moves");
        assert_eq!(short.deadline_secs, NOW + 5);
        let usual = moved(Some(&node(10)), &node(20), &none, None, NOW).expect("it moves");
        assert_eq!(usual.deadline_secs, NOW + 600);
        let same = moved(Some(&after), &after, &none, None, NOW + 50);
        assert_eq!(
            same,
            Some(moved_now.into()),
            "what else is changed leaves it be"
        );
        let mut unreserved = node(10);
        unreserved.address = None;
        assert_eq!(moved(Some(&node(10)), &unreserved, &none, None, NOW), None);
    }

    #[test]
    fn one_that_is_made_moves_only_from_an_address_or_into_somebody_elses() {
        assert_eq!(moved(None, &node(20), &bindings(&[]), None, NOW), None);
        let dynamic = bindings(&[lease(100, 1, NOW + 60)]);
        let from = moved(None, &node(20), &dynamic, None, NOW).and_then(|moved| moved.from);
        assert_eq!(from, Some(address(100)));
        let taken = bindings(&[lease(20, 9, NOW + 60)]);
        assert!(moved(None, &node(20), &taken, None, NOW).is_some());
        let own = bindings(&[lease(20, 1, NOW + 60)]);
        assert_eq!(moved(None, &node(20), &own, None, NOW), None, "it is there");
    }

    #[test]
    fn what_was_heard_last_says_how_far_it_is() {
        let former = [lease(10, 1, NOW + 3600)];
        let holds = Progress::HoldsFormer {
            address: address(10),
            until_secs: NOW + 3600,
        };
        assert_eq!(at(&former, &[], NOW + 1), holds);
        let before = entry(Kind::Nak, NOW - 5, "taken");
        assert_eq!(at(&former, &[before], NOW + 1), holds, "that was before");
        let nak = entry(Kind::Nak, NOW + 5, "reserved_elsewhere");
        let refused = Progress::Refused {
            at_ms: (NOW + 5) * 1000,
            reason: "reserved_elsewhere".to_owned(),
        };
        assert_eq!(at(&former, std::slice::from_ref(&nak), NOW + 6), refused);
        let offer = entry(Kind::Offer, NOW + 6, "198.18.0.20");
        let offered = Progress::Offered {
            at_ms: (NOW + 6) * 1000,
        };
        assert_eq!(at(&former, &[nak, offer], NOW + 7), offered);
        let silent = entry(Kind::Silent, NOW + 7, "rate_limited");
        assert!(matches!(
            at(&[], &[silent], NOW + 8),
            Progress::Unanswered { .. }
        ));
        assert_eq!(at(&[], &[], NOW + 9), Progress::NotHeardOf);
        assert_eq!(
            at(&former, &[], NOW + 3601),
            Progress::NotHeardOf,
            "it ran out"
        );
    }

    #[test]
    fn it_has_arrived_once_it_was_granted_the_address_and_stays_so() {
        let new = lease(20, 1, NOW + 3600);
        assert_eq!(
            at(std::slice::from_ref(&new), &[], NOW + 1),
            Progress::Converged
        );
        assert_eq!(
            at(&[new], &[], NOW + 9999),
            Progress::Converged,
            "it ran out since"
        );
        let ack = entry(Kind::Ack, NOW + 5, "198.18.0.20");
        let silent = entry(Kind::Silent, NOW + 8, "released");
        assert_eq!(at(&[], &[ack, silent], NOW + 9), Progress::Converged);
        let of_long_ago = lease(20, 1, NOW - 10);
        assert_eq!(at(&[of_long_ago], &[], NOW + 1), Progress::NotHeardOf);
        let of_another = lease(20, 9, NOW + 3600);
        assert_eq!(at(&[of_another], &[], NOW + 1), Progress::NotHeardOf);
    }
}
