//! The gate in the provisioner: deploy/provisioner/root/usr/lib/bootjack/gate. In: the socket of its port. Out: whether the
//! machine stands there, and its way on, with the time and with random octets, which are the only things that it brings from
//! outside. It refuses to wait forever.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::exit::{Exit, Failure};
use crate::lines::{Lines, Next};

/// A connection to the machine's port.
pub struct Gate {
    lines: Lines,
}

/// How often the guest is asked: what was asked before it listened is answered when it does.
const ASK_AGAIN: Duration = Duration::from_secs(5);

impl Gate {
    /// Connects to QEMU's end.
    pub fn connect(socket: &Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(socket).map_err(Failure::io("connect to", socket))?;
        Ok(Self {
            lines: Lines::of(stream),
        })
    }

    /// Waits until the machine stands at its gate; false if it does not by then.
    pub fn is_reached(&mut self, until: Instant) -> Result<bool, Failure> {
        while Instant::now() < until {
            self.say("ping")?;
            if self.hears("gate", until.min(Instant::now() + ASK_AGAIN))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Lets it through.
    pub fn open(&mut self, until: Instant) -> Result<(), Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0.0, |now| now.as_secs_f64());
        let mut random = [0; 32];
        getrandom::fill(&mut random)
            .map_err(|error| Failure::new(Exit::Failed, format!("no random numbers: {error}")))?;
        let hex: String = random.iter().map(|octet| format!("{octet:02x}")).collect();
        self.say(&format!("go {now:.3} {hex}"))?;
        match self.hears("going", until)? {
            true => Ok(()),
            false => Err(Failure::new(
                Exit::Timeout,
                "the provisioner stands at its gate and does not go on; look at: bootjack provisioner logs",
            )),
        }
    }

    fn say(&mut self, line: &str) -> Result<(), Failure> {
        self.lines.say(line).map_err(|error| broken(&error))
    }

    /// Whether this line comes by then; others are passed over.
    fn hears(&mut self, wanted: &str, until: Instant) -> Result<bool, Failure> {
        loop {
            match self.lines.next(until).map_err(|error| broken(&error))? {
                Next::Line(line) if line.trim_ascii() == wanted.as_bytes() => return Ok(true),
                Next::Line(_) => {}
                Next::Nothing => return Ok(false),
                Next::End => return Err(ended()),
            }
        }
    }
}

fn ended() -> Failure {
    Failure::new(Exit::Vm, "the provisioner ended before it was up")
}

fn broken(error: &std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => ended(),
        _ => {
            let why = crate::output::io_reason(error);
            Failure::new(Exit::Vm, format!("the provisioner's control port: {why}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// A guest that does what the script at the gate does, once it has started.
    fn guest(answers: fn(&str) -> Option<&'static str>) -> (tempfile::TempDir, Gate) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("c");
        let listener = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap() > 0 {
                if let Some(answer) = answers(line.trim()) {
                    let _ = reader.get_mut().write_all(answer.as_bytes());
                }
                line.clear();
            }
        });
        let gate = Gate::connect(&socket).unwrap();
        (dir, gate)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_machine_at_its_gate_is_let_through_with_time_and_random_octets() {
        let (_dir, mut gate) = guest(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["ping"] => Some("noise\nga"),
                ["go", now, seed] => {
                    let now: f64 = now.parse().unwrap();
                    assert!(now > 1.7e9 && seed.len() == 64, "{line}");
                    Some("te\ngoing\n")
                }
                other => panic!("{other:?}"),
            }
        });
        // Half a line has come by then.
        assert!(
            !gate
                .is_reached(Instant::now() + Duration::from_millis(200))
                .unwrap()
        );
        gate.open(soon()).unwrap();
    }

    #[test]
    fn one_that_says_nothing_is_late_and_one_that_ends_has_failed() {
        let (_dir, mut silent) = guest(|_| None);
        let late = silent.open(Instant::now() + Duration::from_millis(50));
        assert_eq!(late.unwrap_err().exit, Exit::Timeout);
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("c");
        let listener = UnixListener::bind(&socket).unwrap();
        let mut gate = Gate::connect(&socket).unwrap();
        drop(listener.accept().unwrap());
        drop(listener);
        assert_eq!(gate.is_reached(soon()).unwrap_err().exit, Exit::Vm);
    }
}
