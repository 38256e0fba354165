//! Connections, bounded: how many there are, how long a head may take, and how long a client may leave octets unread. A stranger
//! on the network can keep its own connections, and nobody else's.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::tls::Tls;
use crate::model::Event;
use crate::observe::emit;

/// A rack of machines behind one address, and a browser's habits, stay far below.
const MOST_FROM_ONE_ADDRESS: usize = 256;
const MOST_IN_ALL: usize = 8192;
/// A request's head, and the pause between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const LARGEST_HEAD: usize = 32 << 10;
/// A client that takes nothing for so long is gone.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Both ends of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub remote: SocketAddr,
    pub local: SocketAddr,
    /// Whether it is encrypted.
    pub is_secure: bool,
}

/// Serves each connection with `answer` until `stop`; then no more are taken, and requests that run are finished. With `tls`
/// they are encrypted.
pub async fn serve<A, F>(
    listener: TcpListener,
    tls: Option<Tls>,
    answer: A,
    stop: CancellationToken,
) where
    A: Fn(Ends, Request<Body>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let graceful = GracefulShutdown::new();
    let slots = Slots::default();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        let Some(slot) = slots.take(remote.ip()) else {
            emit(&Event::RequestRefused {
                protocol: "http",
                client: remote.ip().to_canonical(),
                path: String::new(),
                reason: "too many connections".to_owned(),
            });
            continue;
        };
        // A connection that is gone already has no local end.
        let Ok(local) = prepare(&stream) else {
            continue;
        };
        let ends = Ends {
            remote,
            local,
            is_secure: tls.is_some(),
        };
        let answer = answer.clone();
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let answered = answer(ends, request.map(Body::new));
            async move { Ok::<_, Infallible>(answered.await) }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_header_size(LARGEST_HEAD);
        let watcher = graceful.watcher();
        let tls = tls.clone();
        // It ends in an error whenever a client goes away, which is the client's right.
        tokio::spawn(async move {
            let _slot = slot;
            match tls {
                None => {
                    let connection = http.serve_connection(TokioIo::new(stream), service);
                    let _ = watcher.watch(connection).await;
                }
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => {
                        let connection = http.serve_connection(TokioIo::new(stream), service);
                        let _ = watcher.watch(connection).await;
                    }
                    Err(error) => emit(&Event::RequestRefused {
                        protocol: "https",
                        client: remote.ip().to_canonical(),
                        path: String::new(),
                        reason: format!("no handshake: {error}"),
                    }),
                },
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

fn prepare(stream: &TcpStream) -> io::Result<SocketAddr> {
    // Nagle's algorithm would hold each small answer back for 40 ms.
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(STALL_TIMEOUT))?;
    stream.local_addr()
}

/// Out of file descriptors, most likely: what runs will free some.
async fn pause_after(error: &io::Error) {
    let of_one_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    );
    if !of_one_connection {
        emit(&Event::Failed {
            about: "http",
            error: format!("cannot accept a connection: {error}"),
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// How many connections each address has.
#[derive(Clone, Default)]
struct Slots(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection's place; given back when dropped.
struct Slot {
    slots: Slots,
    address: IpAddr,
}

impl Slots {
    fn take(&self, address: IpAddr) -> Option<Slot> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().sum::<usize>() >= MOST_IN_ALL {
            return None;
        }
        let of_address = taken.entry(address).or_default();
        if *of_address >= MOST_FROM_ONE_ADDRESS {
            return None;
        }
        *of_address += 1;
        Some(Slot {
            slots: self.clone(),
            address,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_address) = taken.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_every_connection() {
        let (slots, stranger) = (Slots::default(), IpAddr::from([198, 18, 0, 66]));
        let mut held: Vec<Slot> = (0..MOST_FROM_ONE_ADDRESS)
            .map(|n| {
                slots
                    .take(stranger)
                    .unwrap_or_else(|| panic!("connection {n}"))
            })
            .collect();
        assert!(slots.take(stranger).is_none());
        assert!(slots.take(IpAddr::from([198, 18, 0, 10])).is_some());
        held.pop();
        assert!(slots.take(stranger).is_some());
    }
}
