//! Many reservations in one call, calls that are repeated, and what is only asked and not done.

use bootjack_api::v1::reservations_client::ReservationsClient;
use bootjack_api::v1::{self, Reservation};
use tonic::{Code, Status};

use crate::support::api::{node, text};
use crate::support::lab::{Lab, details};

const REQUEST: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

fn of(n: u32) -> Reservation {
    Reservation {
        mac: format!("52:54:00:01:{:02x}:{:02x}", n / 256, n % 256),
        hostname: format!("big-{n:05}"),
        ..Reservation::default()
    }
}

fn batch(
    lab: &Lab,
    reservations: Vec<Reservation>,
    request_id: &str,
    validate_only: bool,
) -> Result<Vec<Reservation>, Status> {
    let requests = reservations
        .into_iter()
        .map(|reservation| v1::CreateReservationRequest {
            reservation: Some(reservation),
            ..Default::default()
        });
    let request = v1::BatchCreateReservationsRequest {
        requests: requests.collect(),
        request_id: request_id.to_owned(),
        validate_only,
    };
    let answer = lab.call(async |channel| {
        let mut client = ReservationsClient::new(channel).max_decoding_message_size(64 << 20);
        client.batch_create_reservations(request).await
    });
    answer.map(|answer| answer.reservations)
}

#[test]
fn ten_thousand_are_made_in_one_call_and_are_there_after_a_kill() {
    let lab = Lab::new("");
    let made = batch(&lab, (0..10_000).map(of).collect(), "", false).expect("they fit");
    assert_eq!(made.len(), 10_000);
    assert_eq!(made[17].name, "reservations/big-00017");
    let lab = lab.killed_and_started("");
    let page = lab.api.page(1, "").expect("a list");
    assert_eq!(page.total_size, 10_000);
    let too_many = batch(&lab, (10_000..20_001).map(of).collect(), "", false);
    let status = too_many.expect_err("one too many");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "requests: wanted 1 to 10000, got 10001");
}

#[test]
fn a_reservation_that_holds_a_file_is_refused_by_its_field_and_in_a_batch_by_its_place() {
    let lab = Lab::new("");
    let mut large = node(12);
    let value = text(&"x".repeat(300 << 10));
    large.vars.insert("initrd".to_owned(), value);
    let refused = lab.api.create(large.clone()).expect_err("300 KiB");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let said = refused.message();
    assert!(said.starts_with("vars: it takes 3072"), "{said}");
    let at_most = "which has at most 262144; put files in a profile, or name an artefact";
    assert!(said.ends_with(at_most), "{said}");
    assert_eq!(details(&refused).0, ["vars"]);
    lab.api.create(node(13)).expect("created");
    let update = Reservation {
        name: "reservations/node-13".to_owned(),
        ..large.clone()
    };
    let refused = lab.api.update(&["vars"], update).expect_err("300 KiB");
    assert_eq!(details(&refused).0, ["vars"]);
    let refused = batch(&lab, vec![node(14), large], "", false).expect_err("300 KiB");
    assert_eq!(details(&refused).0, ["requests[1].reservation.vars"]);
    assert_eq!(lab.api.names(), ["reservations/node-13"]);
}

#[test]
fn of_a_batch_with_faults_nothing_is_made_and_each_is_named() {
    let lab = Lab::new("");
    lab.api.create(node(12)).expect("nothing in the way");
    let mut wrong = vec![of(0), of(1), of(2), of(3), of(4)];
    wrong[1].mac = of(0).mac;
    wrong[3].address = "198.18.0.12".to_owned();
    let status = batch(&lab, wrong.clone(), "", false).expect_err("two of them");
    assert_eq!(status.code(), Code::AlreadyExists);
    assert_eq!(
        details(&status).0,
        [
            "requests[1].reservation.mac",
            "requests[3].reservation.address"
        ]
    );
    assert!(
        status
            .message()
            .contains("requests[1]: mac 52:54:00:01:00:00 is also that of requests[0]"),
        "{status:?}"
    );
    wrong[2].mac = "x".to_owned();
    wrong[4].address = "y".to_owned();
    let status = batch(&lab, wrong, "", false).expect_err("two malformed");
    assert_eq!(
        details(&status).0,
        [
            "requests[2].reservation.mac",
            "requests[4].reservation.address"
        ]
    );
    let mut unknown = vec![of(0), of(1)];
    unknown[1].profile = "nothing".to_owned();
    let status = batch(&lab, unknown, "", false).expect_err("no such profile");
    assert_eq!(details(&status).0, ["requests[1].reservation.profile"]);
    assert_eq!(
        batch(&lab, vec![], "", false).expect_err("none").code(),
        Code::InvalidArgument
    );
    assert_eq!(
        lab.api.names(),
        ["reservations/node-12"],
        "nothing was made"
    );
}

#[test]
fn a_call_that_is_repeated_makes_nothing_and_answers_the_same_also_after_a_kill() {
    let lab = Lab::new("");
    let create = |lab: &Lab, reservation: Reservation, id: &str| {
        let request = v1::CreateReservationRequest {
            reservation: Some(reservation),
            request_id: id.to_owned(),
            ..Default::default()
        };
        lab.call(async |channel| {
            ReservationsClient::new(channel)
                .create_reservation(request)
                .await
        })
    };
    let made = create(&lab, node(12), REQUEST).expect("nothing in the way");
    assert_eq!(create(&lab, node(12), REQUEST).ok(), Some(made.clone()));
    let lab = lab.killed_and_started("");
    let again = create(&lab, node(12), &REQUEST.to_uppercase());
    assert_eq!(again.ok(), Some(made));
    let mut other = node(12);
    other.vars.insert("a".to_owned(), text("b"));
    for other in [other, node(13)] {
        let status = create(&lab, other, REQUEST).expect_err("another content");
        assert_eq!(status.code(), Code::AlreadyExists);
        assert_eq!(details(&status).1, "REQUEST_REUSED");
    }
    let status = create(&lab, node(13), "again").expect_err("no UUID");
    assert_eq!(
        (status.code(), details(&status).0),
        (Code::InvalidArgument, vec!["request_id".to_owned()])
    );
    let second = REQUEST.replace('6', "7");
    let made = batch(&lab, vec![of(1), of(2)], &second, false).expect("they fit");
    let lab = lab.killed_and_started("");
    assert_eq!(
        batch(&lab, vec![of(1), of(2)], &second, false).ok(),
        Some(made)
    );
    lab.api
        .delete("reservations/big-00001", "")
        .expect("it is there");
    let status = batch(&lab, vec![of(1), of(2)], &second, false).expect_err("half undone");
    assert_eq!(
        (status.code(), details(&status).1.as_str()),
        (Code::FailedPrecondition, "REQUEST_UNDONE")
    );
    assert_eq!(
        lab.api.names(),
        ["reservations/big-00002", "reservations/node-12"]
    );
}

#[test]
fn what_is_only_asked_is_not_done() {
    let lab = Lab::new("");
    let supposed = batch(&lab, vec![of(1)], "", true).expect("it would fit");
    assert_eq!(
        (supposed[0].name.as_str(), supposed[0].etag.as_str()),
        ("reservations/big-00001", "")
    );
    let request = |reservation| v1::CreateReservationRequest {
        reservation: Some(reservation),
        validate_only: true,
        ..Default::default()
    };
    let ask = |reservation| {
        let request = request(reservation);
        lab.call(async |channel| {
            ReservationsClient::new(channel)
                .create_reservation(request)
                .await
        })
    };
    assert_eq!(
        ask(node(12)).expect("it would fit").name,
        "reservations/node-12"
    );
    let made = lab.api.create(node(12)).expect("nothing in the way");
    assert_eq!(
        ask(node(12)).expect_err("taken").code(),
        Code::AlreadyExists
    );
    let update = v1::UpdateReservationRequest {
        reservation: Some(Reservation {
            name: made.name.clone(),
            hostname: "other".to_owned(),
            ..Default::default()
        }),
        validate_only: true,
        ..Default::default()
    };
    let supposed = lab.call(async |channel| {
        ReservationsClient::new(channel)
            .update_reservation(update)
            .await
    });
    assert_eq!(supposed.expect("it would fit").hostname, "other");
    let delete = v1::DeleteReservationRequest {
        name: made.name.clone(),
        validate_only: true,
        ..Default::default()
    };
    lab.call(async |channel| {
        ReservationsClient::new(channel)
            .delete_reservation(delete)
            .await
    })
    .expect("it could be");
    assert_eq!(lab.api.get(&made.name).ok(), Some(made));
}

#[test]
fn what_is_missing_is_made_or_left_where_that_is_allowed() {
    let lab = Lab::new("");
    let update = |name: &str, allow_missing| v1::UpdateReservationRequest {
        reservation: Some(Reservation {
            name: name.to_owned(),
            ..node(12)
        }),
        allow_missing,
        ..Default::default()
    };
    let call = |request| {
        lab.call(async |channel| {
            ReservationsClient::new(channel)
                .update_reservation(request)
                .await
        })
    };
    let status = call(update("reservations/x", false)).expect_err("missing");
    assert_eq!(status.code(), Code::NotFound);
    let made = call(update("reservations/x", true)).expect("made");
    assert_eq!(
        (made.name.as_str(), made.etag.as_str()),
        ("reservations/x", "1")
    );
    let delete = |allow_missing| {
        let request = v1::DeleteReservationRequest {
            name: "reservations/x".to_owned(),
            allow_missing,
            ..Default::default()
        };
        lab.call(async |channel| {
            ReservationsClient::new(channel)
                .delete_reservation(request)
                .await
        })
    };
    delete(false).expect("it is there");
    assert_eq!(delete(false).expect_err("gone").code(), Code::NotFound);
    delete(true).expect("gone is good");
}

#[test]
fn every_field_at_fault_is_named_at_once() {
    let lab = Lab::new("");
    let wrong = Reservation {
        mac: "x".to_owned(),
        address: "y".to_owned(),
        uuids: vec!["z".to_owned()],
        ..Default::default()
    };
    let status = lab.api.create(wrong).expect_err("three fields");
    assert_eq!(details(&status).0, ["mac", "address", "uuids"]);
    let status = lab.api.get("reservations/none").expect_err("there is none");
    use tonic_types::StatusExt as _;
    let info = status.get_details_error_info().expect("a reason");
    assert_eq!(info.metadata["resource"], "reservations/none");
    let made = lab.api.create(node(12)).expect("nothing in the way");
    let status = lab.api.delete(&made.name, "77").expect_err("stale");
    let info = status.get_details_error_info().expect("a reason");
    assert_eq!(
        (
            info.metadata["etag"].as_str(),
            info.metadata["sent"].as_str()
        ),
        ("1", "77")
    );
    assert_eq!(info.metadata["resource"], "reservations/node-12");
}
