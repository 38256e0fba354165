//! What a plan is made from beside the lab's file: this computer, and the images that it has.

use crate::cli::{AccelChoice, How};
use crate::drivers::Driver;
use crate::drivers::spec::DiskFormat;
use crate::exit::{Exit, Failure};
use crate::host::{self, Kvm};
use crate::images::{self, Store};
use crate::lab::open::Opened;
use crate::lab::plan::{Facts, FoundImage, arches};

/// Looks at this computer for what the lab's machines want.
pub async fn look(opened: &Opened, store: &Store, how: &How) -> Result<Facts, Failure> {
    let mut facts = Facts {
        driver: how.driver,
        ..Facts::default()
    };
    // What is not asked for is not tried.
    let accel = match how.driver {
        None | Some(Driver::QemuKvm | Driver::QemuHvf) => AccelChoice::Auto,
        Some(_) => AccelChoice::Tcg,
    };
    for arch in arches(&opened.lab) {
        let found = host::look(arch, accel).await;
        if let (Some(driver), Kvm::No(reason)) = (how.driver, &found.native) {
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
        let Some(image) = find(store, opened, name, machine.arch)? else {
            continue;
        };
        facts.images.insert((name.clone(), machine.arch), image);
    }
    Ok(facts)
}

/// A name of the store, or a file by its path from the lab's file.
fn find(
    store: &Store,
    opened: &Opened,
    name: &str,
    arch: crate::qemu::Arch,
) -> Result<Option<FoundImage>, Failure> {
    let beside = opened.file.with_file_name(name);
    let name = match beside.is_file() {
        true => beside.display().to_string(),
        false => name.to_owned(),
    };
    let Some(image) = store.find(&name, Some(arch))? else {
        return Ok(None);
    };
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
    Ok(Some(FoundImage {
        path: image.path,
        format,
    }))
}
