//! UEFI firmware by QEMU's own descriptors (docs/interop/firmware.json of QEMU): JSON files that every distribution ships with
//! its firmware. In: the descriptors in order of priority. Out: the pair of code and variables that boots iPXE from the network.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::drivers::spec::Arch;

/// Directories of descriptors: distributions, Homebrew on either Mac.
const DESCRIPTORS: [&str; 3] = [
    "/usr/share/qemu/firmware",
    "/opt/homebrew/share/qemu/firmware",
    "/usr/local/share/qemu/firmware",
];

/// What a lab's machine cannot have: Secure Boot refuses iPXE, and memory encryption wants a host of its own.
const UNFIT: [&str; 6] = [
    "secure-boot",
    "enrolled-keys",
    "requires-smm",
    "amd-sev",
    "amd-sev-es",
    "intel-tdx",
];

/// The first pair that fits and is there.
pub fn by_descriptors(arch: Arch) -> Option<(PathBuf, PathBuf)> {
    let mut files: Vec<PathBuf> = DESCRIPTORS
        .iter()
        .filter_map(|dir| std::fs::read_dir(dir).ok())
        .flat_map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())))
        .filter(|file| file.extension().is_some_and(|ext| ext == "json"))
        .collect();
    // Their names begin with their priority.
    files.sort_by_key(|file| file.file_name().map(ToOwned::to_owned));
    let descriptors = files.iter().filter_map(|file| {
        let text = std::fs::read_to_string(file).ok()?;
        serde_json::from_str(&text).ok()
    });
    choose(descriptors, arch, |file| file.is_file())
}

fn choose(
    descriptors: impl Iterator<Item = Value>,
    arch: Arch,
    exists: impl Fn(&Path) -> bool,
) -> Option<(PathBuf, PathBuf)> {
    descriptors
        .filter(|descriptor| fits(descriptor, arch))
        .filter_map(|descriptor| pair(&descriptor["mapping"]))
        .find(|(code, vars)| exists(code) && exists(vars))
}

fn fits(descriptor: &Value, arch: Arch) -> bool {
    let machine = match arch {
        Arch::X86_64 => "pc-q35-",
        Arch::Aarch64 => "virt-",
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let is_uefi = list(&descriptor["interface-types"]).contains(&"uefi".into());
    let is_target = list(&descriptor["targets"]).iter().any(|target| {
        target["architecture"] == arch.as_str()
            && list(&target["machines"])
                .iter()
                .any(|name| name.as_str().is_some_and(|name| name.starts_with(machine)))
    });
    let features = list(&descriptor["features"]);
    let is_unfit = UNFIT
        .iter()
        .any(|unfit| features.contains(&(*unfit).into()));
    is_uefi && is_target && !is_unfit
}

/// Of firmware in flash that keeps its variables apart from its code.
fn pair(mapping: &Value) -> Option<(PathBuf, PathBuf)> {
    let file = |part: &Value| {
        let is_raw = part["format"] == "raw";
        is_raw.then(|| part["filename"].as_str().map(PathBuf::from))?
    };
    let is_split = mapping["mode"].as_str().is_none_or(|mode| mode == "split");
    match mapping["device"] == "flash" && is_split {
        true => Some((
            file(&mapping["executable"])?,
            file(&mapping["nvram-template"])?,
        )),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn descriptor(code: &str, arch: &str, machine: &str, features: &[&str]) -> Value {
        json!({
            "interface-types": ["uefi"],
            "mapping": {
                "device": "flash",
                "executable": { "filename": code, "format": "raw" },
                "nvram-template": { "filename": "/fw/VARS.fd", "format": "raw" },
            },
            "targets": [{ "architecture": arch, "machines": [machine] }],
            "features": features,
        })
    }

    #[test]
    fn the_first_that_boots_ipxe_is_chosen() {
        let known = vec![
            descriptor(
                "/fw/ms.fd",
                "x86_64",
                "pc-q35-*",
                &["enrolled-keys", "secure-boot"],
            ),
            descriptor("/fw/smm.fd", "x86_64", "pc-q35-*", &["requires-smm"]),
            descriptor("/fw/i440.fd", "x86_64", "pc-i440fx-*", &[]),
            descriptor("/fw/absent.fd", "x86_64", "pc-q35-*", &[]),
            descriptor("/fw/plain.fd", "x86_64", "pc-q35-*", &["acpi-s3"]),
            descriptor("/fw/arm.fd", "aarch64", "virt-*", &[]),
        ];
        let exists = |file: &Path| file != Path::new("/fw/absent.fd");
        let found = |arch| choose(known.clone().into_iter(), arch, exists).map(|(code, _)| code);
        assert_eq!(found(Arch::X86_64), Some("/fw/plain.fd".into()));
        assert_eq!(found(Arch::Aarch64), Some("/fw/arm.fd".into()));
    }

    #[test]
    fn firmware_in_memory_or_in_one_piece_is_none() {
        let mut bios = descriptor("/fw/a.fd", "x86_64", "pc-q35-*", &[]);
        bios["mapping"]["device"] = json!("memory");
        let mut whole = descriptor("/fw/a.fd", "x86_64", "pc-q35-*", &[]);
        whole["mapping"]["mode"] = json!("combined");
        let broken = json!({ "targets": 3 });
        let known = vec![bios, whole, broken];
        assert_eq!(choose(known.into_iter(), Arch::X86_64, |_| true), None);
    }
}
