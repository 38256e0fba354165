//! What would be served, for people: one document of a machine with where its variables come from, and what is wrong with any
//! document of any machine. The running service is asked for its reservations, or else the store is read.

use std::collections::BTreeMap;

use anyhow::Context as _;
use bootjack_api::v1;
use bootjack_api::v1::machines_client::MachinesClient;
use bootjack_api::v1::reservations_client::ReservationsClient;
use tonic::transport::Channel;

use super::explain::{channel, first_server_id, open_store};
use super::load::Loaded;
use crate::catalog::{Catalog, Change};
use crate::grpc::convert::from_message;
use crate::http::document::{Asker, Loader, NoDocument};
use crate::http::secrets;
use crate::lint::machine::{Surveyed, survey};
use crate::model::{Cpu, Document, Firmware, Machine, Source, Token};

/// One document to show.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// An id, a host name or a MAC.
    pub machine: String,
    pub document: String,
    pub cpu: Cpu,
    pub firmware: Firmware,
    pub show_secrets: bool,
}

/// A document, and what it was made of.
#[derive(Clone, Debug)]
pub struct Rendered {
    pub text: String,
    pub profile: Option<String>,
    /// Each variable with who says it.
    pub layers: Vec<(String, String)>,
    /// Whether there is an attempt's token in it, which is not shown.
    pub hides_token: bool,
    /// Where the reservations are from.
    pub source: &'static str,
}

const FROM_SERVICE: &str = "the running service";
const FROM_STORE: &str = "the configuration and the store; no service runs";

/// Makes the document as it would be served, with the profiles as they lie on disk.
pub async fn render(loaded: Loaded, wanted: &Wanted) -> anyhow::Result<Rendered> {
    let url = server_url(&loaded);
    let (catalog, source) = catalog_now(loaded).await?;
    let reservation = catalog.named(&wanted.machine).with_context(|| {
        format!(
            "no reservation for {}; see: bootjack reservation list",
            wanted.machine
        )
    })?;
    let mut asker = Asker::of(reservation, &catalog, &url);
    let installs = asker.profile.is_some_and(|p| p.install.is_some());
    if installs {
        asker.token = Some(Token([0; 16]));
    }
    if wanted.show_secrets {
        let read = secrets::read(secrets::wanted(&asker));
        asker.secrets = read.map_err(|error| anyhow::anyhow!("{error}"))?;
    }
    let loader = [Loader::Ipxe, Loader::Grub];
    let made = match loader.into_iter().find(|l| l.document() == wanted.document) {
        Some(loader) => asker.boot_script(loader, wanted.cpu, wanted.firmware),
        None => asker.document(&Document::named(&wanted.document)),
    };
    let text = made.map_err(|problem| match problem {
        NoDocument::NoSuchDocument { machine, document } => anyhow::anyhow!(
            "{machine} has no document {document}; there are: {}",
            documents_of(&asker).join(", ")
        ),
        other => other.into(),
    })?;
    let layers = (asker.vars().into_iter())
        .map(|(name, (layer, _))| (name.to_owned(), layer.to_string()))
        .collect();
    Ok(Rendered {
        text,
        profile: asker.profile.map(|profile| profile.name.clone()),
        layers,
        hides_token: installs,
        source,
    })
}

fn documents_of(asker: &Asker<'_>) -> Vec<String> {
    let of_nocloud = Document::NOCLOUD.map(|document| document.name().to_owned());
    let scripts = [Loader::Ipxe, Loader::Grub].map(|l| l.document().to_owned());
    let own = asker.profile.into_iter().flat_map(|p| p.documents.keys());
    let mut all: Vec<String> = own.cloned().chain(of_nocloud).chain(scripts).collect();
    all.sort();
    all.dedup();
    all
}

/// Everything about the documents of one profile's machines, or of all.
pub async fn lint(loaded: Loaded, profile: Option<&str>) -> anyhow::Result<Vec<Surveyed>> {
    let (catalog, _) = catalog_now(loaded).await?;
    let Some(name) = profile else {
        return Ok(survey(&catalog, catalog.profiles().values()));
    };
    let known = catalog.profiles();
    let profile = known.get(name).with_context(|| {
        let names: Vec<&str> = known.keys().map(String::as_str).collect();
        format!(
            "profile {name} does not exist; known are: {}",
            names.join(", ")
        )
    })?;
    Ok(survey(&catalog, [profile]))
}

/// Where machines most likely reach the server.
fn server_url(loaded: &Loaded) -> String {
    let listen = loaded.config.http.listen;
    let port = listen.map_or(80, |listen| listen.port());
    let address = (listen.map(|listen| listen.ip()))
        .filter(|address| !address.is_unspecified())
        .or_else(|| first_server_id(&loaded.config).map(Into::into));
    let host = match address {
        Some(std::net::IpAddr::V6(address)) => format!("[{address}]"),
        Some(address) => address.to_string(),
        None => "192.0.2.1".to_owned(),
    };
    match port {
        80 => format!("http://{host}"),
        port => format!("http://{host}:{port}"),
    }
}

/// The configuration's catalog, with the reservations that were made over the API.
async fn catalog_now(loaded: Loaded) -> anyhow::Result<(Catalog, &'static str)> {
    let Loaded { config, catalog } = loaded;
    if let Some(channel) = channel(&config.grpc.listen).await {
        return Ok((of_service(catalog, channel).await?, FROM_SERVICE));
    }
    let (store, writer) = open_store(&config, catalog)?;
    let catalog = (*store.catalog()).clone();
    tokio::task::spawn_blocking(move || writer.close()).await??;
    Ok((catalog, FROM_STORE))
}

async fn of_service(mut catalog: Catalog, channel: Channel) -> anyhow::Result<Catalog> {
    let said = |status: tonic::Status| anyhow::anyhow!("{}", status.message().to_owned());
    let mut attempts = BTreeMap::new();
    let mut machines = MachinesClient::new(channel.clone());
    let mut page_token = String::new();
    loop {
        let request = v1::ListMachinesRequest {
            page_token,
            ..Default::default()
        };
        let page = machines.list_machines(request).await.map_err(said)?;
        let page = page.into_inner();
        attempts.extend((page.machines.into_iter()).map(|m| (m.name, m.attempt)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let mut client = ReservationsClient::new(channel);
    loop {
        let request = v1::ListReservationsRequest {
            page_token,
            ..Default::default()
        };
        let page = client.list_reservations(request).await.map_err(said)?;
        let page = page.into_inner();
        for message in &page.reservations {
            if message.source() == v1::reservation::Source::Api {
                let mut reservation = from_message(message).map_err(said)?;
                reservation.source = Source::Api;
                // The configuration on disk may be another than the service's by now.
                catalog = catalog.with(&Change::Create(reservation))?;
            }
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    for (name, attempt) in attempts {
        let id = name.rsplit('/').next().unwrap_or_default();
        if catalog.by_id(id).is_some() {
            let mut machine = Machine::idle(id, 0);
            machine.attempt = attempt;
            catalog = catalog.with_machine(machine);
        }
    }
    Ok(catalog)
}
