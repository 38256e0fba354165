//! Profiles from disk, and those that are shipped inside the program. A directory of the same name takes a shipped one's place.

use std::collections::BTreeMap;
use std::path::Path;

use include_dir::{Dir, include_dir};

use crate::config::reader::{Problem, Problems};
use crate::model::Profile;
use crate::render::profile::{self, PROFILE_FILE};

static SHIPPED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/deploy/profiles");

/// A template is text that people write.
const LARGEST_FILE: u64 = 1 << 20;

/// Reads every profile of `dir`, if given, and the shipped ones that it does not replace. All problems are found at once.
pub fn read(dir: Option<&Path>) -> Result<BTreeMap<String, Profile>, Vec<Problems>> {
    let mut found: BTreeMap<String, Result<Profile, Problems>> = SHIPPED
        .dirs()
        .map(|dir| {
            let name = dir.path().display().to_string();
            (name.clone(), parse(&name, &name, shipped_files(dir)))
        })
        .collect();
    let mut problems = Vec::new();
    if let Some(dir) = dir {
        match directories(dir) {
            Ok(directories) => {
                for (name, path) in directories {
                    let place = path.display().to_string();
                    let profile = files(&path)
                        .map_err(|text| unreadable(&place, text))
                        .and_then(|files| parse(&name, &place, files));
                    found.insert(name, profile);
                }
            }
            Err(error) => problems.push(unreadable(&dir.display().to_string(), error.to_string())),
        }
    }
    let mut profiles = BTreeMap::new();
    for (name, profile) in found {
        match profile {
            Ok(profile) => {
                profiles.insert(name, profile);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok(profiles)
    } else {
        Err(problems)
    }
}

fn parse(name: &str, place: &str, files: BTreeMap<String, String>) -> Result<Profile, Problems> {
    profile::read(name, files).map_err(|list| Problems {
        file: format!("{place}/{PROFILE_FILE}"),
        list,
    })
}

fn unreadable(place: &str, text: String) -> Problems {
    Problems {
        file: place.to_owned(),
        list: vec![Problem {
            line: 0,
            place: String::new(),
            text,
        }],
    }
}

fn shipped_files(dir: &Dir<'_>) -> BTreeMap<String, String> {
    dir.files()
        .filter_map(|file| {
            let name = file.path().file_name()?.to_str()?.to_owned();
            Some((name, file.contents_utf8()?.to_owned()))
        })
        .collect()
}

/// The directories in `dir` by name, hidden ones left out.
fn directories(dir: &Path) -> std::io::Result<Vec<(String, std::path::PathBuf)>> {
    let mut directories = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && entry.path().is_dir() {
            directories.push((name, entry.path()));
        }
    }
    Ok(directories)
}

fn files(dir: &Path) -> Result<BTreeMap<String, String>, String> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
        let Some(name) = name.filter(|name| !name.starts_with('.') && !name.ends_with('~')) else {
            continue;
        };
        let metadata = path
            .metadata()
            .map_err(|error| format!("{name}: {error}"))?;
        if !metadata.is_file() {
            continue;
        }
        if metadata.len() > LARGEST_FILE {
            return Err(format!(
                "{name} has {} octets; a template has at most {LARGEST_FILE}, large files belong under http.files",
                metadata.len()
            ));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{name}: {error}"))?;
        files.insert(name, text);
    }
    Ok(files)
}
