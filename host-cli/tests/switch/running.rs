//! The switch as a process: who it refuses, how it ends, what it survives, what it answers.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{BROADCAST, NODE1, NODE2, PATIENCE, Switch, command, frame, said};

fn bootjack(arguments: &[&str], run: &std::path::Path) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootjack"));
    command.arg("net").args(arguments).arg("--run").arg(run);
    command.output().unwrap()
}

#[test]
fn a_switch_that_was_killed_is_replaced_and_nobody_else_notices() {
    let mut switch = Switch::new();
    switch.add(NODE1, true);
    switch.add(NODE2, false);
    let (one, two) = (switch.peer(NODE1), switch.peer(NODE2));
    one.send(&frame(BROADCAST, 1, "before"));
    assert_eq!(two.receive(), frame(BROADCAST, 1, "before"));
    switch.kill();
    assert!(one.socket.send_to(b"lost", &one.to).is_err());
    switch.restart();
    one.send(&frame(BROADCAST, 1, "after"));
    assert_eq!(two.receive(), frame(BROADCAST, 1, "after"));
    two.send(&frame(1, 2, "answer"));
    assert_eq!(one.receive(), frame(1, 2, "answer"));
    assert_eq!(switch.port(NODE1)["isolated"], true);
    assert_eq!(switch.port(NODE1)["name"], "node1");
}

#[test]
fn a_switch_that_was_killed_mid_flow_loses_frames_and_no_order() {
    let mut switch = Switch::new();
    switch.add(NODE1, false);
    switch.add(NODE2, false);
    let (one, two) = (switch.peer(NODE1), switch.peer(NODE2));
    let reader = std::thread::spawn(move || {
        let mut seen = vec![];
        loop {
            let text = String::from_utf8(two.receive()[14..].to_vec()).unwrap();
            if text == "end" {
                return seen;
            }
            seen.push(text.parse::<u32>().unwrap());
        }
    });
    let send = |number: u32| {
        let frame = frame(BROADCAST, 1, &number.to_string());
        one.socket.send_to(&frame, &one.to).is_ok()
    };
    assert!((0..500).all(send));
    switch.kill();
    assert!(!send(500));
    switch.restart();
    assert!((501..1000).all(send));
    one.send(&frame(BROADCAST, 1, "end"));
    let seen = reader.join().unwrap();
    assert!(seen.is_sorted() && seen.ends_with(&[998, 999]), "{seen:?}");
    assert!(seen.iter().filter(|number| **number > 500).count() == 499);
}

#[test]
fn two_switches_never_serve_one_directory() {
    let switch = Switch::new();
    switch.add(NODE1, false);
    let mut second = command(switch.run())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(said(second.stdout.take().unwrap()), "");
    let output = second.wait_with_output().unwrap();
    let wanted = format!(
        "bootjack: {}/sw.pid: a switch (pid {}) runs here already\n",
        switch.run().display(),
        switch.child.id()
    );
    assert_eq!(String::from_utf8(output.stderr).unwrap(), wanted);
    assert_eq!(output.status.code(), Some(5));
    // The first one has not lost a thing.
    assert_eq!(switch.port(NODE1)["name"], "node1");
}

#[test]
fn a_directory_that_others_may_enter_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o750)).unwrap();
    let output = bootjack(&["switch"], dir.path());
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn stop_and_a_signal_end_it_and_leave_no_socket() {
    for is_signal in [false, true] {
        let mut switch = Switch::new();
        switch.add(NODE1, false);
        // A socket file of a machine that ended is not the switch's.
        drop(switch.peer(NODE1));
        if is_signal {
            // SAFETY: the child has not been waited for, so the pid is still its own.
            unsafe { libc::kill(switch.child.id() as libc::pid_t, libc::SIGTERM) };
        } else {
            let mut control = switch.connect();
            assert_eq!(control.ask(&json!({"stop": null})), json!({"ok": null}));
            let mut rest = String::new();
            control.0.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, "");
            assert!(!switch.run().join("sw").exists());
        }
        assert!(switch.child.wait().unwrap().success());
        let mut left: Vec<String> = std::fs::read_dir(switch.run())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["sw.pid", "sw.ports", &format!("v-{}", NODE1.1)]);
    }
}

#[test]
fn garbage_on_the_control_socket_is_answered_and_harms_nothing() {
    let switch = Switch::new();
    let mut control = switch.connect();
    for (line, part) in [
        (&b"\n"[..], "wanted an object"),
        (b"\x00\xff\xfe\n", "wanted an object"),
        (
            b"{\"add\":{\"id\":\"../../x\",\"name\":\"x\"}}\n",
            "8 hex digits",
        ),
        (
            b"{\"remove\":{\"id\":\"00000000\"}}\n",
            "there is no port 00000000",
        ),
        (
            b"{\"capture\":{\"id\":\"00000000\"}}\n",
            "there is no port 00000000",
        ),
    ] {
        control.say(line);
        let answer = control.answer();
        assert!(answer["error"].as_str().unwrap().contains(part), "{answer}");
    }
    // Two requests in one write, one in two.
    control.say(b"{\"status\":null}\n{\"status\":null}\n{\"sta");
    assert!(control.answer()["ok"].is_object());
    assert!(control.answer()["ok"].is_object());
    control.say(b"tus\":null}\n");
    assert!(control.answer()["ok"].is_object());
    // A line without end is cut off.
    let mut endless = switch.connect();
    let _ = std::io::Write::write_all(&mut endless.0.get_ref(), &vec![b'x'; 200_000]);
    let mut said = Vec::new();
    let _ = endless.0.read_to_end(&mut said);
    let answer: Value = serde_json::from_slice(&said).unwrap_or_default();
    assert!(answer.is_null() || answer["error"].is_string(), "{answer}");
    // More connections than it takes at once: the others wait.
    drop(control);
    let many: Vec<_> = (0..100).map(|_| switch.connect()).collect();
    drop(many);
    switch.add(NODE1, false);
    assert_eq!(switch.port(NODE1)["name"], "node1");
}

#[test]
fn people_and_programs_see_the_status() {
    let switch = Switch::new();
    switch.add(NODE1, true);
    let output = bootjack(&["status", "--output", "json"], switch.run());
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["pid"], switch.child.id());
    assert_eq!(status["ports"][0]["name"], "node1");
    let output = bootjack(&["status"], switch.run());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\nnode1  up, isolated  -"), "{text}");
    let nowhere = tempfile::tempdir().unwrap();
    let output = bootjack(&["status"], nowhere.path());
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        format!(
            "bootjack: no switch runs: {}/sw: no such file or directory\n",
            nowhere.path().display()
        )
    );
}

/// The frames of a capture, read by another program.
fn tcpdump(file: &std::path::Path) -> String {
    let output = Command::new("tcpdump")
        .args(["-nn", "-e", "-t", "-r"])
        .arg(file)
        .stdin(Stdio::null())
        .output()
        .expect("wanted tcpdump; run: deploy/packages.sh test");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_capture_of_all_and_of_one_port_is_read_by_tcpdump() {
    let switch = Switch::new();
    for port in [NODE1, NODE2] {
        switch.add(port, false);
    }
    let (one, two) = (switch.peer(NODE1), switch.peer(NODE2));
    two.send(&frame(BROADCAST, 2, "so that two is known"));
    one.receive();
    let file = switch.run().join("all.pcap");
    let start = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bootjack"));
        command
            .args(["net", "capture", "-w"])
            .arg(&file)
            .args(arguments);
        command.arg("--run").arg(switch.run()).spawn().unwrap()
    };
    let status = || switch.connect().ask(&json!({"status": null}))["ok"].clone();
    let await_captures = |count: u64| {
        let deadline = std::time::Instant::now() + PATIENCE;
        while status()["captures"] != count {
            assert!(std::time::Instant::now() < deadline, "{:#}", status());
            std::thread::yield_now();
        }
    };
    let mut all = start(&["--count", "2"]);
    await_captures(1);
    one.send(&frame(2, 1, "to two"));
    two.send(&frame(1, 2, "to one"));
    assert!(all.wait().unwrap().success());
    let text = tcpdump(&file);
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(" > ")).collect();
    assert_eq!(lines.len(), 2, "{text}");
    let addresses = "52:54:00:00:00:01 > 52:54:00:00:00:02, ethertype Unknown (0x88b5), length 20:";
    assert!(lines[0].starts_with(addresses), "{text}");
    await_captures(0);

    let mut second = start(&["--count", "1", "--port", "node2"]);
    await_captures(1);
    // Not for node2, which the switch has seen elsewhere: its own address moved to the first port's machine.
    one.send(&frame(1, 9, "to nobody but one"));
    one.send(&frame(2, 1, "to two alone"));
    assert!(second.wait().unwrap().success());
    assert!(tcpdump(&file).contains("52:54:00:00:00:01 > 52:54:00:00:00:02"));
}

#[test]
fn a_capture_ends_with_the_switch_and_is_whole() {
    let mut switch = Switch::new();
    switch.add(NODE1, false);
    let mut capture = Command::new(env!("CARGO_BIN_EXE_bootjack"));
    capture
        .args(["net", "capture", "-w", "-", "--run"])
        .arg(switch.run());
    let mut capture = capture.stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = capture.stdout.take().unwrap();
    let mut header = [0; 24];
    stdout.read_exact(&mut header).unwrap();
    let one = UnixDatagram::unbound().unwrap();
    let to = switch.run().join(format!("s-{}", NODE1.1));
    one.send_to(&frame(BROADCAST, 1, "x"), to).unwrap();
    let mut record = [0; 16 + 15];
    stdout.read_exact(&mut record).unwrap();
    switch.kill();
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
    assert!(capture.wait().unwrap().success());
}
