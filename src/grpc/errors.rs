//! Refusals as statuses (AIP-193), all in one place. Out: a code, a sentence for people, and details for programs:
//! `google.rpc.BadRequest` names the fields at fault, `google.rpc.ErrorInfo` the reason and what stands in the way.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::catalog::Refusal;
use crate::config::reader::is_variable_name;
use crate::lint::Finding;
use crate::model::{Event, Reservation};
use crate::observe::emit;
use crate::store::{ChangeError, StoreError};

/// Whose reasons they are.
const DOMAIN: &str = "bootjack.v1";

/// INVALID_ARGUMENT with the field in the details.
pub(super) fn invalid(field: &str, text: &str) -> Status {
    let details = ErrorDetails::with_bad_request_violation(field, text);
    Status::with_error_details(Code::InvalidArgument, text, details)
}

/// The details of a reason and its facts.
pub(super) fn reason(reason: &str, facts: &[(&str, &str)]) -> ErrorDetails {
    let facts: HashMap<String, String> = (facts.iter())
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    ErrorDetails::with_error_info(reason, DOMAIN, facts)
}

/// NOT_FOUND of this resource.
pub(super) fn not_found(resource: &str, text: &str) -> Status {
    let details = reason("NOT_FOUND", &[("resource", resource)]);
    Status::with_error_details(Code::NotFound, text, details)
}

/// A status with a reason and its facts.
pub(super) fn refused(code: Code, why: &str, facts: &[(&str, &str)], text: &str) -> Status {
    Status::with_error_details(code, text, reason(why, facts))
}

/// One status for several refusals of one message: the first one's words, and every field.
pub(super) fn together(refusals: Vec<Status>) -> Result<(), Status> {
    let mut refusals = refusals.into_iter();
    let Some(first) = refusals.next() else {
        return Ok(());
    };
    let fields = |status: &Status| {
        let details = status.get_details_bad_request();
        details
            .into_iter()
            .flat_map(|details| details.field_violations)
    };
    let mut details = ErrorDetails::new();
    let mut more = 0;
    for violation in fields(&first) {
        details.add_bad_request_violation(violation.field, violation.description);
    }
    for other in refusals {
        more += 1;
        for violation in fields(&other) {
            details.add_bad_request_violation(violation.field, violation.description);
        }
    }
    let text = match more {
        0 => return Err(first),
        more => format!("{} (and {more} more, see the details)", first.message()),
    };
    Err(Status::with_error_details(first.code(), text, details))
}

/// FAILED_PRECONDITION with each thing that stands in the way: its kind, its name and what to do about it.
pub(super) fn in_the_way(why: &str, things: &[(String, String)], text: &str) -> Status {
    let mut details = reason(why, &[]);
    for (subject, description) in things {
        details.add_precondition_failure_violation(why, subject, description);
    }
    Status::with_error_details(Code::FailedPrecondition, text, details)
}

/// ABORTED: the etag is not the current one.
pub(super) fn stale(resource: &str, current: &str, sent: &str) -> Status {
    let text = format!(
        "{resource} has changed since it was read (etag {current} now, {} sent); read it again and repeat the change",
        sent.escape_default()
    );
    let facts = [("resource", resource), ("etag", current), ("sent", sent)];
    refused(Code::Aborted, "STALE_ETAG", &facts, &text)
}

/// The store failed: UNAVAILABLE, never NOT_FOUND; the log says more.
pub(super) fn store_failed(error: &StoreError) -> Status {
    emit(&Event::Failed {
        about: "store",
        error: error.to_string(),
    });
    if matches!(error, StoreError::Away(_)) {
        return Status::unavailable(
            "the store that replicas share is away; whether this is written will be seen when it is back: read it then, or repeat the call with the same request_id",
        );
    }
    Status::unavailable(
        "the store cannot be written; the log of bootjackd says why; nothing was changed",
    )
}

/// The status of a reservation whose documents would be broken: one violation for each place.
pub(super) fn broken(reservation: &Reservation, errors: &[Finding]) -> Status {
    let mut details = ErrorDetails::new();
    for error in errors {
        details.add_bad_request_violation(field_of(error), error.to_string());
    }
    let text = format!("reservation {}: {}", reservation.title(), said(errors));
    Status::with_error_details(Code::InvalidArgument, text, details)
}

/// The field that can mend it: a variable that is missing can be given; anything else is between the profile and what is given.
pub(super) fn field_of(error: &Finding) -> String {
    let undefined = error.message.strip_suffix("` is not defined");
    match undefined.and_then(|name| name.strip_prefix('`')) {
        Some(name) if is_variable_name(name) => format!("vars.{name}"),
        _ => "profile".to_owned(),
    }
}

/// The first of them, and how many more there are.
pub(super) fn said<T: ToString>(errors: &[T]) -> String {
    let first = errors.first().map(ToString::to_string).unwrap_or_default();
    match errors.len() {
        0 | 1 => first,
        n => format!("{first} (and {} more)", n - 1),
    }
}

/// The status of a change that was not made.
pub(super) fn to_status(error: &ChangeError) -> Status {
    match error {
        ChangeError::Refused(refusal) => of_refusal(refusal),
        ChangeError::Failed(failure) => store_failed(failure),
    }
}

/// The status of a refusal.
pub(super) fn of_refusal(refusal: &Refusal) -> Status {
    let text = refusal.to_string();
    let code = code_of(refusal);
    let details = match refusal {
        Refusal::Invalid { field, .. } => return invalid(field, &text),
        Refusal::Taken {
            field,
            value,
            owner,
            owner_id,
            ..
        } => {
            let resource = format!("reservations/{owner_id}");
            let facts = [
                ("field", *field),
                ("value", value),
                ("owner", owner),
                ("resource", &resource),
            ];
            let mut details = reason("TAKEN", &facts);
            details.add_bad_request_violation(*field, text.as_str());
            details
        }
        Refusal::RequestReused { request, made } => {
            let resource = format!("reservations/{made}");
            let facts = [("request_id", request.as_str()), ("resource", &resource)];
            let mut details = reason("REQUEST_REUSED", &facts);
            details.add_bad_request_violation("request_id", text.as_str());
            details
        }
        Refusal::RequestUndone { request, gone } => {
            let resource = format!("reservations/{gone}");
            let facts = [("request_id", request.as_str()), ("resource", &resource)];
            reason("REQUEST_UNDONE", &facts)
        }
        Refusal::NotFound(name) => {
            let resource = format!("reservations/{name}");
            reason("NOT_FOUND", &[("resource", &resource)])
        }
        Refusal::Stale {
            id,
            current,
            expected,
            ..
        } => {
            let resource = format!("reservations/{id}");
            let (current, sent) = (current.to_string(), expected.to_string());
            let facts = [
                ("resource", resource.as_str()),
                ("etag", &current),
                ("sent", &sent),
            ];
            reason("STALE_ETAG", &facts)
        }
        Refusal::FromConfigFile(_) => reason("FROM_CONFIG_FILE", &[]),
    };
    Status::with_error_details(code, text, details)
}

/// The code of a refusal.
pub(super) fn code_of(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::Invalid { .. } => Code::InvalidArgument,
        Refusal::Taken { .. } | Refusal::RequestReused { .. } => Code::AlreadyExists,
        Refusal::NotFound(_) => Code::NotFound,
        Refusal::Stale { .. } => Code::Aborted,
        Refusal::RequestUndone { .. } | Refusal::FromConfigFile(_) => Code::FailedPrecondition,
    }
}
