//! The sections `[[vm]]` of a lab's file: machines with names, addresses and disks that are nobody else's.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use super::reader::{Found, Problems, Table};
use super::values::{
    ARCHES, cpus, derived_mac, derived_uuid, host_address, label, mac_address, memory, size,
};
use super::{BootFrom, Machine, Network, Provisioner};
use crate::drivers::spec::{Arch, Firmware};
use crate::lab::paths::PROVISIONER;

const GIB: u64 = 1 << 30;
/// The first machine without an address has the subnet's tenth.
const FIRST_ADDRESS: u32 = 10;
/// What a machine's disk from an image grows to.
pub const IMAGE_DISK: u64 = 8 * GIB;

/// The machines of the lab while they are read.
pub struct Machines<'a> {
    lab: &'a str,
    arch: Arch,
    network: &'a Network,
    directory: &'a Path,
    /// Who has what, as a sentence goes on about it.
    taken: BTreeMap<String, String>,
    next_address: u32,
    machines: Vec<Machine>,
    /// Those whose address is ours to choose, once all that are written are known.
    without_address: Vec<usize>,
}

impl<'a> Machines<'a> {
    pub fn new(
        lab: &'a str,
        arch: Arch,
        network: &'a Network,
        provisioner: &Provisioner,
        directory: &'a Path,
    ) -> Self {
        let address = provisioner.address.to_string();
        Self {
            lab,
            arch,
            network,
            directory,
            taken: BTreeMap::from([(address, "the provisioner".to_owned())]),
            next_address: FIRST_ADDRESS,
            machines: Vec::new(),
            without_address: Vec::new(),
        }
    }

    pub fn add(&mut self, table: Table<'_>) {
        let problems = table.problems();
        let Some(name) = self.name(&table) else {
            return;
        };
        let arch = table.word("arch", &ARCHES).and_then(|arch| arch.value);
        let arch = arch.unwrap_or(self.arch);
        let firmware = self.firmware(&table, arch);
        let profile = table.string("profile").map(|profile| profile.value);
        let image = table.string("image").map(|image| image.value);
        let user_data = table.string("user_data");
        if let (Some(user_data), None) = (&user_data, &image) {
            user_data.wrong(
                problems,
                "only a machine with an image is given it by the lab; one that boots from the network has it from its profile",
            );
        }
        let disk = size(&table, "disk").map(|disk| disk.value);
        let disk = disk.or(image.as_ref().map(|_| IMAGE_DISK));
        let boot = boot(&table, disk.is_some(), image.is_some());
        if profile.is_none() && image.is_none() {
            table.wrong(
                "there is nothing to boot; give it a profile (bootjack profile list) or an image (bootjack image list)",
            );
        }
        if profile.is_some() && !boot.contains(&BootFrom::Net) {
            table.wrong("it has a profile and never boots from the network; add \"net\" to boot, or leave profile out");
        }
        // A root in memory wants room; what is on disk does with less.
        let memory = if disk.is_some() { 2048 } else { 3072 };
        let address = table.string("address").and_then(|address| {
            address.parsed(problems, |text| host_address(text, self.network.subnet))
        });
        match &address {
            Some(address) => self.take(address.value.to_string(), &name, address, problems),
            None => self.without_address.push(self.machines.len()),
        }
        let mac = table
            .string("mac")
            .and_then(|mac| mac.parsed(problems, |text| mac_address(text)));
        if let Some(mac) = &mac {
            self.take(mac.value.clone(), &name, mac, problems);
        }
        let machine = Machine {
            cpus: cpus(&table).unwrap_or(1),
            memory_mib: self::memory(&table).unwrap_or(memory),
            address: address.map_or(Ipv4Addr::UNSPECIFIED, |address| address.value),
            mac: mac.map_or_else(|| derived_mac(self.lab, &name), |mac| mac.value),
            uuid: derived_uuid(self.lab, &name),
            vars: table.json_object("vars"),
            display: table.bool("display").is_some_and(|display| display.value),
            user_data: user_data.map(|file| self.directory.join(file.value)),
            name,
            arch,
            firmware,
            disk,
            boot,
            profile,
            image,
        };
        self.machines.push(machine);
        table.finish();
    }

    fn name(&mut self, table: &Table<'_>) -> Option<String> {
        let Some(found) = table.string("name") else {
            table.wrong("it has no name; add: name = \"node-1\"");
            return None;
        };
        let name = found.parsed(table.problems(), |name| match name.as_str() {
            PROVISIONER => Err("the provisioner has this name".to_owned()),
            name => label(name),
        })?;
        match self
            .machines
            .iter()
            .any(|machine| machine.name == name.value)
        {
            true => {
                name.wrong(table.problems(), "another machine has this name");
                None
            }
            false => Some(name.value),
        }
    }

    fn firmware(&self, table: &Table<'_>, arch: Arch) -> Firmware {
        let words = [("bios", Firmware::Bios), ("uefi", Firmware::Uefi)];
        match table.word("firmware", &words) {
            Some(found) if (found.value, arch) == (Firmware::Bios, Arch::Aarch64) => {
                found.wrong(
                    table.problems(),
                    "aarch64 machines have no BIOS; leave it out",
                );
                Firmware::Uefi
            }
            Some(found) => found.value,
            None => Firmware::Uefi,
        }
    }

    /// Notes that something is this machine's, or that it is somebody else's.
    fn take<T>(&mut self, what: String, name: &str, found: &Found<T>, problems: &Problems) {
        match self.taken.get(&what) {
            Some(other) => found.wrong(problems, format!("{what} is that of {other}")),
            None => {
                self.taken.insert(what, name.to_owned());
            }
        }
    }

    /// With an address for everybody.
    pub fn finish(mut self) -> Vec<Machine> {
        for index in self.without_address {
            let address = loop {
                let address = self.network.subnet.host(self.next_address);
                self.next_address += 1;
                if !self.taken.contains_key(&address.to_string()) {
                    break address;
                }
            };
            self.machines[index].address = address;
        }
        self.machines
    }
}

fn boot(table: &Table<'_>, has_disk: bool, has_image: bool) -> Vec<BootFrom> {
    let problems = table.problems();
    let Some(words) = table.strings("boot") else {
        return match (has_disk, has_image) {
            (_, true) => vec![BootFrom::Disk],
            // An installed machine boots its disk; a blank one falls through.
            (true, false) => vec![BootFrom::Disk, BootFrom::Net],
            (false, false) => vec![BootFrom::Net],
        };
    };
    let mut boot = Vec::new();
    for word in words {
        let from = match word.value.as_str() {
            "disk" if !has_disk => {
                word.wrong(problems, "it has no disk; add: disk = \"20GiB\"");
                continue;
            }
            "disk" => BootFrom::Disk,
            "net" => BootFrom::Net,
            other => {
                word.wrong(problems, format!("wanted disk or net, found \"{other}\""));
                continue;
            }
        };
        match boot.contains(&from) {
            true => word.wrong(problems, format!("{} is there twice", word.value)),
            false => boot.push(from),
        }
    }
    boot
}
