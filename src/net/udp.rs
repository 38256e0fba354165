//! UDP where the local address matters: datagrams with the address that they were sent to, and answers from it, of one
//! datagram or of many in one call. Both families.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage,
    recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Room for the requests of a rack that powers on at once, and for the windows of many transfers.
pub(super) const BUFFER: usize = 4 << 20;

/// How often, and how long after, a datagram is tried again for which the socket has no room.
const SEND_TRIES: u32 = 20;
const SEND_PAUSE: Duration = Duration::from_millis(1);

/// A UDP socket.
pub struct UdpPort {
    /// Watched for what comes alone: to be woken for each datagram that has left would be to be woken twice for each block.
    udp: AsyncFd<UdpSocket>,
    address: SocketAddr,
    /// The kernel cuts a buffer into datagrams (UDP_SEGMENT), until it is seen that it cannot.
    can_segment: AtomicBool,
}

/// One received datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    pub length: usize,
    pub from: SocketAddr,
    /// The address it was sent to. None: a broadcast or multicast one.
    pub to: Option<IpAddr>,
}

impl UdpPort {
    /// Listens: the socket is told where each datagram was sent to.
    pub fn listen(address: SocketAddr) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => super::reserve::udp()?,
            SocketAddr::V6(_) => open(address)?,
        };
        socket.set_nonblocking(true)?;
        if address.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
        // Best effort: without CAP_NET_ADMIN the kernel's own limits stay.
        if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).is_err() {
            grow(&socket, BUFFER);
        }
        if setsockopt(&socket, sockopt::SndBufForce, &BUFFER).is_err() {
            let _ = socket.set_send_buffer_size(BUFFER);
        }
        Self::bound(socket, address)
    }

    /// A port of its own at an address of ours, to speak with `peer`.
    pub fn beside(local: IpAddr, peer: SocketAddr) -> io::Result<Self> {
        let address = local_address(local, peer);
        Self::bound(open(address)?, address)
    }

    fn bound(socket: Socket, address: SocketAddr) -> io::Result<Self> {
        socket.bind(&address.into())?;
        let udp = UdpSocket::from(socket);
        let address = udp.local_addr()?;
        // SAFETY: the socket owns its descriptor, gives always the same, and is dropped by AsyncFd after it is watched no more.
        let udp = unsafe { AsyncFd::register_with_interest(udp, Interest::READABLE) };
        Ok(Self {
            address,
            udp: udp.map_err(io::Error::from)?,
            can_segment: AtomicBool::new(true),
        })
    }

    /// Where it is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for a datagram; one that is longer than the buffer is cut.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let receive = |udp: &UdpSocket| udp.recv_from(buffer);
        self.udp.async_io(Interest::READABLE, receive).await
    }

    /// A datagram that is there already.
    pub fn try_receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.udp.get_ref().recv_from(buffer)
    }

    /// Waits for a datagram, and tells where it was sent to.
    pub async fn receive_to(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let own = self.address;
        let receive = |udp: &UdpSocket| receive_one(udp.as_raw_fd(), own, buffer);
        self.udp.async_io(Interest::READABLE, receive).await
    }

    /// Sends `octets` as datagrams of `segment` octets each, the last of what remains. `from` names our address where the
    /// socket is not bound to it.
    pub async fn send(
        &self,
        octets: &[u8],
        segment: usize,
        from: Option<IpAddr>,
        to: SocketAddr,
    ) -> io::Result<()> {
        let one = |octets: &[u8]| -> io::Result<()> {
            match from {
                None => self.udp.get_ref().send_to(octets, to).map(drop),
                Some(_) => send_message(self.udp.as_raw_fd(), octets, None, from, to),
            }
        };
        if octets.len() <= segment {
            return when_there_is_room(|| one(octets)).await;
        }
        if self.can_segment.load(Ordering::Relaxed)
            && let Ok(size) = u16::try_from(segment)
        {
            let fd = self.udp.as_raw_fd();
            let all = || send_message(fd, octets, Some(size), from, to);
            match when_there_is_room(all).await {
                Ok(()) => return Ok(()),
                // An interface that leaves checksums to us: it will not change its mind.
                Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                    self.can_segment.store(false, Ordering::Relaxed);
                }
                // An MTU that has shrunk, a kernel that does not know of it.
                Err(error) if is_about_length(&error) => {}
                Err(error) => return Err(error),
            }
        }
        for datagram in octets.chunks(segment) {
            when_there_is_room(|| one(datagram)).await?;
        }
        Ok(())
    }
}

/// A link that is slower than we are: what waits for it leaves within milliseconds, or is lost as it would be on the way.
async fn when_there_is_room(send: impl Fn() -> io::Result<()>) -> io::Result<()> {
    for _ in 0..SEND_TRIES {
        match send() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(SEND_PAUSE).await;
            }
            sent => return sent,
        }
    }
    send()
}

/// The largest packet on the path to `peer`, as far as the kernel knows.
pub fn path_mtu(local: IpAddr, peer: SocketAddr) -> io::Result<u32> {
    let address = local_address(local, peer);
    let socket = open(address)?;
    socket.bind(&address.into())?;
    socket.connect(&peer.into())?;
    let (level, option) = match address {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
    };
    let (mut mtu, mut length) = (0_i32, size_of::<i32>() as libc::socklen_t);
    // SAFETY: the option is an int, and both pointers are to values that outlive the call.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw mut mtu).cast(),
            &raw mut length,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    u32::try_from(mtu).map_err(io::Error::other)
}

/// As far as the system's limit goes; a larger one stays as it is.
pub(super) fn grow(socket: &Socket, size: usize) {
    if socket.recv_buffer_size().is_ok_and(|now| now < size) {
        let _ = socket.set_recv_buffer_size(size);
    }
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn is_about_length(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMSGSIZE | libc::EINVAL | libc::ENOPROTOOPT | libc::EOPNOTSUPP)
    )
}

/// Any port of `local`; a link-local address of IPv6 says on which link.
fn local_address(local: IpAddr, peer: SocketAddr) -> SocketAddr {
    match (local, peer) {
        (IpAddr::V6(ip), SocketAddr::V6(peer)) if ip.is_unicast_link_local() => {
            SocketAddrV6::new(ip, 0, 0, peer.scope_id()).into()
        }
        _ => SocketAddr::new(local, 0),
    }
}

fn receive_one(fd: i32, own: SocketAddr, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = nix::cmsg_space!(libc::in6_pktinfo);
    let mut slices = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::empty();
    let message = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut control), flags)?;
    let mut to = Some(own.ip());
    for cmsg in message.cmsgs()? {
        to = match cmsg {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                // They differ where the datagram was not sent to one of our addresses.
                let [asked, ours] = [info.ipi_addr, info.ipi_spec_dst].map(|a| a.s_addr);
                (asked == ours).then(|| Ipv4Addr::from_bits(u32::from_be(asked)).into())
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                let asked = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                (!asked.is_multicast()).then_some(asked.into())
            }
            _ => continue,
        };
    }
    let from = message.address.as_ref().and_then(socket_address);
    Ok(Received {
        length: message.bytes,
        from: from.ok_or(io::ErrorKind::InvalidData)?,
        to,
    })
}

fn socket_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|a| (*a).into());
    let v6 = || {
        storage
            .as_sockaddr_in6()
            .map(|a| SocketAddr::V6((*a).into()))
    };
    v4.map(SocketAddr::V4).or_else(v6)
}

fn send_message(
    fd: i32,
    octets: &[u8],
    segment: Option<u16>,
    from: Option<IpAddr>,
    to: SocketAddr,
) -> io::Result<()> {
    let (v4, v6);
    let mut control = Vec::with_capacity(2);
    match from {
        Some(IpAddr::V4(from)) => {
            v4 = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: from.to_bits().to_be(),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            control.push(ControlMessage::Ipv4PacketInfo(&v4));
        }
        Some(IpAddr::V6(from)) => {
            v6 = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: from.octets(),
                },
                ipi6_ifindex: 0,
            };
            control.push(ControlMessage::Ipv6PacketInfo(&v6));
        }
        None => {}
    }
    if let Some(segment) = &segment {
        control.push(ControlMessage::UdpGsoSegments(segment));
    }
    let (slices, flags) = ([IoSlice::new(octets)], MsgFlags::empty());
    match to {
        SocketAddr::V4(to) => sendmsg(fd, &slices, &control, flags, Some(&SockaddrIn::from(to))),
        SocketAddr::V6(to) => sendmsg(fd, &slices, &control, flags, Some(&SockaddrIn6::from(to))),
    }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn datagrams_of(listen: &str, loopback: IpAddr) {
        let server = UdpPort::listen(listen.parse().expect("an address")).expect("bound");
        let client = UdpPort::beside(loopback, server.address()).expect("bound");
        let to = SocketAddr::new(loopback, server.address().port());
        client.send(b"hello", 5, None, to).await.expect("sent");
        let mut buffer = [0; 100];
        let received = server.receive_to(&mut buffer).await.expect("one");
        assert_eq!(received.from, client.address());
        assert_eq!(received.to, Some(loopback));
        let answer = server.send(b"abcabcab", 3, received.to, received.from);
        answer.await.expect("sent");
        for wanted in [&b"abc"[..], b"abc", b"ab"] {
            let (length, from) = client.receive(&mut buffer).await.expect("one");
            assert_eq!((&buffer[..length], from.ip()), (wanted, loopback));
        }
        assert!(client.try_receive(&mut buffer).is_err());
        assert!(path_mtu(loopback, to).expect("loopback has one") >= 1280);
    }

    #[tokio::test]
    async fn an_answer_comes_from_the_address_that_was_asked_in_as_many_datagrams() {
        let other = IpAddr::from([127, 0, 0, 2]);
        datagrams_of("0.0.0.0:0", other).await;
        datagrams_of("127.0.0.2:0", other).await;
        datagrams_of("[::]:0", Ipv6Addr::LOCALHOST.into()).await;
    }
}
