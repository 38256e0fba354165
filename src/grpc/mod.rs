//! gRPC (`bootjack.v1`). `convert` turns messages into values and refusals into statuses; `server` owns the sockets, `machines`
//! is the service of that name, `events` its stream.

pub mod convert;
mod events;
mod machines;
pub mod replicas;
pub mod server;
