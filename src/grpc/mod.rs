//! gRPC (`bootjack.v1`). `convert` turns messages into values and refusals into statuses; `server` owns the sockets, `machines`
//! is the service of that name.

pub mod convert;
mod machines;
pub mod server;
