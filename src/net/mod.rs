//! Sockets that the standard library does not have: DHCP's, bound to one interface and told where each datagram was sent, and
//! raw frames to clients that have no address yet.

pub mod arp;
pub mod udp;

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::size_of;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::model::MacAddr;

/// A DHCP datagram is at most an Ethernet frame; longer ones are cut, and so dropped by the parser.
const LARGEST_DATAGRAM: usize = 1500;
/// Room for the bursts of a rack that powers on at once.
const RECEIVE_BUFFER: usize = 8 << 20;

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

/// Unix time in seconds.
pub fn now_secs() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// One received datagram.
#[derive(Clone, Debug)]
pub struct Datagram {
    pub octets: Vec<u8>,
    pub from: Option<SocketAddrV4>,
    /// Where it was sent: the server's address, or a broadcast one.
    pub to: Option<Ipv4Addr>,
}

/// A UDP socket on port 67 of one interface.
pub struct DhcpSocket {
    udp: UdpSocket,
    /// None without the right to send raw frames.
    frames: Option<FrameSocket>,
}

impl DhcpSocket {
    /// Binds to `port` of the interface. Nobody else may have that port there, so that two servers never share clients unseen.
    pub fn bind(interface: &str, port: u16) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind_device(Some(interface.as_bytes()))?;
        socket.set_broadcast(true)?;
        socket.set_nonblocking(true)?;
        // Best effort: without CAP_NET_ADMIN the kernel's own limit stays.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        }
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into())?;
        Ok(Self {
            udp: UdpSocket::from_std(socket.into())?,
            frames: FrameSocket::open(interface).ok(),
        })
    }

    /// Whether raw frames can be sent; without, what would be one is broadcast.
    pub fn can_send_frames(&self) -> bool {
        self.frames.is_some()
    }

    /// Waits for datagrams and takes up to `most` of those that are there.
    pub async fn receive(&self, most: usize) -> io::Result<Vec<Datagram>> {
        let first = self
            .udp
            .async_io(Interest::READABLE, || receive_one(self.udp.as_raw_fd()))
            .await?;
        let mut datagrams = vec![first];
        while datagrams.len() < most {
            let more = || receive_one(self.udp.as_raw_fd());
            match self.udp.try_io(Interest::READABLE, more) {
                Ok(datagram) => datagrams.push(datagram),
                Err(_) => break,
            }
        }
        Ok(datagrams)
    }

    /// Sends an ordinary datagram, from the server's address of this interface.
    pub fn send(&self, octets: &[u8], from: Ipv4Addr, to: SocketAddrV4) -> io::Result<()> {
        let info = libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr {
                s_addr: from.to_bits().to_be(),
            },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        sendmsg(
            self.udp.as_raw_fd(),
            &[IoSlice::new(octets)],
            &[nix::sys::socket::ControlMessage::Ipv4PacketInfo(&info)],
            MsgFlags::empty(),
            Some(&SockaddrIn::from(to)),
        )?;
        Ok(())
    }

    /// Sends a UDP datagram in a frame to `mac`, to an address that nobody has yet. Broadcasts it without the right to.
    pub fn send_frame(
        &self,
        octets: &[u8],
        from: SocketAddrV4,
        mac: MacAddr,
        to: SocketAddrV4,
    ) -> io::Result<()> {
        match &self.frames {
            Some(frames) => frames.send(&ipv4_packet(octets, from, to), mac),
            None => self.send(
                octets,
                *from.ip(),
                SocketAddrV4::new(Ipv4Addr::BROADCAST, to.port()),
            ),
        }
    }
}

fn receive_one(fd: i32) -> io::Result<Datagram> {
    let mut octets = vec![0; LARGEST_DATAGRAM];
    let mut control = nix::cmsg_space!(libc::in_pktinfo);
    let mut slices = [IoSliceMut::new(&mut octets)];
    let message = recvmsg::<SockaddrIn>(fd, &mut slices, Some(&mut control), MsgFlags::empty())?;
    let to = message.cmsgs()?.find_map(|cmsg| match cmsg {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(Ipv4Addr::from_bits(u32::from_be(info.ipi_addr.s_addr)))
        }
        _ => None,
    });
    let (length, from) = (message.bytes, message.address.map(SocketAddrV4::from));
    octets.truncate(length);
    Ok(Datagram { octets, from, to })
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
        socket.set_nonblocking(true)?;
        let index = nix::net::if_::if_nametoindex(interface)?;
        Ok(Self {
            socket,
            interface_index: i32::try_from(index).map_err(io::Error::other)?,
        })
    }

    fn send(&self, packet: &[u8], mac: MacAddr) -> io::Result<()> {
        let mut storage = SockAddrStorage::zeroed();
        // SAFETY: sockaddr_ll is one of the forms of sockaddr_storage, which is as large as any and aligned for all.
        let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_IP as u16).to_be();
        address.sll_ifindex = self.interface_index;
        address.sll_halen = 6;
        address.sll_addr[..6].copy_from_slice(&mac.0);
        // SAFETY: the storage holds a whole sockaddr_ll, and the length is its own.
        let address =
            unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) };
        self.socket.send_to(packet, &address)?;
        Ok(())
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
