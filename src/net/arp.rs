//! Asks a segment whether somebody has an address (RFC 5227 §2.1.1: an ARP probe, which disturbs nobody's cache).

use std::io;
use std::mem::size_of;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use crate::model::MacAddr;

/// How long an answer is waited for: hosts answer within a few milliseconds, and a ROM repeats its DISCOVER after seconds.
const PATIENCE: Duration = Duration::from_millis(300);

/// Who has this address on the interface's segment, if somebody says so. Blocks for at most 0.3 s. `own` is the interface's MAC;
/// `asking` is the client the address is for, whose own answer does not count.
pub fn who_has(
    interface_index: u32,
    own: MacAddr,
    asking: Option<MacAddr>,
    address: Ipv4Addr,
) -> io::Result<Option<MacAddr>> {
    let protocol = i32::from((libc::ETH_P_ARP as u16).to_be());
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(protocol)))?;
    let broadcast = link_address(interface_index, [0xff; 6])?;
    socket.bind(&broadcast)?;
    socket.send_to(&request(own, address), &broadcast)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left))?;
        let mut octets = [0; 64];
        match io::Read::read(&mut &socket, &mut octets) {
            Ok(length) => {
                let owner = owner_in(&octets[..length], address);
                if let Some(mac) = owner.filter(|mac| *mac != own && Some(*mac) != asking) {
                    return Ok(Some(mac));
                }
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
}

fn link_address(interface_index: u32, mac: [u8; 6]) -> io::Result<SockAddr> {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is one of the forms of sockaddr_storage, which is as large as any and aligned for all.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ARP as u16).to_be();
    address.sll_ifindex = i32::try_from(interface_index).map_err(io::Error::other)?;
    address.sll_halen = 6;
    address.sll_addr[..6].copy_from_slice(&mac);
    // SAFETY: the storage holds a whole sockaddr_ll, and the length is its own.
    Ok(unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) })
}

/// An ARP request from nobody's address (RFC 826, RFC 5227).
fn request(own: MacAddr, address: Ipv4Addr) -> Vec<u8> {
    let ethernet_ipv4_request = [0, 1, 8, 0, 6, 4, 0, 1];
    [
        &ethernet_ipv4_request[..],
        &own.0,
        &[0; 4],
        &[0; 6],
        &address.octets(),
    ]
    .concat()
}

/// Who says that it has the address: in an answer, or in a request of its own.
fn owner_in(packet: &[u8], address: Ipv4Addr) -> Option<MacAddr> {
    let is_ipv4 = packet.get(..6)? == [0, 1, 8, 0, 6, 4];
    let sender: [u8; 6] = packet.get(8..14)?.try_into().ok()?;
    let said = packet.get(14..18)? == address.octets();
    (is_ipv4 && said).then_some(MacAddr(sender))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_about_the_address_names_its_owner_and_any_other_nobody() {
        let own = MacAddr([2, 0, 0, 0, 0, 1]);
        let address = Ipv4Addr::new(198, 18, 0, 100);
        let probe = request(own, address);
        assert_eq!(owner_in(&probe, address), None, "a probe claims nothing");
        let mut answer = probe.clone();
        answer[7] = 2;
        answer[14..18].copy_from_slice(&address.octets());
        assert_eq!(owner_in(&answer, address), Some(own));
        assert_eq!(owner_in(&answer, Ipv4Addr::new(198, 18, 0, 101)), None);
        assert_eq!(owner_in(&answer[..10], address), None);
    }
}
