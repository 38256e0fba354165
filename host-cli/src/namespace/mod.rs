//! bootjackd without a virtual machine: in namespaces of its own on this Linux, with one interface on the lab's switch.
//!
//! A supervisor enters them, moves frames between the interface `lan0` and the switch (`shovel`), starts bootjackd, and ends with
//! it; a supervisor that is killed takes bootjackd along. Sockets in the file system reach across: bootjackd's gRPC socket and
//! the supervisor's control socket (`control`) are as near as without namespaces. Through the latter one reaches what only the
//! namespace can: TCP to the lab's machines (`net dial`).

pub mod control;
#[cfg(target_os = "linux")]
mod shovel;
#[cfg(target_os = "linux")]
pub mod supervisor;

use std::path::{Path, PathBuf};

/// The supervisor's control socket.
pub fn socket(run: &Path) -> PathBuf {
    run.join("ns")
}

/// Locked while a supervisor runs (fcntl), with its pid in it.
pub fn pid(run: &Path) -> PathBuf {
    run.join("ns.pid")
}

#[cfg(not(target_os = "linux"))]
pub mod supervisor {
    use crate::cli::NamespaceArgs;
    use crate::exit::{Exit, Failure};

    pub fn run(_: &NamespaceArgs) -> Result<(), Failure> {
        let text = "network namespaces are Linux's alone; take provisioner.kind = \"vm\"";
        Err(Failure::new(Exit::Missing, text))
    }
}
