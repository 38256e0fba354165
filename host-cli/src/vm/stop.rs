//! A machine is stopped: asked by its power button, then ended, then killed, each only if the one before did not do.

use std::time::{Duration, Instant};

use serde_json::json;

use super::holder::holder;
use super::state::{State, state};
use crate::exit::{Exit, Failure};
use crate::lab::paths::VmPaths;
use crate::qmp::Qmp;

/// How it came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It did not run.
    Already,
    /// The guest shut itself down.
    ByGuest,
    /// QEMU was told to end.
    ByQuit,
    /// QEMU did not listen any more.
    ByKill,
}

/// For QEMU to write its disks and go.
const QUIT: Duration = Duration::from_secs(10);
/// For the kernel to take a killed process away.
const KILL: Duration = Duration::from_secs(10);

/// Stops it. `grace` is how long the guest may take to shut down; none: it is not asked.
pub fn stop(
    name: &str,
    paths: &VmPaths,
    uuid: &str,
    grace: Option<Duration>,
) -> Result<Stopped, Failure> {
    let (pid, status) = match state(paths, uuid)? {
        State::Stopped => return Ok(Stopped::Already),
        State::Running { pid, status } => (pid, status),
        State::Hung { pid, .. } => (pid, "hung".to_owned()),
    };
    // A machine that stands still hears no button.
    if let (Some(grace), "running") = (grace, status.as_str()) {
        tell(paths, "system_powerdown");
        if is_gone_within(paths, grace)? {
            return Ok(Stopped::ByGuest);
        }
    }
    if status != "hung" {
        tell(paths, "quit");
        if is_gone_within(paths, QUIT)? {
            return Ok(Stopped::ByQuit);
        }
    }
    kill(paths, pid)?;
    match is_gone_within(paths, KILL)? {
        true => Ok(Stopped::ByKill),
        false => {
            let text = format!(
                "{name}: qemu (pid {pid}) cannot be killed; look at: ps -o stat,wchan {pid}"
            );
            Err(Failure::new(Exit::Vm, text))
        }
    }
}

/// Whether it hears is seen from what it does.
fn tell(paths: &VmPaths, command: &str) {
    if let Ok(mut qmp) = Qmp::connect(&paths.monitor) {
        let _ = qmp.execute(command, json!({}));
    }
}

fn is_gone_within(paths: &VmPaths, time: Duration) -> Result<bool, Failure> {
    let until = Instant::now() + time;
    loop {
        if holder(&paths.pid)?.is_none() {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        crate::process::a_moment();
    }
}

/// Kills who holds the pid file, and nobody who has got its id since.
fn kill(paths: &VmPaths, pid: i32) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        let why = crate::output::io_reason(&error);
        Failure::new(Exit::Vm, format!("cannot kill qemu (pid {pid}): {why}"))
    };
    if pid <= 0 {
        let text = format!("who holds {} does not say who it is", paths.pid.display());
        return Err(Failure::new(Exit::Vm, text));
    }
    let process = crate::process::Handle::of(pid).map_err(failed)?;
    // With the process in hand its id cannot become somebody else's; so what is true now stays true.
    match holder(&paths.pid)? {
        Some(still) if still == pid => process.kill().map_err(failed),
        _ => Ok(()),
    }
}
