//! The control socket from the other side: what the rest of this program asks a switch.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bridge::Impairment;
use super::names::{self, port_id};
use super::protocol::{Answer, Request, Status};
use crate::exit::{Exit, Failure};
use crate::output::io_reason;

/// A switch answers at once or never.
const ANSWER: Duration = Duration::from_secs(10);

/// A connection to the switch of one lab. Ports are called by their names.
pub struct Client {
    socket: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the switch in this runtime directory; `Conflict` if none runs.
    pub fn connect(run: &Path) -> Result<Self, Failure> {
        let socket = names::control(run);
        let connected = UnixStream::connect(&socket).and_then(|stream| {
            stream.set_read_timeout(Some(ANSWER))?;
            stream.set_write_timeout(Some(ANSWER))?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => Ok(Self {
                socket,
                stream: BufReader::new(stream),
            }),
            Err(error) => {
                let why = io_reason(&error);
                let text = format!("no switch runs: {}: {why}", socket.display());
                Err(Failure::new(Exit::Conflict, text))
            }
        }
    }

    /// Plugs a port in; if it is, says that it is isolated or not.
    pub fn add(&mut self, name: &str, isolated: bool) -> Result<(), Failure> {
        let id = port_id(name);
        let name = name.to_owned();
        self.ask(&Request::Add { id, name, isolated }).map(drop)
    }

    pub fn remove(&mut self, name: &str) -> Result<(), Failure> {
        self.ask(&Request::Remove { id: port_id(name) }).map(drop)
    }

    /// Plugs the cable in or pulls it.
    pub fn link(&mut self, name: &str, up: bool) -> Result<(), Failure> {
        let id = port_id(name);
        self.ask(&Request::Link { id, up }).map(drop)
    }

    /// Makes the cable bad, or good again.
    pub fn impair(&mut self, name: &str, impairment: Impairment) -> Result<(), Failure> {
        let request = Request::Impair {
            id: port_id(name),
            loss: impairment.loss,
            delay_ms: u64::try_from(impairment.delay.as_millis()).unwrap_or(u64::MAX),
        };
        self.ask(&request).map(drop)
    }

    pub fn status(&mut self) -> Result<Status, Failure> {
        let value = self.ask(&Request::Status(()))?;
        serde_json::from_value(value).map_err(|error| self.failed(&error.to_string()))
    }

    /// A pcap of all frames from now on, or of those of one port, until it is dropped.
    pub fn capture(mut self, name: Option<&str>) -> Result<impl Read, Failure> {
        let id = name.map(port_id);
        self.ask(&Request::Capture { id })?;
        (self.stream.get_ref())
            .set_read_timeout(None)
            .map_err(|error| self.failed(&io_reason(&error)))?;
        Ok(self.stream)
    }

    /// Ends the switch; returns when its sockets are gone.
    pub fn stop(mut self) -> Result<(), Failure> {
        self.ask(&Request::Stop(()))?;
        match self.stream.read_to_end(&mut Vec::new()) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed(&io_reason(&error))),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<serde_json::Value, Failure> {
        let mut line = Vec::new();
        let asked = (self.stream.get_ref())
            .write_all(&request.line())
            .and_then(|()| self.stream.read_until(b'\n', &mut line));
        if let Err(error) = asked {
            return Err(self.failed(&io_reason(&error)));
        }
        if line.is_empty() {
            return Err(self.failed("it ended before it answered"));
        }
        match serde_json::from_slice(&line) {
            Ok(Answer::Ok(value)) => Ok(value),
            Ok(Answer::Error(why)) => Err(Failure::new(
                Exit::Failed,
                format!("the switch refused: {why}"),
            )),
            Err(error) => Err(self.failed(&error.to_string())),
        }
    }

    fn failed(&self, why: &str) -> Failure {
        let text = format!("the switch on {}: {why}", self.socket.display());
        Failure::new(Exit::Failed, text)
    }
}
