//! Every file name under the lab directory.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

/// The lab directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
    socket: PathBuf,
}

/// Longest name that fits a unix socket's address, on Linux and macOS.
const SOCKET_NAME_MAX: usize = 103;

impl Paths {
    /// The lab in `root`, an absolute path; `runtime` is a directory with a short name for a socket whose own would be too long.
    pub fn new(root: PathBuf, runtime: &Path) -> Self {
        let mut socket = root.join("run/api.sock");
        if socket.as_os_str().len() > SOCKET_NAME_MAX {
            let mut hasher = DefaultHasher::new();
            root.hash(&mut hasher);
            socket = runtime.join(format!("bootjack-{:016x}/api.sock", hasher.finish()));
        }
        Self { root, socket }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Locked while a lab runs; its presence says that the directory is a lab's.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lab.lock")
    }

    pub fn config(&self) -> PathBuf {
        self.root.join("bootjackd.toml")
    }

    pub fn bootjackd_log(&self) -> PathBuf {
        self.root.join("bootjackd.log")
    }

    /// bootjackd's `data_dir`, empty at every start.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub fn profiles(&self) -> PathBuf {
        self.root.join("profiles")
    }

    pub fn tftp(&self) -> PathBuf {
        self.root.join("tftp")
    }

    /// gRPC.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub fn key(&self) -> PathBuf {
        self.root.join("ssh/id_ed25519")
    }

    pub fn public_key(&self) -> PathBuf {
        self.root.join("ssh/id_ed25519.pub")
    }

    pub fn known_hosts(&self) -> PathBuf {
        self.root.join("ssh/known_hosts")
    }

    /// Logs in to the machine while the lab runs.
    pub fn login(&self, machine: &str) -> PathBuf {
        self.root.join(format!("ssh-{machine}"))
    }

    /// Everything of one machine.
    pub fn machine(&self, machine: &str) -> PathBuf {
        self.root.join(machine)
    }

    pub fn console_log(&self, machine: &str) -> PathBuf {
        self.machine(machine).join("console.log")
    }

    pub fn qemu_log(&self, machine: &str) -> PathBuf {
        self.machine(machine).join("qemu.log")
    }

    pub fn command_line(&self, machine: &str) -> PathBuf {
        self.machine(machine).join("qemu.sh")
    }

    /// UEFI variables.
    pub fn firmware_vars(&self, machine: &str) -> PathBuf {
        self.machine(machine).join("vars.fd")
    }
}

/// The path as a person in `current` would write it.
pub fn from_here(path: &Path, current: &Path) -> String {
    path.strip_prefix(current)
        .unwrap_or(path)
        .display()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_name_that_is_too_long_moves_to_the_runtime_directory() {
        let short = Paths::new("/home/me/lab".into(), Path::new("/run/user/1000"));
        assert_eq!(short.socket(), Path::new("/home/me/lab/run/api.sock"));
        let deep = Path::new("/home").join("d".repeat(100));
        let long = Paths::new(deep.clone(), Path::new("/run/user/1000"));
        let socket = long.socket().display().to_string();
        assert!(socket.starts_with("/run/user/1000/bootjack-"), "{socket}");
        assert!(socket.len() <= SOCKET_NAME_MAX);
        let other = Paths::new(deep.join("2"), Path::new("/run/user/1000"));
        assert_ne!(long.socket(), other.socket());
    }

    #[test]
    fn paths_are_shown_from_here() {
        let here = Path::new("/home/me");
        assert_eq!(from_here(Path::new("/home/me/lab/a"), here), "lab/a");
        assert_eq!(from_here(Path::new("/srv/a"), here), "/srv/a");
    }
}
