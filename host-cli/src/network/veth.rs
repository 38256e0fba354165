//! A cable where there is no /dev/net/tun: two interfaces that are each other's far end, and a packet socket at the second.
//!
//! A namespace's root may make them without any device file. The second interface has no address and does not take part in
//! anything: it neither asks nor answers by ARP or IPv6.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use super::system::{checked, interface_request, on_interface, set_flags};

/// The far end.
const FAR: &str = "cable0";
/// linux/veth.h: the attributes of the far end.
const VETH_INFO_PEER: u16 = 1;
/// linux/ethtool.h: switch the computing of checksums by the card on or off. What a veth would leave out nobody computes later.
const ETHTOOL_STXCSUM: u32 = 0x17;

/// Makes `name` and its far end, both down; returns a socket that has the far end's frames.
pub(super) fn make(name: &str) -> io::Result<OwnedFd> {
    add(name)?;
    compute_checksums(name)?;
    // A far end that has an address of its own would ask for routers.
    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{FAR}/disable_ipv6"), "1");
    set_flags(FAR, libc::IFF_UP | libc::IFF_RUNNING | libc::IFF_NOARP)?;
    listen(FAR)
}

fn add(name: &str) -> io::Result<()> {
    // SAFETY: takes no pointers; the descriptor is checked before it is owned.
    let netlink = unsafe {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        let fd = libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE);
        checked(fd.min(0))?;
        OwnedFd::from_raw_fd(fd)
    };
    let request = add_request(name, FAR);
    let mut answer = [0; 1024];
    // SAFETY: both buffers are as long as is said and outlive the calls.
    let length = unsafe {
        let sent = libc::send(
            netlink.as_raw_fd(),
            request.as_ptr().cast(),
            request.len(),
            0,
        );
        checked(sent.min(0) as _)?;
        libc::recv(
            netlink.as_raw_fd(),
            answer.as_mut_ptr().cast(),
            answer.len(),
            0,
        )
    };
    checked(length.min(0) as _)?;
    // struct nlmsgerr follows the header: zero, or an error number below it.
    let code = answer[16..20].try_into().map_or(0, i32::from_ne_bytes);
    match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(-code)),
    }
}

/// RTM_NEWLINK (rtnetlink(7)): a veth pair.
fn add_request(name: &str, far: &str) -> Vec<u8> {
    let interface = [0; 16]; // struct ifinfomsg: nothing is said beyond the attributes
    let named = |name: &str| attribute(libc::IFLA_IFNAME, &[name.as_bytes(), &[0]].concat());
    let peer = attribute(VETH_INFO_PEER, &[&interface[..], &named(far)].concat());
    let info = [
        attribute(libc::IFLA_INFO_KIND, b"veth\0"),
        attribute(libc::IFLA_INFO_DATA, &peer),
    ];
    let body = [
        &interface[..],
        &named(name),
        &attribute(libc::IFLA_LINKINFO, &info.concat()),
    ]
    .concat();
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let length = (16 + body.len()) as u32;
    let mut request = length.to_ne_bytes().to_vec();
    request.extend(libc::RTM_NEWLINK.to_ne_bytes());
    request.extend((flags as u16).to_ne_bytes());
    request.extend([0; 8]); // sequence number and sender: one question, one answer
    request.extend(body);
    request
}

/// Length, type, value, up to a multiple of four.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut attribute = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

fn compute_checksums(name: &str) -> io::Result<()> {
    let mut off = [ETHTOOL_STXCSUM, 0];
    let mut request = interface_request(name);
    request.ifr_ifru.ifru_data = off.as_mut_ptr().cast();
    on_interface(&mut request, libc::SIOCETHTOOL as _)
}

fn listen(name: &str) -> io::Result<OwnedFd> {
    let name = std::ffi::CString::new(name).expect("a constant without a zero");
    // SAFETY: the name ends with a zero.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    // SAFETY: all zeroes is a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as _;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index as _;
    // SAFETY: the descriptor is checked before it is owned; option and address are as long as is said and outlive the calls.
    unsafe {
        // Without a protocol it hears nothing before it is bound.
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        let fd = libc::socket(libc::AF_PACKET, kind, 0);
        checked(fd.min(0))?;
        let socket = OwnedFd::from_raw_fd(fd);
        let yes: libc::c_int = 1;
        checked(libc::setsockopt(
            fd,
            libc::SOL_PACKET,
            libc::PACKET_IGNORE_OUTGOING,
            (&raw const yes).cast(),
            size_of::<libc::c_int>() as _,
        ))?;
        checked(libc::bind(
            fd,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as _,
        ))?;
        Ok(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_say_their_length_without_it() {
        let octets = attribute(3, b"lan0\0");
        assert_eq!(octets.len(), 12);
        assert_eq!(octets[..2], 9u16.to_ne_bytes());
        let request = add_request("lan0", FAR);
        assert_eq!(request[..4], (request.len() as u32).to_ne_bytes());
        assert_eq!(request.len() % 4, 0);
    }
}
