//! The switch as a process: one loop that waits, receives, decides (`bridge`), sends.
//!
//! In: frames on unix datagram sockets, requests on the control socket. Out: frames, answers, captures. A machine that does not
//! read or does not run loses its own frames and delays nobody.

mod ports;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::bridge::{Bridge, Impairment};
use super::connection::Connection;
use super::dgram::Batch;
use super::end::End;
use super::fib::PortKey;
use super::poll::{Poll, Token};
use super::protocol::Request;
use super::wire::Wire;
use super::{known, lock, log, names};
use crate::control::Answer;
use crate::exit::Failure;

/// Connections to the control socket at once; more wait.
const CONNECTIONS_MAX: usize = 64;
/// How often a busy machine is tried whose room nobody tells about.
const RETRY: Duration = Duration::from_millis(1);

/// Runs the switch in this directory until it is stopped. Prints `ready` once it serves.
pub fn run(run: &Path) -> Result<(), Failure> {
    lock::check_run(run)?;
    let _lock = lock::take(&names::pid(run), "switch")?;
    let end = End::new().map_err(Failure::io("take signals in", run))?;
    let mut switch = Switch::new(run)?;
    log::line(&format!(
        "the switch serves {}, {} ports",
        run.display(),
        switch.wires.len()
    ));
    log::ready();
    let ended = switch.serve(&end).map_err(Failure::io("wait in", run));
    switch.end();
    ended
}

struct Switch {
    run: PathBuf,
    started: Instant,
    bridge: Bridge,
    wires: BTreeMap<PortKey, Wire>,
    next_key: u32,
    listener: UnixListener,
    connections: Vec<Connection>,
    chance: Chance,
    is_stopping: bool,
}

/// What one turn waits for.
struct Turn {
    end: Token,
    listener: Option<Token>,
    connections: Vec<Token>,
    ports: Vec<(PortKey, Token)>,
}

impl Switch {
    fn new(run: &Path) -> Result<Self, Failure> {
        let control = names::control(run);
        match std::fs::remove_file(&control) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::io("replace", &control)(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&control)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(Failure::io("listen on", &control))?;
        let mut switch = Self {
            run: run.to_owned(),
            started: Instant::now(),
            bridge: Bridge::default(),
            wires: BTreeMap::new(),
            next_key: 1,
            listener,
            connections: Vec::new(),
            chance: Chance::new(),
            is_stopping: false,
        };
        for port in known::of(run) {
            if let Err(why) = switch.plug(&port.id, &port.name, port.isolated) {
                log::line(&format!("port {} is left out: {why}", port.name));
            }
        }
        Ok(switch)
    }

    fn serve(&mut self, end: &End) -> io::Result<()> {
        let mut poll = Poll::default();
        let mut batch = Batch::default();
        while !self.is_stopping {
            let turn = self.turn(&mut poll, end);
            poll.wait(self.patience())?;
            if poll.happened(turn.end) {
                log::line("asked to end by a signal");
                break;
            }
            for (key, token) in turn.ports {
                if poll.happened(token) {
                    self.receive(key, &mut batch);
                }
            }
            self.send_waiting(&poll);
            // Before new ones shift them.
            for (index, token) in turn.connections.iter().enumerate() {
                if poll.happened(*token) {
                    self.talk(index);
                }
            }
            if turn.listener.is_some_and(|token| poll.happened(token)) {
                self.accept();
            }
            self.connections.iter_mut().for_each(Connection::flush);
            self.hang_up();
        }
        Ok(())
    }

    fn turn(&mut self, poll: &mut Poll, end: &End) -> Turn {
        poll.clear();
        let end = poll.read(end.raw(), false);
        let has_room = self.connections.len() < CONNECTIONS_MAX;
        let listener = has_room.then(|| poll.read(self.listener.as_raw_fd(), false));
        let connections = (self.connections.iter())
            .map(|connection| poll.read(connection.raw(), connection.wants_room()))
            .collect();
        let now = Instant::now();
        let ports = (self.wires.iter_mut())
            .map(|(key, wire)| {
                wire.await_room(now, poll);
                (*key, poll.read(wire.link.raw(), false))
            })
            .collect();
        Turn {
            end,
            listener,
            connections,
            ports,
        }
    }

    /// How long nothing needs to be done.
    fn patience(&self) -> Option<Duration> {
        let now = Instant::now();
        (self.wires.values())
            .filter_map(|wire| wire.patience(now, RETRY))
            .min()
    }

    /// Reads what a machine sent, and passes it on.
    fn receive(&mut self, from: PortKey, batch: &mut Batch) {
        let Some(wire) = self.wires.get_mut(&from) else {
            return;
        };
        if let Err(error) = wire.link.receive(batch) {
            log::line(&format!("port {}: cannot read: {error}", wire.name));
            return;
        }
        let now = Instant::now();
        let at = SystemTime::now();
        let mut to = Vec::new();
        let mut leaving: BTreeMap<PortKey, Vec<&[u8]>> = BTreeMap::new();
        for frame in batch.frames() {
            let mut chance = || self.chance.next();
            if !(self.bridge).forward(now, from, frame, &mut chance, &mut to) {
                continue;
            }
            for connection in &mut self.connections {
                connection.capture(at, from, &to, frame);
            }
            for key in &to {
                leaving.entry(*key).or_default().push(frame);
            }
        }
        for (key, frames) in leaving {
            if let (Some(wire), Some(port)) = (self.wires.get_mut(&key), self.bridge.port_mut(key))
            {
                wire.send(now, port, &frames);
            }
        }
    }

    fn send_waiting(&mut self, poll: &Poll) {
        let now = Instant::now();
        for (key, wire) in &mut self.wires {
            if let Some(port) = self.bridge.port_mut(*key) {
                wire.send_waiting(now, port, poll);
            }
        }
    }

    fn accept(&mut self) {
        while self.connections.len() < CONNECTIONS_MAX
            && let Ok((stream, _)) = self.listener.accept()
        {
            self.connections.extend(Connection::new(stream).ok());
        }
    }

    fn hang_up(&mut self) {
        self.connections.retain(|connection| {
            if let (true, Some(missed)) = (connection.is_done(), connection.missed()) {
                log::line(&format!(
                    "a capture was read too slowly: {missed} frames are missing"
                ));
            }
            !connection.is_done()
        });
    }

    fn talk(&mut self, index: usize) {
        for line in self.connections[index].lines() {
            let answer = match Request::parse(&line) {
                Ok(Request::Capture { id }) => self.capture(index, id.as_deref()),
                Ok(request) => Some(self.obey(&request)),
                Err(why) => Some(Err(why)),
            };
            if let Some(answer) = answer {
                let answer = answer.map_or_else(Answer::Error, Answer::Ok);
                self.connections[index].answer(&answer);
            }
        }
    }

    fn capture(
        &mut self,
        index: usize,
        id: Option<&str>,
    ) -> Option<Result<serde_json::Value, String>> {
        let port = match id.map(|id| self.key(id)).transpose() {
            Ok(port) => port,
            Err(why) => return Some(Err(why)),
        };
        let connection = &mut self.connections[index];
        connection.answer(&Answer::Ok(serde_json::Value::Null));
        connection.begin_capture(port);
        None
    }

    fn obey(&mut self, request: &Request) -> Result<serde_json::Value, String> {
        match request {
            Request::Add { id, name, isolated } => self.add(id, name, *isolated)?,
            Request::Remove { id } => {
                let key = self.key(id)?;
                self.unplug(key);
                self.remember()?;
            }
            Request::Status(()) => {
                let status = serde_json::to_value(self.status());
                return status.map_err(|error| error.to_string());
            }
            Request::Link { id, up } => self.port(id)?.down = !up,
            Request::Impair { id, loss, delay_ms } => {
                self.port(id)?.impairment = Impairment {
                    loss: *loss,
                    delay: Duration::from_millis(*delay_ms),
                };
            }
            Request::Stop(()) => {
                log::line("asked to end");
                self.is_stopping = true;
            }
            Request::Capture { .. } => {}
        }
        Ok(serde_json::Value::Null)
    }

    /// Removes the files before the connections end: who waits for the end finds nothing.
    fn end(mut self) {
        self.wires.clear();
        let _ = std::fs::remove_file(names::control(&self.run));
        self.connections.iter_mut().for_each(Connection::flush);
        log::line("the switch ended");
    }
}

/// Even enough for losing frames (xorshift64*).
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        let seed = getrandom::u64().unwrap_or_default();
        Self(seed | 1)
    }

    /// From 0 up to 1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        bits as f64 / (1u64 << 53) as f64
    }
}
