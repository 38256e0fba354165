//! Waiting for several descriptors at once.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// What is waited for in one turn of a loop.
#[derive(Default)]
pub struct Poll {
    entries: Vec<libc::pollfd>,
}

/// One entry of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(usize);

impl Poll {
    /// Begins the next turn.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Waits for octets or an end, and for room if `and_room`.
    pub fn read(&mut self, fd: RawFd, and_room: bool) -> Token {
        let room = if and_room { libc::POLLOUT } else { 0 };
        self.add(fd, libc::POLLIN | room)
    }

    /// Waits for room to write.
    pub fn room(&mut self, fd: RawFd) -> Token {
        self.add(fd, libc::POLLOUT)
    }

    fn add(&mut self, fd: RawFd, events: libc::c_short) -> Token {
        self.entries.push(libc::pollfd {
            fd,
            events,
            revents: 0,
        });
        Token(self.entries.len() - 1)
    }

    /// Until something happens, or the time is over.
    pub fn wait(&mut self, limit: Option<Duration>) -> io::Result<()> {
        let limit_ms = limit.map_or(-1, |limit| {
            let whole = limit.as_nanos().div_ceil(1_000_000);
            libc::c_int::try_from(whole).unwrap_or(libc::c_int::MAX)
        });
        // SAFETY: the entries outlive the call, and their number is right.
        let happened =
            unsafe { libc::poll(self.entries.as_mut_ptr(), self.entries.len() as _, limit_ms) };
        if happened < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
            for entry in &mut self.entries {
                entry.revents = 0;
            }
        }
        Ok(())
    }

    /// Whether anything happened there; reading and writing say what.
    pub fn happened(&self, token: Token) -> bool {
        self.entries
            .get(token.0)
            .is_some_and(|entry| entry.revents != 0)
    }
}
