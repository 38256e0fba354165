//! `bootjack.v1.Dhcp`: what the DHCP shells would answer. In: a packet. Out: what would come back, and why.

use std::net::Ipv4Addr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bootjack_api::v1;
use bootjack_api::v1::dhcp_server::Dhcp;
use tonic::{Request, Response, Status};

use super::errors::invalid;
use super::values::json_struct;
use crate::dhcp::answer::Mode;
use crate::dhcp::bootfile::BootServers;
use crate::dhcp::explain::{Explanation, World, explain};
use crate::dhcp::proxy::Port;
use crate::dhcp::view::Ingress;
use crate::net::now_secs;
use crate::store::Store;

/// The service.
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
        let server_id = to_server_id(&request.server_address, &self.server_ids.load())?;
        let port = if request.boot_server_port {
            Port::BootServer
        } else {
            Port::Server
        };
        let (catalog, bindings) = (self.store.catalog(), self.store.bindings());
        let world = World {
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
        Ok(Response::new(to_explanation(&explanation)))
    }
}

/// The server's address that a packet is explained for.
fn to_server_id(text: &str, served: &[Ipv4Addr]) -> Result<Ipv4Addr, Status> {
    let list = || {
        let served: Vec<String> = served.iter().map(ToString::to_string).collect();
        format!("server_address: DHCP is served from: {}", served.join(", "))
    };
    let found = if text.is_empty() {
        served.first().copied()
    } else {
        let asked = text.parse().ok();
        served
            .iter()
            .copied()
            .find(|address| Some(*address) == asked)
    };
    found.ok_or_else(|| invalid("server_address", &list()))
}

/// An explanation, for people and for programs.
fn to_explanation(explanation: &Explanation) -> v1::ExplainDhcpResponse {
    let json = serde_json::to_value(explanation).unwrap_or_default();
    v1::ExplainDhcpResponse {
        text: explanation.to_string(),
        explanation: json_struct(&json),
    }
}
