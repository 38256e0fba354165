//! Profiles: how a machine is booted and configured.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Cpu, LocalBoot, Vars};

/// One profile as its directory says it: everything in it that is text is a template.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    pub name: String,
    pub source: ProfileSource,
    pub description: String,
    /// Defaults; a reservation's own variables win.
    pub vars: Vars,
    /// Variables that must be said by the reservation, a group or the configuration.
    pub required: Vec<String>,
    /// The memory that it needs, in MiB.
    pub min_ram: Option<u32>,
    /// The version of cloud-init in what it boots, as `(22, 4)`; none where nobody said.
    pub cloud_init: Option<(u32, u32)>,
    /// The template that takes the place of our boot script for iPXE.
    pub script: Option<String>,
    /// What to boot, by processor. None, and no script either: the local disk.
    pub boot: BTreeMap<Cpu, BootFiles>,
    /// Documents beyond, or instead of, the built-in ones, by the name they are fetched under: their templates' file names.
    pub documents: BTreeMap<String, String>,
    /// The templates by file name.
    pub templates: BTreeMap<String, String>,
    /// What it installs on a machine stays there: it is served to armed machines alone. None: it is served on every boot.
    pub install: Option<Install>,
    /// How its machines are sent to their own disk; none: as their firmware does it best.
    pub local_boot: Option<LocalBoot>,
}

/// Where a profile comes from. Of two of one name the later one counts, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProfileSource {
    /// It is inside the program.
    #[default]
    Shipped,
    /// It was made over the API.
    Api,
    /// It is in the directory that people edit.
    Directory,
}

impl Profile {
    /// Whether it boots anything from the network.
    pub fn boots(&self) -> bool {
        !self.boot.is_empty() || self.script.is_some()
    }
}

/// The bounds of one installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Install {
    /// From the boot script to the installer's last word.
    pub deadline: Duration,
    /// How often an attempt that ran into the deadline is begun anew.
    pub retries: u32,
}

/// Kernel, initial RAM disks and arguments for one processor.
#[derive(Clone, Debug, PartialEq)]
pub struct BootFiles {
    /// A path below `http.files`, or a URL.
    pub kernel: String,
    pub initrd: Vec<String>,
    pub args: Vec<String>,
}

/// A document that a machine asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    MetaData,
    UserData,
    VendorData,
    NetworkConfig,
    /// One that the profile names, such as `preseed.cfg`.
    Other(String),
}

impl Document {
    /// cloud-init's NoCloud documents, each always answered for a known machine.
    pub const NOCLOUD: [Self; 4] = [
        Self::MetaData,
        Self::UserData,
        Self::VendorData,
        Self::NetworkConfig,
    ];

    /// The name it is fetched under.
    pub fn name(&self) -> &str {
        match self {
            Self::MetaData => "meta-data",
            Self::UserData => "user-data",
            Self::VendorData => "vendor-data",
            Self::NetworkConfig => "network-config",
            Self::Other(name) => name,
        }
    }

    /// The document of this name.
    pub fn named(name: &str) -> Self {
        Self::NOCLOUD
            .into_iter()
            .find(|document| document.name() == name)
            .unwrap_or_else(|| Self::Other(name.to_owned()))
    }
}
