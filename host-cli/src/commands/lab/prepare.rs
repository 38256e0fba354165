//! The lab directory before anything runs: locked, cleaned of the last run, filled with what this one needs.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::config;
use crate::exit::{Exit, Failure};
use crate::plan::{Plan, Proof};
use crate::process;

/// A directory that is this lab's alone as long as this value lives.
pub struct Prepared {
    /// The public key that the reservation gives to the machine.
    pub ssh_key: Option<String>,
    _lock: File,
}

/// Writes the configuration, the profiles, the key and the machine's firmware variables; forgets the last run's data.
pub async fn prepare(plan: &Plan) -> Result<Prepared, Failure> {
    let paths = &plan.paths;
    let root = paths.root();
    claim(root, &paths.lock())?;
    let lock = lock(&paths.lock())?;

    for stale in [paths.data(), paths.machine(&plan.machine.name)] {
        forget(&stale)?;
    }
    for stale in [
        paths.known_hosts(),
        paths.bootjackd_log(),
        paths.socket().to_owned(),
    ] {
        forget(&stale)?;
    }
    for file in [paths.key(), paths.socket().to_owned()] {
        let dir = file.parent().unwrap_or(root);
        make_dir(dir)?;
        let mode = fs::Permissions::from_mode(0o700);
        fs::set_permissions(dir, mode).map_err(Failure::io("protect", dir))?;
    }
    for dir in [
        paths.data(),
        paths.tftp(),
        paths.machine(&plan.machine.name),
    ] {
        make_dir(&dir)?;
    }

    write(&paths.config(), &plan.config)?;
    if plan.sources.profiles.is_none() {
        for (name, text) in config::PROFILES {
            let file = paths.profiles().join(name);
            file.parent().map_or(Ok(()), make_dir)?;
            write(&file, text)?;
        }
    }
    let command_line = format!("#!/bin/sh\nexec {}\n", plan.command_line());
    write(&paths.command_line(&plan.machine.name), &command_line)?;
    if let Some(template) = &plan.vars_template {
        let copy = paths.firmware_vars(&plan.machine.name);
        fs::copy(template, &copy).map_err(Failure::io("copy to", &copy))?;
        // The template may be read-only.
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&copy, mode).map_err(Failure::io("write", &copy))?;
    }
    let ssh_key = match plan.proof {
        Proof::Ssh => Some(key(plan).await?),
        Proof::Console => None,
    };
    Ok(Prepared {
        ssh_key,
        _lock: lock,
    })
}

/// Takes the directory if it is new, empty or a lab's: files of somebody else are never touched.
fn claim(root: &Path, lock: &Path) -> Result<(), Failure> {
    make_dir(root)?;
    let mut entries = fs::read_dir(root).map_err(Failure::io("read", root))?;
    if lock.exists() || entries.next().is_none() {
        return Ok(());
    }
    let text = format!(
        "{} holds files that are not a lab's; name an empty or new directory with --dir",
        root.display()
    );
    Err(Failure::new(Exit::Conflict, text))
}

fn lock(file: &Path) -> Result<File, Failure> {
    let mut options = File::options();
    let opened = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(file);
    let mut lock = opened.map_err(Failure::io("write", file))?;
    // SAFETY: the descriptor is open; flock takes no pointers.
    if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        let mut holder = String::new();
        let _ = lock.read_to_string(&mut holder);
        let text = format!(
            "another lab (pid {}) runs in this directory; end it, or name another one with --dir",
            holder.trim()
        );
        return Err(Failure::new(Exit::Conflict, text));
    }
    let written = lock
        .set_len(0)
        .and_then(|()| writeln!(lock, "{}", std::process::id()));
    written.map_err(Failure::io("write", file))?;
    Ok(lock)
}

/// The lab's key pair, made once.
async fn key(plan: &Plan) -> Result<String, Failure> {
    let (key, public) = (plan.paths.key(), plan.paths.public_key());
    if !key.is_file() || !public.is_file() {
        forget(&key)?;
        process::ssh_keygen(&key).await?;
    }
    let text = fs::read_to_string(&public).map_err(Failure::io("read", &public))?;
    Ok(text.trim().to_owned())
}

fn make_dir(dir: &Path) -> Result<(), Failure> {
    fs::create_dir_all(dir).map_err(Failure::io("make directory", dir))
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    fs::write(file, text).map_err(Failure::io("write", file))
}

fn forget(path: &Path) -> Result<(), Failure> {
    let removed = match path.is_dir() && !path.is_symlink() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_somebody_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("lab.lock");
        claim(dir.path(), &lock).expect("an empty directory is free");
        fs::write(dir.path().join("thesis.txt"), "").unwrap();
        let failure = claim(dir.path(), &lock).unwrap_err();
        assert_eq!(failure.exit, Exit::Conflict);
        assert!(
            failure.message.contains("holds files that are not a lab's"),
            "{failure}"
        );
        fs::write(&lock, "").unwrap();
        claim(dir.path(), &lock).expect("a lab's directory is a lab's");
    }

    #[test]
    fn two_labs_never_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lab.lock");
        let first = lock(&file).unwrap();
        let failure = lock(&file).unwrap_err();
        assert_eq!(failure.exit, Exit::Conflict);
        let pid = format!("another lab (pid {})", std::process::id());
        assert!(failure.message.starts_with(&pid), "{failure}");
        drop(first);
        lock(&file).expect("it is free again");
    }
}
