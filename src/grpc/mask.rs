//! Field masks of updates (AIP-134). In: a mask, and the message it is about. Out: what is to be changed; or a status that names the
//! path that cannot be, and those that can.

use bootjack_api::v1;
use prost_types::FieldMask;
use tonic::Status;

use super::convert::FIELDS;
use super::errors::invalid;

/// One thing to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Path {
    Field(&'static str),
    /// One key of a map.
    Var(String),
    Label(String),
    Option(String),
}

/// What a mask names; without one the fields that are set.
pub(super) fn paths(
    mask: Option<&FieldMask>,
    message: &v1::Reservation,
) -> Result<Vec<Path>, Status> {
    let all = || FIELDS.into_iter();
    let Some(mask) = mask.filter(|mask| !mask.paths.is_empty()) else {
        let set = all().filter(|field| is_set(message, field));
        return Ok(set.map(Path::Field).collect());
    };
    if mask.paths.iter().any(|path| path == "*") {
        return Ok(all().map(Path::Field).collect());
    }
    mask.paths.iter().map(|path| path_of(path)).collect()
}

fn path_of(path: &str) -> Result<Path, Status> {
    if let Some(field) = FIELDS.into_iter().find(|field| *field == path) {
        return Ok(Path::Field(field));
    }
    let key = |key: &str| Some(key.to_owned()).filter(|key| !key.is_empty());
    let inside = match path.split_once('.') {
        Some(("vars", name)) => key(name).map(Path::Var),
        Some(("labels", name)) => key(name).map(Path::Label),
        Some(("options", name)) => key(name).map(Path::Option),
        _ => None,
    };
    inside.ok_or_else(|| {
        let text = format!(
            "update_mask: `{}` cannot be changed; wanted some of: {}",
            path.escape_default(),
            FIELDS.join(", ")
        );
        invalid("update_mask", &text)
    })
}

fn is_set(message: &v1::Reservation, field: &str) -> bool {
    match field {
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
    }
}
