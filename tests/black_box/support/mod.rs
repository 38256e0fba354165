//! What the tests share: the service as a child process, and the networks it runs in.

pub mod api;
pub mod clients;
pub mod dhcp;
pub mod netns;
pub mod qemu;
pub mod service;
pub mod wire;
