//! The lab of a `lab.toml`: what it is to be, what is there, and the way from one to the other.
//!
//! In reading order: `open` (the file, the lock), `paths` ← `plan` (pure: what is to run), `pulls` (pure: where images come from) ←
//! `switch`, `provisioner`, `content` (what bootjackd is to know: `shipped` profiles, the `files` they name, reservations), `targets`
//! (the machines, with `seeds` where they have an image) ← `wait`, by `timeline` (what bootjackd tells) and `consoles` (what they say
//! themselves); `service`, `ssh` (pure: configuration), `report` (who watches).

pub mod consoles;
pub mod content;
pub mod files;
pub mod open;
pub mod paths;
pub mod plan;
pub mod provisioner;
pub mod pulls;
pub mod report;
pub mod seeds;
pub mod service;
mod shipped;
pub mod ssh;
pub mod switch;
pub mod targets;
pub mod timeline;
pub mod wait;
