//! Takes connections. In: sockets that listen. Out: one stream of the connections of all of them, until the service stops. It
//! refuses those of an address that has enough of them, and those that do not finish their handshake.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::access::identity::Credential;
use super::access::rate::Rate;
use super::access::register::Register;
use super::access::tls::{Tls, chain_of};
use super::access::visitors::{Visit, Visitors};
use super::connection::{Connection, Via};
use super::listen::Bound;
use crate::model::Event;
use crate::net::now_secs;
use crate::observe::emit;

/// Connections that were taken and are not yet served.
const WAITING: usize = 64;
/// A client that takes nothing for so long is gone.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Connections, as tonic wants them.
pub(super) type Connections = ReceiverStream<io::Result<Connection>>;

/// The door: whom it has let in, and how it is seen who they are.
#[derive(Clone)]
pub(crate) struct Door {
    pub(super) visitors: Visitors,
    /// None where nothing but this machine can come in.
    pub(super) tls: Option<Tls>,
    pub(super) register: Option<Arc<Register>>,
    /// How many of them the log tells of.
    pub(super) turned_away: Arc<Rate>,
}

/// Takes connections from all of them until `stop`; then the sockets are closed.
pub(super) fn accept(sockets: Vec<Bound>, door: &Door, stop: &CancellationToken) -> Connections {
    let (taken, connections) = mpsc::channel(WAITING);
    for socket in sockets {
        let (door, taken) = (door.clone(), Taken(taken.clone()));
        let stop = stop.clone();
        tokio::spawn(async move {
            let accepting = async {
                match &socket {
                    Bound::Unix(listener, _) => door.take_unix(listener, &taken).await,
                    Bound::Tcp(listener) => door.take_tcp(listener, false, &taken).await,
                    Bound::Tls(listener) => door.take_tcp(listener, true, &taken).await,
                }
            };
            stop.run_until_cancelled(accepting).await;
        });
    }
    ReceiverStream::new(connections)
}

/// Where connections go to be served.
#[derive(Clone)]
struct Taken(mpsc::Sender<io::Result<Connection>>);

impl Taken {
    async fn give(&self, connection: Connection) {
        // Nobody serves any more: the service stops.
        let _ = self.0.send(Ok(connection)).await;
    }
}

impl Door {
    async fn take_unix(&self, listener: &UnixListener, taken: &Taken) {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    pause_after(&error).await;
                    continue;
                }
            };
            // A process that is gone already has left nobody to answer.
            let Ok(credentials) = stream.peer_cred() else {
                continue;
            };
            let via = Via::Unix {
                uid: credentials.uid(),
                pid: credentials.pid(),
            };
            let visit = self.visitors.welcome();
            taken
                .give(Connection::new(Box::new(stream), via, visit))
                .await;
        }
    }

    async fn take_tcp(&self, listener: &TcpListener, is_secure: bool, taken: &Taken) {
        loop {
            let (stream, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    pause_after(&error).await;
                    continue;
                }
            };
            let address = from.ip().to_canonical();
            let Some(visit) = self.visitors.enter(address) else {
                self.turn_away(from, "TOO_MANY_CONNECTIONS");
                continue;
            };
            // A connection that is gone already cannot be prepared.
            if prepare(&stream).is_err() {
                continue;
            }
            if !is_secure {
                let visit = match self.register {
                    Some(_) => visit,
                    // Everybody on this machine is known.
                    None => self.visitors.welcome(),
                };
                let connection = Connection::new(Box::new(stream), Via::Plain(from), visit);
                taken.give(connection).await;
                continue;
            }
            let (door, taken) = (self.clone(), taken.clone());
            // Nobody waits for somebody else's handshake.
            tokio::spawn(async move {
                match door.shake_hands(stream, &visit).await {
                    Ok((stream, via)) => {
                        taken.give(Connection::new(stream, via, visit)).await;
                    }
                    Err(_) => door.turn_away(from, "NO_HANDSHAKE"),
                }
            });
        }
    }

    async fn shake_hands(
        &self,
        stream: TcpStream,
        visit: &Arc<Visit>,
    ) -> io::Result<(Box<dyn super::connection::Octets>, Via)> {
        let (Some(tls), Some(register)) = (&self.tls, &self.register) else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let from = stream.peer_addr()?;
        let stream = tokio::select! {
            shaken = tls.accept(stream) => shaken?,
            () = visit.clone().until_over() => return Err(io::ErrorKind::ConnectionAborted.into()),
        };
        let chain = chain_of(&stream).filter(|chain| !chain.is_empty());
        let certified = chain.map(|chain| register.certified(chain, now_secs()));
        if let Some(Ok(certified)) = &certified
            && register.confirm(certified, now_secs()).is_ok()
        {
            // No stranger; whether there is room is said when it calls.
            visit.is_known_by(Some(&Credential::Certificate(certified.clone())));
        }
        Ok((Box::new(stream), Via::Tls(from, certified)))
    }

    /// Of an address that comes too often only the count goes on: strangers do not fill the log.
    fn turn_away(&self, from: SocketAddr, reason: &'static str) {
        let whose = from.ip().to_canonical().to_string();
        emit(&Event::CallRefused {
            who: "stranger".to_owned(),
            from: from.to_string(),
            method: String::new(),
            reason,
            is_flood: self.turned_away.take(&whose, Instant::now()).is_err(),
        });
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    // Nagle's algorithm would hold each small answer back for 40 ms.
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(STALL_TIMEOUT))
}

/// Out of file descriptors, most likely: what runs will free some.
async fn pause_after(error: &io::Error) {
    let of_one_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    );
    if !of_one_connection {
        emit(&Event::Failed {
            about: "grpc",
            error: format!("cannot accept a connection: {error}"),
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
