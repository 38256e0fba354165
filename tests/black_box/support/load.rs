//! Many DHCP clients at once, on a segment or behind a relay agent, made by hand so that every packet is seen: who was given which
//! address by whom, and how long each had to wait.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::dhcp::{ACK, DISCOVER, NAK, OFFER, Packet, Reply};
use super::netns::Netns;
use super::wire::{Arp, EVERYONE, Mac, Udp, Wire};

/// A hang is a failure; this only bounds how long one is waited for.
const HANG: Duration = Duration::from_secs(180);
/// What is not answered is sent again, as iPXE does.
const PATIENCE: Duration = Duration::from_secs(1);
/// After so many REQUESTs in vain a client begins anew.
const MOST_REQUESTS: u32 = 4;

/// How the clients reach the servers.
#[derive(Clone, Debug)]
pub enum Path {
    /// They broadcast.
    Segment,
    /// A relay agent with this card and address sends to one of these servers, and what is sent again to the next.
    Relayed {
        agent: Mac,
        giaddr: Ipv4Addr,
        servers: Vec<(Mac, Ipv4Addr)>,
    },
}

/// How much, and of whom.
#[derive(Clone, Debug)]
pub struct Plan {
    pub path: Path,
    /// Clients that are new, one after the other.
    pub every: Duration,
    /// The first octets of their MACs, of which the last three count.
    pub macs: [u8; 3],
    /// Machines that come again and again, in turn with those that are new.
    pub known: Vec<Mac>,
}

/// One address that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Granted {
    pub mac: Mac,
    pub address: Ipv4Addr,
    /// The server that sent it.
    pub by: Ipv4Addr,
    /// The server identifier that it says.
    pub named: Ipv4Addr,
    pub begun: Instant,
    pub ended: Instant,
}

/// What has been seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub granted: Vec<Granted>,
    pub naks: usize,
    /// Clients that wait for an answer.
    pub waiting: usize,
}

/// The clients at work, until they are stopped.
pub struct Load {
    seen: Arc<(Mutex<Seen>, Condvar)>,
    is_ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// One client on its way to an address.
struct Client {
    packet: Packet,
    begun: Instant,
    sent: Instant,
    /// How often it has sent what was not answered.
    tries: usize,
    requests: u32,
}

struct Crowd {
    wire: Wire,
    plan: Plan,
    seen: Arc<(Mutex<Seen>, Condvar)>,
    /// By xid.
    clients: BTreeMap<u32, Client>,
    begun: u32,
}

impl Load {
    /// Begins on this interface of the namespace.
    pub fn begin(netns: &Netns, interface: &str, plan: Plan) -> Self {
        let (seen, is_ending) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let crowd = Crowd {
            wire: Wire::open(netns, interface),
            plan,
            seen: Arc::clone(&seen),
            clients: BTreeMap::new(),
            begun: 0,
        };
        let ending = is_ending.clone();
        let thread = Some(std::thread::spawn(move || crowd.work(&ending)));
        Self {
            seen,
            is_ending,
            thread,
        }
    }

    /// What has been seen so far.
    pub fn seen(&self) -> Seen {
        self.seen.0.lock().expect("no panic").clone()
    }

    /// Waits until so many more have been served.
    pub fn serves(&self, more: usize) {
        let (seen, changed) = &*self.seen;
        let seen = seen.lock().expect("no panic");
        let wanted = seen.granted.len() + more;
        let (seen, waited) = changed
            .wait_timeout_while(seen, HANG, |seen| seen.granted.len() < wanted)
            .expect("no panic");
        let (served, waiting) = (seen.granted.len(), seen.waiting);
        assert!(
            !waited.timed_out(),
            "{served} of {wanted}, and {waiting} wait"
        );
    }

    /// Lets those who have begun come to their end, and answers all that was seen.
    pub fn end(mut self) -> Seen {
        self.is_ending.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it works until here");
        thread.join().expect("every client is served in the end");
        self.seen()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Relaxed);
    }
}

impl Crowd {
    fn work(mut self, is_ending: &AtomicBool) {
        let mut next = Instant::now();
        let mut ending = None;
        loop {
            let now = Instant::now();
            if is_ending.load(Ordering::Relaxed) {
                let since = *ending.get_or_insert(now);
                if self.clients.is_empty() {
                    return;
                }
                let left = self.clients.len();
                assert!(since.elapsed() < HANG, "{left} clients are never served");
            } else {
                while next <= now {
                    self.begin();
                    next += self.plan.every;
                }
            }
            self.send_again(now);
            let until = Instant::now() + Duration::from_millis(5);
            while let Some(frame) = self.wire.receive(until) {
                self.hear(&frame);
            }
        }
    }

    fn begin(&mut self) {
        let number = self.begun;
        self.begun += 1;
        let [_, a, b, c] = number.to_be_bytes();
        let [x, y, z] = self.plan.macs;
        let known = match self.plan.known.len() {
            0 => None,
            most if number % 2 == 1 => self.plan.known.get(number as usize / 2 % most),
            _ => None,
        };
        let mac = known.copied().unwrap_or([x, y, z, a, b, c]);
        let packet = Packet::discover(mac);
        let now = Instant::now();
        let client = Client {
            begun: now,
            sent: now,
            tries: 0,
            requests: 0,
            packet,
        };
        self.send(&client.packet, client.tries);
        self.clients.insert(client.packet.xid, client);
        self.note(|_| ());
    }

    fn send_again(&mut self, now: Instant) {
        let mut late: Vec<(Packet, usize)> = Vec::new();
        for client in self.clients.values_mut() {
            if now.duration_since(client.sent) < PATIENCE {
                continue;
            }
            let is_request = client.packet.options[0].1 != [DISCOVER];
            if is_request && client.requests >= MOST_REQUESTS {
                client.requests = 0;
                client.packet = Packet {
                    xid: client.packet.xid,
                    ..Packet::discover(client.packet.chaddr)
                };
            }
            client.requests += u32::from(is_request);
            let waited = client.begun.elapsed().as_secs();
            client.packet.secs = u16::try_from(waited).unwrap_or(u16::MAX);
            client.sent = now;
            client.tries += 1;
            late.push((client.packet.clone(), client.tries));
        }
        for (packet, tries) in &late {
            self.send(packet, *tries);
        }
    }

    fn send(&self, packet: &Packet, tries: usize) {
        let datagram = match &self.plan.path {
            Path::Segment => Udp {
                to_mac: EVERYONE,
                from_mac: packet.chaddr,
                from: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
                to: SocketAddrV4::new(Ipv4Addr::BROADCAST, 67),
                content: packet.octets(),
            },
            Path::Relayed {
                agent,
                giaddr,
                servers,
            } => {
                let first = packet.chaddr[5];
                let (mac, server) = servers[(usize::from(first) + tries) % servers.len()];
                Udp {
                    to_mac: mac,
                    from_mac: *agent,
                    from: SocketAddrV4::new(*giaddr, 67),
                    to: SocketAddrV4::new(server, 67),
                    content: packet.clone().relayed_by(*giaddr).octets(),
                }
            }
        };
        for frame in datagram.frames() {
            self.wire.send(&frame);
        }
    }

    fn hear(&mut self, frame: &[u8]) {
        if let (Some(question), Path::Relayed { agent, giaddr, .. }) =
            (Arp::read(frame), &self.plan.path)
        {
            if !question.is_answer && question.about == *giaddr {
                let answer = Arp {
                    is_answer: true,
                    from_mac: *agent,
                    from: *giaddr,
                    to_mac: question.from_mac,
                    about: question.from,
                };
                self.wire.send(&answer.frame());
            }
            return;
        }
        let Some(datagram) = Udp::read(frame).filter(|datagram| datagram.from.port() == 67) else {
            return;
        };
        // What replicas send on to each other passes by on the same switch.
        if datagram.content.first() != Some(&2) {
            return;
        }
        let reply = Reply::read(datagram);
        let Some(mut client) = self.clients.remove(&reply.xid()) else {
            return;
        };
        let is_request = client.packet.options[0].1 != [DISCOVER];
        match (reply.kind(), is_request) {
            (OFFER, false) => {
                client.packet = Packet {
                    secs: client.packet.secs,
                    ..Packet::selecting(&reply)
                };
                (client.requests, client.sent) = (1, Instant::now());
                self.send(&client.packet, client.tries);
            }
            (ACK, true) => {
                let granted = Granted {
                    mac: client.packet.chaddr,
                    address: reply.yiaddr(),
                    by: *reply.datagram.from.ip(),
                    named: reply.server_id(),
                    begun: client.begun,
                    ended: Instant::now(),
                };
                return self.note(|seen| seen.granted.push(granted));
            }
            (NAK, true) => {
                client.packet = Packet {
                    xid: client.packet.xid,
                    secs: client.packet.secs,
                    ..Packet::discover(client.packet.chaddr)
                };
                (client.requests, client.sent) = (0, Instant::now());
                self.send(&client.packet, client.tries);
                self.note(|seen| seen.naks += 1);
            }
            _ => {}
        }
        self.clients.insert(client.packet.xid, client);
    }

    fn note(&self, what: impl FnOnce(&mut Seen)) {
        let (seen, changed) = &*self.seen;
        let mut seen = seen.lock().expect("no panic");
        what(&mut seen);
        seen.waiting = self.clients.len();
        changed.notify_all();
    }
}

/// Broadcasts one packet, again and again until it is answered.
pub fn ask(wire: &Wire, packet: &Packet) -> Reply {
    let until = Instant::now() + HANG;
    while Instant::now() < until {
        let datagram = Udp {
            to_mac: EVERYONE,
            from_mac: packet.chaddr,
            from: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
            to: SocketAddrV4::new(Ipv4Addr::BROADCAST, 67),
            content: packet.octets(),
        };
        datagram.frames().iter().for_each(|frame| wire.send(frame));
        let soon = Instant::now() + PATIENCE;
        while let Some(frame) = wire.receive(soon) {
            let datagram = Udp::read(&frame).filter(|d| d.content.first() == Some(&2));
            if let Some(reply) = datagram.map(Reply::read).filter(|r| r.xid() == packet.xid) {
                return reply;
            }
        }
    }
    panic!("no answer to {packet:02x?}");
}
