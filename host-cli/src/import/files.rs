//! Files on disk, as imports ask for them.

use std::path::{Path, PathBuf};

use super::Files;
use crate::output::io_reason;

/// The file system, or a copy of another host's below `root`.
#[derive(Debug, Default)]
pub struct Disk {
    pub root: Option<PathBuf>,
}

impl Disk {
    /// Absolute paths that files name are below the root; what was typed is where it is.
    fn find(&self, path: &str) -> PathBuf {
        match &self.root {
            Some(root) if path.starts_with('/') && !Path::new(path).starts_with(root) => {
                root.join(path.trim_start_matches('/'))
            }
            _ => PathBuf::from(path),
        }
    }
}

impl Files for Disk {
    /// A comment in another encoding than UTF-8 does not matter.
    fn read(&self, path: &str) -> Result<String, String> {
        let found = self.find(path);
        std::fs::read(&found)
            .map(|octets| String::from_utf8_lossy(&octets).into_owned())
            .map_err(|error| format!("cannot read {}: {}", found.display(), io_reason(&error)))
    }

    fn list(&self, path: &str) -> Option<Vec<String>> {
        let entries = std::fs::read_dir(self.find(path)).ok()?;
        let files = entries.flatten().filter(|entry| entry.path().is_file());
        let mut names: Vec<String> = (files)
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        Some(names)
    }
}
