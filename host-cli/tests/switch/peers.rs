//! Frames between peers.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{BROADCAST, NODE1, NODE2, NODE3, Switch, frame};

fn three() -> (Switch, [super::Peer; 3]) {
    let switch = Switch::new();
    for port in [NODE1, NODE2, NODE3] {
        switch.add(port, false);
    }
    let peers = [NODE1, NODE2, NODE3].map(|port| switch.peer(port));
    (switch, peers)
}

#[test]
fn the_unknown_is_flooded_the_known_goes_to_one_and_nothing_comes_back() {
    let (switch, [one, two, three]) = three();
    one.send(&frame(2, 1, "who are you"));
    assert_eq!(two.receive(), frame(2, 1, "who are you"));
    assert_eq!(three.receive(), frame(2, 1, "who are you"));
    two.send(&frame(1, 2, "two"));
    assert_eq!(one.receive(), frame(1, 2, "two"));
    one.send(&frame(2, 1, "to you alone"));
    one.send(&frame(BROADCAST, 1, "to all"));
    assert_eq!(two.receive(), frame(2, 1, "to you alone"));
    assert_eq!(two.receive(), frame(BROADCAST, 1, "to all"));
    // Had the one before reached it, it would come first.
    assert_eq!(three.receive(), frame(BROADCAST, 1, "to all"));
    assert_eq!(one.drain(), Vec::<Vec<u8>>::new());
    let status = switch.port(NODE1);
    assert_eq!(status["name"], "node1");
    assert_eq!(status["macs"], json!(["52:54:00:00:00:01"]));
    assert_eq!(status["received_frames"], 3);
    assert_eq!(status["sent_frames"], 1);
}

#[test]
fn isolated_ports_hear_the_provisioner_and_not_each_other() {
    let (switch, [provisioner, two, three]) = three();
    switch.add(NODE2, true);
    switch.add(NODE3, true);
    two.send(&frame(BROADCAST, 2, "anybody"));
    three.send(&frame(2, 3, "you there"));
    assert_eq!(provisioner.receive(), frame(BROADCAST, 2, "anybody"));
    provisioner.send(&frame(BROADCAST, 1, "last"));
    assert_eq!(two.receive(), frame(BROADCAST, 1, "last"));
    assert_eq!(three.receive(), frame(BROADCAST, 1, "last"));
}

#[test]
fn frames_go_through_up_to_the_longest_and_what_is_no_frame_does_not() {
    let (switch, [one, two, _three]) = three();
    let jumbo = |length: usize| frame(BROADCAST, 1, &"j".repeat(length - 14));
    for length in [14, 1514, 9018, 65_535] {
        one.send(&jumbo(length));
        assert_eq!(two.receive(), jumbo(length));
    }
    one.send(&jumbo(65_536));
    one.send(b"short");
    one.send(b"");
    one.send(b"VFKT");
    one.send(&jumbo(60));
    assert_eq!(two.receive(), jumbo(60));
    assert_eq!(
        switch.port(NODE1)["dropped"]["bad"],
        3,
        "vfkit's greeting is none"
    );
}

#[test]
fn a_machine_that_does_not_run_loses_its_frames_and_gets_them_when_it_does() {
    let (switch, [one, two, three]) = three();
    drop(three);
    one.send(&frame(BROADCAST, 1, "first"));
    assert_eq!(two.receive(), frame(BROADCAST, 1, "first"));
    switch.await_port(NODE3, |port| port["dropped"]["absent"] == 1);
    std::fs::remove_file(switch.run().join(format!("v-{}", NODE3.1))).unwrap();
    one.send(&frame(BROADCAST, 1, "second"));
    switch.await_port(NODE3, |port| port["dropped"]["absent"] == 2);
    let three = switch.peer(NODE3);
    one.send(&frame(BROADCAST, 1, "third"));
    assert_eq!(three.receive(), frame(BROADCAST, 1, "third"));
}

#[test]
fn a_machine_that_does_not_read_delays_nobody_and_gets_in_order_what_fitted() {
    let (switch, [one, two, sleeper]) = three();
    let sent = 3000;
    for number in 0..sent {
        let frame = frame(BROADCAST, 1, &number.to_string());
        one.send(&frame);
        assert_eq!(two.receive(), frame);
    }
    let status = switch.port(NODE3);
    let count = |key: &str| status[key].as_u64().unwrap();
    let full = status["dropped"]["full"].as_u64().unwrap();
    assert!(
        full > 0 && count("busy") > 0 && count("queued") == 1024,
        "{status:#}"
    );
    // Awake again: what waited comes, in order, and then what is new.
    for number in 0..sent - full {
        assert_eq!(sleeper.receive(), frame(BROADCAST, 1, &number.to_string()));
    }
    one.send(&frame(BROADCAST, 1, "new"));
    assert_eq!(sleeper.receive(), frame(BROADCAST, 1, "new"));
    assert_eq!(switch.port(NODE2)["dropped"]["full"], 0);
}

#[test]
fn vfkit_is_answered_at_the_name_it_greets_from() {
    let (switch, [one, _two, three]) = three();
    drop(three);
    let vfkit = UnixDatagram::bind(switch.run().join("vfkit-1-1.sock")).unwrap();
    vfkit
        .connect(switch.run().join(format!("s-{}", NODE3.1)))
        .unwrap();
    vfkit.set_read_timeout(Some(super::PATIENCE)).unwrap();
    vfkit.send(b"VFKT").unwrap();
    vfkit.send(&frame(BROADCAST, 3, "dhcp")).unwrap();
    assert_eq!(one.receive(), frame(BROADCAST, 3, "dhcp"));
    one.send(&frame(3, 1, "offer"));
    let mut room = [0; 100];
    let length = vfkit.recv(&mut room).unwrap();
    assert_eq!(room[..length], frame(3, 1, "offer"));
}

#[test]
fn a_cable_is_pulled_made_bad_and_made_good_again() {
    let (switch, [one, two, _three]) = three();
    let mut control = switch.connect();
    let id = NODE2.1;
    control.ask(&json!({"link": {"id": id, "up": false}}));
    one.send(&frame(BROADCAST, 1, "unheard"));
    switch.await_port(NODE2, |port| port["dropped"]["link_down"] == 1);
    control.ask(&json!({"link": {"id": id, "up": true}}));
    control.ask(&json!({"impair": {"id": id, "loss": 1.0}}));
    one.send(&frame(BROADCAST, 1, "lost"));
    switch.await_port(NODE2, |port| port["dropped"]["loss"] == 1);
    control.ask(&json!({"impair": {"id": id, "delay_ms": 300}}));
    let start = Instant::now();
    one.send(&frame(BROADCAST, 1, "late"));
    control.ask(&json!({"status": null}));
    one.send(&frame(BROADCAST, 1, "later"));
    assert_eq!(two.receive(), frame(BROADCAST, 1, "late"));
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(two.receive(), frame(BROADCAST, 1, "later"));
    control.ask(&json!({"impair": {"id": id}}));
    one.send(&frame(BROADCAST, 1, "good"));
    assert_eq!(two.receive(), frame(BROADCAST, 1, "good"));
}
