//! The lab of a `lab.toml`: what it is to be, what is there, and the way from one to the other.

pub mod paths;
