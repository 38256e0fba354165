//! IPv6 neighbour discovery (RFC 4861), as little of it as ends a wait: iPXE asks every segment for IPv6 routers, and where none
//! answers it stands still for some 15 seconds of each boot. `advertisement` is pure; `server` owns the socket.

pub mod advertisement;
pub mod server;
