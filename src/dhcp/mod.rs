//! DHCPv4 (RFC 2131, 2132). `request` reads a packet, `decide` chooses the answer, `bootfile` the boot program, `reply` writes
//! the answer, `route` says where it goes, `pool` finds a free address; all pure. `server` owns the sockets.

pub mod bootfile;
pub mod chosen;
pub mod decide;
pub mod options;
pub mod pool;
pub mod reply;
pub mod request;
pub mod route;
pub mod server;
pub mod view;
