//! What may be answered while the store that replicas share is away. In: a decision that was made as if it were there, and the leases
//! that are known to be kept. Out: the same, with no more than what cannot be anybody else's; or silence.
//!
//! - Nothing new is granted: another replica may be granting it.
//! - A lease that is kept is confirmed for the time that it has left.
//! - A machine with a reservation gets its address for a short time at least: whoever took the reservation away could give the address
//!   to somebody else within that time, and nobody else can.

use super::decide::{Answer, Decision};
use super::view::View;
use crate::bindings::Bindings;
use crate::model::{BindingChange, LeaseState, NakReason, Silence};

/// How long a machine may have its reserved address beyond what is kept.
const SHORT_SECS: u32 = 300;

/// The decision, within what is kept.
pub fn within_what_is_kept(decision: Decision, view: &View, kept: &Bindings) -> Decision {
    match decision.answer {
        Answer::Offer {
            address,
            lease_secs,
        } => match most_secs(address, view, kept) {
            Some(most) => Decision {
                answer: Answer::Offer {
                    address,
                    lease_secs: lease_secs.min(most),
                },
                ..decision
            },
            None => unavailable(),
        },
        Answer::Ack {
            address,
            lease_secs,
        } => match most_secs(address, view, kept) {
            Some(most) => Decision {
                answer: Answer::Ack {
                    address,
                    lease_secs: lease_secs.min(most),
                },
                change: None,
                rule: "the store is away: it keeps what it has, and no longer than is known",
            },
            None => unavailable(),
        },
        // What is not known here may be known to another.
        Answer::Nak(reason) if reason != NakReason::WrongNetwork => unavailable(),
        // A RELEASE or DECLINE that cannot be written.
        Answer::Silent(_) if is_kept(decision.change.as_ref()) => unavailable(),
        _ => decision,
    }
}

fn is_kept(change: Option<&BindingChange>) -> bool {
    matches!(change, Some(BindingChange::Put(lease)) if lease.state != LeaseState::Offered)
}

/// How long the client may have this address, if it may.
fn most_secs(address: std::net::Ipv4Addr, view: &View, kept: &Bindings) -> Option<u32> {
    let left = (kept.at(address))
        .filter(|lease| lease.state == LeaseState::Bound && lease.is_current(view.now_secs))
        .filter(|lease| view.is_own(lease))
        .map(|lease| lease.expires_secs - view.now_secs)
        .map(|left| u32::try_from(left).unwrap_or(u32::MAX));
    match view.reserved_address() == Some(address) {
        true => Some(left.unwrap_or_default().max(SHORT_SECS)),
        false => left,
    }
}

fn unavailable() -> Decision {
    Decision {
        answer: Answer::Silent(Silence::StoreUnavailable),
        change: None,
        rule: "the store is away, and another replica may know better",
    }
}
