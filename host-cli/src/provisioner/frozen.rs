//! The provisioner's frozen state: its memory at the gate, and its root disk as it was then. In: a machine that stands at its
//! gate, or the state that one left. Out: the files of the state, or what a new QEMU starts from. The data disk is no part of it:
//! at the gate it is not yet mounted, so that what was written later is never lost.
//!
//! A state is good for the machine that it is of and no other: `key` is a digest of everything that went into it. Pure: `key`,
//! `save_command`, `load_command`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::drivers::spec::Vm;
use crate::exit::{Exit, Failure};
use crate::files::{free, write_whole};
use crate::lab::paths::VmPaths;
use crate::output::size;
use crate::process;
use crate::qmp::{Qmp, QmpError};
use crate::seed::digest;

/// To write a gigabyte of memory to a slow disk.
const PATIENCE: Duration = Duration::from_secs(300);
/// Octets a second, more than any disk takes: QEMU's own limit is for networks.
const BANDWIDTH: u64 = 64 << 30;

/// Where a state is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    memory: PathBuf,
    disk: PathBuf,
    record: PathBuf,
}

impl Frozen {
    /// That of this machine.
    pub fn of(paths: &VmPaths) -> Self {
        Self {
            memory: paths.dir.join("frozen.memory"),
            disk: paths.dir.join("frozen.qcow2"),
            record: paths.dir.join("frozen.json"),
        }
    }

    /// Whether there is one with this key.
    pub fn is_there(&self, key: &str) -> bool {
        let text = fs::read_to_string(&self.record).unwrap_or_default();
        let record: Value = serde_json::from_str(&text).unwrap_or_default();
        record["key"] == key && self.memory.is_file() && self.disk.is_file()
    }

    /// Forgets it.
    pub fn remove(&self) {
        // The record first: without it, the others are nothing.
        for file in [&self.record, &self.memory, &self.disk] {
            let _ = fs::remove_file(file);
        }
    }

    /// Writes down a machine that stands at its gate; afterwards it runs on. What goes wrong leaves no state and a machine that runs.
    pub fn save(&self, key: &str, paths: &VmPaths, zstd: Option<&Path>) -> Result<(), Failure> {
        self.remove();
        let failed = |error: QmpError| {
            let text = format!("the provisioner could not be frozen: {error}");
            Failure::new(Exit::Vm, text)
        };
        let mut qmp = Qmp::connect(&paths.monitor).map_err(failed)?;
        let saved = self.save_stopped(&mut qmp, paths, zstd);
        let resumed = qmp.execute("cont", json!({})).map(drop).map_err(failed);
        if saved.is_err() || resumed.is_err() {
            self.remove();
        }
        saved.and(resumed)?;
        write_whole(&self.record, format!("{:#}\n", json!({ "key": key })))
    }

    fn save_stopped(
        &self,
        qmp: &mut Qmp,
        paths: &VmPaths,
        zstd: Option<&Path>,
    ) -> Result<(), Failure> {
        let failed = |why: String| {
            let text = format!("the provisioner could not be frozen: {why}");
            Failure::new(Exit::Vm, text)
        };
        let mut tell = |command: &str, arguments: Value| {
            (qmp.execute(command, arguments)).map_err(|error| failed(error.to_string()))
        };
        tell("stop", json!({}))?;
        let limit = json!({ "max-bandwidth": BANDWIDTH });
        tell("migrate-set-parameters", limit)?;
        let command = save_command(&self.memory, zstd);
        tell("migrate", json!({ "uri": format!("exec:{command}") }))?;
        let until = Instant::now() + PATIENCE;
        loop {
            let state = tell("query-migrate", json!({}))?;
            match state["status"].as_str().unwrap_or_default() {
                "completed" => break,
                "failed" | "cancelled" => {
                    let why = state["error-desc"]
                        .as_str()
                        .unwrap_or("qemu does not say why");
                    // Most often there is no room, and QEMU does not know.
                    let free = free(&paths.dir).map_or_else(|| "?".to_owned(), size);
                    let dir = paths.dir.display();
                    return Err(failed(format!("{why}; {free} are free in {dir}")));
                }
                _ if Instant::now() > until => {
                    return Err(failed(format!(
                        "it took more than {} s",
                        PATIENCE.as_secs()
                    )));
                }
                _ => process::a_moment(),
            }
        }
        // QEMU has written everything out and let go of its disks until it goes on.
        let disk = paths.disk();
        let copied = fs::copy(&disk, &self.disk).and_then(|_| {
            fs::File::open(&self.disk)?.sync_all()?;
            fs::File::open(&self.memory)?.sync_all()
        });
        copied.map_err(Failure::io("write", &self.disk))
    }

    /// Puts the root disk back as it was; answers the command whose output a new QEMU has its memory from.
    pub fn load(&self, paths: &VmPaths, zstd: Option<&Path>) -> Result<String, Failure> {
        let disk = paths.disk();
        let new = disk.with_extension("new");
        let put = fs::copy(&self.disk, &new).and_then(|_| fs::rename(&new, &disk));
        put.map_err(|error| {
            let _ = fs::remove_file(&new);
            Failure::io("write", &disk)(error)
        })?;
        Ok(load_command(&self.memory, zstd))
    }
}

/// Has a QEMU that was started with such a command go on, once it has everything.
pub fn go_on(monitor: &Path) -> Result<(), QmpError> {
    let mut qmp = Qmp::connect(monitor)?;
    // One that somebody else has begun would stop the machine again when it is done; without one this does nothing.
    qmp.execute("migrate_cancel", json!({}))?;
    let until = Instant::now() + PATIENCE;
    loop {
        let state = qmp.execute_within("query-status", json!({}), PATIENCE)?;
        match state["status"].as_str().unwrap_or_default() {
            "inmigrate" if Instant::now() < until => process::a_moment(),
            "inmigrate" => return Err(QmpError::Late(PATIENCE)),
            _ => break,
        }
    }
    qmp.execute_within("cont", json!({}), PATIENCE).map(drop)
}

/// A digest of all that makes a state what it is.
pub fn key(vm: &Vm, arguments: &[String], program: &Path, others: &[&str]) -> String {
    let mut all = String::new();
    let mut add = |text: &str| {
        all.push_str(text);
        all.push('\0');
    };
    // Which QEMU: another version may be able to do nothing with it.
    let facts = fs::metadata(program).ok();
    let changed = facts.as_ref().and_then(|facts| facts.modified().ok());
    let changed = changed.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    add(&format!(
        "{} {} {}",
        program.display(),
        facts.map_or(0, |facts| facts.len()),
        changed.map_or(0, |at| at.as_nanos())
    ));
    add(&vm.uuid);
    for argument in arguments {
        add(argument);
    }
    for other in others {
        add(other);
    }
    digest(all.as_bytes())
}

/// What QEMU's memory is poured into.
pub fn save_command(to: &Path, zstd: Option<&Path>) -> String {
    let to = crate::words::quoted(&to.display().to_string());
    match zstd {
        Some(zstd) => {
            let zstd = crate::words::quoted(&zstd.display().to_string());
            format!("{zstd} -q -f -1 -T0 -o {to}")
        }
        None => format!("cat > {to}"),
    }
}

/// What it is poured out of.
pub fn load_command(from: &Path, zstd: Option<&Path>) -> String {
    let from = crate::words::quoted(&from.display().to_string());
    match zstd {
        Some(zstd) => {
            let zstd = crate::words::quoted(&zstd.display().to_string());
            format!("{zstd} -q -d -c {from}")
        }
        None => format!("cat {from}"),
    }
}

#[cfg(test)]
mod tests;
