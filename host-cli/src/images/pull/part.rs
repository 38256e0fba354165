//! Downloads that are not whole yet: `KEY.part`, what is known of the server's file in `KEY.json`, and `KEY.lock`, which whoever
//! downloads holds. The key stands for what is to come of it, so that two downloads of the same file are one.

use std::fs;
use std::path::Path;

use crate::exit::Failure;
use crate::images::store::Pruned;
use crate::images::store::lock::Lock;

/// Removes the parts that nobody is getting on with.
pub fn prune(parts: &Path, pruned: &mut Pruned) -> Result<(), Failure> {
    for entry in fs::read_dir(parts).map_err(Failure::io("read", parts))? {
        let lock = entry.map_err(Failure::io("read", parts))?.path();
        if lock.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        let Some(held) = Lock::held_by_nobody(&lock)? else {
            continue;
        };
        for extension in ["part", "json", "json.new"] {
            let path = lock.with_extension(extension);
            if path.exists() {
                pruned.remove(&path)?;
            }
        }
        held.remove();
    }
    Ok(())
}
