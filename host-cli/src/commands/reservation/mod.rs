//! `bootjack reservation …` against a running bootjackd.

mod show;
mod watch;
mod write;

use bootjack_api::v1::reservation::Source;
use bootjack_api::v1::reservations_client::ReservationsClient;
use bootjack_api::v1::{DeleteReservationRequest, GetReservationRequest, Reservation};
use serde_json::json;
use tonic::Status;

use crate::apply::document;
use crate::apply::fields;
use crate::apply::send::Sender;
use crate::cli::{Format, ReservationCommand};
use crate::client::{self, Connection, Server};
use crate::exit::Failure;
use crate::output;

/// Runs one command; the answer goes to standard output.
pub fn run(command: ReservationCommand, server: &Server, format: Format) -> Result<(), Failure> {
    client::block_on(async {
        let api = Api {
            client: client::connect(server).await?,
            server,
        };
        match command {
            ReservationCommand::Create(args) => write::create(api, *args, format).await,
            ReservationCommand::List { filter } => {
                let all = Sender::connect(server).await?.list(&filter.filter).await?;
                show::list(&all, format, !filter.filter.is_empty())
            }
            ReservationCommand::Get { name } => show::one(&api.get(name).await?, format),
            ReservationCommand::Update(args) => write::update(api, *args, format).await,
            ReservationCommand::Delete { names } => delete(api, names, format).await,
            ReservationCommand::Export { filter, all } => {
                let reservations = Sender::connect(server).await?.list(&filter.filter).await?;
                export(reservations, all)
            }
            ReservationCommand::Watch {
                filter,
                initial,
                resume,
            } => watch::run(server, &filter.filter, initial, resume, format).await,
        }
    })
}

/// The connection of one command.
struct Api<'a> {
    client: ReservationsClient<Connection>,
    server: &'a Server,
}

impl Api<'_> {
    fn refused(&self) -> impl Fn(Status) -> Failure {
        |status| client::refused(self.server, &status)
    }

    async fn get(&self, name: String) -> Result<Reservation, Failure> {
        let mut client = self.client.clone();
        let answer = client.get_reservation(GetReservationRequest { name }).await;
        Ok(answer.map_err(self.refused())?.into_inner())
    }
}

/// Deletes one after the other; every name that fails is said, the first of them sets the exit status.
async fn delete(mut api: Api<'_>, names: Vec<String>, format: Format) -> Result<(), Failure> {
    let mut deleted = Vec::new();
    let mut failures = Vec::new();
    for name in names {
        let request = DeleteReservationRequest {
            name: name.clone(),
            ..Default::default()
        };
        match api.client.delete_reservation(request).await {
            Ok(_) if !format.is_for_programs() => output::say(&format!("deleted {name}"))?,
            Ok(_) => deleted.push(name),
            Err(status) => failures.push(client::refused(api.server, &status)),
        }
    }
    if format.is_for_programs() {
        output::say_value(format, &json!({ "deleted": deleted }))?;
    }
    Failure::of_many(failures)
}

/// Prints a file for apply. What cannot be told, since it is secret, is said beside it.
fn export(mut reservations: Vec<Reservation>, all: bool) -> Result<(), Failure> {
    reservations.retain(|r| all || r.source() != Source::ConfigFile);
    let hides = |r: &&Reservation| fields::get(r, "vars").to_string().contains(fields::HIDDEN);
    let secrets = reservations.iter().filter(hides).count();
    if secrets > 0 {
        eprintln!(
            "{secrets} of them have secrets, which stand there as {}: name them again where the file is for another bootjackd",
            fields::HIDDEN
        );
    }
    output::say(document::write(&reservations).trim_end())
}
