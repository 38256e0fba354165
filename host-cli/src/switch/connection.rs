//! One connection to the control socket: never blocks, and is bounded in both directions.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::UnixStream;
use std::time::SystemTime;

use super::fib::PortKey;
use super::pcap;
use crate::control::{Answer, LINE_MAX};

/// What a capture may lag behind; frames that find no room are missing in it.
const LAG_MAX: usize = 16 << 20;

pub struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    capture: Option<Capture>,
    /// Nothing more will be asked: it closes as soon as all is said.
    is_ending: bool,
    is_broken: bool,
}

struct Capture {
    port: Option<PortKey>,
    missed: u64,
}

impl Connection {
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            capture: None,
            is_ending: false,
            is_broken: false,
        })
    }

    pub fn raw(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Whether there is something to say that has not been taken.
    pub fn wants_room(&self) -> bool {
        !self.output.is_empty()
    }

    pub fn is_done(&self) -> bool {
        self.is_broken || self.is_ending && self.output.is_empty()
    }

    /// Whether a capture is taken here.
    pub fn is_capture(&self) -> bool {
        self.capture.is_some()
    }

    /// Frames that are missing in the capture, if there are any.
    pub fn missed(&self) -> Option<u64> {
        let missed = self.capture.as_ref()?.missed;
        (missed > 0).then_some(missed)
    }

    /// Reads what has arrived; the whole lines of it, without their ends.
    pub fn lines(&mut self) -> Vec<Vec<u8>> {
        let mut room = [0; 4096];
        match self.stream.read(&mut room) {
            Ok(0) if self.is_capture() => self.is_broken = true,
            Ok(0) => self.is_ending = true,
            Ok(_) if self.is_capture() => {}
            Ok(count) => self.input.extend(&room[..count]),
            Err(error) if is_soon(&error) => {}
            Err(_) => self.is_broken = true,
        }
        let mut lines: Vec<Vec<u8>> = Vec::new();
        while let Some(end) = self.input.iter().position(|octet| *octet == b'\n') {
            let mut line: Vec<u8> = self.input.drain(..=end).collect();
            line.pop();
            lines.push(line);
        }
        if self.input.len() > LINE_MAX {
            self.answer(&Answer::Error(format!(
                "wanted lines of at most {LINE_MAX} octets"
            )));
            self.input.clear();
            self.is_ending = true;
        }
        lines
    }

    pub fn answer(&mut self, answer: &Answer) {
        self.output.extend(answer.line());
    }

    /// From now on this is a capture, of one port or of all.
    pub fn begin_capture(&mut self, port: Option<PortKey>) {
        self.output.extend(pcap::header());
        self.capture = Some(Capture { port, missed: 0 });
    }

    /// Adds a frame that came in at `from` and goes to `to`, if it is wanted.
    pub fn capture(&mut self, at: SystemTime, from: PortKey, to: &[PortKey], frame: &[u8]) {
        let Some(capture) = &mut self.capture else {
            return;
        };
        let is_wanted = |port: PortKey| port == from || to.contains(&port);
        if !capture.port.is_none_or(is_wanted) {
            return;
        }
        match self.output.len() + frame.len() > LAG_MAX {
            true => capture.missed += 1,
            false => pcap::record(&mut self.output, at, frame),
        }
    }

    /// Says what there is to say, as far as it is taken.
    pub fn flush(&mut self) {
        while !self.output.is_empty() && !self.is_broken {
            match self.stream.write(&self.output) {
                Ok(0) => self.is_broken = true,
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_soon(&error) => break,
                Err(_) => self.is_broken = true,
            }
        }
    }
}

fn is_soon(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
