//! The service as a child process: started on a configuration, waited for by what it logs, and ended as each test needs.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::netns::Netns;

/// A hang is a failure; this only bounds how long one is waited for.
const HANG: Duration = Duration::from_secs(180);

/// The program under test.
pub fn program() -> &'static str {
    env!("CARGO_BIN_EXE_bootjackd")
}

/// Directories for one service: data, files, TFTP root, profiles. Removed when dropped.
pub struct Home {
    dir: TempDir,
}

impl Home {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("bj")
            .tempdir()
            .expect("a temporary directory");
        for name in ["tftp", "http", "profiles"] {
            std::fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        Self { dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file below the home, making its directories.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().expect("it is below the home")).expect("made");
        std::fs::write(&path, content).expect("written");
        path
    }

    /// The gRPC socket of `config`.
    pub fn api(&self) -> String {
        format!("unix:{}/api.sock", self.path().display())
    }

    /// A configuration for interface `lan0` with 198.18.0.1/24; `more` is added at its end.
    pub fn config(&self, more: &str) -> String {
        let home = self.path().display();
        format!(
            r#"data_dir = "{home}/data"

[dhcp]
interfaces = ["lan0"]

[[subnet]]
cidr = "198.18.0.0/24"
pools = ["198.18.0.100-198.18.0.199"]
router = "198.18.0.1"
dns = ["198.18.0.1"]
domain = "lab.internal"
lease_time = "1h"

[tftp]
listen = "198.18.0.1:69"
root = "{home}/tftp"

[http]
listen = "198.18.0.1:80"
files = "{home}/http"

[grpc]
listen = "unix:{home}/api.sock"

[boot]
programs = "/usr/lib/ipxe"
profiles = "{home}/profiles"
{more}"#
        )
    }
}

/// A running service.
pub struct Service {
    child: Child,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<Value>, bool)>,
    changed: Condvar,
}

impl Service {
    /// Starts the service on this configuration text in a network namespace and waits until everything listens.
    pub fn start(netns: &Netns, home: &Home, config: &str) -> Self {
        let service = Self::spawn(netns, home, config);
        service.wait_for("ready", |_| true);
        service
    }

    /// Starts it and waits for nothing.
    pub fn spawn(netns: &Netns, home: &Home, config: &str) -> Self {
        let file = home.write("bootjackd.toml", config);
        let mut command = netns.command(program());
        command
            .args(["serve", "--log-format", "json", "--config"])
            .arg(file);
        Self::run(command)
    }

    /// Starts it by a command of one's own.
    pub fn run(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the service starts");
        let log = Arc::new(Log::default());
        let (stderr, sink) = (child.stderr.take().expect("piped"), log.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                sink.lines.lock().expect("no panic").0.push(line);
                sink.changed.notify_all();
            }
            sink.lines.lock().expect("no panic").1 = true;
            sink.changed.notify_all();
        });
        Self { child, log }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that was logged so far.
    pub fn log(&self) -> Vec<Value> {
        self.log.lines.lock().expect("no panic").0.clone()
    }

    /// Waits for a log line with this message that `is_it`; lines logged before count too.
    pub fn wait_for(&self, message: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        self.wait_for_nth(message, 1, is_it)
    }

    /// Waits for the nth such line.
    pub fn wait_for_nth(&self, message: &str, n: usize, is_it: impl Fn(&Value) -> bool) -> Value {
        let found = |lines: &[Value]| {
            let mut fitting = lines.iter().filter(|l| l["message"] == message && is_it(l));
            fitting.nth(n - 1).cloned()
        };
        let lines = self.log.lines.lock().expect("no panic");
        let (lines, timeout) = self
            .log
            .changed
            .wait_timeout_while(lines, HANG, |(lines, ended)| {
                !*ended && found(lines).is_none()
            })
            .expect("no panic");
        found(&lines.0).unwrap_or_else(|| {
            let text: Vec<String> = lines.0.iter().map(Value::to_string).collect();
            let why = if timeout.timed_out() {
                "hangs"
            } else {
                "ended"
            };
            panic!(
                "no line `{message}`, the service {why}:\n{}",
                text.join("\n")
            )
        })
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(mut self) -> (ExitStatus, Vec<Value>) {
        signal(self.pid(), "TERM");
        let status = self.child.wait().expect("it can be waited for");
        let lines = self.log.lines.lock().expect("no panic");
        let (lines, _) = self
            .log
            .changed
            .wait_timeout_while(lines, HANG, |(_, ended)| !*ended)
            .expect("no panic");
        (status, lines.0.clone())
    }

    /// SIGKILL: what a power cut leaves of the process.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it can be waited for");
    }

    /// Waits for the end of a service that was not asked to stop.
    pub fn wait(mut self) -> (ExitStatus, Vec<Value>) {
        let status = self.child.wait().expect("it can be waited for");
        let lines = self.log.lines.lock().expect("no panic");
        let (lines, _) = self
            .log
            .changed
            .wait_timeout_while(lines, HANG, |(_, ended)| !*ended)
            .expect("no panic");
        (status, lines.0.clone())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to one process.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status();
    assert!(sent.expect("kill runs").success(), "no process {pid}");
}
