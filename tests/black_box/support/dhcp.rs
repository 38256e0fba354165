//! DHCP clients made by hand: packets written octet by octet, and their answers as they were on the wire.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::netns::{Netns, server_and_client};
use super::service::Service;
use super::wire::{Arp, EVERYONE, Mac, Udp, Wire};

/// The server of every test.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// No answer for this long is a failure; no test waits for it that passes.
const HANG: Duration = Duration::from_secs(20);

/// Message types (option 53).
pub const DISCOVER: u8 = 1;
pub const OFFER: u8 = 2;
pub const REQUEST: u8 = 3;
pub const DECLINE: u8 = 4;
pub const ACK: u8 = 5;
pub const NAK: u8 = 6;
pub const RELEASE: u8 = 7;
pub const INFORM: u8 = 8;

/// The MAC of client number `n`.
pub fn mac(n: u16) -> Mac {
    let [high, low] = n.to_be_bytes();
    [0x52, 0x54, 0, 0, high, low]
}

/// A MAC as the service writes it.
pub fn text(mac: Mac) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// What a client sends. Every field can be anything.
#[derive(Clone, Debug)]
pub struct Packet {
    pub op: u8,
    pub htype: u8,
    pub hlen: u8,
    pub hops: u8,
    pub xid: u32,
    pub secs: u16,
    pub flags: u16,
    pub ciaddr: Ipv4Addr,
    pub giaddr: Ipv4Addr,
    pub chaddr: Mac,
    pub cookie: [u8; 4],
    pub options: Vec<(u8, Vec<u8>)>,
}

impl Packet {
    /// A message of this type, with an `xid` of its own.
    pub fn new(kind: u8, chaddr: Mac) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0x0b00_0000);
        Self {
            op: 1,
            htype: 1,
            hlen: 6,
            hops: 0,
            xid: NEXT.fetch_add(1, Ordering::Relaxed),
            secs: 0,
            flags: 0,
            ciaddr: NOBODY,
            giaddr: NOBODY,
            chaddr,
            cookie: [99, 130, 83, 99],
            options: vec![(53, vec![kind])],
        }
    }

    pub fn discover(chaddr: Mac) -> Self {
        Self::new(DISCOVER, chaddr)
    }

    /// A REQUEST in state SELECTING: takes an offer.
    pub fn selecting(offer: &Reply) -> Self {
        Self {
            xid: offer.xid(),
            flags: offer.flags(),
            ..Self::new(REQUEST, offer.chaddr())
        }
        .with(54, &offer.server_id().octets())
        .with(50, &offer.yiaddr().octets())
    }

    /// A REQUEST in state INIT-REBOOT: was here before.
    pub fn rebooting(chaddr: Mac, address: Ipv4Addr) -> Self {
        Self::new(REQUEST, chaddr).with(50, &address.octets())
    }

    /// A REQUEST in state RENEWING or REBINDING, by how it is sent.
    pub fn extending(chaddr: Mac, address: Ipv4Addr) -> Self {
        Self::new(REQUEST, chaddr).with_ciaddr(address)
    }

    pub fn release(chaddr: Mac, address: Ipv4Addr) -> Self {
        Self::new(RELEASE, chaddr)
            .with_ciaddr(address)
            .with(54, &SERVER.octets())
    }

    pub fn decline(chaddr: Mac, address: Ipv4Addr) -> Self {
        Self::new(DECLINE, chaddr)
            .with(54, &SERVER.octets())
            .with(50, &address.octets())
    }

    pub fn inform(chaddr: Mac, address: Ipv4Addr) -> Self {
        Self::new(INFORM, chaddr).with_ciaddr(address)
    }

    /// Sets an option, or adds it after the others.
    pub fn with(mut self, code: u8, content: &[u8]) -> Self {
        match self.options.iter_mut().find(|(known, _)| *known == code) {
            Some((_, known)) => *known = content.to_vec(),
            None => self.options.push((code, content.to_vec())),
        }
        self
    }

    /// Sets `ciaddr`.
    pub fn with_ciaddr(mut self, ciaddr: Ipv4Addr) -> Self {
        self.ciaddr = ciaddr;
        self
    }

    /// Sets the broadcast flag.
    pub fn wanting_broadcast(mut self) -> Self {
        self.flags |= 0x8000;
        self
    }

    /// As a relay agent passes it on that has this address on the client's side.
    pub fn relayed_by(mut self, giaddr: Ipv4Addr) -> Self {
        self.giaddr = giaddr;
        self.hops += 1;
        self
    }

    /// The UDP datagram's content, in the order of RFC 2131 §2.
    pub fn octets(&self) -> Vec<u8> {
        let mut octets = vec![self.op, self.htype, self.hlen, self.hops];
        octets.extend(self.xid.to_be_bytes());
        octets.extend(self.secs.to_be_bytes());
        octets.extend(self.flags.to_be_bytes());
        octets.extend(self.ciaddr.octets());
        octets.extend([0; 8]); // yiaddr, siaddr
        octets.extend(self.giaddr.octets());
        octets.extend(self.chaddr);
        octets.resize(236, 0);
        octets.extend(self.cookie);
        for (code, content) in &self.options {
            octets.push(*code);
            octets.push(u8::try_from(content.len()).expect("an option has at most 255 octets"));
            octets.extend(content);
        }
        octets.push(255);
        octets
    }
}

/// What the server sent.
#[derive(Clone, Debug)]
pub struct Reply {
    /// With the addresses of frame and packet.
    pub datagram: Udp,
    /// In the order they came.
    pub options: Vec<(u8, Vec<u8>)>,
}

impl Reply {
    /// Reads a datagram, which must be a well-formed reply up to the padding behind the end option.
    pub fn read(datagram: Udp) -> Self {
        let octets = &datagram.content;
        assert!(octets.len() >= 300, "{} octets", octets.len());
        assert_eq!((octets[0], &octets[236..240]), (2, &[99, 130, 83, 99][..]));
        let mut options = Vec::new();
        let mut rest = &octets[240..];
        while rest[0] != 255 {
            if rest[0] == 0 {
                rest = &rest[1..]; // a pad has no length
                continue;
            }
            let length = usize::from(rest[1]);
            options.push((rest[0], rest[2..2 + length].to_vec()));
            rest = &rest[2 + length..];
        }
        assert!(rest[1..].iter().all(|octet| *octet == 0), "padding");
        Self { datagram, options }
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        let octets = &self.datagram.content[at..at + N];
        octets.try_into().expect("as long as asked")
    }

    pub fn xid(&self) -> u32 {
        u32::from_be_bytes(self.field(4))
    }

    pub fn flags(&self) -> u16 {
        u16::from_be_bytes(self.field(10))
    }

    pub fn ciaddr(&self) -> Ipv4Addr {
        self.field(12).into()
    }

    pub fn yiaddr(&self) -> Ipv4Addr {
        self.field(16).into()
    }

    pub fn siaddr(&self) -> Ipv4Addr {
        self.field(20).into()
    }

    pub fn giaddr(&self) -> Ipv4Addr {
        self.field(24).into()
    }

    pub fn chaddr(&self) -> Mac {
        self.field(28)
    }

    /// The text of the field `file`.
    pub fn file(&self) -> String {
        let field: [u8; 128] = self.field(108);
        let end = field.iter().position(|octet| *octet == 0);
        let name = &field[..end.expect("it is closed with NUL")];
        String::from_utf8(name.to_vec()).expect("it is text")
    }

    /// An option's content; an option that comes twice fails the test.
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        let mut found = self.options.iter().filter(|(known, _)| *known == code);
        let (_, content) = found.next()?;
        assert!(found.next().is_none(), "option {code} comes twice");
        Some(content)
    }

    /// An option that holds text.
    pub fn text(&self, code: u8) -> Option<&str> {
        let content = self.option(code)?;
        Some(std::str::from_utf8(content).expect("it is text"))
    }

    /// An option that holds a number of four octets.
    pub fn number(&self, code: u8) -> Option<u32> {
        let content = self.option(code)?;
        Some(u32::from_be_bytes(content.try_into().expect("four octets")))
    }

    /// An option that holds one address.
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        self.number(code).map(Ipv4Addr::from_bits)
    }

    pub fn server_id(&self) -> Ipv4Addr {
        self.address(54).expect("every reply has option 54")
    }

    /// The message type.
    pub fn kind(&self) -> u8 {
        let content = self.option(53).expect("every reply has option 53");
        content[0]
    }
}

/// The clients' end of the link to the server: any number of them, as many as there are MACs.
pub struct Segment {
    wire: Wire,
    /// Who answers ARP for what.
    addresses: RefCell<BTreeMap<Ipv4Addr, Mac>>,
    heard: RefCell<Vec<Reply>>,
    _netns: Netns,
}

impl Segment {
    /// A server's namespace with 198.18.0.1/24 on its `lan0`, and what hangs on that link.
    pub fn new() -> (Netns, Self) {
        let (server, netns) = server_and_client("02:00:00:00:00:fe");
        server.without_offloads("lan0");
        let segment = Self {
            wire: Wire::open(&netns, "eth0"),
            addresses: RefCell::default(),
            heard: RefCell::default(),
            _netns: netns,
        };
        (server, segment)
    }

    /// From now on this card answers ARP for the address.
    pub fn take_address(&self, address: Ipv4Addr, mac: Mac) {
        self.addresses.borrow_mut().insert(address, mac);
    }

    /// Broadcasts a packet, as a client without an address does.
    pub fn send(&self, packet: &Packet) {
        self.send_octets(packet.chaddr, packet.octets());
    }

    /// Broadcasts any octets to the server's port.
    pub fn send_octets(&self, from: Mac, content: Vec<u8>) {
        self.send_datagram(&Udp {
            to_mac: EVERYONE,
            from_mac: from,
            from: SocketAddrV4::new(NOBODY, 68),
            to: SocketAddrV4::new(Ipv4Addr::BROADCAST, 67),
            content,
        });
    }

    /// Sends a packet from its `ciaddr` to the server alone, as a client that renews does.
    pub fn send_from_address(&self, packet: &Packet) {
        self.take_address(packet.ciaddr, packet.chaddr);
        self.send_datagram(&Udp {
            to_mac: self.fence(),
            from_mac: packet.chaddr,
            from: SocketAddrV4::new(packet.ciaddr, 68),
            to: SocketAddrV4::new(SERVER, 67),
            content: packet.octets(),
        });
    }

    /// Sends a packet as its relay agent does, which has this card on the server's link.
    pub fn send_through_agent(&self, packet: &Packet, agent: Mac) {
        self.send_datagram(&Udp {
            to_mac: self.fence(),
            from_mac: agent,
            from: SocketAddrV4::new(packet.giaddr, 67),
            to: SocketAddrV4::new(SERVER, 67),
            content: packet.octets(),
        });
    }

    /// Sends a packet from its `ciaddr` to the boot server port alone (PXE 2.1 §2.5).
    pub fn send_to_boot_server(&self, packet: &Packet, from_port: u16) {
        self.take_address(packet.ciaddr, packet.chaddr);
        self.send_datagram(&Udp {
            to_mac: self.fence(),
            from_mac: packet.chaddr,
            from: SocketAddrV4::new(packet.ciaddr, from_port),
            to: SocketAddrV4::new(SERVER, 4011),
            content: packet.octets(),
        });
    }

    fn send_datagram(&self, datagram: &Udp) {
        for frame in datagram.frames() {
            self.wire.send(&frame);
        }
    }

    /// The next answer to the packet.
    pub fn answer_to(&self, packet: &Packet) -> Reply {
        let is_it = |reply: &Reply| reply.xid() == packet.xid;
        self.hear_until(|| self.heard.borrow().iter().any(is_it));
        let mut heard = self.heard.borrow_mut();
        let at = heard.iter().position(is_it);
        heard.remove(at.unwrap_or_else(|| panic!("no answer to {packet:02x?}")))
    }

    /// Sends a packet as `send` does and waits for the answer.
    pub fn ask(&self, packet: &Packet) -> Reply {
        self.send(packet);
        self.answer_to(packet)
    }

    /// DISCOVER to ACK for a client that has nothing.
    pub fn acquire(&self, chaddr: Mac) -> Reply {
        self.acquire_by(&Packet::discover(chaddr))
    }

    /// From this DISCOVER to the ACK.
    pub fn acquire_by(&self, discover: &Packet) -> Reply {
        let offer = self.ask(discover);
        assert_eq!(offer.kind(), OFFER);
        let ack = self.ask(&Packet {
            options: with_the_other_options(Packet::selecting(&offer), discover),
            ..Packet::selecting(&offer)
        });
        assert_eq!((ack.kind(), ack.yiaddr()), (ACK, offer.yiaddr()));
        ack
    }

    /// Waits until the service says that it stays silent to this packet; fails if anything was sent all the same.
    pub fn expect_silence(&self, service: &Service, packet: &Packet, reason: &str) {
        let xid = format!("{:08x}", packet.xid);
        let line = service.wait_for("silent", |line| line["xid"] == xid.as_str());
        assert_eq!(line["reason"], reason, "{line}");
        self.expect_nothing_more(packet);
    }

    /// Fails if an answer to the packet has come that was not taken yet.
    pub fn expect_nothing_more(&self, packet: &Packet) {
        // Twice: a datagram that waits for ARP follows the first answer.
        self.fence();
        self.fence();
        let heard = self.heard.borrow();
        let answer = heard.iter().find(|reply| reply.xid() == packet.xid);
        assert!(answer.is_none(), "{answer:?}");
    }

    /// Every answer that has come and was not taken yet, also when the service is no more.
    pub fn take_answers(&self) -> Vec<Reply> {
        self.fence();
        self.fence();
        self.heard.take()
    }

    /// Hears everything the server has sent up to now, and answers its MAC: its kernel answers a question that was asked later.
    fn fence(&self) -> Mac {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let [a, b, c, d] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let asker = [2, 1, a, b, c, d];
        self.wire.send(
            &Arp {
                is_answer: false,
                from_mac: asker,
                from: NOBODY,
                to_mac: EVERYONE,
                about: SERVER,
            }
            .frame(),
        );
        let mut server = None;
        let deadline = Instant::now() + HANG;
        while server.is_none() {
            let frame = self
                .wire
                .receive(deadline)
                .expect("the server has a kernel");
            server = Arp::read(&frame)
                .filter(|arp| arp.is_answer && arp.to_mac == asker)
                .map(|arp| arp.from_mac);
            self.hear(&frame);
        }
        server.expect("it was asked for until it was there")
    }

    fn hear_until(&self, enough: impl Fn() -> bool) {
        let deadline = Instant::now() + HANG;
        while !enough() {
            let Some(frame) = self.wire.receive(deadline) else {
                return;
            };
            self.hear(&frame);
        }
    }

    fn hear(&self, frame: &[u8]) {
        if let Some(question) = Arp::read(frame).filter(|arp| !arp.is_answer)
            && let Some(owner) = self.addresses.borrow().get(&question.about)
        {
            let answer = Arp {
                is_answer: true,
                from_mac: *owner,
                from: question.about,
                to_mac: question.from_mac,
                about: question.from,
            };
            self.wire.send(&answer.frame());
        }
        if let Some(datagram) = Udp::read(frame)
            && matches!(datagram.from.port(), 67 | 4011)
        {
            self.heard.borrow_mut().push(Reply::read(datagram));
        }
    }
}

/// A real client repeats in its REQUEST what it said in its DISCOVER.
fn with_the_other_options(request: Packet, discover: &Packet) -> Vec<(u8, Vec<u8>)> {
    let mut options = request.options;
    let others = discover.options.iter().filter(|(code, _)| *code != 53);
    options.extend(others.cloned());
    options
}

/// Whether a log line is about this packet.
pub fn is_about(line: &Value, packet: &Packet) -> bool {
    line["xid"] == format!("{:08x}", packet.xid).as_str()
}

/// Numbers below a bound, the same in every run (xorshift64).
pub fn numbers(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as usize % below
    }
}
