//! Leases over gRPC, and machines on their way to another address, with clients made packet by packet.

use bootjack_api::v1;
use bootjack_api::v1::lease::State;
use bootjack_api::v1::leases_client::LeasesClient;
use bootjack_api::v1::move_metadata::Stage;
use bootjack_api::v1::operation;
use bootjack_api::v1::operations_client::OperationsClient;
use bootjack_api::v1::reservations_client::ReservationsClient;
use bootjack_api::v1::watch_leases_response::Kind;
use tonic::{Code, Status};

use crate::support::api::node;
use crate::support::dhcp::{ACK, NAK, OFFER, Packet, mac};
use crate::support::lab::{Lab, details, take};

fn list(lab: &Lab, filter: &str) -> Result<Vec<(String, State)>, Status> {
    let request = v1::ListLeasesRequest {
        filter: filter.to_owned(),
        ..Default::default()
    };
    let page = lab.call(async |channel| LeasesClient::new(channel).list_leases(request).await)?;
    assert_eq!(page.total_size as usize, page.leases.len());
    let leases = page.leases.into_iter();
    Ok(leases
        .map(|lease| (lease.address.clone(), lease.state()))
        .collect())
}

fn release(lab: &Lab, name: &str, etag: &str) -> Result<v1::Lease, Status> {
    let request = v1::ReleaseLeaseRequest {
        name: name.to_owned(),
        etag: etag.to_owned(),
    };
    lab.call(async |channel| LeasesClient::new(channel).release_lease(request).await)
}

fn get(lab: &Lab, name: &str) -> Result<v1::Lease, Status> {
    let request = v1::GetLeaseRequest {
        name: name.to_owned(),
    };
    lab.call(async |channel| LeasesClient::new(channel).get_lease(request).await)
}

#[test]
fn reserved_held_offered_and_declined_addresses_are_in_one_list() {
    let lab = Lab::new("");
    lab.api.create(node(10)).expect("nothing in the way");
    lab.api.create(node(11)).expect("nothing in the way");
    let own = lab.segment.acquire(mac(10));
    assert_eq!(own.yiaddr().to_string(), "198.18.0.10");
    let held = lab.segment.acquire(mac(0x50)).yiaddr();
    let declined = lab.segment.acquire(mac(0x51)).yiaddr();
    let decline = Packet::decline(mac(0x51), declined);
    lab.segment.send(&decline);
    lab.segment
        .expect_silence(&lab.service, &decline, "declined");
    let offered = lab.segment.ask(&Packet::discover(mac(0x52)));
    assert_eq!(offered.kind(), OFFER);
    let offered = offered.yiaddr();
    let mut wanted = vec![
        ("198.18.0.10".to_owned(), State::Bound),
        ("198.18.0.11".to_owned(), State::Reserved),
        (held.to_string(), State::Bound),
        (declined.to_string(), State::Declined),
        (offered.to_string(), State::Offered),
    ];
    let found = list(&lab, "").expect("a list");
    let numeric =
        |(address, _): &(String, State)| address.parse::<std::net::Ipv4Addr>().expect("an address");
    assert!(found.is_sorted_by_key(numeric), "{found:?}");
    wanted.sort_by_key(numeric);
    assert_eq!(found, wanted);
    let of = |filter: &str| list(&lab, filter).expect(filter).len();
    assert_eq!(of("state = BOUND"), 2);
    assert_eq!(of("reservation = *"), 2);
    assert_eq!(of("holder = node-10 AND state = bound"), 1);
    assert_eq!(of("mac = 52:54:00:00:00:50"), 1);
    assert_eq!(of("subnet = 198.18.0.0/24 AND state != RESERVED"), 4);
    assert_eq!(of("subnet = 198.18.0.10/32"), 1);
    let lease = get(&lab, "leases/198.18.0.10").expect("it is there");
    assert_eq!(
        (lease.reservation.as_str(), lease.subnet.as_str()),
        ("reservations/node-10", "198.18.0.0/24")
    );
    assert_eq!(
        get(&lab, "198.18.0.77").expect_err("nothing").code(),
        Code::NotFound
    );
    assert_eq!(
        get(&lab, "leases/x").expect_err("no name").code(),
        Code::InvalidArgument
    );
    assert_eq!(
        list(&lab, "state = HELD").expect_err("no state").code(),
        Code::InvalidArgument
    );
}

#[test]
fn a_lease_that_is_released_is_free_and_its_holder_is_refused() {
    let lab = Lab::new("");
    lab.api.create(node(10)).expect("nothing in the way");
    lab.segment.acquire(mac(10));
    let held = lab.segment.acquire(mac(0x50)).yiaddr();
    let name = format!("leases/{held}");
    let etag = get(&lab, &name).expect("it is there").etag;
    let status = release(&lab, &name, "0").expect_err("another etag");
    assert_eq!(
        (status.code(), details(&status).1.as_str()),
        (Code::Aborted, "STALE_ETAG")
    );
    assert_eq!(
        release(&lab, &name, &etag).expect("released").state(),
        State::Bound
    );
    assert_eq!(
        get(&lab, &name).expect("it is known").state(),
        State::Revoked
    );
    let lab = lab.killed_and_started("");
    let renewal = lab.segment.ask(&Packet::rebooting(mac(0x50), held));
    assert_eq!(renewal.kind(), NAK);
    assert_eq!(lab.segment.acquire(mac(0x50)).kind(), ACK, "it begins anew");
    let status = release(&lab, "leases/198.18.0.10", "").expect_err("its own");
    assert_eq!(
        (status.code(), details(&status).1.as_str()),
        (Code::FailedPrecondition, "RESERVED")
    );
    let nothing = release(&lab, "leases/198.18.0.99", "").expect_err("nothing");
    assert_eq!(nothing.code(), Code::NotFound);
    // A declined address is given out again.
    let declined = lab.segment.acquire(mac(0x60)).yiaddr();
    let decline = Packet::decline(mac(0x60), declined);
    lab.segment.send(&decline);
    lab.segment
        .expect_silence(&lab.service, &decline, "declined");
    let was = release(&lab, &format!("leases/{declined}"), "").expect("freed");
    assert_eq!(was.state(), State::Declined);
    let asked = Packet::discover(mac(0x61)).with(50, &declined.octets());
    assert_eq!(lab.segment.ask(&asked).yiaddr(), declined);
}

#[test]
fn leases_are_followed_and_resumed() {
    let lab = Lab::new("");
    let start = {
        let request = v1::ListLeasesRequest::default();
        lab.call(async |channel| LeasesClient::new(channel).list_leases(request).await)
            .expect("a list")
            .resume_token
    };
    let held = lab.segment.acquire(mac(0x50)).yiaddr();
    let renewal = Packet::rebooting(mac(0x50), held);
    assert_eq!(lab.segment.ask(&renewal).kind(), ACK);
    let held = held.to_string();
    let watch = |token: &str, most| {
        let request = v1::WatchLeasesRequest {
            resume_token: token.to_owned(),
            ..Default::default()
        };
        lab.api.with(async |channel| {
            let mut stream = LeasesClient::new(channel)
                .watch_leases(request)
                .await?
                .into_inner();
            Ok::<_, Status>(take(&mut stream, most, |_| false).await)
        })
    };
    let told = watch(&start, 2).expect("remembered");
    let states: Vec<_> = told
        .iter()
        .map(|m| {
            let lease = m.lease.clone().expect("a lease");
            (m.kind(), lease.address.clone(), lease.state())
        })
        .collect();
    assert_eq!(
        states,
        [
            (Kind::Put, held.clone(), State::Bound),
            (Kind::Put, held.clone(), State::Bound)
        ]
    );
    let resumed = watch(&told[0].resume_token, 1).expect("remembered");
    assert_eq!(resumed[0], told[1]);
    let mut reserved = node(10);
    reserved.address.clone_from(&held);
    lab.api.create(reserved).expect("it takes the address");
    let told = watch(&told[1].resume_token, 1).expect("remembered");
    assert_eq!(
        (told[0].kind(), told[0].lease.clone().expect("a lease").mac),
        (Kind::Forgotten, "52:54:00:00:00:50".to_owned())
    );
    let token = told[0].resume_token.clone();
    let lab = lab.killed_and_started("");
    let request = v1::WatchLeasesRequest {
        resume_token: token,
        ..Default::default()
    };
    let status = lab.call(async |channel| LeasesClient::new(channel).watch_leases(request).await);
    assert_eq!(status.err().map(|s| s.code()), Some(Code::OutOfRange));
}

fn move_to(lab: &Lab, address: &str, timeout_secs: i64) -> v1::Reservation {
    let request = v1::UpdateReservationRequest {
        reservation: Some(v1::Reservation {
            name: "reservations/node-10".to_owned(),
            address: address.to_owned(),
            ..Default::default()
        }),
        convergence_timeout: (timeout_secs > 0).then_some(prost_types::Duration {
            seconds: timeout_secs,
            nanos: 0,
        }),
        ..Default::default()
    };
    lab.call(async |channel| {
        ReservationsClient::new(channel)
            .update_reservation(request)
            .await
    })
    .expect("it is there")
}

fn operation(lab: &Lab, name: &str) -> Result<v1::Operation, Status> {
    let request = v1::GetOperationRequest {
        name: name.to_owned(),
    };
    lab.call(async |channel| OperationsClient::new(channel).get_operation(request).await)
}

#[test]
fn a_move_is_told_from_the_update_until_the_machine_holds_its_address_over_a_kill_too() {
    let lab = Lab::new("");
    let made = lab.api.create(node(10)).expect("nothing in the way");
    assert_eq!(made.operation, "", "nothing moves");
    lab.segment.acquire(mac(10));
    let name = move_to(&lab, "198.18.0.20", 0).operation;
    assert_eq!(name, "operations/2-node-10");
    let got = operation(&lab, &name).expect("it is there");
    let metadata = got.metadata.clone().expect("some");
    assert!(!got.done);
    assert_eq!(metadata.stage(), Stage::HoldsFormerAddress);
    assert_eq!(
        (metadata.from_address.as_str(), metadata.to_address.as_str()),
        ("198.18.0.10", "198.18.0.20")
    );
    assert!(
        metadata
            .detail
            .starts_with("still holds 198.18.0.10 until its lease ends at "),
        "{}",
        metadata.detail
    );
    let lab = lab.killed_and_started("");
    let renewal = lab.segment.ask(&Packet::rebooting(
        mac(10),
        std::net::Ipv4Addr::new(198, 18, 0, 10),
    ));
    assert_eq!(renewal.kind(), NAK);
    lab.service.wait_for("refused", |_| true);
    let waited = lab.api.with(async |channel| {
        let mut client = OperationsClient::new(channel);
        let request = v1::WaitOperationRequest {
            name: name.clone(),
            timeout: Some(prost_types::Duration {
                seconds: 0,
                nanos: 1,
            }),
        };
        client.wait_operation(request).await
    });
    assert!(
        !waited.expect("it is there").into_inner().done,
        "it does not hold it yet"
    );
    lab.segment.acquire(mac(10));
    let waited = lab.api.with(async |channel| {
        let mut client = OperationsClient::new(channel);
        let request = v1::WaitOperationRequest {
            name: name.clone(),
            timeout: None,
        };
        client.wait_operation(request).await
    });
    let done = waited.expect("it is there").into_inner();
    let Some(operation::Result::Response(reservation)) = done.result else {
        panic!("{done:?}");
    };
    assert_eq!(reservation.address, "198.18.0.20");
    assert_eq!(done.metadata.map(|m| m.stage()), Some(Stage::Converged));
    // Another move takes its place.
    let next = move_to(&lab, "198.18.0.21", 0).operation;
    assert_eq!(
        operation(&lab, &name).expect_err("overtaken").code(),
        Code::NotFound
    );
    assert!(!operation(&lab, &next).expect("it is there").done);
    let request = v1::ListOperationsRequest {
        filter: "done = false".to_owned(),
        ..Default::default()
    };
    let page = lab.call(async |channel| {
        OperationsClient::new(channel)
            .list_operations(request)
            .await
    });
    let names: Vec<String> = page
        .expect("a list")
        .operations
        .into_iter()
        .map(|o| o.name)
        .collect();
    assert_eq!(names, [next]);
    assert_eq!(
        operation(&lab, "operations/x").expect_err("no name").code(),
        Code::InvalidArgument
    );
}

#[test]
fn a_machine_that_does_not_come_by_the_deadline_is_told_with_what_was_seen_last() {
    let lab = Lab::new("");
    lab.api.create(node(10)).expect("nothing in the way");
    let name = move_to(&lab, "198.18.0.20", 1).operation;
    let waited = lab.api.with(async |channel| {
        let mut client = OperationsClient::new(channel);
        let request = v1::WaitOperationRequest {
            name: name.clone(),
            timeout: None,
        };
        client.wait_operation(request).await
    });
    let done = waited.expect("it is there").into_inner();
    let Some(operation::Result::Error(error)) = done.result else {
        panic!("{done:?}");
    };
    assert_eq!(error.code, Code::DeadlineExceeded as i32);
    assert_eq!(
        error.message,
        "node-10 does not hold 198.18.0.20: it has not been heard of"
    );
}
