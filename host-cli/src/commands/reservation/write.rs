//! `bootjack reservation create` and `update`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use bootjack_api::v1::{CreateReservationRequest, Reservation, UpdateReservationRequest};
use prost_types::{FieldMask, Value};

use super::Api;
use super::show::{as_json, in_one_line};
use crate::cli::{CreateArgs, FieldArgs, Format, UpdateArgs};
use crate::commands::operation;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::vars::{self, Vars};

pub async fn create(mut api: Api<'_>, args: CreateArgs, format: Format) -> Result<(), Failure> {
    let Given {
        reservation: mut made,
        labels,
        vars,
        options,
        ..
    } = given(args.fields)?;
    made.labels = labels;
    made.vars = vars;
    made.options = options;
    let request = CreateReservationRequest {
        reservation: Some(made),
        reservation_id: args.id.unwrap_or_default(),
        ..CreateReservationRequest::default()
    };
    let answer = api.client.create_reservation(request).await;
    let made = answer.map_err(api.refused())?.into_inner();
    output::answer(
        format,
        || as_json(&made),
        || format!("created {}", in_one_line(&made)),
    )
}

pub async fn update(mut api: Api<'_>, args: UpdateArgs, format: Format) -> Result<(), Failure> {
    let has_vars_file = args.fields.vars.file.is_some();
    let Given {
        mut reservation,
        mut paths,
        labels,
        vars,
        options,
    } = given(args.fields)?;
    reservation.name.clone_from(&args.name);
    reservation.etag = args.etag.clone().unwrap_or_default();
    let maps = [
        (
            "vars",
            has_vars_file || !vars.is_empty() || !args.unset_var.is_empty(),
        ),
        ("labels", !labels.is_empty() || !args.unset_label.is_empty()),
        (
            "options",
            !options.is_empty() || !args.unset_option.is_empty(),
        ),
    ];
    if maps.iter().any(|(_, is_changed)| *is_changed) {
        // The API replaces a map as a whole: change a copy, and let its etag refuse a change made meanwhile.
        let current = api.get(args.name).await?;
        reservation.name = current.name;
        reservation.etag = args.etag.unwrap_or(current.etag);
        reservation.vars = changed("variable", current.vars, vars, &args.unset_var)?;
        reservation.labels = changed("label", current.labels, labels, &args.unset_label)?;
        reservation.options = changed("option", current.options, options, &args.unset_option)?;
        paths.extend(
            maps.iter()
                .filter(|(_, is_changed)| *is_changed)
                .map(|(path, _)| (*path).to_owned()),
        );
    }
    let convergence_timeout = args.within.map(|within| {
        let seconds = i64::try_from(within.as_secs()).unwrap_or(i64::MAX);
        prost_types::Duration { seconds, nanos: 0 }
    });
    let request = UpdateReservationRequest {
        reservation: Some(reservation),
        update_mask: Some(FieldMask { paths }),
        convergence_timeout,
        ..UpdateReservationRequest::default()
    };
    let answer = api.client.update_reservation(request).await;
    let updated = answer.map_err(api.refused())?.into_inner();
    output::answer(
        format,
        || as_json(&updated),
        || format!("updated {}", in_one_line(&updated)),
    )?;
    match args.wait && !updated.operation.is_empty() {
        true => operation::wait(api.server, &updated.operation, None, format).await,
        false => Ok(()),
    }
}

/// What the flags say, with the paths of the fields that they name; maps apart.
struct Given {
    reservation: Reservation,
    paths: Vec<String>,
    labels: BTreeMap<String, String>,
    vars: Vars,
    options: Vars,
}

fn given(args: FieldArgs) -> Result<Given, Failure> {
    let mut paths = Vec::new();
    let mut one = |path: &str, value: Option<String>| {
        if value.is_some() {
            paths.push(path.to_owned());
        }
        value.unwrap_or_default()
    };
    let mut reservation = Reservation {
        mac: one("mac", args.mac),
        address: one("address", args.address),
        hostname: one("hostname", args.hostname),
        profile: one("profile", args.profile),
        program: one("program", args.program),
        local_boot: one("local_boot", args.local_boot),
        ..Reservation::default()
    };
    let mut list = |path: &str, values: Vec<String>| {
        if !values.is_empty() {
            paths.push(path.to_owned());
        }
        // An empty value clears.
        values
            .into_iter()
            .filter(|value| !value.is_empty())
            .collect()
    };
    reservation.macs = list("macs", args.also_mac);
    reservation.client_ids = list("client_ids", args.client_id);
    reservation.uuids = list("uuids", args.uuid);
    reservation.circuit_ids = list("circuit_ids", args.circuit_id);
    let mut vars = read_vars(args.vars.file.as_deref())?;
    vars.extend(each_once(
        "variable",
        args.vars.text.into_iter().chain(args.vars.json),
    )?);
    Ok(Given {
        reservation,
        paths,
        labels: each_once("label", args.label.into_iter())?,
        vars,
        options: each_once("option", args.option.into_iter().chain(args.option_json))?,
    })
}

/// A flag given twice for one key is a mistake.
fn each_once<T>(
    what: &str,
    pairs: impl Iterator<Item = (String, T)>,
) -> Result<BTreeMap<String, T>, Failure> {
    let mut map = BTreeMap::new();
    for (key, value) in pairs {
        if map.insert(key.clone(), value).is_some() {
            let text = format!("{what} {key} is given twice; name it once");
            return Err(Failure::new(Exit::Usage, text));
        }
    }
    Ok(map)
}

/// The map with what is set and without what is unset.
fn changed<T>(
    what: &str,
    mut map: BTreeMap<String, T>,
    set: BTreeMap<String, T>,
    unset: &[String],
) -> Result<BTreeMap<String, T>, Failure> {
    if let Some(key) = unset.iter().find(|key| set.contains_key(*key)) {
        let text = format!("{what} {key} is both set and unset; name it once");
        return Err(Failure::new(Exit::Usage, text));
    }
    map.extend(set);
    map.retain(|key, _| !unset.contains(key));
    Ok(map)
}

fn read_vars(file: Option<&Path>) -> Result<BTreeMap<String, Value>, Failure> {
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
