//! Kea's DHCPv4 server, as `benches/kea.sh` unpacked it.

use std::path::Path;
use std::process::Command;

const HOME: &str = "target/bench/kea";

pub fn program() -> String {
    format!("{HOME}/usr/sbin/kea-dhcp4")
}

/// Has it find its libraries.
pub fn set_paths(command: &mut Command) {
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    command.env("LD_LIBRARY_PATH", format!("{HOME}/usr/lib/{triplet}"));
}

/// Has it keep its pid file and its locks away from the machine's own.
pub fn keep_to(command: &mut Command, home: &Path) {
    set_paths(command);
    command
        .env("KEA_PIDFILE_DIR", home)
        .env("KEA_LOCKFILE_DIR", "none");
}
