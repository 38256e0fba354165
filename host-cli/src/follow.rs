//! Streams that are told to their end. In: how a stream is begun, from the start or behind a message. Out: each of its messages once,
//! also when bootjackd goes away meanwhile and comes back.

use std::time::Duration;

use tonic::{Code, Response, Status, Streaming};

use crate::client::{self, Connection, Server};
use crate::exit::Failure;

/// A service that is starting again is back within seconds.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a message says of where its stream is.
pub struct Watched {
    /// The stream goes on behind this; empty: it cannot yet.
    pub resume_token: String,
}

/// Tells every message until the server refuses or ends the stream. Who is not there at the start is told; who goes away
/// meanwhile is waited for.
pub async fn run<T>(
    server: &Server,
    mut resume_token: String,
    begin: impl AsyncFn(Connection, String) -> Result<Response<Streaming<T>>, Status>,
    mut tell: impl FnMut(T) -> Result<Watched, Failure>,
) -> Result<(), Failure> {
    let mut channel = client::channel(server).await?;
    loop {
        let ended = match begin(channel.clone(), resume_token.clone()).await {
            Err(status) => status,
            Ok(stream) => {
                let mut stream = stream.into_inner();
                loop {
                    match stream.message().await {
                        Ok(Some(message)) => {
                            let watched = tell(message)?;
                            if !watched.resume_token.is_empty() {
                                resume_token = watched.resume_token;
                            }
                        }
                        Ok(None) => break Status::unavailable("the stream has ended"),
                        Err(status) => break status,
                    }
                }
            }
        };
        if !is_gone(&ended) {
            return Err(client::refused(server, &ended));
        }
        tokio::time::sleep(AGAIN_AFTER).await;
        if let Ok(again) = client::channel(server).await {
            channel = again;
        }
    }
}

/// Whether the server went away, and not its answer was no.
pub fn is_gone(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Cancelled | Code::Unknown
    )
}
