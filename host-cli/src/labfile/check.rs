//! From a file as it was written to a lab that makes sense: defaults, names, addresses, and what contradicts itself.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::reader::{Found, Problems, Table};
use super::{
    BootFrom, Lab, Machine, Network, NetworkKind, Provisioner, ProvisionerKind, Subnet, parse_size,
};
use crate::drivers::spec::{Arch, Firmware};
use crate::lab::paths::PROVISIONER;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// As much as a BIOS, a kernel and a small root in memory need at the least.
const LEAST_MEMORY: u64 = 64 * MIB;
/// More than any computer has: a typing error.
const MOST_MEMORY: u64 = 4096 * GIB;
const MOST_CPUS: i64 = 255;
/// The first machine without an address has the subnet's tenth.
const FIRST_ADDRESS: u32 = 10;
/// What a machine's disk from an image grows to.
const IMAGE_DISK: u64 = 8 * GIB;

const ARCHES: [(&str, Option<Arch>); 5] = [
    ("x86_64", Some(Arch::X86_64)),
    ("amd64", Some(Arch::X86_64)),
    ("aarch64", Some(Arch::Aarch64)),
    ("arm64", Some(Arch::Aarch64)),
    ("host", None),
];

/// The lab of a file. It is to be used only if no problem was noted.
pub fn lab(root: Table<'_>, directory: &Path) -> Lab {
    let problems = root.problems();
    match root.integer("version") {
        Some(version) if version.value == 1 => {}
        Some(version) => version.wrong(problems, "wanted 1, which is the only one there is"),
        None => root.wrong("no version; write this as the first line: version = 1"),
    }
    let (name, arch) = head(&root, directory);
    let network = network(root.table("network"), problems);
    let provisioner = provisioner(root.table("provisioner"), &network, directory, problems);
    let mut vms = Machines::new(&name, arch, &network, &provisioner, directory);
    for table in root.tables("vm") {
        vms.add(table);
    }
    let vms = vms.finish();
    let images = super::image::images(root.tables("image"));
    let is_left_out = |vm: &&Machine| {
        !network.subnet.contains(vm.address) || vm.address == network.subnet.broadcast()
    };
    if let Some(vm) = vms.iter().find(is_left_out) {
        root.wrong(format!(
            "network.cidr, {}, has no address left for {}; make it larger, or give machines addresses below its tenth",
            network.subnet, vm.name
        ));
    }
    root.finish();
    Lab {
        name,
        network,
        provisioner,
        vms,
        images,
    }
}

fn head(root: &Table<'_>, directory: &Path) -> (String, Arch) {
    let table = root.table("lab");
    let written = table.as_ref().and_then(|table| table.string("name"));
    let arch = table.as_ref().and_then(|table| table.word("arch", &ARCHES));
    if let Some(table) = table {
        table.finish();
    }
    let name = match written {
        Some(name) => name
            .parsed(root.problems(), |name| label(name))
            .map(|name| name.value),
        None => {
            let own = directory.file_name().unwrap_or_default().to_string_lossy();
            let name = label(&own.to_ascii_lowercase().replace(['_', ' ', '.'], "-")).ok();
            if name.is_none() {
                root.wrong(format!(
                    "no name, and that of the directory, \"{own}\", will not do; write: [lab] name = \"demo\""
                ));
            }
            name
        }
    };
    let arch = arch.and_then(|arch| arch.value).or(Arch::of_host());
    (name.unwrap_or_default(), arch.unwrap_or(Arch::X86_64))
}

fn network(table: Option<Table<'_>>, problems: &Problems) -> Network {
    let default = Network {
        kind: NetworkKind::Switch,
        subnet: Subnet {
            network: Ipv4Addr::new(198, 18, 0, 0),
            prefix: 24,
        },
        domain: "lab.internal".to_owned(),
    };
    let Some(table) = table else { return default };
    let kind = table.word("kind", &[("switch", 0), ("bridge", 1), ("socket_vmnet", 2)]);
    let (bridge, socket) = (table.string("bridge"), table.string("socket"));
    let kind = match kind.map_or(0, |kind| kind.value) {
        1 => {
            if bridge.is_none() {
                table.wrong("kind = \"bridge\" wants the bridge's name; add: bridge = \"br0\"");
            }
            let name = bridge.map(|bridge| bridge.value).unwrap_or_default();
            NetworkKind::Bridge { name }
        }
        2 => {
            let socket = socket.map(|socket| socket.value.into());
            NetworkKind::SocketVmnet {
                socket: socket.unwrap_or_else(|| "/var/run/socket_vmnet".into()),
            }
        }
        _ => {
            for found in [bridge, socket].into_iter().flatten() {
                found.wrong(problems, "has no meaning for kind = \"switch\"");
            }
            NetworkKind::Switch
        }
    };
    let cidr = table.string("cidr");
    let subnet = cidr.and_then(|cidr| cidr.parsed(problems, |cidr| subnet(cidr)));
    let domain = table.string("domain");
    let domain = domain.and_then(|found| {
        found.parsed(problems, |name| {
            let parts: Result<Vec<String>, String> = name.split('.').map(label).collect();
            parts.map(|_| name.clone())
        })
    });
    table.finish();
    Network {
        kind,
        subnet: subnet.map_or(default.subnet, |subnet| subnet.value),
        domain: domain.map_or(default.domain, |domain| domain.value),
    }
}

fn provisioner(
    table: Option<Table<'_>>,
    network: &Network,
    directory: &Path,
    problems: &Problems,
) -> Provisioner {
    let mut wanted = Provisioner {
        kind: ProvisionerKind::Vm,
        address: network.subnet.host(1),
        image: PROVISIONER.to_owned(),
        user_data: None,
        container: None,
        cpus: 2,
        memory_mib: 1024,
        data: 32 * GIB,
        profiles: None,
        programs: None,
        artifacts: Vec::new(),
        ssh_port: 0,
        api_port: 0,
        internet: true,
        freeze: true,
    };
    let Some(table) = table else { return wanted };
    let kinds = [
        ("vm", ProvisionerKind::Vm),
        ("namespace", ProvisionerKind::Namespace),
    ];
    if let Some(kind) = table.word("kind", &kinds) {
        wanted.kind = kind.value;
        if kind.value == ProvisionerKind::Namespace && network.kind != NetworkKind::Switch {
            kind.wrong(
                problems,
                "a namespace is plugged into the lab's own switch alone; leave network.kind out, or have a vm",
            );
        }
    }
    let address = table
        .string("address")
        .and_then(|address| address.parsed(problems, |text| host_address(text, network.subnet)));
    if let Some(address) = address {
        wanted.address = address.value;
    }
    if let Some(image) = table.string("image") {
        wanted.image = image.value;
    }
    let file = |found: Found<String>| directory.join(found.value);
    let user_data = table.string("user_data");
    if let (Some(user_data), ProvisionerKind::Namespace) = (&user_data, wanted.kind) {
        user_data.wrong(
            problems,
            "has no meaning for kind = \"namespace\": there is no machine to be given it",
        );
    }
    wanted.user_data = user_data.map(file);
    wanted.container = table.string("container").map(file);
    wanted.profiles = table.string("profiles").map(file);
    let programs = table.string("programs");
    if let (Some(programs), ProvisionerKind::Vm) = (&programs, wanted.kind) {
        programs.wrong(
            problems,
            "has no meaning for kind = \"vm\": they are in the container image",
        );
    }
    wanted.programs = programs.map(file);
    let artifacts = table.strings("artifacts").unwrap_or_default();
    wanted.artifacts = artifacts.into_iter().map(file).collect();
    if let Some(cpus) = cpus(&table) {
        wanted.cpus = cpus;
    }
    if let Some(memory) = memory(&table) {
        wanted.memory_mib = memory;
    }
    if let Some(data) = size(&table, "data") {
        wanted.data = data.value;
    }
    for (key, port) in [
        ("ssh_port", &mut wanted.ssh_port),
        ("api_port", &mut wanted.api_port),
    ] {
        let found = table.integer(key).and_then(|found| {
            found.parsed(problems, |port| match u16::try_from(*port) {
                Ok(port) => Ok(port),
                Err(_) => Err(format!(
                    "wanted a port, 1 to 65535, or 0 for any, found {port}"
                )),
            })
        });
        if let Some(found) = found {
            *port = found.value;
        }
    }
    for (key, flag) in [
        ("internet", &mut wanted.internet),
        ("freeze", &mut wanted.freeze),
    ] {
        if let Some(found) = table.bool(key) {
            *flag = found.value;
        }
    }
    table.finish();
    wanted
}

/// The machines of the lab while they are read.
struct Machines<'a> {
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
    fn new(
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

    fn add(&mut self, table: Table<'_>) {
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
    fn finish(mut self) -> Vec<Machine> {
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

fn size(table: &Table<'_>, key: &'static str) -> Option<Found<u64>> {
    table
        .string(key)?
        .parsed(table.problems(), |text| parse_size(text))
}

/// In MiB.
fn memory(table: &Table<'_>) -> Option<u32> {
    let found = size(table, "memory")?.parsed(table.problems(), |size| {
        match (LEAST_MEMORY..=MOST_MEMORY).contains(size) {
            true => Ok(u32::try_from(size / MIB).expect("4 TiB are few MiB")),
            false => Err("wanted 64MiB to 4TiB".to_owned()),
        }
    });
    found.map(|found| found.value)
}

fn cpus(table: &Table<'_>) -> Option<u32> {
    let found = table
        .integer("cpus")?
        .parsed(table.problems(), |cpus| match cpus {
            1..=MOST_CPUS => Ok(u32::try_from(*cpus).expect("255 are few")),
            _ => Err(format!("wanted 1 to {MOST_CPUS}, found {cpus}")),
        });
    found.map(|found| found.value)
}

/// One label of a host name (RFC 1123 §2.1) that fits into file names and DHCP's option 12.
fn label(text: &str) -> Result<String, String> {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let fits = !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-');
    match fits {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "wanted a name of a-z, 0-9 and hyphens within, found \"{text}\""
        )),
    }
}

fn subnet(text: &str) -> Result<Subnet, String> {
    let wrong = || format!("wanted a subnet such as 198.18.0.0/24, found \"{text}\"");
    let (network, prefix) = text.split_once('/').ok_or_else(wrong)?;
    let network: Ipv4Addr = network.parse().map_err(|_| wrong())?;
    let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
    if !(8..=28).contains(&prefix) {
        return Err(format!("wanted a prefix of 8 to 28, found {prefix}"));
    }
    let subnet = Subnet { network, prefix };
    let first = Ipv4Addr::from(u32::from(network) & subnet.mask());
    match first == network {
        true => Ok(subnet),
        false => Err(format!(
            "{network} is inside {first}/{prefix}; write {first}/{prefix}"
        )),
    }
}

fn host_address(text: &str, subnet: Subnet) -> Result<Ipv4Addr, String> {
    let address: Ipv4Addr = text.parse().map_err(|_| {
        format!(
            "wanted an address such as {}, found \"{text}\"",
            subnet.host(11)
        )
    })?;
    if !subnet.contains(address) {
        return Err(format!("{address} is outside network.cidr, {subnet}"));
    }
    match address == subnet.network || address == subnet.broadcast() {
        true => Err(format!(
            "{address} is the network's own or its broadcast address"
        )),
        false => Ok(address),
    }
}

fn mac_address(text: &str) -> Result<String, String> {
    let mac = crate::wanted::mac(text)?;
    let first = u8::from_str_radix(&mac[..2], 16).unwrap_or(1);
    match first & 1 {
        0 => Ok(mac),
        _ => Err(format!(
            "{mac} is a group address; its first octet must be even"
        )),
    }
}

/// QEMU's prefix, then three octets that the names give.
pub fn derived_mac(lab: &str, name: &str) -> String {
    let digest = Sha256::digest(format!("mac {lab}/{name}"));
    format!(
        "52:54:00:{:02x}:{:02x}:{:02x}",
        digest[0], digest[1], digest[2]
    )
}

/// RFC 9562 §5.8: version 8, the bits of which are ours to choose.
pub fn derived_uuid(lab: &str, name: &str) -> String {
    let digest = Sha256::digest(format!("uuid {lab}/{name}"));
    let mut octets: [u8; 16] = digest[..16].try_into().expect("a digest has 32 octets");
    octets[6] = 0x80 | (octets[6] & 0x0f);
    octets[8] = 0x80 | (octets[8] & 0x3f);
    let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

/// A file of the lab, as it was written.
#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn read(text: &str) -> Result<Lab, Vec<String>> {
        let read = super::super::read(text, Path::new("/home/me/demo"));
        read.map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_shortest_file_has_everything_decided() {
        let lab =
            read("version = 1\n[[vm]]\nname = \"node-1\"\nprofile = \"debian-12\"\n").unwrap();
        assert_eq!(lab.name, "demo");
        assert_eq!(lab.provisioner.address, Ipv4Addr::new(198, 18, 0, 1));
        let vm = &lab.vms[0];
        assert_eq!(vm.address, Ipv4Addr::new(198, 18, 0, 10));
        assert_eq!(
            (vm.disk, vm.boot.as_slice()),
            (None, [BootFrom::Net].as_slice())
        );
        assert_eq!(
            (vm.cpus, vm.memory_mib, vm.firmware),
            (1, 3072, Firmware::Uefi)
        );
        assert_eq!(vm.mac, derived_mac("demo", "node-1"));
        assert_eq!(vm.uuid.len(), 36);
        assert_eq!(&vm.uuid[14..15], "8");
    }

    #[test]
    fn a_whole_file_is_taken_as_it_is_written() {
        let lab = read(
            r#"
            version = 1
            [lab]
            name = "rack"
            arch = "x86_64"
            [network]
            cidr = "192.0.2.0/26"
            domain = "rack.test"
            [provisioner]
            kind = "namespace"
            address = "192.0.2.2"
            artifacts = ["guests"]
            internet = false
            [[vm]]
            name = "a"
            firmware = "bios"
            disk = "4GiB"
            profile = "disk-image"
            vars = { size = 3, deep = { list = ["x", 1.5, true] } }
            [[vm]]
            name = "b"
            address = "192.0.2.10"
            image = "debian-12-generic"
            user_data = "b.yaml"
            mac = "52-54-00-AA-00-01"
            cpus = 2
            memory = "1GiB"
            "#,
        )
        .unwrap();
        assert_eq!(lab.name, "rack");
        assert_eq!(lab.provisioner.kind, ProvisionerKind::Namespace);
        assert_eq!(
            lab.provisioner.artifacts,
            [PathBuf::from("/home/me/demo/guests")]
        );
        let [a, b] = lab.vms.as_slice() else { panic!() };
        // The tenth address is b's, who asked for it.
        assert_eq!(a.address, Ipv4Addr::new(192, 0, 2, 11));
        assert_eq!(a.boot, [BootFrom::Disk, BootFrom::Net]);
        assert_eq!(a.vars["deep"]["list"][2], true);
        assert_eq!(
            (b.disk, b.boot.as_slice()),
            (Some(IMAGE_DISK), [BootFrom::Disk].as_slice())
        );
        assert_eq!((b.mac.as_str(), b.memory_mib), ("52:54:00:aa:00:01", 1024));
        assert_eq!(b.user_data, Some(PathBuf::from("/home/me/demo/b.yaml")));
    }

    #[test]
    fn every_problem_is_told_with_its_line() {
        let problems = read(
            r#"version = 2
[network]
cidr = "198.18.0.1/24"
bridge = "br0"
[provisoner]
kind = "vm"
[[vm]]
name = "Node_1"
[[vm]]
name = "a"
address = "198.18.0.1"
profile = "x"
memory = "1 banana"
cpus = 0
[[vm]]
name = "b"
address = "198.18.1.5"
arch = "aarch64"
firmware = "bios"
boot = ["disk", "floppy", "net", "net"]
profile = "x"
[[vm]]
name = "b"
profle = "x"
"#,
        )
        .unwrap_err();
        let expected = [
            "line 1, version: wanted 1, which is the only one there is",
            "line 3, network.cidr: 198.18.0.1 is inside 198.18.0.0/24; write 198.18.0.0/24",
            "line 4, network.bridge: has no meaning for kind = \"switch\"",
            "line 5, provisoner: unknown key; did you mean provisioner?",
            "line 8, vm[0].name: wanted a name of a-z, 0-9 and hyphens within, found \"Node_1\"",
            "line 11, vm[1].address: 198.18.0.1 is that of the provisioner",
            "line 13, vm[1].memory: wanted a size such as 20GiB or 512MiB, found \"1 banana\"",
            "line 14, vm[1].cpus: wanted 1 to 255, found 0",
            "line 17, vm[2].address: 198.18.1.5 is outside network.cidr, 198.18.0.0/24",
            "line 19, vm[2].firmware: aarch64 machines have no BIOS; leave it out",
            "line 20, vm[2].boot[0]: it has no disk; add: disk = \"20GiB\"",
            "line 20, vm[2].boot[1]: wanted disk or net, found \"floppy\"",
            "line 20, vm[2].boot[3]: net is there twice",
            "line 23, vm[3].name: another machine has this name",
        ];
        assert_eq!(problems, expected);
    }

    #[test]
    fn a_subnet_that_is_too_small_is_refused() {
        let machine = |n: usize| format!("[[vm]]\nname = \"n{n}\"\nprofile = \"x\"\n");
        let file = |count: usize| {
            let vms: String = (0..count).map(machine).collect();
            read(&format!(
                "version = 1\n[network]\ncidr = \"192.0.2.0/28\"\n{vms}"
            ))
        };
        assert_eq!(
            file(5).unwrap().vms[4].address,
            Ipv4Addr::new(192, 0, 2, 14)
        );
        let problems = file(6).unwrap_err();
        assert!(
            problems[0].contains("192.0.2.0/28, has no address left for n5;"),
            "{problems:?}"
        );
    }

    #[test]
    fn a_namespace_is_on_no_bridge_and_has_no_user_data() {
        let problems = read(
            "version = 1\n[network]\nkind = \"bridge\"\nbridge = \"br0\"\n[provisioner]\nkind = \"namespace\"\nuser_data = \"x\"\n",
        );
        let problems = problems.unwrap_err();
        assert!(
            problems[0].starts_with("line 6, provisioner.kind: a namespace is plugged into"),
            "{problems:?}"
        );
        assert!(
            problems[1].starts_with("line 7, provisioner.user_data: has no meaning"),
            "{problems:?}"
        );
    }

    #[test]
    fn what_is_no_toml_is_said_where_it_is() {
        let problems = read("version = 1\n[lab\nname = 3\n").unwrap_err();
        assert_eq!(problems.len(), 1);
        assert!(
            problems[0].starts_with("line 2: this is no TOML: "),
            "{problems:?}"
        );
    }

    #[test]
    fn a_machine_without_anything_to_boot_is_refused() {
        let problems = read("version = 1\n[[vm]]\nname = \"a\"\n").unwrap_err();
        assert!(
            problems[0].starts_with("line 2, vm[0]: there is nothing to boot;"),
            "{problems:?}"
        );
    }
}
