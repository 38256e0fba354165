//! Where bootjackd runs for the lab, whichever kind that is: planned, brought up, found again, ended.

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
}

impl Provisioner {
    /// For people: what would be started.
    pub fn shown(&self) -> String {
        match self {
            Self::Namespace(plan) => plan.shown(),
        }
    }
}

/// Plans it.
pub fn plan(
    opened: &Opened,
    _facts: &Facts,
    _store: &Store,
    how: &How,
) -> Result<Provisioner, Failure> {
    match opened.lab.provisioner.kind {
        ProvisionerKind::Namespace => namespace::plan(opened, how).map(Provisioner::Namespace),
        ProvisionerKind::Vm => Err(Failure::new(Exit::Missing, "not yet")),
    }
}

/// Starts it if it does not run, and returns when its API answers.
pub async fn up(
    opened: &Opened,
    plan: &Provisioner,
    _keys: &Keys,
    _store: &Store,
    report: &Report,
) -> Result<(), Failure> {
    match plan {
        Provisioner::Namespace(plan) => namespace::up(opened, plan, report).await,
    }
}

/// The API of the one that runs.
pub fn server(opened: &Opened) -> Result<Server, Failure> {
    match opened.lab.provisioner.kind {
        ProvisionerKind::Namespace => Ok(Server::unix(opened.paths.api().display().to_string())),
        ProvisionerKind::Vm => Err(Failure::new(Exit::Missing, "not yet")),
    }
}

/// The port of loopback that its ssh is on, if it has any.
pub fn ssh_port(_opened: &Opened) -> Option<u16> {
    None
}

/// Ends it.
pub fn down(opened: &Opened, _grace: Option<std::time::Duration>) -> Result<Stopped, Failure> {
    match opened.lab.provisioner.kind {
        ProvisionerKind::Namespace => namespace::down(opened),
        ProvisionerKind::Vm => Ok(Stopped::Already),
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
