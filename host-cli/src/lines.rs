//! Lines from a socket, each waited for until a moment. In: octets as they come. Out: whole lines; half a line stays until the
//! rest of it comes.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

pub struct Lines {
    reader: BufReader<UnixStream>,
    line: Vec<u8>,
}

/// What came by then.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// With its end of line.
    Line(Vec<u8>),
    Nothing,
    /// The other side has closed.
    End,
}

impl Lines {
    pub fn of(stream: UnixStream) -> Self {
        Self {
            reader: BufReader::new(stream),
            line: Vec::new(),
        }
    }

    /// Says one line.
    pub fn say(&mut self, line: &str) -> io::Result<()> {
        self.reader
            .get_mut()
            .write_all(format!("{line}\n").as_bytes())
    }

    pub fn next(&mut self, until: Instant) -> io::Result<Next> {
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            // None at all would be forever.
            let left = left.max(Duration::from_millis(1));
            self.reader.get_ref().set_read_timeout(Some(left))?;
            match self.reader.read_until(b'\n', &mut self.line) {
                Ok(_) if self.line.last() == Some(&b'\n') => {
                    return Ok(Next::Line(std::mem::take(&mut self.line)));
                }
                Ok(_) => return Ok(Next::End),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        Ok(Next::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_waits_for_its_other_half() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut lines = Lines::of(near);
        let soon = || Instant::now() + Duration::from_millis(20);
        let patient = || Instant::now() + Duration::from_secs(60);
        far.write_all(b"one\ntw").unwrap();
        assert_eq!(
            lines.next(patient()).unwrap(),
            Next::Line(b"one\n".to_vec())
        );
        assert_eq!(lines.next(soon()).unwrap(), Next::Nothing);
        far.write_all(b"o\n").unwrap();
        assert_eq!(
            lines.next(patient()).unwrap(),
            Next::Line(b"two\n".to_vec())
        );
        drop(far);
        assert_eq!(lines.next(patient()).unwrap(), Next::End);
    }
}
