//! The answer to a DHCP packet (RFC 2131 §4.3). In: a request, what is known, and the time. Out: what to answer, or the reason
//! for silence, and the change of the bindings that must be committed before anything is sent.

use std::net::Ipv4Addr;

use super::pool;
use super::request::{Kind, Request, RequestState};
use super::view::View;
use crate::model::{
    BindingChange, ClientKey, Lease, LeaseState, NakReason, OFFER_HOLD_SECS, Silence,
};

/// How long a declined address is given to nobody. Long enough for a squatter's lease to be noticed, short enough for a pool
/// to recover by itself.
pub const DECLINE_SECS: u64 = 600;
/// A client may ask for a short lease (option 51), but not for one shorter than this.
const SHORTEST_LEASE_SECS: u32 = 60;

/// What to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Offer {
        address: Ipv4Addr,
        lease_secs: u32,
    },
    Ack {
        address: Ipv4Addr,
        lease_secs: u32,
    },
    /// To an INFORM: options, and neither address nor lease times (RFC 2131 §4.3.5).
    AckInform,
    Nak(NakReason),
    /// To a machine that boots from the network beside somebody else's DHCP server: the boot file and no address (PXE 2.1 §2.2).
    ProxyOffer,
    /// The same, to its REQUEST or INFORM (PXE 2.1 §2.5).
    ProxyAck,
    Silent(Silence),
}

/// An answer and what must be true before it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub answer: Answer,
    pub change: Option<BindingChange>,
    /// The rule it follows, for people.
    pub rule: &'static str,
}

/// Decides one packet.
pub fn decide(request: &Request, view: &View) -> Decision {
    let Some(client) = view.client.clone() else {
        return silent(
            Silence::NoIdentity,
            "a client is known by its hardware address or its client-id (RFC 2131 §2)",
        );
    };
    if view.classes.iter().any(|class| class.ignore) {
        return silent(Silence::IgnoredClass, "a class of the client says ignore");
    }
    match request.kind {
        Kind::Discover => discover(request, client, view),
        Kind::Request => request_address(request, client, view),
        Kind::Decline => decline(request, &client, view),
        Kind::Release => release(request, view),
        Kind::Inform if view.subnet.cidr.contains(&request.ciaddr) => Decision {
            answer: Answer::AckInform,
            change: None,
            rule: "a client with an address of its own gets options, and no lease (RFC 2131 §4.3.5)",
        },
        Kind::Inform => silent(
            Silence::NoSubnet,
            "its address is of another network than it is on",
        ),
    }
}

/// RFC 2131 §4.3.1: the reserved address; or else the one the client has, had or asks for; or else a free one.
fn discover(request: &Request, client: ClientKey, view: &View) -> Decision {
    let (address, rule) = match view.reserved_address() {
        Some(reserved) if is_declined(reserved, view) => {
            return silent(
                Silence::ReservedAddressDeclined,
                "its reserved address was declined: somebody else uses it (RFC 2131 §4.3.3)",
            );
        }
        Some(reserved) => (reserved, "the address is reserved for it"),
        None => match dynamic_address(request, &client, view) {
            Some(found) => found,
            None if view.pools().is_empty() => {
                return silent(
                    Silence::NoPool,
                    "the subnet has no pool that it may draw from",
                );
            }
            None => {
                return silent(
                    Silence::PoolExhausted,
                    "every address of its pools is taken",
                );
            }
        },
    };
    let is_bound = view.bindings.at(address).is_some_and(|lease| {
        lease.client == client
            && lease.state == LeaseState::Bound
            && lease.is_current(view.now_secs)
    });
    // A lease that runs already holds the address better than an offer would.
    let hold = (!is_bound).then(|| {
        BindingChange::Put(Lease {
            address,
            client,
            state: LeaseState::Offered,
            expires_secs: view.now_secs + OFFER_HOLD_SECS,
            hostname: request.hostname(),
            reservation: view.reservation.map(|own| own.id.clone()),
            circuit_id: view.circuit_id.clone(),
        })
    });
    Decision {
        answer: Answer::Offer {
            address,
            lease_secs: lease_secs(request, view),
        },
        change: hold,
        rule,
    }
}

/// An address from a pool, in the order of RFC 2131 §4.3.1.
fn dynamic_address(
    request: &Request,
    client: &ClientKey,
    view: &View,
) -> Option<(Ipv4Addr, &'static str)> {
    let known = view
        .bindings
        .of(client)
        .filter(|lease| !matches!(lease.state, LeaseState::Declined | LeaseState::Revoked))
        .filter(|lease| view.is_free_for(client, lease.address))
        .max_by_key(|lease| (lease.state == LeaseState::Bound, lease.expires_secs))
        .map(|lease| {
            (
                lease.address,
                "it has or had this address (RFC 2131 §4.3.1)",
            )
        });
    let asked = || {
        let address = request.requested.filter(|a| view.is_free_for(client, *a))?;
        Some((
            address,
            "it asks for this address, which is free (RFC 2131 §4.3.1)",
        ))
    };
    let new = || {
        let address = pool::find_free(client, view)?;
        Some((
            address,
            "this address of its pools is free (RFC 2131 §4.3.1)",
        ))
    };
    known.or_else(asked).or_else(new)
}

/// RFC 2131 §4.3.2.
fn request_address(request: &Request, client: ClientKey, view: &View) -> Decision {
    let (address, knows_us) = match request.state() {
        RequestState::Unclear => {
            return silent(
                Silence::NoAddressRequested,
                "a REQUEST names its address in option 50 or ciaddr (RFC 2131 §4.3.2)",
            );
        }
        RequestState::Selecting { .. } if request.server_id != Some(view.server_id) => {
            return Decision {
                change: offered_to(&client, view).map(|address| BindingChange::Withdraw {
                    address,
                    client: client.clone(),
                }),
                answer: Answer::Silent(Silence::OtherServerChosen),
                rule: "option 54 names another server, whose offer it takes (RFC 2131 §4.3.2)",
            };
        }
        RequestState::Selecting { requested } => (requested, true),
        RequestState::InitReboot { requested } => (requested, false),
        RequestState::Extending { ciaddr } => (ciaddr, false),
    };
    match verdict(address, &client, view) {
        Verdict::Theirs(rule) => ack(request, client, address, view, rule),
        // After a restart an offer is forgotten, and the address may still be free.
        Verdict::Free if knows_us || view.authoritative => ack(
            request,
            client,
            address,
            view,
            "the address is free, and it asks us or nobody else could know it",
        ),
        Verdict::Free => silent(
            Silence::UnknownLease,
            "nothing is known of it, and another server may know it (RFC 2131 §4.3.2)",
        ),
        Verdict::No(reason) => Decision {
            answer: Answer::Nak(reason),
            change: None,
            rule: reason.message(),
        },
    }
}

/// What is to be said of a client's wish to have an address.
enum Verdict {
    /// It is reserved for it, or a lease of it says so.
    Theirs(&'static str),
    /// Nothing speaks against it, and nothing is known either.
    Free,
    No(NakReason),
}

fn verdict(address: Ipv4Addr, client: &ClientKey, view: &View) -> Verdict {
    if !view.subnet.cidr.contains(&address) {
        return Verdict::No(NakReason::WrongNetwork);
    }
    if let Some(reserved) = view.reserved_address() {
        return match reserved == address {
            true if is_declined(address, view) => Verdict::No(NakReason::Taken),
            true => Verdict::Theirs("the address is reserved for it"),
            false => Verdict::No(NakReason::ReservedElsewhere),
        };
    }
    if view.catalog.by_address(address).is_some() {
        return Verdict::No(NakReason::ReservedForAnother);
    }
    if !view.is_in_pool(address) {
        return Verdict::No(NakReason::NotInPool);
    }
    if !view.is_free_for(client, address) {
        return Verdict::No(NakReason::Taken);
    }
    match view.bindings.at(address) {
        Some(lease) if lease.client == *client && lease.state == LeaseState::Revoked => {
            Verdict::No(NakReason::Revoked)
        }
        Some(lease) if lease.client == *client => {
            Verdict::Theirs("it was offered this address, or has or had it (RFC 2131 §4.3.2)")
        }
        // It returns with an address that is not the one it holds here.
        _ if holds_another(client, address, view) => Verdict::No(NakReason::Taken),
        _ => Verdict::Free,
    }
}

fn holds_another(client: &ClientKey, address: Ipv4Addr, view: &View) -> bool {
    view.bindings.of(client).any(|lease| {
        lease.address != address
            && view.subnet.cidr.contains(&lease.address)
            && matches!(lease.state, LeaseState::Bound | LeaseState::Offered)
            && lease.is_current(view.now_secs)
    })
}

fn offered_to(client: &ClientKey, view: &View) -> Option<Ipv4Addr> {
    view.bindings
        .of(client)
        .find(|lease| lease.state == LeaseState::Offered)
        .map(|lease| lease.address)
}

fn ack(
    request: &Request,
    client: ClientKey,
    address: Ipv4Addr,
    view: &View,
    rule: &'static str,
) -> Decision {
    let lease_secs = lease_secs(request, view);
    Decision {
        answer: Answer::Ack {
            address,
            lease_secs,
        },
        change: Some(BindingChange::Put(Lease {
            address,
            client,
            state: LeaseState::Bound,
            expires_secs: view.now_secs + u64::from(lease_secs),
            hostname: request.hostname(),
            reservation: view.reservation.map(|own| own.id.clone()),
            circuit_id: view.circuit_id.clone(),
        })),
        rule,
    }
}

/// RFC 2131 §4.3.3. Only who was given an address can say that it is taken: a stranger must not be able to empty a pool.
fn decline(request: &Request, client: &ClientKey, view: &View) -> Decision {
    let Some(address) = request.requested else {
        return silent(
            Silence::NoAddressRequested,
            "a DECLINE names its address in option 50 (RFC 2131 §4.4.4)",
        );
    };
    if request.server_id.is_some_and(|id| id != view.server_id) {
        return silent(Silence::OtherServerChosen, "option 54 names another server");
    }
    let is_theirs = view
        .bindings
        .at(address)
        .is_some_and(|lease| view.is_own(lease) && lease.state != LeaseState::Declined);
    if !is_theirs {
        return silent(
            Silence::NotTheHolder,
            "only who holds an address can give it back or decline it",
        );
    }
    Decision {
        answer: Answer::Silent(Silence::Declined),
        change: Some(BindingChange::Put(Lease {
            address,
            client: client.clone(),
            state: LeaseState::Declined,
            expires_secs: view.now_secs + DECLINE_SECS,
            hostname: None,
            reservation: view.reservation.map(|own| own.id.clone()),
            circuit_id: view.circuit_id.clone(),
        })),
        rule: "the address is given to nobody for a while (RFC 2131 §4.3.3)",
    }
}

/// RFC 2131 §4.3.4: the address is free at once, and its last holder is remembered.
fn release(request: &Request, view: &View) -> Decision {
    if request.server_id.is_some_and(|id| id != view.server_id) {
        return silent(Silence::OtherServerChosen, "option 54 names another server");
    }
    let held = view.bindings.at(request.ciaddr).filter(|lease| {
        view.is_own(lease) && matches!(lease.state, LeaseState::Bound | LeaseState::Offered)
    });
    let Some(held) = held else {
        return silent(
            Silence::NotTheHolder,
            "only who holds an address can give it back or decline it",
        );
    };
    Decision {
        answer: Answer::Silent(Silence::Released),
        change: Some(BindingChange::Put(Lease {
            state: LeaseState::Released,
            expires_secs: view.now_secs,
            ..held.clone()
        })),
        rule: "the address is free, and its last holder is remembered (RFC 2131 §4.3.4)",
    }
}

fn is_declined(address: Ipv4Addr, view: &View) -> bool {
    view.bindings
        .at(address)
        .is_some_and(|lease| lease.state == LeaseState::Declined && lease.is_current(view.now_secs))
}

/// The longest lease for the client, or the shorter one it asks for (RFC 2131 §4.3.1).
fn lease_secs(request: &Request, view: &View) -> u32 {
    let (longest, _) = view.longest_lease(request);
    request.lease_secs.map_or(longest, |asked| {
        asked.clamp(SHORTEST_LEASE_SECS.min(longest), longest)
    })
}

pub(super) fn silent(reason: Silence, rule: &'static str) -> Decision {
    Decision {
        answer: Answer::Silent(reason),
        change: None,
        rule,
    }
}

#[cfg(test)]
mod tests;
