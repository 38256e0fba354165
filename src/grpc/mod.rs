//! gRPC (`bootjack.v1`). `listen` binds, `accept` takes connections, `connection` is one; `convert` turns messages into values and
//! refusals into statuses; `server` has the services, `machines` is the one of that name, `events` its stream.

mod accept;
mod connection;
pub mod convert;
mod events;
pub mod listen;
mod machines;
pub mod replicas;
pub mod server;
