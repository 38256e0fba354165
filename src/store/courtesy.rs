//! Work in the background that lets those who wait for the disk go first. In: that somebody wrote, and that a piece of the work
//! is done. Out: a pause as long as the piece took, if somebody wrote meanwhile.
//!
//! A disk that is told to sync writes what everybody has given it. So the work is done in small pieces, each synced by itself:
//! a write waits for one of them at most. Where the work cannot keep up with what is written, it no longer pauses.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;
use rustix::thread::gettid;

/// Between the pieces of a file.
pub(super) const PIECE: usize = 64 << 10;
/// A disk that is slow for other reasons stops nothing.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// As `nice` has it.
const PRIORITY: i32 = 10;

/// What the writing thread tells of itself.
#[derive(Debug, Default)]
pub(super) struct Courtesy {
    writes: AtomicU64,
    is_behind: AtomicBool,
}

impl Courtesy {
    /// Something was written; the work is behind if it must no longer pause.
    pub(super) fn wrote(&self, is_behind: bool) {
        self.is_behind.store(is_behind, Ordering::Relaxed);
        self.writes.fetch_add(1, Ordering::Relaxed);
    }
}

/// The pace of one who works in the background, or of one for whom nobody waits.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    courtesy: Option<Arc<Courtesy>>,
    seen: u64,
    begun: Option<Instant>,
}

impl Pace {
    /// That of a thread of its own, which has what the others leave of the processors, too.
    pub(super) fn of_background(courtesy: Arc<Courtesy>) -> Self {
        // Where it is forbidden, the work is done all the same.
        let _ = setpriority_process(Some(gettid()), PRIORITY);
        Self {
            courtesy: Some(courtesy),
            ..Self::default()
        }
    }

    /// Whether somebody wrote since the last piece, and wants to be let go first.
    fn is_asked_for(&mut self) -> bool {
        let Some(courtesy) = &self.courtesy else {
            return false;
        };
        let writes = courtesy.writes.load(Ordering::Relaxed);
        std::mem::replace(&mut self.seen, writes) != writes
            && !courtesy.is_behind.load(Ordering::Relaxed)
    }

    /// A piece is done: if it is asked for, syncs it and pauses.
    pub(super) fn piece<E>(&mut self, sync: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let begun = self.begun;
        if self.is_asked_for() {
            sync()?;
            let took = begun.map_or(Duration::ZERO, |begun| begun.elapsed());
            std::thread::park_timeout(took.min(LONGEST_PAUSE));
        }
        self.begun = Some(Instant::now());
        Ok(())
    }
}

/// A file that is read or written in pieces.
#[derive(Debug)]
pub(super) struct Paced {
    pub(super) file: File,
    pace: Pace,
    in_piece: usize,
}

impl Paced {
    pub(super) fn new(file: File, pace: Pace) -> Self {
        Self {
            file,
            pace,
            in_piece: 0,
        }
    }

    fn passed(&mut self, octets: usize, is_written: bool) -> io::Result<()> {
        self.in_piece += octets;
        if self.in_piece < PIECE {
            return Ok(());
        }
        self.in_piece = 0;
        let file = &self.file;
        self.pace.piece(|| match is_written {
            true => file.sync_data(),
            false => Ok(()),
        })
    }
}

impl Write for Paced {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let written = self.file.write(octets)?;
        self.passed(written, true)?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Read for Paced {
    fn read(&mut self, octets: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(octets)?;
        self.passed(read, false)?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a piece that is done now is synced by itself.
    fn is_synced(pace: &mut Pace) -> bool {
        let mut synced = false;
        let done: Result<(), ()> = pace.piece(|| {
            synced = true;
            Ok(())
        });
        assert!(done.is_ok());
        synced
    }

    #[test]
    fn who_writes_meanwhile_goes_first_unless_the_work_is_behind() {
        let courtesy = Arc::new(Courtesy::default());
        let mut pace = Pace::of_background(courtesy.clone());
        assert!(!is_synced(&mut pace), "nobody wrote");
        courtesy.wrote(false);
        assert!(is_synced(&mut pace));
        assert!(!is_synced(&mut pace), "nobody wrote since");
        courtesy.wrote(true);
        assert!(!is_synced(&mut pace), "the work is behind");
        courtesy.wrote(false);
        assert!(!is_synced(&mut Pace::default()), "nobody waits for it");
    }

    #[test]
    fn what_is_written_in_pieces_is_what_is_read_in_pieces() {
        let courtesy = Arc::new(Courtesy::default());
        let pace = Pace::of_background(courtesy.clone());
        let file = tempfile::tempfile().expect("a file");
        let mut paced = Paced::new(file, pace.clone());
        let octets: Vec<u8> = (0..PIECE * 3).map(|at| at.to_le_bytes()[0]).collect();
        for part in octets.chunks(1000) {
            courtesy.wrote(false);
            paced.write_all(part).expect("is written");
        }
        std::io::Seek::rewind(&mut paced.file).expect("is rewound");
        let mut read = Vec::new();
        Paced::new(paced.file, pace)
            .read_to_end(&mut read)
            .expect("is read");
        assert!(read == octets);
    }
}
