//! Locks on files. The kernel gives them back when their holder ends, however it ends.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::exit::Failure;

/// A lock that is held as long as this value lives.
#[derive(Debug)]
pub struct Lock {
    file: Flock<File>,
    path: PathBuf,
}

impl Lock {
    /// Alone; `waits` hears once, by whom it is held, that this takes a while.
    pub fn exclusive(path: &Path, waits: impl FnOnce(&str)) -> Result<Self, Failure> {
        if let Some(lock) = Self::try_exclusive(path)? {
            return Ok(lock);
        }
        waits(&holder(path));
        loop {
            // Nothing: it was removed meanwhile.
            if let Some(mut lock) = Self::take(path, FlockArg::LockExclusive)? {
                lock.write_pid()?;
                return Ok(lock);
            }
        }
    }

    /// Together with others that share it.
    pub fn shared(path: &Path) -> Result<Self, Failure> {
        loop {
            if let Some(lock) = Self::take(path, FlockArg::LockShared)? {
                return Ok(lock);
            }
        }
    }

    /// Nothing if somebody has it.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>, Failure> {
        let mut lock = Self::take(path, FlockArg::LockExclusiveNonblock)?;
        if let Some(lock) = &mut lock {
            lock.write_pid()?;
        }
        Ok(lock)
    }

    /// As `try_exclusive`, with the file's content left as it is.
    pub fn held_by_nobody(path: &Path) -> Result<Option<Self>, Failure> {
        Self::take(path, FlockArg::LockExclusiveNonblock)
    }

    fn write_pid(&mut self) -> Result<(), Failure> {
        self.write(std::process::id().to_string().as_bytes())
    }

    /// Nothing if somebody has it, or has removed the file meanwhile, in which case the lock would be worth nothing.
    fn take(path: &Path, how: FlockArg) -> Result<Option<Self>, Failure> {
        let failed = || Failure::io("lock", path);
        let open = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed())?;
        let mut open = Some(open);
        let file = loop {
            let file = open.take().expect("it comes back from each attempt");
            match Flock::lock(file, how) {
                Ok(locked) => break locked,
                Err((file, Errno::EINTR)) => open = Some(file),
                Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, error)) => return Err(failed()(error.into())),
            }
        };
        let locked = file.metadata().map_err(failed())?;
        let is_there = std::fs::metadata(path)
            .is_ok_and(|there| (there.dev(), there.ino()) == (locked.dev(), locked.ino()));
        let path = path.to_owned();
        Ok(is_there.then_some(Self { file, path }))
    }

    /// Replaces what stands in the file.
    pub fn write(&mut self, content: &[u8]) -> Result<(), Failure> {
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(content)
        };
        write(&mut self.file).map_err(Failure::io("write", &self.path))
    }

    /// What stands in the file.
    pub fn read(&mut self) -> Result<Vec<u8>, Failure> {
        let mut content = Vec::new();
        (self.file.rewind())
            .and_then(|()| (&mut *self.file).take(1 << 16).read_to_end(&mut content))
            .map_err(Failure::io("read", &self.path))?;
        Ok(content)
    }

    /// Removes the file, while nobody else can have it.
    pub fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Who says that it holds the lock.
fn holder(path: &Path) -> String {
    let pid = std::fs::read_to_string(path).unwrap_or_default();
    match pid.trim().parse::<u32>() {
        Ok(pid) => format!("process {pid}"),
        Err(_) => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_it_and_others_hear_who() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        let first = Lock::exclusive(&path, |_| panic!("nobody has it")).unwrap();
        assert!(Lock::try_exclusive(&path).unwrap().is_none());
        assert_eq!(holder(&path), format!("process {}", std::process::id()));
        drop(first);
        let shared = (Lock::shared(&path).unwrap(), Lock::shared(&path).unwrap());
        assert!(Lock::try_exclusive(&path).unwrap().is_none());
        drop(shared);
        assert!(Lock::try_exclusive(&path).unwrap().is_some());
    }

    #[test]
    fn a_lock_on_a_file_that_was_removed_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        let first = Lock::try_exclusive(&path).unwrap().unwrap();
        let waiting = {
            let path = path.clone();
            std::thread::spawn(move || Lock::exclusive(&path, |_| {}).map(|_| ()))
        };
        first.remove();
        // Whoever waits ends up with a file that is there.
        waiting.join().unwrap().unwrap();
        assert!(path.exists());
    }
}
