//! Serial consoles: read as lines (`lines`), taken over by a person (`attach`), or by a script (`script` ← `window`, pure; `expect`).
//!
//! A machine's console is a unix socket that one client has at a time, and a log that QEMU keeps whether or not there is one.

pub mod attach;
pub mod expect;
mod lines;
pub mod milestone;
pub mod script;
mod terminal;
mod window;

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

pub use self::lines::Console;
use crate::exit::{Exit, Failure};
use crate::output::io_reason;
use crate::switch::lock;

/// What is shown of the log, or searched for the end of it, to begin with.
const TAIL: u64 = 4096;

/// Where one machine's console is.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub machine: &'a str,
    pub socket: &'a Path,
    pub log: &'a Path,
}

/// The console is ours until this is dropped.
struct Held {
    stream: UnixStream,
    _lock: File,
}

impl Place<'_> {
    /// Takes the console; `Conflict` if somebody has it, or the machine does not run.
    fn hold(&self) -> Result<Held, Failure> {
        let absent = |error: io::Error| {
            let (machine, why) = (self.machine, io_reason(&error));
            let text = format!(
                "{machine} does not run, so there is no console ({why}); start it with: bootjack up {machine}"
            );
            Failure::new(Exit::Conflict, text)
        };
        // Where nothing ever ran there is no directory for the lock either.
        self.socket.metadata().map_err(absent)?;
        let mut lock_file = self.socket.as_os_str().to_owned();
        lock_file.push(".lock");
        let lock_file = PathBuf::from(lock_file);
        let lock = lock::take(&lock_file, "console").map_err(|failure| match failure.exit {
            Exit::Conflict => {
                let pid = lock::holder(&lock_file).unwrap_or_default();
                let machine = self.machine;
                let text = format!("{machine}'s console is busy: process {pid} is attached to it");
                Failure::new(Exit::Conflict, text)
            }
            _ => failure,
        })?;
        let stream = UnixStream::connect(self.socket).map_err(absent)?;
        Ok(Held {
            stream,
            _lock: lock,
        })
    }

    /// The log, and the last octets of it: it stands behind them.
    fn tail(&self) -> Result<(File, Vec<u8>), Failure> {
        let read = || -> io::Result<(File, Vec<u8>)> {
            let mut log = File::open(self.log)?;
            let length = log.metadata()?.len();
            log.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
            let mut octets = Vec::new();
            log.read_to_end(&mut octets)?;
            Ok((log, octets))
        };
        read().map_err(Failure::io("read", self.log))
    }
}
