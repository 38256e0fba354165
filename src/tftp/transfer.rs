//! One transfer, as a state machine (RFC 1350 §4, RFC 7440 §4). In: what the client sends, or that the deadline has passed, and
//! the time. Out: what to send, as a range of blocks; the next deadline; and how it ended.
//!
//! A DATA packet is sent because something new was acknowledged, or because nothing was in time, and never because an
//! acknowledgement came twice (RFC 1123 §4.2.3.1, the Sorcerer's Apprentice). Windows need one exception: the client of
//! RFC 7440 that misses a block repeats its last acknowledgement. That is followed once for each block it stops at, and not
//! sooner than a round trip after the window went out, when it can be nothing but a copy.

use std::time::Duration;

use super::packet::ClientError;
use super::patience::Patience;
use super::terms::Terms;
use crate::model::Ended;

/// How long any transfer may take, and how much longer for a file of some length: a client that acknowledges a block now and
/// then does not hold its place for ever.
const LIFE: Duration = Duration::from_secs(600);
const SLOWEST: u64 = 8 << 10; // octets a second

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until a packet or the deadline.
    Wait,
    /// The OACK.
    SendOptions,
    SendBlocks(Blocks),
    End(Ended),
}

/// Blocks in a row, the first of a file being 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    pub first: u64,
    pub count: u64,
}

/// A file on its way to a client. Time is counted from any moment, as long as it is always the same.
#[derive(Clone, Debug)]
pub struct Transfer {
    length: u64,
    block_size: u64,
    window: u64,
    has_options: bool,
    asked_size: bool,
    /// The OACK has not been acknowledged.
    is_opening: bool,
    /// The last block that was acknowledged, and the last that was sent.
    acked: u64,
    sent: u64,
    last: u64,
    sent_at: Duration,
    /// Some of what is in flight was sent before: an answer says nothing of the round trip (Karn).
    is_resent: bool,
    /// The client's repeated acknowledgement of `acked` was followed.
    went_back: bool,
    patience: Patience,
    heard_at: Duration,
    deadline: Duration,
    dies_at: Duration,
}

impl Transfer {
    /// A transfer of a file of `length` octets. Call `start` next.
    pub fn new(terms: &Terms, length: u64, now: Duration) -> Self {
        let block_size = u64::from(terms.block_size);
        let has_options = !terms.answer.is_empty();
        Self {
            length,
            block_size,
            window: u64::from(terms.window),
            has_options,
            asked_size: terms.answer.iter().any(|(name, _)| *name == "tsize"),
            is_opening: has_options,
            acked: 0,
            sent: 0,
            // RFC 1350 §6: a block shorter than the others, if need be an empty one, says that it is the last.
            last: length / block_size + 1,
            sent_at: now,
            is_resent: false,
            went_back: false,
            patience: Patience::new(terms.timeout),
            heard_at: now,
            deadline: now,
            dies_at: now + LIFE + Duration::from_secs(length / SLOWEST),
        }
    }

    /// The first answer.
    pub fn start(&mut self, now: Duration) -> Step {
        self.send(now)
    }

    /// When to call `time_out`, if nothing comes before.
    pub fn deadline(&self) -> Duration {
        self.deadline.min(self.dies_at)
    }

    /// Octets that the client has acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.length.min(self.acked * self.block_size)
    }

    /// The client's ACK.
    pub fn ack(&mut self, block: u16, now: Duration) -> Step {
        // RFC 1350 counts to 65,535; what follows is 0. A window is far shorter, so only one block can be meant.
        let new = u64::from(block.wrapping_sub(self.acked as u16));
        if self.is_opening {
            if block != 0 {
                return Step::Wait;
            }
            self.is_opening = false;
            self.progress(now, true);
            return self.send(now);
        }
        if new > self.sent - self.acked {
            return Step::Wait; // an old one, or of another world
        }
        if new == 0 {
            return self.repeated_ack(now);
        }
        let is_whole_window = self.acked + new == self.sent;
        self.acked += new;
        self.progress(now, is_whole_window);
        if self.acked == self.last {
            return Step::End(Ended::Complete);
        }
        self.send(now)
    }

    fn repeated_ack(&mut self, now: Duration) -> Step {
        let round_trip = self.patience.round_trip().unwrap_or_default();
        let is_too_soon = now.saturating_sub(self.sent_at) < round_trip / 2;
        if self.window == 1 || self.went_back || is_too_soon {
            return Step::Wait;
        }
        self.went_back = true;
        self.is_resent = true;
        self.send(now)
    }

    /// The client's ERROR. It ends the transfer.
    pub fn error(&self, error: ClientError) -> Step {
        // UEFI asks for a file's size, stops the transfer with ERROR 8, and asks for the file.
        if self.is_opening && self.asked_size {
            return Step::End(Ended::SizeAsked);
        }
        Step::End(Ended::Aborted {
            code: error.code,
            text: error.text,
        })
    }

    /// The client asked for the same again, from the same port. Before it has heard from us, that is a packet that was lost or
    /// late; afterwards, a client that starts anew.
    pub fn asked_again(&mut self, now: Duration) -> Step {
        if self.acked > 0 || (self.has_options && !self.is_opening) {
            return Step::End(Ended::Replaced);
        }
        self.is_resent = true;
        self.send(now)
    }

    /// The deadline may have passed.
    pub fn time_out(&mut self, now: Duration) -> Step {
        if now < self.deadline() {
            return Step::Wait;
        }
        let silence = now.saturating_sub(self.heard_at);
        if now >= self.dies_at || !self.patience.timed_out(silence) {
            return Step::End(Ended::TimedOut);
        }
        self.is_resent = true;
        self.went_back = false;
        self.send(now)
    }

    /// Something new was acknowledged: all that was in flight, or less because a block was lost.
    fn progress(&mut self, now: Duration, is_whole_window: bool) {
        let took = now.saturating_sub(self.sent_at);
        self.patience.answered((!self.is_resent).then_some(took));
        self.heard_at = now;
        self.is_resent = !is_whole_window;
        self.went_back = !is_whole_window;
    }

    /// The OACK, or the window that follows what was acknowledged.
    fn send(&mut self, now: Duration) -> Step {
        self.sent_at = now;
        self.deadline = now + self.patience.time_out();
        if self.is_opening {
            return Step::SendOptions;
        }
        self.sent = self.last.min(self.acked + self.window);
        Step::SendBlocks(Blocks {
            first: self.acked + 1,
            count: self.sent - self.acked,
        })
    }
}

#[cfg(test)]
mod tests;
