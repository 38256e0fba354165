//! What labs have left behind: machines that run and belong to no lab, labs whose file is gone. Everything is told, nothing is
//! ended: whose it is may be known to who reads it.

use std::path::Path;

use super::doctor::{Finding, Grade};
use crate::lab::open;
use crate::lab::paths::Bases;
use crate::vm::holder::holder;

/// Looks through the directories of all labs of this user.
pub fn look(bases: &Bases) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut runs = Vec::new();
    for state in directories(&bases.labs()) {
        let name = state
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let paths = bases.lab(&name);
        runs.push(paths.run().to_owned());
        let record = std::fs::read_to_string(paths.record()).unwrap_or_default();
        let record: serde_json::Value = serde_json::from_str(&record).unwrap_or_default();
        let file = record["file"].as_str().map(Path::new);
        let is_its = |file: &Path| open::read(file).is_ok_and(|lab| lab.name == name);
        if file.is_some_and(is_its) {
            continue;
        }
        let file = file.map_or_else(|| "unknown".to_owned(), |file| file.display().to_string());
        let running = holders(paths.run());
        let next = match running.as_slice() {
            [] => format!(
                "if nobody wants its disks, delete it: rm -r {}",
                state.display()
            ),
            pids => format!(
                "it still runs (pid {}); bring its file back, and: bootjack down",
                shown(pids)
            ),
        };
        let found = format!("its file {file} is gone or is not this lab's any more");
        findings.push(Finding::new(
            Grade::Note,
            &format!("lab {name}"),
            found,
            next,
        ));
    }
    for run in directories(&bases.run) {
        if runs.contains(&run) {
            continue;
        }
        let running = holders(&run);
        if !running.is_empty() {
            let found = format!(
                "{} runs (pid {}) and belongs to no lab",
                run.display(),
                shown(&running)
            );
            let next = format!(
                "its lab's state was deleted; end it: kill {}",
                shown(&running)
            );
            findings.push(Finding::new(Grade::Note, "orphans", found, next));
        }
    }
    findings
}

fn directories(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut all: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    all.sort();
    all
}

/// The processes that hold pid files of a runtime directory.
fn holders(run: &Path) -> Vec<i32> {
    let entries = std::fs::read_dir(run).into_iter().flatten().flatten();
    let files = entries
        .map(|entry| entry.path())
        .filter(|file| file.extension().is_some_and(|ext| ext == "pid"));
    files
        .filter_map(|file| holder(&file).ok().flatten())
        .collect()
}

fn shown(pids: &[i32]) -> String {
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    pids.join(" ")
}
