//! TFTP (RFC 1350, 2347, 2348, 2349, 7440), read only. `packet` reads and writes datagrams, `terms` settles options, `resolve`
//! says what a name means, `transfer` and `patience` decide what is sent when; `content` reads files, `places` bounds how many
//! are served, `session` serves one client's port, and `server` owns the listening one.

mod content;
pub mod packet;
mod patience;
mod places;
pub mod resolve;
pub mod server;
mod session;
pub mod terms;
pub mod transfer;
