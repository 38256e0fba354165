//! Reservations for people and for programs.

use bootjack_api::v1::Reservation;
use bootjack_api::v1::reservation::Source;
use serde_json::{Value as Json, json};

use crate::apply::fields;
use crate::cli::Format;
use crate::exit::Failure;
use crate::output::{self, Style, or_dash, or_null, time, time_or_null};
use crate::vars;
use crate::wanted::{id, known_by};

pub fn list(
    reservations: &[Reservation],
    format: Format,
    is_filtered: bool,
) -> Result<(), Failure> {
    if format.is_for_programs() {
        let list: Vec<Json> = reservations.iter().map(as_json).collect();
        return output::say_value(format, &json!({ "reservations": list }));
    }
    if reservations.is_empty() {
        match is_filtered {
            true => eprintln!("no reservation fits the filter"),
            false => {
                eprintln!("no reservations; make one with: bootjack reservation create --mac MAC");
            }
        }
        return Ok(());
    }
    let mut header = vec!["NAME", "MAC", "ADDRESS", "HOSTNAME", "PROFILE", "SOURCE"];
    if format == Format::Wide {
        header.extend(["LABELS", "ALSO KNOWN BY", "PROGRAM", "VARS", "UPDATED"]);
    }
    let rows = reservations.iter().map(|r| row(r, format));
    output::say(&output::table(Style::stdout(), &header, rows.collect()))
}

fn row(r: &Reservation, format: Format) -> Vec<String> {
    let mut cells = vec![
        id(r).to_owned(),
        known_by(r),
        r.address.clone(),
        r.hostname.clone(),
        r.profile.clone(),
        source(r).replace('_', " "),
    ];
    if format == Format::Wide {
        let labels: Vec<String> = r
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let first = known_by(r);
        let others: Vec<&str> = [&r.macs, &r.client_ids, &r.uuids, &r.circuit_ids]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .filter(|other| *other != first)
            .collect();
        let vars: Vec<&str> = r.vars.keys().map(String::as_str).collect();
        cells.extend([
            labels.join(","),
            others.join(","),
            r.program.clone(),
            vars.join(","),
            time(r.update_time),
        ]);
    }
    cells
        .into_iter()
        .map(|cell| or_dash(&cell).to_owned())
        .collect()
}

pub fn one(r: &Reservation, format: Format) -> Result<(), Failure> {
    if format.is_for_programs() {
        return output::say_value(format, &as_json(r));
    }
    let style = Style::stdout();
    let line =
        |key: &str, value: &str| format!("{}{}", style.bold(&format!("{key:<12}")), or_dash(value));
    let mut lines = vec![
        line("name", &r.name),
        line("mac", &r.mac),
        line("address", &r.address),
        line("hostname", &r.hostname),
        line("profile", &r.profile),
    ];
    // What most have not is shown of those that have it.
    for (key, value) in [
        ("macs", r.macs.join(" ")),
        ("client-ids", r.client_ids.join(" ")),
        ("uuids", r.uuids.join(" ")),
        ("circuit-ids", r.circuit_ids.join(" ")),
        ("program", r.program.clone()),
        ("local boot", r.local_boot.clone()),
        ("operation", r.operation.clone()),
    ] {
        if !value.is_empty() {
            lines.push(line(key, &value));
        }
    }
    lines.extend([
        line("source", &source(r).replace('_', " ")),
        line("etag", &r.etag),
        line("created", &time(r.create_time)),
        line("updated", &time(r.update_time)),
    ]);
    for field in ["labels", "vars", "options"] {
        if let Json::Object(map) = fields::get(r, field) {
            lines.push(style.bold(field));
            lines.extend(map.iter().map(|(key, value)| format!("  {key} = {value}")));
        }
    }
    output::say(&lines.join("\n"))
}

/// The reservation for programs: every key always, null for none.
pub fn as_json(r: &Reservation) -> Json {
    json!({
        "name": r.name,
        "id": id(r),
        "mac": or_null(&r.mac),
        "macs": r.macs,
        "client_ids": r.client_ids,
        "uuids": r.uuids,
        "circuit_ids": r.circuit_ids,
        "address": or_null(&r.address),
        "hostname": or_null(&r.hostname),
        "profile": or_null(&r.profile),
        "labels": r.labels,
        "vars": vars::map_to_json(&r.vars),
        "options": vars::map_to_json(&r.options),
        "program": or_null(&r.program),
        "local_boot": or_null(&r.local_boot),
        "etag": or_null(&r.etag),
        "source": source(r),
        "create_time": time_or_null(r.create_time),
        "update_time": time_or_null(r.update_time),
        "operation": or_null(&r.operation),
    })
}

pub fn in_one_line(r: &Reservation) -> String {
    let mut line = format!("{}: {}", r.name, known_by(r));
    match r.address.as_str() {
        "" => line.push_str(" → an address from a pool"),
        address => line.push_str(&format!(" → {address}")),
    }
    match r.profile.as_str() {
        "" => line.push_str(", boots its local disk"),
        profile => line.push_str(&format!(", profile {profile}")),
    }
    line
}

fn source(r: &Reservation) -> &'static str {
    match r.source() {
        Source::ConfigFile => "config_file",
        Source::Api => "api",
        Source::Unspecified => "unknown",
    }
}
