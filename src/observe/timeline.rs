//! Timelines: what happened to each machine, remembered in bounds and kept over restarts. In: events, from wherever they happen,
//! without anybody waiting: what does not fit the queue is counted and left out. Out: entries, to whoever asks, and word that
//! there are more.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::counter;
use tokio::sync::{mpsc, watch};

use super::budget::{self, Budget};
use super::history::History;
use super::journal::Journal;
use super::notes::{self, About, Note};
use crate::model::{Entry, Event, Kind, Subject};

/// How many events may wait to be written down.
const WAITING: usize = 4096;
/// How many at once say that there is much to write down.
const BUSY: usize = 8;
/// How long events are let gather then.
const PACE: Duration = Duration::from_millis(10);

/// Says whom an event is about, and what a file is to a machine. Asked by the writing thread alone.
pub trait Directory: Send {
    /// Whose timeline it is; none if it is nobody's.
    fn subject_of(&self, about: &About) -> Option<Subject>;

    /// The attempt that runs on this machine; 0 if none does.
    fn attempt_of(&self, subject: &Subject) -> u32;

    /// What a file of this path is to the machine.
    fn kind_of_file(&self, subject: &Subject, path: &str) -> Kind;
}

/// The timelines of this process.
#[derive(Clone)]
pub struct Timeline {
    history: Arc<Mutex<History>>,
    last: watch::Receiver<u64>,
}

/// The writing thread, to be closed when the service stops.
pub struct Writer {
    thread: JoinHandle<()>,
    jobs: mpsc::Sender<Job>,
}

enum Job {
    Note { at_ms: u64, note: Note },
    Close,
}

/// Where `emit` leaves what happens. A second service in one process (a test) has no timeline.
static QUEUE: OnceLock<mpsc::Sender<Job>> = OnceLock::new();

impl Timeline {
    /// Opens the timelines in this directory, and has `emit` add to them.
    pub fn start(dir: &Path, directory: Box<dyn Directory>) -> std::io::Result<(Self, Writer)> {
        let (journal, history) = Journal::open(dir)?;
        let (tell, last) = watch::channel(history.last());
        let history = Arc::new(Mutex::new(history));
        let (jobs, waiting) = mpsc::channel(WAITING);
        let desk = Desk {
            journal,
            history: history.clone(),
            directory,
            tell,
        };
        let thread = std::thread::Builder::new()
            .name("timeline".to_owned())
            .spawn(move || desk.work(waiting))?;
        let _ = QUEUE.set(jobs.clone());
        Ok((Self { history, last }, Writer { thread, jobs }))
    }

    /// What happened after this sequence number, to one subject or to all; `most` of it.
    pub fn since(&self, sequence: u64, subject: Option<&Subject>, most: usize) -> Vec<Arc<Entry>> {
        lock(&self.history).since(sequence, subject, most)
    }

    /// What happened to one subject.
    pub fn of(&self, subject: &Subject) -> Vec<Arc<Entry>> {
        lock(&self.history).of(subject)
    }

    /// Everybody to whom something happened since.
    pub fn subjects_since(&self, at_ms: u64) -> Vec<Subject> {
        lock(&self.history).subjects_since(at_ms)
    }

    /// Changes whenever there is a new entry.
    pub fn last(&self) -> watch::Receiver<u64> {
        self.last.clone()
    }
}

impl Writer {
    /// Writes what waits, and ends. Blocks.
    pub fn close(self) {
        // It fails where the thread is gone already.
        let _ = self.jobs.blocking_send(Job::Close);
        let _ = self.thread.join();
    }
}

/// Leaves an event for the writing thread; nobody waits for it.
pub(super) fn leave(event: &Event) {
    let Some(queue) = QUEUE.get() else {
        return;
    };
    if is_of_another_replica(event) {
        return;
    }
    static OF_MACHINES: Budget = Budget::new();
    static OF_CLIENTS: Budget = Budget::new();
    let at_ms = now_ms();
    let is_noted = if is_of_a_stranger(event) {
        OF_CLIENTS.take(at_ms / 1000, budget::OF_CLIENTS)
    } else {
        OF_MACHINES.take(at_ms / 1000, budget::OF_MACHINES)
    };
    // Room is looked for first: under a flood, making the note would cost more than leaving it out.
    match queue.try_reserve() {
        Ok(room) if is_noted => {
            if let Some(note) = notes::of(event) {
                room.send(Job::Note { at_ms, note });
            }
        }
        _ => counter!("bootjack_timeline_dropped_total").increment(1),
    }
}

/// Whether another replica answers the client: it is noted there.
fn is_of_another_replica(event: &Event) -> bool {
    match event {
        Event::Forwarded { .. } => true,
        Event::Silent { reason, .. } => reason.is_told_elsewhere(),
        _ => false,
    }
}

/// Whether it is about a DHCP client that no reservation knows.
fn is_of_a_stranger(event: &Event) -> bool {
    match event {
        Event::Offered(dhcp)
        | Event::Acked(dhcp)
        | Event::Refused { dhcp, .. }
        | Event::Silent { dhcp, .. }
        | Event::SendFailed { dhcp, .. } => dhcp.machine.is_none(),
        _ => false,
    }
}

/// Unix time in milliseconds.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// What the writing thread has.
struct Desk {
    journal: Journal,
    history: Arc<Mutex<History>>,
    directory: Box<dyn Directory>,
    tell: watch::Sender<u64>,
}

impl Desk {
    fn work(mut self, mut waiting: mpsc::Receiver<Job>) {
        let mut is_well = true;
        while let Some(job) = waiting.blocking_recv() {
            let mut job = Some(job);
            let mut closing = false;
            let mut written_down = 0;
            while let Some(Job::Note { at_ms, note }) = job {
                written_down += 1;
                let written = self.write_down(at_ms, note);
                is_well = said_once(written, is_well);
                job = waiting.try_recv().ok();
                closing = matches!(job, Some(Job::Close));
            }
            is_well = said_once(self.journal.flush(), is_well);
            if closing || matches!(job, Some(Job::Close)) {
                return;
            }
            if written_down >= BUSY {
                // What happens meanwhile wakes nobody up.
                std::thread::park_timeout(PACE);
            }
        }
    }

    fn write_down(&mut self, at_ms: u64, note: Note) -> std::io::Result<()> {
        let Some(subject) = self.directory.subject_of(&note.about) else {
            return Ok(());
        };
        let kind = match note.kind {
            Kind::File => self.directory.kind_of_file(&subject, &note.what),
            kind => kind,
        };
        let running = || self.directory.attempt_of(&subject);
        let attempt = note.attempt.unwrap_or_else(running);
        let entry = Entry {
            sequence: 0,
            at_ms,
            subject,
            attempt,
            kind,
            what: note.what,
            detail: note.detail,
            bytes: note.bytes,
            elapsed_ms: note.elapsed_ms,
            count: 1,
            last_ms: None,
        };
        let mut history = lock(&self.history);
        let noted = history.note(entry);
        // What repeats itself is written ever more seldom.
        let written = if !noted.is_repeat || noted.entry.count.is_power_of_two() {
            self.journal.append(&noted.entry, &history)
        } else {
            Ok(())
        };
        let last = history.last();
        drop(history);
        if !noted.is_repeat {
            self.tell.send_replace(last);
        }
        written
    }
}

/// A full disk is told once, and once more when it fails again after it worked.
fn said_once(written: std::io::Result<()>, was_well: bool) -> bool {
    match written {
        Ok(()) => true,
        Err(error) => {
            if was_well {
                tracing::error!(about = "timeline", error = %error, "failed");
            }
            false
        }
    }
}

fn lock(history: &Mutex<History>) -> MutexGuard<'_, History> {
    history.lock().unwrap_or_else(PoisonError::into_inner)
}
