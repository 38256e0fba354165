//! Asks an address whether somebody answers there (RFC 792, echo): also where it lies behind a router, and ARP cannot go.

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::checksum;

/// How long an answer is waited for; what servers of the trade have found to be enough.
const PATIENCE: Duration = Duration::from_millis(500);
const ECHO_REPLY: u8 = 0;
const ECHO: u8 = 8;

/// Whether somebody at the address answers. Blocks for at most half a second; `own` is where the question comes from.
pub fn answers(own: Ipv4Addr, address: Ipv4Addr) -> io::Result<bool> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
    socket.bind(&SocketAddrV4::new(own, 0).into())?;
    let question = question(address);
    socket.send_to(&question, &SocketAddrV4::new(address, 0).into())?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        socket.set_read_timeout(Some(left))?;
        let mut octets = [0; 256];
        match (&socket).read(&mut octets) {
            Ok(length) if is_answer(&octets[..length], &question, address) => return Ok(true),
            Ok(_) => {}
            // Nobody answers ARP there: the kernel says so of its own.
            Err(error) if error.kind() == io::ErrorKind::HostUnreachable => return Ok(false),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
    }
}

/// An echo whose identification is the address, so that others' answers are told from ours.
fn question(address: Ipv4Addr) -> Vec<u8> {
    let mut question = vec![ECHO, 0, 0, 0];
    question.extend(address.octets());
    let sum = checksum(&[&question]);
    question[2..4].copy_from_slice(&sum.to_be_bytes());
    question
}

/// Whether an IPv4 packet is the answer to the question.
fn is_answer(packet: &[u8], question: &[u8], address: Ipv4Addr) -> bool {
    let header = packet
        .first()
        .map_or(0, |first| usize::from(first & 15) * 4);
    let is_from = packet.get(12..16) == Some(&address.octets());
    packet
        .get(header..header + 8)
        .is_some_and(|icmp| is_from && icmp[0] == ECHO_REPLY && icmp[4..] == question[4..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_from_the_address_and_says_what_was_asked() {
        let (address, other) = (
            Ipv4Addr::new(198, 18, 0, 100),
            Ipv4Addr::new(198, 18, 0, 101),
        );
        let asked = question(address);
        assert_eq!(checksum(&[&asked]), 0);
        let packet = |from: Ipv4Addr, kind: u8, asked: &[u8]| {
            let mut packet = vec![0x45; 12];
            packet.extend(from.octets());
            packet.extend([0; 4]);
            packet.extend([kind, 0, 0, 0]);
            packet.extend(&asked[4..]);
            packet
        };
        assert!(is_answer(
            &packet(address, ECHO_REPLY, &asked),
            &asked,
            address
        ));
        assert!(!is_answer(&packet(address, ECHO, &asked), &asked, address));
        assert!(!is_answer(
            &packet(other, ECHO_REPLY, &asked),
            &asked,
            address
        ));
        let others = question(other);
        assert!(!is_answer(
            &packet(address, ECHO_REPLY, &others),
            &asked,
            address
        ));
        assert!(!is_answer(&[0x4f; 20], &asked, address));
        assert!(!is_answer(&[], &asked, address));
    }
}
