//! Takes connections. In: sockets that listen. Out: one stream of the connections of all of them, until the service stops.

use std::io;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::listen::Bound;
use crate::model::Event;
use crate::observe::emit;

/// Connections that were taken and are not yet served.
const WAITING: usize = 64;

/// Connections, as tonic wants them.
pub(super) type Connections = ReceiverStream<io::Result<Connection>>;

/// Takes connections from all of them until `stop`; then the sockets are closed.
pub(super) fn accept(sockets: Vec<Bound>, stop: &CancellationToken) -> Connections {
    let (taken, connections) = mpsc::channel(WAITING);
    for socket in sockets {
        let (taken, stop) = (taken.clone(), stop.clone());
        tokio::spawn(async move {
            stop.run_until_cancelled(keep_accepting(&socket, &taken))
                .await;
        });
    }
    ReceiverStream::new(connections)
}

async fn keep_accepting(socket: &Bound, taken: &mpsc::Sender<io::Result<Connection>>) {
    loop {
        match next(socket).await {
            Ok(connection) => {
                if taken.send(Ok(connection)).await.is_err() {
                    return;
                }
            }
            Err(error) => pause_after(&error).await,
        }
    }
}

async fn next(socket: &Bound) -> io::Result<Connection> {
    match socket {
        Bound::Tcp(listener) => Connection::tcp(listener.accept().await?.0),
        Bound::Unix(listener, _) => Ok(Connection::unix(listener.accept().await?.0)),
    }
}

/// Out of file descriptors, most likely: what runs will free some.
async fn pause_after(error: &io::Error) {
    let of_one_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::InvalidInput
    );
    if !of_one_connection {
        emit(&Event::Failed {
            about: "grpc",
            error: format!("cannot accept a connection: {error}"),
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
