//! What a process that nobody watches says: lines with their time on standard error, which is a file; and once, on standard
//! output, that it is ready.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::time::SystemTime;

/// One line. A log that cannot be written stops nothing.
pub fn line(text: &str) {
    let now = humantime::format_rfc3339_seconds(SystemTime::now());
    let _ = writeln!(std::io::stderr(), "{now} {text}");
}

/// Says `ready` and gives standard output up: whoever started this process reads to its end.
pub fn ready() {
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "ready").and_then(|()| stdout.flush());
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        // SAFETY: both descriptors are open.
        unsafe { libc::dup2(null.as_raw_fd(), libc::STDOUT_FILENO) };
    }
}
