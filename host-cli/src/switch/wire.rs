//! A port with its socket: what cannot leave at once waits in its queue.

use std::time::{Duration, Instant};

use super::bridge::Port;
use super::dgram::{Link, Refusal};
use super::poll::{Poll, Token};
use super::queue::Queue;

pub struct Wire {
    pub id: String,
    pub name: String,
    pub link: Link,
    /// How often the machine was found with no room.
    pub busy: u64,
    queue: Queue,
    /// What is waited for in this turn.
    wait: Wait,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Wait {
    /// For nothing but the time.
    Time,
    /// The machine had no room and will say when.
    Room(Token),
    /// The machine had no room and cannot say when.
    Retry,
}

impl Wire {
    pub fn new(id: &str, name: &str, link: Link) -> Self {
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            link,
            busy: 0,
            queue: Queue::default(),
            wait: Wait::Time,
        }
    }

    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Sends frames to the machine, behind those that wait.
    pub fn send(&mut self, now: Instant, port: &mut Port, frames: &[&[u8]]) {
        let delay = port.impairment.delay;
        let mut rest = frames;
        if self.queue.is_empty() && delay.is_zero() {
            while !rest.is_empty() {
                let (sent, refused) = self.link.send(rest.iter().copied());
                count_sent(port, &rest[..sent]);
                rest = &rest[sent..];
                match refused {
                    None => {}
                    Some(Refusal::Busy) => {
                        self.busy += 1;
                        break;
                    }
                    Some(Refusal::Absent) => {
                        port.counters.dropped.absent += rest.len() as u64;
                        self.link.forget_probe();
                        return;
                    }
                    Some(Refusal::Other) => {
                        port.counters.dropped.refused += 1;
                        rest = rest.get(1..).unwrap_or_default();
                    }
                }
            }
        }
        for frame in rest {
            if !self.queue.push(now + delay, frame) {
                port.counters.dropped.full += 1;
            }
        }
    }

    /// Has the loop wait for the machine's room, if frames are due that it did not take.
    pub fn await_room(&mut self, now: Instant, poll: &mut Poll) {
        let is_due = self.queue.next_due().is_some_and(|due| due <= now);
        self.wait = match is_due {
            false => Wait::Time,
            true => match self.link.room() {
                Some(room) => Wait::Room(poll.room(std::os::fd::AsRawFd::as_raw_fd(&room))),
                None => Wait::Retry,
            },
        };
    }

    /// How long this wire has nothing to do that no descriptor tells about.
    pub fn patience(&self, now: Instant, retry: Duration) -> Option<Duration> {
        match self.wait {
            Wait::Room(_) => None,
            Wait::Retry => Some(retry),
            Wait::Time => {
                let due = self.queue.next_due()?;
                Some(due.saturating_duration_since(now))
            }
        }
    }

    /// Sends what waits, as far as it is due and there is room.
    pub fn send_waiting(&mut self, now: Instant, port: &mut Port, poll: &Poll) {
        if matches!(self.wait, Wait::Room(token) if !poll.happened(token)) {
            return;
        }
        loop {
            let due: Vec<&[u8]> = self.queue.due(now).collect();
            if due.is_empty() {
                return;
            }
            let (sent, refused) = self.link.send(due.iter().copied());
            count_sent(port, &due[..sent]);
            self.queue.take(sent);
            match refused {
                None => return,
                Some(Refusal::Busy) => {
                    self.busy += 1;
                    return;
                }
                Some(Refusal::Absent) => {
                    port.counters.dropped.absent += self.queue.clear() as u64;
                    self.link.forget_probe();
                    return;
                }
                Some(Refusal::Other) => {
                    port.counters.dropped.refused += 1;
                    self.queue.take(1);
                }
            }
        }
    }
}

fn count_sent(port: &mut Port, frames: &[&[u8]]) {
    let octets: usize = frames.iter().map(|frame| frame.len()).sum();
    port.counters.sent_frames += frames.len() as u64;
    port.counters.sent_octets += octets as u64;
}
