//! A disk for others: one file of another format, or a Vagrant box. In: a disk, which may lie on top of images, and what it is to be.
//! Out: a file that needs nothing else. It refuses to replace a file, and disks that a running machine has.
//!
//! `machine` is what a box says of its machine; `vagrant`, `ovf` and `vmx` are its documents (pure).

mod archive;
pub mod machine;
mod ovf;
mod vagrant;
mod vmx;

use std::path::Path;

use clap::ValueEnum;

pub use self::machine::Machine;
use self::vagrant::Provider;
use super::chain;
use super::{new_path, qemu_img};
use crate::exit::Failure;
use crate::images::store::temporary::Temporary;
use crate::images::{DiskFormat, Store};

/// What a disk is exported as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// QEMU's format, whole by itself
    Qcow2,
    /// The disk's octets, with holes where it is empty
    Raw,
    /// VMware's format, in one file
    Vmdk,
    /// VirtualBox's format
    Vdi,
    /// A Vagrant box for the provider libvirt (QEMU, KVM)
    VagrantLibvirt,
    /// A Vagrant box for the provider vmware_desktop (Fusion, Workstation)
    VagrantVmware,
    /// A Vagrant box for the provider virtualbox
    VagrantVirtualbox,
}

impl Form {
    fn provider(self) -> Option<Provider> {
        match self {
            Self::VagrantLibvirt => Some(Provider::Libvirt),
            Self::VagrantVmware => Some(Provider::Vmware),
            Self::VagrantVirtualbox => Some(Provider::VirtualBox),
            _ => None,
        }
    }

    pub fn is_box(self) -> bool {
        self.provider().is_some()
    }

    /// The format of the disk, alone or in its box.
    fn format(self) -> DiskFormat {
        match self {
            Self::Qcow2 | Self::VagrantLibvirt => DiskFormat::Qcow2,
            Self::Raw => DiskFormat::Raw,
            Self::Vmdk | Self::VagrantVmware | Self::VagrantVirtualbox => DiskFormat::Vmdk,
            Self::Vdi => DiskFormat::Vdi,
        }
    }

    /// What qemu-img is told of the format. VirtualBox imports OVFs with stream-optimized disks; VMware runs machines from sparse
    /// ones.
    fn options(self, pack: bool) -> &'static [&'static str] {
        match self {
            Self::Qcow2 if pack => &["-c"],
            Self::Vmdk | Self::VagrantVmware => {
                &["-o", "subformat=monolithicSparse,adapter_type=lsilogic"]
            }
            Self::VagrantVirtualbox => &["-o", "subformat=streamOptimized,adapter_type=lsilogic"],
            _ => &[],
        }
    }
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub form: Form,
    /// Of a qcow2 file: packed, which takes time and saves room.
    pub pack: bool,
    /// Of a box.
    pub machine: Machine,
}

/// Makes the file.
pub async fn export(
    store: &Store,
    from: &Path,
    says: Option<DiskFormat>,
    to: &Path,
    wanted: &Wanted,
) -> Result<(), Failure> {
    let to = new_path(to)?;
    let provider = wanted.form.provider();
    // Before anything that takes long.
    if let Some(provider) = provider {
        provider.refuse(&wanted.machine)?;
    }
    let chain = chain::read(from, says)?;
    let (from, disk) = (&chain[0].path, &chain[0].disk);
    let made = store.temporary(&to)?;
    let format = wanted.form.format();
    let options = wanted.form.options(wanted.pack);
    let arguments = qemu_img::convert(from, disk.format, made.path(), format, options);
    qemu_img::run_with_progress("converting", &arguments).await?;
    match provider {
        None => made.keep(&to),
        Some(provider) => {
            let virtual_size = qemu_img::info(made.path(), format).await?.virtual_size;
            let packed = packed(store, &to, &made, virtual_size, provider, &wanted.machine)?;
            packed.keep(&to)
        }
    }
}

/// The disk and its documents, in a box.
fn packed(
    store: &Store,
    to: &Path,
    disk: &Temporary,
    virtual_size: u64,
    provider: Provider,
    machine: &Machine,
) -> Result<Temporary, Failure> {
    let size = std::fs::metadata(disk.path())
        .map_err(Failure::io("read", disk.path()))?
        .len();
    let documents = provider.documents(machine, virtual_size, size);
    let made = store.temporary(to)?;
    archive::write(made.path(), &documents, provider.disk(), disk.path())?;
    Ok(made)
}

#[cfg(test)]
mod tests;
