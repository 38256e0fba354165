//! `bootjack.v1.Reservations` over the store. In: a call. Out: the reservation as it is on disk, or a status that says why nothing was
//! changed.

use bootjack_api::v1;
use bootjack_api::v1::reservations_server::Reservations;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::errors::{broken, invalid, of_refusal, to_status};
use super::paging::Wanted;
use super::reservation_filter::Filter;
use super::{batch, convert, reservation_watch};
use crate::catalog::{Catalog, Change, Refusal};
use crate::convergence;
use crate::model::{Event, Reservation};
use crate::net::now_secs;
use crate::observe::emit;
use crate::store::{ChangeError, Store, Written};

/// A machine may take so long for its new address, and no longer.
const LONGEST_TIMEOUT_SECS: i64 = 30 * 86_400;

/// The service.
pub struct Service {
    store: Store,
    /// Streams end with the service, which waits for everything that runs.
    stop: CancellationToken,
}

impl Service {
    pub fn new(store: Store, stop: CancellationToken) -> Self {
        Self { store, stop }
    }

    /// Refuses what would break a document of the machine: that is seen now, and not on a console at night.
    async fn lint(&self, next: Catalog, reservation: &Reservation) -> Result<(), Status> {
        let reservation = reservation.clone();
        // Hashing a password takes some milliseconds.
        let look = move || {
            let errors = crate::lint::machine::errors(&next, &reservation);
            (reservation, errors)
        };
        match tokio::task::spawn_blocking(look).await {
            Ok((_, errors)) if errors.is_empty() => Ok(()),
            Ok((reservation, errors)) => Err(broken(&reservation, &errors)),
            Err(panic) => Err(Status::internal(panic.to_string())),
        }
    }

    /// Looks whether the change can be made, as far as is known now.
    async fn check(&self, change: &Change) -> Result<(), Status> {
        let catalog = self.store.catalog();
        if let Change::Create(reservation) = change
            && is_repeat(&catalog, reservation)
        {
            return Ok(());
        }
        let next = catalog.with(change).map_err(|why| of_refusal(&why))?;
        match change {
            Change::Create(reservation) | Change::Update { reservation, .. } => {
                self.lint(next, reservation).await
            }
            Change::Delete { .. } => Ok(()),
        }
    }

    /// Makes the change. Whether it fits is asked once more, of the store, which knows what else is written meanwhile.
    async fn apply(&self, change: Change, what: &'static str) -> Result<Written, ChangeError> {
        let written = self.store.change(change, now_secs()).await?;
        tell(&written, what);
        Ok(written)
    }

    async fn create(
        &self,
        mut new: Reservation,
        validate_only: bool,
        timeout_secs: Option<u64>,
    ) -> Result<v1::Reservation, Status> {
        let bindings = self.store.bindings();
        new.moved = convergence::moved(None, &new, &bindings, timeout_secs, now_secs());
        let change = Change::Create(new.clone());
        self.check(&change).await?;
        if validate_only {
            let catalog = self.store.catalog();
            let known = catalog.by_id(&new.id).filter(|_| is_repeat(&catalog, &new));
            return Ok(known.map_or_else(|| supposed(&new), |made| convert::to_message(made)));
        }
        let written = self.apply(change, "created").await;
        let written = written.map_err(|error| to_status(&error))?;
        Ok(convert::to_message(&written.reservation))
    }

    async fn update(
        &self,
        request: &v1::UpdateReservationRequest,
        message: &v1::Reservation,
    ) -> Result<v1::Reservation, Status> {
        let timeout = timeout_secs(request)?;
        let etag = convert::to_revision(&message.etag)?;
        loop {
            let catalog = self.store.catalog();
            let known = match convert::find(&catalog, &message.name) {
                Err(status) if status.code() == tonic::Code::NotFound && request.allow_missing => {
                    return self.create_missing(request, message, timeout).await;
                }
                found => found?,
            };
            let mut reservation = convert::to_update(request, message, known)?;
            let bindings = self.store.bindings();
            reservation.moved =
                convergence::moved(Some(known), &reservation, &bindings, timeout, now_secs());
            let change = Change::Update {
                reservation: reservation.clone(),
                // What the mask does not name is as it was just read.
                expected: Some(etag.unwrap_or(known.revision)),
            };
            self.check(&change).await?;
            if request.validate_only {
                return Ok(supposed(&reservation));
            }
            match self.apply(change, "updated").await {
                Ok(written) => return Ok(convert::to_message(&written.reservation)),
                Err(ChangeError::Refused(Refusal::Stale { .. })) if etag.is_none() => {}
                Err(error) => return Err(to_status(&error)),
            }
        }
    }

    async fn create_missing(
        &self,
        request: &v1::UpdateReservationRequest,
        message: &v1::Reservation,
        timeout: Option<u64>,
    ) -> Result<v1::Reservation, Status> {
        let new = convert::to_create(v1::CreateReservationRequest {
            reservation_id: convert::id_in(&message.name).to_owned(),
            reservation: Some(message.clone()),
            ..Default::default()
        })?;
        self.create(new, request.validate_only, timeout).await
    }
}

/// Whether the same call made it before; the store looks once more.
fn is_repeat(catalog: &Catalog, new: &Reservation) -> bool {
    let made = new.request.as_ref().and_then(|r| catalog.by_request(&r.id));
    made.is_some()
}

/// What would be answered.
fn supposed(reservation: &Reservation) -> v1::Reservation {
    v1::Reservation {
        etag: String::new(),
        create_time: None,
        update_time: None,
        operation: String::new(),
        ..convert::to_message(reservation)
    }
}

fn timeout_secs(request: &v1::UpdateReservationRequest) -> Result<Option<u64>, Status> {
    let Some(timeout) = &request.convergence_timeout else {
        return Ok(None);
    };
    match u64::try_from(timeout.seconds) {
        Ok(secs) if (1..=LONGEST_TIMEOUT_SECS).contains(&timeout.seconds) => Ok(Some(secs)),
        _ => {
            let text = "convergence_timeout: wanted 1 second to 30 days";
            Err(invalid("convergence_timeout", text))
        }
    }
}

/// Says what was written, unless it had been before.
pub(super) fn tell(written: &Written, change: &'static str) {
    if written.is_repeat {
        return;
    }
    let reservation = &written.reservation;
    emit(&Event::Reserved {
        machine: reservation.title().to_owned(),
        mac: reservation.known_by(),
        address: reservation.address,
        change,
        revision: reservation.revision,
    });
    for lease in &written.revoked {
        emit(&Event::Revoked {
            address: lease.address,
            client: lease.client.to_string(),
            machine: reservation.title().to_owned(),
        });
    }
}

#[tonic::async_trait]
impl Reservations for Service {
    async fn create_reservation(
        &self,
        request: Request<v1::CreateReservationRequest>,
    ) -> Result<Response<v1::Reservation>, Status> {
        let request = request.into_inner();
        let (request_id, validate_only) = (request.request_id.clone(), request.validate_only);
        let mut new = convert::to_create(request)?;
        new.request = convert::to_request_id(&request_id, std::slice::from_ref(&new))?;
        let made = self.create(new, validate_only, None).await?;
        Ok(Response::new(made))
    }

    async fn batch_create_reservations(
        &self,
        request: Request<v1::BatchCreateReservationsRequest>,
    ) -> Result<Response<v1::BatchCreateReservationsResponse>, Status> {
        let reservations = batch::create(&self.store, request.into_inner()).await?;
        let answer = v1::BatchCreateReservationsResponse { reservations };
        Ok(Response::new(answer))
    }

    async fn get_reservation(
        &self,
        request: Request<v1::GetReservationRequest>,
    ) -> Result<Response<v1::Reservation>, Status> {
        let catalog = self.store.catalog();
        let reservation = convert::find(&catalog, &request.get_ref().name)?;
        Ok(Response::new(convert::to_message(reservation)))
    }

    async fn list_reservations(
        &self,
        request: Request<v1::ListReservationsRequest>,
    ) -> Result<Response<v1::ListReservationsResponse>, Status> {
        let request = request.into_inner();
        let filter = Filter::new(&request.filter)?;
        let query = ["reservations", &request.filter];
        let wanted = Wanted::new(request.page_size, &request.page_token, &query)?;
        let now = self.store.snapshot();
        let catalog = &now.catalog;
        let fits = |reservation: &Reservation| filter.fits(catalog, reservation);
        let count = || match filter.is_empty() {
            true => catalog.len(),
            false => catalog.reservations(None).filter(|r| fits(r)).count(),
        };
        let rest = catalog.reservations(wanted.after.as_deref());
        let page = wanted.page(
            rest.filter(|reservation| fits(reservation)),
            |reservation| reservation.id.clone(),
            |reservation| convert::to_message(reservation),
            count,
        );
        Ok(Response::new(v1::ListReservationsResponse {
            reservations: page.items,
            next_page_token: page.next_token,
            total_size: page.total,
            resume_token: reservation_watch::token(&self.store, now.revision),
        }))
    }

    async fn update_reservation(
        &self,
        request: Request<v1::UpdateReservationRequest>,
    ) -> Result<Response<v1::Reservation>, Status> {
        let request = request.into_inner();
        let message = (request.reservation.as_ref())
            .ok_or_else(|| invalid("reservation", "reservation is missing"))?;
        Ok(Response::new(self.update(&request, message).await?))
    }

    async fn delete_reservation(
        &self,
        request: Request<v1::DeleteReservationRequest>,
    ) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        let catalog = self.store.catalog();
        let id = match convert::find(&catalog, &request.name) {
            Ok(reservation) => reservation.id.clone(),
            // Those that are set aside are not in the catalog, and the store knows them by id.
            Err(_) if !convert::id_in(&request.name).is_empty() => {
                convert::id_in(&request.name).to_owned()
            }
            Err(status) => return Err(status),
        };
        let expected = convert::to_revision(&request.etag)?;
        let change = Change::Delete { id, expected };
        let deleted = match request.validate_only {
            true => catalog.with(&change).map(drop).map_err(ChangeError::from),
            false => self.apply(change, "deleted").await.map(drop),
        };
        match deleted {
            Err(ChangeError::Refused(Refusal::NotFound(_))) if request.allow_missing => {
                Ok(Response::new(()))
            }
            deleted => deleted.map(Response::new).map_err(|e| to_status(&e)),
        }
    }

    type WatchReservationsStream = ReceiverStream<Result<v1::WatchReservationsResponse, Status>>;

    async fn watch_reservations(
        &self,
        request: Request<v1::WatchReservationsRequest>,
    ) -> Result<Response<Self::WatchReservationsStream>, Status> {
        let watch = reservation_watch::Watch::new(self.store.clone(), request.into_inner())?;
        Ok(Response::new(watch.start(self.stop.clone())))
    }
}
