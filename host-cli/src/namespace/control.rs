//! What is said on the supervisor's control socket, and its other side: JSON, one line each way, as on the switch's. After the
//! answer to `dial` the connection is that to the machine.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure};
use crate::output::io_reason;

/// Longest line.
pub const LINE_MAX: u64 = 64 << 10;
/// For the machine to be reached, and for bootjackd to end.
const ANSWER: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    Status(()),
    /// TCP from inside the namespace; names are not looked up there.
    Dial {
        host: IpAddr,
        port: u16,
    },
    Stop(()),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Ok(serde_json::Value),
    Error(String),
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub pid: u32,
    /// bootjackd's.
    pub bootjackd: u32,
    /// It listens everywhere.
    pub ready: bool,
    /// `root` or `user_namespace`.
    pub right: String,
    /// What `lan0` is: `tap` or `veth`.
    pub interface: String,
    pub frames_to_switch: u64,
    pub frames_from_switch: u64,
    pub frames_dropped: u64,
}

impl Answer {
    /// As it is sent, with its end of line.
    pub fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("strings and numbers are JSON");
        line.push(b'\n');
        line
    }
}

/// A connection to the supervisor of one lab.
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the supervisor in this runtime directory; `Conflict` if none runs.
    pub fn connect(run: &Path) -> Result<Self, Failure> {
        let socket = super::socket(run);
        let connected = UnixStream::connect(&socket).and_then(|stream| {
            stream.set_read_timeout(Some(ANSWER))?;
            Ok(stream)
        });
        let stream = connected.map_err(|error| {
            let why = io_reason(&error);
            let text = format!(
                "no provisioner runs in a namespace: {}: {why}",
                socket.display()
            );
            Failure::new(Exit::Conflict, text)
        })?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    pub fn status(&mut self) -> Result<Status, Failure> {
        let value = self.ask(&Request::Status(()))?;
        serde_json::from_value(value).map_err(|error| failed(&error.to_string()))
    }

    /// Ends bootjackd and the supervisor; returns when both are gone.
    pub fn stop(mut self) -> Result<(), Failure> {
        self.ask(&Request::Stop(()))?;
        match self.stream.read_to_end(&mut Vec::new()) {
            Ok(_) => Ok(()),
            Err(error) => Err(failed(&io_reason(&error))),
        }
    }

    /// Connects standard input and output to a machine of the lab until both sides have ended.
    pub fn dial(mut self, host: IpAddr, port: u16) -> Result<(), Failure> {
        self.ask(&Request::Dial { host, port })?;
        let cannot = |error: io::Error| failed(&io_reason(&error));
        // Unbuffered.
        let mut output = File::from(io::stdout().as_fd().try_clone_to_owned().map_err(cannot)?);
        let early = self.stream.buffer().to_vec();
        output.write_all(&early).map_err(cannot)?;
        let mut stream = self.stream.into_inner();
        stream.set_read_timeout(None).map_err(cannot)?;
        let mut there = stream.try_clone().map_err(cannot)?;
        // Not waited for: what a person types has no end.
        std::thread::spawn(move || {
            if let Ok(input) = io::stdin().as_fd().try_clone_to_owned() {
                let _ = carry(&mut File::from(input), &mut there);
            }
            let _ = there.shutdown(Shutdown::Write);
        });
        match carry(&mut stream, &mut output) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(failed(&io_reason(&error))),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<serde_json::Value, Failure> {
        let mut line = serde_json::to_vec(request).expect("strings and numbers are JSON");
        line.push(b'\n');
        let mut answer = Vec::new();
        let asked = (self.stream.get_ref())
            .write_all(&line)
            .and_then(|()| self.stream.read_until(b'\n', &mut answer));
        if let Err(error) = asked {
            return Err(failed(&io_reason(&error)));
        }
        if answer.is_empty() {
            return Err(failed("it ended before it answered"));
        }
        match serde_json::from_slice(&answer) {
            Ok(Answer::Ok(value)) => Ok(value),
            Ok(Answer::Error(why)) => Err(Failure::new(Exit::Failed, why)),
            Err(error) => Err(failed(&error.to_string())),
        }
    }
}

/// Octets from one to the other, as they come. Not `io::copy`: on Linux it splices, and splice(2) keeps a pipe locked while it waits
/// for more, so that who reads at its other end does not get what is in it.
fn carry(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut octets = vec![0; 64 * 1024];
    loop {
        match from.read(&mut octets) {
            Ok(0) => return Ok(()),
            Ok(read) => to.write_all(&octets[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn failed(why: &str) -> Failure {
    Failure::new(Exit::Failed, format!("the provisioner's namespace: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_is_there_before_more_comes() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let (mut reader, mut writer) = io::pipe().unwrap();
        std::thread::spawn(move || carry(&mut { near }, &mut writer));
        let (told, heard) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut octet = [0];
            while reader.read_exact(&mut octet).is_ok() {
                told.send(octet[0]).unwrap();
            }
        });
        for octet in 0..100 {
            far.write_all(&[octet]).unwrap();
            let patience = std::time::Duration::from_secs(60);
            assert_eq!(heard.recv_timeout(patience), Ok(octet));
        }
    }

    #[test]
    fn requests_are_what_the_contract_says() {
        let host = IpAddr::from([198, 18, 0, 10]);
        for (line, request) in [
            (r#"{"status":null}"#, Request::Status(())),
            (
                r#"{"dial":{"host":"198.18.0.10","port":22}}"#,
                Request::Dial { host, port: 22 },
            ),
            (r#"{"stop":null}"#, Request::Stop(())),
        ] {
            assert_eq!(serde_json::from_str::<Request>(line).unwrap(), request);
            assert_eq!(serde_json::to_string(&request).unwrap(), line);
        }
        let named = r#"{"dial":{"host":"node1","port":22}}"#;
        assert!(serde_json::from_str::<Request>(named).is_err());
    }
}
