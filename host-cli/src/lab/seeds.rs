//! The seed of a machine whose disk is from a cloud image: who may log in, its name, its network. One that boots from the network
//! has its documents from bootjackd instead.

use super::open::{Opened, make_private};
use super::plan::VmPlan;
use super::ssh::Keys;
use crate::exit::Failure;
use crate::provisioner::served;
use crate::seed::LABEL;
use crate::seed::cloud_init::{self, HostKey, TargetSeed};

/// Writes the seed of a machine that wants one, unless it runs: then it has it open.
pub fn write(vm: &VmPlan, opened: &Opened, keys: &Keys) -> Result<(), Failure> {
    if !vm.vm.disks.iter().any(|disk| disk.id == "seed") {
        return Ok(());
    }
    if crate::vm::state(&vm.paths, &vm.vm.uuid)?.is_up() {
        return Ok(());
    }
    let name = &vm.vm.name;
    let machine = opened.lab.vms.iter().find(|machine| machine.name == *name);
    let user_data = match machine.and_then(|machine| machine.user_data.as_deref()) {
        Some(file) => Some(std::fs::read_to_string(file).map_err(Failure::io("read", file))?),
        None => None,
    };
    let of = |all: &std::collections::BTreeMap<String, String>| {
        all.get(name).cloned().unwrap_or_default()
    };
    let mac = vm.vm.nics.first().map(|nic| nic.mac.clone());
    let entries = cloud_init::target(&TargetSeed {
        hostname: name.clone(),
        domain: opened.lab.network.domain.clone(),
        mac: mac.unwrap_or_default(),
        host_key: HostKey {
            private: of(&keys.hosts),
            public: of(&keys.known),
        },
        authorized_keys: vec![keys.public.clone()],
        user_data,
    });
    make_private(&vm.paths.dir)?;
    served::write(&vm.paths.seed(), LABEL, &entries)
}
