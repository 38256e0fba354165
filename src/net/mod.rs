//! Sockets that the standard library does not have: DHCP's, bound to one interface and told where each datagram was sent, and raw
//! frames to clients that have no address yet. And certificates, as TLS shows them; users and groups by name.

pub mod accounts;
pub mod arp;
mod batch;
pub mod followed;
pub mod icmp;
mod reserve;
pub mod tls;
pub mod udp;
pub mod watch;

use std::io;
use std::mem::zeroed;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::socket::{SockaddrIn, setsockopt, sockopt};
use socket2::{Domain, Socket, Type};

pub use self::batch::Inbox;
use self::batch::{Message, Name, name_of};
pub use self::reserve::{left as reserved_sockets, reserve};
use crate::model::MacAddr;

/// Room for the bursts of a rack that powers on at once.
pub const RECEIVE_BUFFER: usize = 8 << 20;

/// One of this machine's IPv4 interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub addresses: Vec<Ipv4Addr>,
    /// None where it is not Ethernet.
    pub mac: Option<MacAddr>,
}

impl Interface {
    /// The kernel's number for it.
    pub fn index(name: &str) -> io::Result<u32> {
        Ok(nix::net::if_::if_nametoindex(name)?)
    }
}

/// The interfaces with their IPv4 addresses, loopback too.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let mut interfaces: Vec<Interface> = Vec::new();
    for entry in nix::ifaddrs::getifaddrs()? {
        let name = entry.interface_name;
        let address = entry
            .address
            .and_then(|a| a.as_sockaddr_in().map(SockaddrIn::ip));
        let mac = entry
            .address
            .and_then(|a| a.as_link_addr().and_then(|link| link.addr()))
            .map(MacAddr)
            .filter(MacAddr::is_unicast);
        match interfaces.iter_mut().find(|i| i.name == name) {
            Some(known) => {
                known.addresses.extend(address);
                known.mac = known.mac.or(mac);
            }
            None => interfaces.push(Interface {
                name,
                addresses: address.into_iter().collect(),
                mac,
            }),
        }
    }
    Ok(interfaces)
}

/// Whether frames can be sent: what a raw socket is needed for.
pub fn raw_socket() -> io::Result<()> {
    Socket::new(Domain::PACKET, Type::DGRAM, None).map(drop)
}

/// Unix time in seconds.
pub fn now_secs() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// One received datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    pub octets: &'a [u8],
    pub from: Option<SocketAddrV4>,
    /// Where it was sent: the server's address, or a broadcast one.
    pub to: Option<Ipv4Addr>,
}

/// The way of one reply.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// An ordinary datagram.
    Datagram(SocketAddrV4),
    /// A datagram in a frame to `mac`, for an address that nobody has yet. Broadcast without the right to send frames.
    Frame { mac: MacAddr, to: SocketAddrV4 },
}

/// A UDP socket on a port of one interface, for threads that may wait.
pub struct DhcpSocket {
    udp: Socket,
    /// None without the right to send raw frames.
    frames: Option<FrameSocket>,
}

impl DhcpSocket {
    /// Binds to `port` of the interface. Nobody else may have that port there, so that two servers never share clients unseen.
    /// `receive` waits for `patience` at most.
    pub fn bind(interface: &str, port: u16, patience: Duration) -> io::Result<Self> {
        let socket = reserve::udp()?;
        socket.bind_device(Some(interface.as_bytes()))?;
        socket.set_broadcast(true)?;
        socket.set_read_timeout(Some(patience))?;
        // Best effort: without CAP_NET_ADMIN the kernel's own limit stays.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            udp::grow(&socket, RECEIVE_BUFFER);
        }
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into())?;
        Ok(Self {
            udp: socket,
            frames: FrameSocket::open(interface).ok(),
        })
    }

    /// Whether raw frames can be sent; without, what would be one is broadcast.
    pub fn can_send_frames(&self) -> bool {
        self.frames.is_some()
    }

    /// Waits for datagrams and takes those that are there; none if it has waited long enough.
    pub fn receive(&self, inbox: &mut Inbox) -> io::Result<usize> {
        match inbox.receive(self.udp.as_raw_fd()) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(0)
            }
            received => received,
        }
    }

    /// Sends all of them from this address; answers for each that could not be sent its place and why, in
    /// order. Never waits.
    pub fn send(&self, from: SocketAddrV4, replies: &[(&[u8], Way)]) -> Vec<(usize, io::Error)> {
        let mut packets = Vec::new();
        let mut frames = Vec::new();
        let (mut datagrams, mut places) = (Vec::with_capacity(replies.len()), Vec::new());
        for (place, (octets, way)) in replies.iter().enumerate() {
            match (way, &self.frames) {
                (Way::Frame { mac, to }, Some(socket)) => {
                    packets.push((place, ipv4_packet(octets, from, *to), socket.name(*mac)));
                }
                (Way::Datagram(to), _) => {
                    datagrams.push(self.message(octets, from, *to));
                    places.push(place);
                }
                (Way::Frame { to, .. }, None) => {
                    let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, to.port());
                    datagrams.push(self.message(octets, from, to));
                    places.push(place);
                }
            }
        }
        let mut failed: Vec<(usize, io::Error)> = match datagrams.as_slice() {
            [] => Vec::new(),
            _ => (batch::send(self.udp.as_raw_fd(), &mut datagrams).into_iter())
                .map(|(at, error)| (places[at], error))
                .collect(),
        };
        if let (Some(socket), false) = (&self.frames, packets.is_empty()) {
            let mut places = Vec::with_capacity(packets.len());
            for (place, packet, name) in &packets {
                places.push(*place);
                frames.push(Message {
                    octets: packet,
                    name: Name::Link(*name),
                    from: None,
                });
            }
            let of_frames = batch::send(socket.socket.as_raw_fd(), &mut frames);
            failed.extend(of_frames.into_iter().map(|(at, error)| (places[at], error)));
            failed.sort_by_key(|(place, _)| *place);
        }
        failed
    }

    fn message<'a>(&self, octets: &'a [u8], from: SocketAddrV4, to: SocketAddrV4) -> Message<'a> {
        Message {
            octets,
            name: name_of(to),
            from: Some(*from.ip()),
        }
    }
}

/// Sends IPv4 packets to hardware addresses.
struct FrameSocket {
    socket: Socket,
    interface_index: i32,
}

impl FrameSocket {
    fn open(interface: &str) -> io::Result<Self> {
        // Protocol 0: it receives nothing.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, None)?;
        let index = nix::net::if_::if_nametoindex(interface)?;
        Ok(Self {
            socket,
            interface_index: i32::try_from(index).map_err(io::Error::other)?,
        })
    }

    fn name(&self, mac: MacAddr) -> libc::sockaddr_ll {
        // SAFETY: all zeros are a sockaddr_ll of no family.
        let mut name: libc::sockaddr_ll = unsafe { zeroed() };
        name.sll_family = libc::AF_PACKET as u16;
        name.sll_protocol = (libc::ETH_P_IP as u16).to_be();
        name.sll_ifindex = self.interface_index;
        name.sll_halen = 6;
        name.sll_addr[..6].copy_from_slice(&mac.0);
        name
    }
}

/// An IPv4 packet with a UDP datagram (RFC 791, RFC 768).
fn ipv4_packet(octets: &[u8], from: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
    let udp_length = 8 + octets.len();
    let be16 = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes();
    let mut packet = Vec::with_capacity(20 + udp_length);
    packet.extend([0x45, 0x10]); // version 4, five words; low delay, as DHCP servers do
    packet.extend(be16(20 + udp_length));
    packet.extend([0, 0, 0x40, 0]); // do not fragment
    packet.extend([64, 17, 0, 0]); // hops, UDP, checksum to come
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    let header_sum = checksum(&[&packet]);
    packet[10..12].copy_from_slice(&header_sum.to_be_bytes());

    let mut udp = Vec::with_capacity(udp_length);
    udp.extend(from.port().to_be_bytes());
    udp.extend(to.port().to_be_bytes());
    udp.extend(be16(udp_length));
    udp.extend([0, 0]);
    udp.extend(octets);
    let pseudo = [&packet[12..20], &[0, 17], &be16(udp_length)].concat();
    let sum = match checksum(&[&pseudo, &udp]) {
        0 => 0xffff, // zero stands for "no checksum"
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    packet.extend(udp);
    packet
}

/// The Internet checksum over parts of even length, but for the last (RFC 1071).
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksums_of_a_frame_add_up_as_a_receiver_adds_them() {
        let from = "198.18.0.1:67".parse().expect("an address");
        let to = "198.18.0.10:68".parse().expect("an address");
        for octets in [&b"even"[..], b"odd"] {
            let packet = ipv4_packet(octets, from, to);
            assert_eq!(checksum(&[&packet[..20]]), 0);
            let udp = &packet[20..];
            let length = u8::try_from(udp.len()).expect("short");
            let pseudo = [&packet[12..20], &[0, 17, 0, length]].concat();
            assert_eq!(checksum(&[&pseudo, udp]), 0);
        }
    }
}
