//! A script at a machine's console.
//!
//! The log is what is read: it has all that was said, once. The socket is typed to, and wakes: what it says is in the log
//! the moment after.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use regex::Regex;

use super::Place;
use super::script::Step;
use super::window::Window;
use crate::exit::{Exit, Failure};
use crate::output::io_reason;
use crate::switch::poll::Poll;

/// A serial port takes 16 octets at a time, and the program behind it may be slower than it.
const PIECE: usize = 8;
const PAUSE: Duration = Duration::from_millis(10);
/// How often the log is looked at when nothing wakes.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Does the steps in order, beginning with the line that the console is at; `tell` hears what was matched.
pub fn run(place: &Place<'_>, steps: &[Step], mut tell: impl FnMut(&str)) -> Result<(), Failure> {
    // Looked at first: what is said while the socket is got is not from before.
    let tailed = place.tail();
    let held = place.hold()?;
    let (log, tail) = tailed?;
    let mut session = Session {
        place,
        stream: held.stream,
        log,
        window: Window::default(),
        is_over: false,
    };
    let line = tail.iter().rposition(|octet| *octet == b'\n');
    session.window.feed(&tail[line.map_or(0, |end| end + 1)..]);
    (session.stream.set_nonblocking(true)).map_err(|error| session.failed(&error))?;
    for step in steps {
        match step {
            Step::Expect { pattern, limit } => tell(&session.expect(pattern, *limit)?),
            Step::Type(octets) => session.type_in(octets)?,
        }
    }
    Ok(())
}

struct Session<'a> {
    place: &'a Place<'a>,
    stream: UnixStream,
    log: File,
    window: Window,
    /// The machine has ended.
    is_over: bool,
}

impl Session<'_> {
    fn expect(&mut self, pattern: &Regex, limit: Duration) -> Result<String, Failure> {
        let until = Instant::now() + limit;
        loop {
            let was_over = self.is_over;
            let mut said = Vec::new();
            let read = self.log.read_to_end(&mut said);
            read.map_err(|error| self.failed(&error))?;
            self.window.feed(&said);
            if let Some(found) = self.window.take(pattern) {
                return Ok(found);
            }
            let left = until.saturating_duration_since(Instant::now());
            if was_over || left.is_zero() {
                return Err(self.in_vain(pattern, limit));
            }
            self.listen(left.min(LOOK_AGAIN))?;
        }
    }

    fn in_vain(&self, pattern: &Regex, limit: Duration) -> Failure {
        let (machine, last) = (self.place.machine, self.window.last_line());
        let (exit, when) = match self.is_over {
            true => (Exit::Vm, "before it ended".to_owned()),
            false => (
                Exit::Timeout,
                format!("within {}", crate::output::span(limit)),
            ),
        };
        let text = format!(
            "{machine}'s console: wanted `{pattern}` {when}, got last: {last}; all of it: {}",
            self.place.log.display()
        );
        Failure::new(exit, text)
    }

    /// In pieces, each when the last was taken.
    fn type_in(&mut self, octets: &[u8]) -> Result<(), Failure> {
        for piece in octets.chunks(PIECE) {
            let mut rest = piece;
            while !rest.is_empty() {
                match self.stream.write(rest) {
                    Ok(count) => rest = &rest[count..],
                    Err(error) if is_soon(&error) => self.listen(LOOK_AGAIN)?,
                    Err(error) => return Err(self.failed(&error)),
                }
            }
            let until = Instant::now() + PAUSE;
            while !self.is_over && Instant::now() < until {
                self.listen(until.saturating_duration_since(Instant::now()))?;
            }
        }
        Ok(())
    }

    /// Waits for the socket, and empties it: a machine whose client does not read is slow.
    fn listen(&mut self, limit: Duration) -> Result<(), Failure> {
        let mut poll = Poll::default();
        poll.read(self.stream.as_raw_fd(), false);
        poll.wait(Some(limit))
            .map_err(|error| self.failed(&error))?;
        let mut room = [0; 4096];
        loop {
            match self.stream.read(&mut room) {
                Ok(0) => {
                    self.is_over = true;
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) if is_soon(&error) => return Ok(()),
                Err(error) => return Err(self.failed(&error)),
            }
        }
    }

    fn failed(&self, error: &io::Error) -> Failure {
        let text = format!("{}'s console: {}", self.place.machine, io_reason(error));
        Failure::new(Exit::Failed, text)
    }
}

fn is_soon(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    use super::super::script;
    use super::*;

    /// What QEMU does: each octet to the client and to the log.
    struct Machine {
        client: UnixStream,
        log: File,
    }

    impl Machine {
        fn say(&mut self, text: &str) {
            let _ = self.client.write_all(text.as_bytes());
            self.log.write_all(text.as_bytes()).unwrap();
        }

        fn hear(&mut self, length: usize) -> String {
            let mut heard = vec![0; length];
            self.client.read_exact(&mut heard).unwrap();
            String::from_utf8(heard).unwrap()
        }
    }

    fn with_machine(
        before: &str,
        script: &str,
        machine: impl FnOnce(Machine) + Send + 'static,
    ) -> (Result<(), Failure>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let (socket, log) = (dir.path().join("con"), dir.path().join("console.log"));
        std::fs::write(&log, before).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        let writer = File::options().append(true).open(&log).unwrap();
        let thread = std::thread::spawn(move || {
            let (client, _) = listener.accept().unwrap();
            machine(Machine {
                client,
                log: writer,
            });
        });
        let place = Place {
            machine: "node1",
            socket: &socket,
            log: &log,
        };
        let steps = script::parse(script, Duration::from_secs(60)).unwrap();
        let mut found = Vec::new();
        let ended = run(&place, &steps, |text| found.push(text.to_owned()));
        thread.join().unwrap();
        (ended, found)
    }

    #[test]
    fn it_logs_in_at_a_prompt_that_stood_there_before() {
        let script = "expect login: $\nsend root\nexpect root@.*# $\nsend echo a line of more than sixteen octets\nexpect ^done";
        let (ended, found) = with_machine(
            "old login: bob\nlocalhost login: ",
            script,
            |mut machine| {
                assert_eq!(machine.hear(5), "root\r");
                machine.say("root\r\n\x1b[1mroot@localhost\x1b[0m:~");
                machine.say("# ");
                let typed = "echo a line of more than sixteen octets\r";
                assert_eq!(machine.hear(typed.len()), typed);
                machine.say("done\r\n");
            },
        );
        ended.unwrap();
        assert_eq!(found, ["login: ", "root@localhost:~# ", "done"]);
    }

    #[test]
    fn what_does_not_come_is_said_with_what_came_last() {
        let (ended, _) = with_machine("", "timeout 100ms\nexpect login:", |mut machine| {
            machine.say("Kernel panic - not syncing\r\n");
            let mut rest = Vec::new();
            let _ = machine.client.read_to_end(&mut rest);
        });
        let failure = ended.unwrap_err();
        assert_eq!(failure.exit, Exit::Timeout);
        let start = "node1's console: wanted `login:` within ";
        assert!(failure.message.starts_with(start), "{failure}");
        assert!(
            failure
                .message
                .contains("got last: Kernel panic - not syncing; all of it: "),
            "{failure}"
        );
    }

    #[test]
    fn a_machine_that_ends_is_not_waited_for_but_heard_out() {
        let (ended, found) = with_machine("", "expect down\nexpect login:", |mut machine| {
            machine.say("reboot: Power down\r\n");
        });
        assert_eq!(ended.unwrap_err().exit, Exit::Vm);
        assert_eq!(found, ["down"]);
    }

    #[test]
    fn a_machine_that_does_not_run_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("none/con");
        let place = Place {
            machine: "node1",
            socket: &socket,
            log: Path::new("/dev/null"),
        };
        let failure = run(&place, &[], |_| {}).unwrap_err();
        assert_eq!(failure.exit, Exit::Conflict);
        assert_eq!(
            failure.message,
            "node1 does not run, so there is no console (no such file or directory); start it with: bootjack up node1"
        );
    }
}
