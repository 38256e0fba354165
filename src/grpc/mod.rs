//! gRPC (`bootjack.v1`). `listen` binds and `accept` takes connections: each is a `connection` of one of the `visitors`, over `tls`
//! perhaps. `gate` stands before every call: its `guard` knows by `identity`, the `register` of who may, the table of `scopes` and
//! the `rate` whether it is let in; `audit` notes it, by what `wire` makes out of it. `door` opens all that. `server` has the
//! services, `machines` is the one of that name, `events` its stream; `convert` turns messages into values and refusals into
//! statuses.

mod accept;
mod audit;
mod connection;
pub mod convert;
pub mod door;
mod events;
mod gate;
mod guard;
mod identity;
pub mod listen;
mod machines;
mod rate;
mod register;
pub mod replicas;
mod scopes;
pub mod server;
mod tls;
mod visitors;
mod wire;
