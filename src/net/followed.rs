//! Files that are read again when they change. In: the files, and what reads them. Out: what was read, once for each change. What
//! cannot be read is tried again, and told once: a file that could not be opened for a moment is not forgotten for good.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How soon files that could not be read are tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Files, and how they were when they were read last.
#[derive(Debug)]
pub struct Followed {
    files: Vec<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    read: Seen,
    /// How they were when they could not be read, and when that was.
    failed: Option<(Seen, Instant)>,
}

impl Followed {
    /// Reads the files for the first time.
    pub fn read<T, E>(
        files: Vec<PathBuf>,
        read: impl FnOnce() -> Result<T, E>,
    ) -> Result<(Self, T), E> {
        // Looked at first: what changes meanwhile is read again.
        let seen = Seen::of(&files);
        let value = read()?;
        let state = Mutex::new(State {
            read: seen,
            failed: None,
        });
        Ok((Self { files, state }, value))
    }

    /// Reads them again if they have changed since they were read; nothing if they have not, or still cannot be read.
    pub fn follow<T, E>(&self, read: impl FnOnce() -> Result<T, E>) -> Result<Option<T>, E> {
        self.follow_at(Instant::now(), read)
    }

    fn follow_at<T, E>(
        &self,
        at: Instant,
        read: impl FnOnce() -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        let now = Seen::of(&self.files);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.read == now {
            return Ok(None);
        }
        let failed = state.failed.as_ref().filter(|(seen, _)| *seen == now);
        let was_told = failed.is_some();
        if failed.is_some_and(|(_, tried)| at.duration_since(*tried) < PAUSE) {
            return Ok(None);
        }
        match read() {
            Ok(value) => {
                *state = State {
                    read: now,
                    failed: None,
                };
                Ok(Some(value))
            }
            Err(error) => {
                state.failed = Some((now, at));
                if was_told { Ok(None) } else { Err(error) }
            }
        }
    }
}

/// How files were when they were looked at: whether they are others now is seen without reading them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen(Vec<Option<(u64, u64, SystemTime)>>);

impl Seen {
    fn of(files: &[PathBuf]) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let look = |file: &PathBuf| {
            let found = std::fs::metadata(file).ok()?;
            Some((found.ino(), found.len(), found.modified().ok()?))
        };
        Self(files.iter().map(look).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_read_for_a_moment_is_read_soon_after_and_told_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("revoked");
        std::fs::write(&file, "1").expect("written");
        let text = || std::fs::read_to_string(&file);
        let (followed, first) = Followed::read(vec![file.clone()], text).expect("readable");
        let start = Instant::now();
        assert_eq!(first, "1");
        assert_eq!(followed.follow_at(start, text).expect("readable"), None);
        std::fs::write(&file, "12").expect("written");
        let no_room = || Err("too many open files");
        let failed: Result<Option<String>, _> = followed.follow_at(start, no_room);
        assert_eq!(failed, Err("too many open files"));
        let soon = followed
            .follow_at(start + PAUSE / 2, text)
            .expect("no error");
        assert_eq!(soon, None, "nobody reads it for each call");
        let again: Result<Option<String>, _> = followed.follow_at(start + PAUSE, no_room);
        assert_eq!(again, Ok(None), "it was told");
        let later = followed
            .follow_at(start + PAUSE * 2, text)
            .expect("readable");
        assert_eq!(later.as_deref(), Some("12"));
        let none = followed
            .follow_at(start + PAUSE * 3, text)
            .expect("no error");
        assert_eq!(none, None);
    }

    #[test]
    fn another_change_is_looked_at_without_a_pause() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("tokens");
        let text = || std::fs::read_to_string(&file);
        let (followed, ()) = Followed::read(vec![file.clone()], || Ok::<_, ()>(())).expect("none");
        std::fs::write(&file, "x").expect("written");
        let start = Instant::now();
        let failed: Result<Option<()>, _> = followed.follow_at(start, || Err("malformed"));
        assert!(failed.is_err());
        std::fs::write(&file, "mended").expect("written");
        let read = followed.follow_at(start, text).expect("readable");
        assert_eq!(read.as_deref(), Some("mended"));
    }
}
