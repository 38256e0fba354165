//! Who is being served. In: packets of clients, by the port they come from. Out: the packets to that client's session, or a
//! place for a new one. Refuses more sessions than there are places, in all and for one address.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::packet::{Packet, Request};

/// Packets that wait for one session; more are lost, as packets are.
const INBOX: usize = 16;

/// A client's port, and the address of ours that it speaks to.
pub type Ends = (SocketAddr, IpAddr);

/// How many may be served at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most {
    pub in_all: usize,
    pub per_client: usize,
}

/// The sessions that run.
pub struct Places {
    most: Most,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    inboxes: HashMap<Ends, Sender<Packet>>,
    clients: HashMap<IpAddr, usize>,
}

/// What became of a request.
pub enum Admission {
    /// It was handed to the session that the port has.
    Known,
    /// It needs a session: this is its place, and what will be sent to it.
    New(Place, Receiver<Packet>),
    /// There is no place, and why.
    Full(String),
}

/// One session's place; free again when dropped.
pub struct Place {
    places: Arc<Places>,
    ends: Ends,
    is_left: bool,
}

impl Places {
    pub fn new(most: Most) -> Arc<Self> {
        Arc::new(Self {
            most,
            taken: Mutex::default(),
        })
    }

    /// A client asks to read.
    pub fn admit(self: &Arc<Self>, ends: Ends, request: &Request) -> Admission {
        let mut taken = self.taken();
        if let Some(inbox) = taken.inboxes.get(&ends) {
            let _ = inbox.try_send(Packet::Read(request.clone()));
            return Admission::Known;
        }
        if taken.inboxes.len() >= self.most.in_all {
            let reason = format!("{} transfers run already", self.most.in_all);
            return Admission::Full(reason);
        }
        let client = taken.clients.entry(client_of(ends)).or_default();
        if *client >= self.most.per_client {
            let reason = format!("{} transfers of this client run already", *client);
            return Admission::Full(reason);
        }
        *client += 1;
        let (inbox, packets) = channel(INBOX);
        taken.inboxes.insert(ends, inbox);
        let place = Place {
            places: self.clone(),
            ends,
            is_left: false,
        };
        Admission::New(place, packets)
    }

    /// Hands a packet to the session of its port. False if there is none.
    pub fn deliver(&self, ends: Ends, packet: Packet) -> bool {
        let taken = self.taken();
        let inbox = taken.inboxes.get(&ends);
        inbox.is_some_and(|inbox| {
            let _ = inbox.try_send(packet);
            true
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Leaves, unless another request has come meanwhile: that is to be served now.
    pub fn leave(&mut self, packets: &mut Receiver<Packet>) -> Option<Request> {
        let places = self.places.clone();
        let mut taken = places.taken();
        while let Ok(packet) = packets.try_recv() {
            if let Packet::Read(request) = packet {
                return Some(request);
            }
        }
        self.is_left = true;
        taken.free(self.ends);
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_left {
            self.places.taken().free(self.ends);
        }
    }
}

impl Taken {
    fn free(&mut self, ends: Ends) {
        self.inboxes.remove(&ends);
        if let Some(count) = self.clients.get_mut(&client_of(ends)) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.clients.remove(&client_of(ends));
            }
        }
    }
}

fn client_of((peer, _): Ends) -> IpAddr {
    peer.ip().to_canonical()
}

#[cfg(test)]
mod tests {
    use super::super::packet::Mode;
    use super::*;

    fn request(name: &str) -> Request {
        Request {
            name: name.into(),
            mode: Mode::Octet,
            options: Vec::new(),
        }
    }

    fn ends(client: u8, port: u16) -> Ends {
        let ours = IpAddr::from([198, 18, 0, 1]);
        (SocketAddr::from(([198, 18, 0, client], port)), ours)
    }

    fn new(places: &Arc<Places>, ends: Ends) -> (Place, Receiver<Packet>) {
        match places.admit(ends, &request("f")) {
            Admission::New(place, packets) => (place, packets),
            Admission::Known => panic!("known"),
            Admission::Full(why) => panic!("{why}"),
        }
    }

    #[test]
    fn nobody_can_take_all_places_and_they_come_back() {
        let places = Places::new(Most {
            in_all: 3,
            per_client: 2,
        });
        let first = new(&places, ends(10, 1));
        let _second = new(&places, ends(10, 2));
        let full = |client, port| match places.admit(ends(client, port), &request("f")) {
            Admission::Full(why) => why,
            _ => String::new(),
        };
        assert_eq!(full(10, 3), "2 transfers of this client run already");
        let third = new(&places, ends(11, 1));
        assert_eq!(full(12, 1), "3 transfers run already");
        drop(first);
        let _fourth = new(&places, ends(10, 3));
        drop(third);
        assert_eq!(full(10, 4), "2 transfers of this client run already");
        let _fifth = new(&places, ends(12, 1));
    }

    #[test]
    fn a_request_that_comes_as_a_session_ends_is_served_by_it() {
        let places = Places::new(Most {
            in_all: 1,
            per_client: 1,
        });
        let (mut place, mut packets) = new(&places, ends(10, 1));
        let again = places.admit(ends(10, 1), &request("g"));
        assert!(matches!(again, Admission::Known));
        assert!(places.deliver(ends(10, 1), Packet::Ack(1)));
        assert!(!places.deliver(ends(10, 2), Packet::Ack(1)));
        assert_eq!(place.leave(&mut packets), Some(request("g")));
        assert_eq!(place.leave(&mut packets), None);
        let _next = new(&places, ends(10, 1));
        drop(place);
        assert!(places.deliver(ends(10, 1), Packet::Ack(1)), "not its place");
    }
}
