//! The gRPC shell: receive, convert, apply, convert, send, emit.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bootjack_api::v1;
use bootjack_api::v1::dhcp_server::{Dhcp, DhcpServer};
use bootjack_api::v1::machines_server::MachinesServer;
use bootjack_api::v1::replicas_server::ReplicasServer;
use bootjack_api::v1::reservations_server::{Reservations, ReservationsServer};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::accept::accept;
use super::convert;
use super::door::Credentials;
use super::listen::Bound;
use super::machines::Lives;
use super::replicas;
use crate::catalog::Change;
use crate::config::Grpc;
use crate::dhcp::answer::Mode;
use crate::dhcp::bootfile::BootServers;
use crate::dhcp::explain::{World as Explained, explain};
use crate::dhcp::proxy::Port;
use crate::dhcp::view::Ingress;
use crate::model::Event;
use crate::net::now_secs;
use crate::observe::emit;
use crate::observe::timeline::Timeline;
use crate::store::{ChangeError, Store, Written};

/// A page without a size, and the largest there is.
const USUAL_PAGE: usize = 1_000;
const LARGEST_PAGE: usize = 10_000;

/// What the services work on.
pub struct World {
    pub store: Store,
    pub timeline: Timeline,
    pub explainer: Explainer,
    pub config: Grpc,
    pub credentials: Credentials,
    pub replicas: replicas::Service,
}

/// The largest message of the methods that take a batch: 10,000 reservations of 1.6 KB each. Others take 4 MiB.
const LARGEST_BATCH: usize = 16 << 20;
/// Calls of one connection that run at once.
const MOST_CALLS: u32 = 256;
/// All headers of one call together: a token has some fifty octets.
const LARGEST_HEAD: u32 = 16 << 10;
/// A connection on which nothing comes back is over.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(20);

/// Serves on all of these sockets until `stop`; calls that run by then are finished.
pub async fn serve(
    sockets: Vec<Bound>,
    world: World,
    stop: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<ReservationsServer<Service>>().await;
    health.set_serving::<DhcpServer<Explainer>>().await;
    health.set_serving::<MachinesServer<Lives>>().await;
    health
        .set_serving::<ReplicasServer<replicas::Service>>()
        .await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let World {
        store,
        timeline,
        explainer,
        config,
        credentials,
        replicas,
    } = world;
    let (door, gate) = credentials.open(&config)?;
    let connections = accept(sockets, &door, &stop);
    tokio::spawn(door.keep(stop.clone()));
    let lives = Lives::new(store.clone(), timeline, stop.clone());
    Server::builder()
        .max_concurrent_streams(MOST_CALLS)
        .http2_max_header_list_size(LARGEST_HEAD)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_ANSWER))
        .layer(gate)
        .add_service(DhcpServer::new(explainer))
        .add_service(ReplicasServer::new(replicas))
        .add_service(MachinesServer::new(lives))
        .add_service(
            ReservationsServer::new(Service { store }).max_decoding_message_size(LARGEST_BATCH),
        )
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned())
        .await?;
    Ok(())
}

/// `bootjack.v1.Dhcp`: what the DHCP shells would answer.
pub struct Explainer {
    pub store: Store,
    pub boot: Arc<BootServers>,
    pub mode: Mode,
    pub authoritative: bool,
    pub server_ids: ServerIds,
}

/// The addresses that DHCP is served from, as they change.
pub type ServerIds = Arc<ArcSwap<Vec<Ipv4Addr>>>;

#[tonic::async_trait]
impl Dhcp for Explainer {
    async fn explain_dhcp(
        &self,
        request: Request<v1::ExplainDhcpRequest>,
    ) -> Result<Response<v1::ExplainDhcpResponse>, Status> {
        let request = request.into_inner();
        let server_id = convert::to_server_id(&request.server_address, &self.server_ids.load())?;
        let port = if request.boot_server_port {
            Port::BootServer
        } else {
            Port::Server
        };
        let (catalog, bindings) = (self.store.catalog(), self.store.bindings());
        let world = Explained {
            catalog: &catalog,
            bindings: &bindings,
            boot: &self.boot,
            mode: self.mode,
            ingress: Ingress {
                server_id,
                // Whoever renews sends to the server alone; how this packet was sent is not known.
                is_unicast: true,
                authoritative: self.authoritative,
                now_secs: now_secs(),
            },
        };
        let explanation = explain(&request.packet, port, world);
        Ok(Response::new(convert::to_explanation(&explanation)))
    }
}

/// `bootjack.v1.Reservations` over the store.
pub struct Service {
    store: Store,
}

impl Service {
    /// Refuses what would break a document of the machine: that is seen now, and not on a console at night.
    async fn lint(&self, change: &Change) -> Result<(), Status> {
        let (Change::Create(reservation) | Change::Update { reservation, .. }) = change else {
            return Ok(());
        };
        // What does not fit is refused by the store, which knows what else is written meanwhile.
        let Ok(next) = self.store.catalog().with(change) else {
            return Ok(());
        };
        let reservation = reservation.clone();
        // Hashing a password takes some milliseconds.
        let look = move || {
            let errors = crate::lint::machine::errors(&next, &reservation);
            (reservation, errors)
        };
        match tokio::task::spawn_blocking(look).await {
            Ok((_, errors)) if errors.is_empty() => Ok(()),
            Ok((reservation, errors)) => Err(convert::broken(&reservation, &errors)),
            Err(panic) => Err(Status::internal(panic.to_string())),
        }
    }

    async fn apply(&self, change: Change, what: &'static str) -> Result<Written, Status> {
        self.lint(&change).await?;
        match self.store.change(change, now_secs()).await {
            Ok(written) => {
                tell(&written, what);
                Ok(written)
            }
            Err(error) => {
                if let ChangeError::Failed(failure) = &error {
                    emit(&Event::Failed {
                        about: "store",
                        error: failure.to_string(),
                    });
                }
                Err(convert::to_status(&error))
            }
        }
    }
}

pub(super) fn page_size(asked: i32) -> Result<usize, Status> {
    match usize::try_from(asked) {
        Ok(0) => Ok(USUAL_PAGE),
        Ok(size) => Ok(size.min(LARGEST_PAGE)),
        Err(_) => Err(convert::invalid("page_size", "page_size is negative")),
    }
}

fn tell(written: &Written, change: &'static str) {
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
        let change = convert::to_create(request.into_inner())?;
        let written = self.apply(change, "created").await?;
        Ok(Response::new(convert::to_message(&written.reservation)))
    }

    async fn batch_create_reservations(
        &self,
        _request: Request<v1::BatchCreateReservationsRequest>,
    ) -> Result<Response<v1::BatchCreateReservationsResponse>, Status> {
        Err(Status::unimplemented("batches are not made yet"))
    }

    type WatchReservationsStream =
        tokio_stream::wrappers::ReceiverStream<Result<v1::WatchReservationsResponse, Status>>;

    async fn watch_reservations(
        &self,
        _request: Request<v1::WatchReservationsRequest>,
    ) -> Result<Response<Self::WatchReservationsStream>, Status> {
        Err(Status::unimplemented("reservations are not watched yet"))
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
        let size = page_size(request.page_size)?;
        // The token is the last id of the page before: no state is kept, and a page never repeats or skips what was not changed.
        let after = Some(request.page_token.as_str()).filter(|token| !token.is_empty());
        let catalog = self.store.catalog();
        let mut rest = catalog.reservations(after);
        let page: Vec<v1::Reservation> = rest
            .by_ref()
            .take(size)
            .map(|reservation| convert::to_message(reservation))
            .collect();
        let next_page_token = match (rest.next(), page.last()) {
            (Some(_), Some(last)) => convert::id_in(&last.name).to_owned(),
            _ => String::new(),
        };
        Ok(Response::new(v1::ListReservationsResponse {
            reservations: page,
            next_page_token,
            ..Default::default()
        }))
    }

    async fn update_reservation(
        &self,
        request: Request<v1::UpdateReservationRequest>,
    ) -> Result<Response<v1::Reservation>, Status> {
        let change = convert::to_update(request.get_ref(), &self.store.catalog())?;
        let written = self.apply(change, "updated").await?;
        Ok(Response::new(convert::to_message(&written.reservation)))
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
        self.apply(Change::Delete { id, expected }, "deleted")
            .await?;
        Ok(Response::new(()))
    }
}
