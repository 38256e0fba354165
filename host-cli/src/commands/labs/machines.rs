//! `bootjack vm create`, `rename` and `delete --forget`: what lab.toml says, changed by a command. The file stays the truth: it is
//! written whole, as its reader accepts it, or not at all.

use std::fs;
use std::path::Path;

use crate::cli::{At, NewMachine};
use crate::client;
use crate::drivers::spec::Firmware;
use crate::exit::{Exit, Failure};
use crate::files::write_whole;
use crate::images::Store;
use crate::lab::open::{self, Opened};
use crate::lab::paths::LabPaths;
use crate::lab::report::Report;
use crate::lab::{plan, provisioner, ssh};
use crate::labfile::edit::{self, Word};
use crate::labfile::{Lab, Machine};
use crate::vm;

/// Writes a machine into the file.
pub fn create(opened: &Opened, at: &At, name: &str, new: &NewMachine) -> Result<(), Failure> {
    let report = super::report(at.format());
    let _lock = super::lock(opened, "vm create", &report)?;
    change(opened, |text, lab| match find(lab, name) {
        Some(_) => Err(exists(name)),
        None => edit::with_machine(text, name, &entries(new)).map_err(|why| refused(opened, &why)),
    })?;
    let file = plan::shown(&opened.file);
    report.done(
        name,
        &format!("written to {file}; bring it up with: bootjack up {name}"),
    );
    Ok(())
}

/// Gives a machine that does not run another name. Its disk, MAC address and host key stay its own.
pub fn rename(opened: &Opened, at: &At, old: &str, new: &str) -> Result<(), Failure> {
    let report = super::report(at.format());
    let _lock = super::lock(opened, "vm rename", &report)?;
    let lab = open::read(&opened.file)?;
    let (from, to) = (opened.paths.vm(old).dir, opened.paths.vm(new).dir);
    match (find(&lab, old), find(&lab, new)) {
        (Some(_), Some(_)) => return Err(exists(new)),
        (Some(machine), None) => {
            stopped(opened, machine)?;
            if to.exists() {
                let text = format!(
                    "there is something of an earlier machine {new}; if it may go: rm -r {}",
                    to.display()
                );
                return Err(Failure::new(Exit::Conflict, text));
            }
            change(opened, |text, _| {
                edit::with_other_name(text, old, new, &machine.mac)
                    .map_err(|why| refused(opened, &why))
            })?;
        }
        // An earlier attempt has got so far.
        (None, Some(_)) if from.exists() && !to.exists() => {}
        (None, _) => return plan::known(&lab, old).map(|_| ()),
    }
    let store = Store::open(&opened.bases.images())?;
    super::runtime()?.block_on(async {
        move_disk_notes(&store, &from, &to).await?;
        move_state(&opened.paths, old, new)?;
        report.done(
            new,
            &format!("was {old}; its disk, MAC address and host key are the same, its UUID is new"),
        );
        tell(opened, &report).await
    })
}

/// Takes machines out of the file, which have nothing left.
pub fn forget(opened: &Opened, names: &[String], report: &Report) -> Result<(), Failure> {
    change(opened, |text, _| {
        let mut text = text.to_owned();
        for name in names {
            text = edit::without_machine(&text, name).map_err(|why| refused(opened, &why))?;
        }
        Ok(text)
    })?;
    let file = plan::shown(&opened.file);
    for name in names {
        report.done(name, &format!("taken out of {file}"));
    }
    super::runtime()?.block_on(tell(opened, report))
}

fn find<'a>(lab: &'a Lab, name: &str) -> Option<&'a Machine> {
    lab.vms.iter().find(|vm| vm.name == name)
}

fn exists(name: &str) -> Failure {
    Failure::new(
        Exit::Conflict,
        format!("there is a machine {name} already; choose another name"),
    )
}

fn refused(opened: &Opened, why: &str) -> Failure {
    let file = plan::shown(&opened.file);
    Failure::new(Exit::Invalid, format!("{file}: {why}"))
}

fn stopped(opened: &Opened, machine: &Machine) -> Result<(), Failure> {
    let name = &machine.name;
    match vm::state(&opened.paths.vm(name), &machine.uuid)?.is_up() {
        false => Ok(()),
        true => {
            let text = format!("{name} runs; stop it first: bootjack vm stop {name}");
            Err(Failure::new(Exit::Conflict, text))
        }
    }
}

fn entries(new: &NewMachine) -> Vec<(&'static str, Word)> {
    let text = |value: &Option<String>| value.clone().map(Word::Text);
    let all = [
        (
            "arch",
            new.arch.map(|arch| Word::Text(arch.as_str().to_owned())),
        ),
        ("firmware", new.firmware.map(firmware)),
        ("cpus", new.cpus.map(|cpus| Word::Number(cpus.into()))),
        ("memory", text(&new.memory)),
        ("disk", text(&new.disk)),
        (
            "boot",
            (!new.boot.is_empty()).then(|| Word::List(new.boot.clone())),
        ),
        ("profile", text(&new.profile)),
        ("image", text(&new.image)),
        ("user_data", text(&new.user_data)),
        ("address", text(&new.address)),
        ("mac", text(&new.mac)),
        ("display", new.display.then_some(Word::Flag(true))),
    ];
    all.into_iter()
        .filter_map(|(key, word)| Some((key, word?)))
        .collect()
}

fn firmware(firmware: Firmware) -> Word {
    Word::Text(match firmware {
        Firmware::Bios => "bios".to_owned(),
        Firmware::Uefi => "uefi".to_owned(),
    })
}

/// Writes the file anew, if the new one has no problem.
fn change(
    opened: &Opened,
    edit: impl FnOnce(&str, &Lab) -> Result<String, Failure>,
) -> Result<(), Failure> {
    let file = &opened.file;
    // Again: somebody may have had the lab while it was waited for.
    let lab = open::read(file)?;
    let text = fs::read_to_string(file).map_err(Failure::io("read", file))?;
    let new = edit(&text, &lab)?;
    open::check(&new, file)?;
    let mode = fs::metadata(file).map_err(Failure::io("look at", file))?;
    write_whole(file, new)?;
    fs::set_permissions(file, mode.permissions()).map_err(Failure::io("change", file))
}

/// The image beneath its disk is told that the disk is elsewhere from now on.
async fn move_disk_notes(store: &Store, from: &Path, to: &Path) -> Result<(), Failure> {
    let disk = from.join("disk.qcow2");
    if !disk.is_file() {
        return Ok(());
    }
    let beneath = crate::disk::chain::read(&disk, Some(crate::images::DiskFormat::Qcow2))?;
    for link in beneath.iter().skip(1) {
        let nothing_more = std::future::ready(Ok(()));
        store
            .using(&link.path, &to.join("disk.qcow2"), nothing_more)
            .await?;
    }
    Ok(())
}

/// What is kept of it; its directory goes last, as the sign that all is done.
fn move_state(paths: &LabPaths, old: &str, new: &str) -> Result<(), Failure> {
    let key = |name: &str| paths.host_key(name);
    let moves = [
        (key(old), key(new)),
        (
            key(old).with_extension("pub"),
            key(new).with_extension("pub"),
        ),
        (paths.vm(old).dir, paths.vm(new).dir),
    ];
    for (from, to) in moves {
        match fs::rename(&from, &to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::io("move", &from)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// bootjackd's reservations follow, if it runs; otherwise at the next `up`.
async fn tell(opened: &Opened, report: &Report) -> Result<(), Failure> {
    let opened = Opened {
        lab: open::read(&opened.file)?,
        ..opened.clone()
    };
    let answers = match provisioner::server(&opened) {
        Ok(server) => client::channel(&server).await.is_ok(),
        Err(_) => false,
    };
    if !answers {
        return Ok(());
    }
    let keys = ssh::keys(&opened).await?;
    super::up::supply(&opened, &keys, report).await
}
