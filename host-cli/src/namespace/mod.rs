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

use crate::exit::{Exit, Failure};
use crate::network::{self, CableKind, Right};
use crate::{output, process};

/// The namespace's end of the lab's network, as bootjackd knows it.
pub const INTERFACE: &str = "lan0";

/// The supervisor's control socket.
pub fn socket(run: &Path) -> PathBuf {
    run.join("ns")
}

/// Locked while a supervisor runs (fcntl), with its pid in it.
pub fn pid(run: &Path) -> PathBuf {
    run.join("ns.pid")
}

/// How a namespace would be had here, tried by a process of its own: this one stays where it is.
pub fn possible() -> Result<&'static str, Failure> {
    let program = std::env::current_exe().map_err(Failure::io("find", "this program"))?;
    let output = process::asked(&program, &["net", "probe"])?;
    if !output.status.success() {
        let why = process::last_line(&output.stderr);
        let why = why.strip_prefix("bootjack: ").unwrap_or(&why).to_owned();
        return Err(Failure::new(Exit::Missing, why));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let known = WAYS
        .iter()
        .find(|(right, kind, _)| said.trim() == way(*right, *kind));
    let way = known.map(|(_, _, text)| *text);
    way.ok_or_else(|| {
        let text = format!("`bootjack net probe` said {:?}", said.trim());
        Failure::new(Exit::Failed, text)
    })
}

/// Enters namespaces, makes an interface there and says how; both are gone when this process ends.
pub fn probe() -> Result<(), Failure> {
    let right = network::enter()?;
    let address = std::net::Ipv4Addr::new(198, 18, 0, 1);
    let cable = network::plug_lan(INTERFACE, address, 24)?;
    output::say(&way(right, cable.kind))
}

const WAYS: [(Right, CableKind, &str); 4] = [
    (Right::Root, CableKind::Tap, "as root, with a tap"),
    (
        Right::Root,
        CableKind::Veth,
        "as root, with a veth pair: there is no usable /dev/net/tun",
    ),
    (
        Right::UserNamespace,
        CableKind::Tap,
        "without root, with a tap",
    ),
    (
        Right::UserNamespace,
        CableKind::Veth,
        "without root, with a veth pair: /dev/net/tun is not for this user",
    ),
];

fn way(right: Right, kind: CableKind) -> String {
    format!("{} {}", right.as_str(), kind.as_str())
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
