//! What bootjackd says when it refuses a call. In: a gRPC status with its details (google.rpc). Out: the exit status, and what, which
//! field, and who stands in the way.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::exit::{Detail, Exit};

/// The exit status for a code.
pub fn exit(status: &Status) -> Exit {
    match status.code() {
        Code::InvalidArgument | Code::OutOfRange => Exit::Invalid,
        Code::NotFound => Exit::NotFound,
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => Exit::Conflict,
        Code::PermissionDenied | Code::Unauthenticated => Exit::Missing,
        Code::DeadlineExceeded => Exit::Timeout,
        Code::Cancelled if status.message().contains("Timeout") => Exit::Timeout,
        _ => Exit::Service,
    }
}

/// The reason for programs, such as TAKEN; empty if none was given.
pub fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.map(|info| info.reason).unwrap_or_default()
}

/// What the details say: each field that is at fault, or whatever else stands in the way.
pub fn details(status: &Status) -> Vec<Detail> {
    let mut all = Vec::new();
    let resource = status.get_details_error_info().map(|info| {
        let mut facts = info.metadata;
        facts
            .remove("resource")
            .or_else(|| facts.remove("owner"))
            .unwrap_or_default()
    });
    if let Some(bad) = status.get_details_bad_request() {
        all.extend(bad.field_violations.into_iter().map(|violation| Detail {
            field: violation.field,
            message: violation.description,
            resource: String::new(),
        }));
    }
    if let Some(failed) = status.get_details_precondition_failure() {
        all.extend(failed.violations.into_iter().map(|violation| Detail {
            field: String::new(),
            message: violation.description,
            resource: violation.subject,
        }));
    }
    match (resource.filter(|name| !name.is_empty()), all.as_mut_slice()) {
        (Some(name), [one]) if one.resource.is_empty() => one.resource = name,
        (Some(name), []) => all.push(Detail {
            field: String::new(),
            message: String::new(),
            resource: name,
        }),
        _ => {}
    }
    all
}

/// The details that the message does not say already, each on a line of its own.
pub fn lines(message: &str, details: &[Detail]) -> String {
    let mut lines = String::new();
    for detail in details {
        if detail.message.is_empty() || message.contains(&detail.message) {
            continue;
        }
        lines.push_str("\n  ");
        let about = if detail.field.is_empty() {
            &detail.resource
        } else {
            &detail.field
        };
        if !about.is_empty() && !detail.message.starts_with(about.as_str()) {
            lines.push_str(&format!("{about}: "));
        }
        lines.push_str(&detail.message);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::{ErrorDetails, StatusExt};

    #[test]
    fn details_name_the_field_and_who_stands_in_the_way() {
        let facts = [("field", "address"), ("resource", "reservations/node-2")];
        let facts = facts.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let mut details = ErrorDetails::with_error_info(
            "TAKEN",
            "bootjack.v1",
            facts
                .into_iter()
                .collect::<std::collections::HashMap<_, _>>(),
        );
        details
            .add_bad_request_violation("address", "address 198.18.0.20 already belongs to node-2");
        let text = "reservation node-3: address 198.18.0.20 already belongs to node-2";
        let status = Status::with_error_details(Code::AlreadyExists, text, details);
        assert_eq!(
            (exit(&status), reason(&status).as_str()),
            (Exit::Conflict, "TAKEN")
        );
        let details = super::details(&status);
        assert_eq!(
            (details[0].field.as_str(), details[0].resource.as_str()),
            ("address", "reservations/node-2")
        );
        assert_eq!(
            lines(status.message(), &details),
            "",
            "the message says it already"
        );
    }

    #[test]
    fn what_the_message_leaves_out_is_told() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("vars.a", "user-data line 3: `a` is not defined");
        details.add_bad_request_violation("profile", "user-data line 4: wanted a list");
        let text = "reservation node-1: user-data line 3: `a` is not defined (and 1 more)";
        let status = Status::with_error_details(Code::InvalidArgument, text, details);
        let details = super::details(&status);
        assert_eq!(
            lines(status.message(), &details),
            "\n  profile: user-data line 4: wanted a list"
        );
        assert!(super::details(&Status::internal("x")).is_empty());
    }
}
