//! Where a reply goes (RFC 2131 §4.1), apart from what it says.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::request::{Kind, Request};
use crate::model::MacAddr;

/// The port servers and relay agents listen on.
pub const SERVER_PORT: u16 = 67;
/// The port clients listen on.
pub const CLIENT_PORT: u16 = 68;

/// The way to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// An ordinary datagram: to a relay agent, or to a client that has its address.
    Datagram(SocketAddrV4),
    /// 255.255.255.255 on the interface the request came from.
    Broadcast,
    /// The same, and an ordinary datagram.
    BroadcastAnd(SocketAddrV4),
    /// A frame to the hardware address: the client cannot answer ARP for an address it does not have yet.
    Frame { mac: MacAddr, address: Ipv4Addr },
}

/// The destination of an OFFER or ACK that gives `yiaddr`, or of an INFORM's ACK (`None`).
pub fn of_grant(request: &Request, yiaddr: Option<Ipv4Addr>) -> Destination {
    if !request.giaddr.is_unspecified() {
        return to_relay(request);
    }
    if !request.ciaddr.is_unspecified() && (request.kind != Kind::Discover) {
        return Destination::Datagram(SocketAddrV4::new(request.ciaddr, CLIENT_PORT));
    }
    match (request.wants_broadcast(), request.mac(), yiaddr) {
        (false, Some(mac), Some(address)) => Destination::Frame { mac, address },
        _ => Destination::Broadcast,
    }
}

/// The destination of a NAK: broadcast unless relayed, since the client's address is the very thing in doubt (§4.1). To one that
/// extends its lease it goes to that address too: systemd-networkd hears no broadcast while it renews, and would keep the address
/// until it rebinds; and a broadcast does not reach a client behind a relay agent, which renews past it.
pub fn of_nak(request: &Request) -> Destination {
    if !request.giaddr.is_unspecified() {
        to_relay(request)
    } else if request.ciaddr.is_unspecified() {
        Destination::Broadcast
    } else {
        Destination::BroadcastAnd(SocketAddrV4::new(request.ciaddr, CLIENT_PORT))
    }
}

fn to_relay(request: &Request) -> Destination {
    Destination::Datagram(SocketAddrV4::new(request.giaddr, SERVER_PORT))
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::packet;
    use super::*;

    const YIADDR: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);

    fn request(kind: u8, change: impl Fn(&mut Vec<u8>)) -> Request {
        let mut octets = packet(&[(53, &[kind])]);
        change(&mut octets);
        Request::parse(&octets).expect("valid")
    }

    #[test]
    fn a_relayed_client_is_answered_through_its_relay_agent() {
        let relayed = request(1, |p| p[24..28].copy_from_slice(&[198, 18, 5, 1]));
        let relay = Destination::Datagram("198.18.5.1:67".parse().expect("an address"));
        assert_eq!(of_grant(&relayed, Some(YIADDR)), relay);
        assert_eq!(of_nak(&relayed), relay);
    }

    #[test]
    fn a_client_that_has_its_address_is_answered_there() {
        let renewing = request(3, |p| p[12..16].copy_from_slice(&YIADDR.octets()));
        assert_eq!(
            of_grant(&renewing, Some(YIADDR)),
            Destination::Datagram(SocketAddrV4::new(YIADDR, 68))
        );
        assert_eq!(
            of_nak(&renewing),
            Destination::BroadcastAnd(SocketAddrV4::new(YIADDR, 68))
        );
        assert_eq!(of_nak(&request(3, |_| ())), Destination::Broadcast);
    }

    #[test]
    fn a_client_without_an_address_gets_a_frame_unless_it_wants_broadcast() {
        let plain = request(1, |_| ());
        let mac = plain.mac().expect("Ethernet");
        assert_eq!(
            of_grant(&plain, Some(YIADDR)),
            Destination::Frame {
                mac,
                address: YIADDR
            }
        );
        let flagged = request(1, |p| p[10] = 0x80);
        assert_eq!(of_grant(&flagged, Some(YIADDR)), Destination::Broadcast);
        let infiniband = request(1, |p| p[1..3].copy_from_slice(&[32, 0]));
        assert_eq!(of_grant(&infiniband, Some(YIADDR)), Destination::Broadcast);
    }
}
