//! `bootjack provisioner container …`: the container that bootjackd runs in. It is told what to do by ssh, through the lab's own
//! configuration for it. An image that does not run is replaced by the one before; one that does is kept for later starts.

use std::fs::File;
use std::path::Path;

use super::shell;
use crate::cli::{At, ContainerCommand, Format, How, LogsArgs};
use crate::exit::{Exit, Failure};
use crate::images::Store;
use crate::lab::open::{self, Opened};
use crate::lab::paths::PROVISIONER;
use crate::lab::provisioner::{self, Provisioner, machine};
use crate::lab::report::Report;
use crate::lab::{ssh, targets};
use crate::labfile::ProvisionerKind;
use crate::output;
use crate::process;
use crate::provisioner::by_hand::ByHand;
use crate::provisioner::container::{Archive, Status};
use crate::vm;

/// Does it.
pub fn run(at: &At, command: ContainerCommand) -> Result<(), Failure> {
    let opened = open::open(&at.lab)?;
    if opened.lab.provisioner.kind == ProvisionerKind::Namespace {
        let text = "the provisioner of this lab is a namespace, where bootjackd runs without a container; see: bootjack provisioner status, logs and reload";
        return Err(Failure::new(Exit::Conflict, text));
    }
    let config = ssh::write(&opened)?;
    shell::check_reachable(&opened, PROVISIONER)?;
    let there = There {
        config,
        report: super::report(at.format()),
    };
    match command {
        ContainerCommand::Load { archive } => load(&opened, &there, archive.as_deref()),
        ContainerCommand::Start => there.tell("systemctl start bootjackd", None, "started"),
        ContainerCommand::Stop => there.tell("systemctl stop bootjackd", None, "stopped"),
        ContainerCommand::Status => there.status(at.format()),
        ContainerCommand::Logs(logs) => Err(there.logs(&logs)),
        ContainerCommand::Reload => reload(&opened, &there),
    }
}

/// Another image: this one, or without it the lab file's.
fn load(opened: &Opened, there: &There, named: Option<&Path>) -> Result<(), Failure> {
    let _lock = super::lock(opened, "provisioner container load", &there.report)?;
    let before = plan(opened)?;
    let archive = match named {
        Some(archive) => Archive::read(archive)?,
        None => machine::lab_archive(opened, before.vm.vm.arch)?,
    };
    there.replace(&archive, &before.archive)?;
    keep(opened, &before, named.map(|_| &archive))
}

/// Configuration and image as the lab's file has them.
fn reload(opened: &Opened, there: &There) -> Result<(), Failure> {
    let _lock = super::lock(opened, "provisioner container reload", &there.report)?;
    let before = plan(opened)?;
    there.configure(before.config())?;
    let archive = machine::lab_archive(opened, before.vm.vm.arch)?;
    let loaded = there.run("cat /var/lib/bootjack-container/digest", None)?;
    match loaded.trim() == archive.sha256 {
        true => there.restart()?,
        false => there.replace(&archive, &before.archive)?,
    }
    keep(opened, &before, None)
}

/// Has later starts take this one, or the lab file's. The machine that runs has it already.
fn keep(opened: &Opened, before: &machine::Plan, by_hand: Option<&Archive>) -> Result<(), Failure> {
    let is_as_planned = targets::is_as_started(&before.vm);
    let kept = ByHand::of(&opened.paths.vm(PROVISIONER));
    match by_hand {
        Some(archive) => kept.keep(archive)?,
        None => kept.forget()?,
    }
    match is_as_planned {
        true => targets::note_change(&plan(opened)?.vm),
        false => Ok(()),
    }
}

/// As it would be started by what runs it now.
fn plan(opened: &Opened) -> Result<machine::Plan, Failure> {
    let how = How {
        driver: vm::control::driver(&opened.paths.vm(PROVISIONER)),
        bootjackd: None,
    };
    let store = Store::open(&opened.bases.images())?;
    let facts = super::runtime()?.block_on(super::facts::look(opened, &store, &how))?;
    match provisioner::plan(opened, &facts, &store, &how)? {
        Provisioner::Machine(plan) => Ok(*plan),
        Provisioner::Namespace(_) => Err(Failure::new(Exit::Conflict, "it is no machine")),
    }
}

/// The machine, as it is reached.
struct There {
    /// File for `ssh -F`.
    config: String,
    report: Report,
}

impl There {
    /// Has bootjackd run from this image; if that does not work, from the one before.
    fn replace(&self, archive: &Archive, before: &Archive) -> Result<(), Failure> {
        self.load(archive)?;
        let Err(failure) = self.restart() else {
            return Ok(());
        };
        if archive.sha256 == before.sha256 {
            return Err(failure);
        }
        let why = self.last_words();
        let back = self.load(before).and_then(|()| self.restart());
        let now = match back {
            Ok(()) => "the one before runs again".to_owned(),
            Err(error) => format!("the one before, {}: {error}", before.path.display()),
        };
        let text = format!(
            "{}: bootjackd does not start from this image ({why}); {now}",
            archive.path.display()
        );
        Err(Failure::new(Exit::Failed, text))
    }

    fn load(&self, archive: &Archive) -> Result<(), Failure> {
        let file = File::open(&archive.path).map_err(Failure::io("read", &archive.path))?;
        let shown = archive.path.display();
        self.report.waiting(&format!("{shown} is loaded"));
        self.run("/usr/lib/bootjack/load -", Some(file))?;
        self.report.done("container", &format!("loaded {shown}"));
        Ok(())
    }

    fn restart(&self) -> Result<(), Failure> {
        self.report.waiting("bootjackd starts");
        self.tell("systemctl restart bootjackd", None, "started")
    }

    fn configure(&self, config: &str) -> Result<(), Failure> {
        let mut file = tempfile::tempfile().map_err(Failure::io("make", "a file"))?;
        let written = std::io::Write::write_all(&mut file, config.as_bytes())
            .and_then(|()| std::io::Seek::rewind(&mut file));
        written.map_err(Failure::io("write", "a file"))?;
        let put = "cat >/etc/bootjack/bootjackd.toml.new && mv /etc/bootjack/bootjackd.toml.new /etc/bootjack/bootjackd.toml";
        self.tell(put, Some(file), "configured")
    }

    fn status(&self, format: Format) -> Result<(), Failure> {
        let status = Status::of(&self.run("/usr/lib/bootjack/status", None)?);
        output::answer(format, || status.as_json(), || status.in_words())
    }

    fn logs(&self, args: &LogsArgs) -> Failure {
        let follow = if args.follow { " -f" } else { "" };
        let lines = args.lines;
        let command = format!("journalctl --no-pager -o cat -u bootjackd -n {lines}{follow}");
        self.report.still();
        process::become_program("ssh", &self.arguments(&command))
    }

    /// What bootjackd, or podman for it, said last that was an error.
    fn last_words(&self) -> String {
        let command = "journalctl --no-pager -o cat -u bootjackd -n 40 | grep -i error | tail -n 1";
        let words = self.run(command, None).unwrap_or_default();
        match words.trim() {
            "" => "see: bootjack provisioner container logs".to_owned(),
            words => words.to_owned(),
        }
    }

    fn tell(&self, command: &str, input: Option<File>, done: &str) -> Result<(), Failure> {
        self.run(command, input)?;
        self.report.done("container", done);
        Ok(())
    }

    /// Runs a command there; its complaint is ours.
    fn run(&self, command: &str, input: Option<File>) -> Result<String, Failure> {
        let arguments = self.arguments(command);
        let output = super::runtime()?.block_on(process::ssh_with(&arguments, input))?;
        self.report.still();
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let why = process::last_line(&output.stderr);
        let text =
            format!("the provisioner: {command}: {why}; see: bootjack provisioner container logs");
        Err(Failure::new(Exit::Failed, text))
    }

    fn arguments(&self, command: &str) -> Vec<String> {
        let words = ["-F", &self.config, "--", PROVISIONER, command];
        words.map(str::to_owned).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_go_by_the_labs_own_configuration() {
        let there = There {
            config: "/s/ssh/config".to_owned(),
            report: Report::new(true, true),
        };
        assert_eq!(
            there.arguments("systemctl start bootjackd"),
            [
                "-F",
                "/s/ssh/config",
                "--",
                "provisioner",
                "systemctl start bootjackd"
            ]
        );
    }
}
