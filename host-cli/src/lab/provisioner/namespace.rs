//! bootjackd in a network namespace: no machine at all, for quick work on Linux.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::cli::How;
use crate::client::{self, Server};
use crate::exit::{Exit, Failure};
use crate::files::write_whole;
use crate::lab::open::{Opened, make_private};
use crate::lab::report::Report;
use crate::lab::{service, switch};
use crate::namespace::control::Client;
use crate::process;
use crate::vm::Stopped;

/// From its start to its last listener.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(25);
const LAST_WORDS: usize = 3;

/// What is to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Text of bootjackd.toml.
    config: String,
    config_file: PathBuf,
    log: PathBuf,
    arguments: Vec<String>,
}

impl Plan {
    pub fn shown(&self) -> String {
        format!(
            "# {}\n{}\n# provisioner: bootjackd in a network namespace\n{}",
            self.config_file.display(),
            self.config,
            crate::words::shown(std::path::Path::new("bootjack"), &self.arguments)
        )
    }
}

/// Plans it.
pub fn plan(opened: &Opened, how: &How) -> Result<Plan, Failure> {
    let (lab, paths) = (&opened.lab, &opened.paths);
    let bootjackd = super::bootjackd(how.bootjackd.as_ref())?;
    let dir = paths.provisioner();
    let programs = match &lab.provisioner.programs {
        Some(programs) => programs.clone(),
        None => PathBuf::from("/usr/lib/ipxe"),
    };
    if !programs.is_dir() {
        let text = format!(
            "the lab lacks network boot programs in {}: make them with ipxe/programs.sh, or install ipxe and leave provisioner.programs out",
            programs.display()
        );
        return Err(Failure::new(Exit::Missing, text));
    }
    let mut config = service::config(
        lab,
        &service::Place {
            data_dir: &dir.join("data").display().to_string(),
            grpc: &service::unix_grpc(&paths.api()),
            programs: &programs.display().to_string(),
            files: None,
            dns: lab.provisioner.address,
        },
    );
    // A process that becomes another user is no longer killed with the one that started it: prctl(2), PR_SET_PDEATHSIG.
    config.push_str("\n[process]\nuser = \"root\"\n");
    let (config_file, log) = (dir.join("bootjackd.toml"), dir.join("bootjackd.log"));
    let address = format!("{}/{}", lab.provisioner.address, lab.network.subnet.prefix);
    let word = |path: &std::path::Path| path.display().to_string();
    let arguments = [
        "net".to_owned(),
        "namespace".to_owned(),
        "--run".to_owned(),
        word(paths.run()),
        "--config".to_owned(),
        word(&config_file),
        "--log".to_owned(),
        word(&log),
        "--bootjackd".to_owned(),
        word(&bootjackd),
        "--address".to_owned(),
        address,
    ];
    Ok(Plan {
        arguments: arguments.to_vec(),
        config,
        config_file,
        log,
    })
}

/// Starts it if it does not run, and waits for its API.
pub async fn up(opened: &Opened, plan: &Plan, report: &Report) -> Result<(), Failure> {
    let dir = opened.paths.provisioner();
    make_private(&dir)?;
    if Client::connect(opened.paths.run()).is_ok() {
        let is = std::fs::read_to_string(&plan.config_file).unwrap_or_default();
        if is != plan.config {
            report.note("provisioner", "runs by an earlier lab.toml; to have it as it is now: bootjack provisioner restart");
        }
        return ready(opened, None, plan).await;
    }
    write_whole(&plan.config_file, &plan.config)?;
    report.waiting("bootjackd starts");
    let log = dir.join("namespace.log");
    let started = process::detached(&switch::this_program()?, &plan.arguments, &log)?;
    ready(opened, Some((started, log)), plan).await?;
    report.done(
        "provisioner",
        &format!(
            "bootjackd serves {} in a network namespace",
            opened.lab.network.subnet
        ),
    );
    Ok(())
}

async fn ready(
    opened: &Opened,
    mut started: Option<(process::Detached, PathBuf)>,
    plan: &Plan,
) -> Result<(), Failure> {
    let server = api(opened);
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = client::channel(&server).await;
        match answer {
            Ok(_) => return Ok(()),
            Err(failure) if Instant::now() > until => return Err(failure),
            Err(_) => {}
        }
        if let Some((process, log)) = &mut started
            && let Some(status) = process.ended()
        {
            let words = process::last_lines(log, process.log_start, LAST_WORDS);
            let text = format!(
                "the provisioner's namespace ended with {status}: {words}; bootjackd's log: {}",
                plan.log.display()
            );
            return Err(Failure::new(Exit::Failed, text));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Its API, of one that runs.
pub fn server(opened: &Opened) -> Result<Server, Failure> {
    match Client::connect(opened.paths.run()) {
        Ok(_) => Ok(api(opened)),
        Err(_) => {
            let text = "the provisioner does not run; bring it up: bootjack up";
            Err(Failure::new(Exit::Conflict, text))
        }
    }
}

fn api(opened: &Opened) -> Server {
    Server::unix(opened.paths.api().display().to_string())
}

/// Ends it, and bootjackd with it.
pub fn down(opened: &Opened) -> Result<Stopped, Failure> {
    match Client::connect(opened.paths.run()) {
        Ok(client) => client.stop().map(|()| Stopped::ByQuit),
        Err(_) => Ok(Stopped::Already),
    }
}
