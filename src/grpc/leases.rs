//! `bootjack.v1.Leases` over the store. In: a call. Out: leases as they are now, those that are reserved and held by nobody among them.

use std::net::Ipv4Addr;

use bootjack_api::v1;
use bootjack_api::v1::leases_server::Leases;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use super::errors::{invalid, not_found, refused, stale, store_failed};
use super::lease_filter::Filter;
use super::lease_message::{COLLECTION, etag, known, to_message};
use super::lease_watch;
use super::paging::Wanted;
use crate::bindings::Bindings;
use crate::catalog::Catalog;
use crate::model::{Lease, Reservation};
use crate::net::now_secs;
use crate::store::{ReleaseError, Store};

/// The service.
pub struct Held {
    store: Store,
    stop: CancellationToken,
}

impl Held {
    pub fn new(store: Store, stop: CancellationToken) -> Self {
        Self { store, stop }
    }
}

/// What is known of each address above `after`, in order: its lease, or whose it is.
pub(super) fn all<'a>(
    catalog: &'a Catalog,
    bindings: &'a Bindings,
    after: Option<Ipv4Addr>,
) -> impl Iterator<Item = (Ipv4Addr, Option<&'a Lease>)> {
    let mut leases = bindings.after(after).peekable();
    let mut reserved = catalog.reserved(after).peekable();
    std::iter::from_fn(move || {
        let lease = leases.peek().map(|lease| lease.address);
        let reservation = reserved.peek().map(|(address, _)| *address);
        let next = lease.into_iter().chain(reservation).min()?;
        if reservation == Some(next) {
            reserved.next();
        }
        let lease = leases.next_if(|lease| lease.address == next);
        Some((next, lease))
    })
}

/// The address that a resource name means.
fn address_in(name: &str) -> Result<Ipv4Addr, Status> {
    let word = name.strip_prefix(COLLECTION).unwrap_or(name);
    word.parse().map_err(|_| {
        let text = format!(
            "name: `{}` is not the name of a lease; wanted {COLLECTION}ADDRESS, such as {COLLECTION}198.18.0.100",
            name.escape_default()
        );
        invalid("name", &text)
    })
}

fn nothing_known(address: Ipv4Addr) -> Status {
    let resource = format!("{COLLECTION}{address}");
    let text = format!("lease {address}: nobody holds or declined it; see: bootjack lease list");
    not_found(&resource, &text)
}

fn to_status(address: Ipv4Addr, error: &ReleaseError, sent: &str) -> Status {
    let resource = format!("{COLLECTION}{address}");
    match error {
        ReleaseError::NothingHeld => nothing_known(address),
        ReleaseError::Reserved(id) => {
            let text = format!(
                "lease {address}: it is reserved for the machine that holds it, {id}, which would be given it again; give the reservation another address, or delete it"
            );
            let owner = format!("reservations/{id}");
            let facts = [("resource", owner.as_str())];
            refused(Code::FailedPrecondition, "RESERVED", &facts, &text)
        }
        ReleaseError::Changed(now) => stale(&resource, &etag(now), sent),
        ReleaseError::Failed(failure) => store_failed(failure),
    }
}

#[tonic::async_trait]
impl Leases for Held {
    async fn get_lease(
        &self,
        request: Request<v1::GetLeaseRequest>,
    ) -> Result<Response<v1::Lease>, Status> {
        let address = address_in(&request.get_ref().name)?;
        let now = self.store.snapshot();
        let lease = now.bindings.at(address);
        if lease.is_none() && now.catalog.by_address(address).is_none() {
            return Err(nothing_known(address));
        }
        let message = to_message(&now.catalog, &known(address, lease), now_secs());
        Ok(Response::new(message))
    }

    async fn list_leases(
        &self,
        request: Request<v1::ListLeasesRequest>,
    ) -> Result<Response<v1::ListLeasesResponse>, Status> {
        let request = request.into_inner();
        let filter = Filter::new(&request.filter)?;
        let query = ["leases", &request.filter];
        let wanted = Wanted::new(request.page_size, &request.page_token, &query)?;
        let (now, secs) = (self.store.snapshot(), now_secs());
        let after = wanted.after.as_deref().and_then(|after| after.parse().ok());
        let fitting = |after| {
            all(&now.catalog, &now.bindings, after)
                .map(|(address, lease)| known(address, lease))
                .filter(|known| filter.fits(&now.catalog, known, secs))
        };
        let page = wanted.page(
            fitting(after),
            |known| known.address.to_string(),
            |known| to_message(&now.catalog, &known, secs),
            || fitting(None).count(),
        );
        Ok(Response::new(v1::ListLeasesResponse {
            leases: page.items,
            next_page_token: page.next_token,
            total_size: page.total,
            resume_token: lease_watch::token(&self.store, now.lease_sequence),
        }))
    }

    async fn release_lease(
        &self,
        request: Request<v1::ReleaseLeaseRequest>,
    ) -> Result<Response<v1::Lease>, Status> {
        let request = request.into_inner();
        let address = address_in(&request.name)?;
        let now = now_secs();
        let is_meant = |lease: &Lease| request.etag.is_empty() || etag(lease) == request.etag;
        let released = self.store.release(address, is_meant, now).await;
        let was = released.map_err(|error| to_status(address, &error, &request.etag))?;
        let catalog = self.store.catalog();
        let message = to_message(&catalog, &known(address, Some(&was)), now);
        let reservation = |own: &Reservation| own.title().to_owned();
        crate::observe::emit(&crate::model::Event::Revoked {
            address,
            client: was.client.to_string(),
            machine: (catalog.by_address(address))
                .map_or_else(|| "operator".to_owned(), |own| reservation(own)),
        });
        Ok(Response::new(message))
    }

    type WatchLeasesStream = ReceiverStream<Result<v1::WatchLeasesResponse, Status>>;

    async fn watch_leases(
        &self,
        request: Request<v1::WatchLeasesRequest>,
    ) -> Result<Response<Self::WatchLeasesStream>, Status> {
        let watch = lease_watch::Watch::new(self.store.clone(), request.into_inner())?;
        Ok(Response::new(watch.start(self.stop.clone())))
    }
}
