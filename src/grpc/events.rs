//! The stream of what happens. In: whose events, and the last one that is known. Out: those after it, and each that follows, none
//! twice and none left out that is still kept: a reader that is slow reads what it missed out of what is kept.

use bootjack_api::v1;
use bootjack_api::v1::event::Kind as Word;
use tokio::sync::mpsc;
use tonic::Status;

use super::values::time_ms;
use crate::model::{Entry, Kind, Subject};
use crate::observe::timeline::Timeline;

/// How many are read at once.
const CHUNK: usize = 256;

/// One stream.
pub(super) struct Watch {
    pub(super) timeline: Timeline,
    pub(super) subject: Option<Subject>,
    /// The sequence number of the last event that is known.
    pub(super) after: u64,
    pub(super) follow: bool,
}

impl Watch {
    /// Sends until nobody listens any more, or until there is no more and none is waited for.
    pub(super) async fn send_to(
        mut self,
        to: mpsc::Sender<Result<v1::WatchEventsResponse, Status>>,
    ) {
        let mut last = self.timeline.last();
        loop {
            last.borrow_and_update();
            loop {
                let entries = self
                    .timeline
                    .since(self.after, self.subject.as_ref(), CHUNK);
                if entries.is_empty() {
                    break;
                }
                for entry in entries {
                    self.after = entry.sequence;
                    if to.send(Ok(to_message(&entry))).await.is_err() {
                        return;
                    }
                }
            }
            if !self.follow {
                return;
            }
            tokio::select! {
                () = to.closed() => return,
                changed = last.changed() => if changed.is_err() {
                    return;
                },
            }
        }
    }
}

fn to_message(entry: &Entry) -> v1::WatchEventsResponse {
    let event = v1::Event {
        name: entry.subject.to_string(),
        event_time: Some(time_ms(entry.at_ms)),
        attempt: entry.attempt,
        kind: word(entry.kind).into(),
        what: entry.what.clone(),
        detail: entry.detail.clone(),
        bytes: entry.bytes,
        elapsed_ms: entry.elapsed_ms,
        count: entry.count,
        last_time: Some(time_ms(entry.until_ms())),
    };
    v1::WatchEventsResponse {
        event: Some(event),
        resume_token: entry.sequence.to_string(),
    }
}

fn word(kind: Kind) -> Word {
    match kind {
        Kind::Offer => Word::Offer,
        Kind::Ack => Word::Ack,
        Kind::Nak => Word::Nak,
        Kind::Silent => Word::Silent,
        Kind::NotSent => Word::NotSent,
        Kind::Program => Word::Program,
        Kind::Script => Word::Script,
        Kind::Kernel => Word::Kernel,
        Kind::Initrd => Word::Initrd,
        Kind::File => Word::File,
        Kind::Document => Word::Document,
        Kind::NotRendered => Word::NotRendered,
        Kind::Refused => Word::Refused,
        Kind::CallBack => Word::CallBack,
        Kind::Lifecycle => Word::Lifecycle,
        Kind::Reserved => Word::Reserved,
        Kind::Stalled => Word::Stalled,
    }
}
