//! What the tests share: the service as a child process, and the networks it runs in.

pub mod netns;
pub mod service;
