//! What of a batch is for other replicas. In: each packet as it comes, and the group as it stands. Out: those that are answered
//! here; the others are sent on to their owner at the end of the batch, or left to it.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::Guard;

use super::forward::{Arrival, Turn, turn};
use super::request::{Kind, Request};
use super::route::SERVER_PORT;
use crate::bindings::Bindings;
use crate::model::{BindingChange, ClientKey, Dhcp, Event, LeaseState, Silence, Slices};
use crate::net::{Datagram, DhcpSocket, Way};
use crate::observe::emit;
use crate::replicas::group::Group;
use crate::replicas::shared::Known;

/// One batch, as the replica that received it sorts it.
pub(super) struct Sorting<'a> {
    known: &'a Known,
    /// The same for the whole batch.
    group: Guard<Arc<Group>>,
    server_id: Ipv4Addr,
    now_secs: u64,
    forwards: Vec<(&'a [u8], Ipv4Addr, Dhcp)>,
    /// Those who have chosen another replica: what this one offered them is free again.
    elsewhere: Vec<ClientKey>,
}

/// A packet that is answered here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ours {
    /// Under the server identifier of another replica.
    pub named: Option<Ipv4Addr>,
}

impl<'a> Sorting<'a> {
    pub(super) fn new(known: &'a Known, server_id: Ipv4Addr, now_secs: u64) -> Self {
        Self {
            group: known.group(),
            known,
            server_id,
            now_secs,
            forwards: Vec::new(),
            elsewhere: Vec::new(),
        }
    }

    /// The parts of pools to give addresses of first.
    pub(super) fn own_slices(&self) -> Slices {
        self.group.own_slices()
    }

    /// Whether the packet is answered here; if not, it has been seen to.
    pub(super) fn sort(
        &mut self,
        request: &Request,
        datagram: &Datagram<'a>,
        dhcp: impl FnOnce() -> Dhcp,
        is_reserved: impl FnOnce() -> bool,
    ) -> Option<Ours> {
        let arrival = Arrival {
            server_id: self.server_id,
            from: datagram.from,
            to: datagram.to,
        };
        match turn(request, arrival, &self.group, is_reserved, self.now_secs) {
            Turn::Ours { named } => {
                self.known.taken.fetch_add(1, Ordering::Relaxed);
                return Some(Ours { named });
            }
            Turn::NotOurs => {
                self.known.left.fetch_add(1, Ordering::Relaxed);
                if request.kind == Kind::Request && request.server_id.is_some() {
                    self.elsewhere.extend(request.client());
                }
                let (dhcp, reason) = (dhcp(), Silence::NotOurs);
                emit(&Event::Silent { dhcp, reason });
            }
            Turn::Forward { to } => self.forwards.push((datagram.octets, to, dhcp())),
        }
        None
    }

    /// Takes back what was offered to those who have chosen another replica.
    pub(super) fn withdraw(&self, bindings: &mut Bindings) {
        for client in &self.elsewhere {
            let offers: Vec<Ipv4Addr> = (bindings.of(client))
                .filter(|lease| lease.state == LeaseState::Offered)
                .map(|lease| lease.address)
                .collect();
            for address in offers {
                let client = client.clone();
                bindings.apply(BindingChange::Withdraw { address, client });
            }
        }
    }

    /// Sends on what others own, as it came: from the server's port to theirs.
    pub(super) fn send(self, socket: &DhcpSocket) {
        if self.forwards.is_empty() {
            return;
        }
        let from = SocketAddrV4::new(self.server_id, SERVER_PORT);
        let datagrams: Vec<(&[u8], Way)> = (self.forwards.iter())
            .map(|(octets, to, _)| (*octets, Way::Datagram(SocketAddrV4::new(*to, SERVER_PORT))))
            .collect();
        let mut failed = socket.send(from, &datagrams).into_iter().peekable();
        for (place, (_, to, dhcp)) in self.forwards.into_iter().enumerate() {
            match failed.next_if(|(of, _)| *of == place) {
                None => {
                    self.known.forwarded.fetch_add(1, Ordering::Relaxed);
                    emit(&Event::Forwarded { dhcp, to });
                }
                Some((_, error)) => {
                    let error = format!("to replica at {to}: {error}");
                    emit(&Event::SendFailed { dhcp, error });
                }
            }
        }
    }
}
