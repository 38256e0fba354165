//! `bootjack reservation …` against a running bootjackd.

use std::io::Read as _;
use std::path::Path;

use bootjack_api::v1::reservation::Source;
use bootjack_api::v1::reservations_client::ReservationsClient;
use bootjack_api::v1::{
    CreateReservationRequest, DeleteReservationRequest, GetReservationRequest,
    ListReservationsRequest, Reservation, UpdateReservationRequest,
};
use prost_types::{FieldMask, Value};
use serde_json::{Value as Json, json};
use tonic::Status;

use crate::cli::{CreateArgs, Format, ReservationCommand, UpdateArgs};
use crate::client::{self, Connection, Server};
use crate::exit::{Exit, Failure};
use crate::output::{self, Style};
use crate::vars::{self, Vars};

/// Runs one command; the answer goes to standard output.
pub fn run(command: ReservationCommand, server: &Server, format: Format) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    runtime.block_on(async {
        let api = Api {
            client: client::connect(server).await?,
            server,
        };
        match command {
            ReservationCommand::Create(args) => create(api, args, format).await,
            ReservationCommand::List => list(api, format).await,
            ReservationCommand::Get { name } => show(&api.get(name).await?, format),
            ReservationCommand::Update(args) => update(api, args, format).await,
            ReservationCommand::Delete { names } => delete(api, names, format).await,
        }
    })
}

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

async fn create(mut api: Api<'_>, args: CreateArgs, format: Format) -> Result<(), Failure> {
    let vars = merged(
        read_vars(args.vars.file.as_deref())?,
        args.vars.text,
        args.vars.json,
    )?;
    let request = CreateReservationRequest {
        reservation: Some(Reservation {
            mac: args.mac,
            address: args.address.unwrap_or_default(),
            hostname: args.hostname.unwrap_or_default(),
            profile: args.profile.unwrap_or_default(),
            vars,
            ..Reservation::default()
        }),
        reservation_id: args.id.unwrap_or_default(),
        ..Default::default()
    };
    let answer = api.client.create_reservation(request).await;
    let made = answer.map_err(api.refused())?.into_inner();
    output::answer(
        format,
        || as_json(&made),
        || format!("created {}", in_one_line(&made)),
    )
}

async fn list(mut api: Api<'_>, format: Format) -> Result<(), Failure> {
    let mut reservations = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListReservationsRequest {
            page_token,
            ..Default::default()
        };
        let answer = api.client.list_reservations(request).await;
        let page = answer.map_err(api.refused())?.into_inner();
        reservations.extend(page.reservations);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if format.is_for_programs() {
        let list: Vec<Json> = reservations.iter().map(as_json).collect();
        return output::say_value(format, &json!({ "reservations": list }));
    }
    if reservations.is_empty() {
        eprintln!("no reservations; make one with: bootjack reservation create --mac MAC");
        return Ok(());
    }
    let header = ["NAME", "MAC", "ADDRESS", "HOSTNAME", "PROFILE", "SOURCE"];
    let rows = reservations.iter().map(|r| {
        let source = source(r).replace('_', " ");
        let cells = [id(r), &r.mac, &r.address, &r.hostname, &r.profile, &source];
        cells.map(|cell| or_dash(cell).to_owned()).to_vec()
    });
    output::say(&output::table(Style::stdout(), &header, rows.collect()))
}

async fn update(mut api: Api<'_>, args: UpdateArgs, format: Format) -> Result<(), Failure> {
    let mut paths = Vec::new();
    let mut wanted = |path: &str, value: Option<String>| {
        if value.is_some() {
            paths.push(path.to_owned());
        }
        value.unwrap_or_default()
    };
    let mut reservation = Reservation {
        mac: wanted("mac", args.mac),
        address: wanted("address", args.address),
        hostname: wanted("hostname", args.hostname),
        profile: wanted("profile", args.profile),
        name: args.name.clone(),
        etag: args.etag.clone().unwrap_or_default(),
        ..Reservation::default()
    };
    let set = merged(read_vars(args.file.as_deref())?, args.text, args.json)?;
    if args.file.is_some() || !set.is_empty() || !args.unset.is_empty() {
        if let Some(key) = args.unset.iter().find(|key| set.contains_key(*key)) {
            let text = format!("variable {key} is both set and unset; name it once");
            return Err(Failure::new(Exit::Usage, text));
        }
        // The API replaces all variables at once: change a copy of them, and let its etag refuse a change made meanwhile.
        let current = api.get(args.name).await?;
        reservation.name = current.name;
        reservation.etag = args.etag.unwrap_or(current.etag);
        reservation.vars = current.vars;
        reservation.vars.extend(set);
        reservation.vars.retain(|key, _| !args.unset.contains(key));
        paths.push("vars".to_owned());
    }
    let request = UpdateReservationRequest {
        reservation: Some(reservation),
        update_mask: Some(FieldMask { paths }),
        ..Default::default()
    };
    let answer = api.client.update_reservation(request).await;
    let changed = answer.map_err(api.refused())?.into_inner();
    output::answer(
        format,
        || as_json(&changed),
        || format!("updated {}", in_one_line(&changed)),
    )
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
    let Some(first) = failures.first() else {
        return Ok(());
    };
    let messages: Vec<&str> = failures.iter().map(|f| f.message.as_str()).collect();
    Err(Failure::new(first.exit, messages.join("\nbootjack: ")))
}

fn show(reservation: &Reservation, format: Format) -> Result<(), Failure> {
    if format.is_for_programs() {
        return output::say_value(format, &as_json(reservation));
    }
    let style = Style::stdout();
    let line =
        |key: &str, value: &str| format!("{}{}", style.bold(&format!("{key:<10}")), or_dash(value));
    let time = |time: Option<prost_types::Timestamp>| time.map_or(String::new(), |t| t.to_string());
    let mut lines = vec![
        line("name", &reservation.name),
        line("mac", &reservation.mac),
        line("address", &reservation.address),
        line("hostname", &reservation.hostname),
        line("profile", &reservation.profile),
        line("source", &source(reservation).replace('_', " ")),
        line("etag", &reservation.etag),
        line("created", &time(reservation.create_time)),
        line("updated", &time(reservation.update_time)),
    ];
    if !reservation.vars.is_empty() {
        lines.push(style.bold("vars"));
    }
    for (key, value) in &reservation.vars {
        lines.push(format!("  {key} = {}", vars::to_json(value)));
    }
    output::say(&lines.join("\n"))
}

/// The reservation for programs: every key always, null for none.
fn as_json(reservation: &Reservation) -> Json {
    let text = |value: &str| match value {
        "" => Json::Null,
        value => Json::from(value),
    };
    let time = |time: Option<prost_types::Timestamp>| time.map(|time| time.to_string());
    json!({
        "name": reservation.name,
        "id": id(reservation),
        "mac": reservation.mac,
        "address": text(&reservation.address),
        "hostname": text(&reservation.hostname),
        "profile": text(&reservation.profile),
        "vars": vars::map_to_json(&reservation.vars),
        "etag": text(&reservation.etag),
        "source": source(reservation),
        "create_time": time(reservation.create_time),
        "update_time": time(reservation.update_time),
    })
}

fn in_one_line(reservation: &Reservation) -> String {
    let mut line = format!("{}: {}", reservation.name, reservation.mac);
    match reservation.address.as_str() {
        "" => line.push_str(" → an address from a pool"),
        address => line.push_str(&format!(" → {address}")),
    }
    match reservation.profile.as_str() {
        "" => line.push_str(", boots its local disk"),
        profile => line.push_str(&format!(", profile {profile}")),
    }
    line
}

fn id(reservation: &Reservation) -> &str {
    let name = &reservation.name;
    name.strip_prefix("reservations/").unwrap_or(name)
}

fn source(reservation: &Reservation) -> &'static str {
    match reservation.source() {
        Source::ConfigFile => "config_file",
        Source::Api => "api",
        Source::Unspecified => "unknown",
    }
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

fn read_vars(file: Option<&Path>) -> Result<Vars, Failure> {
    let Some(file) = file else {
        return Ok(Vars::new());
    };
    let (text, shown) = if file == Path::new("-") {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        (read.map(|_| text), "standard input".to_owned())
    } else {
        (std::fs::read_to_string(file), file.display().to_string())
    };
    let text = text.map_err(Failure::io("read", &shown))?;
    vars::object(&text).map_err(|error| Failure::new(Exit::Invalid, format!("{shown}: {error}")))
}

/// The file's variables, overridden by the flags'; a flag given twice for one key is a mistake.
fn merged(
    file: Vars,
    text: Vec<(String, Value)>,
    json: Vec<(String, Value)>,
) -> Result<Vars, Failure> {
    let mut flags = Vars::new();
    for (key, value) in text.into_iter().chain(json) {
        if flags.insert(key.clone(), value).is_some() {
            let text = format!("variable {key} is given twice; name it once");
            return Err(Failure::new(Exit::Usage, text));
        }
    }
    let mut vars = file;
    vars.extend(flags);
    Ok(vars)
}
