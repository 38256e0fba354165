//! TFTP (RFC 1350, 2347, 2348, 2349, 7440). `resolve` says what a requested name means; `server` owns the sockets.

pub mod resolve;
pub mod server;
