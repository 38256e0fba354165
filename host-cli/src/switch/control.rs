//! The control socket from the other side: what the rest of this program asks a switch.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use super::bridge::Impairment;
use super::names::{self, port_id};
use super::protocol::{Request, Status};
use crate::control;
use crate::exit::Failure;
use crate::output::io_reason;

/// A switch answers at once or never.
const ANSWER: Duration = Duration::from_secs(10);

/// A connection to the switch of one lab. Ports are called by their names.
pub struct Client(control::Client);

impl Client {
    /// Connects to the switch in this runtime directory; `Conflict` if none runs.
    pub fn connect(run: &Path) -> Result<Self, Failure> {
        let socket = names::control(run);
        let who = format!("the switch on {}", socket.display());
        control::Client::connect(&socket, who, "no switch runs", ANSWER).map(Self)
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
        self.0.ask_for(&Request::Status(()))
    }

    /// A pcap of all frames from now on, or of those of one port, until it is dropped.
    pub fn capture(mut self, name: Option<&str>) -> Result<impl Read, Failure> {
        let id = name.map(port_id);
        self.ask(&Request::Capture { id })?;
        let stream = self.0.stream.get_ref();
        (stream.set_read_timeout(None)).map_err(|error| self.0.failed(&io_reason(&error)))?;
        Ok(self.0.stream)
    }

    /// Ends the switch; returns when its sockets are gone.
    pub fn stop(self) -> Result<(), Failure> {
        self.0.stop(&Request::Stop(()))
    }

    fn ask(&mut self, request: &Request) -> Result<serde_json::Value, Failure> {
        self.0.ask(request)
    }
}
