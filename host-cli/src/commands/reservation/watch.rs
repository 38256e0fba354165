//! `bootjack reservation watch`: every change, also over restarts of bootjackd.

use bootjack_api::v1::reservations_client::ReservationsClient;
use bootjack_api::v1::watch_reservations_response::Kind;
use bootjack_api::v1::{WatchReservationsRequest, WatchReservationsResponse};
use serde_json::json;

use super::show::{as_json, in_one_line};
use crate::cli::Format;
use crate::client::Server;
use crate::exit::Failure;
use crate::follow::{self, Watched};
use crate::output;

/// Tells until it is interrupted, or the server refuses.
pub async fn run(
    server: &Server,
    filter: &str,
    initial: bool,
    resume: Option<String>,
    format: Format,
) -> Result<(), Failure> {
    let start = resume.unwrap_or_default();
    follow::run(
        server,
        start,
        async |channel, resume_token: String| {
            let request = WatchReservationsRequest {
                filter: filter.to_owned(),
                initial_state: initial && resume_token.is_empty(),
                resume_token,
            };
            ReservationsClient::new(channel)
                .watch_reservations(request)
                .await
        },
        |told: WatchReservationsResponse| {
            tell(&told, format)?;
            Ok(Watched {
                resume_token: told.resume_token,
            })
        },
    )
    .await
}

fn tell(told: &WatchReservationsResponse, format: Format) -> Result<(), Failure> {
    let kind = match told.kind() {
        Kind::Created => "created",
        Kind::Updated => "updated",
        Kind::Deleted => "deleted",
        Kind::Synced => "synced",
        Kind::Unspecified => "unknown",
    };
    let value = || {
        json!({
            "kind": kind,
            "reservation": told.reservation.as_ref().map(as_json),
            "revision": told.revision,
            "resume_token": told.resume_token,
        })
    };
    let text = || match &told.reservation {
        Some(reservation) => format!("{kind:<8} {}", in_one_line(reservation)),
        None => format!("{kind:<8} that is what there is"),
    };
    output::say_one_of_many(format, value, text)
}
