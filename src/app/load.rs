//! The configuration as this machine finds it. In: the file's path. Out: a configuration whose profiles are read and whose
//! directories exist, or every problem at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use thiserror::Error;

use crate::catalog::{Catalog, Change, Settings};
use crate::config::reader::{Problem, Problems};
use crate::config::{self, Backend, Config};
use crate::model::Profile;
use crate::store::profiles;

/// What is wrong with the configuration; nothing was started.
#[derive(Debug, Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct BadConfig(pub Vec<Problems>);

/// A configuration that is sound on this machine, with its profiles.
pub struct Loaded {
    pub config: Config,
    pub catalog: Catalog,
}

/// Reads the file and the profiles it names, and looks whether the directories it names exist.
pub fn load(path: &Path) -> anyhow::Result<Loaded> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned();
    let dir = config::profiles_dir(&text).map(|at| at.value);
    let mut all = Vec::new();
    // Where the directory is missing, which is said below, the shipped ones are there all the same.
    let places = profiles::Places {
        own: Some(config::own_profiles_dir(&config::data_dir(&text))),
        dir: dir.filter(|dir| dir.is_dir()),
    };
    let profiles = profiles::read_all(&places)
        .map_err(|problems| all.extend(problems))
        .ok();
    let (config, mut list) = config::read(&text, profiles.as_ref());
    list.extend(missing_directories(&config));
    list.extend(unreadable_files(&config));
    list.extend(
        profiles
            .as_ref()
            .and_then(|known| unfit_rescue(&config, known)),
    );
    list.sort();
    if !list.is_empty() {
        all.insert(0, Problems { file, list });
    }
    let Some(profiles) = profiles.filter(|_| all.is_empty()) else {
        return Err(BadConfig(all).into());
    };
    let mut catalog = Catalog::new(Settings {
        subnets: config.subnets.clone(),
        profiles,
        options: config.options.clone(),
        classes: config.classes.clone(),
        vars: config.vars.clone(),
        groups: config.groups.clone(),
        install_lease: Some(config.dhcp.install_lease),
        rescue_profile: config.boot.rescue.clone(),
        secrets_dir: config.secrets_dir.clone(),
    });
    for at in &config.reservations {
        // Held against each other while the file was read; this finds nothing new.
        catalog = catalog.with(&Change::Create(at.value.clone()))?;
    }
    Ok(Loaded { config, catalog })
}

/// A rescue that is named must be there, and must not be what it is to rescue from.
fn unfit_rescue(config: &Config, profiles: &BTreeMap<String, Profile>) -> Option<Problem> {
    let (place, name) = ("boot.rescue", &config.boot.rescue);
    let line = *config.lines.get(place)?;
    let text = match profiles.get(name) {
        None => {
            let known: Vec<&str> = profiles.keys().map(String::as_str).collect();
            format!(
                "profile {name} does not exist; known are: {}",
                known.join(", ")
            )
        }
        Some(profile) if profile.install.is_some() => {
            format!("profile {name} installs; a rescue is served on every boot")
        }
        Some(_) => return None,
    };
    Some(Problem {
        line,
        place: place.to_owned(),
        text,
    })
}

/// The files that say who etcd is and who we are to it.
fn unreadable_files(config: &Config) -> Vec<Problem> {
    let Backend::Etcd(etcd) = &config.store.backend else {
        return Vec::new();
    };
    let identity = etcd.identity.as_ref();
    let named = [
        ("store.etcd.ca", etcd.ca.as_ref()),
        (
            "store.etcd.cert",
            identity.map(|(certificate, _)| certificate),
        ),
        ("store.etcd.key", identity.map(|(_, key)| key)),
        (
            "store.etcd.password_file",
            etcd.login.as_ref().map(|(_, file)| file),
        ),
    ];
    (named.into_iter())
        .filter_map(|(place, path)| {
            let (line, path) = (*config.lines.get(place)?, path?);
            let error = std::fs::File::open(path).err()?;
            (!path.as_os_str().is_empty()).then(|| Problem {
                line,
                place: place.to_owned(),
                text: format!("{} cannot be read: {error}", path.display()),
            })
        })
        .collect()
}

fn missing_directories(config: &Config) -> Vec<Problem> {
    let named: [(&'static str, Option<&PathBuf>, &str); 5] = [
        (
            "boot.programs",
            Some(&config.boot.programs),
            "install the package ipxe, or name another directory",
        ),
        (
            "boot.profiles",
            config.boot.profiles.as_ref(),
            "make it, or leave the key out to use the shipped profiles alone",
        ),
        (
            "http.files",
            config.http.files.as_ref(),
            "make it, or leave the key out",
        ),
        (
            "secrets.dir",
            config.secrets_dir.as_ref(),
            "make it, for the service's user alone, or leave the key out",
        ),
        (
            "tftp.root",
            config.tftp.root.as_ref(),
            "make it, or leave the key out",
        ),
    ];
    named
        .into_iter()
        .filter_map(|(place, path, next_step)| {
            let (line, path) = (*config.lines.get(place)?, path?);
            let is_said = path.as_os_str().is_empty();
            (!is_said && !path.is_dir()).then(|| Problem {
                line,
                place: place.to_owned(),
                text: format!("{} is not a directory; {next_step}", path.display()),
            })
        })
        .collect()
}
