//! `bootjack`: reservations and machines of a running bootjackd, and the lab around one.
//!
//! In: what was typed. Out: the answer on standard output, progress and errors on standard error, and an exit status
//! (`exit`). It refuses what clap refuses, and never prints a stack of causes: one sentence says what to do next.
//!
//! The lab, in reading order: `commands::lab` ← `plan` (pure) ← `host` (probes), `qemu` (pure argv), `config` (pure text),
//! `paths`; then `network` (the namespace), `process` (the only file that starts programs), `steps` and `console` (pure:
//! log lines and serial bytes to lines for people), `output` (the terminal).

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod auth;
mod cli;
mod client;
mod commands;
mod config;
mod console;
mod container;
mod exit;
mod host;
mod network;
mod output;
mod paths;
mod plan;
mod process;
mod qemu;
mod server;
mod steps;
mod vars;
mod waterfall;
mod yaml;

use std::io::Write as _;
use std::process::ExitCode;

use cli::Command;

fn main() -> ExitCode {
    let cli = cli::parse();
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
        Command::Auth(args) => {
            let format = args.format();
            commands::auth::run(args, format)
        }
        Command::Lab(args) => commands::lab::run(&args),
        Command::Image { command } => commands::image::run(&command),
        Command::Completion { shell } => commands::completion::run(shell),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "bootjack: {failure}");
            failure.exit.into()
        }
    }
}
