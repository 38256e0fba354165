//! The supervisor: enters the namespaces, moves frames, and lives as long as bootjackd does.
//!
//! In: requests on the control socket, SIGTERM and SIGINT. Out: bootjackd's log, word for word, in a file; its end and what it
//! said last on standard error. It restarts nothing.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::INTERFACE;
use super::control::{Request, Status};
use super::shovel::{Counters, Shovel};
use crate::cli::NamespaceArgs;
use crate::control::{Answer, LINE_MAX};
use crate::exit::{Exit, Failure};
use crate::network::{self, CableKind, Right};
use crate::output::io_reason;
use crate::process::{self, Process};
use crate::switch::{lock, log};

/// For requests to finish and the store to be flushed.
const BOOTJACKD_STOP: Duration = Duration::from_secs(10);
/// For a machine to be reached.
const DIAL: Duration = Duration::from_secs(30);
/// Datagrams that wait for the shovel; ten, as the kernel has it, is fewer than one TCP window.
const DATAGRAMS: u32 = 512;
/// Lines of a complaint that are repeated.
const LAST_WORDS: usize = 3;

/// Runs bootjackd in namespaces until one of both ends. Prints `ready` once bootjackd is.
pub fn run(args: &NamespaceArgs) -> Result<(), Failure> {
    let run = &args.run.run;
    lock::check_run(run)?;
    let _lock = lock::take(&super::pid(run), "provisioner")?;
    let log = File::options().create(true).append(true).open(&args.log);
    let log = log.map_err(Failure::io("write", &args.log))?;
    // No thread may be running by now.
    let right = network::enter()?;
    network::hold_datagrams(DATAGRAMS);
    let (address, prefix) = args.address;
    let cable = network::plug_lan(INTERFACE, address, prefix)?;
    let facts = Arc::new(Facts {
        right,
        interface: cable.kind,
        counters: Arc::default(),
        bootjackd: AtomicU64::new(0),
        is_ready: AtomicBool::new(false),
    });
    let shovel = Shovel::new(run, cable, facts.counters.clone());
    let shovel = shovel.map_err(Failure::io("bind a socket in", run))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let ended = runtime.block_on(live(args, log, shovel, &facts));
    let _ = std::fs::remove_file(super::socket(run));
    let port = crate::switch::names::port_id(crate::switch::names::PROVISIONER);
    let _ = std::fs::remove_file(crate::switch::names::machine_side(run, &port));
    // Connections end after the files: who waits for the end finds nothing.
    runtime.shutdown_background();
    ended
}

/// What is told to who asks.
struct Facts {
    right: Right,
    interface: CableKind,
    counters: Arc<Counters>,
    bootjackd: AtomicU64,
    is_ready: AtomicBool,
}

impl Facts {
    fn status(&self) -> Status {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Status {
            pid: std::process::id(),
            bootjackd: count(&self.bootjackd) as u32,
            ready: self.is_ready.load(Ordering::Relaxed),
            right: self.right.as_str().to_owned(),
            interface: self.interface.as_str().to_owned(),
            frames_to_switch: count(&self.counters.to_switch),
            frames_from_switch: count(&self.counters.from_switch),
            frames_dropped: count(&self.counters.dropped),
        }
    }
}

async fn live(
    args: &NamespaceArgs,
    log: File,
    shovel: Shovel,
    facts: &Arc<Facts>,
) -> Result<(), Failure> {
    let cannot = |error: io::Error| Failure::new(Exit::Failed, error.to_string());
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let listener = listen(&args.run.run)?;
    let (process, lines) = process::bootjackd(&args.bootjackd, &args.config)?;
    (facts.bootjackd).store(u64::from(process.pid()), Ordering::Relaxed);
    log::line(&format!(
        "bootjackd (pid {}) runs by {}, log {}",
        process.pid(),
        args.config.display(),
        args.log.display()
    ));
    let (said, last_words) = oneshot::channel();
    let reader = facts.clone();
    tokio::spawn(async move { drop(said.send(read_log(lines, log, &reader).await)) });
    let (broken, mut shovel_broke) = oneshot::channel();
    std::thread::spawn(move || drop(broken.send(shovel.run())));
    let (stop, mut asked) = mpsc::channel(1);
    let ended = process.ended();
    tokio::pin!(ended);
    loop {
        tokio::select! {
            status = &mut ended => {
                let words = last_words.await.unwrap_or_default().join("; ");
                let status = status.map_or_else(|| "?".to_owned(), |status| status.to_string());
                let text = format!("bootjackd ended ({status}): {words}");
                return Err(Failure::new(Exit::Service, text));
            }
            error = &mut shovel_broke => {
                end(&process).await;
                let why = error.map_or_else(|_| "it ended".to_owned(), |error| io_reason(&error));
                return Err(Failure::new(Exit::Failed, format!("frames move no longer: {why}")));
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            Some(()) = asked.recv() => break,
            Ok((stream, _)) = listener.accept() => {
                tokio::spawn(answer(stream, facts.clone(), stop.clone()));
            }
        }
    }
    end(&process).await;
    Ok(())
}

async fn end(process: &Process) {
    log::line("asked to end");
    process.stop(BOOTJACKD_STOP).await;
    log::line("bootjackd ended");
}

fn listen(run: &Path) -> Result<UnixListener, Failure> {
    let socket = super::socket(run);
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Failure::io("replace", &socket)(error));
        }
        _ => {}
    }
    UnixListener::bind(&socket).map_err(Failure::io("listen on", &socket))
}

/// Keeps the log, says when bootjackd is ready; returns what it said last that is no line of a log.
async fn read_log(lines: impl AsyncRead + Unpin, mut log: File, facts: &Facts) -> Vec<String> {
    let mut lines = BufReader::new(lines);
    let mut line = Vec::new();
    let mut words: Vec<String> = Vec::new();
    while matches!(lines.read_until(b'\n', &mut line).await, Ok(1..)) {
        let _ = log.write_all(&line);
        let text = String::from_utf8_lossy(&line);
        let said = serde_json::from_str::<serde_json::Map<_, _>>(&text).ok();
        match said {
            Some(said)
                if said
                    .get("message")
                    .is_some_and(|message| message == "ready") =>
            {
                if !facts.is_ready.swap(true, Ordering::Relaxed) {
                    log::line("bootjackd is ready");
                    log::ready();
                }
            }
            Some(_) => {}
            None if text.trim().is_empty() => {}
            None => words.push(text.trim().to_owned()),
        }
        words.drain(..words.len().saturating_sub(LAST_WORDS));
        line.clear();
    }
    words
}

/// One connection, to its end.
async fn answer(stream: UnixStream, facts: Arc<Facts>, stop: mpsc::Sender<()>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        (&mut stream)
            .take(LINE_MAX as u64)
            .read_until(b'\n', &mut line)
            .await?;
        if line.last() != Some(&b'\n') {
            return Ok(());
        }
        let said = match serde_json::from_slice(&line) {
            Err(error) => Answer::Error(format!(
                "{error}; wanted an object with one of status, dial, stop"
            )),
            Ok(Request::Status(())) => match serde_json::to_value(facts.status()) {
                Ok(status) => Answer::Ok(status),
                Err(error) => Answer::Error(error.to_string()),
            },
            Ok(Request::Stop(())) => {
                let ok = Answer::Ok(serde_json::Value::Null);
                stream.write_all(&ok.line()).await?;
                let _ = stop.try_send(());
                // Held open until this process ends.
                return std::future::pending().await;
            }
            Ok(Request::Dial { host, port }) => {
                let dialled = tokio::time::timeout(DIAL, TcpStream::connect((host, port))).await;
                match dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                    Ok(machine) => return relay(stream, machine).await,
                    Err(error) => {
                        let why = io_reason(&error);
                        Answer::Error(format!("cannot reach {host}, port {port}: {why}"))
                    }
                }
            }
        };
        stream.write_all(&said.line()).await?;
    }
}

async fn relay(mut stream: BufReader<UnixStream>, mut machine: TcpStream) -> io::Result<()> {
    machine.set_nodelay(true)?;
    let ok = Answer::Ok(serde_json::Value::Null);
    stream.write_all(&ok.line()).await?;
    tokio::io::copy_bidirectional(&mut stream, &mut machine).await?;
    Ok(())
}
