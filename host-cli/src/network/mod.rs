//! A network of the lab's own: namespaces that this process enters and an interface in them.
//!
//! Nothing of it is seen outside, and nothing of it is left when the last process in it has ended. Users who are not root get
//! the rights over it from a user namespace, where the kernel allows one. Call before any thread is started.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use crate::exit::Failure;

/// By which right the namespaces were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub enum Right {
    Root,
    /// An unprivileged user namespace, in which the user is root.
    UserNamespace,
}

impl Right {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::UserNamespace => "user_namespace",
        }
    }
}

/// Moves this process into namespaces of its own and brings up loopback there.
pub fn enter() -> Result<Right, Failure> {
    system::enter()
}

/// The cable of a network interface of this namespace: what is written arrives at the interface, what the interface sends is
/// read, a frame at a time. Never blocks. The interface is gone when this is closed.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
#[derive(Debug)]
pub struct Cable {
    pub fd: OwnedFd,
    pub kind: CableKind,
}

/// What a cable is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub enum CableKind {
    Tap,
    /// Where /dev/net/tun is not for this user: a pair of interfaces and a packet socket at the far one.
    Veth,
}

impl CableKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tap => "tap",
            Self::Veth => "veth",
        }
    }
}

/// Makes an interface, up and with this address, and returns its cable.
pub fn plug_lan(name: &str, address: Ipv4Addr, prefix: u8) -> Result<Cable, Failure> {
    system::plug_lan(name, address, prefix)
}

/// Has unix datagram sockets that are made from now on in these namespaces hold as many datagrams, if that is allowed.
pub fn hold_datagrams(count: u32) {
    let _ = std::fs::write("/proc/sys/net/unix/max_dgram_qlen", count.to_string());
}

#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod system;
#[cfg(target_os = "linux")]
mod veth;

#[cfg(not(target_os = "linux"))]
mod system {
    use std::net::Ipv4Addr;

    use super::{Cable, Right};
    use crate::exit::{Exit, Failure};

    pub(super) fn enter() -> Result<Right, Failure> {
        Err(elsewhere())
    }

    pub(super) fn plug_lan(_: &str, _: Ipv4Addr, _: u8) -> Result<Cable, Failure> {
        Err(elsewhere())
    }

    fn elsewhere() -> Failure {
        Failure::new(Exit::Missing, "network namespaces are Linux's alone")
    }
}
