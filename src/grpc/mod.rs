//! gRPC (`bootjack.v1`). `listen` binds, `accept` takes connections, `connection` is one; `access` stands before every call and says
//! who may what; `server` says which services there are, each in a file of its name. `errors` turns refusals into statuses;
//! `filter`, `paging`, `mask` and `values` are what calls have in common.

mod accept;
pub mod access;
mod artifacts;
mod batch;
mod connection;
pub mod convert;
mod dhcp;
mod errors;
mod events;
mod filter;
mod following;
mod lease_filter;
mod lease_message;
mod lease_watch;
mod leases;
pub mod listen;
mod machine_filter;
mod machines;
mod mask;
mod operations;
mod paging;
mod profile_message;
mod profiles;
pub mod replicas;
mod reservation_filter;
mod reservation_size;
mod reservation_watch;
mod reservations;
pub mod server;
pub mod server_info;
mod values;
