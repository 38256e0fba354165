//! The lab's switch as a process, with real peers on unix datagram sockets, and with machines that QEMU runs.
//!
//! Wants QEMU and tcpdump (deploy/packages.sh lab); no right at all.

#![allow(clippy::unwrap_used)]

mod machines;
mod peers;
mod running;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// For what must come; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// Name, id.
const NODE1: (&str, &str) = ("node1", "ca12f31b");
const NODE2: (&str, &str) = ("node2", "15b18a72");
const NODE3: (&str, &str) = ("node3", "3b5bb1c6");
const BROADCAST: u8 = 0xff;

/// A runtime directory with a switch in it, which ends with it.
struct Switch {
    run: tempfile::TempDir,
    child: Child,
}

impl Switch {
    fn new() -> Self {
        let run = tempfile::Builder::new()
            .prefix("sw")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in("/tmp")
            .unwrap();
        let child = started(run.path());
        Self { run, child }
    }

    fn run(&self) -> &Path {
        self.run.path()
    }

    /// As a crash would.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.child = started(self.run.path());
    }

    fn connect(&self) -> Control {
        let stream = UnixStream::connect(self.run().join("sw")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Control(BufReader::new(stream))
    }

    fn add(&self, port: (&str, &str), isolated: bool) {
        let (name, id) = port;
        let request = json!({"add": {"id": id, "name": name, "isolated": isolated}});
        assert_eq!(self.connect().ask(&request), json!({"ok": null}));
    }

    fn peer(&self, port: (&str, &str)) -> Peer {
        Peer::new(self.run(), port.1)
    }

    /// What `status` says of a port.
    fn port(&self, port: (&str, &str)) -> Value {
        let status = self.connect().ask(&json!({"status": null}));
        let ports = status["ok"]["ports"].as_array().unwrap().clone();
        ports
            .into_iter()
            .find(|found| found["id"] == port.1)
            .unwrap()
    }

    /// Waits until `status` says so of a port.
    fn await_port(&self, port: (&str, &str), is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let found = self.port(port);
            if is_so(&found) {
                return found;
            }
            assert!(std::time::Instant::now() < deadline, "{found:#}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(run: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootjack"));
    command.args(["net", "switch", "--run"]).arg(run);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// A switch that serves.
fn started(run: &Path) -> Child {
    let mut child = command(run).spawn().unwrap();
    assert_eq!(said(child.stdout.take().unwrap()), "ready\n");
    child
}

fn said(mut stdout: ChildStdout) -> String {
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    text
}

struct Control(BufReader<UnixStream>);

impl Control {
    fn ask(&mut self, request: &Value) -> Value {
        self.say(format!("{request}\n").as_bytes());
        self.answer()
    }

    fn say(&mut self, octets: &[u8]) {
        self.0.get_ref().write_all(octets).unwrap();
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

/// A machine's end of a port, as QEMU has it.
struct Peer {
    socket: UnixDatagram,
    to: PathBuf,
}

impl Peer {
    fn new(run: &Path, id: &str) -> Self {
        let own = run.join(format!("v-{id}"));
        let _ = std::fs::remove_file(&own);
        let socket = UnixDatagram::bind(own).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let to = run.join(format!("s-{id}"));
        Self { socket, to }
    }

    /// QEMU waits for room, too.
    fn send(&self, frame: &[u8]) {
        self.socket.send_to(frame, &self.to).unwrap();
    }

    fn receive(&self) -> Vec<u8> {
        let mut room = vec![0; 70_000];
        let length = self.socket.recv(&mut room).unwrap();
        room.truncate(length);
        room
    }

    /// All that is there now.
    fn drain(&self) -> Vec<Vec<u8>> {
        self.socket.set_nonblocking(true).unwrap();
        let mut frames = Vec::new();
        let mut room = vec![0; 70_000];
        while let Ok(length) = self.socket.recv(&mut room) {
            frames.push(room[..length].to_vec());
        }
        self.socket.set_nonblocking(false).unwrap();
        frames
    }
}

/// From the machine with this number to another one, saying something.
fn frame(to: u8, from: u8, text: &str) -> Vec<u8> {
    let mut frame = vec![
        0x52, 0x54, 0, 0, 0, to, 0x52, 0x54, 0, 0, 0, from, 0x88, 0xb5,
    ];
    if to == BROADCAST {
        frame[..6].fill(0xff);
    }
    frame.extend(text.as_bytes());
    frame
}
