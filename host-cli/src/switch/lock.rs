//! A pid file that is locked while its process lives: the lock is the fact, the number only for people.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::exit::{Exit, Failure};

/// Longest name below a runtime directory.
const NAME_MAX: usize = "/s-00000000".len();
/// Longest name that fits a unix socket's address, on Linux and macOS.
const SOCKET_NAME_MAX: usize = 103;

/// Takes the lock until the file is closed, and writes this process's id. `what` is what holds it, such as `switch`.
pub fn take(file: &Path, what: &str) -> Result<File, Failure> {
    let mut options = File::options();
    let opened = (options.read(true).write(true).create(true))
        .truncate(false)
        .open(file);
    let mut lock = opened.map_err(Failure::io("write", file))?;
    let mut wanted = whole_file();
    // SAFETY: the descriptor is open, and the lock is a whole `flock` that lives through the call.
    if unsafe { libc::fcntl(lock.as_raw_fd(), libc::F_SETLK, &raw const wanted) } != 0 {
        // SAFETY: as above; the kernel fills it in.
        unsafe { libc::fcntl(lock.as_raw_fd(), libc::F_GETLK, &raw mut wanted) };
        let text = format!(
            "{}: a {what} (pid {}) runs here already",
            file.display(),
            wanted.l_pid
        );
        return Err(Failure::new(Exit::Conflict, text));
    }
    (lock.set_len(0))
        .and_then(|()| writeln!(lock, "{}", std::process::id()))
        .map_err(Failure::io("write", file))?;
    Ok(lock)
}

/// The process that holds the lock; none if nobody does.
pub fn holder(file: &Path) -> Option<u32> {
    let lock = File::options().read(true).write(true).open(file).ok()?;
    let mut wanted = whole_file();
    // SAFETY: the descriptor is open, and the lock is a whole `flock` that lives through the call.
    let asked = unsafe { libc::fcntl(lock.as_raw_fd(), libc::F_GETLK, &raw mut wanted) };
    let is_held = asked == 0 && wanted.l_type != libc::F_UNLCK as libc::c_short;
    is_held.then(|| u32::try_from(wanted.l_pid).unwrap_or_default())
}

fn whole_file() -> libc::flock {
    // SAFETY: all zeroes is a valid `flock`: from the start to the end, however long the file is.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as _;
    lock.l_whence = libc::SEEK_SET as _;
    lock
}

/// Refuses a runtime directory that others may enter, or whose sockets would have names too long.
pub fn check_run(run: &Path) -> Result<(), Failure> {
    let metadata = run.metadata().map_err(Failure::io("read", run))?;
    let mode = metadata.permissions().mode() & 0o777;
    let shown = run.display();
    let wrong = if !metadata.is_dir() {
        format!("{shown}: wanted a directory for sockets, got a file")
    } else if mode & 0o077 != 0 {
        format!(
            "{shown}: wanted a directory for its owner alone, got mode {mode:04o}; chmod 0700 it"
        )
    } else if run.as_os_str().len() + NAME_MAX > SOCKET_NAME_MAX {
        let max = SOCKET_NAME_MAX - NAME_MAX;
        format!(
            "{shown}: wanted a name of at most {max} octets for sockets to fit; take a shorter directory"
        )
    } else {
        return Ok(());
    };
    Err(Failure::new(Exit::Invalid, wrong))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_lock_names_its_holder_and_ends_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sw.pid");
        assert_eq!(holder(&file), None);
        fs::write(&file, "a longer number than any pid: 123456789\n").unwrap();
        let lock = take(&file, "switch").unwrap();
        let pid = fs::read_to_string(&file).unwrap();
        assert_eq!(pid, format!("{}\n", std::process::id()));
        drop(lock);
        assert_eq!(holder(&file), None);
    }

    #[test]
    fn a_runtime_directory_is_its_owners_alone_and_short() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        check_run(dir.path()).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let failure = check_run(dir.path()).unwrap_err();
        assert!(
            failure.message.ends_with("got mode 0755; chmod 0700 it"),
            "{failure}"
        );
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let deep = dir.path().join("d".repeat(93));
        fs::create_dir(&deep).unwrap();
        fs::set_permissions(&deep, fs::Permissions::from_mode(0o700)).unwrap();
        let failure = check_run(&deep).unwrap_err();
        assert!(failure.message.contains("at most 92 octets"), "{failure}");
        assert_eq!(
            check_run(&dir.path().join("none")).unwrap_err().exit,
            Exit::NotFound
        );
    }
}
