//! The lab while it runs: what happens is shown, and watched until the proof, a failure, or Ctrl-C.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::pin::pin;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use bootjack_api::v1::{CreateReservationRequest, Reservation};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::sync::{mpsc, oneshot};

use super::prepare::Prepared;
use super::proof::{self, Told};
use super::{Stop, interrupted};
use crate::client::{self, Server};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::network::Right;
use crate::output::{self, View, span};
use crate::plan::{Plan, Proof};
use crate::process::{self, Process};
use crate::steps::{self, LogLine, Milestone, Step, Tone};

/// From its start to its last listener; it opens a store and reads some files.
const BOOTJACKD_START: Duration = Duration::from_secs(20);
/// For requests to finish and the store to be flushed.
const BOOTJACKD_STOP: Duration = Duration::from_secs(10);
const QEMU_STOP: Duration = Duration::from_secs(3);
/// Lines of a complaint that are shown; all of them are in the log.
const LAST_WORDS: usize = 20;
/// A lab that is kept.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// How often the waiting line moves.
const TICK: Duration = Duration::from_millis(120);

/// Starts everything, watches it, ends it; prints the proof.
pub async fn run(
    plan: &Plan,
    prepared: &Prepared,
    keep: bool,
    right: Right,
    view: View,
) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    let mut lab = Lab::new(plan, view);
    lab.say_network(right);
    let ended = tokio::select! {
        biased;
        () = stop.requested() => Err(interrupted()),
        ended = lab.boot(prepared) => ended,
    };
    let ended = match ended {
        Ok(proof) => {
            lab.view.still();
            match output::say(&proof) {
                Ok(()) if keep => lab.keep(right, &mut stop).await,
                said => said,
            }
        }
        Err(failure) => Err(failure),
    };
    let ended = ended.map_err(|failure| lab.with_logs(failure));
    lab.view.waiting("ending the lab", Duration::ZERO);
    // A second Ctrl-C does not wait: what still runs is killed with this process.
    tokio::select! {
        () = stop.requested() => {}
        () = lab.end() => {}
    }
    lab.view.still();
    ended
}

/// What tasks report to the one place that decides.
enum Happening {
    /// A line of bootjackd's log.
    Log(String),
    /// Bytes of the machine's console.
    Console(Vec<u8>),
    Step(Step),
    BootjackdEnded(Option<ExitStatus>),
    QemuEnded(Option<ExitStatus>),
}

struct Lab<'a> {
    plan: &'a Plan,
    view: View,
    happenings: mpsc::UnboundedReceiver<Happening>,
    report: mpsc::UnboundedSender<Happening>,
    bootjackd: Option<Process>,
    qemu: Option<Process>,
    started: Instant,
    power_on: Option<Instant>,
    ready: Option<oneshot::Sender<()>>,
    done: Option<oneshot::Sender<()>>,
    console: Console,
    told: Told,
    /// bootjackd's lines that are no JSON: how it says that it cannot start.
    last_words: Vec<String>,
    /// The machine did what it should: from now on it may do what it likes.
    proven: bool,
    last_step: String,
    waiting_for: String,
    stages: Stages,
}

/// When the boot came how far, since power-on.
#[derive(Default)]
struct Stages {
    script: Option<Duration>,
    loaded: Option<Duration>,
}

impl<'a> Lab<'a> {
    fn new(plan: &'a Plan, view: View) -> Self {
        let (report, happenings) = mpsc::unbounded_channel();
        Self {
            plan,
            view,
            happenings,
            report,
            bootjackd: None,
            qemu: None,
            started: Instant::now(),
            power_on: None,
            ready: None,
            done: None,
            console: Console::default(),
            told: Told::default(),
            last_words: Vec::new(),
            proven: false,
            last_step: String::new(),
            waiting_for: "bootjackd starts".to_owned(),
            stages: Stages::default(),
        }
    }

    fn say_network(&mut self, right: Right) {
        let how = match right {
            Right::Root => "a namespace made by root",
            Right::UserNamespace => "a namespace made without root",
        };
        let lan = format!(
            "{} {}/{}",
            crate::config::INTERFACE,
            crate::config::SERVER,
            crate::config::PREFIX
        );
        self.step(&Step::new(
            "lab",
            format!("network of its own: {lan} in {how}"),
            Tone::Faint,
        ));
    }

    /// From nothing to the proof.
    async fn boot(&mut self, prepared: &Prepared) -> Result<String, Failure> {
        self.start_bootjackd().await?;
        self.reserve(prepared).await?;
        self.start_machine()?;
        let limit = self.plan.timeout;
        let name = &self.plan.machine.name;
        let what = format!("{name} did not come up");
        self.waiting_for = format!("{name} boots");
        let proven = match self.plan.proof {
            Proof::Ssh => {
                let report = self.report.clone();
                let tell = move |step| drop(report.send(Happening::Step(step)));
                self.watch(proof::ssh(self.plan, tell), limit, &what)
                    .await??
            }
            Proof::Console => {
                let (done, is_done) = oneshot::channel();
                self.done = Some(done);
                let _ = self.watch(is_done, limit, &what).await?;
                self.told.judge(self.plan)?
            }
        };
        self.proven = true;
        let took = self.since_power_on().unwrap_or_default();
        self.say_stages(took);
        let machine = &self.plan.machine;
        Ok(format!(
            "proof: {} ({}, {} {}) booted from the network in {}; {proven}",
            machine.name,
            machine.address,
            self.plan.vm.arch.as_str(),
            self.plan.firmware.title(),
            span(took),
        ))
    }

    async fn start_bootjackd(&mut self) -> Result<(), Failure> {
        let log = self.plan.paths.bootjackd_log();
        let log = File::create(&log).map_err(Failure::io("write", &log))?;
        let (process, lines) = process::bootjackd(&self.plan.bootjackd, &self.plan.paths.config())?;
        let ended = process.ended();
        let report = self.report.clone();
        tokio::spawn(async move {
            read_log(lines, log, &report).await;
            let _ = report.send(Happening::BootjackdEnded(ended.await));
        });
        self.bootjackd = Some(process);
        let (ready, is_ready) = oneshot::channel();
        self.ready = Some(ready);
        let _ = self
            .watch(is_ready, BOOTJACKD_START, "bootjackd did not get ready")
            .await?;
        let took = span(self.started.elapsed());
        self.step(&Step::new(
            "lab",
            format!("bootjackd is ready after {took}"),
            Tone::Plain,
        ));
        Ok(())
    }

    /// Over gRPC, as anybody would.
    async fn reserve(&mut self, prepared: &Prepared) -> Result<(), Failure> {
        let machine = &self.plan.machine;
        let server = Server::unix(self.plan.paths.socket().display().to_string());
        let key = prepared.ssh_key.clone().map(|key| {
            let kind = prost_types::value::Kind::StringValue(key);
            (
                "ssh_key".to_owned(),
                prost_types::Value { kind: Some(kind) },
            )
        });
        let reservation = Reservation {
            mac: machine.mac.clone(),
            address: machine.address.to_string(),
            hostname: machine.name.clone(),
            profile: machine.profile.clone(),
            vars: key.into_iter().collect(),
            ..Reservation::default()
        };
        let request = CreateReservationRequest {
            reservation: Some(reservation),
            ..CreateReservationRequest::default()
        };
        let call = async {
            let mut client = client::connect(&server).await?;
            let answer = client.create_reservation(request).await;
            answer.map_err(|status| client::refused(&server, &status))
        };
        self.watch(call, BOOTJACKD_START, "bootjackd made no reservation")
            .await??;
        Ok(())
    }

    fn start_machine(&mut self) -> Result<(), Failure> {
        let plan = self.plan;
        let name = &plan.machine.name;
        let log = plan.paths.qemu_log(name);
        let log = File::create(&log).map_err(Failure::io("write", &log))?;
        let arguments = crate::qemu::arguments(&plan.vm, &plan.facts);
        let (process, console) = process::qemu(&plan.qemu, &arguments, log)?;
        self.power_on = Some(Instant::now());
        let ended = process.ended();
        let report = self.report.clone();
        tokio::spawn(async move {
            read_console(console, &report).await;
            let _ = report.send(Happening::QemuEnded(ended.await));
        });
        let text = format!(
            "{name} is powered on: {} {}, {}; its whole console is in {}",
            plan.vm.cpus,
            if plan.vm.cpus == 1 { "cpu" } else { "cpus" },
            output::size(u64::from(plan.vm.memory_mib) << 20),
            plan.shown(&plan.vm.console_log)
        );
        self.step(&Step::new("vm", text, Tone::Plain));
        self.qemu = Some(process);
        Ok(())
    }

    /// Waits for `wanted`, showing what happens meanwhile; a failure of what runs ends it, and so does the time limit.
    async fn watch<T>(
        &mut self,
        wanted: impl Future<Output = T>,
        limit: Duration,
        otherwise: &str,
    ) -> Result<T, Failure> {
        let mut wanted = pin!(wanted);
        let mut deadline = pin!(tokio::time::sleep(limit));
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                biased;
                Some(happening) = self.happenings.recv() => self.happened(happening)?,
                value = &mut wanted => return Ok(value),
                () = &mut deadline => {
                    let mut text = format!("{otherwise} within {}", span(limit));
                    if !self.last_step.is_empty() {
                        text.push_str(&format!("; the last step was: {}", self.last_step));
                    }
                    return Err(Failure::new(Exit::Timeout, text));
                }
                _ = tick.tick() => {
                    let since = self.power_on.unwrap_or(self.started).elapsed();
                    self.view.waiting(&self.waiting_for, since);
                }
            }
        }
    }

    fn happened(&mut self, happening: Happening) -> Result<(), Failure> {
        match happening {
            Happening::Log(line) => self.logged(&line),
            Happening::Console(bytes) => {
                for line in self.console.read(&bytes) {
                    self.printed(&line)?;
                }
                Ok(())
            }
            Happening::Step(step) => {
                self.step(&step);
                Ok(())
            }
            Happening::BootjackdEnded(status) => {
                let words = match self.last_words.is_empty() {
                    true => format!("bootjackd ended ({})", ending(status)),
                    false => self.last_words.join("\n"),
                };
                Err(Failure::new(Exit::Service, words))
            }
            Happening::QemuEnded(_) if self.proven => Ok(()),
            Happening::QemuEnded(status) => Err(self.qemu_ended(status)),
        }
    }

    fn logged(&mut self, line: &str) -> Result<(), Failure> {
        let Some(line) = LogLine::parse(line) else {
            if !line.trim().is_empty() && self.last_words.len() < LAST_WORDS {
                self.last_words.push(line.trim_end().to_owned());
            }
            return Ok(());
        };
        if line.is_ready() {
            self.ready.take().map(|ready| ready.send(()));
        }
        let since = self.since_power_on();
        match line.message() {
            "rendered" if self.stages.script.is_none() => self.stages.script = since,
            "served" if line.is_boot_file() => self.stages.loaded = since,
            _ => {}
        }
        if let Some(step) = line.step() {
            self.step(&step);
        }
        match line.fatal() {
            Some(text) if !self.proven => Err(Failure::new(Exit::Service, text)),
            _ => Ok(()),
        }
    }

    fn printed(&mut self, line: &str) -> Result<(), Failure> {
        self.view.console(&self.plan.machine.name, line);
        self.told.hear(line);
        match steps::milestone(line) {
            Some(Milestone::Step(step)) => self.step(&step),
            Some(Milestone::Done) => {
                self.done.take().map(|done| done.send(()));
            }
            Some(Milestone::Failed(why)) => {
                let text = format!("{} failed: {why}", self.plan.machine.name);
                if !self.proven {
                    return Err(Failure::new(Exit::Vm, text));
                }
                self.step(&Step::new("vm", text, Tone::Bad));
            }
            None => {}
        }
        Ok(())
    }

    fn qemu_ended(&self, status: Option<ExitStatus>) -> Failure {
        let name = &self.plan.machine.name;
        let complaints = fs::read(self.plan.paths.qemu_log(name)).unwrap_or_default();
        let text = match status {
            Some(status) if status.success() => {
                format!("{name} powered off or rebooted before it was proven")
            }
            _ => format!(
                "{name} ended ({}); qemu said: {}",
                ending(status),
                process::last_line(&complaints)
            ),
        };
        Failure::new(Exit::Vm, text)
    }

    fn step(&mut self, step: &Step) {
        self.view.step(self.since_power_on(), step);
        if step.tone != Tone::Faint {
            self.last_step = format!("{} {}", step.who, step.text);
        }
    }

    fn since_power_on(&self) -> Option<Duration> {
        self.power_on.map(|at| at.elapsed())
    }

    fn say_stages(&mut self, took: Duration) {
        let Stages {
            script: Some(script),
            loaded: Some(loaded),
        } = self.stages
        else {
            return;
        };
        let loading = loaded.saturating_sub(script);
        let rest = took.saturating_sub(loaded);
        let text = format!(
            "firmware to boot script {}, kernel and initrd {}, the guest itself {}",
            span(script),
            span(loading),
            span(rest)
        );
        self.step(&Step::new("lab", text, Tone::Good));
    }

    /// Until Ctrl-C or until something ends.
    async fn keep(&mut self, right: Right, stop: &mut Stop) -> Result<(), Failure> {
        let plan = self.plan;
        let server = plan.paths.socket().display();
        if plan.proof == Proof::Ssh {
            let script = plan.paths.login(&plan.machine.name);
            let text = super::login_script(plan, right);
            fs::write(&script, text).map_err(Failure::io("write", &script))?;
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&script, mode).map_err(Failure::io("write", &script))?;
            self.view.line(&format!(
                "log in from another terminal: {}",
                in_shell(&plan.shown(&script))
            ));
        }
        self.view.line(&format!(
            "change reservations: bootjack --server unix:{server} reservation list"
        ));
        self.view.line("Ctrl-C ends the lab");
        self.waiting_for = format!("{} runs; Ctrl-C ends the lab", plan.machine.name);
        let off = self.qemu.as_ref().map(Process::ended);
        let off = async { off?.await };
        let ended = tokio::select! {
            biased;
            () = stop.requested() => Ok(()),
            off = self.watch(off, FOREVER, "the lab did not end") => match off {
                Ok(Some(status)) if status.success() => {
                    let text = format!("{} has powered off or rebooted", plan.machine.name);
                    self.step(&Step::new("vm", text, Tone::Plain));
                    Ok(())
                }
                Ok(status) => Err(self.qemu_ended(status)),
                Err(failure) => Err(failure),
            },
        };
        let _ = fs::remove_file(plan.paths.login(&plan.machine.name));
        ended
    }

    /// The machine first, so that it is not left without its server.
    async fn end(&self) {
        if let Some(qemu) = &self.qemu {
            qemu.stop(QEMU_STOP).await;
        }
        if let Some(bootjackd) = &self.bootjackd {
            bootjackd.stop(BOOTJACKD_STOP).await;
        }
        let socket = self.plan.paths.socket();
        let _ = fs::remove_file(socket);
        let _ = socket.parent().map(fs::remove_dir);
    }

    /// The failure with the logs that tell more, those that have come to be.
    fn with_logs(&self, mut failure: Failure) -> Failure {
        if failure.exit == Exit::Interrupted {
            return failure;
        }
        let paths = &self.plan.paths;
        let name = &self.plan.machine.name;
        let logs = [
            paths.bootjackd_log(),
            paths.console_log(name),
            paths.qemu_log(name),
        ];
        let said = |file: &&std::path::PathBuf| file.metadata().is_ok_and(|meta| meta.len() > 0);
        let logs: Vec<String> = logs
            .iter()
            .filter(said)
            .map(|file| self.plan.shown(file))
            .collect();
        if !logs.is_empty() {
            let several_lines = failure.message.contains('\n');
            let before = if several_lines { "\n  " } else { "; " };
            failure
                .message
                .push_str(&format!("{before}logs: {}", logs.join(" ")));
        }
        failure
    }
}

/// Keeps every line in `log` and reports it.
async fn read_log(
    from: impl AsyncRead + Unpin,
    mut log: File,
    report: &mpsc::UnboundedSender<Happening>,
) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from
        .read_until(b'\n', &mut line)
        .await
        .is_ok_and(|read| read > 0)
    {
        let _ = log.write_all(&line);
        let _ = report.send(Happening::Log(String::from_utf8_lossy(&line).into_owned()));
        line.clear();
    }
}

async fn read_console(mut from: impl AsyncRead + Unpin, report: &mpsc::UnboundedSender<Happening>) {
    let mut bytes = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        let _ = report.send(Happening::Console(bytes[..read].to_vec()));
    }
}

fn ending(status: Option<ExitStatus>) -> String {
    status.map_or("for a reason that got lost".to_owned(), |status| {
        status.to_string()
    })
}

/// A file as the first word of a shell's command line.
fn in_shell(file: &str) -> String {
    let file = crate::qemu::quoted(file);
    if file.contains('/') {
        file
    } else {
        format!("./{file}")
    }
}
