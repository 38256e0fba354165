//! What a box says of the machine in it.

use sha2::{Digest as _, Sha256};

use crate::drivers::spec::{Arch, Firmware};

/// The machine that a box makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub name: String,
    pub arch: Arch,
    pub firmware: Firmware,
    pub cpus: u32,
    pub memory_mib: u32,
    /// Whom Vagrant logs in as.
    pub user: String,
}

impl Machine {
    /// As Go calls processors, and Vagrant with it.
    pub fn vagrant_arch(&self) -> &'static str {
        match self.arch {
            Arch::X86_64 => "amd64",
            Arch::Aarch64 => "arm64",
        }
    }

    /// A MAC address with VirtualBox's prefix, always the same for a name: twelve digits.
    pub fn virtualbox_mac(&self) -> String {
        let digest = Sha256::digest(&self.name);
        format!("080027{:02X}{:02X}{:02X}", digest[0], digest[1], digest[2])
    }
}
