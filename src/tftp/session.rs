//! One client's port: its requests, one after the other. In: a request, and what the client sends then. Out: the file, and one
//! event for each request. By default each transfer has a port of its own (RFC 1350 §4); what comes to it from anybody but its
//! client is answered with ERROR 5 and changes nothing.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;
use tokio::time::Sleep;

use super::content::{Content, Form};
use super::packet::{
    DATA_HEADER, ErrorCode, Mode, Packet, Request, Wish, error, option_ack, parse,
};
use super::places::{Ends, Place};
use super::resolve::resolve;
use super::server::Server;
use super::terms::Terms;
use super::transfer::{Step, Transfer};
use crate::model::{self, Ended, Event};
use crate::net::udp::{UdpPort, path_mtu};
use crate::observe::emit;

/// ACKs and ERRORs are short; what is longer is nothing that a client of ours sends.
const LONGEST_ANSWER: usize = 600;
/// What Ethernet carries, where the path does not say.
const ETHERNET: u32 = 1500;
const UDP_HEADER: u32 = 8;

/// A client and its place.
pub struct Session {
    pub server: Server,
    pub place: Place,
    /// What came to the listening port: requests, and in single-port mode everything.
    pub inbox: Receiver<Packet>,
    pub listening: Arc<UdpPort>,
    pub ends: Ends,
}

/// Where a transfer's packets come from and go to.
enum Link {
    /// A port of its own.
    Own { port: UdpPort, peer: SocketAddr },
    /// Through the listening port, from this address of ours.
    Shared {
        port: Arc<UdpPort>,
        peer: SocketAddr,
        local: IpAddr,
    },
}

/// What a session waits for.
enum Heard {
    Packet(Packet),
    Nothing,
}

/// Why a request is not served: what the client is told, and what the log.
struct Refused {
    code: ErrorCode,
    told: String,
    reason: String,
}

/// Tells what became of a transfer, however it ended.
struct Report {
    transfer: model::Transfer,
    started: Instant,
}

impl Session {
    /// Serves the request, and those that follow it from the same port.
    pub async fn run(mut self, request: Request) {
        let mut next = Some(request);
        while let Some(request) = next {
            next = match self.answer(request).await {
                Some(newer) => Some(newer),
                None => self.place.leave(&mut self.inbox),
            };
        }
    }

    /// Serves one request; what it was replaced by, if it was.
    async fn answer(&mut self, request: Request) -> Option<Request> {
        let started = Instant::now();
        let link = match self.link() {
            Ok(link) => link,
            Err(error) => {
                let refused = Refused::unreadable(&error);
                let shared = self.shared();
                self.refuse(&shared, &request, refused).await;
                return None;
            }
        };
        let content = match self.open(&request).await {
            Ok(content) => content,
            Err(refused) => {
                self.refuse(&link, &request, refused).await;
                return None;
            }
        };
        self.transfer(link, request, content, started).await
    }

    /// A port of its own, at the address that was asked.
    fn link(&self) -> io::Result<Link> {
        if self.server.single_port() {
            return Ok(self.shared());
        }
        let (peer, local) = self.canonical();
        let port = UdpPort::beside(local, peer)?;
        Ok(Link::Own { port, peer })
    }

    fn shared(&self) -> Link {
        Link::Shared {
            port: self.listening.clone(),
            peer: self.ends.0,
            local: self.ends.1,
        }
    }

    /// Both ends, IPv4 as IPv4 where the listening socket takes both families.
    fn canonical(&self) -> Ends {
        let (peer, local) = self.ends;
        match peer.ip().to_canonical() {
            IpAddr::V4(v4) => (
                SocketAddr::new(v4.into(), peer.port()),
                local.to_canonical(),
            ),
            IpAddr::V6(_) => (peer, local),
        }
    }

    fn client(&self) -> IpAddr {
        self.ends.0.ip().to_canonical()
    }

    async fn open(&self, request: &Request) -> Result<Content, Refused> {
        let form = match request.mode {
            Mode::Octet => Form::AsTheyAre,
            Mode::Netascii => Form::Netascii,
            Mode::Other => return Err(Refused::of(ErrorCode::IllegalOperation, "unknown mode")),
        };
        let name = str::from_utf8(&request.name)
            .map_err(|_| Refused::of(ErrorCode::NotFound, "the name is not UTF-8"))?;
        let parts = resolve(name)
            .map_err(|unfit| Refused::of(ErrorCode::AccessViolation, &unfit.to_string()))?;
        if let Some(why) = self.server.bars(&parts, self.client()) {
            return Err(Refused::of(ErrorCode::AccessViolation, why.text()));
        }
        let server = self.server.clone();
        let open = move || server.directories().open(&parts, form);
        match tokio::task::spawn_blocking(open).await {
            Ok(opened) => opened.map_err(|error| Refused::unreadable(&error)),
            Err(panic) => Err(Refused {
                code: ErrorCode::NotDefined,
                told: "cannot be read".to_owned(),
                reason: panic.to_string(),
            }),
        }
    }

    async fn refuse(&self, link: &Link, request: &Request, refused: Refused) {
        let _ = link.send_one(&error(refused.code, &refused.told)).await;
        emit(&Event::RequestRefused {
            protocol: "tftp",
            client: self.client(),
            path: String::from_utf8_lossy(&request.name).into_owned(),
            reason: refused.reason,
        });
    }

    fn terms(&self, request: &Request, length: u64) -> Terms {
        let (peer, local) = self.canonical();
        let wants_blocks = |wish: &Wish| matches!(wish, Wish::BlockSize(_));
        let mtu = match request.options.iter().any(wants_blocks) {
            true => path_mtu(local, peer).unwrap_or(ETHERNET),
            false => ETHERNET,
        };
        let ip_header = if peer.is_ipv4() { 20 } else { 40 };
        let block = mtu.saturating_sub(ip_header + UDP_HEADER + DATA_HEADER as u32);
        let block = u16::try_from(block).unwrap_or(u16::MAX);
        Terms::agree(&request.options, length, block)
    }

    async fn transfer(
        &mut self,
        link: Link,
        request: Request,
        mut content: Content,
        started: Instant,
    ) -> Option<Request> {
        let terms = self.terms(&request, content.length());
        let mut transfer = Transfer::new(&terms, content.length(), started.elapsed());
        let mut report = self.report(&request, started);
        let mut packets = Vec::with_capacity(terms.flight());
        let stride = DATA_HEADER + usize::from(terms.block_size);
        let mut timer = Box::pin(tokio::time::sleep(Duration::from_secs(1)));
        let mut step = transfer.start(started.elapsed());
        loop {
            // A packet that cannot be sent is a packet lost: it is sent again.
            match step {
                Step::Wait => {}
                Step::SendOptions => {
                    let _ = link.send_one(&option_ack(&terms.answer)).await;
                }
                Step::SendBlocks(blocks) => {
                    let filled = content.fill(&mut packets, blocks, terms.block_size).await;
                    if let Err(failure) = filled {
                        self.refuse(&link, &request, Refused::unreadable(&failure))
                            .await;
                        return None;
                    }
                    let _ = link.send(&packets, stride).await;
                }
                Step::End(ended) => {
                    report.transfer.ended = ended;
                    return None;
                }
            }
            let heard = self
                .hear(&link, timer.as_mut(), started + transfer.deadline())
                .await;
            let now = started.elapsed();
            step = match heard {
                Heard::Nothing => transfer.time_out(now),
                Heard::Packet(Packet::Ack(block)) => transfer.ack(block, now),
                Heard::Packet(Packet::Error(error)) => transfer.error(error),
                Heard::Packet(Packet::Read(again)) => {
                    let step = asked_again(&mut transfer, &link, &request, &again, now);
                    if let Step::End(ended) = step {
                        report.transfer.ended = ended;
                        report.transfer.bytes = transfer.acknowledged();
                        return Some(again);
                    }
                    step
                }
                Heard::Packet(_) => Step::Wait,
            };
            report.transfer.bytes = transfer.acknowledged();
        }
    }

    /// Waits for the client, no longer than to the deadline.
    async fn hear(&mut self, link: &Link, mut timer: Pin<&mut Sleep>, deadline: Instant) -> Heard {
        let deadline = tokio::time::Instant::from_std(deadline);
        // One that rings too early is cheaper than one that is set for every block.
        if timer.is_elapsed() || timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        // In no order: who floods a port does not keep its timer from ringing.
        tokio::select! {
            packet = link.receive() => Heard::Packet(packet),
            Some(packet) = self.inbox.recv() => Heard::Packet(packet),
            () = timer => Heard::Nothing,
        }
    }

    fn report(&self, request: &Request, started: Instant) -> Report {
        Report {
            started,
            transfer: model::Transfer {
                protocol: "tftp",
                path: String::from_utf8_lossy(&request.name).into_owned(),
                client: self.client(),
                machine: self.server.machine_at(self.client()),
                status: 0,
                bytes: 0,
                ended: Ended::Cut,
                elapsed_ms: 0,
            },
        }
    }
}

/// The client's port asks to read while a transfer to it runs. What it sent to that transfer before comes first: an ERROR may
/// be among it.
fn asked_again(
    transfer: &mut Transfer,
    link: &Link,
    request: &Request,
    again: &Request,
    now: Duration,
) -> Step {
    while let Some(packet) = link.received() {
        let step = match packet {
            Packet::Error(error) => transfer.error(error),
            Packet::Ack(block) => transfer.ack(block, now),
            _ => Step::Wait,
        };
        if matches!(step, Step::End(_)) {
            return step;
        }
    }
    if again == request {
        transfer.asked_again(now)
    } else {
        Step::End(Ended::Replaced)
    }
}

impl Link {
    /// Sends datagrams of `segment` octets each.
    async fn send(&self, octets: &[u8], segment: usize) -> io::Result<()> {
        match self {
            Self::Own { port, peer } => port.send(octets, segment, None, *peer).await,
            Self::Shared { port, peer, local } => {
                port.send(octets, segment, Some(*local), *peer).await
            }
        }
    }

    async fn send_one(&self, octets: &[u8]) -> io::Result<()> {
        self.send(octets, octets.len()).await
    }

    /// The client's next packet to the transfer's own port.
    async fn receive(&self) -> Packet {
        let Self::Own { port, peer } = self else {
            return std::future::pending().await; // it comes through the inbox
        };
        let mut buffer = [0; LONGEST_ANSWER];
        loop {
            let Ok((length, from)) = port.receive(&mut buffer).await else {
                // What the network said of a packet that was sent; it is sent again.
                tokio::task::yield_now().await;
                continue;
            };
            let packet = parse(&buffer[..length]);
            if from == *peer {
                return packet;
            }
            // RFC 1350 §4: a wrong TID. Errors are never answered.
            if !matches!(packet, Packet::Error(_)) {
                let told = error(ErrorCode::UnknownTransfer, "unknown transfer ID");
                let _ = port.send(&told, told.len(), None, from).await;
            }
        }
    }

    /// What the client has sent to the transfer's own port and was not read yet.
    fn received(&self) -> Option<Packet> {
        let Self::Own { port, peer } = self else {
            return None; // it came through the inbox, in order
        };
        let mut buffer = [0; LONGEST_ANSWER];
        while let Ok((length, from)) = port.try_receive(&mut buffer) {
            if from == *peer {
                return Some(parse(&buffer[..length]));
            }
        }
        None
    }
}

impl Refused {
    fn of(code: ErrorCode, reason: &str) -> Self {
        Self {
            code,
            told: reason.to_owned(),
            reason: reason.to_owned(),
        }
    }

    fn unreadable(error: &io::Error) -> Self {
        let (code, told) = match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::InvalidFilename => (ErrorCode::NotFound, "file not found".to_owned()),
            io::ErrorKind::PermissionDenied => {
                (ErrorCode::AccessViolation, "access violation".to_owned())
            }
            // The one that the client can do something about.
            io::ErrorKind::FileTooLarge => (ErrorCode::NotDefined, error.to_string()),
            _ => (ErrorCode::NotDefined, "cannot be read".to_owned()),
        };
        Self {
            code,
            told,
            reason: error.to_string(),
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let mut transfer = self.transfer.clone();
        transfer.elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        emit(&Event::Served(transfer));
    }
}
