//! What is told of a machine's life. In: the machine before and after. Out: a word for each change.

use crate::model::{Machine, Mode, Phase};

/// What is told of a machine that is another than before: a word for each change, and its reason.
pub fn changes(before: &Machine, after: &Machine) -> Vec<(&'static str, Option<String>)> {
    let mut changes = Vec::new();
    if (before.attempt, &before.phase) != (after.attempt, &after.phase) {
        let reason = match &after.phase {
            Phase::Failed(failure) => Some(failure.reason.clone()),
            Phase::Armed if after.retries_used > 0 => {
                Some("deadline; it is tried again".to_owned())
            }
            _ => None,
        };
        changes.push((after.phase.as_str(), reason));
    }
    if before.mode != after.mode {
        let word = match after.mode {
            Mode::Normal => "released",
            Mode::Held => "held",
            Mode::Rescue => "rescue",
        };
        changes.push((word, None));
    }
    match (before.next_boot, after.next_boot) {
        (before, Some(after)) if before.map(|asked| asked.from) != Some(after.from) => {
            changes.push(("next_boot", Some(after.from.as_str().to_owned())));
        }
        (Some(before), None) if before.taken_secs.is_none() => {
            changes.push(("next_boot", Some("as usual".to_owned())));
        }
        _ => {}
    }
    if before.ready_secs.is_none() && after.ready_secs.is_some() {
        changes.push(("ready", None));
    }
    changes
}
