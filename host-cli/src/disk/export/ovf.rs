//! The description of a machine for VirtualBox: OVF 1.0 (DMTF DSP0243), one disk at a SATA controller, one network card. Numbers of
//! resource types are those of CIM_ResourceAllocationSettingData.

use super::machine::Machine;

/// The disk beside the description.
pub struct Disk<'a> {
    pub file: &'a str,
    /// Octets of the file.
    pub file_size: u64,
    /// Octets that the machine sees.
    pub virtual_size: u64,
}

const STREAM_OPTIMIZED: &str =
    "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized";

pub fn document(machine: &Machine, disk: &Disk<'_>) -> String {
    let name = escaped(&machine.name);
    let (cpus, memory) = (machine.cpus, machine.memory_mib);
    let items = [
        item(&[
            ("rasd:Caption", &format!("{cpus} virtual CPU")),
            ("rasd:Description", "Number of virtual CPUs"),
            ("rasd:ElementName", &format!("{cpus} virtual CPU")),
            ("rasd:InstanceID", "1"),
            ("rasd:ResourceType", "3"),
            ("rasd:VirtualQuantity", &cpus.to_string()),
        ]),
        item(&[
            ("rasd:AllocationUnits", "MegaBytes"),
            ("rasd:Caption", &format!("{memory} MB of memory")),
            ("rasd:Description", "Memory Size"),
            ("rasd:ElementName", &format!("{memory} MB of memory")),
            ("rasd:InstanceID", "2"),
            ("rasd:ResourceType", "4"),
            ("rasd:VirtualQuantity", &memory.to_string()),
        ]),
        item(&[
            ("rasd:Address", "0"),
            ("rasd:Caption", "sataController0"),
            ("rasd:Description", "SATA Controller"),
            ("rasd:ElementName", "sataController0"),
            ("rasd:InstanceID", "3"),
            ("rasd:ResourceSubType", "AHCI"),
            ("rasd:ResourceType", "20"),
        ]),
        item(&[
            ("rasd:AddressOnParent", "0"),
            ("rasd:Caption", "disk1"),
            ("rasd:Description", "Disk Image"),
            ("rasd:ElementName", "disk1"),
            ("rasd:HostResource", "/disk/vmdisk1"),
            ("rasd:InstanceID", "4"),
            ("rasd:Parent", "3"),
            ("rasd:ResourceType", "17"),
        ]),
        item(&[
            ("rasd:AutomaticAllocation", "true"),
            ("rasd:Caption", "Ethernet adapter on 'NAT'"),
            ("rasd:Connection", "NAT"),
            ("rasd:ElementName", "Ethernet adapter on 'NAT'"),
            ("rasd:InstanceID", "5"),
            ("rasd:ResourceSubType", "E1000"),
            ("rasd:ResourceType", "10"),
        ]),
    ]
    .concat();
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<Envelope ovf:version="1.0" xml:lang="en-US" xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <References>
    <File ovf:id="file1" ovf:href="{href}" ovf:size="{size}"/>
  </References>
  <DiskSection>
    <Info>List of the virtual disks used in the package</Info>
    <Disk ovf:capacity="{capacity}" ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:format="{STREAM_OPTIMIZED}"/>
  </DiskSection>
  <NetworkSection>
    <Info>Logical networks used in the package</Info>
    <Network ovf:name="NAT">
      <Description>Logical network used by this appliance.</Description>
    </Network>
  </NetworkSection>
  <VirtualSystem ovf:id="{name}">
    <Info>A virtual machine</Info>
    <Name>{name}</Name>
    <OperatingSystemSection ovf:id="101">
      <Info>The kind of installed guest operating system</Info>
      <Description>Linux_64</Description>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>Virtual hardware requirements for a virtual machine</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>{name}</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>virtualbox-2.2</vssd:VirtualSystemType>
      </System>
{items}    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
"#,
        href = escaped(disk.file),
        size = disk.file_size,
        capacity = disk.virtual_size,
    )
}

/// One resource; its elements are in the order of their names, as the schema wants them.
fn item(elements: &[(&str, &str)]) -> String {
    let elements = elements
        .iter()
        .map(|(name, value)| format!("        <{name}>{}</{name}>\n", escaped(value)));
    format!(
        "      <Item>\n{}      </Item>\n",
        elements.collect::<String>()
    )
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            letter if letter.is_control() => escaped.push(' '),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drivers::spec::{Arch, Firmware};

    #[test]
    fn what_stands_in_names_stays_text() {
        let machine = Machine {
            name: "<a & \"b\">".to_owned(),
            arch: Arch::X86_64,
            firmware: Firmware::Bios,
            cpus: 2,
            memory_mib: 1024,
            user: "vagrant".to_owned(),
        };
        let disk = Disk {
            file: "box-disk001.vmdk",
            file_size: 5,
            virtual_size: 1 << 30,
        };
        let text = document(&machine, &disk);
        assert!(text.contains("<Name>&lt;a &amp; &quot;b&quot;&gt;</Name>"));
        assert!(text.contains("ovf:href=\"box-disk001.vmdk\" ovf:size=\"5\""));
        assert!(text.contains("ovf:capacity=\"1073741824\""));
        // The order of the schema: by name, within each item.
        for item in text.split("<Item>").skip(1) {
            let names = item
                .split("<rasd:")
                .skip(1)
                .map(|rest| rest.split('>').next().unwrap());
            let names: Vec<&str> = names.collect();
            assert!(names.is_sorted(), "{names:?}");
        }
    }
}
