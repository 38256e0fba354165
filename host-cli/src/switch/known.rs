//! What is known of the ports when a switch starts: what the one before was told, and the machines that still run.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{log, names};
use crate::output::io_reason;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    pub id: String,
    pub name: String,
    pub isolated: bool,
}

/// The ports to begin with. What cannot be read is said in the log and left out: machines that run must be served.
/// A port that only its machine's socket tells of is isolated until somebody says otherwise.
pub fn of(run: &Path) -> Vec<Known> {
    let mut ports = read(run).unwrap_or_else(|why| {
        log::line(&format!("{}: {why}", names::ports(run).display()));
        Vec::new()
    });
    let ids: BTreeSet<String> = ports.iter().map(|port| port.id.clone()).collect();
    let mut found: Vec<Known> = machine_sides(run)
        .into_iter()
        .filter(|id| !ids.contains(id))
        .map(|id| Known {
            name: id.clone(),
            isolated: id != names::port_id(names::PROVISIONER),
            id,
        })
        .collect();
    found.sort_by(|a, b| a.id.cmp(&b.id));
    ports.extend(found);
    ports
}

/// Writes it down, whole or not at all.
pub fn write(run: &Path, ports: &[Known]) -> Result<(), String> {
    let file = names::ports(run);
    let new = run.join("sw.ports.new");
    let text = serde_json::to_vec(ports).map_err(|error| error.to_string())?;
    std::fs::write(&new, text)
        .and_then(|()| std::fs::rename(&new, &file))
        .map_err(|error| format!("cannot write {}: {}", file.display(), io_reason(&error)))
}

fn read(run: &Path) -> Result<Vec<Known>, String> {
    let text = match std::fs::read(names::ports(run)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(|error| io_reason(&error))?,
    };
    let ports: Vec<Known> = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    match ports.iter().find(|port| !names::is_id(&port.id)) {
        Some(port) => Err(format!("wanted ids of 8 hex digits, got {:?}", port.id)),
        None => Ok(ports),
    }
}

fn machine_sides(run: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(run).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name();
            names::id_of_machine_side(name.to_str()?).map(str::to_owned)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn known(id: &str, name: &str, isolated: bool) -> Known {
        Known {
            id: id.to_owned(),
            name: name.to_owned(),
            isolated,
        }
    }

    #[test]
    fn what_was_told_and_what_runs_come_together() {
        let dir = tempfile::tempdir().unwrap();
        assert!(of(dir.path()).is_empty());
        let told = [
            known("00000001", "node1", true),
            known("00000002", "node2", false),
        ];
        write(dir.path(), &told).unwrap();
        for file in ["v-00000002", "v-00000003", "v-strange", "s-00000004"] {
            fs::write(dir.path().join(file), "").unwrap();
        }
        let [one, two] = told;
        assert_eq!(
            of(dir.path()),
            [one, two, known("00000003", "00000003", true)]
        );
    }

    #[test]
    fn a_file_that_is_broken_hides_no_machine_that_runs() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("v-00000003"), "").unwrap();
        for text in [
            "",
            "[{\"id\":\"../x\",\"name\":\"x\",\"isolated\":false}]",
            "\u{0}",
        ] {
            fs::write(names::ports(dir.path()), text).unwrap();
            assert_eq!(of(dir.path()), [known("00000003", "00000003", true)]);
        }
    }
}
