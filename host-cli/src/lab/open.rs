//! A lab is found, read and locked. In: what was typed. Out: the lab of the nearest `lab.toml`, and where its things are.
//! It refuses a file with problems, all of them said, and a lab whose name belongs to another file.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::paths::{Bases, LabPaths};
use crate::exit::{Detail, Exit, Failure};
use crate::files;
use crate::labfile::{self, Lab};

/// Which lab.
#[derive(Clone, Debug, Default, Args)]
pub struct LabRef {
    /// The lab's file; without it lab.toml of this directory, or of the nearest above [env: BOOTJACK_LAB]
    #[arg(long = "lab", short = 'f', value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// A lab whose file was read.
#[derive(Clone, Debug)]
pub struct Opened {
    pub lab: Lab,
    pub file: PathBuf,
    pub paths: LabPaths,
    pub bases: Bases,
}

/// The lab is this process's to change, until this is dropped.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code)] File);

/// Name of a lab file.
pub const FILE_NAME: &str = "lab.toml";

/// Finds and reads the lab.
pub fn open(wanted: &LabRef) -> Result<Opened, Failure> {
    let file = find(wanted)?;
    let lab = read(&file)?;
    let bases = Bases::of_environment();
    let paths = bases.lab(&lab.name);
    let opened = Opened {
        lab,
        file,
        paths,
        bases,
    };
    opened.check_owner()?;
    Ok(opened)
}

/// Reads a lab file.
pub fn read(file: &Path) -> Result<Lab, Failure> {
    let text = fs::read_to_string(file).map_err(Failure::io("read", file))?;
    check(&text, file)
}

/// The lab that this text would be in this file.
pub fn check(text: &str, file: &Path) -> Result<Lab, Failure> {
    let directory = file.parent().unwrap_or(Path::new("/"));
    labfile::read(text, directory).map_err(|problems| faulty(file, &problems))
}

fn find(wanted: &LabRef) -> Result<PathBuf, Failure> {
    let here = std::env::current_dir().map_err(Failure::io("look at", "this directory"))?;
    let named = std::env::var_os("BOOTJACK_LAB").filter(|value| !value.is_empty());
    if let Some(file) = wanted.file.clone().or(named.map(PathBuf::from)) {
        let file = here.join(file);
        let file = if file.is_dir() {
            file.join(FILE_NAME)
        } else {
            file
        };
        return file.canonicalize().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                let text = format!(
                    "there is no lab file {}; make one with: bootjack init",
                    file.display()
                );
                Failure::new(Exit::NotFound, text)
            }
            _ => Failure::io("read", &file)(error),
        });
    }
    let found = here
        .ancestors()
        .map(|dir| dir.join(FILE_NAME))
        .find(|file| file.is_file());
    found.ok_or_else(|| {
        let text = format!(
            "there is no {FILE_NAME} in {} or above; make one with: bootjack init",
            here.display()
        );
        Failure::new(Exit::NotFound, text)
    })
}

fn faulty(file: &Path, problems: &[labfile::Problem]) -> Failure {
    let name = super::plan::shown(file);
    let count = match problems.len() {
        1 => "1 problem".to_owned(),
        n => format!("{n} problems"),
    };
    let lines: Vec<String> = problems
        .iter()
        .map(|problem| match problem.place.as_str() {
            "" => format!("{name}:{}: {}", problem.line, problem.message),
            place => format!("{name}:{}: {place}: {}", problem.line, problem.message),
        })
        .collect();
    let details = problems.iter().map(|problem| Detail {
        field: format!("{name}:{}: {}", problem.line, problem.place),
        message: problem.message.clone(),
        resource: String::new(),
    });
    Failure {
        details: details.collect(),
        ..Failure::new(
            Exit::Invalid,
            format!("{name} has {count}\n  {}", lines.join("\n  ")),
        )
    }
}

impl Opened {
    /// A lab's name is its directory's: two files of one name would share it.
    fn check_owner(&self) -> Result<(), Failure> {
        let Some(owner) = self.owner() else {
            return Ok(());
        };
        let is_gone = || !read(&owner).is_ok_and(|other| other.name == self.lab.name);
        if owner == self.file || is_gone() {
            return Ok(());
        }
        let text = format!(
            "lab {} is that of {}; give the one of {} another name ([lab] name)",
            self.lab.name,
            owner.display(),
            self.file.display()
        );
        Err(Failure::new(Exit::Conflict, text))
    }

    /// The file that the lab was last brought up from.
    fn owner(&self) -> Option<PathBuf> {
        let text = fs::read_to_string(self.paths.record()).ok()?;
        let record: Value = serde_json::from_str(&text).ok()?;
        Some(PathBuf::from(record["file"].as_str()?))
    }

    /// Makes the lab's directories, takes the lock, and notes whose they are. Who has it is waited for; `waiting` is told once.
    pub fn lock(&self, command: &str, waiting: impl FnOnce(&str)) -> Result<Lock, Failure> {
        for dir in [self.paths.state(), self.paths.run()] {
            make_private(dir)?;
        }
        check_private(self.paths.run())?;
        let file = self.paths.lock();
        let mut options = File::options();
        let opened = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&file);
        let mut lock = opened.map_err(Failure::io("write", &file))?;
        if flock(&lock, libc::LOCK_EX | libc::LOCK_NB).is_err() {
            let mut holder = String::new();
            let _ = lock.read_to_string(&mut holder);
            waiting(holder.trim());
            flock(&lock, libc::LOCK_EX).map_err(Failure::io("lock", &file))?;
        }
        let text = format!("bootjack {command} (pid {})\n", std::process::id());
        let written = lock
            .set_len(0)
            .and_then(|()| std::io::Seek::rewind(&mut lock))
            .and_then(|()| lock.write_all(text.as_bytes()));
        written.map_err(Failure::io("write", &file))?;
        // While we waited, the lab may have become another file's.
        self.check_owner()?;
        let record = json!({ "version": 1, "file": self.file });
        files::write_whole(&self.paths.record(), format!("{record:#}\n"))?;
        Ok(Lock(lock))
    }
}

fn flock(file: &File, how: libc::c_int) -> std::io::Result<()> {
    loop {
        // SAFETY: the descriptor is open; flock takes no pointers.
        if unsafe { libc::flock(file.as_raw_fd(), how) } == 0 {
            return Ok(());
        }
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// A directory for this user alone.
pub fn make_private(dir: &Path) -> Result<(), Failure> {
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(dir);
    made.map_err(Failure::io("make directory", dir))
}

/// Sockets are as private as their directory: one in /tmp that somebody else has made is not ours.
fn check_private(dir: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::MetadataExt as _;
    // SAFETY: only reads an id of this process.
    let own = unsafe { libc::geteuid() };
    for dir in dir.ancestors().take(2) {
        let metadata = fs::symlink_metadata(dir).map_err(Failure::io("look at", dir))?;
        if metadata.uid() != own || !metadata.is_dir() || metadata.mode() & 0o077 != 0 {
            let text = format!(
                "{} is not a directory of this user alone (mode {:o}, owner {}); remove it, or set XDG_RUNTIME_DIR",
                dir.display(),
                metadata.mode() & 0o7777,
                metadata.uid()
            );
            return Err(Failure::new(Exit::Conflict, text));
        }
    }
    Ok(())
}
