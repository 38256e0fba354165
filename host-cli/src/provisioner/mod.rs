//! The provisioner's machine: a small Debian that runs bootjackd in a container, between the lan of the targets and the way out.
//!
//! In: an image of its own (`image`), what the lab wants of it. Out: the machine as a value (`machine`, pure), its certificates
//! (`tls`), what its targets are served (`served`), its way through the gate (`gate`), and its frozen state (`frozen`).
//! `lab::provisioner` brings it up; the other end of all of this is deploy/provisioner.

pub mod by_hand;
pub mod container;
pub mod frozen;
pub mod gate;
pub mod image;
pub mod machine;
pub mod recipe;
pub mod served;
pub mod tls;
