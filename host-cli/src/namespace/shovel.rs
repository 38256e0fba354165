//! Frames between the interface's cable and a port of the switch, until the process ends.
//!
//! Towards the switch nothing is dropped while the switch runs: what it has no room for waits in the kernel's queue of the
//! interface, as on any network card.

use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::network::Cable;
use crate::switch::dgram::{Batch, Link, Refusal};
use crate::switch::frame::FRAME_MAX;
use crate::switch::names;
use crate::switch::poll::Poll;

/// Frames that are read from the cable at once.
const READ_MAX: usize = 32;
/// How often a busy switch is tried that cannot say when it has room.
const RETRY: Duration = Duration::from_millis(1);

/// What has gone through.
#[derive(Debug, Default)]
pub struct Counters {
    pub to_switch: AtomicU64,
    pub from_switch: AtomicU64,
    /// Because no switch runs, or the interface refuses them.
    pub dropped: AtomicU64,
}

pub struct Shovel {
    cable: Cable,
    link: Link,
    /// Read from the cable and not yet taken by the switch.
    waiting: Vec<Box<[u8]>>,
    counters: Arc<Counters>,
}

impl Shovel {
    /// At the provisioner's port of the switch in this directory.
    pub fn new(run: &Path, cable: Cable, counters: Arc<Counters>) -> io::Result<Self> {
        let id = names::port_id(names::PROVISIONER);
        let link = Link::bind(names::machine_side(run, &id), names::switch_side(run, &id))?;
        Ok(Self {
            cable,
            link,
            waiting: Vec::new(),
            counters,
        })
    }

    /// Runs until waiting itself fails.
    pub fn run(mut self) -> io::Error {
        let mut poll = Poll::default();
        let mut batch = Batch::default();
        let mut room = vec![0; FRAME_MAX + 1];
        loop {
            if let Err(error) = self.turn(&mut poll, &mut batch, &mut room) {
                return error;
            }
        }
    }

    fn turn(&mut self, poll: &mut Poll, batch: &mut Batch, room: &mut [u8]) -> io::Result<()> {
        poll.clear();
        let from_switch = poll.read(self.link.raw(), false);
        let mut limit = None;
        let from_cable = match self.waiting.is_empty() {
            true => poll.read(self.cable.fd.as_raw_fd(), false),
            false => match self.link.room() {
                Some(fd) => poll.room(fd.as_raw_fd()),
                None => {
                    limit = Some(RETRY);
                    from_switch
                }
            },
        };
        poll.wait(limit)?;
        if poll.happened(from_switch) {
            self.pass_in(batch)?;
        }
        if !self.waiting.is_empty() {
            self.pass_out();
        } else if poll.happened(from_cable) {
            self.read_cable(room);
            self.pass_out();
        }
        Ok(())
    }

    fn pass_in(&mut self, batch: &mut Batch) -> io::Result<()> {
        self.link.receive(batch)?;
        for frame in batch.frames() {
            // SAFETY: the descriptor is open, and the frame is as long as is said.
            let written = unsafe {
                libc::write(
                    self.cable.fd.as_raw_fd(),
                    frame.as_ptr().cast(),
                    frame.len(),
                )
            };
            let counter = match written {
                ..0 => &self.counters.dropped,
                _ => &self.counters.from_switch,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn read_cable(&mut self, room: &mut [u8]) {
        while self.waiting.len() < READ_MAX {
            // SAFETY: the descriptor is open, and the buffer is as long as is said.
            let length = unsafe {
                libc::read(
                    self.cable.fd.as_raw_fd(),
                    room.as_mut_ptr().cast(),
                    room.len(),
                )
            };
            match usize::try_from(length) {
                Ok(length) if length > 0 => self.waiting.push(room[..length].into()),
                _ => break,
            }
        }
    }

    fn pass_out(&mut self) {
        let (sent, refused) = self.link.send(self.waiting.iter().map(|frame| &**frame));
        self.waiting.drain(..sent);
        self.counters
            .to_switch
            .fetch_add(sent as u64, Ordering::Relaxed);
        let lost = match refused {
            None | Some(Refusal::Busy) => 0,
            Some(Refusal::Absent) => self.waiting.len(),
            Some(Refusal::Other) => 1,
        };
        if lost > 0 {
            self.link.forget_probe();
        }
        self.waiting.drain(..lost);
        self.counters
            .dropped
            .fetch_add(lost as u64, Ordering::Relaxed);
    }
}
