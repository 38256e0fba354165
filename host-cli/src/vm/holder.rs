//! Who holds the lock on a pid file. A program that is gone holds none, whatever the file says.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use crate::exit::Failure;

/// The process that has this pid file locked; none: nobody. Zero: somebody whose id is not known.
pub fn holder(pid_file: &Path) -> Result<Option<i32>, Failure> {
    // Opened for writing, or macOS would not tell of a lock for writing.
    let file = match File::options().read(true).write(true).open(pid_file) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::io("read", pid_file)(error)),
    };
    // SAFETY: all zeroes is a valid `flock`; start and length of zero are the whole file.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as _;
    lock.l_whence = libc::SEEK_SET as _;
    // SAFETY: the descriptor is open, and the lock is whole and lives through the call.
    let asked = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &mut lock) };
    if asked != 0 {
        let error = std::io::Error::last_os_error();
        return Err(Failure::io("look at the lock of", pid_file)(error));
    }
    if lock.l_type == libc::F_UNLCK as libc::c_short {
        return Ok(None);
    }
    // Newer QEMUs hold it by an open file description, which has no process.
    let written = || std::fs::read_to_string(pid_file).ok()?.trim().parse().ok();
    Ok(Some(match lock.l_pid {
        pid if pid > 0 => pid,
        _ => written().unwrap_or(0),
    }))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_pid_file_without_a_lock_is_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.pid");
        assert_eq!(holder(&file).unwrap(), None);
        // Our own id: it lives, and does not hold the file.
        std::fs::write(&file, std::process::id().to_string()).unwrap();
        assert_eq!(holder(&file).unwrap(), None);
    }

    #[test]
    fn the_holder_is_who_has_the_lock_and_not_what_the_file_says() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.pid");
        std::fs::write(&file, "1\n").unwrap();
        let script = "import fcntl,sys; f=open(sys.argv[1],'r+'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()";
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", script])
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert_eq!(holder(&file).unwrap(), Some(pid));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(holder(&file).unwrap(), None);
    }
}
