//! A machine whose disk had no room to grow: QEMU has it stand still then, and nothing that it has written is lost. In: what it
//! stands for. Out: a machine that goes on, or the word where room is to be made.

use std::time::{Duration, Instant};

use serde_json::json;

use super::state::State;
use crate::exit::{Exit, Failure};
use crate::files;
use crate::lab::paths::VmPaths;
use crate::output;
use crate::qmp::{Qmp, QmpError};

/// QEMU's word for it.
const STANDS: &str = "io-error";
/// For what the machine wanted to write to be tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Whether it stands for want of room, or for another fault of its disks.
pub fn is_wanting(state: &State) -> bool {
    matches!(state, State::Running { status, .. } if status == STANDS)
}

/// Has it go on; fails if it stands again at once.
pub fn go_on(name: &str, paths: &VmPaths) -> Result<(), Failure> {
    let failed = |error: QmpError| Failure::new(Exit::Vm, format!("{name}: {error}"));
    let mut qmp = Qmp::connect(&paths.monitor).map_err(failed)?;
    qmp.execute("cont", json!({})).map_err(failed)?;
    let until = Instant::now() + AGAIN;
    while Instant::now() < until {
        let state = qmp.execute("query-status", json!({})).map_err(failed)?;
        if state["status"] == STANDS {
            return Err(lack(name, paths));
        }
        crate::process::a_moment();
    }
    Ok(())
}

/// The failure to have room for it.
pub fn lack(name: &str, paths: &VmPaths) -> Failure {
    let free = files::free(&paths.dir).map_or(String::new(), |free| {
        format!(" ({} are free)", output::size(free))
    });
    let text = format!(
        "{name} stands still: its disk cannot be written to; make room in {}{free}, and it goes on with: bootjack up",
        paths.dir.display()
    );
    Failure::new(Exit::Vm, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_stands_for_another_reason_lacks_no_room() {
        let running = |status: &str| State::Running {
            pid: 1,
            status: status.to_owned(),
        };
        assert!(is_wanting(&running("io-error")));
        for status in ["running", "paused", "prelaunch"] {
            assert!(!is_wanting(&running(status)), "{status}");
        }
        assert!(!is_wanting(&State::Stopped));
    }
}
