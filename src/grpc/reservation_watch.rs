//! The stream of reservations. In: which ones, and from where. Out: each change once and in order, out of what the store remembers;
//! a reader that is slow reads what it missed, until that is no longer remembered (`following`).

use std::sync::Arc;

use bootjack_api::v1;
use bootjack_api::v1::watch_reservations_response::Kind;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::convert;
use super::errors::invalid;
use super::following::{self, Gone, parts, send, too_old};
use super::reservation_filter::Filter;
use crate::catalog::Catalog;
use crate::model::Reservation;
use crate::store::feed::ReservationNote;
use crate::store::{Snapshot, Store};

/// How many may wait for a reader.
const WAITING: usize = 8;

type To = following::To<v1::WatchReservationsResponse>;

/// One stream.
pub(super) struct Watch {
    store: Store,
    filter: Filter,
    /// The revision that the reader knows.
    position: u64,
    /// What is told first.
    state: Option<Snapshot>,
}

/// What resumes a stream after this revision.
pub(super) fn token(store: &Store, revision: u64) -> String {
    format!("{revision}.{}", store.feed().origin())
}

impl Watch {
    pub(super) fn new(store: Store, request: v1::WatchReservationsRequest) -> Result<Self, Status> {
        let filter = Filter::new(&request.filter)?;
        if request.resume_token.is_empty() {
            let now = store.snapshot();
            return Ok(Self {
                position: now.revision,
                state: Some(now).filter(|_| request.initial_state),
                filter,
                store,
            });
        }
        if request.initial_state {
            let text = "initial_state: wanted only without resume_token";
            return Err(invalid("initial_state", text));
        }
        let (position, origin) = parts(&request.resume_token)?;
        let ring = store.feed().reservations();
        if origin != store.feed().origin() || position > ring.last() {
            let why = "resume_token is of other reservations than there are now: the configuration file was changed, or the store is another";
            return Err(too_old(why));
        }
        if ring.since(position, 1).is_err() {
            return Err(too_old("resume_token is older than what is remembered"));
        }
        Ok(Self {
            store,
            filter,
            position,
            state: None,
        })
    }

    /// Sends until nobody listens, until the reader is too slow, or until `stop`.
    pub(super) fn start(
        self,
        stop: CancellationToken,
    ) -> ReceiverStream<Result<v1::WatchReservationsResponse, Status>> {
        following::stream(WAITING, stop, |to| self.send_to(to))
    }

    async fn send_to(mut self, to: To) -> Result<(), Gone> {
        let mut last = self.store.feed().reservations().watch();
        if let Some(state) = self.state.take() {
            self.send_state(&state, &to).await?;
        }
        loop {
            let ring = self.store.feed().reservations();
            let notes = following::next(ring, self.position, &mut last, &to).await?;
            let catalog = self.store.catalog();
            for (at, note) in notes {
                self.position = at;
                if let Some(message) = self.message(&catalog, &note) {
                    send(&to, message).await?;
                }
            }
        }
    }

    async fn send_state(&self, state: &Snapshot, to: &To) -> Result<(), Gone> {
        let catalog = &state.catalog;
        for reservation in catalog.reservations(None) {
            if self.filter.fits(catalog, reservation) {
                let message = v1::WatchReservationsResponse {
                    kind: Kind::Created.into(),
                    reservation: Some(convert::to_message(reservation)),
                    revision: signed(reservation.revision),
                    resume_token: String::new(),
                };
                send(to, message).await?;
            }
        }
        let synced = v1::WatchReservationsResponse {
            kind: Kind::Synced.into(),
            reservation: None,
            revision: signed(state.revision),
            resume_token: token(&self.store, state.revision),
        };
        send(to, synced).await
    }

    fn message(
        &self,
        catalog: &Catalog,
        note: &ReservationNote,
    ) -> Option<v1::WatchReservationsResponse> {
        let fits = |side: &Option<Arc<Reservation>>| {
            let side = side.as_deref();
            side.filter(|reservation| self.filter.fits(catalog, reservation))
                .cloned()
        };
        let (kind, reservation) = match (fits(&note.before), fits(&note.after)) {
            (None, Some(after)) => (Kind::Created, after),
            (Some(_), Some(after)) => (Kind::Updated, after),
            (Some(before), None) => (Kind::Deleted, before),
            (None, None) => return None,
        };
        Some(v1::WatchReservationsResponse {
            kind: kind.into(),
            reservation: Some(convert::to_message(&reservation)),
            revision: signed(note.revision),
            resume_token: token(&self.store, note.revision),
        })
    }
}

fn signed(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}
