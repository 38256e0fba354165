//! `bootjack provisioner …`: what bootjackd runs on; the container that it runs in is `container`'s.

use bootjack_api::v1::GetServerInfoRequest;
use bootjack_api::v1::server_client::ServerClient;
use serde_json::{Value, json};

use crate::cli::{
    At, ConsoleView, ContainerCommand, DownArgs, GraceArgs, How, LogsArgs, ProvisionerCommand,
    UpArgs,
};
use crate::client;
use crate::exit::{Exit, Failure};
use crate::lab::open::{self, Opened};
use crate::lab::paths::PROVISIONER;
use crate::lab::provisioner::{self, machine};
use crate::labfile::ProvisionerKind;
use crate::namespace::control::Client;
use crate::output;
use crate::process;
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
        ProvisionerCommand::Reload { how } => reload(at, how),
        ProvisionerCommand::Status => status(&at),
        ProvisionerCommand::Logs(logs) => self::logs(&at, &logs),
        ProvisionerCommand::ApiInfo => api_info(&at),
        ProvisionerCommand::Container { command } => super::container::run(&at, command),
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

fn reload(at: At, how: How) -> Result<(), Failure> {
    let opened = open::open(&at.lab)?;
    match opened.lab.provisioner.kind {
        ProvisionerKind::Vm => super::container::run(&at, ContainerCommand::Reload),
        // What its machines have open to it does not outlive it; they ask again.
        ProvisionerKind::Namespace => {
            let stop_at = at.clone();
            let grace = std::time::Duration::ZERO;
            stop(stop_at, &GraceArgs { grace })?;
            start(at, how)
        }
    }
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
            let status = Client::connect(opened.paths.run()).and_then(|mut client| client.status());
            let word = if status.is_ok() { "running" } else { "stopped" };
            let pid = status
                .ok()
                .and_then(|status| i32::try_from(status.bootjackd).ok());
            ("namespace", word.to_owned(), pid)
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
}
