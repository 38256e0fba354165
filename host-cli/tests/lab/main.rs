//! Labs from outside, as a person has them: `bootjack` as a program, in directories of its own. Some run on a QEMU or vfkit that runs
//! nothing, some in namespaces with a real bootjackd, and some boot real firmware (`firmware`, `provisioner`).
//!
//! Wants what `make test` makes: bootjackd beside bootjack in the target directory, and what `make test-needs` leaves there; QEMU,
//! ssh, zstd and strip; and root, or a user namespace.

#![allow(clippy::unwrap_used)]

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod firmware;
#[cfg(target_os = "linux")]
mod namespace;
#[cfg(target_os = "linux")]
mod newcomer;
#[cfg(target_os = "linux")]
mod provisioner;
mod support;
#[cfg(target_os = "linux")]
mod up;
mod vfkit;
mod vm;
