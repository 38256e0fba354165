//! The far end of a link: Ethernet frames in and out, octet by octet, and UDP datagrams in them.

use std::io::ErrorKind;
use std::mem::size_of;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd as _, RawFd};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use super::netns::Netns;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Everyone on the link.
pub const EVERYONE: Mac = [0xff; 6];

/// An interface that is read and written as the card behind it would.
pub struct Wire {
    socket: Socket,
}

impl Wire {
    /// Takes every frame that comes in on the interface, whatever MAC it is for.
    pub fn open(netns: &Netns, interface: &str) -> Self {
        netns.inside(|| {
            let every_protocol = libc::ETH_P_ALL as u16;
            let protocol = Protocol::from(i32::from(every_protocol.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))
                .expect("a packet socket; it needs CAP_NET_RAW");
            let index = nix::net::if_::if_nametoindex(interface).expect("the interface exists");
            let mut storage = SockAddrStorage::zeroed();
            // SAFETY: sockaddr_ll is one of the forms of sockaddr_storage, which is as large as any and aligned for all.
            let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = every_protocol.to_be();
            address.sll_ifindex = i32::try_from(index).expect("indexes are small");
            let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            // SAFETY: the storage holds a whole sockaddr_ll, and the length is its own.
            let address = unsafe { SockAddr::new(storage, length) };
            socket.bind(&address).expect("bound to the interface");
            ignore_outgoing(&socket);
            let _ = socket.set_recv_buffer_size(8 << 20);
            socket.set_nonblocking(true).expect("a socket");
            Self { socket }
        })
    }

    /// Sends a frame as it is.
    pub fn send(&self, frame: &[u8]) {
        let sent = self.socket.send(frame).expect("the link is up");
        assert_eq!(sent, frame.len(), "a whole frame");
    }

    /// The next frame, if one comes until the deadline.
    pub fn receive(&self, deadline: Instant) -> Option<Vec<u8>> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            let rest = deadline.checked_duration_since(Instant::now())?;
            wait_readable(&[self.fd()], rest);
        }
    }

    /// The next frame, if one is there.
    pub fn take(&self) -> Option<Vec<u8>> {
        let mut frame = Vec::with_capacity(2048);
        match self.socket.recv(frame.spare_capacity_mut()) {
            Ok(length) => {
                // SAFETY: the kernel wrote that many octets.
                unsafe { frame.set_len(length) };
                Some(frame)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("the wire cannot be read: {error}"),
        }
    }

    /// For `wait_readable`.
    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// What is sent here is not received here.
fn ignore_outgoing(socket: &Socket) {
    const PACKET_IGNORE_OUTGOING: libc::c_int = 23; // linux/if_packet.h
    let on: libc::c_int = 1;
    // SAFETY: the option takes an int, and is given one.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            PACKET_IGNORE_OUTGOING,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    assert_eq!(done, 0, "Linux 4.20 or later");
}

/// Waits until one of the descriptors has something to read or has ended, or the time is over; which ones have.
pub fn wait_readable(fds: &[RawFd], most: Duration) -> Vec<bool> {
    let mut polled: Vec<libc::pollfd> = fds
        .iter()
        .map(|fd| libc::pollfd {
            fd: *fd,
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    let millis = libc::c_int::try_from(most.as_millis() + 1).unwrap_or(libc::c_int::MAX);
    // SAFETY: the array is as long as said.
    unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, millis) };
    polled.iter().map(|fd| fd.revents != 0).collect()
}

/// A UDP datagram in IPv4 on Ethernet.
#[derive(Clone, Debug)]
pub struct Udp {
    pub to_mac: Mac,
    pub from_mac: Mac,
    pub from: SocketAddrV4,
    pub to: SocketAddrV4,
    pub content: Vec<u8>,
}

impl Udp {
    /// Reads a frame; none if it holds something else. A wrong length or checksum fails the test: no card would pass it on.
    pub fn read(frame: &[u8]) -> Option<Self> {
        let packet = frame.get(14..)?;
        let is_udp = frame[12..14] == [8, 0] && packet.len() >= 28 && packet[9] == 17;
        let is_fragment = packet.len() >= 28 && be16(&packet[6..]) & 0x3fff != 0;
        if !is_udp || is_fragment {
            return None;
        }
        let header = usize::from(packet[0] & 15) * 4;
        let total = usize::from(be16(&packet[2..]));
        assert_eq!(checksum(&[&packet[..header]]), 0, "IPv4 checksum");
        let udp = &packet[header..total];
        assert_eq!(usize::from(be16(&udp[4..])), udp.len(), "UDP length");
        let pseudo = [&packet[12..20], &[0, 17], &udp[4..6]].concat();
        assert!(
            udp[6..8] == [0, 0] || checksum(&[&pseudo, udp]) == 0,
            "UDP checksum of {udp:02x?}"
        );
        let address =
            |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
        Some(Self {
            to_mac: frame[..6].try_into().expect("six"),
            from_mac: frame[6..12].try_into().expect("six"),
            from: SocketAddrV4::new(address(12), be16(udp)),
            to: SocketAddrV4::new(address(16), be16(&udp[2..])),
            content: udp[8..].to_vec(),
        })
    }

    /// The datagram as frames, more than one if it is longer than an Ethernet frame takes.
    pub fn frames(&self) -> Vec<Vec<u8>> {
        let length = be(8 + self.content.len());
        let ports = [self.from.port().to_be_bytes(), self.to.port().to_be_bytes()].concat();
        let mut udp = [&ports[..], &length, &[0, 0], &self.content].concat();
        let addresses = [self.from.ip().octets(), self.to.ip().octets()].concat();
        let sum = match checksum(&[&[&addresses[..], &[0, 17], &length].concat(), &udp]) {
            0 => 0xffff,
            sum => sum,
        };
        udp[6..8].copy_from_slice(&sum.to_be_bytes());
        let parts = udp.chunks(1480);
        let last = parts.len() - 1;
        let part = |(number, part): (usize, &[u8])| {
            let more = if number == last { 0 } else { 0x2000 };
            let mut header = [&[0x45, 0], &be(20 + part.len())[..]].concat();
            header.extend(self.from.port().to_be_bytes()); // an identification, as good as any
            header.extend((more + u16::try_from(number * 185).expect("short")).to_be_bytes());
            header.extend([64, 17, 0, 0]);
            header.extend(&addresses);
            let sum = checksum(&[&header]);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            [&self.to_mac[..], &self.from_mac, &[8, 0], &header, part].concat()
        };
        parts.enumerate().map(part).collect()
    }
}

/// ARP on Ethernet (RFC 826): a question for, or an answer about, one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arp {
    pub is_answer: bool,
    pub from_mac: Mac,
    pub from: Ipv4Addr,
    pub to_mac: Mac,
    pub about: Ipv4Addr,
}

impl Arp {
    /// Reads a frame; none if it holds something else.
    pub fn read(frame: &[u8]) -> Option<Self> {
        let arp = frame.get(14..42)?;
        let address = |at: usize| Ipv4Addr::new(arp[at], arp[at + 1], arp[at + 2], arp[at + 3]);
        (frame[12..14] == [8, 6]).then(|| Self {
            is_answer: arp[7] == 2,
            from_mac: arp[8..14].try_into().expect("six"),
            from: address(14),
            to_mac: arp[18..24].try_into().expect("six"),
            about: address(24),
        })
    }

    /// The frame: a question goes to everyone.
    pub fn frame(&self) -> Vec<u8> {
        let (to, kind) = match self.is_answer {
            true => (self.to_mac, 2),
            false => (EVERYONE, 1),
        };
        let mut frame = [&to[..], &self.from_mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, kind]].concat();
        frame.extend(self.from_mac);
        frame.extend(self.from.octets());
        frame.extend(if self.is_answer { self.to_mac } else { [0; 6] });
        frame.extend(self.about.octets());
        frame
    }
}

fn be16(octets: &[u8]) -> u16 {
    u16::from_be_bytes([octets[0], octets[1]])
}

fn be(length: usize) -> [u8; 2] {
    u16::try_from(length)
        .expect("fits an IPv4 packet")
        .to_be_bytes()
}

/// The Internet checksum over parts of even length, but for the last (RFC 1071).
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let pairs = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 = pairs
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum();
    let folded = (sum >> 16) + (sum & 0xffff);
    !((folded + (folded >> 16)) as u16)
}
