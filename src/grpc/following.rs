//! What the streams of changes have in common. In: a feed of the store, and how far the reader knows it. Out: the changes since, as
//! they come; a reader that is slower than what is remembered is told so, and its stream ends.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::errors::{invalid, refused};
use crate::store::feed::Ring;

/// How many are read at once.
const CHUNK: usize = 256;

/// Where messages go.
pub(super) type To<M> = mpsc::Sender<Result<M, Status>>;

/// Nobody reads any more, or there is nothing more to say.
pub(super) struct Gone;

/// A stream that `sends` fills, `waiting` messages ahead of its reader, until that is done or gone, or until `stop`.
pub(super) fn stream<M, F>(
    waiting: usize,
    stop: CancellationToken,
    sends: impl FnOnce(To<M>) -> F,
) -> ReceiverStream<Result<M, Status>>
where
    M: Send + 'static,
    F: Future<Output = Result<(), Gone>> + Send + 'static,
{
    let (to, stream) = mpsc::channel(waiting);
    let sends = sends(to);
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            _ = sends => {}
        }
    });
    ReceiverStream::new(stream)
}

pub(super) async fn send<M>(to: &To<M>, message: M) -> Result<(), Gone> {
    to.send(Ok(message)).await.map_err(|_| Gone)
}

/// The changes after this position, each with its own; waits for the next one. `last` is of the same feed.
pub(super) async fn next<T, M>(
    ring: &Ring<T>,
    position: u64,
    last: &mut watch::Receiver<u64>,
    to: &To<M>,
) -> Result<Vec<(u64, Arc<T>)>, Gone> {
    loop {
        last.borrow_and_update();
        let Ok(notes) = ring.since(position, CHUNK) else {
            let why = "the reader is slower than what happens is remembered";
            let _ = to.send(Err(too_old(why))).await;
            return Err(Gone);
        };
        if !notes.is_empty() {
            return Ok(notes);
        }
        tokio::select! {
            () = to.closed() => return Err(Gone),
            changed = last.changed() => changed.map_err(|_| Gone)?,
        }
    }
}

/// OUT_OF_RANGE: what a token asks for is no longer remembered.
pub(super) fn too_old(why: &str) -> Status {
    let text = format!("{why}; list again, then watch from the list's resume_token");
    refused(tonic::Code::OutOfRange, "RESUME_TOKEN_TOO_OLD", &[], &text)
}

/// INVALID_ARGUMENT: the token is none of ours.
fn foreign(token: &str) -> Status {
    let token: String = token.chars().take(80).collect();
    let text = format!(
        "resume_token `{}` was not made by this server",
        token.escape_default()
    );
    invalid("resume_token", &text)
}

/// The number and the rest of a token such as `17.ab12cd34`.
pub(super) fn parts(token: &str) -> Result<(u64, &str), Status> {
    let parts = token.split_once('.');
    let is_origin = |word: &str| word.len() == 8 && word.bytes().all(|b| b.is_ascii_hexdigit());
    match parts.map(|(number, origin)| (number.parse(), origin)) {
        Some((Ok(number), origin)) if is_origin(origin) => Ok((number, origin)),
        _ => Err(foreign(token)),
    }
}
