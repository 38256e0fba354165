//! The gRPC shell: which services there are.

use std::time::Duration;

use bootjack_api::v1;
use bootjack_api::v1::artifacts_server::ArtifactsServer;
use bootjack_api::v1::dhcp_server::DhcpServer;
use bootjack_api::v1::leases_server::LeasesServer;
use bootjack_api::v1::machines_server::MachinesServer;
use bootjack_api::v1::operations_server::OperationsServer;
use bootjack_api::v1::profiles_server::ProfilesServer;
use bootjack_api::v1::replicas_server::ReplicasServer;
use bootjack_api::v1::reservations_server::ReservationsServer;
use bootjack_api::v1::server_server::ServerServer;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use super::accept::accept;
use super::access::door::Credentials;
use super::artifacts::Stock;
pub use super::dhcp::{Explainer, ServerIds};
use super::leases::Held;
use super::listen::Bound;
use super::machines::Lives;
use super::operations::Moves;
use super::profiles::Shelf;
use super::replicas;
use super::reservations::Service;
use super::server_info::{Desk, Facts};
use crate::artifact::store::Artifacts;
use crate::config::Grpc;
use crate::config::Upstream;
use crate::observe::timeline::Timeline;
use crate::store::Store;
use crate::store::profiles::Places;

/// What the services work on.
pub struct World {
    pub store: Store,
    pub timeline: Timeline,
    pub explainer: Explainer,
    pub config: Grpc,
    pub credentials: Credentials,
    pub replicas: replicas::Service,
    /// Where profiles lie.
    pub places: Places,
    pub artifacts: Artifacts,
    /// What the configuration names of them.
    pub upstream: Vec<Upstream>,
    pub facts: Facts,
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
    health.set_serving::<LeasesServer<Held>>().await;
    health.set_serving::<ArtifactsServer<Stock>>().await;
    health.set_serving::<ProfilesServer<Shelf>>().await;
    health.set_serving::<ServerServer<Desk>>().await;
    health.set_serving::<OperationsServer<Moves>>().await;
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
        places,
        artifacts,
        upstream,
        facts,
    } = world;
    let (door, gate) = credentials.open(&config)?;
    let connections = accept(sockets, &door, &stop);
    tokio::spawn(door.keep(stop.clone()));
    let lives = Lives::new(store.clone(), timeline.clone(), stop.clone());
    let held = Held::new(store.clone(), stop.clone());
    let moves = Moves::new(store.clone(), timeline, stop.clone());
    let shelf = Shelf::new(store.clone(), places);
    let stock = Stock::new(store.clone(), artifacts, upstream);
    let desk = Desk::new(store.clone(), facts);
    Server::builder()
        .max_concurrent_streams(MOST_CALLS)
        .http2_max_header_list_size(LARGEST_HEAD)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_ANSWER))
        .layer(gate)
        .add_service(DhcpServer::new(explainer))
        .add_service(ReplicasServer::new(replicas))
        .add_service(MachinesServer::new(lives))
        .add_service(ArtifactsServer::new(stock))
        .add_service(ProfilesServer::new(shelf))
        .add_service(ServerServer::new(desk))
        .add_service(LeasesServer::new(held))
        .add_service(OperationsServer::new(moves))
        .add_service(
            ReservationsServer::new(Service::new(store, stop.clone()))
                .max_decoding_message_size(LARGEST_BATCH),
        )
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned())
        .await?;
    Ok(())
}
