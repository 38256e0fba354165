//! Between the messages of `bootjack.v1` and the nouns. In: what a client sent, or what the store said. Out: values that are
//! well-formed, or a status that names the field.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use bootjack_api::v1;
use prost_types::value::Kind;
use prost_types::{FieldMask, ListValue, Struct, Timestamp, Value};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::catalog::{Catalog, Change, Refusal};
use crate::config::default_id;
use crate::config::reader::{check_secrets, is_variable_name};
use crate::dhcp::explain::Explanation;
use crate::dhcp::options;
use crate::lint::Finding;
use crate::model::{HIDDEN, Octets, Options, Reservation, Source, Var, Vars};
use crate::store::ChangeError;

/// What every resource name starts with.
const COLLECTION: &str = "reservations/";
/// Fields that an update can change, in the order of the message.
const FIELDS: [&str; 13] = [
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
/// Objects in variables may be nested this deep.
const DEEPEST: usize = 16;

/// The reservation as its message.
pub(super) fn to_message(reservation: &Reservation) -> v1::Reservation {
    let time = |secs: u64| {
        (reservation.source == Source::Api).then(|| Timestamp {
            seconds: i64::try_from(secs).unwrap_or(i64::MAX),
            nanos: 0,
        })
    };
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
        labels: reservation.labels.clone(),
        operation: String::new(),
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

/// A new reservation, from a create's message.
pub(super) fn to_create(request: v1::CreateReservationRequest) -> Result<Change, Status> {
    let message = request
        .reservation
        .ok_or_else(|| invalid("reservation", "reservation is missing"))?;
    let mut reservation = Reservation::of(request.reservation_id, Source::Api);
    for field in FIELDS {
        set_field(&mut reservation, &message, field)?;
    }
    if reservation.mac.is_none() && reservation.identities.is_empty() {
        let text = "mac is missing; write it like 52:54:00:00:00:01";
        return Err(invalid("mac", text));
    }
    if reservation.id.is_empty() {
        reservation.id = default_id(&reservation);
    }
    Ok(Change::Create(reservation))
}

/// Another value for a reservation that is known, from an update's message.
pub(super) fn to_update(
    request: &v1::UpdateReservationRequest,
    catalog: &Catalog,
) -> Result<Change, Status> {
    let message = request
        .reservation
        .as_ref()
        .ok_or_else(|| invalid("reservation", "reservation is missing"))?;
    let known = find(catalog, &message.name)?;
    let mut reservation = known.clone();
    for field in masked_fields(request.update_mask.as_ref(), message)? {
        set_field(&mut reservation, message, field)?;
    }
    for (name, var) in &mut reservation.vars {
        keep_secrets(var, known.vars.get(name));
    }
    Ok(Change::Update {
        expected: to_revision(&message.etag)?,
        reservation,
    })
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
        None => Err(to_status(&Refusal::NotFound(word.to_owned()).into())),
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

fn masked_fields(
    mask: Option<&FieldMask>,
    message: &v1::Reservation,
) -> Result<Vec<&'static str>, Status> {
    let is_set = |field: &str| match field {
        "mac" => !message.mac.is_empty(),
        "address" => !message.address.is_empty(),
        "hostname" => !message.hostname.is_empty(),
        "profile" => !message.profile.is_empty(),
        "macs" => !message.macs.is_empty(),
        "client_ids" => !message.client_ids.is_empty(),
        "uuids" => !message.uuids.is_empty(),
        "circuit_ids" => !message.circuit_ids.is_empty(),
        "options" => !message.options.is_empty(),
        "program" => !message.program.is_empty(),
        "local_boot" => !message.local_boot.is_empty(),
        "labels" => !message.labels.is_empty(),
        _ => !message.vars.is_empty(),
    };
    let paths = match mask {
        // AIP-134: no mask stands for the fields that are set.
        None => return Ok(FIELDS.into_iter().filter(|field| is_set(field)).collect()),
        Some(mask) if mask.paths.is_empty() => {
            return Ok(FIELDS.into_iter().filter(|field| is_set(field)).collect());
        }
        Some(mask) => &mask.paths,
    };
    if paths.iter().any(|path| path == "*") {
        return Ok(FIELDS.to_vec());
    }
    paths
        .iter()
        .map(|path| {
            FIELDS
                .into_iter()
                .find(|field| field == path)
                .ok_or_else(|| {
                    invalid(
                        "update_mask",
                        &format!(
                            "update_mask: `{}` cannot be changed; wanted some of: {}",
                            path.escape_default(),
                            FIELDS.join(", ")
                        ),
                    )
                })
        })
        .collect()
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
        "labels" => reservation.labels.clone_from(&message.labels),
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

fn to_var(value: &Value, depth: usize) -> Option<Var> {
    let inner = depth.checked_sub(1)?;
    Some(match value.kind.as_ref()? {
        Kind::NullValue(_) => return None,
        Kind::BoolValue(value) => Var::Bool(*value),
        // JSON has one kind of number; a whole one is an integer to a template, as far as all of them can be told apart (2^53).
        Kind::NumberValue(number)
            if number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0 =>
        {
            Var::Integer(*number as i64)
        }
        Kind::NumberValue(number) if number.is_finite() => Var::Number(*number),
        Kind::NumberValue(_) => return None,
        Kind::StringValue(text) => Var::Text(text.clone()),
        Kind::ListValue(list) => Var::List(
            (list.values.iter())
                .map(|value| to_var(value, inner))
                .collect::<Option<_>>()?,
        ),
        Kind::StructValue(object) => Var::Map(
            (object.fields.iter())
                .map(|(name, value)| Some((name.clone(), to_var(value, inner)?)))
                .collect::<Option<_>>()?,
        ),
    })
}

/// A secret is answered as `(secret)`, whatever place it names.
fn to_value(var: &Var) -> Value {
    let kind = match var {
        secret if secret.secret().is_some() => Kind::StringValue(HIDDEN.to_owned()),
        Var::Bool(value) => Kind::BoolValue(*value),
        Var::Integer(number) => Kind::NumberValue(*number as f64),
        Var::Number(number) => Kind::NumberValue(*number),
        Var::Text(text) => Kind::StringValue(text.clone()),
        Var::List(values) => Kind::ListValue(ListValue {
            values: values.iter().map(to_value).collect(),
        }),
        Var::Map(fields) => Kind::StructValue(Struct {
            fields: (fields.iter())
                .map(|(name, var)| (name.clone(), to_value(var)))
                .collect(),
        }),
    };
    Value { kind: Some(kind) }
}

/// The server's address that a packet is explained for.
pub(super) fn to_server_id(text: &str, served: &[Ipv4Addr]) -> Result<Ipv4Addr, Status> {
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
pub(super) fn to_explanation(explanation: &Explanation) -> v1::ExplainDhcpResponse {
    let json = serde_json::to_value(explanation).unwrap_or_default();
    let fields = match json_value(&json).kind {
        Some(Kind::StructValue(fields)) => Some(fields),
        _ => None,
    };
    v1::ExplainDhcpResponse {
        text: explanation.to_string(),
        explanation: fields,
    }
}

fn json_value(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(*value),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(values) => Kind::ListValue(ListValue {
            values: values.iter().map(json_value).collect(),
        }),
        Json::Object(fields) => Kind::StructValue(Struct {
            fields: (fields.iter())
                .map(|(name, value)| (name.clone(), json_value(value)))
                .collect(),
        }),
    };
    Value { kind: Some(kind) }
}

/// INVALID_ARGUMENT with the field in the details (google.rpc.BadRequest).
pub(super) fn invalid(field: &str, text: &str) -> Status {
    let details = ErrorDetails::with_bad_request_violation(field, text);
    Status::with_error_details(Code::InvalidArgument, text, details)
}

/// The status of a reservation whose documents would be broken: one violation for each place.
pub(super) fn broken(reservation: &Reservation, errors: &[Finding]) -> Status {
    let mut details = ErrorDetails::new();
    for error in errors {
        // A variable that is missing can be given; anything else is between the profile and what is given.
        let undefined = error.message.strip_suffix("` is not defined");
        let field = match undefined.and_then(|name| name.strip_prefix('`')) {
            Some(name) if is_variable_name(name) => format!("vars.{name}"),
            _ => "profile".to_owned(),
        };
        details.add_bad_request_violation(field, error.to_string());
    }
    let first = errors.first().map(ToString::to_string).unwrap_or_default();
    let more = match errors.len() {
        0 | 1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    };
    let text = format!("reservation {}: {first}{more}", reservation.title());
    Status::with_error_details(Code::InvalidArgument, text, details)
}

/// The status of a change that was not made. A store that fails is UNAVAILABLE, never NOT_FOUND; the log says more.
pub(super) fn to_status(error: &ChangeError) -> Status {
    let text = error.to_string();
    let refusal = match error {
        ChangeError::Refused(refusal) => refusal,
        ChangeError::Failed(_) => {
            return Status::unavailable(
                "the store cannot be written; the log of bootjackd says why; nothing was changed",
            );
        }
    };
    let info = |reason: &str, facts: &[(&str, &str)]| {
        let facts: std::collections::HashMap<String, String> = facts
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        ErrorDetails::with_error_info(reason, "bootjack.v1", facts)
    };
    match refusal {
        Refusal::Invalid { field, .. } => invalid(field, &text),
        Refusal::Taken {
            field,
            value,
            owner,
            ..
        } => {
            let mut details = info(
                "TAKEN",
                &[("field", field), ("value", value), ("owner", owner)],
            );
            details.add_bad_request_violation(*field, text.as_str());
            Status::with_error_details(Code::AlreadyExists, text, details)
        }
        Refusal::NotFound(name) => {
            let details = info("NOT_FOUND", &[("name", name)]);
            Status::with_error_details(Code::NotFound, text, details)
        }
        Refusal::RequestReused { request, made } => {
            let details = info(
                "REQUEST_REUSED",
                &[("request_id", request), ("owner", made)],
            );
            Status::with_error_details(Code::AlreadyExists, text, details)
        }
        Refusal::RequestUndone { request, gone } => {
            let details = info(
                "REQUEST_UNDONE",
                &[("request_id", request), ("owner", gone)],
            );
            Status::with_error_details(Code::FailedPrecondition, text, details)
        }
        Refusal::Stale { .. } => {
            Status::with_error_details(Code::Aborted, text, info("STALE_ETAG", &[]))
        }
        Refusal::FromConfigFile(_) => Status::with_error_details(
            Code::FailedPrecondition,
            text,
            info("FROM_CONFIG_FILE", &[]),
        ),
    }
}
