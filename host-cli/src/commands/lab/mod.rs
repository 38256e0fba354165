//! `bootjack lab`: bootjackd and a machine that boots from it, in a network of their own, to a proof that it worked.
//!
//! Plan (pure), prepare the directory, enter the namespace, then live: what runs is watched until the proof or a failure.

mod live;
mod prepare;
mod proof;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::LabArgs;
use crate::config;
use crate::exit::{Exit, Failure};
use crate::host;
use crate::network::{self, Right};
use crate::output::{self, View};
use crate::plan::{self, Plan};

/// Runs the lab to its end. Steps and console go to standard error, the proof to standard output.
pub fn run(args: &LabArgs) -> Result<(), Failure> {
    let facts = runtime()?.block_on(async {
        let mut stop = Stop::new()?;
        tokio::select! {
            () = stop.requested() => Err(interrupted()),
            facts = host::probe(args.arch, args.firmware, args.accel) => Ok(facts),
        }
    })?;
    let plan = plan::plan(args, &facts, |file| file.exists())?;
    if args.dry_run {
        return dry_run(&plan);
    }
    let view = View::new(args.console);
    view.line(&format!(
        "{} {}",
        view.style().bold("bootjack lab"),
        plan.title()
    ));

    let prepared = runtime()?.block_on(prepare::prepare(&plan))?;
    // No thread may be running by now: the runtimes above are gone, the next one comes after.
    let right = network::enter()?;
    network::make_lan(config::INTERFACE, config::SERVER, config::PREFIX)?;
    let runtime = runtime()?;
    let ended = runtime.block_on(live::run(&plan, &prepared, args.keep, right, view));
    runtime.shutdown_background();
    ended
}

/// The main thread alone: programs are killed with the thread that started them, and namespaces are for processes of one.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(|error| Failure::new(Exit::Failed, error.to_string()))
}

/// SIGINT, SIGTERM and SIGHUP.
struct Stop([Signal; 3]);

impl Stop {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(Exit::Failed, format!("cannot watch for Ctrl-C: {error}"))
            })
        };
        Ok(Self([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    async fn requested(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

fn interrupted() -> Failure {
    Failure::new(Exit::Interrupted, "interrupted")
}

fn dry_run(plan: &Plan) -> Result<(), Failure> {
    let config = plan.shown(&plan.paths.config());
    output::say(&format!("# {config}\n{}\n# {}", plan.config, plan.title()))?;
    output::say(&plan.command_line())
}

/// How to log in to the machine from another terminal: the words of a POSIX shell.
fn login_script(plan: &Plan, right: Right) -> String {
    let own = match right {
        Right::Root => "",
        Right::UserNamespace => " --user --preserve-credentials",
    };
    let pid = std::process::id();
    let arguments = proof::ssh_arguments(plan, &[]);
    let words: Vec<String> = arguments
        .iter()
        .map(|word| crate::qemu::quoted(word))
        .collect();
    format!(
        "#!/bin/sh\n# Logs in to {}, while its lab runs.\nexec nsenter --target {pid}{own} --net ssh {} \"$@\"\n",
        plan.machine.name,
        words.join(" ")
    )
}
