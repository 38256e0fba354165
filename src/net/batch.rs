//! Many datagrams with one call of the kernel's (recvmmsg, sendmmsg): on a busy server the calls themselves are what costs most.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::RawFd;

use super::Datagram;

/// A DHCP datagram is at most an Ethernet frame; longer ones are cut, and so dropped by the parser.
const LARGEST_DATAGRAM: usize = 1500;

/// Room for one control message of `in_pktinfo`, aligned as one.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 32]);

/// Where datagrams are received into.
pub struct Inbox {
    octets: Vec<[u8; LARGEST_DATAGRAM]>,
    lengths: Vec<usize>,
    names: Vec<libc::sockaddr_in>,
    controls: Vec<Control>,
    received: usize,
}

/// Where one datagram goes.
pub(super) enum Name {
    Address(libc::sockaddr_in),
    Link(libc::sockaddr_ll),
}

/// One datagram on its way.
pub(super) struct Message<'a> {
    pub octets: &'a [u8],
    pub name: Name,
    /// The address it comes from.
    pub from: Option<Ipv4Addr>,
}

impl Inbox {
    /// Room for so many at once.
    pub fn new(most: usize) -> Self {
        // SAFETY: all zeros are a sockaddr_in of no family.
        let nobody: libc::sockaddr_in = unsafe { zeroed() };
        Self {
            octets: vec![[0; LARGEST_DATAGRAM]; most],
            lengths: vec![0; most],
            names: vec![nobody; most],
            controls: vec![Control([0; 32]); most],
            received: 0,
        }
    }

    /// Those that were received last.
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        (0..self.received).map(|at| Datagram {
            octets: &self.octets[at][..self.lengths[at].min(LARGEST_DATAGRAM)],
            from: address_of(&self.names[at]),
            to: destination_of(&self.controls[at]),
        })
    }

    /// Waits for a datagram as long as the socket does, and takes those that are there with it.
    pub(super) fn receive(&mut self, fd: RawFd) -> io::Result<usize> {
        self.received = 0;
        let most = self.octets.len();
        let mut slices: Vec<libc::iovec> = (self.octets.iter_mut())
            .map(|octets| libc::iovec {
                iov_base: octets.as_mut_ptr().cast(),
                iov_len: LARGEST_DATAGRAM,
            })
            .collect();
        let mut headers: Vec<libc::mmsghdr> = (0..most)
            .map(|at| {
                // SAFETY: all zeros are a header without anything.
                let mut header: libc::mmsghdr = unsafe { zeroed() };
                header.msg_hdr.msg_name = (&raw mut self.names[at]).cast();
                header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
                header.msg_hdr.msg_iov = &raw mut slices[at];
                header.msg_hdr.msg_iovlen = 1;
                header.msg_hdr.msg_control = self.controls[at].0.as_mut_ptr().cast();
                header.msg_hdr.msg_controllen = self.controls[at].0.len() as _;
                header
            })
            .collect();
        // SAFETY: each header points to a name, a slice and a control buffer of its own, with their lengths, and all of them
        // live until the call returns.
        let received = unsafe {
            libc::recvmmsg(
                fd,
                headers.as_mut_ptr(),
                most as libc::c_uint,
                libc::MSG_WAITFORONE as _,
                std::ptr::null_mut(),
            )
        };
        self.received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for (at, header) in headers.iter().enumerate().take(self.received) {
            self.lengths[at] = header.msg_len as usize;
            if header.msg_hdr.msg_controllen == 0 {
                self.controls[at] = Control([0; 32]);
            }
        }
        Ok(self.received)
    }
}

/// Sends all of them; answers for each that could not be sent its place and why.
pub(super) fn send(fd: RawFd, messages: &mut [Message]) -> Vec<(usize, io::Error)> {
    let mut controls: Vec<Control> = messages.iter().map(|m| control(m.from)).collect();
    let mut slices: Vec<libc::iovec> = (messages.iter())
        .map(|message| libc::iovec {
            iov_base: message.octets.as_ptr().cast_mut().cast(),
            iov_len: message.octets.len(),
        })
        .collect();
    let mut headers: Vec<libc::mmsghdr> = (messages.iter_mut().zip(&mut slices))
        .zip(&mut controls)
        .map(|((message, slice), control)| {
            // SAFETY: all zeros are a header without anything.
            let mut header: libc::mmsghdr = unsafe { zeroed() };
            let (name, length) = match &mut message.name {
                Name::Address(name) => ((&raw mut *name).cast(), size_of_val(name)),
                Name::Link(name) => ((&raw mut *name).cast(), size_of_val(name)),
            };
            header.msg_hdr.msg_name = name;
            header.msg_hdr.msg_namelen = length as libc::socklen_t;
            header.msg_hdr.msg_iov = slice;
            header.msg_hdr.msg_iovlen = 1;
            if message.from.is_some() {
                header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
                header.msg_hdr.msg_controllen = control.0.len() as _;
            }
            header
        })
        .collect();
    let mut failed = Vec::new();
    let mut at = 0;
    while at < headers.len() {
        let rest = &mut headers[at..];
        // SAFETY: each header points to a name, a slice and a control buffer that live until the call returns; the kernel only
        // reads what is to be sent.
        let sent = unsafe {
            libc::sendmmsg(
                fd,
                rest.as_mut_ptr(),
                rest.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
            )
        };
        match usize::try_from(sent) {
            Ok(sent) if sent > 0 => at += sent,
            // It says what is wrong with the first one; the others may fare better.
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    failed.push((at, error));
                    at += 1;
                }
            }
        }
    }
    failed
}

/// Where a datagram was sent, if its control message is an `in_pktinfo` (ip(7)).
fn destination_of(control: &Control) -> Option<Ipv4Addr> {
    // SAFETY: the buffer is aligned and large enough for a header and an in_pktinfo behind it, and any octets are both.
    let (header, info) = unsafe {
        let at = control.0.as_ptr().cast::<libc::cmsghdr>();
        let info = libc::CMSG_DATA(at).cast::<libc::in_pktinfo>();
        (at.read(), info.read_unaligned())
    };
    (header.cmsg_level == libc::IPPROTO_IP && header.cmsg_type == libc::IP_PKTINFO)
        .then(|| Ipv4Addr::from_bits(u32::from_be(info.ipi_addr.s_addr)))
}

/// An `in_pktinfo` that says where a datagram comes from.
fn control(from: Option<Ipv4Addr>) -> Control {
    let mut control = Control([0; 32]);
    let Some(from) = from else {
        return control;
    };
    let info = libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr {
            s_addr: from.to_bits().to_be(),
        },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    let length = size_of::<libc::in_pktinfo>() as libc::c_uint;
    // SAFETY: CMSG_LEN and CMSG_SPACE only count.
    let (whole, needed) = unsafe { (libc::CMSG_LEN(length), libc::CMSG_SPACE(length)) };
    debug_assert_eq!(needed as usize, control.0.len());
    let header = libc::cmsghdr {
        cmsg_len: whole as _,
        cmsg_level: libc::IPPROTO_IP,
        cmsg_type: libc::IP_PKTINFO,
    };
    // SAFETY: the buffer is aligned and large enough for a header and, where the header's data begins, an in_pktinfo.
    unsafe {
        let at = control.0.as_mut_ptr().cast::<libc::cmsghdr>();
        at.write(header);
        libc::CMSG_DATA(at)
            .cast::<libc::in_pktinfo>()
            .write_unaligned(info);
    }
    control
}

pub(super) fn name_of(address: SocketAddrV4) -> Name {
    // SAFETY: all zeros are a sockaddr_in of no family.
    let mut name: libc::sockaddr_in = unsafe { zeroed() };
    name.sin_family = libc::AF_INET as libc::sa_family_t;
    name.sin_port = address.port().to_be();
    name.sin_addr.s_addr = address.ip().to_bits().to_be();
    Name::Address(name)
}

fn address_of(name: &libc::sockaddr_in) -> Option<SocketAddrV4> {
    let is_one = name.sin_family == libc::AF_INET as libc::sa_family_t;
    is_one.then(|| {
        SocketAddrV4::new(
            Ipv4Addr::from_bits(u32::from_be(name.sin_addr.s_addr)),
            u16::from_be(name.sin_port),
        )
    })
}
