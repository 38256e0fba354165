//! The provisioner: the machine of a lab that runs bootjackd in a container, between the lan of the targets and the way out.
//!
//! In: an image of its own (`image`), what the lab wants of it. Out: its configuration (`config`, pure), its certificates (`tls`),
//! its disks (`disks`), the machine as a value (`machine`, pure), and its frozen state (`frozen`). Other parts start and stop it.

pub mod config;
pub mod disks;
pub mod image;
pub mod machine;
pub mod tls;
