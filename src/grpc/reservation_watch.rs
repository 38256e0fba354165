//! The stream of reservations. In: which ones, and from where. Out: each change once and in order, out of what the store remembers;
//! a reader that is slow reads what it missed, until that is no longer remembered.

use std::sync::Arc;

use bootjack_api::v1;
use bootjack_api::v1::watch_reservations_response::Kind;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::convert;
use super::errors::{invalid, refused};
use super::reservation_filter::Filter;
use crate::catalog::Catalog;
use crate::model::Reservation;
use crate::store::feed::ReservationNote;
use crate::store::{Snapshot, Store};

/// How many are read at once, and how many may wait for a reader.
const CHUNK: usize = 256;
const WAITING: usize = 8;

type To = mpsc::Sender<Result<v1::WatchReservationsResponse, Status>>;

/// One stream.
pub(super) struct Watch {
    store: Store,
    filter: Filter,
    /// The revision that the reader knows.
    position: u64,
    /// What is told first.
    state: Option<Snapshot>,
}

/// Nobody reads any more.
struct Gone;

/// What resumes a stream after this revision.
pub(super) fn token(store: &Store, revision: u64) -> String {
    format!("{revision}.{}", store.feed().origin())
}

/// OUT_OF_RANGE: what a token asks for is no longer remembered.
pub(super) fn too_old(why: &str) -> Status {
    let text = format!("{why}; list again, then watch from the list's resume_token");
    refused(tonic::Code::OutOfRange, "RESUME_TOKEN_TOO_OLD", &[], &text)
}

/// INVALID_ARGUMENT: the token is none of ours.
pub(super) fn foreign(token: &str) -> Status {
    let token: String = token.chars().take(80).collect();
    let text = format!(
        "resume_token `{}` was not made by this server",
        token.escape_default()
    );
    invalid("resume_token", &text)
}

/// The number and the rest of a token such as `17.ab12cd34`.
pub(super) fn parts(token: &str) -> Result<(u64, &str), Status> {
    let parts = token.split_once('.');
    let is_origin = |word: &str| word.len() == 8 && word.bytes().all(|b| b.is_ascii_hexdigit());
    match parts.map(|(number, origin)| (number.parse(), origin)) {
        Some((Ok(number), origin)) if is_origin(origin) => Ok((number, origin)),
        _ => Err(foreign(token)),
    }
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
        let (to, stream) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                _ = self.send_to(to) => {}
            }
        });
        ReceiverStream::new(stream)
    }

    async fn send_to(mut self, to: To) -> Result<(), Gone> {
        let mut last = self.store.feed().reservations().watch();
        if let Some(state) = self.state.take() {
            self.send_state(&state, &to).await?;
        }
        loop {
            last.borrow_and_update();
            let notes = (self.store.feed().reservations()).since(self.position, CHUNK);
            let Ok(notes) = notes else {
                let why = "the reader is slower than what happens is remembered";
                return send(&to, Err(too_old(why))).await;
            };
            if notes.is_empty() {
                tokio::select! {
                    () = to.closed() => return Err(Gone),
                    changed = last.changed() => if changed.is_err() {
                        return Ok(());
                    },
                }
            }
            let catalog = self.store.catalog();
            for (at, note) in notes {
                self.position = at;
                if let Some(message) = self.message(&catalog, &note) {
                    send(&to, Ok(message)).await?;
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
                send(to, Ok(message)).await?;
            }
        }
        let synced = v1::WatchReservationsResponse {
            kind: Kind::Synced.into(),
            reservation: None,
            revision: signed(state.revision),
            resume_token: token(&self.store, state.revision),
        };
        send(to, Ok(synced)).await
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

async fn send(to: &To, message: Result<v1::WatchReservationsResponse, Status>) -> Result<(), Gone> {
    to.send(message).await.map_err(|_| Gone)
}

fn signed(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}
