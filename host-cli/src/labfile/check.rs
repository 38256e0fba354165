//! From a file as it was written to a lab that makes sense: defaults, names, addresses, and what contradicts itself.

use std::net::Ipv4Addr;
use std::path::Path;

use super::machines::Machines;
use super::reader::{Found, Problems, Table};
use super::values::{ARCHES, cpus, host_address, label, memory, size, subnet};
use super::{Lab, Machine, Network, NetworkKind, Provisioner, ProvisionerKind, Subnet};
use crate::drivers::spec::Arch;
use crate::lab::paths::PROVISIONER;

const GIB: u64 = 1 << 30;

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

/// A file of the lab, as it was written.
#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::BootFrom;
    use super::super::machines::IMAGE_DISK;
    use super::super::values::derived_mac;
    use super::*;
    use crate::drivers::spec::Firmware;

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
