//! A machine is started: its command line is written down, QEMU is let go, and it is there when it answers for itself.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::holder::holder;
use super::state::{State, state};
use crate::exit::{Exit, Failure};
use crate::lab::paths::VmPaths;
use crate::process;
use crate::qmp::Qmp;

/// From its start to its first word; a busy computer and a large memory take their time.
const PATIENCE: Duration = Duration::from_secs(60);
/// Lines of its complaints that are shown.
const LAST_WORDS: usize = 3;

/// Starts QEMU with these arguments and returns when it answers. It outlives this process.
pub fn launch(
    name: &str,
    program: &Path,
    arguments: &[String],
    paths: &VmPaths,
    uuid: &str,
) -> Result<State, Failure> {
    let shown = crate::words::shown(program, arguments);
    let script = format!("#!/bin/sh\nexec {shown}\n");
    let file = paths.command_line();
    fs::write(&file, script).map_err(Failure::io("write", &file))?;
    // What an earlier QEMU left behind would be taken for this one's.
    for socket in [&paths.monitor, &paths.console] {
        if holder(&paths.pid)?.is_none() {
            let _ = fs::remove_file(socket);
        }
    }
    let log = paths.driver_log();
    let mut started = process::detached(program, arguments, &log)?;
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = started.ended() {
            let words = process::last_lines(&log, started.log_start, LAST_WORDS);
            let text = format!(
                "{name}: qemu ended with {status}: {words}; log: {}",
                log.display()
            );
            return Err(Failure::new(Exit::Vm, text));
        }
        if holder(&paths.pid)?.is_some() && Qmp::connect(&paths.monitor).is_ok() {
            return state(paths, uuid);
        }
        if Instant::now() > until {
            let text = format!(
                "{name}: qemu (pid {}) runs and does not answer on {} after {} s; log: {}",
                started.pid,
                paths.monitor.display(),
                PATIENCE.as_secs(),
                log.display()
            );
            return Err(Failure::new(Exit::Vm, text));
        }
        process::a_moment();
    }
}
