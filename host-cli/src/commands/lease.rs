//! `bootjack lease …` against a running bootjackd.

use bootjack_api::v1::lease::State;
use bootjack_api::v1::leases_client::LeasesClient;
use bootjack_api::v1::watch_leases_response::Kind;
use bootjack_api::v1::{
    GetLeaseRequest, Lease, ListLeasesRequest, ReleaseLeaseRequest, WatchLeasesRequest,
    WatchLeasesResponse,
};
use serde_json::{Value as Json, json};

use crate::cli::{Format, LeaseCommand};
use crate::client::{self, Server, all_pages};
use crate::exit::Failure;
use crate::follow::{self, Watched};
use crate::output::{self, Style, or_dash, or_null, time, time_or_null};

/// Runs one command; the answer goes to standard output.
pub fn run(command: LeaseCommand, server: &Server, format: Format) -> Result<(), Failure> {
    client::block_on(async {
        let mut api = LeasesClient::new(client::channel(server).await?);
        let refused = |status| client::refused(server, &status);
        match command {
            LeaseCommand::List { filter } => {
                let all = all_pages(async |page_token| {
                    let filter = filter.filter.clone();
                    let request = ListLeasesRequest {
                        page_size: 0,
                        page_token,
                        filter,
                    };
                    let page = api.list_leases(request).await?.into_inner();
                    Ok((page.leases, page.next_page_token))
                });
                list(&all.await.map_err(refused)?, format)
            }
            LeaseCommand::Get { address } => {
                let answer = api.get_lease(GetLeaseRequest { name: address }).await;
                one(&answer.map_err(refused)?.into_inner(), format)
            }
            LeaseCommand::Release { addresses } => {
                let mut failures = Vec::new();
                for name in addresses {
                    let request = ReleaseLeaseRequest {
                        name,
                        ..ReleaseLeaseRequest::default()
                    };
                    match api.release_lease(request).await.map_err(refused) {
                        Ok(answer) => {
                            let lease = answer.into_inner();
                            let text = || {
                                format!(
                                    "released {}, which was {}",
                                    lease.address,
                                    in_one_line(&lease)
                                )
                            };
                            output::say_one_of_many(format, || as_json(&lease), text)?;
                        }
                        Err(failure) => failures.push(failure),
                    }
                }
                Failure::of_many(failures)
            }
            LeaseCommand::Watch {
                filter,
                initial,
                resume,
            } => watch(server, &filter.filter, initial, resume, format).await,
        }
    })
}

async fn watch(
    server: &Server,
    filter: &str,
    initial: bool,
    resume: Option<String>,
    format: Format,
) -> Result<(), Failure> {
    follow::run(
        server,
        resume.unwrap_or_default(),
        async |channel, resume_token: String| {
            let request = WatchLeasesRequest {
                filter: filter.to_owned(),
                initial_state: initial && resume_token.is_empty(),
                resume_token,
            };
            LeasesClient::new(channel).watch_leases(request).await
        },
        |told: WatchLeasesResponse| {
            tell(&told, format)?;
            Ok(Watched {
                resume_token: told.resume_token,
            })
        },
    )
    .await
}

fn tell(told: &WatchLeasesResponse, format: Format) -> Result<(), Failure> {
    let kind = match told.kind() {
        Kind::Put => "put",
        Kind::Forgotten => "forgotten",
        Kind::Synced => "synced",
        Kind::Unspecified => "unknown",
    };
    let value = || {
        json!({
            "kind": kind,
            "lease": told.lease.as_ref().map(as_json),
            "resume_token": told.resume_token,
        })
    };
    let text = || match (&told.lease, told.kind()) {
        (Some(lease), Kind::Forgotten) => format!(
            "{:<15} forgotten, was {}",
            lease.address,
            in_one_line(lease)
        ),
        (Some(lease), _) => format!("{:<15} {}", lease.address, in_one_line(lease)),
        (None, _) => "that is what there is".to_owned(),
    };
    output::say_one_of_many(format, value, text)
}

fn list(leases: &[Lease], format: Format) -> Result<(), Failure> {
    if format.is_for_programs() {
        let list: Vec<Json> = leases.iter().map(as_json).collect();
        return output::say_value(format, &json!({ "leases": list }));
    }
    if leases.is_empty() {
        eprintln!("no leases");
        return Ok(());
    }
    let mut header = vec![
        "ADDRESS",
        "STATE",
        "HOLDER",
        "HOSTNAME",
        "RESERVATION",
        "EXPIRES",
    ];
    if format == Format::Wide {
        header.extend(["SUBNET", "CIRCUIT-ID", "ETAG"]);
    }
    let rows = leases.iter().map(|lease| {
        let mut cells = vec![
            lease.address.clone(),
            state(lease).to_owned(),
            holder(lease).to_owned(),
            lease.hostname.clone(),
            reservation(lease).to_owned(),
            time(lease.expire_time),
        ];
        if format == Format::Wide {
            cells.extend([
                lease.subnet.clone(),
                lease.circuit_id.clone(),
                lease.etag.clone(),
            ]);
        }
        cells
            .into_iter()
            .map(|cell| or_dash(&cell).to_owned())
            .collect()
    });
    output::say(&output::table(Style::stdout(), &header, rows.collect()))
}

fn one(lease: &Lease, format: Format) -> Result<(), Failure> {
    let text = || {
        let style = Style::stdout();
        let lines = [
            ("address", lease.address.as_str()),
            ("state", state(lease)),
            ("holder", holder(lease)),
            ("hostname", &lease.hostname),
            ("reservation", reservation(lease)),
            ("subnet", &lease.subnet),
            ("circuit-id", &lease.circuit_id),
            ("expires", &time(lease.expire_time)),
        ];
        let lines = lines
            .map(|(key, value)| format!("{}{}", style.bold(&format!("{key:<13}")), or_dash(value)));
        lines.join("\n")
    };
    output::answer(format, || as_json(lease), text)
}

fn in_one_line(lease: &Lease) -> String {
    let mut line = state(lease).to_owned();
    if !holder(lease).is_empty() {
        line.push_str(&format!(" by {}", holder(lease)));
    }
    if !lease.hostname.is_empty() {
        line.push_str(&format!(" ({})", lease.hostname));
    }
    if lease.expire_time.is_some() {
        line.push_str(&format!(" until {}", time(lease.expire_time)));
    }
    line
}

/// The lease for programs: every key always, null for none.
fn as_json(lease: &Lease) -> Json {
    json!({
        "name": lease.name,
        "address": lease.address,
        "state": state(lease),
        "mac": or_null(&lease.mac),
        "client_id": or_null(&lease.client_id),
        "hostname": or_null(&lease.hostname),
        "reservation": or_null(&lease.reservation),
        "holder": or_null(&lease.holder),
        "subnet": or_null(&lease.subnet),
        "expire_time": time_or_null(lease.expire_time),
        "circuit_id": or_null(&lease.circuit_id),
        "etag": or_null(&lease.etag),
    })
}

fn holder(lease: &Lease) -> &str {
    match lease.mac.as_str() {
        "" => &lease.client_id,
        mac => mac,
    }
}

fn reservation(lease: &Lease) -> &str {
    let name = &lease.reservation;
    name.strip_prefix(crate::wanted::COLLECTION).unwrap_or(name)
}

fn state(lease: &Lease) -> &'static str {
    match lease.state() {
        State::Offered => "offered",
        State::Bound => "bound",
        State::Released => "released",
        State::Declined => "declined",
        State::Expired => "expired",
        State::Reserved => "reserved",
        State::Revoked => "revoked",
        State::Unspecified => "unknown",
    }
}
