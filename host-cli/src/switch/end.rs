//! SIGTERM and SIGINT as something that a loop can wait for.

use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, Ordering};

static TELL: AtomicI32 = AtomicI32::new(-1);

/// From now on either signal makes this readable, and nothing else.
pub struct End {
    told: UnixStream,
    _tell: UnixStream,
}

impl End {
    /// Takes the signals over for the whole process.
    pub fn new() -> io::Result<Self> {
        let (told, tell) = UnixStream::pair()?;
        tell.set_nonblocking(true)?;
        TELL.store(tell.as_raw_fd(), Ordering::SeqCst);
        for signal in [libc::SIGTERM, libc::SIGINT] {
            // SAFETY: the handler only loads an atomic and writes to a socket, which is safe in a handler.
            let before =
                unsafe { libc::signal(signal, on_signal as *const () as libc::sighandler_t) };
            if before == libc::SIG_ERR {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Self { told, _tell: tell })
    }

    pub fn raw(&self) -> RawFd {
        self.told.as_raw_fd()
    }
}

impl Drop for End {
    fn drop(&mut self) {
        TELL.store(-1, Ordering::SeqCst);
    }
}

extern "C" fn on_signal(_: libc::c_int) {
    // SAFETY: one octet of a constant; a descriptor that is closed only gives an error.
    unsafe { libc::write(TELL.load(Ordering::SeqCst), b"x".as_ptr().cast(), 1) };
}
