//! The DHCP shell: receive, parse, look up, decide, commit, send, emit. One thread for each port of each interface; packets that
//! came together are received, committed and answered together.
//!
//! What promises nothing that must be on disk (an OFFER, a NAK, the ACK of an INFORM) is sent at once. The other replies are
//! sent by the store's writing thread, as soon as it has synced what they say; receiving goes on meanwhile.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::answer::{Mode, answer};
use super::away::within_what_is_kept;
use super::bootfile::{BootServers, Bootfile};
use super::copies::Copies;
use super::decide::Answer;
use super::limit::Limiter;
use super::peers::{Ours, Sorting};
use super::prober::Prober;
use super::proxy::{BOOT_SERVER_PORT, Port};
use super::reply;
use super::request::Request;
use super::rogue::OwnXid;
use super::route::{self, CLIENT_PORT, Destination, SERVER_PORT};
use super::view::{Ingress, View};
use crate::bindings::Bindings;
use crate::catalog::Catalog;
use crate::model::{BindingChange, Dhcp, Event, Lease, LeaseState, Silence, Slices};
use crate::net::{Datagram, DhcpSocket, Inbox, Way, now_secs};
use crate::observe::{self, emit};
use crate::replicas::shared::Known;
use crate::store::{Store, StoreError};

/// How many packets are taken at once.
const BATCH: usize = 64;
/// Where batches come faster than this, packets are let gather for as long: waking up for each costs more than answering it.
const BUSY: Duration = Duration::from_micros(200);
/// How long it may take to notice that the service stops.
pub const PATIENCE: Duration = Duration::from_millis(200);

/// One port of one interface that DHCP is served on.
pub struct Server {
    pub interface: String,
    /// Option 54 and the source of every reply.
    pub server_id: Ipv4Addr,
    pub port: Port,
    pub mode: Mode,
    pub authoritative: bool,
    pub limiter: Limiter,
    pub started: Instant,
    /// Of the DISCOVER by which we look for other servers; it is not ours to answer.
    pub own_xid: OwnXid,
    /// Looks whether an address is in use before it is offered, where the subnet wants that.
    pub prober: Arc<Prober>,
    pub socket: Arc<DhcpSocket>,
    pub boot: Arc<BootServers>,
    pub store: Store,
    /// Those that answer other clients, if there are any.
    pub replicas: Option<Arc<Known>>,
    /// What they sent on and others sent as well.
    pub copies: Copies,
}

/// A packet to answer.
struct Asked<'a> {
    request: Request,
    datagram: Datagram<'a>,
    ours: Ours,
}

/// One outcome, and the reply that goes with it.
struct Outgoing {
    /// Among the octets of its batch; empty for silence.
    octets: Range<usize>,
    to: Destination,
    event: Event,
    /// The address to look for before it is sent, and whom it is for.
    probe: Option<Lease>,
}

/// The outcomes of a batch that go the same way.
#[derive(Default)]
struct Batch {
    octets: Vec<u8>,
    outgoing: Vec<Outgoing>,
}

/// What the packets of a batch come to.
#[derive(Default)]
struct Outcomes {
    /// To be told at once.
    ready: Batch,
    /// To be told when the change at the same place is on disk.
    waiting: Batch,
    changes: Vec<BindingChange>,
    /// While the store is away: what it keeps.
    kept: Option<Arc<Bindings>>,
}

/// Sends replies of one port, from whichever thread.
#[derive(Clone)]
struct Sender {
    server_id: Ipv4Addr,
    port: Port,
    socket: Arc<DhcpSocket>,
    prober: Arc<Prober>,
}

impl Server {
    /// Serves until `stop`. Blocks.
    pub fn serve(mut self, stop: &CancellationToken) {
        let mut inbox = Inbox::new(BATCH);
        let mut answered = Instant::now();
        while !stop.is_cancelled() {
            match self.socket.receive(&mut inbox) {
                Ok(0) => {}
                Ok(_) => {
                    let is_busy = answered.elapsed() < BUSY;
                    self.answer(&inbox);
                    if is_busy {
                        std::thread::park_timeout(BUSY);
                    }
                    answered = Instant::now();
                }
                // The interface went down, most likely; it may come back.
                Err(error) => {
                    self.report_receive(&error);
                    let pause = tokio::time::sleep(PATIENCE);
                    tokio::runtime::Handle::current().block_on(pause);
                }
            }
        }
    }

    fn answer(&mut self, inbox: &Inbox) {
        let _one_write = observe::gather();
        let (started, now) = (Instant::now(), now_secs());
        // Whoever asks for a boot server asks one alone.
        let replicas = self.replicas.clone().filter(|_| self.port == Port::Server);
        let mut sorting = (replicas.as_deref()).map(|r| Sorting::new(r, self.server_id, now));
        let asked: Vec<Asked> = (inbox.datagrams())
            .filter_map(|datagram| self.take(datagram, sorting.as_mut()))
            .collect();
        let store = self.store.clone();
        let kept = store.kept_while_away();
        let outcomes = store.decide(|catalog, bindings| {
            let mut outcomes = Outcomes {
                kept,
                ..Outcomes::default()
            };
            let own_slices = sorting.as_ref().map_or(Slices::ALL, |sorting| {
                sorting.withdraw(bindings);
                sorting.own_slices()
            });
            for asked in &asked {
                self.prepare(asked, own_slices, catalog, bindings, &mut outcomes, now);
            }
            outcomes
        });
        if let Some(sorting) = sorting {
            sorting.send(&self.socket);
        }
        let Outcomes {
            ready,
            waiting,
            changes,
            ..
        } = outcomes;
        let sender = Sender {
            server_id: self.server_id,
            port: self.port,
            socket: self.socket.clone(),
            prober: self.prober.clone(),
        };
        if !changes.is_empty() {
            let sender = sender.clone();
            let then = move |written| sender.send_written(waiting, written, started);
            store.record(changes, now, Box::new(then));
        }
        sender.send(ready, started);
    }

    /// A packet that is no request, or another replica's to answer, ends here.
    fn take<'a>(
        &mut self,
        datagram: Datagram<'a>,
        sorting: Option<&mut Sorting<'a>>,
    ) -> Option<Asked<'a>> {
        let request = self.parse(&datagram)?;
        let ours = match sorting {
            None => Ours::default(),
            Some(sorting) => sorting.sort(
                &request,
                &datagram,
                || describe(&self.interface, &request),
                || self.is_reserved(&request),
            )?,
        };
        if self.replicas.is_some() && self.is_copy(&request, &datagram) {
            let dhcp = describe(&self.interface, &request);
            let reason = Silence::Copy;
            emit(&Event::Silent { dhcp, reason });
            return None;
        }
        Some(Asked {
            request,
            datagram,
            ours,
        })
    }

    /// Whether a relay agent has sent the packet to several replicas.
    fn is_copy(&mut self, request: &Request, datagram: &Datagram) -> bool {
        let now_ms = self.now_ms();
        let from = datagram.from.filter(|_| !request.giaddr.is_unspecified());
        from.is_some_and(|from| self.copies.holds(datagram.octets, *from.ip(), now_ms))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether the client has an address of its own where it is.
    fn is_reserved(&self, request: &Request) -> bool {
        let catalog = self.store.catalog();
        let link = match request.giaddr.is_unspecified() {
            true => self.server_id,
            false => request.giaddr,
        };
        let reservation = request.mac().and_then(|mac| catalog.by_mac(mac));
        let address = reservation.and_then(|own| own.address);
        let subnet = catalog.subnet_of(link);
        address.is_some_and(|address| subnet.is_some_and(|s| s.cidr.contains(&address)))
    }

    /// A packet that is no request of ours to answer ends here.
    fn parse(&mut self, datagram: &Datagram) -> Option<Request> {
        let request = match Request::parse(datagram.octets) {
            Ok(request) => request,
            Err(reason) => {
                emit(&Event::Silent {
                    dhcp: Dhcp {
                        iface: self.interface.clone(),
                        ..Dhcp::default()
                    },
                    reason,
                });
                return None;
            }
        };
        if request.xid != 0 && request.xid == self.own_xid.load(Ordering::Relaxed) {
            return None;
        }
        let now_ms = self.now_ms();
        if let Some(client) = request.client()
            && !self.limiter.admits(&client, now_ms)
        {
            let dhcp = describe(&self.interface, &request);
            let reason = Silence::RateLimited;
            emit(&Event::Silent { dhcp, reason });
            return None;
        }
        Some(request)
    }

    /// Everything up to the commit.
    fn prepare(
        &self,
        asked: &Asked,
        own_slices: Slices,
        catalog: &Catalog,
        bindings: &mut Bindings,
        outcomes: &mut Outcomes,
        now: u64,
    ) {
        let Asked {
            request,
            datagram,
            ours,
        } = asked;
        let mut dhcp = describe(&self.interface, request);
        let ingress = Ingress {
            server_id: self.server_id,
            is_unicast: datagram.to == Some(self.server_id),
            authoritative: self.authoritative,
            now_secs: now,
        };
        let Some(mut view) = View::new(request, catalog, bindings, ingress) else {
            let reason = Silence::NoSubnet;
            return outcomes.ready.outgoing.push(Outgoing {
                octets: 0..0,
                to: Destination::Broadcast,
                event: Event::Silent { dhcp, reason },
                probe: None,
            });
        };
        view.own_slices = own_slices;
        view.server_id = ours.named.unwrap_or(view.server_id);
        dhcp.machine = view.reservation.map(|r| r.title().to_owned());
        let (mut decision, bootfile) = answer(request, self.port, self.mode, &self.boot, &view);
        if let Some(kept) = &outcomes.kept {
            decision = within_what_is_kept(decision, &view, kept);
        }
        let probe = self.prober.wanted(&decision, &view);
        let must_be_kept = matches!(&decision.change, Some(BindingChange::Put(lease)) if lease.state != LeaseState::Offered);
        let batch = match must_be_kept {
            true => &mut outcomes.waiting,
            false => &mut outcomes.ready,
        };
        let begin = batch.octets.len();
        reply::append(
            request,
            &decision.answer,
            bootfile.as_ref(),
            &view,
            &mut batch.octets,
        );
        let (mut to, event) = outcome(request, &decision.answer, bootfile, dhcp);
        if self.port == Port::BootServer
            && let Some(from) = datagram.from.filter(|from| !from.ip().is_unspecified())
        {
            to = Destination::Datagram(from); // PXE 2.1 §2.5: to the port it came from
        }
        batch.outgoing.push(Outgoing {
            octets: begin..batch.octets.len(),
            to,
            event,
            probe,
        });
        if let Some(change) = decision.change {
            if must_be_kept {
                outcomes.changes.push(change.clone());
            }
            bindings.apply(change);
        }
    }

    fn report_receive(&self, error: &io::Error) {
        emit(&Event::Failed {
            about: "dhcp",
            error: format!("{}: cannot receive: {error}", self.interface),
        });
    }
}

impl Sender {
    /// What was decided about each is on disk now, or could not be written.
    fn send_written(
        &self,
        mut batch: Batch,
        written: Result<Vec<bool>, StoreError>,
        started: Instant,
    ) {
        let _one_write = observe::gather();
        let mut at = 0;
        batch.outgoing.retain_mut(|outgoing| {
            let reason = match &written {
                Ok(accepted) if accepted.get(at) == Some(&true) => None,
                Ok(_) => Some(Silence::Overtaken),
                Err(StoreError::Away(_)) => Some(Silence::StoreUnavailable),
                Err(_) => Some(Silence::StoreFailed),
            };
            at += 1;
            if let Some(reason) = reason {
                let dhcp = outgoing.event.dhcp_mut().map(std::mem::take);
                let dhcp = dhcp.unwrap_or_default();
                emit(&Event::Silent { dhcp, reason });
            }
            reason.is_none()
        });
        if let Err(error) = written {
            emit(&Event::Failed {
                about: "store",
                error: error.to_string(),
            });
        }
        self.send(batch, started);
    }

    fn send(&self, batch: Batch, started: Instant) {
        let Batch { octets, outgoing } = batch;
        let (probed, at_once): (Vec<Outgoing>, Vec<Outgoing>) =
            outgoing.into_iter().partition(|o| o.probe.is_some());
        for outgoing in probed {
            self.look_and_send(&octets, outgoing, started);
        }
        let (places, replies): (Vec<usize>, Vec<(&[u8], Way)>) = (at_once.iter().enumerate())
            .filter(|(_, outgoing)| !outgoing.octets.is_empty())
            .flat_map(|(place, outgoing)| {
                let octets = &octets[outgoing.octets.clone()];
                ways(outgoing.to).map(move |way| (place, (octets, way)))
            })
            .unzip();
        let failed = match replies.as_slice() {
            [] => Vec::new(),
            replies => self.socket.send(self.source(), replies),
        };
        let mut failed = (failed.into_iter())
            .map(|(reply, error)| (places[reply], error))
            .peekable();
        let elapsed_us = u64::try_from(started.elapsed().as_micros()).ok();
        for (place, mut outgoing) in at_once.into_iter().enumerate() {
            if let Some(dhcp) = outgoing.event.dhcp_mut() {
                dhcp.elapsed_us = elapsed_us;
            }
            let mut error = None;
            while let Some((_, next)) = failed.next_if(|(of, _)| *of == place) {
                error = Some(next);
            }
            match error {
                None => emit(&outgoing.event),
                Some(error) => emit(&Event::SendFailed {
                    dhcp: outgoing
                        .event
                        .dhcp_mut()
                        .map(std::mem::take)
                        .unwrap_or_default(),
                    error: error.to_string(),
                }),
            }
        }
    }

    /// Nobody else waits while this address is looked for.
    fn look_and_send(&self, octets: &[u8], mut outgoing: Outgoing, started: Instant) {
        let Some(lease) = outgoing.probe.take() else {
            return;
        };
        let octets = octets[outgoing.octets.clone()].to_vec();
        outgoing.octets = 0..octets.len();
        let sender = self.clone();
        tokio::spawn(async move {
            if sender.prober.is_unused(lease).await {
                let outgoing = vec![outgoing];
                sender.send(Batch { octets, outgoing }, started);
            }
        });
    }

    fn source(&self) -> SocketAddrV4 {
        let port = match self.port {
            Port::Server => SERVER_PORT,
            Port::BootServer => BOOT_SERVER_PORT,
        };
        SocketAddrV4::new(self.server_id, port)
    }
}

fn ways(to: Destination) -> impl Iterator<Item = Way> {
    let broadcast = Way::Datagram(SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT));
    let (first, second) = match to {
        Destination::Datagram(address) => (Way::Datagram(address), None),
        Destination::Broadcast => (broadcast, None),
        Destination::BroadcastAnd(address) => (broadcast, Some(Way::Datagram(address))),
        Destination::Frame { mac, address } => {
            let to = SocketAddrV4::new(address, CLIENT_PORT);
            (Way::Frame { mac, to }, None)
        }
    };
    [Some(first), second].into_iter().flatten()
}

/// Where the answer goes, and what is told of it.
fn outcome(
    request: &Request,
    answer: &Answer,
    bootfile: Option<Bootfile>,
    mut dhcp: Dhcp,
) -> (Destination, Event) {
    let granted = |address: &Ipv4Addr, dhcp: &mut Dhcp| {
        dhcp.yiaddr = Some(*address);
        dhcp.bootfile = bootfile.as_ref().map(|b| b.as_str().to_owned());
        route::of_grant(request, Some(*address))
    };
    match answer {
        Answer::Offer { address, .. } => (granted(address, &mut dhcp), Event::Offered(dhcp)),
        Answer::Ack { address, .. } => (granted(address, &mut dhcp), Event::Acked(dhcp)),
        Answer::AckInform => (route::of_grant(request, None), Event::Acked(dhcp)),
        Answer::ProxyOffer => {
            dhcp.bootfile = bootfile.map(|b| b.as_str().to_owned());
            (route::of_grant(request, None), Event::Offered(dhcp))
        }
        Answer::ProxyAck => {
            dhcp.bootfile = bootfile.map(|b| b.as_str().to_owned());
            (route::of_grant(request, None), Event::Acked(dhcp))
        }
        Answer::Nak(reason) => {
            let reason = *reason;
            (route::of_nak(request), Event::Refused { dhcp, reason })
        }
        Answer::Silent(reason) => {
            let reason = *reason;
            (Destination::Broadcast, Event::Silent { dhcp, reason })
        }
    }
}

fn describe(interface: &str, request: &Request) -> Dhcp {
    let giaddr = (!request.giaddr.is_unspecified()).then_some(request.giaddr);
    Dhcp {
        iface: interface.to_owned(),
        msg_type: Some(request.kind_name()),
        xid: Some(request.xid),
        client: request.client().map(|client| client.to_string()),
        giaddr,
        arch: request.arch(),
        user_class: request.user_class(),
        ..Dhcp::default()
    }
}
