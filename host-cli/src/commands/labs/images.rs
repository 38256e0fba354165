//! Images that a lab's machines want and that are not here: got before anything of the lab is touched, so that a download that
//! fails, or takes an hour, leaves the lab as it is and keeps nobody from it.

use crate::drivers::spec::Arch;
use crate::exit::Failure;
use crate::images::Store;
use crate::images::pull::{self, Patience, Wanted};
use crate::lab::open::Opened;
use crate::lab::plan::Facts;
use crate::lab::report::Report;
use crate::labfile::ProvisionerKind;

/// For whom images are got.
#[derive(Clone, Copy, Debug)]
pub struct Wanting<'a> {
    /// These machines, or all without names.
    pub names: &'a [String],
    pub provisioner: bool,
}

/// Those that they are to be made from: a machine that has its disk wants none.
pub fn lacking<'a>(
    opened: &Opened,
    facts: &'a Facts,
    by: Wanting<'_>,
) -> Vec<(&'a (String, Arch), &'a Wanted)> {
    let is_for = |name: &str, arch: Arch| {
        if by.provisioner && is_provisioners(opened, facts, name, arch) {
            return true;
        }
        let mut machines = opened.lab.vms.iter();
        machines.any(|machine| {
            machine.image.as_deref() == Some(name)
                && machine.arch == arch
                && (by.names.is_empty() || by.names.contains(&machine.name))
                && !opened.paths.vm(&machine.name).disk_there().exists()
        })
    };
    let pulls = facts.pulls.iter();
    pulls
        .filter(|((name, arch), _)| is_for(name, *arch))
        .collect()
}

/// Whether the provisioner can only be planned once its image is here.
pub fn lacks_provisioner(opened: &Opened, facts: &Facts) -> bool {
    let mut keys = facts.pulls.keys();
    keys.any(|(name, arch)| is_provisioners(opened, facts, name, *arch))
}

fn is_provisioners(opened: &Opened, facts: &Facts, name: &str, arch: Arch) -> bool {
    let wanted = &opened.lab.provisioner;
    wanted.kind == ProvisionerKind::Vm
        && wanted.image == name
        && facts.provisioner.is_none()
        && Some(arch) == Arch::of_host()
}

/// Gets them. Afterwards the facts have them.
pub async fn bring(
    opened: &Opened,
    store: &Store,
    facts: &mut Facts,
    by: Wanting<'_>,
    report: &Report,
) -> Result<(), Failure> {
    let lacking: Vec<((String, Arch), Wanted)> = lacking(opened, facts, by)
        .into_iter()
        .map(|(key, wanted)| (key.clone(), wanted.clone()))
        .collect();
    for (key, wanted) in lacking {
        // It has a moving line of its own.
        report.still();
        report.note("image", &shown(&key, &wanted));
        let pulled = pull::pull(store, &wanted, Patience::default()).await?;
        let found = super::facts::found(&key.0, pulled.image)?;
        if is_provisioners(opened, facts, &key.0, key.1) {
            facts.provisioner = Some(found.clone());
        }
        report.done(
            "image",
            &format!("{} for {} is here", key.0, key.1.as_str()),
        );
        facts.pulls.remove(&key);
        facts.images.insert(key, found);
    }
    Ok(())
}

/// `pull debian-12-generic for x86_64 from https://…`
pub fn shown(key: &(String, Arch), wanted: &Wanted) -> String {
    let (name, arch) = key;
    format!("pull {name} for {} from {}", arch.as_str(), wanted.from())
}
