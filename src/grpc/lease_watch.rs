//! The stream of leases. In: which ones, and from where. Out: each change once and in order, out of what the store remembers.

use std::collections::HashSet;

use bootjack_api::v1;
use bootjack_api::v1::watch_leases_response::Kind;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::errors::invalid;
use super::following::{self, Gone, parts, send, too_old};
use super::lease_filter::Filter;
use super::lease_message::{known, to_message};
use super::leases::all;
use crate::catalog::Catalog;
use crate::model::{Lease, LeaseState};
use crate::net::now_secs;
use crate::store::feed::LeaseNote;
use crate::store::{Snapshot, Store};

/// How many may wait for a reader.
const WAITING: usize = 64;

type To = following::To<v1::WatchLeasesResponse>;

/// One stream.
pub(super) struct Watch {
    store: Store,
    filter: Filter,
    /// The sequence number that the reader knows.
    position: u64,
    /// What was there when it began.
    state: Snapshot,
    tells_state: bool,
    /// Changes up to here may be of leases that fitted when nobody looked.
    resumed_until: u64,
}

/// What resumes a stream after this one.
pub(super) fn token(store: &Store, sequence: u64) -> String {
    format!("{sequence}.{}", store.feed().run())
}

impl Watch {
    pub(super) fn new(store: Store, request: v1::WatchLeasesRequest) -> Result<Self, Status> {
        let filter = Filter::new(&request.filter)?;
        let state = store.snapshot();
        let now = state.lease_sequence;
        let position = match request.resume_token.as_str() {
            "" => now,
            _ if request.initial_state => {
                let text = "initial_state: wanted only without resume_token";
                return Err(invalid("initial_state", text));
            }
            token => resumed(&store, token)?,
        };
        Ok(Self {
            store,
            filter,
            position,
            state,
            tells_state: request.initial_state,
            resumed_until: now,
        })
    }

    /// Sends until nobody listens, until the reader is too slow, or until `stop`.
    pub(super) fn start(
        self,
        stop: CancellationToken,
    ) -> ReceiverStream<Result<v1::WatchLeasesResponse, Status>> {
        following::stream(WAITING, stop, |to| self.send_to(to))
    }

    async fn send_to(self, to: To) -> Result<(), Gone> {
        let Self {
            store,
            filter,
            mut position,
            state,
            tells_state,
            resumed_until,
        } = self;
        let mut last = store.feed().leases().watch();
        // The addresses whose lease fitted last: one that no longer does is told once more.
        let mut fitting = HashSet::new();
        let now = now_secs();
        for (address, lease) in all(&state.catalog, &state.bindings, None) {
            let known = known(address, lease);
            if filter.fits(&state.catalog, &known, now) {
                fitting.insert(address);
                if tells_state {
                    let lease = to_message(&state.catalog, &known, now);
                    send(&to, message(Kind::Put, Some(lease), String::new())).await?;
                }
            }
        }
        if tells_state {
            let token = token(&store, state.lease_sequence);
            send(&to, message(Kind::Synced, None, token)).await?;
        }
        drop(state);
        loop {
            let ring = store.feed().leases();
            let notes = following::next(ring, position, &mut last, &to).await?;
            let (catalog, now) = (store.catalog(), now_secs());
            for (at, note) in notes {
                position = at;
                let (kind, lease) = told(&note);
                let is_new = filter.fits(&catalog, &known(lease.address, Some(&lease)), now);
                let was = fitting.contains(&lease.address) || at <= resumed_until;
                match is_new && kind == Kind::Put {
                    true => fitting.insert(lease.address),
                    false => fitting.remove(&lease.address),
                };
                if is_new || was {
                    let lease = shown(&catalog, kind, &lease, now);
                    let message = message(kind, Some(lease), token(&store, at));
                    send(&to, message).await?;
                }
            }
        }
    }
}

fn resumed(store: &Store, token: &str) -> Result<u64, Status> {
    let (position, run) = parts(token)?;
    let ring = store.feed().leases();
    if run != store.feed().run() || position > ring.last() {
        return Err(too_old(
            "resume_token is of an earlier run of the service, or of another one",
        ));
    }
    match ring.since(position, 1) {
        Ok(_) => Ok(position),
        Err(_) => Err(too_old("resume_token is older than what is remembered")),
    }
}

/// What became of a lease, and the lease.
fn told(note: &LeaseNote) -> (Kind, Lease) {
    match note {
        LeaseNote::Put(lease) => (Kind::Put, lease.clone()),
        LeaseNote::Forgotten(lease) => (Kind::Forgotten, lease.clone()),
        LeaseNote::Withdrawn { address, client } => {
            let offer = Lease {
                address: *address,
                client: client.clone(),
                state: LeaseState::Offered,
                expires_secs: 0,
                hostname: None,
                reservation: None,
                circuit_id: None,
            };
            (Kind::Forgotten, offer)
        }
    }
}

/// A lease that is forgotten is shown as it was, and never as one that has run out.
fn shown(catalog: &Catalog, kind: Kind, lease: &Lease, now_secs: u64) -> v1::Lease {
    let mut message = to_message(catalog, &known(lease.address, Some(lease)), now_secs);
    if kind == Kind::Forgotten && lease.expires_secs == 0 {
        message.set_state(v1::lease::State::Offered);
        message.expire_time = None;
    }
    message
}

fn message(kind: Kind, lease: Option<v1::Lease>, resume_token: String) -> v1::WatchLeasesResponse {
    v1::WatchLeasesResponse {
        kind: kind.into(),
        lease,
        resume_token,
    }
}
