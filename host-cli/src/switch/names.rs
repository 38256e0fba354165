//! The switch's file names in a lab's runtime directory, which is nobody else's (mode 0700). All are short: the address of a
//! unix socket is no longer than 103 octets.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// The port of the provisioner.
pub const PROVISIONER: &str = "provisioner";

/// A port's id: the first 8 hex digits of the SHA-256 of its name.
pub fn port_id(name: &str) -> String {
    let digest = Sha256::digest(name);
    digest[..4]
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect()
}

/// What may stand in a file name for a port.
pub fn is_id(text: &str) -> bool {
    text.len() == 8 && (text.bytes()).all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f'))
}

/// The switch's control socket.
pub fn control(run: &Path) -> PathBuf {
    run.join("sw")
}

/// Locked while a switch runs (fcntl), with its pid in it.
pub fn pid(run: &Path) -> PathBuf {
    run.join("sw.pid")
}

/// What the switch was told of its ports, for the one that comes after a crash.
pub fn ports(run: &Path) -> PathBuf {
    run.join("sw.ports")
}

/// The switch's side of a port.
pub fn switch_side(run: &Path, id: &str) -> PathBuf {
    run.join(format!("s-{id}"))
}

/// The machine's side of a port.
pub fn machine_side(run: &Path, id: &str) -> PathBuf {
    run.join(format!("v-{id}"))
}

/// The id in the file name of a machine's side.
pub fn id_of_machine_side(file: &str) -> Option<&str> {
    file.strip_prefix("v-").filter(|id| is_id(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_stable_and_fit_file_names() {
        // printf node1 | sha256sum
        assert_eq!(port_id("node1"), "ca12f31b");
        assert!(is_id(&port_id("../../etc/passwd")));
        for id in [
            "",
            "1234567",
            "123456789",
            "1234567A",
            "../../..",
            "12345 78",
        ] {
            assert!(!is_id(id), "{id}");
        }
        assert_eq!(id_of_machine_side("v-12345678"), Some("12345678"));
        assert_eq!(id_of_machine_side("s-12345678"), None);
        assert_eq!(id_of_machine_side("v-12345678.old"), None);
    }
}
