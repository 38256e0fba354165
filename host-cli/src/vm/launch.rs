//! A machine is started: its command line is written down, its program is let go, and it is there when it answers for itself.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::control::Control;
use super::holder::holder;
use super::state::{State, state};
use crate::drivers::Driver;
use crate::exit::{Exit, Failure};
use crate::lab::paths::VmPaths;
use crate::process::{self, Detached, Keeping};
use crate::qmp::Qmp;

/// From its start to its first word; a busy computer and a large memory take their time.
const PATIENCE: Duration = Duration::from_secs(60);
/// Lines of its complaints that are shown.
const LAST_WORDS: usize = 3;
/// What macosvm logs once it has had its machine started.
const MACOSVM_STARTED: &str = "start done";

/// What is started, and as what it is found again.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    pub name: &'a str,
    pub driver: Driver,
    pub program: &'a Path,
    pub arguments: &'a [String],
    pub uuid: &'a str,
}

/// Starts it and returns when it answers. It outlives this process.
pub fn launch(start: &Start<'_>, paths: &VmPaths) -> Result<State, Failure> {
    let Start { name, driver, .. } = *start;
    let shown = crate::words::shown(start.program, start.arguments);
    let script = format!("#!/bin/sh\nexec {shown}\n");
    let file = paths.command_line();
    fs::write(&file, script).map_err(Failure::io("write", &file))?;
    // What an earlier one left behind would be taken for this one's.
    for socket in [&paths.monitor, &paths.console] {
        if holder(&paths.pid)?.is_none() {
            let _ = fs::remove_file(socket);
        }
    }
    let log = paths.driver_log();
    let mut started = let_go(start, paths)?;
    let until = Instant::now() + PATIENCE;
    let program = match Control::of_driver(driver) {
        Control::Qmp => "qemu",
        Control::Rest | Control::Signals => driver.as_str(),
    };
    loop {
        if let Some(status) = started.ended() {
            let words = process::last_lines(&log, started.log_start, LAST_WORDS);
            let text = format!(
                "{name}: {program} ended with {status}: {words}; log: {}",
                log.display()
            );
            return Err(Failure::new(Exit::Vm, text));
        }
        if holder(&paths.pid)?.is_some() && answers(driver, paths, &started) {
            return state(paths, start.uuid);
        }
        if Instant::now() > until {
            let text = format!(
                "{name}: {program} (pid {}) runs and does not answer on {} after {} s; log: {}",
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

/// QEMU locks its pid file itself; for the others it is done before they begin. macosvm's standard output is the serial port.
fn let_go(start: &Start<'_>, paths: &VmPaths) -> Result<Detached, Failure> {
    let (program, arguments, log) = (start.program, start.arguments, paths.driver_log());
    let console = paths.console_log();
    let keeping = |output| Keeping {
        pid_file: &paths.pid,
        output,
    };
    let started = match Control::of_driver(start.driver) {
        Control::Qmp => return process::detached(program, arguments, &log),
        Control::Rest => process::detached_keeping(program, arguments, &log, keeping(None)),
        Control::Signals => {
            process::detached_keeping(program, arguments, &log, keeping(Some(&console)))
        }
    };
    started.map_err(|mut failure| {
        if failure.exit == Exit::Missing {
            let driver = start.driver.as_str();
            failure.message.push_str(&format!(
                "; {driver} is for macOS: install it so that it is on the PATH, or leave --driver out"
            ));
        }
        failure
    })
}

fn answers(driver: Driver, paths: &VmPaths, started: &Detached) -> bool {
    match Control::of_driver(driver) {
        Control::Qmp => Qmp::connect(&paths.monitor).is_ok(),
        Control::Rest => Control::Rest
            .ask(paths)
            .is_ok_and(|said| said.status == "running"),
        Control::Signals => {
            let log = fs::read(paths.driver_log()).unwrap_or_default();
            let from = usize::try_from(started.log_start).unwrap_or(0);
            let said = String::from_utf8_lossy(log.get(from..).unwrap_or_default());
            said.contains(MACOSVM_STARTED)
        }
    }
}
