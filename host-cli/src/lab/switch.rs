//! The lab's switch: there when it is needed, with a port for each machine.

use std::time::{Duration, Instant};

use super::open::Opened;
use super::paths::PROVISIONER;
use super::report::Report;
use crate::exit::{Exit, Failure};
use crate::process;
use crate::switch::control::Client;

/// From its start to its first answer.
const PATIENCE: Duration = Duration::from_secs(30);
const LAST_WORDS: usize = 3;

/// Starts the switch if it does not run, and gives every machine of the lab a port.
pub fn up(opened: &Opened, report: &Report) -> Result<(), Failure> {
    let run = opened.paths.run();
    let mut client = match Client::connect(run) {
        Ok(client) => client,
        Err(_) => {
            let client = start(opened)?;
            report.done("switch", &format!("started, {}", opened.lab.network.subnet));
            client
        }
    };
    let names = opened.lab.vms.iter().map(|vm| vm.name.as_str());
    for name in names.chain([PROVISIONER]) {
        client.add(name, false)?;
    }
    Ok(())
}

fn start(opened: &Opened) -> Result<Client, Failure> {
    let log = opened.paths.switch_log();
    super::open::make_private(log.parent().expect("it is in a directory"))?;
    let program = this_program()?;
    let run = opened.paths.run().display().to_string();
    let arguments = ["net", "switch", "--run", &run].map(str::to_owned);
    let mut started = process::detached(&program, &arguments, &log)?;
    let until = Instant::now() + PATIENCE;
    loop {
        match Client::connect(opened.paths.run()) {
            Ok(client) => return Ok(client),
            Err(failure) if Instant::now() > until => return Err(failure),
            Err(_) => {}
        }
        if let Some(status) = started.ended() {
            let words = process::last_lines(&log, started.log_start, LAST_WORDS);
            let text = format!("the switch ended with {status}: {words}");
            return Err(Failure::new(Exit::Failed, text));
        }
        process::a_moment();
    }
}

/// Ends the switch. Whether it ran.
pub fn down(opened: &Opened) -> Result<bool, Failure> {
    match Client::connect(opened.paths.run()) {
        Ok(client) => client.stop().map(|()| true),
        Err(_) => Ok(false),
    }
}

/// This executable, to be started again.
pub fn this_program() -> Result<std::path::PathBuf, Failure> {
    std::env::current_exe().map_err(Failure::io("find", "this program"))
}
