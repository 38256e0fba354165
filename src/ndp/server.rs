//! The neighbour discovery shell: hears router solicitations, and answers those that no router answered.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use super::advertisement::{Heard, advertisement, heard};
use crate::model::{Event, MacAddr};
use crate::observe::emit;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// A router answers within half a second (RFC 4861 §6.2.6); one that was heard is believed in for as long as its usual lifetime.
const ROUTERS_TURN: Duration = Duration::from_millis(700);
const ROUTER_LIFETIME: Duration = Duration::from_secs(1800);

/// One interface whose solicitations are heard.
pub struct Server {
    pub interface: String,
    pub mac: MacAddr,
    socket: UdpSocket,
    scope: u32,
}

impl Server {
    /// Opens a raw socket on the interface; needs CAP_NET_RAW, and IPv6 there.
    pub fn bind(interface: &str, index: u32, mac: MacAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.bind_device(Some(interface.as_bytes()))?;
        socket.join_multicast_v6(&ALL_ROUTERS, index)?;
        // RFC 4861 §6.1.2: a hop limit of 255 shows that it comes from this link.
        socket.set_multicast_hops_v6(255)?;
        socket.set_unicast_hops_v6(255)?;
        socket.set_multicast_if_v6(index)?;
        socket.set_multicast_loop_v6(false)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            interface: interface.to_owned(),
            mac,
            // Only its readiness is used: what it reads and writes is ICMPv6.
            socket: UdpSocket::from_std(socket.into())?,
            scope: index,
        })
    }

    /// Serves until `stop`.
    pub async fn serve(self, stop: CancellationToken) {
        let mut router_heard: Option<Instant> = None;
        let mut answer_at: Option<Instant> = None;
        loop {
            let mut octets = [0; 1500];
            let due = async {
                match answer_at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = due => {
                    answer_at = None;
                    let has_router = router_heard.is_some_and(|at| at.elapsed() < ROUTER_LIFETIME);
                    if !has_router {
                        self.advertise();
                    }
                }
                received = self.receive(&mut octets) => match received {
                    Ok(length) => match heard(&octets[..length]) {
                        Heard::Solicitation => answer_at = answer_at.or(Some(Instant::now() + ROUTERS_TURN)),
                        Heard::Router => router_heard = Some(Instant::now()),
                        Heard::Other => {}
                    },
                    Err(error) => {
                        self.report("hear router solicitations", &error);
                        return;
                    }
                },
            }
        }
    }

    async fn receive(&self, octets: &mut [u8]) -> io::Result<usize> {
        let socket = socket2::SockRef::from(&self.socket);
        let read = || io::Read::read(&mut &*socket, octets);
        let mut read = read;
        self.socket.async_io(Interest::READABLE, &mut read).await
    }

    /// To all nodes: each that waits is helped.
    fn advertise(&self) {
        let to = SocketAddrV6::new(ALL_NODES, 0, 0, self.scope);
        let socket = socket2::SockRef::from(&self.socket);
        match socket.send_to(&advertisement(self.mac), &to.into()) {
            Ok(_) => emit(&Event::NoRouterAdvertised {
                iface: self.interface.clone(),
            }),
            Err(error) => self.report("answer a router solicitation", &error),
        }
    }

    fn report(&self, what: &str, error: &io::Error) {
        emit(&Event::Noticed {
            about: "ndp",
            detail: format!(
                "{}: cannot {what}: {error}; iPXE waits 15 s for IPv6",
                self.interface
            ),
        });
    }
}
