//! The TFTP shell. In: what comes to the listening port. Out: a session for each client's port. Refuses writes, and more
//! transfers than there are places; ignores what is no request, and requests to broadcast addresses (RFC 1123 §4.2.3.5).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::content::Directories;
use super::packet::{ErrorCode, Packet, Request, error, parse};
pub use super::places::Most;
use super::places::{Admission, Ends, Places};
use super::session::Session;
use crate::model::{Event, Why};
use crate::net::now_secs;
use crate::net::udp::{Received, UdpPort};
use crate::observe::emit;
use crate::store::Store;

/// RFC 2347 has requests of 512 octets at most; longer names are refused by name.
const LONGEST_REQUEST: usize = 1500;

/// What all listening ports share.
#[derive(Clone)]
pub struct Server(Arc<Shared>);

struct Shared {
    directories: Directories,
    places: Arc<Places>,
    store: Store,
    single_port: bool,
}

/// A socket that waits to be served on.
pub struct Bound {
    port: UdpPort,
}

/// Binds an address. On all addresses, answers come from the one that was asked.
pub fn bind(address: SocketAddr) -> io::Result<Bound> {
    let port = UdpPort::listen(address)?;
    Ok(Bound { port })
}

impl Server {
    /// Serves network boot programs and the files of `tftp.root`; with `single_port`, all through the listening port.
    pub fn new(
        programs: &Path,
        root: Option<&Path>,
        most: Most,
        single_port: bool,
        store: Store,
    ) -> Self {
        Self(Arc::new(Shared {
            directories: Directories::new(programs, root),
            places: Places::new(most),
            store,
            single_port,
        }))
    }

    pub(super) fn directories(&self) -> &Directories {
        &self.0.directories
    }

    /// Why this machine gets no file of `tftp.root` now; network boot programs it gets, to be told the rest by its script.
    pub(super) fn bars(&self, parts: &[String], client: IpAddr) -> Option<Why> {
        let why = self.0.store.sent_away(client, now_secs())?;
        (!self.directories().is_program(parts)).then_some(why)
    }

    pub(super) fn single_port(&self) -> bool {
        self.0.single_port
    }

    pub(super) fn machine_at(&self, client: IpAddr) -> Option<String> {
        self.0.store.machine_at(client)
    }
}

impl Bound {
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Serves until `stop`, and then what runs to its end.
    pub async fn serve(self, server: Server, stop: CancellationToken) -> io::Result<()> {
        let mut listener = Listener {
            port: Arc::new(self.port),
            server,
            sessions: JoinSet::new(),
            is_stopping: false,
        };
        let mut buffer = [0; LONGEST_REQUEST];
        while !listener.is_stopping || !listener.sessions.is_empty() {
            let port = listener.port.clone();
            tokio::select! {
                received = port.receive_to(&mut buffer) => match received {
                    Ok(received) => listener.take(received, &buffer[..received.length]).await,
                    Err(error) if is_passing(&error) => {}
                    Err(error) => return Err(error),
                },
                Some(ended) = listener.sessions.join_next() => tell(ended),
                () = stop.cancelled(), if !listener.is_stopping => listener.is_stopping = true,
            }
        }
        Ok(())
    }
}

/// A listening port and the sessions that came by it.
struct Listener {
    port: Arc<UdpPort>,
    server: Server,
    sessions: JoinSet<()>,
    /// No new ones any more.
    is_stopping: bool,
}

impl Listener {
    async fn take(&mut self, received: Received, octets: &[u8]) {
        let Some(local) = received.to else { return };
        let ends = (received.from, local);
        match parse(octets) {
            Packet::Read(request) => self.admit(ends, request).await,
            Packet::Write(request) => {
                let reason = "nothing can be written here".to_owned();
                self.refuse(ends, &request, ErrorCode::AccessViolation, reason)
                    .await;
            }
            Packet::BadRequest => {
                self.tell(ends, ErrorCode::IllegalOperation, "no such request")
                    .await;
            }
            // Transfers have ports of their own: this is nobody's.
            _ if !self.server.single_port() => {}
            packet => {
                let is_ack = matches!(packet, Packet::Ack(_));
                if !self.server.0.places.deliver(ends, packet) && is_ack {
                    self.tell(ends, ErrorCode::UnknownTransfer, "unknown transfer ID")
                        .await;
                }
            }
        }
    }

    async fn admit(&mut self, ends: Ends, request: Request) {
        if self.is_stopping {
            return; // the one who asks again finds whoever serves next
        }
        match self.server.0.places.admit(ends, &request) {
            Admission::Known => {}
            Admission::New(place, inbox) => {
                let session = Session {
                    server: self.server.clone(),
                    place,
                    inbox,
                    listening: self.port.clone(),
                    ends,
                };
                self.sessions.spawn(session.run(request));
            }
            Admission::Full(reason) => {
                self.refuse(ends, &request, ErrorCode::NotDefined, reason)
                    .await;
            }
        }
    }

    async fn refuse(&self, ends: Ends, request: &Request, code: ErrorCode, reason: String) {
        self.tell(ends, code, &reason).await;
        emit(&Event::RequestRefused {
            protocol: "tftp",
            client: ends.0.ip().to_canonical(),
            path: String::from_utf8_lossy(&request.name).into_owned(),
            reason,
        });
    }

    async fn tell(&self, (peer, local): Ends, code: ErrorCode, text: &str) {
        let packet = error(code, text);
        let sent = self.port.send(&packet, packet.len(), Some(local), peer);
        let _ = sent.await; // a client that is not told asks again
    }
}

/// What the network says of one packet is no reason to stop.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, InvalidData, NetworkUnreachable};
    matches!(
        error.kind(),
        ConnectionRefused | HostUnreachable | InvalidData | NetworkUnreachable
    )
}

/// A session that panics is one session.
fn tell(ended: Result<(), JoinError>) {
    if let Err(panic) = ended
        && panic.is_panic()
    {
        emit(&Event::Failed {
            about: "tftp",
            error: panic.to_string(),
        });
    }
}
