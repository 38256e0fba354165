//! `bootjack`: reservations and machines of a running bootjackd, and the lab around one.
//!
//! In: what was typed. Out: the answer on standard output, progress and errors on standard error, and an exit status
//! (`exit`). It refuses what clap refuses, and never prints a stack of causes: one sentence says what to do next.
//!
//! The lab, in reading order: `commands::labs` ← `labfile` (pure text), `lab::plan` (pure) ← `host` (probes), `drivers` (pure
//! command lines); then `switch`, `namespace` (the network), `vm` (what runs, found by facts), `process` (the only file that
//! starts programs), `files` (what is there whole or not at all), `console` (serial octets to lines for people), `output` (the
//! terminal).

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod apply;
mod auth;
mod cli;
mod client;
mod commands;
mod console;
mod container;
mod control;
mod disk;
#[allow(dead_code)]
mod drivers;
mod exit;
mod files;
mod follow;
mod host;
mod images;
mod import;
mod lab;
mod labfile;
mod lines;
mod namespace;
mod network;
mod options;
mod output;
mod process;
mod provisioner;
#[allow(dead_code)]
mod qmp;
mod refusal;
mod seed;
mod server;
mod switch;
mod tree;
mod vars;
mod vm;
mod wanted;
mod waterfall;
mod words;
mod yaml;

use std::io::Write as _;
use std::process::ExitCode;

use cli::Command;

/// Of verbs that talk to nobody.
fn format_of(output: Option<cli::Format>) -> cli::Format {
    output.unwrap_or(cli::Format::Table)
}

fn main() -> ExitCode {
    let mut cli = cli::parse();
    let is_for_programs = cli.format().is_for_programs();
    let done = match cli.command {
        Command::Reservation { api, command } => api
            .server()
            .and_then(|server| commands::reservation::run(command, &server, api.format())),
        Command::Machine { api, command } => api
            .server()
            .and_then(|server| commands::machine::run(command, &server, api.format())),
        Command::Replicas { api, command } => api
            .server()
            .and_then(|server| commands::replicas::run(command, &server, api.format())),
        Command::Wait { api, args } => api
            .server()
            .and_then(|server| commands::wait::run(&args, &server, api.format())),
        Command::Lease { api, command } => api
            .server()
            .and_then(|server| commands::lease::run(command, &server, api.format())),
        Command::Operation { api, command } => api
            .server()
            .and_then(|server| commands::operation::run(command, &server, api.format())),
        Command::Profile { api, command } => api
            .server()
            .and_then(|server| commands::profile::run(command, &server, api.format())),
        Command::Artifact { api, command } => api
            .server()
            .and_then(|server| commands::artifact::run(command, &server, api.format())),
        Command::Server { api, command } => api
            .server()
            .and_then(|server| commands::server::run(command, &server, api.format())),
        Command::Apply { api, args } => api
            .server()
            .and_then(|server| commands::apply::run(&args, &server, api.format())),
        Command::Diff { api, args } => api
            .server()
            .and_then(|server| commands::apply::diff(&args, &server, api.format())),
        Command::Import { api, args } => {
            commands::import::run(&args, || api.server(), api.format())
        }
        Command::Auth(args) => {
            let format = args.format();
            commands::auth::run(args, format)
        }
        Command::Verb(verb) => commands::labs::run(verb),
        Command::Net(args) => commands::net::run(&args),
        Command::Image { output, command } => commands::image::run(command, format_of(output)),
        Command::Disk { output, command } => commands::disk::run(command, format_of(output)),
        Command::Man { dir } => commands::man::run(&dir),
        Command::Version { output } => commands::version::run(format_of(output)),
        Command::Completion { shell } => commands::completion::run(shell),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = match is_for_programs {
                true => writeln!(std::io::stderr(), "{}", failure.as_json()),
                // What differs was shown.
                false if failure.message.is_empty() => Ok(()),
                false => writeln!(std::io::stderr(), "bootjack: {failure}"),
            };
            failure.exit.into()
        }
    }
}
