//! The reservation API, by a client made from the contract.

use std::collections::BTreeMap;

use bootjack_api::v1::reservation::Source;
use bootjack_api::v1::{self, Reservation};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::json;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

use crate::support::api::{self, Api, node, text};
use crate::support::netns::{Netns, server_and_client};
use crate::support::profiles;
use crate::support::service::{Home, Service};

struct Server {
    netns: Netns,
    home: Home,
    service: Service,
    api: Api,
    _client: Netns,
}

fn serve(more: &str) -> Server {
    let (netns, client) = server_and_client("52:54:00:00:00:01");
    let home = Home::new();
    let service = Service::start(&netns, &home, &home.config(more));
    let api = Api::unix(&home);
    Server {
        netns,
        home,
        service,
        api,
        _client: client,
    }
}

impl Server {
    /// Kills the service, as a power cut would, and starts it again with another end of its configuration.
    fn killed_and_started(self, more: &str) -> Self {
        self.service.kill();
        let service = Service::start(&self.netns, &self.home, &self.home.config(more));
        let api = Api::unix(&self.home);
        Self {
            service,
            api,
            ..self
        }
    }

    /// Whether HTTP knows the machine.
    fn http_status(&self, n: u8) -> u16 {
        let target = format!("/machines/52-54-00-00-00-{n:02x}/nocloud/meta-data");
        api::get_from(&self.netns, &format!("198.18.0.{n}"), &target).status
    }
}

/// `node(n)` under its name, for updates.
fn named(n: u8) -> Reservation {
    Reservation {
        name: format!("reservations/node-{n}"),
        ..node(n)
    }
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, sentence: &str) {
    let status = answer.expect_err(sentence);
    assert_eq!((status.code(), status.message()), (code, sentence));
}

fn number(value: f64) -> Value {
    kind(Kind::NumberValue(value))
}

fn kind(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn list(values: Vec<Value>) -> Value {
    kind(Kind::ListValue(ListValue { values }))
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let fields = fields.map(|(name, value)| (name.to_owned(), value)).into();
    kind(Kind::StructValue(Struct { fields }))
}

#[test]
fn a_reservation_is_made_and_found_by_every_name() {
    let server = serve("");
    let mut wanted = node(12);
    wanted.mac = "5254.0000.000C".to_owned();
    wanted.hostname = "Node-12".to_owned();
    wanted.profile = "debian-12".to_owned();
    wanted
        .vars
        .insert("ssh_key".to_owned(), text("ssh-ed25519 AAAA me"));
    // Output only, and so of no effect.
    wanted.name = "reservations/other".to_owned();
    wanted.etag = "77".to_owned();
    wanted.source = Source::ConfigFile.into();
    let made = server
        .api
        .create(wanted.clone())
        .expect("nothing in the way");
    assert!(made.create_time.is_some() && made.create_time == made.update_time);
    assert_eq!(
        made,
        Reservation {
            name: "reservations/node-12".to_owned(),
            mac: "52:54:00:00:00:0c".to_owned(),
            etag: "1".to_owned(),
            source: Source::Api.into(),
            create_time: made.create_time,
            update_time: made.update_time,
            ..wanted
        }
    );
    for name in [
        "reservations/node-12",
        "node-12",
        "reservations/NODE-12",
        "52:54:00:00:00:0c",
        "reservations/52-54-00-00-00-0C",
    ] {
        assert_eq!(server.api.get(name).as_ref().ok(), Some(&made), "{name}");
    }
    let line = server.service.wait_for("reserved", |_| true);
    assert_eq!(
        (
            &line["machine"],
            &line["change"],
            &line["mac"],
            &line["address"]
        ),
        (
            &json!("Node-12"),
            &json!("created"),
            &json!("52:54:00:00:00:0c"),
            &json!("198.18.0.12")
        )
    );
    assert!(
        !line.to_string().contains("ssh-ed25519"),
        "variables are secrets"
    );
}

#[test]
fn the_id_is_the_one_given_or_the_host_name_or_the_mac() {
    let server = serve("");
    let unnamed = |n: u8| Reservation {
        hostname: String::new(),
        address: String::new(),
        ..node(n)
    };
    let id = |answer: Result<Reservation, Status>| answer.expect("nothing in the way").name;
    assert_eq!(
        id(server.api.create_as("rack-1.7", node(7))),
        "reservations/rack-1.7"
    );
    assert_eq!(id(server.api.create(node(8))), "reservations/node-8");
    assert_eq!(
        id(server.api.create(unnamed(9))),
        "reservations/52-54-00-00-00-09"
    );
    let everything = [
        "reservations/52-54-00-00-00-09",
        "reservations/node-8",
        "reservations/rack-1.7",
    ];
    assert_eq!(server.api.names(), everything);
}

#[test]
fn what_belongs_to_another_is_refused_with_its_owner_and_a_way_out() {
    let server = serve(
        "[[reservation]]\nmac = \"52:54:00:00:00:0a\"\naddress = \"198.18.0.10\"\nhostname = \"node-10\"\n",
    );
    let api = &server.api;
    api.create(node(12)).expect("nothing in the way");
    let with = |change: &dyn Fn(&mut Reservation)| {
        let mut other = node(13);
        change(&mut other);
        other
    };
    let exists = Code::AlreadyExists;
    assert_refused(
        api.create(with(&|r| r.address = "198.18.0.12".to_owned())),
        exists,
        "reservation node-13: address 198.18.0.12 already belongs to node-12 (52:54:00:00:00:0c); pick another address or delete node-12",
    );
    assert_refused(
        api.create(with(&|r| r.mac = "52-54-00-00-00-0C".to_owned())),
        exists,
        "reservation node-13: mac 52:54:00:00:00:0c already belongs to node-12 (198.18.0.12); pick another MAC or delete node-12",
    );
    assert_refused(
        api.create(with(&|r| r.hostname = "NODE-12".to_owned())),
        exists,
        "reservation NODE-12: hostname NODE-12 already belongs to node-12 (198.18.0.12); pick another host name or delete node-12",
    );
    assert_refused(
        api.create_as("node-12", node(13)),
        exists,
        "reservation node-13: id node-12 already belongs to node-12 (198.18.0.12); pick another id or delete node-12",
    );
    assert_refused(
        api.create(with(&|r| r.address = "198.18.0.10".to_owned())),
        exists,
        "reservation node-13: address 198.18.0.10 already belongs to node-10 (52:54:00:00:00:0a); pick another address or take node-10 out of the configuration file",
    );
    // The same of an update.
    api.create(node(13)).expect("nothing in the way");
    let mut moved = named(13);
    moved.address = "198.18.0.12".to_owned();
    assert_refused(
        api.update(&["address"], moved),
        exists,
        "reservation node-13: address 198.18.0.12 already belongs to node-12 (52:54:00:00:00:0c); pick another address or delete node-12",
    );
    let status = api.create_as("x", node(12)).expect_err("taken");
    let details = status.get_error_details();
    let info = details.error_info().expect("a reason for programs");
    assert_eq!(
        (info.reason.as_str(), info.domain.as_str()),
        ("TAKEN", "bootjack.v1")
    );
    assert_eq!(info.metadata["field"], "address");
    assert_eq!(info.metadata["value"], "198.18.0.12");
    let fields = &details.bad_request().expect("a field").field_violations;
    assert_eq!(fields[0].field, "address");
    assert_eq!(
        api.names(),
        [
            "reservations/node-10",
            "reservations/node-12",
            "reservations/node-13"
        ],
        "a refused call changes nothing"
    );
}

#[test]
fn what_cannot_be_is_refused_with_the_field_and_what_would_do() {
    let server = serve("");
    let api = &server.api;
    let too_deep = (0..16).fold(text("x"), |value, _| list(vec![value]));
    type Change<'a> = &'a dyn Fn(&mut Reservation);
    let var = |value: Value| {
        move |r: &mut Reservation| drop(r.vars.insert("v".to_owned(), value.clone()))
    };
    let wanted_value = "vars.v: wanted a string, number, truth value, list or object without null, nested at most 16 deep";
    let outside = "address 198.19.0.12 is outside every subnet (198.18.0.0/24); pick one inside, or add its subnet to the configuration file";
    let unusable = |address: &str| {
        format!(
            "reservation node-12: address {address} is the network, broadcast or router address of subnet 198.18.0.0/24; pick another address"
        )
    };
    let (null, nan, infinite) = (
        kind(Kind::NullValue(0)),
        number(f64::NAN),
        number(f64::INFINITY),
    );
    let cases: Vec<(&str, Change, String)> = vec![
        ("mac", &|r| r.mac.clear(), "mac is missing; write it like 52:54:00:00:00:01".to_owned()),
        (
            "mac",
            &|r| r.mac = "52:54:00:00:00".to_owned(),
            "mac: `52:54:00:00:00` is not a MAC address; write it like 52:54:00:00:00:01".to_owned(),
        ),
        (
            "mac",
            &|r| r.mac = "01:00:5e:00:00:01".to_owned(),
            "reservation node-12: mac 01:00:5e:00:00:01 is a group address or empty; give the network card's own address".to_owned(),
        ),
        (
            "address",
            &|r| r.address = "198.18.0".to_owned(),
            "address: `198.18.0` is not an IPv4 address; write it like 198.18.0.10".to_owned(),
        ),
        (
            "address",
            &|r| r.address = "2001:db8::1".to_owned(),
            "address: `2001:db8::1` is not an IPv4 address; write it like 198.18.0.10".to_owned(),
        ),
        (
            "address",
            &|r| r.address = "198.19.0.12".to_owned(),
            format!("reservation node-12: {outside}"),
        ),
        ("address", &|r| r.address = "198.18.0.0".to_owned(), unusable("198.18.0.0")),
        ("address", &|r| r.address = "198.18.0.255".to_owned(), unusable("198.18.0.255")),
        ("address", &|r| r.address = "198.18.0.1".to_owned(), unusable("198.18.0.1")),
        (
            "profile",
            &|r| r.profile = "debain".to_owned(),
            format!("reservation node-12: profile debain does not exist; known are: {}", profiles(&[]).join(", ")),
        ),
    ];
    let hostile_vars = [
        null,
        nan,
        infinite,
        too_deep,
        Value { kind: None },
        object([("a", list(vec![kind(Kind::NullValue(0))]))]),
    ];
    let by_var: Vec<_> = hostile_vars.into_iter().map(var).collect();
    let by_var = by_var
        .iter()
        .map(|change| ("vars", change as Change, wanted_value.to_owned()));
    for (field, change, sentence) in cases.into_iter().chain(by_var) {
        let mut wrong = node(12);
        change(&mut wrong);
        let status = api.create(wrong).expect_err(&sentence);
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, sentence.as_str())
        );
        let fields = status
            .get_details_bad_request()
            .expect("a field")
            .field_violations;
        assert_eq!(fields[0].field, field, "{sentence}");
    }
    let mut wrong = node(12);
    wrong.vars.insert("not-a-name".to_owned(), text("x"));
    let sentence = "vars: `not-a-name` is not a variable name; use letters, digits and _";
    assert_refused(api.create(wrong), Code::InvalidArgument, sentence);
    let long = "x".repeat(254);
    for id in ["Bad Id", "a/b", "a_b", "ä", &long] {
        let sentence = format!(
            "reservation node-12: `{}` is not a reservation id; use 1 to 253 of a-z 0-9 . -",
            id.escape_default()
        );
        assert_refused(
            api.create_as(id, node(12)),
            Code::InvalidArgument,
            &sentence,
        );
    }
    assert_eq!(api.names(), [""; 0], "a refused call changes nothing");
    assert_refused(
        api.update(&[], Reservation::default()),
        Code::InvalidArgument,
        "name is missing; wanted reservations/ID",
    );
}

#[test]
fn a_host_name_that_is_none_is_refused_as_a_host_name() {
    let server = serve("");
    for hostname in ["under_score", "-a", "a b"] {
        let mut wrong = node(12);
        wrong.hostname = hostname.to_owned();
        let status = server.api.create(wrong).expect_err(hostname);
        assert_eq!(
            (status.code(), status.message()),
            (
                Code::InvalidArgument,
                &*format!(
                    "reservation {hostname}: hostname `{hostname}` is not a host name; use letters, digits and hyphens in labels of at most 63"
                )
            )
        );
    }
}

#[test]
fn a_call_without_a_reservation_is_refused() {
    let server = serve("");
    server.api.with(async |channel| {
        let mut client = v1::reservations_client::ReservationsClient::new(channel);
        let nothing = v1::CreateReservationRequest::default();
        let status = client
            .create_reservation(nothing)
            .await
            .expect_err("nothing in it");
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, "reservation is missing")
        );
        let nothing = v1::UpdateReservationRequest::default();
        let status = client
            .update_reservation(nothing)
            .await
            .expect_err("nothing in it");
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, "reservation is missing")
        );
    });
}

#[test]
fn an_update_changes_what_its_mask_names() {
    let server = serve("");
    let api = &server.api;
    let mut first = node(12);
    first.profile = "debian-12".to_owned();
    first.vars.insert("a".to_owned(), text("1"));
    let made = api.create(first).expect("nothing in the way");
    let mut change = named(12);
    change.address = "198.18.0.33".to_owned();
    change.hostname = "renamed".to_owned();
    change.vars.insert("b".to_owned(), text("2"));
    // One field.
    let got = api
        .update(&["address"], change.clone())
        .expect("nothing in the way");
    let mut expected = made.clone();
    expected.address = "198.18.0.33".to_owned();
    (expected.etag, expected.update_time) = ("2".to_owned(), got.update_time);
    expected.operation = "operations/2-node-12".to_owned();
    assert_eq!(got, expected);
    // No mask: the fields that are not empty. The profile stays, the variables are replaced as a whole.
    let got = api.update(&[], change.clone()).expect("nothing in the way");
    assert_eq!(got.name, made.name, "its name never changes");
    assert_eq!(
        (got.hostname.as_str(), got.profile.as_str()),
        ("renamed", "debian-12")
    );
    assert_eq!(got.vars, BTreeMap::from([("b".to_owned(), text("2"))]));
    // A mask that clears, and one that replaces everything.
    let nothing_but = |mac: u8| Reservation {
        name: "reservations/node-12".to_owned(),
        mac: node(mac).mac,
        ..Reservation::default()
    };
    let got = api
        .update(&["profile", "vars"], nothing_but(12))
        .expect("nothing in the way");
    assert_eq!((got.profile.as_str(), got.vars.len()), ("", 0));
    assert_eq!(got.hostname, "renamed");
    let got = api
        .update(&["*"], nothing_but(14))
        .expect("nothing in the way");
    assert_eq!((got.hostname.as_str(), got.address.as_str()), ("", ""));
    assert_eq!(got.mac, node(14).mac);
    assert_eq!(got.create_time, made.create_time);
    assert_eq!(server.api.get("reservations/node-12").ok(), Some(got));
    // What it left is free.
    for free in [node(12), node(33)] {
        let mut taken = free.clone();
        taken.hostname = format!("new-{}", free.hostname);
        api.create(taken).expect("its MAC and address are free");
    }
}

#[test]
fn a_mask_that_names_what_cannot_be_changed_is_refused() {
    let server = serve("");
    server.api.create(node(12)).expect("nothing in the way");
    for path in [
        "name",
        "etag",
        "source",
        "create_time",
        "cards",
        "vars.",
        "mac.a",
        "Address",
        "",
    ] {
        assert_refused(
            server.api.update(&[path], named(12)),
            Code::InvalidArgument,
            &format!(
                "update_mask: `{path}` cannot be changed; wanted some of: mac, address, hostname, profile, vars, macs, client_ids, uuids, circuit_ids, options, program, local_boot, labels"
            ),
        );
    }
    let mut without_mac = named(12);
    without_mac.mac.clear();
    for mask in [&["mac"][..], &["*"]] {
        assert_refused(
            server.api.update(mask, without_mac.clone()),
            Code::InvalidArgument,
            "reservation node-12: mac is missing, and no client-id, UUID or circuit-id stands for it",
        );
    }
}

#[test]
fn what_does_not_exist_is_not_found() {
    let server = serve("");
    let sentence = "reservation node-12 does not exist; see: bootjack reservation list";
    assert_refused(
        server.api.get("reservations/node-12"),
        Code::NotFound,
        sentence,
    );
    assert_refused(server.api.update(&[], named(12)), Code::NotFound, sentence);
    assert_refused(
        server.api.delete("reservations/node-12", ""),
        Code::NotFound,
        sentence,
    );
    for name in ["", "reservations/"] {
        let sentence = "name is missing; wanted reservations/ID";
        assert_refused(server.api.get(name), Code::InvalidArgument, sentence);
        assert_refused(server.api.delete(name, ""), Code::InvalidArgument, sentence);
    }
}

#[test]
fn an_etag_that_is_no_longer_current_is_refused() {
    let server = serve("");
    let api = &server.api;
    let first = api.create(node(12)).expect("nothing in the way");
    let mut change = first.clone();
    change.hostname = "second".to_owned();
    let second = api.update(&["hostname"], change).expect("it is current");
    let stale = "reservation second has changed since it was read (etag 2 now, 1 sent); read it again and repeat the change";
    assert_refused(
        api.update(&["hostname"], first.clone()),
        Code::Aborted,
        stale,
    );
    assert_refused(api.delete(&first.name, &first.etag), Code::Aborted, stale);
    assert_refused(
        api.delete(&first.name, "W/\"1\""),
        Code::InvalidArgument,
        "etag `W/\\\"1\\\"` was not made by this server",
    );
    assert_eq!(api.get(&first.name).ok(), Some(second.clone()));
    api.delete(&first.name, &second.etag)
        .expect("it is current");
    assert_eq!(api.names(), [""; 0]);
    let again = api.create(node(12)).expect("it is free");
    assert_ne!(again.etag, first.etag, "an etag is never given twice");
}

#[test]
fn of_many_who_want_the_same_one_gets_it() {
    let server = serve("");
    let sent = server.api.with(async |channel| {
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..50_u8 {
            let mut client = v1::reservations_client::ReservationsClient::new(channel.clone());
            calls.spawn(async move {
                let reservation = Reservation {
                    address: "198.18.0.77".to_owned(),
                    ..node(n + 10)
                };
                let request = v1::CreateReservationRequest {
                    reservation: Some(reservation),
                    ..Default::default()
                };
                client
                    .create_reservation(request)
                    .await
                    .map_err(|status| status.code())
            });
        }
        calls.join_all().await
    });
    let made: Vec<&Reservation> = sent
        .iter()
        .filter_map(|a| Some(a.as_ref().ok()?.get_ref()))
        .collect();
    assert_eq!(made.len(), 1);
    let codes: Vec<Code> = sent
        .iter()
        .filter_map(|a| a.as_ref().err().copied())
        .collect();
    assert_eq!(codes, [Code::AlreadyExists; 49]);
    assert_eq!(server.api.names(), [made[0].name.clone()]);
    // And of many who change what they all have read.
    let read = made[0].clone();
    let sent = server.api.with(async |channel| {
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..20 {
            let mut client = v1::reservations_client::ReservationsClient::new(channel.clone());
            let mut reservation = read.clone();
            reservation.hostname = format!("by-{n}");
            let request = v1::UpdateReservationRequest {
                reservation: Some(reservation),
                update_mask: None,
                ..Default::default()
            };
            calls.spawn(async move {
                client
                    .update_reservation(request)
                    .await
                    .map_err(|s| s.code())
            });
        }
        calls.join_all().await
    });
    let codes: Vec<Code> = sent
        .iter()
        .filter_map(|a| a.as_ref().err().copied())
        .collect();
    assert_eq!(codes, [Code::Aborted; 19]);
}

#[test]
fn a_list_comes_in_pages_ordered_by_name() {
    let server = serve("[[reservation]]\nmac = \"52:54:00:00:00:ff\"\nhostname = \"node-105\"\n");
    for n in (100..120).rev().filter(|n| *n != 105) {
        server.api.create(node(n)).expect("nothing in the way");
    }
    let expected: Vec<String> = (100..120)
        .map(|n| format!("reservations/node-{n}"))
        .collect();
    let pages = |size: i32| {
        let (mut token, mut pages) = (String::new(), Vec::new());
        loop {
            let page = server.api.page(size, &token).expect("a page");
            pages.push(
                page.reservations
                    .into_iter()
                    .map(|r| r.name)
                    .collect::<Vec<_>>(),
            );
            token = page.next_page_token;
            if token.is_empty() {
                return pages;
            }
        }
    };
    for (size, lengths) in [
        (7, &[7, 7, 6][..]),
        (10, &[10, 10]),
        (20, &[20]),
        (0, &[20]),
        (1_000_000, &[20]),
    ] {
        let pages = pages(size);
        assert_eq!(
            pages.iter().map(Vec::len).collect::<Vec<_>>(),
            lengths,
            "{size}"
        );
        assert_eq!(pages.concat(), expected);
    }
    // What a page ended with may go before the next one is asked for.
    let first = server.api.page(7, "").expect("a page");
    server
        .api
        .delete("reservations/node-106", "")
        .expect("it is there");
    let second = server.api.page(7, &first.next_page_token).expect("a page");
    assert_eq!(second.reservations[0].name, "reservations/node-107");
    assert_refused(
        server.api.page(-1, ""),
        Code::InvalidArgument,
        "page_size is negative",
    );
}

#[test]
fn a_reservation_of_the_configuration_file_is_seen_and_changed_only_there() {
    let server = serve(
        "[[reservation]]\nmac = \"52:54:00:00:00:0a\"\naddress = \"198.18.0.10\"\nhostname = \"node-10\"\n",
    );
    let got = server.api.get("reservations/node-10").expect("it is there");
    assert_eq!(got.source(), Source::ConfigFile);
    assert_eq!((got.create_time, got.update_time), (None, None));
    let sentence = "reservation node-10 comes from the configuration file; change it there and restart bootjackd";
    assert_refused(
        server.api.delete(&got.name, ""),
        Code::FailedPrecondition,
        sentence,
    );
    assert_refused(
        server.api.delete(&got.name, &got.etag),
        Code::FailedPrecondition,
        sentence,
    );
    assert_refused(
        server.api.update(&["profile"], named(10)),
        Code::FailedPrecondition,
        sentence,
    );
    assert_eq!(server.api.get("52-54-00-00-00-0a").ok(), Some(got));
}

#[test]
fn http_sees_a_change_as_soon_as_the_call_returns() {
    let server = serve("");
    let mut http = api::Http::connect_from(&server.netns, "198.18.0.12");
    let mut document = || {
        let got = http.get("/machines/52-54-00-00-00-0c/nocloud/user-data");
        (got.status, String::from_utf8(got.body).expect("UTF-8"))
    };
    for round in 0..20 {
        assert_eq!(document().0, 404, "round {round}");
        server.api.create(node(12)).expect("nothing in the way");
        assert_eq!(document().0, 200, "round {round}");
        let mut keyed = named(12);
        keyed
            .vars
            .insert("ssh_key".to_owned(), text(&format!("key-{round}")));
        server
            .api
            .update(&["vars"], keyed)
            .expect("nothing in the way");
        assert!(
            document().1.contains(&format!("key-{round}")),
            "round {round}"
        );
        server
            .api
            .delete("reservations/node-12", "")
            .expect("it is there");
    }
}

#[test]
fn what_was_answered_survives_a_kill_right_after_the_answer() {
    let mut server = serve("");
    let mut expected: BTreeMap<String, Reservation> = BTreeMap::new();
    for round in 0..5_u8 {
        let made = server
            .api
            .create(node(20 + round))
            .expect("nothing in the way");
        expected.insert(made.name.clone(), made);
        server = server.killed_and_started("");
        let mut change = named(20 + round);
        change
            .vars
            .insert("round".to_owned(), number(f64::from(round)));
        let changed = server.api.update(&["vars"], change).expect("it is there");
        expected.insert(changed.name.clone(), changed);
        server = server.killed_and_started("");
        if round % 2 == 1 {
            let name = format!("reservations/node-{}", 20 + round);
            server.api.delete(&name, "").expect("it is there");
            expected.remove(&name);
            server = server.killed_and_started("");
        }
        let page = server.api.page(0, "").expect("a list");
        let there = page
            .reservations
            .into_iter()
            .map(|r| (r.name.clone(), r))
            .collect();
        assert_eq!(expected, there, "round {round}");
    }
    assert_eq!(server.http_status(20), 200);
    assert_eq!(server.http_status(21), 404);
}

#[test]
fn variables_of_every_kind_come_back_as_they_were_sent() {
    let server = serve("");
    let mut sent = node(12);
    sent.vars = BTreeMap::from([
        ("text".to_owned(), text("a\nb\u{0} ünï {{ x }}")),
        ("empty".to_owned(), text("")),
        ("yes".to_owned(), kind(Kind::BoolValue(true))),
        ("whole".to_owned(), number(-42.0)),
        ("half".to_owned(), number(0.5)),
        ("large".to_owned(), number(1e300)),
        (
            "list".to_owned(),
            list(vec![text("a"), number(1.0), list(vec![])]),
        ),
        (
            "object".to_owned(),
            object([("a-b c", object([])), ("n", number(1.5)), ("t", text("1"))]),
        ),
    ]);
    let made = server.api.create(sent.clone()).expect("nothing in the way");
    assert_eq!(made.vars, sent.vars);
    let server = server.killed_and_started("");
    assert_eq!(
        server.api.get("node-12").expect("it is there").vars,
        sent.vars
    );
}

#[test]
fn a_number_is_the_very_same_after_a_restart() {
    // Another number in the last digit would be another instance-id, and have cloud-init configure the machine again.
    let server = serve("");
    let mut sent = node(12);
    for (name, value) in [
        ("a", 9_007_199_254_740_991.0),
        ("b", 31.245270191439438),
        ("c", 5e-324),
    ] {
        sent.vars.insert(name.to_owned(), number(value));
    }
    let made = server.api.create(sent.clone()).expect("nothing in the way");
    assert_eq!(made.vars, sent.vars);
    let server = server.killed_and_started("");
    assert_eq!(
        server.api.get("node-12").expect("it is there").vars,
        sent.vars
    );
}

#[test]
fn a_message_that_is_too_large_is_refused_and_hurts_nobody() {
    let server = serve("");
    let mut large = node(12);
    large
        .vars
        .insert("v".to_owned(), text(&"x".repeat(20 << 20)));
    let status = server.api.create(large).expect_err("20 MiB");
    assert!(
        matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted),
        "{status:?}"
    );
    server.api.create(node(12)).expect("nothing in the way");
}

// What a reservation of the file takes from one of the API.

const IN_ITS_PLACE: &str = "[[reservation]]\nmac = \"52:54:00:00:00:aa\"\naddress = \"198.18.0.12\"\nhostname = \"from-file\"\n";

#[test]
fn a_reservation_whose_place_the_file_takes_is_set_aside_and_comes_back() {
    let server = serve("");
    let made = server.api.create(node(12)).expect("nothing in the way");
    let server = server.killed_and_started(IN_ITS_PLACE);
    let line = server.service.wait_for("reservation set aside", |_| true);
    assert_eq!(
        (&line["machine"], &line["reason"], &line["level"]),
        (
            &json!("node-12"),
            &json!(
                "reservation node-12: address 198.18.0.12 already belongs to from-file (52:54:00:00:00:aa); pick another address or take from-file out of the configuration file"
            ),
            &json!("ERROR"),
        )
    );
    assert_eq!(server.api.names(), ["reservations/from-file"]);
    assert_eq!(server.http_status(12), 404, "it is not followed");
    let sentence = "reservation node-12 does not exist; see: bootjack reservation list";
    assert_refused(
        server.api.get("reservations/node-12"),
        Code::NotFound,
        sentence,
    );
    let mut elsewhere = node(12);
    elsewhere.address.clear();
    assert_refused(
        server.api.create(elsewhere),
        Code::AlreadyExists,
        "reservation node-12: id node-12 already belongs to node-12 (52:54:00:00:00:0c), which is set aside; delete node-12 first, or pick another id",
    );
    let server = server.killed_and_started("");
    assert_eq!(server.api.get("reservations/node-12").ok(), Some(made));
    assert_eq!(server.http_status(12), 200);
}

#[test]
fn a_reservation_that_is_set_aside_can_be_deleted_for_good() {
    let server = serve("");
    server.api.create(node(12)).expect("nothing in the way");
    let server = server.killed_and_started(IN_ITS_PLACE);
    server
        .api
        .delete("reservations/node-12", "")
        .expect("it is set aside");
    let sentence = "reservation node-12 does not exist; see: bootjack reservation list";
    assert_refused(
        server.api.delete("reservations/node-12", ""),
        Code::NotFound,
        sentence,
    );
    let server = server.killed_and_started("");
    assert_eq!(server.api.names(), [""; 0]);
    let mut free = node(12);
    free.mac = node(13).mac;
    server.api.create(free).expect("its id is free");
}

#[test]
fn a_reservation_that_is_set_aside_is_deleted_only_while_its_etag_is_current() {
    let server = serve("");
    let made = server.api.create(node(12)).expect("nothing in the way");
    let server = server.killed_and_started(IN_ITS_PLACE);
    let status = server
        .api
        .delete(&made.name, "999")
        .expect_err("another etag");
    assert_eq!(status.code(), Code::Aborted);
    server.api.delete(&made.name, &made.etag).expect("its etag");
}

#[test]
fn a_reservation_of_the_file_with_the_same_id_hides_the_one_that_was_made() {
    let server = serve("");
    let made = server.api.create(node(12)).expect("nothing in the way");
    let same = "[[reservation]]\nmac = \"52:54:00:00:00:0c\"\naddress = \"198.18.0.50\"\nhostname = \"node-12\"\n";
    let server = server.killed_and_started(same);
    server
        .service
        .wait_for("reservation set aside", |line| line["machine"] == "node-12");
    let got = server.api.get("reservations/node-12").expect("the file's");
    assert_eq!(
        (got.address.as_str(), got.source()),
        ("198.18.0.50", Source::ConfigFile)
    );
    assert_eq!(server.api.names(), ["reservations/node-12"]);
    let server = server.killed_and_started("");
    assert_eq!(
        server.api.get("reservations/node-12").ok(),
        Some(made),
        "nothing was lost"
    );
}

// Where it listens, and what else answers there.

#[test]
fn over_tcp_it_answers_on_loopback_alone() {
    let (netns, _client) = server_and_client("52:54:00:00:00:01");
    let home = Home::new();
    let config = home.config("").replace(&home.api(), "127.0.0.1:50051");
    let _service = Service::start(&netns, &home, &config);
    let api = Api::tcp(&netns, "127.0.0.1:50051");
    api.create(node(12)).expect("nothing in the way");
    assert_eq!(api.names(), ["reservations/node-12"]);
    let outside = api::connect(&netns, "198.18.0.1:50051").expect_err("not there");
    assert_eq!(outside.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn the_health_of_the_service_can_be_asked() {
    let server = serve("");
    server.api.with(async |channel| {
        let mut client = HealthClient::new(channel);
        for service in ["", "bootjack.v1.Reservations"] {
            let request = HealthCheckRequest {
                service: service.to_owned(),
            };
            let answer = client.check(request).await.expect("an answer").into_inner();
            assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
        }
        let request = HealthCheckRequest {
            service: "bootjack.v1.Nothing".to_owned(),
        };
        let status = client.check(request).await.expect_err("there is none");
        assert_eq!(status.code(), Code::NotFound);
    });
}

/// The services that one version of the reflection service names.
macro_rules! reflected {
    ($api:expr, $version:ident) => {
        $api.with(async |channel| {
            use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
            let question = tonic_reflection::pb::$version::ServerReflectionRequest {
                host: String::new(),
                message_request: Some(MessageRequest::ListServices(String::new())),
            };
            let mut client = ServerReflectionClient::new(channel);
            let answers = client
                .server_reflection_info(tokio_stream::once(question))
                .await;
            let mut answers = answers.expect("a stream").into_inner();
            let answer = answers.message().await.expect("an answer").expect("one");
            let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
                panic!("no list");
            };
            let mut names: Vec<String> = list.service.into_iter().map(|s| s.name).collect();
            names.sort();
            names
        })
    };
}

#[test]
fn clients_that_know_no_contract_can_ask_for_it_in_either_version() {
    let server = serve("");
    let ours = ["bootjack.v1.Reservations", "grpc.health.v1.Health"];
    for names in [reflected!(server.api, v1), reflected!(server.api, v1alpha)] {
        for name in ours {
            assert!(
                names.iter().any(|n| n == name),
                "{name} is not in {names:?}"
            );
        }
    }
}
