//! What a plan is made from beside the lab's file: this computer, and the images that it has.

use crate::cli::How;
use crate::drivers::Driver;
use crate::drivers::spec::Arch;
use crate::drivers::spec::DiskFormat;
use crate::exit::{Exit, Failure};
use crate::host::{self, Kvm};
use crate::images::{self, Image, Store};
use crate::lab::open::Opened;
use crate::lab::paths::PROVISIONER;
use crate::lab::plan::{Facts, FoundImage, arches};
use crate::lab::pulls;
use crate::labfile::ProvisionerKind;

/// Looks at this computer for what the lab's machines want.
pub async fn look(opened: &Opened, store: &Store, how: &How) -> Result<Facts, Failure> {
    let mut facts = Facts {
        driver: how.driver,
        framework: how
            .driver
            .and_then(|driver| host::find_program(driver.as_str())),
        ..Facts::default()
    };
    // What is not asked for is not tried.
    let native = match how.driver {
        None | Some(Driver::QemuKvm | Driver::QemuHvf) => true,
        Some(Driver::QemuTcg) => false,
        // The provisioner is QEMU's even then.
        Some(Driver::Vfkit | Driver::Macosvm) => opened.lab.provisioner.kind == ProvisionerKind::Vm,
    };
    for arch in arches(&opened.lab) {
        let found = host::look(arch, native).await;
        if let (Some(driver @ (Driver::QemuKvm | Driver::QemuHvf)), Kvm::No(reason)) =
            (how.driver, &found.native)
        {
            let text = format!(
                "{} cannot be used: {reason}; leave --driver out for emulation",
                driver.as_str()
            );
            return Err(Failure::new(Exit::Missing, text));
        }
        facts.arches.push(found);
    }
    for machine in &opened.lab.vms {
        let Some(name) = &machine.image else { continue };
        let key = (name.clone(), machine.arch);
        if let Some(image) = find(store, opened, name, machine.arch)? {
            facts.images.insert(key, image);
        } else if let Some(wanted) = pulls::wanted(&opened.lab, name, machine.arch)? {
            facts.pulls.insert(key, wanted);
        }
    }
    let wanted = &opened.lab.provisioner;
    let is_own =
        || wanted.image == PROVISIONER || opened.file.with_file_name(&wanted.image).is_dir();
    if wanted.kind == ProvisionerKind::Vm && !is_own() {
        let arch = Arch::of_host().unwrap_or(Arch::X86_64);
        facts.provisioner = find(store, opened, &wanted.image, arch)?;
        if facts.provisioner.is_none()
            && let Some(pull) = pulls::wanted(&opened.lab, &wanted.image, arch)?
        {
            facts.pulls.insert((wanted.image.clone(), arch), pull);
        }
    }
    Ok(facts)
}

/// A file by its path from the lab's file, what the lab itself says that it is, or a name of the store.
fn find(
    store: &Store,
    opened: &Opened,
    name: &str,
    arch: Arch,
) -> Result<Option<FoundImage>, Failure> {
    let beside = opened.file.with_file_name(name);
    let image = match pulls::digest(&opened.lab, name, arch) {
        _ if beside.is_file() => store.find(&beside.display().to_string(), Some(arch))?,
        Some(digest) => store.with_digest(digest)?,
        None => store.find(name, Some(arch))?,
    };
    image.map(|image| found(name, image)).transpose()
}

/// An image that disks can lie on top of.
pub fn found(name: &str, image: Image) -> Result<FoundImage, Failure> {
    let format = match image.format {
        images::DiskFormat::Raw => DiskFormat::Raw,
        images::DiskFormat::Qcow2 => DiskFormat::Qcow2,
        other => {
            let text = format!(
                "image {name}: wanted qcow2 or raw, got {other}; import it first: bootjack image import"
            );
            return Err(Failure::new(Exit::Invalid, text));
        }
    };
    Ok(FoundImage {
        path: image.path,
        format,
    })
}
