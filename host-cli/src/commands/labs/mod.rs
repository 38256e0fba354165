//! The verbs of a lab: each finds the lab, looks at facts, and takes the lab from what is to what its file says.

mod container;
mod doctor;
mod down;
mod facts;
mod images;
mod init;
mod leftovers;
mod machines;
mod provisioner;
mod shell;
mod status;
mod up;
mod vm;
mod wait;

use crate::cli::{At, Format, LabVerb};
use crate::exit::{Exit, Failure};
use crate::lab::open::{self, Opened};
use crate::lab::report::Report;
use crate::output;

/// Runs one.
pub fn run(verb: LabVerb) -> Result<(), Failure> {
    interruptible();
    match verb {
        LabVerb::Init(args) => init::run(&args),
        LabVerb::Validate { at } => validate(&at),
        LabVerb::Plan { at } => status::plan(&at),
        LabVerb::Up(args) => up::run(&args),
        LabVerb::Down(args) => down::run(&args),
        LabVerb::Destroy(args) => down::destroy(&args),
        LabVerb::Status { at } => status::run(&at),
        LabVerb::Doctor { at } => doctor::run(&at),
        LabVerb::Vm { at, command } => vm::run(&at, command),
        LabVerb::Provisioner { at, command } => provisioner::run(at, command),
        LabVerb::Shell { at, name, command } => shell::run(&at, &name, &command),
        LabVerb::Exec { at, name, command } => shell::run(&at, &name, &command),
        LabVerb::Cp {
            at,
            recursive,
            paths,
        } => shell::copy(&at, recursive, &paths),
        LabVerb::SshConfig { at } => shell::config(&at),
    }
}

fn validate(at: &At) -> Result<(), Failure> {
    let opened = open::open(&at.lab)?;
    let lab = &opened.lab;
    let vms: Vec<serde_json::Value> = lab
        .vms
        .iter()
        .map(|vm| {
            serde_json::json!({
                "name": vm.name, "arch": vm.arch.as_str(), "address": vm.address,
                "mac": vm.mac, "uuid": vm.uuid, "profile": vm.profile, "image": vm.image,
            })
        })
        .collect();
    output::answer(
        at.format(),
        || serde_json::json!({ "lab": lab.name, "file": opened.file, "subnet": lab.network.subnet.to_string(), "vms": vms }),
        || {
            let machines = match lab.vms.len() {
                1 => "1 machine".to_owned(),
                n => format!("{n} machines"),
            };
            format!(
                "{}: lab {} with {machines} on {}",
                crate::lab::plan::shown(&opened.file),
                lab.name,
                lab.network.subnet
            )
        },
    )
}

/// One that runs futures on this thread.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(|error| Failure::new(Exit::Failed, error.to_string()))
}

/// Takes the lab's lock, and says who is waited for.
pub(super) fn lock(opened: &Opened, command: &str, report: &Report) -> Result<open::Lock, Failure> {
    opened.lock(command, |holder| {
        let holder = if holder.is_empty() {
            "another command"
        } else {
            holder
        };
        report.waiting(&format!("{holder} is at this lab; waiting for it"));
    })
}

fn report(format: Format) -> Report {
    Report::new(format.is_for_programs(), false)
}

/// Ctrl-C at any moment leaves what is so far: every step is one that `up` and `down` find again.
fn interruptible() {
    use tokio::signal::unix::{SignalKind, signal};
    std::thread::spawn(|| {
        let Ok(runtime) = runtime() else { return };
        runtime.block_on(async {
            let kinds = [SignalKind::interrupt(), SignalKind::terminate()];
            let [Ok(mut interrupt), Ok(mut terminate)] = kinds.map(signal) else {
                return;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            eprintln!("\nbootjack: interrupted; what was started goes on: bootjack status, bootjack up, bootjack down");
            std::process::exit(Exit::Interrupted as i32);
        });
    });
}
