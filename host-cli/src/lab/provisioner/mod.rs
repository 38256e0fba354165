//! Where bootjackd runs for the lab, whichever kind that is: planned, brought up, found again, ended.

pub mod machine;
mod namespace;

use std::path::PathBuf;

use super::open::Opened;
use super::plan::Facts;
use super::report::Report;
use super::ssh::Keys;
use crate::cli::How;
use crate::client::Server;
use crate::exit::{Exit, Failure};
use crate::images::Store;
use crate::labfile::ProvisionerKind;
use crate::vm::Stopped;

/// What is to run.
#[derive(Clone, Debug)]
pub enum Provisioner {
    Namespace(namespace::Plan),
    Machine(Box<machine::Plan>),
}

impl Provisioner {
    /// For people: what would be started.
    pub fn shown(&self) -> String {
        match self {
            Self::Namespace(plan) => plan.shown(),
            Self::Machine(plan) => plan.shown(),
        }
    }
}

/// Plans it.
pub fn plan(
    opened: &Opened,
    facts: &Facts,
    _store: &Store,
    how: &How,
) -> Result<Provisioner, Failure> {
    match opened.lab.provisioner.kind {
        ProvisionerKind::Namespace => namespace::plan(opened, how).map(Provisioner::Namespace),
        ProvisionerKind::Vm => {
            machine::plan(opened, facts).map(|plan| Provisioner::Machine(Box::new(plan)))
        }
    }
}

/// Starts it if it does not run, and returns when its API answers.
pub async fn up(
    opened: &Opened,
    plan: &Provisioner,
    keys: &Keys,
    store: &Store,
    report: &Report,
) -> Result<(), Failure> {
    match plan {
        Provisioner::Namespace(plan) => namespace::up(opened, plan, report).await,
        Provisioner::Machine(plan) => machine::up(opened, plan, keys, store, report).await,
    }
}

/// The API of the one that runs.
pub fn server(opened: &Opened) -> Result<Server, Failure> {
    match opened.lab.provisioner.kind {
        ProvisionerKind::Namespace => namespace::server(opened),
        ProvisionerKind::Vm => machine::server(opened),
    }
}

/// The port of loopback that its ssh is on, if it has any.
pub fn ssh_port(opened: &Opened) -> Option<u16> {
    match opened.lab.provisioner.kind {
        ProvisionerKind::Namespace => None,
        ProvisionerKind::Vm => machine::ssh_port(opened),
    }
}

/// Ends it.
pub fn down(opened: &Opened, grace: Option<std::time::Duration>) -> Result<Stopped, Failure> {
    match opened.lab.provisioner.kind {
        ProvisionerKind::Namespace => namespace::down(opened),
        ProvisionerKind::Vm => machine::down(opened, grace),
    }
}

/// Beside this program, or on the PATH.
fn bootjackd(named: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    let found = match named {
        Some(file) => std::path::absolute(file).ok().filter(|file| file.is_file()),
        None => crate::host::beside_this_program("bootjackd")
            .or_else(|| crate::host::find_program("bootjackd")),
    };
    found.ok_or_else(|| {
        let text = "the lab lacks bootjackd: build it with `cargo build --release`, or say with --bootjackd where it is";
        Failure::new(Exit::Missing, text)
    })
}
