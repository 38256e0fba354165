//! `bootjack down` and `bootjack destroy`: the way back. Machines first, their provisioner, the switch.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

use crate::cli::{DestroyArgs, DownArgs};
use crate::exit::{Exit, Failure};
use crate::lab::open::{self, Opened};
use crate::lab::paths::{PROVISIONER, id};
use crate::lab::report::Report;
use crate::lab::{plan, provisioner, switch};
use crate::labfile::derived_uuid;
use crate::vm::{self, Stopped};

/// How long a guest of a lab that is to be deleted may take.
const NO_GRACE: Option<Duration> = None;

/// Shuts machines down.
pub fn run(args: &DownArgs) -> Result<(), Failure> {
    let opened = open::open(&args.at.lab)?;
    for name in &args.names {
        plan::known(&opened.lab, name)?;
    }
    let report = super::report(args.at.format());
    let _lock = super::lock(&opened, "down", &report)?;
    let grace = (!args.kill).then_some(args.grace);
    stop(&opened, &args.names, grace, &report)
}

/// Shuts machines down and deletes what they have.
pub fn destroy(args: &DestroyArgs) -> Result<(), Failure> {
    let opened = open::open(&args.at.lab)?;
    for name in &args.names {
        plan::known(&opened.lab, name)?;
    }
    let what = match args.names.as_slice() {
        [] => format!("lab {}", opened.lab.name),
        names => names.join(", "),
    };
    if !args.yes && !args.keep_disks {
        confirm(&what)?;
    }
    let report = super::report(args.at.format());
    let _lock = super::lock(&opened, "destroy", &report)?;
    stop(&opened, &args.names, NO_GRACE, &report)?;
    match args.names.as_slice() {
        [] if args.keep_disks => forget_all_but_disks(&opened)?,
        [] => {
            // The lock is in it: whoever waits for it then finds a lab that is not there.
            remove(opened.paths.run())?;
            remove(opened.paths.state())?;
        }
        names => {
            for name in names {
                let dir = opened.paths.vm(name).dir;
                match args.keep_disks {
                    true => forget_but_disks(&dir)?,
                    false => remove(&dir)?,
                }
            }
        }
    }
    report.done("lab", &format!("deleted what there was of {what}"));
    Ok(())
}

fn confirm(what: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        let text = format!("this deletes the disks of {what}; if that is meant, add --yes");
        return Err(Failure::new(Exit::Usage, text));
    }
    eprint!("This deletes the disks of {what}. Go on? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let _ = std::io::stdin().read_line(&mut answer);
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::new(Exit::Failed, "nothing was deleted")),
    }
}

/// Stops these machines, or all there are, with those that lab.toml has forgotten, and then what they needed.
pub(super) fn stop(
    opened: &Opened,
    names: &[String],
    grace: Option<Duration>,
    report: &Report,
) -> Result<(), Failure> {
    let is_wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let mut failures = Vec::new();
    for (name, uuid) in machines(opened) {
        if name == PROVISIONER || !is_wanted(&name) {
            continue;
        }
        report.waiting(&format!("{name} shuts down"));
        match vm::stop(&name, &opened.paths.vm(&name), &uuid, grace) {
            Ok(how) => say(report, &name, how),
            Err(failure) => failures.push(failure),
        }
    }
    if is_wanted(PROVISIONER) {
        report.waiting("the provisioner shuts down");
        match provisioner::down(opened, grace) {
            Ok(how) => say(report, PROVISIONER, how),
            Err(failure) => failures.push(failure),
        }
    }
    if names.is_empty() && failures.is_empty() {
        if switch::down(opened)? {
            report.done("switch", "ended");
        }
        clear_sockets(opened)?;
    }
    Failure::of_many(failures)
}

fn say(report: &Report, name: &str, how: Stopped) {
    match how {
        Stopped::Already => report.note(name, "did not run"),
        Stopped::ByGuest => report.done(name, "shut down"),
        Stopped::ByQuit => report.done(name, "powered off"),
        Stopped::ByKill => report.done(name, "killed: it did not answer"),
    }
}

/// Every machine that the file has, and every one that has a directory: names and UUIDs.
fn machines(opened: &Opened) -> Vec<(String, String)> {
    let mut names: Vec<String> = opened.lab.vms.iter().map(|vm| vm.name.clone()).collect();
    let directories = std::fs::read_dir(opened.paths.vms());
    for entry in directories.into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let uuid = |name: &str| derived_uuid(&opened.lab.name, name);
    names
        .into_iter()
        .map(|name| (name.clone(), uuid(&name)))
        .collect()
}

/// QEMU leaves its datagram sockets behind.
fn clear_sockets(opened: &Opened) -> Result<(), Failure> {
    for (name, _) in machines(opened)
        .into_iter()
        .chain([(PROVISIONER.to_owned(), String::new())])
    {
        let id = id(&name);
        for file in [
            format!("v-{id}"),
            format!("{id}.qmp"),
            format!("{id}.con"),
            format!("{id}.pid"),
            format!("{id}.ctl"),
        ] {
            let _ = std::fs::remove_file(opened.paths.run().join(file));
        }
    }
    Ok(())
}

fn forget_all_but_disks(opened: &Opened) -> Result<(), Failure> {
    for entry in std::fs::read_dir(opened.paths.vms())
        .into_iter()
        .flatten()
        .flatten()
    {
        forget_but_disks(&entry.path())?;
    }
    forget_but_disks(&opened.paths.provisioner())
}

fn forget_but_disks(dir: &Path) -> Result<(), Failure> {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_disk = path
            .extension()
            .is_some_and(|ext| ext == "qcow2" || ext == "raw");
        if !is_disk && path.is_file() {
            std::fs::remove_file(&path).map_err(Failure::io("remove", &path))?;
        }
    }
    Ok(())
}

fn remove(dir: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::io("remove", dir)(error))
        }
        _ => Ok(()),
    }
}
