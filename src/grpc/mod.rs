//! gRPC (`bootjack.v1`). `convert` turns messages into values and refusals into statuses; `server` owns the sockets.

mod convert;
pub mod server;
