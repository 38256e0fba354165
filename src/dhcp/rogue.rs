//! Looks for other DHCP servers on a segment: sends a DISCOVER as a client would, and sees who offers. Two servers that do not
//! know of each other give machines now this, now that.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::probe::Probe;
use super::request::Kind;
use super::route::{CLIENT_PORT, SERVER_PORT};
use crate::model::{Event, MacAddr};
use crate::net::{DhcpSocket, Inbox, Way};
use crate::observe::emit;

/// How long offers are waited for: a server that looks whether an address is free takes a second or two.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it is looked again.
const PERIOD: Duration = Duration::from_secs(600);

/// The transaction that is under way, which our own server leaves unanswered; 0 for none.
pub type OwnXid = Arc<AtomicU32>;

/// One segment that is looked at.
pub struct Lookout {
    pub interface: String,
    pub mac: MacAddr,
    pub server_id: Ipv4Addr,
    pub own_xid: OwnXid,
}

impl Lookout {
    /// Looks once. The answer names every other server that offered something.
    pub async fn look(&self) -> io::Result<BTreeSet<Ipv4Addr>> {
        let xid = u32::try_from(Uuid::new_v4().as_u128() & 0xffff_ffff)
            .unwrap_or(1)
            .max(1);
        let (interface, mac, own) = (self.interface.clone(), self.mac, self.server_id);
        self.own_xid.store(xid, Ordering::Relaxed);
        let look = move || look(&interface, mac, xid);
        let others = tokio::task::spawn_blocking(look).await;
        self.own_xid.store(0, Ordering::Relaxed);
        let mut others = others.map_err(io::Error::other)??;
        others.remove(&own);
        Ok(others)
    }

    /// Looks now and then until `stop`, and tells of what it finds.
    pub async fn keep_looking(self, stop: CancellationToken) {
        loop {
            match self.look().await {
                Ok(others) => self.tell(&others),
                Err(error) => {
                    emit(&Event::Noticed {
                        about: "dhcp",
                        detail: format!(
                            "{}: cannot look for other DHCP servers: {error}; a DHCP client on this interface has port 68, most likely",
                            self.interface
                        ),
                    });
                    return;
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }

    fn tell(&self, others: &BTreeSet<Ipv4Addr>) {
        for server in others {
            emit(&Event::OtherServer {
                iface: self.interface.clone(),
                server: *server,
            });
        }
    }
}

/// Who offers something to a client that nobody knows.
fn look(interface: &str, mac: MacAddr, xid: u32) -> io::Result<BTreeSet<Ipv4Addr>> {
    let socket = DhcpSocket::bind(interface, CLIENT_PORT, PATIENCE / 10)?;
    let mut probe = Probe::new(Kind::Discover, mac);
    probe.xid = xid;
    probe.broadcast = true;
    probe.set(55, [1, 3, 6]);
    let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT);
    let to = Way::Datagram(SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT));
    if let Some((_, error)) = socket.send(from, &[(&probe.octets(), to)]).pop() {
        return Err(error);
    }
    let mut servers = BTreeSet::new();
    let mut inbox = Inbox::new(16);
    let sent = Instant::now();
    while sent.elapsed() < PATIENCE {
        socket.receive(&mut inbox)?;
        servers.extend(inbox.datagrams().filter_map(|d| server_in(d.octets, xid)));
    }
    Ok(servers)
}

/// The server identifier of an OFFER to our probe.
fn server_in(octets: &[u8], xid: u32) -> Option<Ipv4Addr> {
    let is_ours = octets.first() == Some(&2) && octets.get(4..8)? == xid.to_be_bytes();
    let mut rest = octets.get(240..).filter(|_| is_ours)?;
    while let [code, tail @ ..] = rest {
        match (*code, tail) {
            (0, _) => rest = tail,
            (255, _) | (_, []) => return None,
            (code, [length, tail @ ..]) => {
                let content = tail.get(..usize::from(*length))?;
                if code == 54 {
                    let address: [u8; 4] = content.try_into().ok()?;
                    return Some(address.into());
                }
                rest = &tail[content.len()..];
            }
        }
    }
    None
}
