//! What the service must reach while it runs. In: the configuration. Out: the places, whether whoever we are now can use them, and
//! those that are the service's own given to its user. Only what root made is given away: nothing that somebody put there.

use std::fmt;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, lchown};
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::privileges::may;
use crate::config::{Config, GrpcListen};
use crate::model::{SecretRef, Var};

/// How deep it is looked into directories whose files are read.
const DEEPEST: usize = 4;
/// So many files are looked at: what is true of them is true of the others.
const MOST_LOOKED_AT: usize = 4096;

/// What is needed of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Read, with all that is below it.
    Read,
    /// The service's own: made if it is missing.
    Own,
    /// A file of the service's own.
    OwnFile,
    /// Somebody's directory that a file must be made in.
    Write,
}

/// A place that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What the configuration calls it.
    pub name: &'static str,
    pub path: PathBuf,
    pub need: Need,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.path.display())
    }
}

/// Every place.
pub fn places(config: &Config) -> Vec<Place> {
    let mut places = Vec::new();
    let mut add = |name, path: &Path, need| {
        let path = path.to_owned();
        places.push(Place { name, path, need });
    };
    add("data_dir", &config.data_dir, Need::Own);
    add("artifacts.dir", &config.artifacts_dir(), Need::Own);
    add("boot.programs", &config.boot.programs, Need::Read);
    let read = [
        ("boot.profiles", &config.boot.profiles),
        ("http.files", &config.http.files),
        ("tftp.root", &config.tftp.root),
        ("secrets.dir", &config.secrets_dir),
    ];
    for (name, path) in read {
        if let Some(path) = path {
            add(name, path, Need::Read);
        }
    }
    for listen in &config.grpc.listen {
        if let GrpcListen::Unix(path) = listen
            && let Some(dir) = path.parent()
        {
            let need = match is_for_nothing_else(dir, path) {
                true => Need::Own,
                false => Need::Write,
            };
            add("grpc.listen", dir, need);
        }
    }
    if let Some(auth) = &config.grpc.auth {
        add("grpc.auth", auth, Need::Own);
    }
    if let Some(log) = &config.grpc.audit_log {
        add("grpc.audit_log", log, Need::OwnFile);
    }
    for file in secret_files(config) {
        add("secret_file", &file, Need::Read);
    }
    places
}

/// Whether a directory is not there yet, or has nothing but the socket in it.
fn is_for_nothing_else(dir: &Path, socket: &Path) -> bool {
    match std::fs::read_dir(dir) {
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        Ok(entries) => entries.flatten().all(|entry| entry.path() == socket),
    }
}

fn secret_files(config: &Config) -> Vec<PathBuf> {
    let groups = config.groups.iter().map(|group| &group.vars);
    let reservations = config.reservations.iter().map(|at| &at.value.vars);
    let all = groups.chain(reservations).chain([&config.vars]);
    let secrets = all.flat_map(|vars| vars.values().flat_map(Var::secrets));
    let files = secrets.filter_map(|secret| match secret {
        SecretRef::File(path) => Some(PathBuf::from(path)),
        SecretRef::Env(_) => None,
    });
    files.filter(|path| path.is_absolute()).collect()
}

/// The first place that whoever we are now could not come to, whoever owns it.
pub fn first_unreachable(places: &[Place]) -> Option<&Place> {
    let is_out_of_reach = |place: &&Place| match place.need {
        Need::Read => !can_read(&place.path),
        Need::Write => !may(&place.path, Access::WRITE_OK | Access::EXEC_OK),
        // It is given away with what is around it.
        Need::Own | Need::OwnFile if is_within_own(places, &place.path) => false,
        Need::Own | Need::OwnFile => {
            let mut above = place.path.ancestors().skip(1);
            let there = above.find(|dir| std::fs::symlink_metadata(dir).is_ok());
            // What cannot be looked at is behind a door that is closed.
            above_is_closed(&place.path) || !there.is_some_and(|dir| may(dir, Access::EXEC_OK))
        }
    };
    places.iter().find(is_out_of_reach)
}

/// Whether it is in a directory that is the service's own.
fn is_within_own(places: &[Place], path: &Path) -> bool {
    let mut own = places.iter().filter(|place| place.need == Need::Own);
    own.any(|place| path != place.path && path.starts_with(&place.path))
}

/// Whether a directory above it cannot be entered.
fn above_is_closed(path: &Path) -> bool {
    let error = std::fs::symlink_metadata(path).err();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

/// The first of the service's own places that whoever we are now cannot use.
pub fn first_unusable(places: &[Place]) -> Option<&Place> {
    let all = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    let is_unusable = |place: &&Place| match place.need {
        Need::Own => place.path.exists() && !may(&place.path, all),
        Need::OwnFile => {
            place.path.exists() && !may(&place.path, Access::READ_OK | Access::WRITE_OK)
        }
        Need::Read | Need::Write => false,
    };
    places.iter().find(is_unusable)
}

/// Whether some of the service's own is somebody else's than ours.
pub fn any_of_others(places: &[Place]) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let is_of_others = |place: &Place| {
        let found = std::fs::symlink_metadata(&place.path);
        found.is_ok_and(|found| found.uid() != own)
    };
    (places.iter())
        .filter(|place| matches!(place.need, Need::Own | Need::OwnFile))
        .any(is_of_others)
}

fn can_read(path: &Path) -> bool {
    let mut left = MOST_LOOKED_AT;
    can_read_below(path, DEEPEST, &mut left)
}

fn can_read_below(path: &Path, depth: usize, left: &mut usize) -> bool {
    let Ok(found) = std::fs::metadata(path) else {
        // What is not there is missed elsewhere; what cannot be looked at is out of reach.
        return !above_is_closed(path);
    };
    *left = left.saturating_sub(1);
    if !found.is_dir() {
        return may(path, Access::READ_OK);
    }
    if !may(path, Access::READ_OK | Access::EXEC_OK) {
        return false;
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    for entry in entries {
        if depth == 0 || *left == 0 {
            break;
        }
        if !can_read_below(&entry.path(), depth - 1, left) {
            return false;
        }
    }
    true
}

/// Makes the service's own directories, and gives them to its user with what root made in them.
pub fn hand_over(places: &[Place], uid: u32, gid: u32) {
    for place in places {
        match place.need {
            Need::Own => {
                // What cannot be made is said by whoever needs it.
                let _ = (std::fs::DirBuilder::new().recursive(true))
                    .mode(0o700)
                    .create(&place.path);
                give(&place.path, uid, gid);
            }
            Need::OwnFile => give(&place.path, uid, gid),
            Need::Read | Need::Write => {}
        }
    }
}

/// Gives to the owner of a directory what root made in it.
pub fn to_its_owner(dir: &Path) {
    if let Ok(found) = std::fs::symlink_metadata(dir)
        && found.uid() != 0
    {
        give(dir, found.uid(), found.gid());
    }
}

/// No link is followed, and a file with several names is left alone: one of them may be somebody else's.
fn give(path: &Path, uid: u32, gid: u32) {
    let Ok(found) = std::fs::symlink_metadata(path) else {
        return;
    };
    let own = rustix::process::geteuid().as_raw();
    let is_ours = found.uid() == own || found.uid() == 0 || uid == 0;
    let is_one = found.is_dir() || found.nlink() == 1;
    if is_ours && is_one && (found.uid(), found.gid()) != (uid, gid) && !found.is_symlink() {
        let _ = lchown(path, Some(uid), Some(gid));
    }
    if found.is_dir() {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            give(&entry.path(), uid, gid);
        }
    }
}
