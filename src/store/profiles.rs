//! Profiles from disk, and those that are shipped inside the program. Of two of one name that of the API takes the place of a shipped one,
//! and that of the directory that people edit the place of both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};

use crate::config::reader::{Problem, Problems};
use crate::model::{Profile, ProfileSource};
use crate::render::profile::{self, PROFILE_FILE};

static SHIPPED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/deploy/profiles");

/// A template is text that people write.
pub const LARGEST_FILE: u64 = 1 << 20;

/// Each profile by its name, or what is wrong with it.
pub type Each = BTreeMap<String, Result<Profile, Problems>>;

/// Where profiles lie beside those that are shipped.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Those that were made over the API; it need not be there.
    pub own: Option<PathBuf>,
    /// Those that people edit.
    pub dir: Option<PathBuf>,
}

/// The files of a profile by name.
pub type Files = BTreeMap<String, String>;

/// Reads every profile of `dir`, if given, and the shipped ones that it does not replace. All problems are found at once.
pub fn read(dir: Option<&Path>) -> Result<BTreeMap<String, Profile>, Vec<Problems>> {
    read_all(&Places {
        own: None,
        dir: dir.map(Path::to_owned),
    })
}

/// The same of all places.
pub fn read_all(places: &Places) -> Result<BTreeMap<String, Profile>, Vec<Problems>> {
    let (found, problem) = read_each(places);
    let mut problems: Vec<Problems> = problem.into_iter().collect();
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

/// The same, each on its own; and why a directory itself cannot be read.
pub fn read_each(places: &Places) -> (Each, Option<Problems>) {
    let mut found: Each = SHIPPED
        .dirs()
        .map(|dir| {
            let name = dir.path().display().to_string();
            (name.clone(), parse(&name, &name, shipped_files(dir)))
        })
        .collect();
    let own = places.own.as_deref().filter(|own| own.is_dir());
    let mut problem = None;
    let later = [
        (own, ProfileSource::Api),
        (places.dir.as_deref(), ProfileSource::Directory),
    ];
    for (dir, source) in later {
        let Some(dir) = dir else {
            continue;
        };
        match directories(dir) {
            Ok(directories) => {
                for (name, path) in directories {
                    let place = path.display().to_string();
                    let profile = files(&path)
                        .map_err(|text| unreadable(&place, text))
                        .and_then(|files| parse(&name, &place, files))
                        .map(|profile| Profile { source, ..profile });
                    found.insert(name, profile);
                }
            }
            Err(error) => {
                problem = Some(unreadable(&dir.display().to_string(), error.to_string()));
            }
        }
    }
    (found, problem)
}

/// The files of the profile of this name from this source, as they are now.
pub fn files_of(places: &Places, name: &str, source: ProfileSource) -> Option<Files> {
    let dir = match source {
        ProfileSource::Shipped => return SHIPPED.get_dir(name).map(shipped_files),
        ProfileSource::Api => places.own.as_deref(),
        ProfileSource::Directory => places.dir.as_deref(),
    };
    files(&dir?.join(name)).ok()
}

/// Where else there is one of this name, that this one takes the place of.
pub fn hidden_by(places: &Places, profile: &Profile) -> Option<ProfileSource> {
    let earlier = [ProfileSource::Api, ProfileSource::Shipped];
    (earlier.into_iter())
        .filter(|source| *source < profile.source)
        .find(|source| files_of(places, &profile.name, *source).is_some())
}

/// The shipped profile of this name.
pub fn shipped(name: &str) -> Option<Profile> {
    parse(name, name, shipped_files(SHIPPED.get_dir(name)?)).ok()
}

/// What changes when a profile does: each file's length and time, by its path.
pub type Fingerprint = BTreeMap<std::path::PathBuf, (u64, Option<std::time::SystemTime>)>;

/// The fingerprint of all profiles below `dir`, as far as it can be read.
pub fn fingerprint(dir: &Path) -> Fingerprint {
    let of = |dir: &Path| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter_map(|entry| {
            let metadata = entry.path().metadata().ok()?;
            let stamp = (metadata.len(), metadata.modified().ok());
            Some((entry.path(), metadata.is_dir(), stamp))
        })
    };
    let mut found = Fingerprint::new();
    for (path, is_dir, stamp) in of(dir).collect::<Vec<_>>() {
        if is_dir {
            found.extend(of(&path).map(|(file, _, stamp)| (file, stamp)));
        }
        found.insert(path, stamp);
    }
    found
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
