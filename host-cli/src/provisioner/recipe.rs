//! The provisioner's other end, kept in this program so that it needs no checkout: how its own image is made, and what a cloud
//! image is given to become one. Out: names below deploy/, and texts.

/// Files by the names they have below deploy/.
macro_rules! recipe {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../deploy/", $path)))),*]
    };
}

/// What the provisioner's own image is made by.
pub const RECIPE: &[(&str, &str)] = recipe![
    "private-apt.sh",
    "guest/kernel.sh",
    "guest/modules.sh",
    "provisioner/build.sh",
    "provisioner/init",
    "provisioner/root/etc/cloud/cloud.cfg.d/90-bootjack.cfg",
    "provisioner/root/etc/hostname",
    "provisioner/root/etc/hosts",
    "provisioner/root/etc/nftables.conf",
    "provisioner/root/etc/ssh/sshd_config.d/bootjack.conf",
    "provisioner/root/etc/sysctl.d/50-bootjack.conf",
    "provisioner/root/etc/systemd/journald.conf.d/bootjack.conf",
    "provisioner/root/etc/systemd/system/bootjack-container.service",
    "provisioner/root/etc/systemd/system/bootjack-data.service",
    "provisioner/root/etc/systemd/system/bootjack-gate.service",
    "provisioner/root/etc/systemd/system/bootjackd.service",
    "provisioner/root/etc/systemd/system/serial-getty@.service.d/root.conf",
    "provisioner/root/usr/lib/bootjack/data",
    "provisioner/root/usr/lib/bootjack/disk.sh",
    "provisioner/root/usr/lib/bootjack/gate",
    "provisioner/root/usr/lib/bootjack/load",
    "provisioner/root/usr/lib/bootjack/run",
    "provisioner/root/usr/lib/bootjack/status",
];

/// What a cloud image is given besides.
const CLOUD: &[(&str, &str)] = recipe![
    "provisioner-cloud/root/etc/systemd/system/bootjack-seed.service",
    "provisioner-cloud/root/usr/lib/bootjack/seed",
];

/// What cloud-init runs in a cloud image.
pub const SETUP: &str = include_str!("../../../deploy/provisioner-cloud/setup");

/// Of the recipe, what a cloud image has of its own or its seed brings.
const NOT_IN_CLOUDS: [&str; 3] = [
    "etc/cloud/cloud.cfg.d/90-bootjack.cfg",
    "etc/hostname",
    "etc/hosts",
];

/// The files that are laid over a cloud image: paths without a slash in front, modes, texts.
pub fn over_a_cloud_image() -> impl Iterator<Item = (&'static str, u32, &'static str)> {
    let all = RECIPE.iter().chain(CLOUD).filter_map(|(name, text)| {
        let (_, path) = name.split_once("/root/")?;
        let mode = match path.starts_with("usr/lib/bootjack/") {
            true => 0o755,
            false => 0o644,
        };
        Some((path, mode, *text))
    });
    all.filter(|(path, ..)| !NOT_IN_CLOUDS.contains(path))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    fn below(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => below(&path, found),
                false => found.push(path),
            }
        }
    }

    #[test]
    fn the_whole_recipe_is_in_this_program() {
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
        let mut found = Vec::new();
        for directory in ["provisioner", "provisioner-cloud"] {
            below(&deploy.join(directory), &mut found);
        }
        for path in found {
            let name = path.strip_prefix(&deploy).unwrap().to_str().unwrap();
            let is_setup = name == "provisioner-cloud/setup";
            let mut all = RECIPE.iter().chain(CLOUD);
            assert!(is_setup || all.any(|(known, _)| *known == name), "{name}");
        }
    }

    #[test]
    fn a_cloud_image_keeps_its_own_cloud_init() {
        let all: Vec<&str> = over_a_cloud_image().map(|(path, ..)| path).collect();
        assert!(all.contains(&"usr/lib/bootjack/seed"), "{all:?}");
        assert!(all.contains(&"etc/nftables.conf"), "{all:?}");
        assert!(!all.iter().any(|path| path.contains("cloud")), "{all:?}");
        // It is a part of a document that says that it is ASCII.
        assert!(SETUP.starts_with("#!/bin/sh\n") && SETUP.is_ascii());
    }
}
