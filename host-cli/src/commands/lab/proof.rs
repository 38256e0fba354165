//! What proves that a machine did what its reservation says.
//!
//! `ssh` asks the machine itself; `Told` collects what the tiny guest says on its console. Either ends in the end of the
//! sentence `proof: node-1 (198.18.0.10) booted from the network in 71 s; …`, or in why there is none.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::exit::{Exit, Failure};
use crate::plan::Plan;
use crate::process;
use crate::steps::{Step, Tone};

/// How often a port is tried that does not answer yet.
const PAUSE: Duration = Duration::from_millis(300);

/// Logs in with the reservation's key, waits for cloud-init, and compares the host name.
pub async fn ssh(plan: &Plan, tell: impl Fn(Step)) -> Result<String, Failure> {
    let address = SocketAddr::from((plan.machine.address, 22));
    while !greets(address).await {
        sleep(PAUSE).await;
    }
    tell(Step::new(
        "ssh",
        format!("answers on {address}"),
        Tone::Plain,
    ));
    let remote = "cloud-init status --wait 2>/dev/null; hostname";
    let arguments = ssh_arguments(plan, &["-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]);
    let arguments: Vec<String> = arguments.into_iter().chain([remote.to_owned()]).collect();
    let mut told = String::new();
    loop {
        let output = process::ssh(&arguments).await?;
        if output.status.code() != Some(255) {
            return judge(&plan.machine.name, &String::from_utf8_lossy(&output.stdout));
        }
        // sshd may answer before cloud-init has written the key.
        let why = process::last_line(&output.stderr);
        if why != told {
            tell(Step::new("ssh", format!("not yet: {why}"), Tone::Faint));
            told = why;
        }
        sleep(PAUSE).await;
    }
}

/// Arguments that log in to the machine; `options` stand before the destination.
pub fn ssh_arguments(plan: &Plan, options: &[&str]) -> Vec<String> {
    let known_hosts = format!("UserKnownHostsFile={}", plan.paths.known_hosts().display());
    let key = plan.paths.key().display().to_string();
    // `-F none`: in a user namespace the system's own ssh_config seems to belong to nobody, and ssh refuses it.
    let mut arguments = vec!["-F", "none", "-i", &key, "-o", &known_hosts];
    for option in [
        "GlobalKnownHostsFile=/dev/null",
        "StrictHostKeyChecking=accept-new",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "LogLevel=ERROR",
    ] {
        arguments.extend(["-o", option]);
    }
    arguments.extend(options);
    let destination = format!("root@{}", plan.machine.address);
    arguments
        .iter()
        .map(|word| (*word).to_owned())
        .chain([destination])
        .collect()
}

/// Whether an ssh server says hello: a port that opens is not yet one.
async fn greets(address: SocketAddr) -> bool {
    let hello = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let mut greeting = [0; 4];
        stream.read_exact(&mut greeting).await.ok()?;
        Some(greeting == *b"SSH-")
    };
    timeout(Duration::from_secs(5), hello)
        .await
        .is_ok_and(|hello| hello == Some(true))
}

/// What `cloud-init status --wait; hostname` answered: dots while it waited, its status, the name.
fn judge(machine: &str, answer: &str) -> Result<String, Failure> {
    let mut lines = answer
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let status = lines
        .find_map(|line| line.strip_prefix("status: "))
        .unwrap_or("unknown");
    let hostname = lines.next_back().unwrap_or_default();
    if status != "done" {
        let text = format!("ssh to {machine} works, but cloud-init says `status: {status}`");
        return Err(Failure::new(Exit::Vm, text));
    }
    if hostname.split('.').next() != Some(machine) {
        let text = format!("ssh to {machine} works, but it calls itself `{hostname}`");
        return Err(Failure::new(Exit::Vm, text));
    }
    Ok(format!(
        "ssh with the reservation's key works, hostname {machine}, cloud-init done"
    ))
}

/// What the tiny guest says it was given.
#[derive(Debug, Default)]
pub struct Told {
    lines: Vec<String>,
}

impl Told {
    /// Hears one line of the console.
    pub fn hear(&mut self, line: &str) {
        if let Some((_, told)) = line.split_once("bootjack-guest: ") {
            self.lines.push(told.to_owned());
        }
    }

    /// Compares it with the reservation.
    pub fn judge(&self, plan: &Plan) -> Result<String, Failure> {
        let machine = &plan.machine;
        let address = format!("address={} ", machine.address);
        let hostname = |line: &&String| {
            let words = line.strip_prefix("meta-data: local-hostname:");
            words.is_some_and(|name| name.trim().trim_matches('"') == machine.name)
        };
        if !self.lines.iter().any(|line| line.starts_with(&address)) {
            let got = self
                .lines
                .iter()
                .find(|line| line.starts_with("address=") || line.starts_with("no "));
            let got = got.map_or("no lease", String::as_str);
            let text = format!(
                "{} booted, but wanted {address}from DHCP and got: {got}",
                machine.name
            );
            return Err(Failure::new(Exit::Vm, text));
        }
        if !self.lines.iter().any(|line| hostname(&line)) {
            let got = self.lines.iter().find(|line| line.starts_with("meta-data"));
            let got = got.map_or("no meta-data", String::as_str);
            let text = format!(
                "{} booted, but wanted its host name in meta-data and got: {got}",
                machine.name
            );
            return Err(Failure::new(Exit::Vm, text));
        }
        Ok(format!(
            "the tiny guest got its address and its cloud-init documents, hostname {} (no cloud-init and no ssh in it)",
            machine.name
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_needs_cloud_init_and_the_host_name() {
        let proof = judge("node-1", ".....\nstatus: done\nnode-1\n").unwrap();
        assert_eq!(
            proof,
            "ssh with the reservation's key works, hostname node-1, cloud-init done"
        );
        assert!(judge("node-1", "\nstatus: done\nnode-1.lab.internal\n").is_ok());
        for (answer, sentence) in [
            (
                "status: error\nnode-1\n",
                "ssh to node-1 works, but cloud-init says `status: error`",
            ),
            (
                "node-1\n",
                "ssh to node-1 works, but cloud-init says `status: unknown`",
            ),
            (
                "status: done\nlocalhost\n",
                "ssh to node-1 works, but it calls itself `localhost`",
            ),
        ] {
            let failure = judge("node-1", answer).unwrap_err();
            assert_eq!(
                (failure.exit, failure.message.as_str()),
                (Exit::Vm, sentence)
            );
        }
    }
}
