//! `bootjack shell`, `exec`, `cp`, `ssh-config`: the ssh there is, with the lab's own configuration.

use crate::cli::At;
use crate::exit::{Exit, Failure};
use crate::lab::open::{self, Opened};
use crate::lab::{plan, provisioner, ssh};
use crate::output;
use crate::process;

/// Logs in, or runs a command; ends as ssh does.
pub fn run(at: &At, name: &str, command: &[String]) -> Result<(), Failure> {
    let opened = open::open(&at.lab)?;
    plan::known(&opened.lab, name)?;
    check_reachable(&opened, name)?;
    let mut arguments = vec!["-F".to_owned(), ssh::write(&opened)?];
    arguments.extend(["--".to_owned(), name.to_owned()]);
    // ssh hands the words on as one line for a shell there; quoted, they arrive as they were typed here.
    arguments.extend(command.iter().map(|word| crate::words::quoted(word)));
    Err(process::become_program("ssh", &arguments))
}

/// Copies files.
pub fn copy(at: &At, recursive: bool, paths: &[String]) -> Result<(), Failure> {
    let opened = open::open(&at.lab)?;
    let mut is_remote = false;
    for path in paths {
        if let Some((name, _)) = path.split_once(':')
            && !name.contains('/')
        {
            plan::known(&opened.lab, name)?;
            check_reachable(&opened, name)?;
            is_remote = true;
        }
    }
    if !is_remote {
        let text = "none of these is a machine's; write NAME:PATH for one that is";
        return Err(Failure::new(Exit::Usage, text));
    }
    let mut arguments = vec!["-F".to_owned(), ssh::write(&opened)?];
    if recursive {
        arguments.push("-r".to_owned());
    }
    arguments.push("--".to_owned());
    arguments.extend(paths.iter().cloned());
    Err(process::become_program("scp", &arguments))
}

/// Prints the configuration.
pub fn config(at: &At) -> Result<(), Failure> {
    let opened = open::open(&at.lab)?;
    let file = ssh::write(&opened)?;
    let text = std::fs::read_to_string(&file).map_err(Failure::io("read", &file))?;
    output::answer(
        at.format(),
        || serde_json::json!({ "file": file, "config": text }),
        || text.trim_end().to_owned(),
    )
}

/// A namespace has no ssh, and nobody can be reached through a provisioner that is not there.
pub fn check_reachable(opened: &Opened, name: &str) -> Result<(), Failure> {
    use crate::labfile::ProvisionerKind;
    if let Some(vm) = opened.lab.vms.iter().find(|vm| vm.name == name)
        && !crate::vm::state(&opened.paths.vm(name), &vm.uuid)?.is_up()
    {
        let text = format!("{name} does not run; start it with: bootjack up {name}");
        return Err(Failure::new(Exit::Conflict, text));
    }
    let is_namespace = opened.lab.provisioner.kind == ProvisionerKind::Namespace;
    if is_namespace && name == crate::lab::paths::PROVISIONER {
        let text = "the provisioner of this lab is a namespace and no machine; there is nothing to log in to";
        return Err(Failure::new(Exit::Conflict, text));
    }
    let is_there = match is_namespace {
        true => provisioner::server(opened).is_ok(),
        false => provisioner::ssh_port(opened).is_some(),
    };
    if !is_there {
        let text = "the provisioner does not run, and machines are reached through it; bring it up: bootjack up";
        return Err(Failure::new(Exit::Conflict, text));
    }
    Ok(())
}
