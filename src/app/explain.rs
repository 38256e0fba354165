//! What would be answered to a packet, asked of the running service, or worked out here where none runs.

use std::net::Ipv4Addr;

use anyhow::Context as _;
use bootjack_api::v1;
use bootjack_api::v1::dhcp_client::DhcpClient;
use prost_types::value::Kind;
use serde_json::Value;
use tonic::transport::{Channel, Endpoint};

use super::bind;
use super::keep;
use super::load::Loaded;
use crate::config::{Backend, Config, GrpcListen};
use crate::dhcp::explain::{World, explain as explain_here};
use crate::dhcp::proxy::Port;
use crate::dhcp::view::Ingress;
use crate::net::{interfaces, now_secs};
use crate::store::{Memory, Store, StoreError, Writer, open_sled};

/// One packet to explain.
#[derive(Clone, Debug)]
pub struct Asked {
    pub octets: Vec<u8>,
    pub port: Port,
    /// The server's address it is heard on; none for the first one.
    pub server_id: Option<Ipv4Addr>,
}

/// An explanation as text, and for programs.
pub type Explained = (String, Value);

/// Where the words are from, and those for each packet.
pub async fn explain(
    loaded: Loaded,
    asked: Vec<Asked>,
) -> anyhow::Result<(&'static str, Vec<Explained>)> {
    if let Some(client) = connect(&loaded.config.grpc.listen).await {
        return Ok(("the running service", ask(client, asked).await?));
    }
    let Loaded { config, catalog } = loaded;
    let (store, writer) = open_store(&config, catalog)?;
    let boot = bind::boot_servers(&config);
    let (catalog, bindings) = (store.catalog(), store.bindings());
    let explained = asked
        .into_iter()
        .map(|packet| {
            let server_id = packet.server_id.or_else(|| first_server_id(&config));
            let world = World {
                catalog: &catalog,
                bindings: &bindings,
                boot: &boot,
                mode: config.dhcp.mode,
                ingress: Ingress {
                    server_id: server_id.context("there is no [[subnet]] to explain it for")?,
                    // Whoever renews sends to the server alone; how this packet was sent is not known.
                    is_unicast: true,
                    authoritative: config.dhcp.authoritative,
                    now_secs: now_secs(),
                },
            };
            let explanation = explain_here(&packet.octets, packet.port, world);
            Ok((explanation.to_string(), serde_json::to_value(&explanation)?))
        })
        .collect::<anyhow::Result<Vec<Explained>>>()?;
    tokio::task::spawn_blocking(move || writer.close()).await??;
    Ok((
        "the configuration and the store; no service runs",
        explained,
    ))
}

/// Leases count too. A store that does not exist holds none, and is not made for the asking.
pub(super) fn open_store(
    config: &Config,
    catalog: crate::catalog::Catalog,
) -> anyhow::Result<(Store, Writer)> {
    let opened = if let Backend::Etcd(etcd) = &config.store.backend {
        let records = keep::read(etcd)?;
        Store::open(Box::new(Memory::with(records)), catalog, now_secs())?
    } else if config.data_dir.join("journal").is_file() {
        let backend = open_sled(&config.data_dir, config.store.snapshot_period).map_err(|error| match error {
            StoreError::Locked(path) => anyhow::anyhow!(
                "store {path}: a running bootjackd has it, and does not answer on {}; is this its configuration?",
                config.grpc
            ),
            other => other.into(),
        })?;
        Store::open(backend, catalog, now_secs())?
    } else {
        Store::open(Box::<Memory>::default(), catalog, now_secs())?
    };
    let (store, writer, _) = opened;
    Ok((store, writer))
}

/// The address DHCP would be served from: one of this machine's in a subnet, or else the first subnet's router, or first host.
pub(super) fn first_server_id(config: &Config) -> Option<Ipv4Addr> {
    let is_served = |name: &String| {
        let named = config.dhcp.interfaces.as_ref();
        named.is_none_or(|names| names.contains(name))
    };
    let in_a_subnet = interfaces()
        .unwrap_or_default()
        .into_iter()
        .filter(|interface| is_served(&interface.name))
        .flat_map(|interface| interface.addresses)
        .find(|address| config.subnets.iter().any(|s| s.cidr.contains(address)));
    let subnet = config.subnets.first();
    in_a_subnet
        .or_else(|| subnet?.router)
        .or_else(|| subnet?.cidr.hosts().next())
}

async fn connect(listen: &[GrpcListen]) -> Option<DhcpClient<Channel>> {
    Some(DhcpClient::new(channel(listen).await?))
}

/// A way to the running service, if there is one.
pub(super) async fn channel(listen: &[GrpcListen]) -> Option<Channel> {
    for place in listen {
        let endpoint = match place {
            GrpcListen::Tcp(address) => Endpoint::from_shared(format!("http://{address}")),
            GrpcListen::Unix(path) => Endpoint::from_shared(format!("unix://{}", path.display())),
            // Whoever runs this has the service's socket, and none of its clients' certificates.
            GrpcListen::Tls(_) => continue,
        };
        if let Ok(endpoint) = endpoint
            && let Ok(channel) = endpoint.connect().await
        {
            return Some(channel);
        }
    }
    None
}

async fn ask(mut client: DhcpClient<Channel>, asked: Vec<Asked>) -> anyhow::Result<Vec<Explained>> {
    let mut explained = Vec::new();
    for packet in asked {
        let request = v1::ExplainDhcpRequest {
            packet: packet.octets,
            server_address: packet
                .server_id
                .map_or_else(String::new, |id| id.to_string()),
            boot_server_port: packet.port == Port::BootServer,
        };
        let answer = client.explain_dhcp(request).await;
        let answer = answer.map_err(|status| anyhow::anyhow!("{}", status.message()))?;
        let answer = answer.into_inner();
        let json = answer
            .explanation
            .map_or(Value::Null, |fields| json_of(&fields));
        explained.push((answer.text, json));
    }
    Ok(explained)
}

fn json_of(fields: &prost_types::Struct) -> Value {
    let fields = fields.fields.iter();
    fields
        .map(|(name, value)| (name.clone(), json_value(value)))
        .collect()
}

fn json_value(value: &prost_types::Value) -> Value {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(*value),
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 => Value::from(*number as i64),
        Some(Kind::NumberValue(number)) => Value::from(*number),
        Some(Kind::StringValue(text)) => Value::from(text.as_str()),
        Some(Kind::ListValue(list)) => list.values.iter().map(json_value).collect(),
        Some(Kind::StructValue(fields)) => json_of(fields),
    }
}
