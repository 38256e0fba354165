//! A machine is stopped: asked by its power button, then ended, then killed, each only if the one before did not do.

use std::time::{Duration, Instant};

use super::control::{Control, Order};
use super::holder::holder;
use super::state::{State, state};
use crate::exit::{Exit, Failure};
use crate::lab::paths::VmPaths;
use crate::process::Signal;

/// How it came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It did not run.
    Already,
    /// The guest shut itself down.
    ByGuest,
    /// Its program was told to end.
    ByQuit,
    /// Its program did not listen any more.
    ByKill,
}

/// For its program to write its disks and go.
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
    let control = Control::of(paths);
    // A machine that stands still hears no button.
    if let (Some(grace), "running") = (grace, status.as_str())
        && control.tell(paths, pid, Order::PowerButton)
        && is_gone_within(paths, grace)?
    {
        return Ok(Stopped::ByGuest);
    }
    if status != "hung" {
        control.tell(paths, pid, Order::End);
        if is_gone_within(paths, QUIT)? {
            return Ok(Stopped::ByQuit);
        }
    }
    kill(paths, pid)?;
    match is_gone_within(paths, KILL)? {
        true => Ok(Stopped::ByKill),
        false => {
            let text =
                format!("{name} (pid {pid}) cannot be killed; look at: ps -o stat,wchan {pid}");
            Err(Failure::new(Exit::Vm, text))
        }
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
        Failure::new(Exit::Vm, format!("cannot kill process {pid}: {why}"))
    };
    if pid <= 0 {
        let text = format!("who holds {} does not say who it is", paths.pid.display());
        return Err(Failure::new(Exit::Vm, text));
    }
    let process = crate::process::Handle::of(pid).map_err(failed)?;
    // With the process in hand its id cannot become somebody else's; so what is true now stays true.
    match holder(&paths.pid)? {
        Some(still) if still == pid => process.send(Signal::Kill).map_err(failed),
        _ => Ok(()),
    }
}
