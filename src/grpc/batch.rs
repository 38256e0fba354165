//! Many reservations in one call, all or none. In: their messages. Out: what was made, or a status that names every one that is at
//! fault.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bootjack_api::v1;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::errors::{code_of, field_of, invalid, of_refusal, store_failed};
use super::{convert, reservations};
use crate::catalog::{Catalog, Refusal};
use crate::convergence;
use crate::lint::Finding;
use crate::lint::machine::errors;
use crate::model::Reservation;
use crate::net::now_secs;
use crate::store::{BatchError, Store};

const MOST: usize = 10_000;
/// Details travel in the trailers of the answer, of which many clients read 8 KiB and no more.
const MOST_OCTETS: usize = 3_000;

/// One that is at fault: its place in the batch, the status it would get by itself, and its fields.
struct Fault {
    at: usize,
    status: Status,
    fields: Vec<(String, String)>,
}

/// Makes all of them.
pub(super) async fn create(
    store: &Store,
    request: v1::BatchCreateReservationsRequest,
) -> Result<Vec<v1::Reservation>, Status> {
    let new = read(store, request.requests, &request.request_id)?;
    let catalog = store.catalog();
    let is_repeat = (new.first())
        .and_then(|new| catalog.by_request(&new.request.as_ref()?.id))
        .is_some();
    if request.validate_only && !is_repeat {
        let ids = places(&new);
        (catalog.with_all(&new)).map_err(|refused| of_refusals(&catalog, &ids, &refused))?;
    }
    if !is_repeat {
        lint(&catalog, &new).await?;
    }
    if request.validate_only {
        let mut messages: Vec<_> = new.iter().map(convert::to_message).collect();
        for message in &mut messages {
            message.etag.clear();
            (message.create_time, message.update_time) = (None, None);
            message.operation.clear();
        }
        return Ok(messages);
    }
    let ids: HashMap<String, usize> = places(&new);
    match store.create_all(new, now_secs()).await {
        Ok(written) => {
            let tell = |written| reservations::tell(written, "created");
            written.iter().for_each(tell);
            Ok((written.iter())
                .map(|written| convert::to_message(&written.reservation))
                .collect())
        }
        Err(BatchError::Failed(failure)) => Err(store_failed(&failure)),
        Err(BatchError::Refused(refused)) => Err(of_refusals(&catalog, &ids, &refused)),
    }
}

fn places(new: &[Reservation]) -> HashMap<String, usize> {
    let ids = new.iter().enumerate().rev();
    ids.map(|(at, new)| (new.id.clone(), at)).collect()
}

/// The reservations of the messages, or all that is malformed in them.
fn read(
    store: &Store,
    requests: Vec<v1::CreateReservationRequest>,
    request_id: &str,
) -> Result<Vec<Reservation>, Status> {
    if !(1..=MOST).contains(&requests.len()) {
        let text = format!("requests: wanted 1 to {MOST}, got {}", requests.len());
        return Err(invalid("requests", &text));
    }
    let (mut new, mut faults) = (Vec::with_capacity(requests.len()), Vec::new());
    for (at, request) in requests.into_iter().enumerate() {
        let own = [
            ("request_id", !request.request_id.is_empty()),
            ("validate_only", request.validate_only),
        ];
        let read = match own.into_iter().find(|(_, is_set)| *is_set) {
            Some((field, _)) => {
                let text = format!("{field} counts for the batch; leave it out here");
                Err(invalid(field, &text))
            }
            None => convert::to_create(request),
        };
        match read {
            Ok(reservation) => new.push(reservation),
            Err(status) => faults.push(fault(at, status)),
        }
    }
    if !faults.is_empty() {
        return Err(all(&faults));
    }
    let request = convert::to_request_id(request_id, &new)?;
    let (bindings, now) = (store.bindings(), now_secs());
    for reservation in &mut new {
        reservation.moved = convergence::moved(None, reservation, &bindings, None, now);
        reservation.request.clone_from(&request);
    }
    Ok(new)
}

fn fault(at: usize, status: Status) -> Fault {
    let details = status.get_details_bad_request();
    let fields = details.into_iter().flat_map(|d| d.field_violations);
    Fault {
        at,
        fields: fields.map(|v| (v.field, v.description)).collect(),
        status,
    }
}

/// Looks at the documents of the machines. Those that differ in MAC, address and host name alone are looked at once: rendering and
/// hashing for each of thousands would take minutes. Those that stand in each other's way are not looked at: the store refuses them.
async fn lint(catalog: &Arc<Catalog>, new: &[Reservation]) -> Result<(), Status> {
    let mut alike: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    for (at, reservation) in new.iter().enumerate() {
        if catalog.profile_of(reservation).is_some() {
            let likeness = likeness(catalog, reservation);
            alike.entry(likeness).or_default().push(at);
        }
    }
    let samples: Vec<(Reservation, Vec<usize>)> = (alike.into_values())
        .map(|places| (new[places[0]].clone(), places))
        .collect();
    if samples.is_empty() {
        return Ok(());
    }
    let shown: Vec<Reservation> = samples.iter().map(|(sample, _)| sample.clone()).collect();
    let Ok(next) = catalog.with_all(&shown) else {
        return Ok(());
    };
    let look = move || -> Vec<(Vec<usize>, Vec<Finding>)> {
        (samples.into_iter())
            .map(|(sample, places)| (places, errors(&next, &sample)))
            .filter(|(_, errors)| !errors.is_empty())
            .collect()
    };
    let found = tokio::task::spawn_blocking(look).await;
    let found = found.map_err(|panic| Status::internal(panic.to_string()))?;
    let mut faults: Vec<Fault> = (found.iter())
        .flat_map(|(places, errors)| places.iter().map(move |at| (*at, errors)))
        .map(|(at, errors)| Fault {
            at,
            status: super::errors::broken(&new[at], errors),
            fields: (errors.iter())
                .map(|error| (field_of(error), error.to_string()))
                .collect(),
        })
        .collect();
    faults.sort_by_key(|fault| fault.at);
    if faults.is_empty() {
        Ok(())
    } else {
        Err(all(&faults))
    }
}

/// All of a reservation that its documents show, beside what is each machine's own.
fn likeness(catalog: &Catalog, reservation: &Reservation) -> Vec<u8> {
    let subnet = reservation.address.and_then(|a| catalog.subnet_of(a));
    let likeness = (
        &reservation.profile,
        &reservation.vars,
        &reservation.labels,
        reservation.mac.is_some(),
        reservation.hostname.is_some(),
        subnet.map(|subnet| subnet.cidr.to_string()),
        reservation.local_boot,
    );
    serde_json::to_vec(&likeness).unwrap_or_default()
}

fn of_refusals(
    catalog: &Catalog,
    ids: &HashMap<String, usize>,
    refused: &[(usize, Refusal)],
) -> Status {
    let faults: Vec<Fault> = (refused.iter())
        .map(|(at, refusal)| {
            let mut fault = fault(*at, of_refusal(refusal));
            // The other one may be of this batch, and not be there at all.
            if let Refusal::Taken {
                field,
                value,
                owner_id,
                ..
            } = refusal
                && catalog.by_id(owner_id).is_none()
                && let Some(other) = ids.get(&**owner_id).filter(|other| *other != at)
            {
                let text = format!("{field} {value} is also that of requests[{other}]");
                fault.status = Status::new(code_of(refusal), text.clone());
                fault.fields = vec![((*field).to_owned(), text)];
            }
            fault
        })
        .collect();
    all(&faults)
}

/// One status for all of them, of the kind that the first one has.
fn all(faults: &[Fault]) -> Status {
    let Some(first) = faults.first() else {
        return Status::internal("a batch was refused, and nothing in it");
    };
    let mut details = ErrorDetails::new();
    if let Some(info) = first.status.get_details_error_info() {
        details.set_error_info(info.reason, info.domain, info.metadata);
    }
    let (mut octets, mut named) = (0, 0);
    for fault in faults {
        let size = |(field, text): &(String, String)| field.len() + text.len() + 40;
        octets += fault.fields.iter().map(size).sum::<usize>();
        if named > 0 && octets > MOST_OCTETS {
            break;
        }
        named += 1;
        for (field, text) in &fault.fields {
            details.add_bad_request_violation(place(fault.at, field), text);
        }
    }
    let rest: Vec<usize> = faults[named..].iter().map(|fault| fault.at).collect();
    if !rest.is_empty() {
        let text = "at fault too; the details have no room for each";
        details.add_bad_request_violation(format!("requests[{}]", ranges(&rest)), text);
    }
    let more = match faults.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more, see the details)"),
    };
    let text = format!(
        "nothing was made: requests[{}]: {}{more}",
        first.at,
        first.status.message()
    );
    let code = match first.status.code() {
        Code::Ok => Code::InvalidArgument,
        code => code,
    };
    Status::with_error_details(code, text, details)
}

fn place(at: usize, field: &str) -> String {
    match field {
        "reservation" | "reservation_id" | "request_id" | "validate_only" => {
            format!("requests[{at}].{field}")
        }
        "id" => format!("requests[{at}].reservation_id"),
        field => format!("requests[{at}].reservation.{field}"),
    }
}

/// `3,7-9`, as far as there is room.
fn ranges(places: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &at in places {
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == at => *end = at,
            _ => ranges.push((at, at)),
        }
    }
    let mut text = String::new();
    for (start, end) in ranges {
        if text.len() > MOST_OCTETS / 3 {
            text.push_str(",…");
            break;
        }
        let comma = if text.is_empty() { "" } else { "," };
        let range = match start == end {
            true => format!("{comma}{start}"),
            false => format!("{comma}{start}-{end}"),
        };
        text.push_str(&range);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named_in_ranges() {
        assert_eq!(ranges(&[3, 7, 8, 9, 11]), "3,7-9,11");
        let every_other: Vec<usize> = (0..5000).map(|n| n * 2).collect();
        assert!(ranges(&every_other).len() < MOST_OCTETS / 2);
    }

    #[test]
    fn the_details_of_ten_thousand_faults_fit_into_trailers() {
        let faults: Vec<Fault> = (0..10_000)
            .map(|at| fault(at, invalid("mac", "mac: `x` is not a MAC address")))
            .collect();
        let status = all(&faults);
        assert!(status.details().len() < 5_000, "{}", status.details().len());
        let details = status.get_details_bad_request().expect("some");
        let fields: Vec<&str> = (details.field_violations.iter())
            .map(|v| v.field.as_str())
            .collect();
        assert_eq!(fields[0], "requests[0].reservation.mac");
        let last = fields.last().expect("one");
        assert!(last.ends_with("-9999]"), "{last}");
        assert!(status.message().contains("(and 9999 more"), "{status}");
    }
}
