//! Says when this machine's interfaces or their IPv4 addresses may have changed. What changed is for others to look up.

use std::io;
use std::mem::size_of;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use tokio::net::UdpSocket;

/// How often one looks where the kernel does not tell.
const PERIOD: Duration = Duration::from_secs(2);

/// Hears of changes from now on.
pub struct Watch(Option<UdpSocket>);

impl Watch {
    /// Has the kernel tell (rtnetlink(7)). Everybody may ask for that.
    pub fn open() -> io::Result<Self> {
        let route = Protocol::from(libc::NETLINK_ROUTE);
        let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(route))?;
        socket.set_nonblocking(true)?;
        let groups = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR;
        socket.bind(&netlink_address(
            u32::try_from(groups).map_err(io::Error::other)?,
        ))?;
        // Only its readiness is used, and that it can be read: what it reads is rtnetlink's.
        Ok(Self(Some(UdpSocket::from_std(socket.into())?)))
    }

    /// Where the kernel does not tell, now and then a change is taken for granted.
    pub fn by_the_clock() -> Self {
        Self(None)
    }

    /// Waits for a change; several that came together count as one.
    pub async fn changed(&self) {
        match &self.0 {
            Some(socket) if socket.readable().await.is_ok() => {
                // That some were lost (ENOBUFS) is news too.
                while socket.try_recv(&mut [0; 8192]).is_ok() {}
            }
            _ => tokio::time::sleep(PERIOD).await,
        }
    }
}

fn netlink_address(groups: u32) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_nl is one of the forms of sockaddr_storage, which is as large as any and aligned for all.
    let address = unsafe { storage.view_as::<libc::sockaddr_nl>() };
    address.nl_family = libc::AF_NETLINK as u16;
    address.nl_groups = groups;
    // SAFETY: the storage holds a whole sockaddr_nl, and the length is its own.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_nl>() as libc::socklen_t) }
}
