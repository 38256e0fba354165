//! The DHCP shell: receive, parse, look up, decide, commit, send, emit. One task for each interface; a batch of packets that
//! came together shares one commit.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::answer::{Mode, answer};
use super::bootfile::{BootServers, Bootfile};
use super::decide::Answer;
use super::limit::Limiter;
use super::prober::Prober;
use super::proxy::{BOOT_SERVER_PORT, Port};
use super::reply;
use super::request::Request;
use super::rogue::OwnXid;
use super::route::{self, CLIENT_PORT, Destination, SERVER_PORT};
use super::view::{Ingress, View};
use crate::bindings::Bindings;
use crate::catalog::Catalog;
use crate::model::{BindingChange, Dhcp, Event, Lease, Silence};
use crate::net::{Datagram, DhcpSocket, now_secs};
use crate::observe::emit;
use crate::store::Store;

/// How many packets share one commit.
const BATCH: usize = 64;

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
}

/// A reply that waits for its commit.
struct Outgoing {
    octets: Vec<u8>,
    to: Destination,
    event: Event,
    /// Its place among the batch's changes.
    change: Option<usize>,
    /// The address to look for before it is sent, and whom it is for.
    probe: Option<Lease>,
}

/// Sends replies of one port; what waits for a probe holds one too.
#[derive(Clone)]
struct Sender {
    server_id: Ipv4Addr,
    port: Port,
    socket: Arc<DhcpSocket>,
}

impl Server {
    /// Serves until `stop`.
    pub async fn serve(mut self, stop: CancellationToken) {
        loop {
            let received = tokio::select! {
                () = stop.cancelled() => return,
                received = self.socket.receive(BATCH) => received,
            };
            match received {
                Ok(datagrams) => self.answer(datagrams).await,
                // The interface went down, most likely; it may come back.
                Err(error) => {
                    self.report_receive(&error);
                    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                }
            }
        }
    }

    async fn answer(&mut self, datagrams: Vec<Datagram>) {
        let (started, now) = (Instant::now(), now_secs());
        let catalog = self.store.catalog();
        // Ours alone: each packet of the batch sees what the ones before it were promised.
        let mut bindings = (*self.store.bindings()).clone();
        let mut changes = Vec::new();
        let mut outgoing = Vec::new();
        for datagram in datagrams {
            outgoing.extend(self.prepare(&datagram, &catalog, &mut bindings, &mut changes, now));
        }
        let committed = self.store.bind(changes, now).await;
        for mut reply in outgoing {
            let kept = match (&committed, reply.change) {
                (_, None) => Ok(()),
                (Ok(accepted), Some(at)) if accepted.get(at) == Some(&true) => Ok(()),
                (Ok(_), Some(_)) => Err(Silence::Overtaken),
                (Err(_), Some(_)) => Err(Silence::StoreFailed),
            };
            if let Some(dhcp) = reply.event.dhcp_mut() {
                dhcp.elapsed_us = u64::try_from(started.elapsed().as_micros()).ok();
            }
            self.finish(reply, kept);
        }
        if let Err(error) = committed {
            emit(&Event::Failed {
                about: "store",
                error: error.to_string(),
            });
        }
    }

    /// Everything up to the commit; a packet that gets no answer and changes nothing ends here.
    fn prepare(
        &mut self,
        datagram: &Datagram,
        catalog: &Catalog,
        bindings: &mut Bindings,
        changes: &mut Vec<BindingChange>,
        now: u64,
    ) -> Option<Outgoing> {
        let request = match Request::parse(&datagram.octets) {
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
        let mut dhcp = describe(&self.interface, &request);
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if let Some(client) = request.client()
            && !self.limiter.admits(&client, now_ms)
        {
            let reason = Silence::RateLimited;
            emit(&Event::Silent { dhcp, reason });
            return None;
        }
        let ingress = Ingress {
            server_id: self.server_id,
            is_unicast: datagram.to == Some(self.server_id),
            authoritative: self.authoritative,
            now_secs: now,
        };
        let Some(view) = View::new(&request, catalog, bindings, ingress) else {
            let reason = Silence::NoSubnet;
            emit(&Event::Silent { dhcp, reason });
            return None;
        };
        dhcp.machine = view.reservation.map(|r| r.title().to_owned());
        let (decision, bootfile) = answer(&request, self.port, self.mode, &self.boot, &view);
        let octets = reply::encode(&request, &decision.answer, bootfile.as_ref(), &view);
        let (mut to, event) = outcome(&request, &decision.answer, bootfile, dhcp);
        if self.port == Port::BootServer
            && let Some(from) = datagram.from.filter(|from| !from.ip().is_unspecified())
        {
            to = Destination::Datagram(from); // PXE 2.1 §2.5: to the port it came from
        }
        let probe = self.prober.wanted(&decision, &view);
        let change = decision.change.map(|change| {
            bindings.apply(change.clone());
            changes.push(change);
            changes.len() - 1
        });
        Some(Outgoing {
            octets: octets.unwrap_or_default(),
            to,
            event,
            change,
            probe,
        })
    }

    fn finish(&self, reply: Outgoing, kept: Result<(), Silence>) {
        let Outgoing {
            octets,
            to,
            mut event,
            probe,
            ..
        } = reply;
        if let Err(reason) = kept {
            let dhcp = event.dhcp_mut().map(std::mem::take).unwrap_or_default();
            emit(&Event::Silent { dhcp, reason });
            return;
        }
        let sender = Sender {
            server_id: self.server_id,
            port: self.port,
            socket: self.socket.clone(),
        };
        let Some(lease) = probe else {
            sender.send_and_tell(&octets, to, event);
            return;
        };
        // Nobody else waits while this address is looked for.
        let prober = self.prober.clone();
        tokio::spawn(async move {
            if prober.is_unused(lease).await {
                sender.send_and_tell(&octets, to, event);
            }
        });
    }

    fn report_receive(&self, error: &io::Error) {
        emit(&Event::Failed {
            about: "dhcp",
            error: format!("{}: cannot receive: {error}", self.interface),
        });
    }
}

impl Sender {
    fn send_and_tell(&self, octets: &[u8], to: Destination, mut event: Event) {
        if !octets.is_empty()
            && let Err(error) = self.send(octets, to)
        {
            let dhcp = event.dhcp_mut().map(std::mem::take).unwrap_or_default();
            let error = error.to_string();
            emit(&Event::SendFailed { dhcp, error });
            return;
        }
        emit(&event);
    }

    fn send(&self, octets: &[u8], to: Destination) -> io::Result<()> {
        let port = match self.port {
            Port::Server => SERVER_PORT,
            Port::BootServer => BOOT_SERVER_PORT,
        };
        let from = SocketAddrV4::new(self.server_id, port);
        match to {
            Destination::Datagram(address) => self.socket.send(octets, self.server_id, address),
            Destination::Broadcast => self.socket.send(
                octets,
                self.server_id,
                SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT),
            ),
            Destination::BroadcastAnd(address) => {
                self.send(octets, Destination::Broadcast)?;
                self.send(octets, Destination::Datagram(address))
            }
            Destination::Frame { mac, address } => {
                let to = SocketAddrV4::new(address, CLIENT_PORT);
                self.socket.send_frame(octets, from, mac, to)
            }
        }
    }
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
