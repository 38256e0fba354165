//! What the supervisor understands on its control socket (`control`), and its other side. After the answer to `dial` the
//! connection is that to the machine.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control;
use crate::exit::Failure;
use crate::output::io_reason;

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

/// A connection to the supervisor of one lab.
pub struct Client(control::Client);

impl Client {
    /// Connects to the supervisor in this runtime directory; `Conflict` if none runs.
    pub fn connect(run: &Path) -> Result<Self, Failure> {
        let who = "the provisioner's namespace".to_owned();
        let absent = "no provisioner runs in a namespace";
        control::Client::connect(&super::socket(run), who, absent, ANSWER).map(Self)
    }

    pub fn status(&mut self) -> Result<Status, Failure> {
        self.0.ask_for(&Request::Status(()))
    }

    /// Ends bootjackd and the supervisor; returns when both are gone.
    pub fn stop(self) -> Result<(), Failure> {
        self.0.stop(&Request::Stop(()))
    }

    /// Connects standard input and output to a machine of the lab until both sides have ended.
    pub fn dial(mut self, host: IpAddr, port: u16) -> Result<(), Failure> {
        self.0.ask(&Request::Dial { host, port })?;
        let control::Client { stream, .. } = &self.0;
        let early = stream.buffer().to_vec();
        let stream = stream.get_ref().try_clone();
        let cannot = |error: io::Error| self.0.failed(&io_reason(&error));
        let mut stream = stream.map_err(cannot)?;
        // Unbuffered.
        let mut output = File::from(io::stdout().as_fd().try_clone_to_owned().map_err(cannot)?);
        output.write_all(&early).map_err(cannot)?;
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
            Err(error) => Err(cannot(error)),
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

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
