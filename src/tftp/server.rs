//! The TFTP shell, over async-tftp: the only file that names it. In: read requests. Out: network boot programs and the files of
//! `tftp.root`, from memory. Writes are refused.
//!
//! async-tftp 0.4 answers from the address it is bound to, so there is one server for each local address. It keeps sending
//! after a client's ERROR and ignores a second request from the same port until it gives up, and UEFI firmware does both to
//! learn a file's size: hence short time-outs and few of them.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use async_tftp::packet;
use async_tftp::server::{Handler, TftpServer, TftpServerBuilder};
use futures_util::io::{AsyncRead, Sink};
use tokio_util::sync::CancellationToken;

use super::resolve::resolve;
use crate::model::{Event, Transfer, Why};
use crate::net::now_secs;
use crate::observe::emit;
use crate::store::Store;

/// How long a client's acknowledgement is waited for, and how often a block is sent again.
const TIMEOUT: Duration = Duration::from_secs(1);
const RETRIES: u32 = 4;
/// Blocks in flight; more has async-tftp buffer whole files.
const LARGEST_WINDOW: u16 = 64;
/// What fits an Ethernet frame with its IPv4, UDP and TFTP headers: fragments are what many ROMs cannot put together.
const LARGEST_BLOCK: u16 = 1468;
const RECEIVE_BUFFER: usize = 4 << 20;
/// What is bigger belongs on HTTP; it would take minutes in lock-step, and be held in memory all the while.
const LARGEST_FILE: u64 = 512 << 20;

/// The directories that are served, the first that has a file wins.
#[derive(Clone)]
pub struct Served {
    /// Links are followed out of it: packages put them there, to /boot for one.
    programs: Option<PathBuf>,
    /// Links are not followed out of it.
    root: Option<PathBuf>,
    store: Store,
    open: Arc<Mutex<HashMap<PathBuf, InMemory>>>,
}

/// A file that some transfer holds in memory, as it was when it was read.
struct InMemory {
    modified: SystemTime,
    length: u64,
    content: Weak<[u8]>,
}

/// A socket that waits to be served on.
pub struct Bound {
    socket: UdpSocket,
    address: SocketAddr,
}

impl Served {
    /// Serves network boot programs and the files of `tftp.root`; a directory that does not exist is left out.
    pub fn new(programs: &Path, root: Option<&Path>, store: Store) -> Self {
        Self {
            programs: programs.canonicalize().ok(),
            root: root.and_then(|root| root.canonicalize().ok()),
            store,
            open: Arc::default(),
        }
    }

    /// The file's content, shared with the transfers that run.
    fn read(&self, parts: &[String]) -> io::Result<Arc<[u8]>> {
        let path = self.find(parts)?;
        let metadata = path.metadata()?;
        if !metadata.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        if metadata.len() > LARGEST_FILE {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!(
                    "{} octets are more than TFTP is good for; serve it over HTTP",
                    metadata.len()
                ),
            ));
        }
        let modified = metadata.modified()?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, file| file.content.strong_count() > 0);
        if let Some(file) = open.get(&path)
            && file.modified == modified
            && file.length == metadata.len()
            && let Some(content) = file.content.upgrade()
        {
            return Ok(content);
        }
        let content: Arc<[u8]> = std::fs::read(&path)?.into();
        let file = InMemory {
            modified,
            length: metadata.len(),
            content: Arc::downgrade(&content),
        };
        open.insert(path, file);
        Ok(content)
    }

    /// Why this machine gets no file of `tftp.root` now; network boot programs it gets, to be told the rest by its script.
    fn bars(&self, parts: &[String], client: IpAddr) -> Option<Why> {
        let why = self.store.sent_away(client, now_secs())?;
        let programs = self.programs.as_ref();
        let is_program = programs.is_some_and(|dir| dir.join(parts.join("/")).is_file());
        (!is_program).then_some(why)
    }

    /// The first of the directories that has the file.
    fn find(&self, parts: &[String]) -> io::Result<PathBuf> {
        let relative: PathBuf = parts.iter().collect();
        if let Some(programs) = &self.programs
            && let Ok(real) = programs.join(&relative).canonicalize()
        {
            return Ok(real);
        }
        let root = self.root.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let real = root.join(&relative).canonicalize()?;
        if real.starts_with(root) {
            Ok(real)
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }
}

/// Binds one address, so that answers come from it.
pub fn bind(address: SocketAddr) -> io::Result<Bound> {
    let socket = UdpSocket::bind(address)?;
    // A rack that powers on at once asks at once.
    socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
    let address = socket.local_addr()?;
    Ok(Bound { socket, address })
}

impl Bound {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`.
    pub async fn serve(self, served: Served, stop: CancellationToken) -> io::Result<()> {
        let server: TftpServer<Requests> = TftpServerBuilder::with_handler(Requests(served))
            .std_socket(self.socket)
            .map_err(io::Error::other)?
            .timeout(TIMEOUT)
            .max_send_retries(RETRIES)
            .window_size_limit(LARGEST_WINDOW)
            .block_size_limit(LARGEST_BLOCK)
            .build()
            .await
            .map_err(io::Error::other)?;
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = server.serve() => ended.map_err(io::Error::other),
        }
    }
}

struct Requests(Served);

impl Handler for Requests {
    type Reader = Content;
    type Writer = Sink;

    async fn read_req_open(
        &mut self,
        client: &SocketAddr,
        path: &Path,
    ) -> Result<(Content, Option<u64>), packet::Error> {
        let name = path.to_string_lossy().into_owned();
        let client = client.ip().to_canonical();
        let refuse = |reason: String, error: packet::Error| {
            emit(&Event::RequestRefused {
                protocol: "tftp",
                client,
                path: name.clone(),
                reason,
            });
            error
        };
        let parts = resolve(&name)
            .map_err(|unfit| refuse(unfit.to_string(), packet::Error::PermissionDenied))?;
        if let Some(why) = self.0.bars(&parts, client) {
            return Err(refuse(
                why.text().to_owned(),
                packet::Error::PermissionDenied,
            ));
        }
        let started = Instant::now();
        let served = self.0.clone();
        // async-tftp ends its whole server with a handler that panics; a task's panic is only that task's.
        let content = match tokio::task::spawn_blocking(move || served.read(&parts)).await {
            Ok(Ok(content)) => content,
            Ok(Err(error)) => {
                let code = match error.kind() {
                    io::ErrorKind::NotFound
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::InvalidFilename => packet::Error::FileNotFound,
                    io::ErrorKind::PermissionDenied => packet::Error::PermissionDenied,
                    _ => packet::Error::Msg("cannot be read".to_owned()),
                };
                return Err(refuse(error.to_string(), code));
            }
            Err(panic) => {
                return Err(refuse(panic.to_string(), packet::Error::UnknownError));
            }
        };
        let length = content.len() as u64;
        let content = Content {
            content,
            position: 0,
            started,
            machine: self.0.store.machine_at(client),
            path: name,
            client,
        };
        Ok((content, Some(length)))
    }

    async fn write_req_open(
        &mut self,
        client: &SocketAddr,
        path: &Path,
        _size: Option<u64>,
    ) -> Result<Sink, packet::Error> {
        emit(&Event::RequestRefused {
            protocol: "tftp",
            client: client.ip().to_canonical(),
            path: path.to_string_lossy().into_owned(),
            reason: "nothing can be written here".to_owned(),
        });
        Err(packet::Error::PermissionDenied)
    }
}

/// One transfer's view of a file; it tells what became of the transfer when it ends.
struct Content {
    content: Arc<[u8]>,
    position: usize,
    started: Instant,
    path: String,
    client: IpAddr,
    machine: Option<String>,
}

impl AsyncRead for Content {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let rest = &self.content[self.position..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.position += length;
        Poll::Ready(Ok(length))
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        emit(&Event::Served(Transfer {
            protocol: "tftp",
            path: std::mem::take(&mut self.path),
            client: self.client,
            machine: self.machine.take(),
            status: 0,
            bytes: self.position as u64,
            complete: self.position == self.content.len(),
            elapsed_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }));
    }
}
