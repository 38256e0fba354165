//! The configuration of a machine for VMware Fusion and Workstation: lines of `key = "value"`.

use super::machine::Machine;
use crate::drivers::spec::{Arch, Firmware};

/// Its disk is an NVMe drive: both processors' machines have that, and so have the kernels of all distributions, those for clouds
/// included. The serial port is the console of most images, and is kept in a file.
pub fn document(machine: &Machine, disk: &str) -> String {
    let guest = match machine.arch {
        Arch::X86_64 => "other5xlinux-64",
        Arch::Aarch64 => "arm-other5xlinux-64",
    };
    let mut lines = vec![
        (".encoding", "UTF-8".to_owned()),
        ("config.version", "8".to_owned()),
        // Fusion 13, Workstation 17.
        ("virtualHW.version", "20".to_owned()),
        ("displayName", machine.name.clone()),
        ("guestOS", guest.to_owned()),
        ("numvcpus", machine.cpus.to_string()),
        ("memsize", machine.memory_mib.to_string()),
    ];
    if machine.firmware == Firmware::Uefi {
        lines.push(("firmware", "efi".to_owned()));
        lines.push(("uefi.secureBoot.enabled", "FALSE".to_owned()));
    }
    // An NVMe drive is a PCI Express device, and wants a port of that kind.
    for (key, value) in [
        ("pciBridge0.present", "TRUE"),
        ("pciBridge4.present", "TRUE"),
        ("pciBridge4.virtualDev", "pcieRootPort"),
        ("pciBridge4.functions", "8"),
        ("nvme0.present", "TRUE"),
        ("nvme0:0.present", "TRUE"),
        ("nvme0:0.fileName", disk),
        ("ethernet0.present", "TRUE"),
        ("ethernet0.connectionType", "nat"),
        ("ethernet0.addressType", "generated"),
        ("ethernet0.virtualDev", "vmxnet3"),
        ("serial0.present", "TRUE"),
        ("serial0.fileType", "file"),
        ("serial0.fileName", "console.log"),
        ("floppy0.present", "FALSE"),
    ] {
        lines.push((key, value.to_owned()));
    }
    let lines = lines
        .iter()
        .map(|(key, value)| format!("{key} = \"{}\"\n", escaped(value)));
    lines.collect()
}

/// VMware writes what would end a value as `|` and two digits.
fn escaped(value: &str) -> String {
    value
        .chars()
        .map(|letter| match letter {
            '"' | '|' | '#' => format!("|{:02X}", letter as u32),
            letter if letter.is_control() => " ".to_owned(),
            letter => letter.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_the_disk_and_the_firmware() {
        let mut machine = Machine {
            name: "a \"b\"|c".to_owned(),
            arch: Arch::Aarch64,
            firmware: Firmware::Uefi,
            cpus: 2,
            memory_mib: 1024,
            user: "vagrant".to_owned(),
        };
        let text = document(&machine, "disk.vmdk");
        for line in [
            "displayName = \"a |22b|22|7Cc\"",
            "guestOS = \"arm-other5xlinux-64\"",
            "firmware = \"efi\"",
            "nvme0:0.fileName = \"disk.vmdk\"",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let is_pair = |line: &str| {
            line.split_once(" = \"")
                .is_some_and(|(_, v)| v.ends_with('"'))
        };
        assert!(text.lines().all(is_pair), "{text}");
        machine.arch = Arch::X86_64;
        machine.firmware = Firmware::Bios;
        assert!(!document(&machine, "d").contains("firmware"));
    }
}
