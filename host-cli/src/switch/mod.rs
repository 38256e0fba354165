//! The lab's private network: a learning Ethernet switch in user space, without any right, the same on Linux and macOS.
//!
//! Every machine's network card is a unix datagram socket (`-netdev dgram,local.path=RUN/v-ID,remote.path=RUN/s-ID`, or what
//! vfkit and macosvm connect), one frame in each datagram; the switch has the other end. It refuses to run twice in one
//! directory, and ports it does not know. The directory, which only its owner may enter, is all there is of access control.
//!
//! In reading order: `names` (files), `frame` ← `fib` ← `bridge` (what becomes of a frame: pure), `queue`, `pcap`, `protocol`
//! (pure); `dgram` (sockets) ← `wire` ← `server` (the process), `connection`, `known`, `lock`, `end`, `poll`, `log`; and
//! `control`, the client.

pub mod bridge;
mod connection;
#[allow(dead_code)]
pub mod control;
pub mod dgram;
pub mod end;
mod fib;
pub mod frame;
mod known;
#[allow(dead_code)]
pub mod lock;
pub mod log;
pub mod names;
pub mod pcap;
pub mod poll;
pub mod protocol;
mod queue;
pub mod server;
mod wire;
