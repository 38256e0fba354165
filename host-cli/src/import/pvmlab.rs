//! pvmlab: one JSON file for each virtual machine, `~/.pvmlab/vms/NAME.json`.
//!
//! A target's name, MAC, address and key come over; its architecture and distribution become labels, by which a `[[group]]` can choose
//! the profile. The provisioner is what Bootjack stands in for.

use std::net::Ipv4Addr;
use std::sync::Arc;

use bootjack_api::v1::Reservation;

use super::network::Subnet;
use super::{Files, Imported, place};
use crate::tree::{self, Dialect, Fault, Node};
use crate::vars;
use crate::wanted::{self, Place};

/// What pvmlab writes and Bootjack has no use for: files and ports of the host.
const OF_THE_HOST: [&str; 6] = [
    "pxe_boot_stack_tar",
    "docker_images_path",
    "vms_path",
    "ssh_port",
    "name",
    "role",
];

/// Reads each file, or each `.json` of a directory.
pub fn read(paths: &[String], files: &dyn Files) -> Imported {
    let mut out = Imported::default();
    for path in paths {
        let files_of_it = match files.list(path) {
            None => vec![path.clone()],
            Some(names) => (names.iter())
                .filter(|name| name.ends_with(".json"))
                .map(|name| format!("{}/{name}", path.trim_end_matches('/')))
                .collect(),
        };
        for path in files_of_it {
            one(&path, files, &mut out);
        }
    }
    out.sorted()
}

fn one(path: &str, files: &dyn Files, out: &mut Imported) {
    let file: Arc<str> = path.into();
    let read = files
        .read(path)
        .map_err(|problem| Fault::new(tree::At::default(), problem));
    let read = read.and_then(|text| tree::read_json(&text, Dialect::Strict));
    let vm = match read {
        Ok(vm) => vm,
        Err(fault) => return out.malformed(&place(&file, fault.at.line), path, fault.message),
    };
    if let Err(fault) = machine(&file, &vm, out) {
        out.malformed(&place(&file, fault.at.line), path, fault.message);
    }
}

fn machine(file: &Arc<str>, vm: &Node, out: &mut Imported) -> Result<(), Fault> {
    let start = place(file, vm.at.line);
    vm.map()?;
    let stem = file
        .rsplit('/')
        .next()
        .unwrap_or(file)
        .trim_end_matches(".json");
    let name = text(vm, "name")?.unwrap_or(stem).to_owned();
    if text(vm, "role")? == Some("provisioner") {
        out.leave(
            &start,
            name,
            "the provisioner is what runs bootjackd now",
            "start bootjackd there",
        );
        return Ok(());
    }
    let mut r = Reservation {
        hostname: name.clone(),
        ..Reservation::default()
    };
    let mut subnet = None;
    for entry in vm.map()? {
        let here = place(file, entry.at.line);
        let node = &entry.node;
        if node.is_null() || matches!(&node.value, tree::Value::Text(text) if text.is_empty()) {
            continue;
        }
        match entry.key.as_str() {
            "mac" => {
                r.mac = wanted::mac(node.text()?).map_err(|problem| Fault::new(node.at, problem))?
            }
            "ip" => r.address = address(node)?,
            "subnet" => subnet = network(&here, node)?,
            "ssh_key" => drop(
                r.vars
                    .insert("ssh_key".to_owned(), vars::from_json(node.text()?.into())),
            ),
            "arch" | "distro" => {
                let label = format!("pvmlab/{}", entry.key);
                r.labels.insert(label, node.text()?.to_owned());
            }
            "ipv6" | "subnetv6" => out.leave(
                &here,
                format!("{name}: {}", entry.key),
                "Bootjack gives IPv4 addresses",
                "",
            ),
            "kernel" | "initrd" => out.leave(
                &here,
                format!("{name}: {}", entry.key),
                "kernel and initrd are the profile's",
                "bootjack reservation update NAME --profile PROFILE",
            ),
            "pxeboot" if node.value == tree::Value::Bool(true) => out.leave(
                &here,
                format!("{name}: what it boots over PXE"),
                "what a machine boots is its profile",
                "import with --profile PROFILE, or write a [[group]] that matches its labels",
            ),
            "pxeboot" => {}
            key if OF_THE_HOST.contains(&key) => {}
            key => out.leave(&here, format!("{name}: {key}"), "it is not known", ""),
        }
    }
    if let Some(subnet) = subnet {
        let subnets = &mut out.network.subnets;
        if !subnets
            .iter()
            .any(|other| (other.address, other.prefix) == (subnet.address, subnet.prefix))
        {
            subnets.push(subnet);
        }
    }
    out.take(start, &name, r);
    Ok(())
}

fn text<'a>(vm: &'a Node, key: &str) -> Result<Option<&'a str>, Fault> {
    let node = vm.get(key).filter(|node| !node.is_null());
    node.map(Node::text).transpose()
}

/// An address, with or without its prefix.
fn address(node: &Node) -> Result<String, Fault> {
    let said = node.text()?;
    let address = said.split('/').next().unwrap_or(said);
    match address.parse::<Ipv4Addr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(Fault::new(
            node.at,
            format!("ip: `{said}` is no IPv4 address"),
        )),
    }
}

fn network(place: &Place, node: &Node) -> Result<Option<Subnet>, Fault> {
    let said = node.text()?;
    let parts = said.split_once('/').and_then(|(address, prefix)| {
        let prefix = prefix.parse::<u8>().ok().filter(|prefix| *prefix <= 32)?;
        Some((address.parse::<Ipv4Addr>().ok()?, prefix))
    });
    match parts {
        Some((address, prefix)) => Ok(Some(Subnet::new(place.clone(), address, prefix))),
        None => Err(Fault::new(
            node.at,
            format!("subnet: `{said}` is no IPv4 network"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::tests_support::Texts;

    #[test]
    fn a_target_comes_over_and_the_provisioner_does_not() {
        let texts = Texts::of(&[
            (
                "vms/node-1.json",
                "{\"name\":\"node-1\",\"role\":\"target\",\"arch\":\"aarch64\",\"ip\":\"198.18.0.2\",\"subnet\":\"198.18.0.0/24\",\"ipv6\":\"fd00::2\",\"mac\":\"52:54:00:00:00:01\",\"pxeboot\":true,\"distro\":\"ubuntu-24.04\",\"ssh_key\":\"ssh-ed25519 AAAA\",\"ssh_port\":2222}",
            ),
            (
                "vms/prov.json",
                "{\"role\":\"provisioner\",\"ip\":\"198.18.0.1\"}",
            ),
            ("vms/notes.txt", "no JSON"),
        ]);
        let found = read(&["vms".to_owned()], &texts);
        let r = &found.wanted[0].reservation;
        assert_eq!(
            (r.mac.as_str(), r.address.as_str(), r.hostname.as_str()),
            ("52:54:00:00:00:01", "198.18.0.2", "node-1")
        );
        assert_eq!(r.labels["pvmlab/distro"], "ubuntu-24.04");
        assert_eq!(vars::map_to_json(&r.vars)["ssh_key"], "ssh-ed25519 AAAA");
        assert_eq!(found.network.subnets.len(), 1);
        let left: Vec<&str> = found.left.iter().map(|left| left.what.as_str()).collect();
        assert_eq!(
            left,
            ["node-1: ipv6", "node-1: what it boots over PXE", "prov"]
        );
    }

    #[test]
    fn a_broken_file_is_malformed_whole() {
        let texts = Texts::of(&[
            ("a.json", "{\n\"mac\": \"x\"}"),
            ("b.json", "{"),
            ("c.json", "{\"ip\": 7, \"mac\": \"52:54:00:00:00:01\"}"),
        ]);
        let found = read(
            &[
                "a.json".into(),
                "b.json".into(),
                "c.json".into(),
                "d.json".into(),
            ],
            &texts,
        );
        assert!(found.wanted.is_empty());
        let lines: Vec<String> = found
            .left
            .iter()
            .map(|left| left.place.to_string())
            .collect();
        assert_eq!(lines, ["a.json:2", "b.json:1", "c.json:1", "d.json:0"]);
        assert!(found.left.iter().all(|left| left.is_malformed));
    }
}
