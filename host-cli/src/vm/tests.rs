//! macosvm as far as it can be played: a program that keeps no pid file, logs that it has begun, has its serial port on its
//! standard output, and hears signals alone.

use std::path::Path;
use std::time::Duration;

use super::launch::Start;
use super::{State, Stopped, launch, state, stop};
use crate::drivers::Driver;
use crate::lab::paths::{Bases, VmPaths};

fn paths(home: &Path) -> VmPaths {
    let at_home = |_: &str| Some(home.to_owned());
    let lab = Bases::new(at_home, 0, false).lab("lab");
    let paths = lab.vm("a");
    std::fs::create_dir_all(&paths.dir).unwrap();
    std::fs::create_dir_all(paths.pid.parent().unwrap()).unwrap();
    let record = "{\"driver\": \"macosvm\"}\n";
    std::fs::write(paths.record(), record).unwrap();
    paths
}

fn start(script: &str, paths: &VmPaths) -> Result<State, crate::exit::Failure> {
    let arguments = ["-c".to_owned(), script.to_owned()];
    let start = Start {
        name: "a",
        driver: Driver::Macosvm,
        program: Path::new("/bin/sh"),
        arguments: &arguments,
        uuid: "4fb3a5c0-0000-0000-0000-000000000000",
    };
    launch(&start, paths)
}

#[test]
fn macosvm_is_held_by_its_lock_and_ended_by_a_signal() {
    let home = tempfile::tempdir().unwrap();
    let paths = paths(home.path());
    let script = "echo from the serial port; echo ' - start done' >&2; exec sleep 1000";
    let started = start(script, &paths).unwrap();
    assert_eq!(started.word(), "running");
    assert_eq!(state(&paths, "any").unwrap(), started);
    let console = std::fs::read_to_string(paths.console_log()).unwrap();
    assert_eq!(console, "from the serial port\n");
    // It hands no power button on: nobody waits for a guest that was not asked.
    let grace = Some(Duration::from_secs(1000));
    assert_eq!(stop("a", &paths, "any", grace).unwrap(), Stopped::ByQuit);
    assert_eq!(state(&paths, "any").unwrap(), State::Stopped);
}

#[test]
fn a_macosvm_that_ends_says_why() {
    let home = tempfile::tempdir().unwrap();
    let paths = paths(home.path());
    let failure = start("echo 'Exception in VM init' >&2; exit 1", &paths).unwrap_err();
    let said = "a: macosvm ended with exit status: 1: Exception in VM init; log: ";
    assert!(failure.message.starts_with(said), "{failure}");
}
