//! Between `bootjack.v1.Reservation` and ours. In: what a client sent, or what the store said. Out: values that are well-formed, or a
//! status that names the field.

use std::collections::BTreeMap;

use bootjack_api::v1;
use prost_types::Value;
use sha2::{Digest as _, Sha256};
use tonic::Status;

use super::errors::{invalid, of_refusal, together};
use super::mask;
use super::reservation_size;
use super::values::{DEEPEST, time, to_value, to_var};
use crate::catalog::{Catalog, Refusal};
use crate::config::default_id;
use crate::config::reader::{check_secrets, is_variable_name};
use crate::dhcp::options;
use crate::model::{
    HIDDEN, Move, Octets, Options, RequestId, Reservation, Source, Uuid, Var, Vars,
};

/// What every resource name starts with.
pub(super) const COLLECTION: &str = "reservations/";
/// Fields that an update can change, in the order of the message.
pub(super) const FIELDS: [&str; 13] = [
    "mac",
    "address",
    "hostname",
    "profile",
    "vars",
    "macs",
    "client_ids",
    "uuids",
    "circuit_ids",
    "options",
    "program",
    "local_boot",
    "labels",
];

/// The reservation as its message.
pub(super) fn to_message(reservation: &Reservation) -> v1::Reservation {
    let time = |secs: u64| (reservation.source == Source::Api).then(|| time(secs));
    v1::Reservation {
        name: format!("{COLLECTION}{}", reservation.id),
        mac: reservation
            .mac
            .map_or_else(String::new, |mac| mac.to_string()),
        address: reservation
            .address
            .map_or_else(String::new, |a| a.to_string()),
        hostname: reservation.hostname.clone().unwrap_or_default(),
        profile: reservation.profile.clone().unwrap_or_default(),
        vars: (reservation.vars.iter())
            .map(|(name, var)| (name.clone(), to_value(var)))
            .collect(),
        etag: reservation.revision.to_string(),
        source: match reservation.source {
            Source::ConfigFile => v1::reservation::Source::ConfigFile.into(),
            Source::Api => v1::reservation::Source::Api.into(),
        },
        create_time: time(reservation.created_secs),
        update_time: time(reservation.updated_secs),
        macs: texts(&reservation.identities.macs),
        client_ids: texts(&reservation.identities.client_ids),
        uuids: texts(&reservation.identities.uuids),
        circuit_ids: texts(&reservation.identities.circuit_ids),
        options: (reservation.options.0.iter())
            .map(|(code, content)| {
                let value = options::decode(*code, &content.0);
                (options::name_of(*code), to_value(&value))
            })
            .collect(),
        program: reservation.program.clone().unwrap_or_default(),
        local_boot: (reservation.local_boot)
            .map_or_else(String::new, |how| how.as_str().to_owned()),
        labels: reservation.labels.clone().into_iter().collect(),
        operation: (reservation.moved.as_ref())
            .map_or_else(String::new, |moved| operation_name(&reservation.id, moved)),
    }
}

/// A reservation as a service has answered it.
pub fn from_message(message: &v1::Reservation) -> Result<Reservation, Status> {
    let mut reservation = Reservation::of(id_in(&message.name).to_owned(), Source::Api);
    for field in FIELDS {
        set_field(&mut reservation, message, field)?;
    }
    Ok(reservation)
}

/// The name of the operation that a move is.
pub(super) fn operation_name(id: &str, moved: &Move) -> String {
    format!("operations/{}-{id}", moved.revision)
}

/// A new reservation, from a create's message.
pub(super) fn to_create(request: v1::CreateReservationRequest) -> Result<Reservation, Status> {
    let message = request
        .reservation
        .ok_or_else(|| invalid("reservation", "reservation is missing"))?;
    let mut reservation = Reservation::of(request.reservation_id, Source::Api);
    let fields = FIELDS.map(|field| set_field(&mut reservation, &message, field));
    together(fields.into_iter().filter_map(Result::err).collect())?;
    if reservation.mac.is_none() && reservation.identities.is_empty() {
        let text = "mac is missing; write it like 52:54:00:00:00:01";
        return Err(invalid("mac", text));
    }
    if reservation.id.is_empty() {
        reservation.id = default_id(&reservation);
    }
    reservation_size::check(&reservation)?;
    Ok(reservation)
}

/// The id of a call that makes these reservations, if the caller gave one (AIP-155).
pub(super) fn to_request_id(
    id: &str,
    reservations: &[Reservation],
) -> Result<Option<Box<RequestId>>, Status> {
    if id.is_empty() {
        return Ok(None);
    }
    let parsed: Result<Uuid, _> = id.parse();
    let Ok(uuid) = parsed else {
        let text = format!(
            "request_id: `{}` is not a UUID; make one for each call, such as 6ba7b810-9dad-41d1-80b4-00c04fd430c8",
            id.escape_default()
        );
        return Err(invalid("request_id", &text));
    };
    let mut hash = Sha256::new();
    for reservation in reservations {
        hash.update(serde_json::to_vec(reservation).unwrap_or_default());
        hash.update([0]);
    }
    Ok(Some(Box::new(RequestId {
        id: uuid.to_string().to_ascii_lowercase(),
        digest: Octets(hash.finalize()[..16].to_vec())
            .to_string()
            .replace(':', ""),
    })))
}

/// What an update's message makes of a reservation that is known.
pub(super) fn to_update(
    request: &v1::UpdateReservationRequest,
    message: &v1::Reservation,
    known: &Reservation,
) -> Result<Reservation, Status> {
    let mut reservation = known.clone();
    let paths = mask::paths(request.update_mask.as_ref(), message)?.into_iter();
    let set = paths.map(|path| set_path(&mut reservation, message, path));
    together(set.filter_map(Result::err).collect())?;
    for (name, var) in &mut reservation.vars {
        keep_secrets(var, known.vars.get(name));
    }
    reservation_size::check(&reservation)?;
    Ok(reservation)
}

fn set_path(
    reservation: &mut Reservation,
    message: &v1::Reservation,
    path: mask::Path,
) -> Result<(), Status> {
    match path {
        mask::Path::Field(field) => set_field(reservation, message, field),
        mask::Path::Var(name) => set_var(reservation, message, &name),
        mask::Path::Option(name) => set_option(reservation, message, &name),
        mask::Path::Label(name) => {
            match message.labels.get(&name) {
                Some(value) => drop(reservation.labels.insert(name, value.clone())),
                None => drop(reservation.labels.remove(&name)),
            }
            Ok(())
        }
    }
}

fn set_var(
    reservation: &mut Reservation,
    message: &v1::Reservation,
    name: &str,
) -> Result<(), Status> {
    match message.vars.get(name) {
        Some(value) => {
            let one = BTreeMap::from([(name.to_owned(), value.clone())]);
            reservation.vars.extend(to_vars(&one)?);
        }
        None => drop(reservation.vars.remove(name)),
    }
    Ok(())
}

fn set_option(
    reservation: &mut Reservation,
    message: &v1::Reservation,
    name: &str,
) -> Result<(), Status> {
    let (code, _) = options::code_of(name)
        .map_err(|problem| invalid("update_mask", &format!("options.{name}: {problem}")))?;
    reservation.options.0.remove(&code);
    if let Some(value) = message.options.get(name) {
        let one = BTreeMap::from([(name.to_owned(), value.clone())]);
        reservation.options.0.extend(to_options(&one)?.0);
    }
    Ok(())
}

/// The reservation that a resource name means.
pub(super) fn find<'a>(catalog: &'a Catalog, name: &str) -> Result<&'a Reservation, Status> {
    find_in(COLLECTION, catalog, name)
}

/// The reservation that a resource name of this collection means.
pub(super) fn find_in<'a>(
    collection: &str,
    catalog: &'a Catalog,
    name: &str,
) -> Result<&'a Reservation, Status> {
    let word = name.strip_prefix(collection).unwrap_or(name);
    if word.is_empty() {
        return Err(invalid(
            "name",
            &format!("name is missing; wanted {collection}ID"),
        ));
    }
    match catalog.named(word) {
        Some(reservation) => Ok(reservation),
        None => Err(of_refusal(&Refusal::NotFound(word.to_owned()))),
    }
}

/// The last part of a resource name.
pub(super) fn id_in(name: &str) -> &str {
    name.strip_prefix(COLLECTION).unwrap_or(name)
}

/// The revision an etag stands for; none if it is empty.
pub(super) fn to_revision(etag: &str) -> Result<Option<u64>, Status> {
    match etag {
        "" => Ok(None),
        etag => etag.parse().map(Some).map_err(|_| {
            invalid(
                "etag",
                &format!(
                    "etag `{}` was not made by this server",
                    etag.escape_default()
                ),
            )
        }),
    }
}

fn set_field(
    reservation: &mut Reservation,
    message: &v1::Reservation,
    field: &'static str,
) -> Result<(), Status> {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    match field {
        "mac" => {
            reservation.mac = text(&message.mac)
                .map(|mac| {
                    mac.parse()
                        .map_err(|e| invalid("mac", &format!("mac: {e}")))
                })
                .transpose()?;
        }
        "macs" => reservation.identities.macs = all_parsed("macs", &message.macs)?,
        "uuids" => reservation.identities.uuids = all_parsed("uuids", &message.uuids)?,
        "client_ids" => {
            reservation.identities.client_ids = to_octets("client_ids", &message.client_ids)?;
        }
        "circuit_ids" => {
            reservation.identities.circuit_ids = to_octets("circuit_ids", &message.circuit_ids)?;
        }
        "options" => reservation.options = to_options(&message.options)?,
        "program" => {
            let program = message.program.as_str();
            if program.contains(char::is_whitespace) || program.len() > 255 {
                let wanted = "program: wanted snponly, ipxe, undionly, a file's name or a URL";
                return Err(invalid("program", wanted));
            }
            reservation.program = text(program);
        }
        "local_boot" => {
            reservation.local_boot = text(&message.local_boot)
                .map(|how| {
                    how.parse()
                        .map_err(|e| invalid("local_boot", &format!("local_boot: {e}")))
                })
                .transpose()?;
        }
        "address" => {
            reservation.address = text(&message.address)
                .map(|address| {
                    address.parse().map_err(|_| {
                        let text = format!(
                            "address: `{}` is not an IPv4 address; write it like 198.18.0.10",
                            address.escape_default()
                        );
                        invalid("address", &text)
                    })
                })
                .transpose()?;
        }
        "hostname" => reservation.hostname = text(&message.hostname),
        "profile" => reservation.profile = text(&message.profile),
        "labels" => reservation.labels = message.labels.clone().into_iter().collect(),
        _ => reservation.vars = to_vars(&message.vars)?,
    }
    Ok(())
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn all_parsed<T: std::str::FromStr>(field: &str, texts: &[String]) -> Result<Vec<T>, Status>
where
    T::Err: std::fmt::Display,
{
    (texts.iter())
        .map(|text| {
            text.parse()
                .map_err(|e| invalid(field, &format!("{field}: {e}")))
        })
        .collect()
}

fn to_octets(field: &str, texts: &[String]) -> Result<Vec<Octets>, Status> {
    (texts.iter())
        .map(|text| match Octets::parse(text) {
            octets if (1..=255).contains(&octets.0.len()) => Ok(octets),
            _ => Err(invalid(
                field,
                &format!("{field}: wanted 1 to 255 octets, as 01:52:54:… or as text"),
            )),
        })
        .collect()
}

fn to_options(values: &BTreeMap<String, Value>) -> Result<Options, Status> {
    let mut read = Options::default();
    for (name, value) in values {
        let refuse = |problem: &str| invalid("options", &format!("options.{name}: {problem}"));
        let var = to_var(value, DEEPEST).ok_or_else(|| refuse("wanted a value"))?;
        let (code, content) = options::encode(name, &var).map_err(|problem| refuse(&problem))?;
        if read.0.insert(code, content).is_some() {
            return Err(refuse(&format!("option {code} is given twice")));
        }
    }
    Ok(read)
}

fn to_vars(values: &BTreeMap<String, Value>) -> Result<Vars, Status> {
    values
        .iter()
        .map(|(name, value)| {
            if !is_variable_name(name) {
                let text = format!(
                    "vars: `{}` is not a variable name; use letters, digits and _",
                    name.escape_default()
                );
                return Err(invalid("vars", &text));
            }
            let var = to_var(value, DEEPEST).ok_or_else(|| {
                let text = format!("vars.{name}: wanted a string, number, truth value, list or object without null, nested at most {DEEPEST} deep");
                invalid("vars", &text)
            })?;
            check_secrets(&var)
                .map_err(|problem| invalid("vars", &format!("vars.{name}: {problem}")))?;
            Ok((name.clone(), var))
        })
        .collect()
}

/// What is shown of a secret and sent back stands for the secret that is there.
fn keep_secrets(var: &mut Var, known: Option<&Var>) {
    let is_shown = matches!(var, Var::Text(text) if text == HIDDEN);
    match (var, known) {
        (var, Some(known)) if is_shown && known.secret().is_some() => *var = known.clone(),
        (Var::List(vars), Some(Var::List(known))) => {
            for (var, known) in vars.iter_mut().zip(known) {
                keep_secrets(var, Some(known));
            }
        }
        (Var::Map(fields), Some(Var::Map(known))) => {
            for (name, var) in fields {
                keep_secrets(var, known.get(name));
            }
        }
        _ => {}
    }
}
