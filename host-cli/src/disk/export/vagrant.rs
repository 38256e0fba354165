//! Vagrant boxes: what each provider wants to find in one. In: a machine. Out: documents, by name. It refuses machines that a provider
//! does not run.
//!
//! `metadata.json` as Vagrant's documentation has it (Box File Format: `provider`, `architecture`) and vagrant-libvirt's (`format`,
//! `virtual_size` in GiB); boxes of VMware hold a vmx and its vmdk, those of VirtualBox `box.ovf` and its vmdk.

use serde_json::json;

use super::machine::Machine;
use super::{ovf, vmx};
use crate::drivers::spec::{Arch, Firmware};
use crate::exit::{Exit, Failure};

/// What runs a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    Libvirt,
    Vmware,
    VirtualBox,
}

/// A file of a box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub name: String,
    pub text: String,
}

const GIB: u64 = 1 << 30;

impl Provider {
    /// As `metadata.json` has it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Libvirt => "libvirt",
            Self::Vmware => "vmware_desktop",
            Self::VirtualBox => "virtualbox",
        }
    }

    /// The name of the disk in the box.
    pub fn disk(self) -> &'static str {
        match self {
            Self::Libvirt => "box.img",
            Self::Vmware => "disk.vmdk",
            Self::VirtualBox => "box-disk001.vmdk",
        }
    }

    /// Refuses what it does not run.
    pub fn refuse(self, machine: &Machine) -> Result<(), Failure> {
        let invalid = |text: &str| Err(Failure::new(Exit::Usage, text));
        match (self, machine.arch, machine.firmware) {
            (_, Arch::Aarch64, Firmware::Bios) => {
                invalid("aarch64 machines boot from UEFI; give --firmware uefi")
            }
            (Self::VirtualBox, Arch::Aarch64, _) => invalid(
                "boxes of aarch64 machines are made for libvirt and VMware; for VirtualBox export a vdi, and make a machine with it",
            ),
            _ => Ok(()),
        }
    }

    /// The documents beside a disk that a machine sees so large, in a file of so many octets; `metadata.json` is the first, so that
    /// who reads the box need not read all of it.
    pub fn documents(self, machine: &Machine, virtual_size: u64, file_size: u64) -> Vec<Document> {
        let document = |name: &str, text| Document {
            name: name.to_owned(),
            text,
        };
        let mut documents = vec![
            document("metadata.json", self.metadata(machine, virtual_size)),
            document("Vagrantfile", self.vagrantfile(machine)),
        ];
        match self {
            Self::Libvirt => {}
            Self::Vmware => {
                let name = format!("{}.vmx", machine.name);
                documents.push(document(&name, vmx::document(machine, self.disk())));
            }
            Self::VirtualBox => {
                let disk = ovf::Disk {
                    file: self.disk(),
                    file_size,
                    virtual_size,
                };
                documents.push(document("box.ovf", ovf::document(machine, &disk)));
            }
        }
        documents
    }

    fn metadata(self, machine: &Machine, virtual_size: u64) -> String {
        let mut metadata = json!({
            "provider": self.as_str(),
            "architecture": machine.vagrant_arch(),
        });
        if self == Self::Libvirt {
            metadata["format"] = json!("qcow2");
            metadata["virtual_size"] = json!(virtual_size.div_ceil(GIB));
        }
        format!("{metadata:#}\n")
    }

    fn vagrantfile(self, machine: &Machine) -> String {
        let (cpus, memory) = (machine.cpus, machine.memory_mib);
        let uefi = machine.firmware == Firmware::Uefi;
        let mut lines = vec![
            "Vagrant.configure(\"2\") do |config|".to_owned(),
            format!("  config.ssh.username = {}", quoted(&machine.user)),
            // The disk has nothing of Vagrant's on it that could share a directory.
            "  config.vm.synced_folder \".\", \"/vagrant\", disabled: true".to_owned(),
        ];
        match self {
            Self::Libvirt => {
                lines.push("  config.vm.provider :libvirt do |machine|".to_owned());
                lines.push(format!("    machine.cpus = {cpus}"));
                lines.push(format!("    machine.memory = {memory}"));
                lines.push("    machine.disk_bus = \"virtio\"".to_owned());
                if machine.arch == Arch::Aarch64 {
                    lines.push("    machine.machine_arch = \"aarch64\"".to_owned());
                    lines.push("    machine.machine_type = \"virt\"".to_owned());
                } else if uefi {
                    lines.push("    machine.machine_type = \"q35\"".to_owned());
                }
                if uefi {
                    // Where that is differs from host to host.
                    lines.push(
                        "    # It boots from UEFI: set machine.loader to this host's OVMF or AAVMF."
                            .to_owned(),
                    );
                }
            }
            Self::Vmware => {
                lines.push("  config.vm.provider :vmware_desktop do |machine|".to_owned());
                lines.push(format!("    machine.vmx[\"numvcpus\"] = \"{cpus}\""));
                lines.push(format!("    machine.vmx[\"memsize\"] = \"{memory}\""));
            }
            Self::VirtualBox => {
                let mac = machine.virtualbox_mac();
                lines.push(format!("  config.vm.base_mac = \"{mac}\""));
                lines.push("  config.vm.provider :virtualbox do |machine|".to_owned());
                lines.push(format!("    machine.cpus = {cpus}"));
                lines.push(format!("    machine.memory = {memory}"));
                if uefi {
                    lines.push(
                        "    machine.customize [\"modifyvm\", :id, \"--firmware\", \"efi\"]"
                            .to_owned(),
                    );
                }
            }
        }
        lines.extend(["  end".to_owned(), "end".to_owned(), String::new()]);
        lines.join("\n")
    }
}

/// A string of Ruby's in which nothing is interpolated.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(arch: Arch, firmware: Firmware) -> Machine {
        Machine {
            name: "node-1".to_owned(),
            arch,
            firmware,
            cpus: 2,
            memory_mib: 2048,
            user: "debian".to_owned(),
        }
    }

    fn text(documents: &[Document], name: &str) -> String {
        let found = documents.iter().find(|document| document.name == name);
        found.unwrap().text.clone()
    }

    #[test]
    fn each_provider_finds_its_metadata() {
        let machine = machine(Arch::Aarch64, Firmware::Uefi);
        let metadata = |provider: Provider| -> serde_json::Value {
            let documents = provider.documents(&machine, 3 * GIB + 512, 1);
            assert_eq!(documents[0].name, "metadata.json");
            serde_json::from_str(&documents[0].text).unwrap()
        };
        assert_eq!(
            metadata(Provider::Libvirt),
            json!({ "provider": "libvirt", "architecture": "arm64", "format": "qcow2", "virtual_size": 4 })
        );
        assert_eq!(
            metadata(Provider::Vmware),
            json!({ "provider": "vmware_desktop", "architecture": "arm64" })
        );
    }

    #[test]
    fn the_vagrantfile_says_what_the_machine_needs() {
        let uefi = machine(Arch::X86_64, Firmware::Uefi);
        let of = |provider: Provider| text(&provider.documents(&uefi, GIB, 1), "Vagrantfile");
        assert_eq!(
            of(Provider::VirtualBox),
            "Vagrant.configure(\"2\") do |config|
  config.ssh.username = 'debian'
  config.vm.synced_folder \".\", \"/vagrant\", disabled: true
  config.vm.base_mac = \"08002735971B\"
  config.vm.provider :virtualbox do |machine|
    machine.cpus = 2
    machine.memory = 2048
    machine.customize [\"modifyvm\", :id, \"--firmware\", \"efi\"]
  end
end
"
        );
        assert!(of(Provider::Vmware).contains("machine.vmx[\"memsize\"] = \"2048\""));
        assert!(of(Provider::Libvirt).contains("machine.machine_type = \"q35\""));
        let bios = machine(Arch::X86_64, Firmware::Bios);
        let bios = text(
            &Provider::VirtualBox.documents(&bios, GIB, 1),
            "Vagrantfile",
        );
        assert!(!bios.contains("firmware"));
        assert_eq!(quoted("a'b\\#{c}"), "'a\\'b\\\\#{c}'");
    }

    #[test]
    fn machines_that_a_provider_does_not_run_are_refused() {
        let arm = machine(Arch::Aarch64, Firmware::Uefi);
        assert!(Provider::VirtualBox.refuse(&arm).is_err());
        assert!(Provider::Vmware.refuse(&arm).is_ok());
        let bios = machine(Arch::Aarch64, Firmware::Bios);
        assert!(Provider::Libvirt.refuse(&bios).is_err());
    }
}
