//! `up --wait`: what happens is told as it happens, until every machine is where it is wanted or the time is over.

use std::time::{Duration, Instant};

use crate::cli::{WaitArgs, WaitFor};
use crate::exit::{Exit, Failure};
use crate::lab::open::Opened;
use crate::lab::plan::VmPlan;
use crate::lab::report::Report;
use crate::lab::targets;
use crate::lab::wait::Until;
use crate::lab::{provisioner, ssh};
use crate::process;

/// How long until what was not so is looked at again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Waits for all of them.
pub async fn all(
    opened: &Opened,
    vms: &[VmPlan],
    until: &Until,
    timeout: Duration,
    report: &Report,
) -> Result<(), Failure> {
    let started = Instant::now();
    let config = ssh::write(opened)?;
    for vm in vms {
        let name = &vm.vm.name;
        report.waiting(&format!("until {name} {}", until.sentence()));
        let left = timeout.saturating_sub(started.elapsed());
        let waited = tokio::time::timeout(left, one(opened, vm, until, &config, left));
        let text = || {
            format!(
                "{name} does not come so far that it {} within {} s; look at: bootjack vm logs {name}, bootjack machine show {name}",
                until.sentence(),
                timeout.as_secs()
            )
        };
        waited
            .await
            .map_err(|_| Failure::new(Exit::Timeout, text()))??;
        report.done(name, &until.sentence());
    }
    Ok(())
}

async fn one(
    opened: &Opened,
    vm: &VmPlan,
    until: &Until,
    config: &str,
    left: Duration,
) -> Result<(), Failure> {
    let name = &vm.vm.name;
    match until {
        Until::Ssh => ssh(vm, config, "true").await,
        Until::CloudInit => {
            ssh(vm, config, "true").await?;
            ssh(vm, config, "cloud-init status --wait >/dev/null").await
        }
        Until::Installed => {
            let installs = opened.lab.vms.iter().find(|vm| &vm.name == name);
            let state = match installs.is_some_and(|vm| vm.disk.is_some()) {
                true => WaitFor::Installed,
                false => WaitFor::Ready,
            };
            let args = WaitArgs {
                name: name.clone(),
                state,
                timeout: left,
            };
            crate::commands::wait::until(&args, &provisioner::server(opened)?)
                .await
                .map(drop)
        }
        Until::Console(pattern) => loop {
            // Looked at first: what it says last, it has said when it is off.
            let runs = still_runs(vm);
            if pattern.is_match(&targets::console_since_power_on(&vm.paths)) {
                return Ok(());
            }
            runs?;
            tokio::time::sleep(AGAIN_AFTER).await;
        },
    }
}

/// Until this command succeeds there. What keeps failing is not forever: the machine has to run.
async fn ssh(vm: &VmPlan, config: &str, command: &str) -> Result<(), Failure> {
    let arguments = [
        "-F",
        config,
        "-o",
        "BatchMode=yes",
        "--",
        &vm.vm.name,
        command,
    ];
    let arguments = arguments.map(str::to_owned);
    loop {
        if process::ssh(&arguments).await?.status.success() {
            return Ok(());
        }
        still_runs(vm)?;
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

fn still_runs(vm: &VmPlan) -> Result<(), Failure> {
    match crate::vm::state(&vm.paths, &vm.vm.uuid)?.is_up() {
        true => Ok(()),
        false => {
            let text = format!(
                "{0} has powered itself off; its last words: {1}; all of them: bootjack vm logs {0}",
                vm.vm.name,
                process::last_lines(&vm.paths.console_log(), 0, 2)
            );
            Err(Failure::new(Exit::Vm, text))
        }
    }
}
