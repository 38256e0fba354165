//! A terminal that hands every key through, until this is dropped: also by a panic.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

pub struct Raw {
    terminal: OwnedFd,
    before: libc::termios,
}

impl Raw {
    /// None if it is no terminal.
    pub fn new(terminal: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        // SAFETY: the descriptor is open, and all zeroes is a valid `termios` for the kernel to fill in.
        let before = unsafe {
            let mut before: libc::termios = std::mem::zeroed();
            if libc::tcgetattr(terminal.as_raw_fd(), &raw mut before) != 0 {
                return Ok(None);
            }
            before
        };
        let raw = Self {
            terminal: terminal.try_clone_to_owned()?,
            before,
        };
        let mut wanted = before;
        // SAFETY: a whole `termios`; the descriptor is open.
        let set = unsafe {
            libc::cfmakeraw(&raw mut wanted);
            libc::tcsetattr(raw.terminal.as_raw_fd(), libc::TCSANOW, &raw const wanted)
        };
        match set {
            0 => Ok(Some(raw)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Rows and columns, if it has any.
    pub fn size(&self) -> Option<(u16, u16)> {
        // SAFETY: all zeroes is a valid `winsize` for the kernel to fill in; the descriptor is open.
        unsafe {
            let mut size: libc::winsize = std::mem::zeroed();
            let got = libc::ioctl(self.terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size);
            (got == 0 && size.ws_row > 0).then_some((size.ws_row, size.ws_col))
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: the descriptor is open, and this is what it said itself.
        unsafe {
            libc::tcsetattr(
                self.terminal.as_raw_fd(),
                libc::TCSANOW,
                &raw const self.before,
            )
        };
    }
}

#[cfg(test)]
pub mod tests {
    use std::fs::File;
    use std::os::fd::{AsFd as _, FromRawFd as _};

    use super::*;

    /// Both ends of a pseudo-terminal: a person's, and a program's.
    pub fn pty() -> (File, File) {
        let (mut person, mut program) = (0, 0);
        let none = std::ptr::null_mut();
        // SAFETY: both places outlive the call, and what is null is not wanted; the descriptors are new.
        unsafe {
            let made = libc::openpty(
                &raw mut person,
                &raw mut program,
                none,
                none.cast(),
                none.cast(),
            );
            assert_eq!(made, 0);
            (File::from_raw_fd(person), File::from_raw_fd(program))
        }
    }

    pub fn is_raw(terminal: &File) -> bool {
        // SAFETY: all zeroes is a valid `termios` for the kernel to fill in; the descriptor is open.
        unsafe {
            let mut now: libc::termios = std::mem::zeroed();
            assert_eq!(libc::tcgetattr(terminal.as_raw_fd(), &raw mut now), 0);
            now.c_lflag & libc::ICANON == 0
        }
    }

    #[test]
    fn a_terminal_is_as_before_when_it_is_given_back_even_by_a_panic() {
        let (_person, program) = pty();
        assert!(!is_raw(&program));
        let raw = Raw::new(program.as_fd()).unwrap().unwrap();
        assert!(is_raw(&program));
        drop(raw);
        assert!(!is_raw(&program));
        let ended = std::panic::catch_unwind(|| {
            let _raw = Raw::new(program.as_fd()).unwrap().unwrap();
            assert!(is_raw(&program));
            panic!("on purpose");
        });
        assert!(ended.is_err());
        assert!(!is_raw(&program));
    }

    #[test]
    fn what_is_no_terminal_is_left_alone() {
        let null = File::open("/dev/null").unwrap();
        assert!(Raw::new(null.as_fd()).unwrap().is_none());
    }
}
