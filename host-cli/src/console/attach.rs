//! A person at a machine's console: every key goes to the machine, but for `^]`, which ends it.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixStream;

use super::Place;
use super::terminal::Raw;
use crate::exit::{Exit, Failure};
use crate::output::io_reason;
use crate::switch::end::End;
use crate::switch::poll::Poll;

/// Control and `]`, as telnet and virsh have it.
const ESCAPE: u8 = 0x1d;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    ByEscape,
    /// What was typed came from a file, and is over.
    OfInput,
    ByMachine,
    BySignal,
}

/// Connects standard input and output to the console: what it said last first.
pub fn attach(place: &Place<'_>) -> Result<(), Failure> {
    let cannot = |error: io::Error| {
        let text = format!("{}'s console: {}", place.machine, io_reason(&error));
        Failure::new(Exit::Failed, text)
    };
    let mut held = place.hold()?;
    let (_, tail) = place.tail()?;
    let end = End::new().map_err(cannot)?;
    let stdin = io::stdin();
    // Unbuffered, both.
    let mut input = File::from(stdin.as_fd().try_clone_to_owned().map_err(cannot)?);
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned().map_err(cannot)?);
    let is_person = stdin.is_terminal();
    if is_person {
        eprintln!("{}'s console; ^] ends it", place.machine);
    }
    output.write_all(&tail).map_err(cannot)?;
    let raw = Raw::new(input.as_fd()).map_err(cannot)?;
    let size = raw.as_ref().and_then(Raw::size);
    let ended = relay(&mut input, &mut output, &mut held.stream, &end);
    drop(raw);
    let ended = ended.map_err(cannot)?;
    if is_person {
        eprintln!();
        if let (Ended::ByEscape, Some((rows, columns))) = (ended, size) {
            // A serial line does not carry the size of a terminal.
            eprintln!(
                "a shell there learns the size of this terminal by: stty rows {rows} cols {columns}"
            );
        }
    }
    match ended {
        Ended::ByEscape | Ended::OfInput => Ok(()),
        Ended::ByMachine => {
            let text = format!("{} ended, and its console with it", place.machine);
            Err(Failure::new(Exit::Vm, text))
        }
        Ended::BySignal => Err(Failure::new(Exit::Interrupted, "interrupted")),
    }
}

fn relay(
    input: &mut File,
    output: &mut impl Write,
    stream: &mut UnixStream,
    end: &End,
) -> io::Result<Ended> {
    let mut poll = Poll::default();
    let mut room = [0; 4096];
    loop {
        poll.clear();
        let asked = poll.read(end.raw(), false);
        let typed = poll.read(input.as_raw_fd(), false);
        let said = poll.read(stream.as_raw_fd(), false);
        poll.wait(None)?;
        if poll.happened(asked) {
            return Ok(Ended::BySignal);
        }
        if poll.happened(said) {
            match stream.read(&mut room)? {
                0 => return Ok(Ended::ByMachine),
                count => output
                    .write_all(&room[..count])
                    .and_then(|()| output.flush())?,
            }
        }
        if poll.happened(typed) {
            let count = input.read(&mut room)?;
            if count == 0 {
                return Ok(Ended::OfInput);
            }
            let keys = &room[..count];
            let escape = keys.iter().position(|key| *key == ESCAPE);
            stream.write_all(&keys[..escape.unwrap_or(count)])?;
            if escape.is_some() {
                return Ok(Ended::ByEscape);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::terminal::tests::pty;
    use super::*;

    #[test]
    fn keys_go_to_the_machine_its_words_come_back_and_the_escape_ends_it() {
        let (mut person, mut program) = pty();
        let raw = Raw::new(program.as_fd()).unwrap();
        let (mut ours, mut machine) = UnixStream::pair().unwrap();
        let end = End::new().unwrap();
        machine.write_all(b"login: ").unwrap();
        let typist = std::thread::spawn(move || {
            // Control-C is for the machine, too.
            person.write_all(b"root\r\x03").unwrap();
            let mut seen = [0; 6];
            machine.read_exact(&mut seen).unwrap();
            machine.write_all(b"Password: ").unwrap();
            person.write_all(b"x\x1dnot for it").unwrap();
            let mut last = [0; 1];
            machine.read_exact(&mut last).unwrap();
            (seen, last, machine)
        });
        let mut shown = Vec::new();
        let ended = relay(&mut program, &mut shown, &mut ours, &end).unwrap();
        assert_eq!(ended, Ended::ByEscape);
        drop((raw, ours));
        let (seen, last, mut machine) = typist.join().unwrap();
        assert_eq!((&seen, &last), (b"root\r\x03", b"x"));
        let mut rest = Vec::new();
        machine.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
        assert!(String::from_utf8(shown).unwrap().starts_with("login: "));
    }

    #[test]
    fn it_ends_with_the_machine_and_with_the_input() {
        let end = End::new().unwrap();
        let (mut ours, machine) = UnixStream::pair().unwrap();
        let (_person, mut program) = pty();
        drop(machine);
        let ended = relay(&mut program, &mut Vec::new(), &mut ours, &end).unwrap();
        assert_eq!(ended, Ended::ByMachine);
        let (mut ours, _machine) = UnixStream::pair().unwrap();
        let mut nothing = File::open("/dev/null").unwrap();
        let ended = relay(&mut nothing, &mut Vec::new(), &mut ours, &end).unwrap();
        assert_eq!(ended, Ended::OfInput);
    }
}
