//! The only file that starts programs. None of them outlives this process, even one that is killed; but for those that are
//! `detached`, which are the lab's and not a command's.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::Path;
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::{ChildStderr, Command};
use tokio::sync::{mpsc, watch};

use crate::exit::{Exit, Failure};
use crate::host::find_program;
use crate::output::io_reason;

/// A program that runs beside this one.
pub struct Process {
    stop: mpsc::Sender<Duration>,
    ended: watch::Receiver<Option<ExitStatus>>,
    pid: u32,
}

impl Process {
    /// Starts it in a process group of its own: Ctrl-C on the terminal is for this process, which ends its programs in order.
    fn start(mut command: Command) -> Result<(Self, Pipes), Failure> {
        command.process_group(0);
        let mut child = spawn(&mut command)?;
        let pipes = Pipes {
            #[cfg(test)]
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
        };
        let pid = child.id().unwrap_or_default();
        let (stop, mut stops) = mpsc::channel::<Duration>(1);
        let (report, ended) = watch::channel(None);
        tokio::spawn(async move {
            let status = tokio::select! {
                status = child.wait() => status,
                Some(grace) = stops.recv() => {
                    // SAFETY: the child has not been waited for, so the pid is still its own.
                    unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
                    if tokio::time::timeout(grace, child.wait()).await.is_err() {
                        let _ = child.start_kill();
                    }
                    child.wait().await
                }
            };
            let _ = report.send(status.ok());
        });
        Ok((Self { stop, ended, pid }, pipes))
    }

    /// For people: it may have ended.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its exit status, once it has ended; nothing if that got lost.
    pub fn ended(&self) -> impl Future<Output = Option<ExitStatus>> + use<> {
        let mut ended = self.ended.clone();
        async move {
            ended
                .wait_for(Option::is_some)
                .await
                .ok()
                .and_then(|status| *status)
        }
    }

    /// Asks it to end, and makes it end after `grace`.
    pub async fn stop(&self, grace: Duration) {
        let _ = self.stop.try_send(grace);
        self.ended().await;
    }
}

/// Its outputs, as far as they are read here.
struct Pipes {
    #[cfg(test)]
    stdout: Option<tokio::process::ChildStdout>,
    stderr: Option<ChildStderr>,
}

/// Starts bootjackd; what it logs comes out of the pipe.
pub fn bootjackd(program: &Path, config: &Path) -> Result<(Process, ChildStderr), Failure> {
    let mut command = Command::new(program);
    command
        .arg("serve")
        .arg("--config")
        .arg(config)
        .args(["--log-format", "json"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let (process, pipes) = Process::start(command)?;
    Ok((process, pipes.stderr.expect("it is piped")))
}

/// A program that outlives this one.
pub struct Detached {
    child: std::process::Child,
    pub pid: u32,
    /// Where in its log its own words begin.
    pub log_start: u64,
}

impl Detached {
    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

/// Starts a program in a session of its own, away from this terminal and its Ctrl-C; what it says is added to `log`.
pub fn detached(program: &Path, arguments: &[String], log: &Path) -> Result<Detached, Failure> {
    start_detached(program, arguments, log, None)
}

/// What is done for a program that does not do it itself.
#[derive(Clone, Copy, Debug)]
pub struct Keeping<'a> {
    /// Locked (fcntl) from before its first instruction until its end, with its process id inside.
    pub pid_file: &'a Path,
    /// Where its standard output is added; none: to its log.
    pub output: Option<&'a Path>,
}

/// The same for a program that keeps no pid file.
pub fn detached_keeping(
    program: &Path,
    arguments: &[String],
    log: &Path,
    keeping: Keeping<'_>,
) -> Result<Detached, Failure> {
    start_detached(program, arguments, log, Some(keeping))
}

fn append(file: &Path) -> Result<File, Failure> {
    let mut options = File::options();
    let opened = options.create(true).append(true).open(file);
    opened.map_err(Failure::io("write", file))
}

fn start_detached(
    program: &Path,
    arguments: &[String],
    log: &Path,
    keeping: Option<Keeping<'_>>,
) -> Result<Detached, Failure> {
    let file = append(log)?;
    let log_start = file.metadata().map_or(0, |metadata| metadata.len());
    let errors = file.try_clone().map_err(Failure::io("write", log))?;
    let output = match keeping.and_then(|keeping| keeping.output) {
        Some(output) => append(output)?,
        None => file,
    };
    let mut command = std::process::Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors);
    let pid_file = match keeping {
        Some(Keeping { pid_file, .. }) => {
            let mut options = File::options();
            let opened = options.read(true).write(true).create(true).truncate(false);
            let opened = opened.open(pid_file);
            Some(opened.map_err(Failure::io("write", pid_file))?)
        }
        None => None,
    };
    if let Some(pid_file) = pid_file {
        hold(&mut command, pid_file);
    }
    // SAFETY: setsid is safe between fork and exec: it neither allocates nor locks.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, || match libc::setsid() {
            -1 => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
    let child = command.spawn().map_err(|error| {
        let name = program.file_name().unwrap_or(program.as_os_str());
        cannot_start(&name.to_string_lossy(), &error)
    })?;
    Ok(Detached {
        pid: child.id(),
        child,
        log_start,
    })
}

/// Has a program hold the lock on its pid file. A lock of fcntl(2) is its process's, so the program has it from fork to its end,
/// whatever it makes of itself.
fn hold(command: &mut std::process::Command, pid_file: File) {
    use std::os::fd::AsRawFd as _;
    // SAFETY: every call is safe between fork and exec: none allocates or locks memory; the descriptor lives in the closure.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(command, move || {
            let fd = pid_file.as_raw_fd();
            let mut lock: libc::flock = std::mem::zeroed();
            lock.l_type = libc::F_WRLCK as _;
            lock.l_whence = libc::SEEK_SET as _;
            let mut digits = [0; 12];
            let text = decimal(std::process::id(), &mut digits);
            let is_held = libc::fcntl(fd, libc::F_SETLK, &lock) == 0
                // It stays open in the program.
                && libc::fcntl(fd, libc::F_SETFD, 0) == 0
                && libc::ftruncate(fd, 0) == 0
                && libc::write(fd, text.as_ptr().cast(), text.len()) == text.len() as isize;
            match is_held {
                true => Ok(()),
                false => Err(std::io::Error::last_os_error()),
            }
        });
    }
}

/// A number and the end of a line, without memory of the heap.
fn decimal(mut number: u32, octets: &mut [u8; 12]) -> &[u8] {
    let mut at = octets.len() - 1;
    octets[at] = b'\n';
    loop {
        at -= 1;
        octets[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &octets[at..];
        }
    }
}

/// Waits a moment before a fact is looked at again that nobody gives a signal of: that QEMU listens, that it has gone.
#[expect(
    clippy::disallowed_methods,
    reason = "QEMU tells nobody that it is there"
)]
pub fn a_moment() {
    std::thread::sleep(Duration::from_millis(20));
}

/// The last lines that say something, in one line, of what a log holds from `start` on.
pub fn last_lines(log: &Path, start: u64, count: usize) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let start = usize::try_from(start).unwrap_or(0).min(text.len());
    let text = String::from_utf8_lossy(&text[start..]);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    match lines.as_slice() {
        [] => "it said nothing".to_owned(),
        lines => lines[lines.len().saturating_sub(count)..].join("; "),
    }
}

/// What a process can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Terminate,
    Kill,
}

/// A process that is held on to: no other can be taken for it.
pub struct Handle {
    #[cfg(not(target_os = "linux"))]
    pid: i32,
    #[cfg(target_os = "linux")]
    fd: std::os::fd::OwnedFd,
}

impl Handle {
    /// That of the process with this id now.
    pub fn of(pid: i32) -> std::io::Result<Self> {
        #[cfg(target_os = "linux")]
        {
            use std::os::fd::FromRawFd as _;
            // SAFETY: takes no pointers; the descriptor is checked before it is owned.
            let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
            if fd < 0 {
                return Err(std::io::Error::last_os_error());
            }
            // SAFETY: it is new and nobody else's.
            let fd = unsafe { std::os::fd::OwnedFd::from_raw_fd(fd as libc::c_int) };
            Ok(Self { fd })
        }
        #[cfg(not(target_os = "linux"))]
        Ok(Self { pid })
    }

    /// Sends it this signal.
    pub fn send(&self, signal: Signal) -> std::io::Result<()> {
        let signal = match signal {
            Signal::Terminate => libc::SIGTERM,
            Signal::Kill => libc::SIGKILL,
        };
        #[cfg(target_os = "linux")]
        let sent = {
            use std::os::fd::AsRawFd as _;
            let (fd, none) = (self.fd.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
            // SAFETY: the descriptor is a process's, and there is no siginfo.
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, none, 0) }
        };
        #[cfg(not(target_os = "linux"))]
        // SAFETY: takes no pointers.
        let sent = unsafe { libc::kill(self.pid, signal) };
        match sent {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
}

/// Makes an ed25519 key without a passphrase: `key` and `key`.pub.
pub async fn ssh_keygen(key: &Path) -> Result<(), Failure> {
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "bootjack-lab", "-f"])
        .arg(key);
    let output = output(command).await?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let text = format!("ssh-keygen made no key: {}", last_line(&output.stderr));
            Err(Failure::new(Exit::Failed, text))
        }
    }
}

/// Runs a program that ends soon to its end, without a runtime.
pub fn asked(program: &Path, arguments: &[&str]) -> Result<Output, Failure> {
    let mut command = std::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command.output().map_err(|error| {
        let name = program.file_name().unwrap_or(program.as_os_str());
        cannot_start(&name.to_string_lossy(), &error)
    })
}

/// Turns this process into another program; returns why it could not.
pub fn become_program(program: &str, arguments: &[String]) -> Failure {
    let mut command = std::process::Command::new(program);
    command.args(arguments);
    let error = std::os::unix::process::CommandExt::exec(&mut command);
    cannot_start(program, &error)
}

/// Runs ssh to its end.
pub async fn ssh(arguments: &[String]) -> Result<Output, Failure> {
    let mut command = Command::new("ssh");
    command.args(arguments);
    output(command).await
}

/// Runs ssh to its end, with a file for its input.
pub async fn ssh_with(arguments: &[String], input: Option<File>) -> Result<Output, Failure> {
    let mut command = Command::new("ssh");
    command.args(arguments).process_group(0);
    command
        .stdin(input.map_or_else(Stdio::null, Stdio::from))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = spawn(&mut command)?;
    let ended = child.wait_with_output().await;
    ended.map_err(|error| cannot_start("ssh", &error))
}

/// Runs a script to its end; what it says goes to standard error. Answers whether it worked.
pub fn script(program: &Path, arguments: &[String]) -> Result<bool, Failure> {
    let mut command = std::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    // Standard output is for this program's own answer.
    let stderr = std::os::fd::AsFd::as_fd(&std::io::stderr()).try_clone_to_owned();
    if let Ok(stderr) = stderr {
        command.stdout(stderr);
    }
    let status = command.status().map_err(|error| {
        let name = program.file_name().unwrap_or(program.as_os_str());
        cannot_start(&name.to_string_lossy(), &error)
    })?;
    Ok(status.success())
}

/// Runs qemu-img to its end; `heard` gets what it prints when it prints it.
pub async fn qemu_img(
    arguments: &[OsString],
    mut heard: impl FnMut(&[u8]),
) -> Result<Output, Failure> {
    let program = find_program("qemu-img").ok_or_else(|| {
        let text = "wanted qemu-img, got none; install it: qemu-utils on Debian and Ubuntu, qemu-img on Fedora and Arch, qemu with Homebrew";
        Failure::new(Exit::Missing, text)
    })?;
    let mut command = Command::new(program);
    // Its complaints are read here.
    command.args(arguments).env("LC_ALL", "C").process_group(0);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = spawn(&mut command)?;
    let mut stdout = child.stdout.take().expect("it is piped");
    let mut stderr = child.stderr.take().expect("it is piped");
    let (mut said, mut complaints) = (Vec::new(), Vec::new());
    let listening = async {
        loop {
            let before = said.len();
            match stdout.read_buf(&mut said).await {
                Ok(0) | Err(_) => break,
                Ok(_) => heard(&said[before..]),
            }
        }
    };
    let (status, (), _) =
        tokio::join!(child.wait(), listening, stderr.read_to_end(&mut complaints));
    Ok(Output {
        status: status.map_err(|error| cannot_start("qemu-img", &error))?,
        stdout: said,
        stderr: complaints,
    })
}

/// Starts QEMU and waits for octets on its standard output, one after the other, each within its time; ends it.
/// Returns how many came; the last line of its complaints if it ended by itself before.
pub async fn await_octets(
    program: &Path,
    arguments: &[String],
    awaited: &[(u8, Duration)],
) -> Result<usize, String> {
    let mut command = Command::new(program);
    command.args(arguments).process_group(0);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = spawn(&mut command).map_err(|failure| failure.message)?;
    let mut stdout = child.stdout.take().expect("it is piped");
    let mut stderr = child.stderr.take().expect("it is piped");
    let mut seen = 0;
    for (octet, within) in awaited {
        let found = tokio::time::timeout(*within, async {
            loop {
                match stdout.read_u8().await {
                    Ok(read) if read == *octet => break true,
                    Ok(_) => {}
                    Err(_) => break false,
                }
            }
        });
        match found.await {
            Ok(true) => seen += 1,
            Ok(false) => {
                let mut complaints = Vec::new();
                let _ = stderr.read_to_end(&mut complaints).await;
                return Err(last_line(&complaints));
            }
            Err(_) => break,
        }
    }
    let _ = child.kill().await;
    Ok(seen)
}

/// The last line that says something.
pub fn last_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    line.unwrap_or("nothing").to_owned()
}

async fn output(mut command: Command) -> Result<Output, Failure> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.process_group(0);
    let name = name_of(&command);
    spawn(&mut command)?
        .wait_with_output()
        .await
        .map_err(|error| cannot_start(&name, &error))
}

fn spawn(command: &mut Command) -> Result<tokio::process::Child, Failure> {
    command.kill_on_drop(true);
    #[cfg(target_os = "linux")]
    die_with_parent(command);
    command
        .spawn()
        .map_err(|error| cannot_start(&name_of(command), &error))
}

/// The kernel kills the program when the thread that started it ends: here always the main one, the runtime has no other.
#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: both calls are safe between fork and exec: neither allocates nor locks.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // The parent may have gone before prctl was called.
            match libc::getppid() as u32 == parent {
                true => Ok(()),
                false => Err(std::io::Error::from_raw_os_error(libc::ESRCH)),
            }
        });
    }
}

fn name_of(command: &Command) -> String {
    let program = command.as_std().get_program();
    let file = Path::new(program).file_name().unwrap_or(OsStr::new("?"));
    file.to_string_lossy().into_owned()
}

fn cannot_start(name: &str, error: &std::io::Error) -> Failure {
    let text = format!("cannot start {name}: {}", io_reason(error));
    Failure::new(Exit::Missing, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (&'static Path, Vec<String>) {
        (
            Path::new("/bin/sh"),
            ["-c", script].map(str::to_owned).to_vec(),
        )
    }

    #[tokio::test]
    async fn awaited_octets_are_counted_and_a_silent_program_is_ended() {
        let awaited = [
            (b'a', Duration::from_secs(10)),
            (b'b', Duration::from_millis(100)),
        ];
        let (program, script) = shell("printf xxaxx; exec sleep 1000");
        assert_eq!(await_octets(program, &script, &awaited).await, Ok(1));
        let (program, script) = shell("printf ba; printf b; exec sleep 1000");
        assert_eq!(await_octets(program, &script, &awaited).await, Ok(2));
        let (program, script) = shell("echo 'no such cpu' >&2; exit 1");
        assert_eq!(
            await_octets(program, &script, &awaited).await,
            Err("no such cpu".to_owned())
        );
    }

    /// The guest that KVM is tried with, where it cannot fail.
    #[tokio::test]
    async fn the_test_guest_answers_under_emulation() {
        use crate::host::smoke;
        let arch = crate::drivers::spec::Arch::X86_64;
        let qemu = crate::host::find_program(arch.qemu());
        let qemu = qemu.expect("wanted qemu-system-x86_64; run: deploy/packages.sh lab");
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("guest.img");
        std::fs::write(&image, smoke::image(arch)).unwrap();
        let mut arguments = smoke::arguments(arch, &image);
        for argument in &mut arguments {
            match argument.as_str() {
                "kvm" => "tcg".clone_into(argument),
                "host" => "max".clone_into(argument),
                _ => {}
            }
        }
        let minute = Duration::from_secs(60);
        let awaited = [(smoke::STARTED, minute), (smoke::DONE, minute)];
        assert_eq!(await_octets(&qemu, &arguments, &awaited).await, Ok(2));
    }

    #[tokio::test]
    async fn a_program_that_does_not_want_to_end_is_made_to() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "trap '' TERM; echo ready; while :; do sleep 1; done"]);
        command.stdout(Stdio::piped());
        let (process, pipes) = Process::start(command).unwrap();
        let mut stdout = pipes.stdout.unwrap();
        assert_eq!(stdout.read_u8().await.unwrap(), b'r');
        process.stop(Duration::from_millis(50)).await;
        let status = process.ended().await.unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(libc::SIGKILL)
        );
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_a_missing_dependency() {
        let command = Command::new("/nowhere/qemu");
        let failure = Process::start(command).map(|_| ()).unwrap_err();
        assert_eq!(failure.exit, Exit::Missing);
        assert_eq!(
            failure.message,
            "cannot start qemu: no such file or directory"
        );
    }

    #[test]
    fn a_program_that_keeps_no_pid_file_holds_ours_until_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let (pid_file, log) = (dir.path().join("pid"), dir.path().join("log"));
        let keeping = Keeping {
            pid_file: &pid_file,
            output: None,
        };
        let (program, script) = shell("exec sleep 1000");
        let mut first = detached_keeping(program, &script, &log, keeping).unwrap();
        let holder = crate::vm::holder::holder(&pid_file).unwrap();
        assert_eq!(holder, Some(i32::try_from(first.pid).unwrap()));
        let second = detached_keeping(program, &script, &log, keeping);
        assert!(second.is_err(), "two never hold it");
        let text = std::fs::read_to_string(&pid_file).unwrap();
        assert_eq!(text, format!("{}\n", first.pid));
        first.child.kill().unwrap();
        first.child.wait().unwrap();
        assert_eq!(crate::vm::holder::holder(&pid_file).unwrap(), None);
    }

    #[test]
    fn numbers_are_written_without_the_heap() {
        for number in [0, 7, 10, 4_294_967_295] {
            let text = format!("{number}\n");
            assert_eq!(decimal(number, &mut [0; 12]), text.as_bytes());
        }
    }

    #[test]
    fn the_last_line_is_the_last_that_says_something() {
        assert_eq!(last_line(b"one\ntwo\n\n  \n"), "two");
        assert_eq!(last_line(b""), "nothing");
    }
}
