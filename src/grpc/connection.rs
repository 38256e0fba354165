//! One connection, whatever it came over. In: octets. Out: the same, and who is at the other end. It ends where its time is over:
//! a stranger's after a while, anybody's when what it was let in for is revoked.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use super::access::identity::{Certified, Unknown};
use super::access::visitors::Visit;

/// What octets travel on.
pub(super) trait Octets: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Octets for T {}

/// A connection that is served.
pub(super) struct Connection {
    stream: Box<dyn Octets>,
    peer: Peer,
    /// Ready when it is over.
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Who is at the other end, as far as the connection itself says it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(super) via: Via,
    pub(super) visit: Arc<Visit>,
}

/// What a connection came over.
#[derive(Clone, Debug)]
pub(super) enum Via {
    /// A unix socket, and whose process is at the other end as the kernel knows it.
    Unix { uid: u32, pid: Option<i32> },
    /// Loopback.
    Plain(SocketAddr),
    /// TLS; with the client's certificate, or why it is no good, if it showed one.
    Tls(SocketAddr, Option<Result<Certified, Unknown>>),
}

impl Connection {
    pub(super) fn new(stream: Box<dyn Octets>, via: Via, visit: Arc<Visit>) -> Self {
        let over = Box::pin(visit.clone().until_over());
        let peer = Peer { via, visit };
        Self { stream, peer, over }
    }

    fn end_if_over(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.over.as_mut().poll(context) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.end_if_over(context)?;
        Pin::new(&mut *self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write_vectored(context, octets)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
