//! `bootjack provisioner …`: what bootjackd runs on, and the container that it runs in. The container is told what to do by ssh,
//! through the lab's own configuration for it.

use std::fs::File;

use bootjack_api::v1::GetServerInfoRequest;
use bootjack_api::v1::server_client::ServerClient;
use serde_json::{Value, json};

use super::shell;
use crate::cli::{
    At, ConsoleView, ContainerCommand, DownArgs, Format, GraceArgs, How, LogsArgs,
    ProvisionerCommand, UpArgs,
};
use crate::client;
use crate::exit::{Exit, Failure};
use crate::images::Store;
use crate::lab::open::{self, Opened};
use crate::lab::paths::PROVISIONER;
use crate::lab::provisioner::{self, Provisioner, machine};
use crate::lab::ssh;
use crate::labfile::ProvisionerKind;
use crate::output;
use crate::process;
use crate::provisioner::container::{Archive, Status};
use crate::server::Server;
use crate::vm;
use crate::words::quoted;

/// Does it.
pub fn run(at: At, command: ProvisionerCommand) -> Result<(), Failure> {
    match command {
        ProvisionerCommand::Start { how } => start(at, how),
        ProvisionerCommand::Stop { grace } => stop(at, &grace),
        ProvisionerCommand::Restart { grace, how } => {
            stop(at.clone(), &grace)?;
            start(at, how)
        }
        ProvisionerCommand::Status => status(&at),
        ProvisionerCommand::Logs(logs) => self::logs(&at, &logs),
        ProvisionerCommand::ApiInfo => api_info(&at),
        ProvisionerCommand::Container { command } => container(&at, command),
    }
}

fn start(at: At, how: How) -> Result<(), Failure> {
    super::up::run(&UpArgs {
        at,
        names: vec![PROVISIONER.to_owned()],
        wait: None,
        timeout: std::time::Duration::ZERO,
        console: ConsoleView::None,
        firmware: None,
        profile: None,
        how,
        dry_run: false,
    })
}

fn stop(at: At, grace: &GraceArgs) -> Result<(), Failure> {
    super::down::run(&DownArgs {
        at,
        names: vec![PROVISIONER.to_owned()],
        grace: grace.grace,
        kill: false,
    })
}

fn status(at: &At) -> Result<(), Failure> {
    let opened = open::open(&at.lab)?;
    let told = super::runtime()?.block_on(version(&opened));
    let (answers, said) = match &told {
        Ok(version) => (true, format!("bootjackd {version} answers")),
        Err(failure) => (false, failure.message.clone()),
    };
    let (kind, state, pid) = match opened.lab.provisioner.kind {
        ProvisionerKind::Vm => {
            let state = vm::state(&opened.paths.vm(PROVISIONER), &machine::uuid(&opened))?;
            ("vm", state.word().to_owned(), state.pid())
        }
        ProvisionerKind::Namespace => {
            let word = if answers { "running" } else { "stopped" };
            ("namespace", word.to_owned(), None)
        }
    };
    let address = opened.lab.provisioner.address;
    output::answer(
        at.format(),
        || {
            json!({
                "lab": opened.lab.name,
                "kind": kind,
                "state": state,
                "pid": pid,
                "address": address,
                "ssh_port": provisioner::ssh_port(&opened),
                "answers": answers,
                "version": told.as_ref().ok(),
                "why": told.as_ref().err().map(|failure| failure.message.clone()),
            })
        },
        || format!("provisioner {address} ({kind}): {state}; {said}"),
    )
}

/// Of the bootjackd that answers.
async fn version(opened: &Opened) -> Result<String, Failure> {
    let server = provisioner::server(opened)?;
    let mut api = ServerClient::new(client::channel(&server).await?);
    let answer = api.get_server_info(GetServerInfoRequest {}).await;
    let info = answer.map_err(|status| client::refused(&server, &status))?;
    Ok(info.into_inner().version)
}

/// By the `tail` there is.
fn logs(at: &At, args: &LogsArgs) -> Result<(), Failure> {
    let opened = open::open(&at.lab)?;
    let paths = opened.paths.vm(PROVISIONER);
    let file = match opened.lab.provisioner.kind {
        ProvisionerKind::Vm => paths.console_log(),
        ProvisionerKind::Namespace => opened.paths.provisioner().join("bootjackd.log"),
    };
    if !file.is_file() {
        let text = format!(
            "{} is not there: the provisioner has not run yet",
            file.display()
        );
        return Err(Failure::new(Exit::NotFound, text));
    }
    let mut arguments = vec!["-n".to_owned(), args.lines.to_string()];
    if args.follow {
        arguments.push("-f".to_owned());
    }
    arguments.push(file.display().to_string());
    Err(process::become_program("tail", &arguments))
}

fn api_info(at: &At) -> Result<(), Failure> {
    let opened = open::open(&at.lab)?;
    let server = provisioner::server(&opened)?;
    output::answer(at.format(), || api_json(&server), || flags(&server))
}

fn api_json(server: &Server) -> Value {
    let access = &server.access;
    json!({
        "server": server.to_string(),
        "ca": access.ca,
        "cert": access.cert,
        "key": access.key,
    })
}

/// For any verb of bootjack that talks to a server.
fn flags(server: &Server) -> String {
    let access = &server.access;
    let files = [
        ("--ca", &access.ca),
        ("--cert", &access.cert),
        ("--key", &access.key),
    ];
    let mut words = vec!["--server".to_owned(), quoted(&server.to_string())];
    for (flag, file) in files {
        if let Some(file) = file {
            words.extend([flag.to_owned(), quoted(&file.display().to_string())]);
        }
    }
    words.join(" ")
}

fn container(at: &At, command: ContainerCommand) -> Result<(), Failure> {
    let opened = open::open(&at.lab)?;
    if opened.lab.provisioner.kind == ProvisionerKind::Namespace {
        let text = "the provisioner of this lab is a namespace, where bootjackd runs without a container; for one: [provisioner] kind = \"vm\"";
        return Err(Failure::new(Exit::Conflict, text));
    }
    let config = ssh::write(&opened)?;
    shell::check_reachable(&opened, PROVISIONER)?;
    let there = There {
        config,
        report: super::report(at.format()),
    };
    match command {
        ContainerCommand::Load { archive } => {
            let archive = match archive {
                Some(archive) => Archive::read(&archive)?,
                None => plan(&opened)?.archive,
            };
            there.load(&archive)?;
            there.restart()
        }
        ContainerCommand::Start => there.tell("systemctl start bootjackd", None, "started"),
        ContainerCommand::Stop => there.tell("systemctl stop bootjackd", None, "stopped"),
        ContainerCommand::Status => there.status(at.format()),
        ContainerCommand::Logs(logs) => Err(there.logs(&logs)),
        ContainerCommand::Reload => there.reload(&plan(&opened)?),
    }
}

fn plan(opened: &Opened) -> Result<machine::Plan, Failure> {
    let how = How {
        driver: None,
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
    report: crate::lab::report::Report,
}

impl There {
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

    /// Configuration and image as the lab's file has them.
    fn reload(&self, plan: &machine::Plan) -> Result<(), Failure> {
        let loaded = self.run("cat /var/lib/bootjack-container/digest", None)?;
        if loaded.trim() != plan.archive.sha256 {
            self.load(&plan.archive)?;
        }
        let mut config = tempfile::tempfile().map_err(Failure::io("make", "a file"))?;
        let written = std::io::Write::write_all(&mut config, plan.config().as_bytes())
            .and_then(|()| std::io::Seek::rewind(&mut config));
        written.map_err(Failure::io("write", "a file"))?;
        let put = "cat >/etc/bootjack/bootjackd.toml.new && mv /etc/bootjack/bootjackd.toml.new /etc/bootjack/bootjackd.toml";
        self.tell(put, Some(config), "configured")?;
        self.restart()
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
    use crate::server::{Access, Place};

    #[test]
    fn flags_are_as_one_types_them() {
        let access = Access {
            ca: Some("/my state/ca.pem".into()),
            cert: Some("/s/lab.pem".into()),
            key: Some("/s/lab.key".into()),
            token_file: None,
        };
        let server = Server::new(Place::Tls("127.0.0.1:40055".to_owned()), access).unwrap();
        assert_eq!(
            flags(&server),
            "--server https://127.0.0.1:40055 --ca '/my state/ca.pem' --cert /s/lab.pem --key /s/lab.key"
        );
        assert_eq!(api_json(&server)["server"], "https://127.0.0.1:40055");
    }

    #[test]
    fn commands_go_by_the_labs_own_configuration() {
        let there = There {
            config: "/s/ssh/config".to_owned(),
            report: crate::lab::report::Report::new(true, true),
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
