//! QEMU's control socket. In: commands. Out: what QEMU answers, and its events. One client at a time: connect, act, drop.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use thiserror::Error;

use crate::lines::{Lines, Next};

/// A connection that QEMU has greeted.
pub struct Qmp {
    lines: Lines,
    events: VecDeque<Event>,
    next_id: u64,
}

/// Something that happened to the machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Such as SHUTDOWN.
    pub name: String,
    pub data: Value,
}

/// Why a command has no answer.
#[derive(Debug, Error)]
pub enum QmpError {
    /// Nobody listens: the machine does not run.
    #[error("nothing listens on its control socket")]
    Gone,
    /// QEMU said no.
    #[error("qemu refused {command}: {reason}")]
    Refused { command: String, reason: String },
    /// Nothing came in time; somebody else may hold the socket, or the machine hangs.
    #[error(
        "qemu did not answer within {} s; is somebody else connected to its control socket?",
        .0.as_secs()
    )]
    Late(Duration),
    #[error("qemu's control socket: {0}")]
    Broken(String),
}

/// How long QEMU may take for anything that is not a wait.
pub const ANSWER: Duration = Duration::from_secs(20);
/// How long until its greeting, which it makes on its main loop alone: others may be connected for a moment.
const GREETING: Duration = Duration::from_secs(5);

impl Qmp {
    /// Connects, and is greeted.
    pub fn connect(socket: &Path) -> Result<Self, QmpError> {
        let stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => QmpError::Gone,
            _ => broken(&error),
        })?;
        let mut qmp = Self {
            lines: Lines::of(stream),
            events: VecDeque::new(),
            next_id: 0,
        };
        let until = Instant::now() + GREETING;
        let greeting = qmp.answer(until)?.ok_or(QmpError::Late(GREETING))?;
        if greeting.get("QMP").is_none() {
            return Err(QmpError::Broken("the greeting is not QMP's".to_owned()));
        }
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs one command.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.execute_within(command, arguments, ANSWER)
    }

    /// Runs one command that may take this long.
    pub fn execute_within(
        &mut self,
        command: &str,
        arguments: Value,
        patience: Duration,
    ) -> Result<Value, QmpError> {
        self.next_id += 1;
        let id = self.next_id;
        let text = json!({"execute": command, "arguments": arguments, "id": id}).to_string();
        self.lines.say(&text).map_err(|error| broken(&error))?;
        let until = Instant::now() + patience;
        loop {
            let message = self.answer(until)?.ok_or(QmpError::Late(patience))?;
            // What answers a command that was given up earlier has another id.
            if message.get("id").and_then(Value::as_u64) != Some(id) {
                continue;
            }
            return match (message.get("return"), message.pointer("/error/desc")) {
                (Some(answer), _) => Ok(answer.clone()),
                (None, reason) => Err(QmpError::Refused {
                    command: command.to_owned(),
                    reason: reason
                        .and_then(Value::as_str)
                        .unwrap_or("no reason")
                        .to_owned(),
                }),
            };
        }
    }

    /// Runs a command of the old monitor, which alone knows some things; answers its text.
    pub fn human(&mut self, command: &str) -> Result<String, QmpError> {
        let arguments = json!({ "command-line": command });
        let answer = self.execute("human-monitor-command", arguments)?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    /// The next event, those that came between answers included; none if none comes by then.
    pub fn event(&mut self, until: Instant) -> Result<Option<Event>, QmpError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            match self.message(until)? {
                None => return Ok(None),
                Some(message) => self.keep_event(&message),
            }
        }
    }

    /// The next message that is no event; none if none comes by then. Events are kept.
    fn answer(&mut self, until: Instant) -> Result<Option<Value>, QmpError> {
        loop {
            match self.message(until)? {
                Some(message) if message.get("event").is_some() => self.keep_event(&message),
                other => return Ok(other),
            }
        }
    }

    fn keep_event(&mut self, message: &Value) {
        if let Some(name) = message.get("event").and_then(Value::as_str) {
            let data = message.get("data").cloned().unwrap_or(Value::Null);
            let name = name.to_owned();
            self.events.push_back(Event { name, data });
        }
    }

    /// The next message; none if none comes by then.
    fn message(&mut self, until: Instant) -> Result<Option<Value>, QmpError> {
        match self.lines.next(until).map_err(|error| broken(&error))? {
            Next::Line(line) => serde_json::from_slice(&line)
                .map(Some)
                .map_err(|error| QmpError::Broken(format!("it is not JSON: {error}"))),
            Next::Nothing => Ok(None),
            Next::End => Err(QmpError::Gone),
        }
    }
}

fn broken(error: &std::io::Error) -> QmpError {
    match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => QmpError::Gone,
        _ => QmpError::Broken(crate::output::io_reason(error)),
    }
}

/// The port of loopback that leads to this port of the guest, out of what the old monitor's `info usernet` says.
pub fn forwarded_port(usernet: &str, guest_port: u16) -> Option<u16> {
    usernet.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // TCP[HOST_FORWARD] 12 127.0.0.1 40055 10.0.2.15 22 0 0
        match words.as_slice() {
            [kind, _, _, host, _, guest, ..] if kind.starts_with("TCP[HOST_FORWARD]") => {
                (guest.parse() == Ok(guest_port)).then(|| host.parse().ok())?
            }
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// A QEMU that answers each command by these lines, in turn; the first are its greeting.
    fn fake(answers: &'static [&'static str]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("q");
        let listener = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            for (turn, answer) in answers.iter().enumerate() {
                if turn > 0 && reader.read_line(&mut String::new()).unwrap() == 0 {
                    return;
                }
                let _ = reader.get_mut().write_all(answer.as_bytes());
            }
            // Until the client goes.
            let _ = reader.read_line(&mut String::new());
        });
        (dir, socket)
    }

    const GREETING: &str = "{\"QMP\": {\"version\": {}}}\r\n";
    const READY: &str = "{\"return\": {}, \"id\": 1}\r\n";

    #[test]
    fn answers_find_their_commands_and_events_are_kept() {
        let (_dir, socket) = fake(&[
            GREETING,
            READY,
            "{\"event\": \"RESET\", \"data\": {\"guest\": true}}\r\n{\"return\": 9, \"id\": 0}\r\n{\"return\": {\"status\": \"running\"}, \"id\": 2}\r\n",
            "{\"id\": 3, \"error\": {\"class\": \"GenericError\", \"desc\": \"no such device\"}}\r\n",
        ]);
        let mut qmp = Qmp::connect(&socket).unwrap();
        let status = qmp.execute("query-status", json!({})).unwrap();
        assert_eq!(status["status"], "running");
        let refused = qmp.execute("qom-set", json!({})).unwrap_err();
        assert_eq!(refused.to_string(), "qemu refused qom-set: no such device");
        let event = qmp.event(Instant::now()).unwrap().unwrap();
        assert_eq!(event.name, "RESET");
        assert_eq!(event.data["guest"], true);
        assert_eq!(qmp.event(Instant::now()).unwrap(), None);
    }

    #[test]
    fn nobody_is_gone_and_silence_is_late() {
        let dir = tempfile::tempdir().unwrap();
        let gone = Qmp::connect(&dir.path().join("q")).map(|_| ()).unwrap_err();
        assert!(matches!(gone, QmpError::Gone), "{gone}");
        // A socket that was left behind by a kill.
        let stale = dir.path().join("stale");
        drop(UnixListener::bind(&stale).unwrap());
        let gone = Qmp::connect(&stale).map(|_| ()).unwrap_err();
        assert!(matches!(gone, QmpError::Gone), "{gone}");

        let (_dir, socket) = fake(&[GREETING, READY, ""]);
        let mut qmp = Qmp::connect(&socket).unwrap();
        let late = qmp
            .execute_within("stop", json!({}), Duration::from_millis(30))
            .unwrap_err();
        assert!(matches!(late, QmpError::Late(_)), "{late}");
    }

    #[test]
    fn a_chosen_port_is_found() {
        let text = "Hub -1 (wan):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  TCP[ESTABLISHED]   20       127.0.0.1 40055       10.0.2.15    22     0     0\r\n  TCP[HOST_FORWARD]  13       127.0.0.1 41234       10.0.2.15  8443     0     0\r\n  TCP[HOST_FORWARD]  12       127.0.0.1 40055       10.0.2.15    22     0     0\r\n";
        assert_eq!(forwarded_port(text, 22), Some(40055));
        assert_eq!(forwarded_port(text, 8443), Some(41234));
        assert_eq!(forwarded_port(text, 80), None);
    }
}
