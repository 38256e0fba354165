//! Sockets with large buffers, made while that is allowed. The kernel lets CAP_NET_ADMIN alone go beyond net.core.rmem_max, and a
//! service that follows its interfaces binds long after it has given that up: so it makes some sockets early, and binds them later.

use std::io;
use std::sync::{Mutex, PoisonError};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

static RESERVED: Mutex<Vec<Socket>> = Mutex::new(Vec::new());

/// Makes so many, if they can be made; without the right to, those that are made later are as the system limits them.
pub fn reserve(count: usize) {
    let made = (0..count).map_while(|_| large().ok());
    let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
    reserved.extend(made);
}

/// How many are left.
pub fn left() -> usize {
    let reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
    reserved.len()
}

/// An IPv4 UDP socket: one of those, while there are some.
pub(super) fn udp() -> io::Result<Socket> {
    let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
    match reserved.pop() {
        Some(socket) => Ok(socket),
        None => Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)),
    }
}

fn large() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    setsockopt(&socket, sockopt::RcvBufForce, &super::RECEIVE_BUFFER)?;
    setsockopt(&socket, sockopt::SndBufForce, &super::udp::BUFFER)?;
    Ok(socket)
}
