//! `lab.toml`: the one file that says what a lab is. In: its text. Out: a `Lab` in which everything is decided that needs no
//! look at this computer, or every problem of the file at once, with its line.
//!
//! MAC and UUID of a machine come from the names of lab and machine, so that the same file makes the same machines everywhere
//! and a reservation outlives them.
//!
//! In reading order: `check` (the whole) ← `machines`, `image` (its sections) ← `values` (single keys), `size`, `reader` (what is written
//! where); `edit` writes into the file.

mod check;
pub mod edit;
mod image;
mod machines;
mod reader;
mod size;
mod values;

use std::net::Ipv4Addr;
use std::path::PathBuf;

pub use self::image::LabImage;
pub use self::reader::Problem;
pub use self::size::{parse_size, shown_size};
pub use self::values::{derived_mac, derived_uuid};
use crate::drivers::spec::{Arch, Firmware};

/// A lab as its file wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct Lab {
    pub name: String,
    pub network: Network,
    pub provisioner: Provisioner,
    pub vms: Vec<Machine>,
    /// Images that it says where to get.
    pub images: Vec<LabImage>,
}

/// The one segment that all machines of the lab are on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    pub kind: NetworkKind,
    pub subnet: Subnet,
    pub domain: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkKind {
    /// Our own, in user space.
    Switch,
    /// A bridge of this Linux that is there; a tap of it for each machine.
    Bridge { name: String },
    /// The socket of a socket_vmnet on macOS.
    SocketVmnet { socket: PathBuf },
}

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// The first address: host bits are zero.
    pub network: Ipv4Addr,
    pub prefix: u8,
}

/// The machine, or namespace, that bootjackd runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provisioner {
    pub kind: ProvisionerKind,
    /// Its address in the lab.
    pub address: Ipv4Addr,
    /// Name or file of its image.
    pub image: String,
    /// cloud-init's user-data for it, beside what the lab needs.
    pub user_data: Option<PathBuf>,
    /// The archive of the container image to run; without it, that of the image is made or found.
    pub container: Option<PathBuf>,
    pub cpus: u32,
    pub memory_mib: u32,
    /// Size of the disk that outlives the machine, in octets.
    pub data: u64,
    /// A directory of profiles, beside those that come with the lab.
    pub profiles: Option<PathBuf>,
    /// Directory of network boot programs for a namespace.
    pub programs: Option<PathBuf>,
    /// Directories of files that profiles name.
    pub artifacts: Vec<PathBuf>,
    /// Ports of loopback for ssh and the API; 0: any.
    pub ssh_port: u16,
    pub api_port: u16,
    /// Whether the lab can reach what this computer reaches.
    pub internet: bool,
    /// Start from a saved state where there is one that fits.
    pub freeze: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProvisionerKind {
    /// A virtual machine with a container engine.
    Vm,
    /// bootjackd as it is, in a network namespace of this Linux.
    Namespace,
}

/// A machine that boots in the lab.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    pub name: String,
    pub arch: Arch,
    pub firmware: Firmware,
    pub cpus: u32,
    pub memory_mib: u32,
    /// Size of its disk in octets; none: it has no disk.
    pub disk: Option<u64>,
    /// What it boots from, first to last.
    pub boot: Vec<BootFrom>,
    pub profile: Option<String>,
    /// Name or file of a cloud image that its disk starts as.
    pub image: Option<String>,
    /// cloud-config for that image, beside what the lab needs.
    pub user_data: Option<PathBuf>,
    /// Its reserved address.
    pub address: Ipv4Addr,
    pub mac: String,
    pub uuid: String,
    /// Variables for its profile.
    pub vars: serde_json::Map<String, serde_json::Value>,
    pub display: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootFrom {
    Disk,
    Net,
}

impl Subnet {
    fn mask(self) -> u32 {
        u32::MAX
            .checked_shl(32 - u32::from(self.prefix))
            .unwrap_or(0)
    }

    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.mask() == u32::from(self.network)
    }

    /// The n-th address after the network's own.
    pub fn host(self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network).saturating_add(n))
    }

    /// How many addresses machines can have.
    pub fn hosts(self) -> u32 {
        (!self.mask()).saturating_sub(1)
    }

    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) | !self.mask())
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

/// Reads a lab file; `directory` is where its relative paths start, and its name the lab's where the file gives none.
pub fn read(text: &str, directory: &std::path::Path) -> Result<Lab, Vec<Problem>> {
    let problems = reader::Problems::of(text);
    let lab = reader::parse(text, &problems)
        .map(|table| check::lab(reader::Table::root(table.get_ref(), &problems), directory));
    let problems = problems.into_sorted();
    match lab {
        Some(lab) if problems.is_empty() => Ok(lab),
        _ => Err(problems),
    }
}
