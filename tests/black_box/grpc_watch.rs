//! Lists with filters, and streams that are followed, resumed and too late.

use bootjack_api::v1::reservations_client::ReservationsClient;
use bootjack_api::v1::watch_reservations_response::Kind;
use bootjack_api::v1::{self, Reservation};
use tonic::{Code, Status};

use crate::support::api::{node, text};
use crate::support::lab::{Lab, details, take};

fn list(lab: &Lab, filter: &str, token: &str) -> Result<v1::ListReservationsResponse, Status> {
    let request = v1::ListReservationsRequest {
        page_size: 2,
        page_token: token.to_owned(),
        filter: filter.to_owned(),
    };
    lab.call(async |channel| {
        ReservationsClient::new(channel)
            .list_reservations(request)
            .await
    })
}

/// The messages after a token, as many as there are wanted: what happened, and to whom.
fn watched(
    lab: &Lab,
    request: v1::WatchReservationsRequest,
    most: usize,
) -> Result<Vec<(Kind, String, String)>, Status> {
    let messages = lab.api.with(async |channel| {
        let mut client = ReservationsClient::new(channel);
        let mut stream = client.watch_reservations(request).await?.into_inner();
        Ok::<_, Status>(take(&mut stream, most, |_| false).await)
    })?;
    let told = messages.into_iter().map(|m| {
        let name = m.reservation.clone().map_or_else(String::new, |r| r.name);
        (m.kind(), name.replace("reservations/", ""), m.resume_token)
    });
    Ok(told.collect())
}

fn after(token: &str, filter: &str) -> v1::WatchReservationsRequest {
    v1::WatchReservationsRequest {
        filter: filter.to_owned(),
        resume_token: token.to_owned(),
        initial_state: false,
    }
}

fn names(told: &[(Kind, String, String)]) -> Vec<(Kind, &str)> {
    told.iter()
        .map(|(kind, name, _)| (*kind, name.as_str()))
        .collect()
}

#[test]
fn a_list_is_filtered_and_its_pages_belong_to_the_filter() {
    let lab = Lab::new("");
    for n in 10..16 {
        let mut new = node(n);
        let rack = if n < 13 { "r1" } else { "r2" };
        new.labels.insert("rack".to_owned(), rack.to_owned());
        lab.api.create(new).expect("nothing in the way");
    }
    let found = |filter: &str| {
        let page = list(&lab, filter, "").expect(filter);
        let names = page.reservations.into_iter().map(|r| r.hostname);
        (names.collect::<Vec<_>>(), page.total_size)
    };
    assert_eq!(
        found("labels.rack = r1"),
        (vec!["node-10".into(), "node-11".into()], 3)
    );
    assert_eq!(
        found("hostname = node-1* AND labels.rack != \"r1\" AND address = 198.18.0.14").0,
        ["node-14"]
    );
    assert_eq!(found("address = 198.18.0.12/30").1, 4);
    assert_eq!(found("mac = 52-54-00-00-00-0F").0, ["node-15"]);
    assert_eq!(found("source = CONFIG_FILE").1, 0);
    let first = list(&lab, "labels.rack = r1", "").expect("a page");
    let rest = list(&lab, "labels.rack = r1", &first.next_page_token).expect("the rest");
    assert_eq!(
        (
            rest.reservations.len(),
            rest.total_size,
            rest.next_page_token.as_str()
        ),
        (1, 3, "")
    );
    for (filter, token, field) in [
        (
            "labels.rack = r2",
            first.next_page_token.as_str(),
            "page_token",
        ),
        ("", "node-1", "page_token"),
        ("rack = r1", "", "filter"),
        ("hostname ~ a", "", "filter"),
        ("address = a", "", "filter"),
    ] {
        let status = list(&lab, filter, token).expect_err(filter);
        assert_eq!(
            (status.code(), details(&status).0),
            (Code::InvalidArgument, vec![field.to_owned()])
        );
    }
}

#[test]
fn every_change_is_told_once_and_a_broken_stream_is_resumed() {
    let lab = Lab::new("");
    let api = &lab.api;
    api.create(node(10)).expect("nothing in the way");
    let start = list(&lab, "", "").expect("a list").resume_token;
    api.create(node(11)).expect("nothing in the way");
    let change = Reservation {
        name: "reservations/node-11".to_owned(),
        profile: "debian-12".to_owned(),
        ..Default::default()
    };
    api.update(&["profile"], change).expect("it is there");
    api.delete("reservations/node-10", "").expect("it is there");
    let told = watched(&lab, after(&start, ""), 3).expect("remembered");
    let wanted = [
        (Kind::Created, "node-11"),
        (Kind::Updated, "node-11"),
        (Kind::Deleted, "node-10"),
    ];
    assert_eq!(names(&told), wanted);
    let resumed = watched(&lab, after(&told[0].2, ""), 2).expect("remembered");
    assert_eq!(resumed, told[1..]);
    let fitting = watched(&lab, after(&start, "profile = debian-12"), 1).expect("remembered");
    assert_eq!(
        names(&fitting),
        [(Kind::Created, "node-11")],
        "it began to fit"
    );
    // What happens while it is read.
    let more = lab.api.with(async |channel| {
        let mut client = ReservationsClient::new(channel.clone());
        let request = after(&told[2].2, "");
        let mut stream = client.watch_reservations(request).await?.into_inner();
        let new = v1::CreateReservationRequest {
            reservation: Some(node(12)),
            ..Default::default()
        };
        client.create_reservation(new).await?;
        Ok::<_, Status>(take(&mut stream, 1, |_| false).await)
    });
    assert_eq!(more.expect("it is told")[0].kind(), Kind::Created);
    let state = v1::WatchReservationsRequest {
        initial_state: true,
        ..Default::default()
    };
    let told = watched(&lab, state, 3).expect("the state");
    let wanted = [
        (Kind::Created, "node-11"),
        (Kind::Created, "node-12"),
        (Kind::Synced, ""),
    ];
    assert_eq!(names(&told), wanted);
}

#[test]
fn a_token_is_good_after_a_restart_or_says_that_it_is_too_old() {
    let lab = Lab::new("");
    lab.api.create(node(10)).expect("nothing in the way");
    let old = list(&lab, "", "").expect("a list").resume_token;
    lab.api.create(node(11)).expect("nothing in the way");
    let current = list(&lab, "", "").expect("a list").resume_token;
    let lab = lab.killed_and_started("");
    lab.api.create(node(12)).expect("nothing in the way");
    let told = watched(&lab, after(&current, ""), 1).expect("nothing was missed");
    assert_eq!(names(&told), [(Kind::Created, "node-12")]);
    let status = watched(&lab, after(&old, ""), 1).expect_err("forgotten");
    assert_eq!(
        (status.code(), details(&status).1.as_str()),
        (Code::OutOfRange, "RESUME_TOKEN_TOO_OLD")
    );
    assert!(
        status
            .message()
            .ends_with("list again, then watch from the list's resume_token"),
        "{status:?}"
    );
    for foreign in ["x", "1", "1.x", "-1.00000000"] {
        let status = watched(&lab, after(foreign, ""), 1).expect_err(foreign);
        assert_eq!(
            (status.code(), details(&status).0),
            (Code::InvalidArgument, vec!["resume_token".to_owned()])
        );
    }
    let lab = lab.killed_and_started(
        "[[reservation]]\nmac = \"52:54:00:00:00:aa\"\nhostname = \"from-file\"\n",
    );
    let status = watched(&lab, after(&told[0].2, ""), 1).expect_err("the file says others");
    assert_eq!(status.code(), Code::OutOfRange);
}

#[test]
fn a_reader_that_is_too_slow_is_told_so_and_holds_nobody_up() {
    let lab = Lab::new("");
    let status = lab.api.with(async |channel| {
        let mut client = ReservationsClient::new(channel.clone());
        let mut stream = client
            .watch_reservations(v1::WatchReservationsRequest::default())
            .await?
            .into_inner();
        // 64 MiB of changes are remembered; the reader reads none of these.
        for round in 0..480 {
            let mut large = node(12);
            large
                .vars
                .insert("v".to_owned(), text(&"x".repeat(250 << 10)));
            large
                .vars
                .insert("round".to_owned(), text(&round.to_string()));
            let request = v1::UpdateReservationRequest {
                reservation: Some(Reservation {
                    name: "reservations/node-12".to_owned(),
                    ..large
                }),
                allow_missing: true,
                ..Default::default()
            };
            client.update_reservation(request).await?;
        }
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(status) => return Ok::<_, Status>(Some(status)),
            }
        }
    });
    let status = status.expect("the writes went through").expect("a status");
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
}

#[test]
fn one_key_of_a_map_is_changed_alone() {
    let lab = Lab::new("");
    let mut first = node(12);
    for name in ["a", "b"] {
        first.vars.insert(name.to_owned(), text("1"));
        first.labels.insert(name.to_owned(), "1".to_owned());
    }
    lab.api.create(first).expect("nothing in the way");
    let mut change = Reservation {
        name: "reservations/node-12".to_owned(),
        ..Default::default()
    };
    change.vars.insert("a".to_owned(), text("2"));
    change.labels.insert("c".to_owned(), "3".to_owned());
    let got = lab
        .api
        .update(&["vars.a", "vars.b", "labels.c", "labels.none"], change)
        .expect("it is there");
    assert_eq!(got.vars, [("a".to_owned(), text("2"))].into());
    let labels: Vec<&str> = got.labels.keys().map(String::as_str).collect();
    assert_eq!(labels, ["a", "b", "c"]);
}
