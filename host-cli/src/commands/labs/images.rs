//! Images that a lab's machines want and that are not here: got before anything of the lab is touched, so that a download that
//! fails, or takes an hour, leaves the lab as it is and keeps nobody from it.

use crate::drivers::spec::Arch;
use crate::exit::Failure;
use crate::images::Store;
use crate::images::pull::{self, Patience, Wanted};
use crate::lab::open::Opened;
use crate::lab::plan::Facts;
use crate::lab::report::Report;

/// Those that these machines, or all without names, are to be made from: a machine that has its disk wants none.
pub fn lacking<'a>(
    opened: &Opened,
    facts: &'a Facts,
    names: &[String],
) -> Vec<(&'a (String, Arch), &'a Wanted)> {
    let is_for = |name: &str, arch: Arch| {
        let mut machines = opened.lab.vms.iter();
        machines.any(|machine| {
            machine.image.as_deref() == Some(name)
                && machine.arch == arch
                && (names.is_empty() || names.contains(&machine.name))
                && !opened.paths.vm(&machine.name).disk_there().exists()
        })
    };
    let pulls = facts.pulls.iter();
    pulls
        .filter(|((name, arch), _)| is_for(name, *arch))
        .collect()
}

/// Gets them. Afterwards the facts have them.
pub async fn bring(
    opened: &Opened,
    store: &Store,
    facts: &mut Facts,
    names: &[String],
    report: &Report,
) -> Result<(), Failure> {
    let lacking: Vec<((String, Arch), Wanted)> = lacking(opened, facts, names)
        .into_iter()
        .map(|(key, wanted)| (key.clone(), wanted.clone()))
        .collect();
    for (key, wanted) in lacking {
        // It has a moving line of its own.
        report.still();
        report.note("image", &shown(&key, &wanted));
        let pulled = pull::pull(store, &wanted, Patience::default()).await?;
        let found = super::facts::found(&key.0, pulled.image)?;
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
