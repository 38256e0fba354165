//! What is said on the control sockets of the switch and of a namespace: JSON, one line each way. In: a request, an object with
//! one key, the verb. Out: `{"ok": …}` or `{"error": "…"}`; what each of them understands is in its own room. After some answers
//! the connection is a stream.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure};
use crate::output::io_reason;

/// Longest line; connections that send longer ones are closed.
pub const LINE_MAX: usize = 64 << 10;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Ok(serde_json::Value),
    Error(String),
}

impl Answer {
    /// As it is sent, with its end of line.
    pub fn line(&self) -> Vec<u8> {
        line(self)
    }
}

/// One line, with its end.
pub fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("strings, numbers and lists are JSON");
    line.push(b'\n');
    line
}

/// The side that asks.
pub struct Client {
    /// Who is asked, in errors.
    who: String,
    pub stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to a socket whose owner answers within this time or never; `absent` says that nobody is there.
    pub fn connect(
        socket: &Path,
        who: String,
        absent: &str,
        patience: Duration,
    ) -> Result<Self, Failure> {
        let connected = UnixStream::connect(socket).and_then(|stream| {
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            Ok(stream)
        });
        let stream = connected.map_err(|error| {
            let text = format!("{absent}: {}: {}", socket.display(), io_reason(&error));
            Failure::new(Exit::Conflict, text)
        })?;
        Ok(Self {
            who,
            stream: BufReader::new(stream),
        })
    }

    /// One request and its answer.
    pub fn ask(&mut self, request: &impl Serialize) -> Result<serde_json::Value, Failure> {
        let mut answer = Vec::new();
        let asked = (self.stream.get_ref())
            .write_all(&line(request))
            .and_then(|()| self.stream.read_until(b'\n', &mut answer));
        asked.map_err(|error| self.failed(&io_reason(&error)))?;
        if answer.is_empty() {
            return Err(self.failed("it ended before it answered"));
        }
        match serde_json::from_slice(&answer) {
            Ok(Answer::Ok(value)) => Ok(value),
            Ok(Answer::Error(why)) => Err(self.failed(&why)),
            Err(error) => Err(self.failed(&error.to_string())),
        }
    }

    /// The same, where the answer is known to be of some shape.
    pub fn ask_for<T: for<'a> Deserialize<'a>>(
        &mut self,
        request: &impl Serialize,
    ) -> Result<T, Failure> {
        let value = self.ask(request)?;
        serde_json::from_value(value).map_err(|error| self.failed(&error.to_string()))
    }

    /// Asks it to end; returns when it has.
    pub fn stop(mut self, request: &impl Serialize) -> Result<(), Failure> {
        self.ask(request)?;
        match self.stream.read_to_end(&mut Vec::new()) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed(&io_reason(&error))),
        }
    }

    pub fn failed(&self, why: &str) -> Failure {
        Failure::new(Exit::Failed, format!("{}: {why}", self.who))
    }
}
