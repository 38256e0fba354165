//! `bootjack up` of a lab without a provisioner VM, as a person runs it: a real bootjackd in a real namespace, and real firmware
//! where a machine has to boot.
//!
//! Wants what `make test` makes: bootjackd beside bootjack in the target directory, target/guest/tiny-x86_64, target/ipxe, QEMU;
//! and root, or a user namespace.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

/// A lab in directories of its own; it is ended with this value.
struct Lab {
    home: tempfile::TempDir,
}

const FILE: &str = r#"version = 1
[lab]
name = "quick"
arch = "x86_64"
[provisioner]
kind = "namespace"
programs = "@target@/ipxe"
artifacts = ["@target@/guest/tiny-x86_64"]
[[vm]]
name = "node-1"
memory = "512MiB"
profile = "debian-12"
"#;

/// What the tests boot, whatever the file says.
const TINY: [&str; 6] = [
    "--firmware",
    "bios",
    "--profile",
    "tiny",
    "--driver",
    "qemu-tcg",
];

impl Lab {
    fn new() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let target = root.join("target");
        Self::of(&FILE.replace("@target@", target.to_str().unwrap()))
    }

    fn of(text: &str) -> Self {
        // In a short place: its sockets are below it.
        let home = tempfile::Builder::new().prefix("bj-").tempdir_in("/tmp");
        let home = home.unwrap();
        std::fs::write(home.path().join("lab.toml"), text).unwrap();
        for dir in ["r", "bin"] {
            std::fs::create_dir(home.path().join(dir)).unwrap();
        }
        Self { home }
    }

    /// Its QEMU runs nothing.
    fn with_fake_qemu(self) -> Self {
        let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/fake_qemu.py");
        let program = self.path("bin/qemu-system-x86_64");
        std::fs::copy(fake, &program).unwrap();
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn path(&self, rest: &str) -> PathBuf {
        self.home.path().join(rest)
    }

    fn command(&self, words: &[&str], flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bootjack"));
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .args(words)
            .args(flags)
            .current_dir(self.home.path())
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("HOME", self.home.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_DATA_HOME", self.path("data"))
            .env("XDG_RUNTIME_DIR", self.path("r"))
            .env_remove("BOOTJACK_LAB")
            .stdin(Stdio::null());
        command
    }

    /// Processes whose command line names its directory.
    fn alive(&self) -> Vec<String> {
        let dir = self.home.path().to_str().unwrap();
        let commands = std::fs::read_dir("/proc").unwrap().filter_map(|process| {
            let text = std::fs::read(process.ok()?.path().join("cmdline")).ok()?;
            Some(String::from_utf8_lossy(&text).replace('\0', " "))
        });
        commands.filter(|command| command.contains(dir)).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.command(&["down", "--kill"], &[]).output();
    }
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Starts it and reads what it says up to this.
fn started(mut command: Command, step: &str) -> (Child, BufReader<ChildStderr>) {
    command.stderr(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let (mut line, mut seen) = (String::new(), String::new());
    while !line.contains(step) {
        line.clear();
        let read = lines.read_line(&mut line).unwrap();
        assert_ne!(read, 0, "no `{step}` in:\n{seen}");
        seen.push_str(&line);
    }
    (child, lines)
}

#[test]
fn a_machine_boots_from_the_network_before_ones_eyes() {
    let lab = Lab::new();
    let up = ["up", "--wait=console:bootjack-guest: done", "--console"];
    let output = lab.command(&up, &TINY).output().unwrap();
    let (stdout, stderr) = text(&output);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    for step in [
        "reservation  reserved 198.18.0.10 for node-1 (",
        "node-1       powered on (x86_64 BIOS, emulated, pid ",
        "node-1       │ iPXE ",
        "node-1       · script           boots its profile",
        "node-1       │ bootjack-guest: address=198.18.0.10 ",
        "node-1       │ bootjack-guest: meta-data: local-hostname: ",
        "node-1       says `bootjack-guest: done` on its console",
    ] {
        assert!(stderr.contains(step), "no `{step}` in:\n{stderr}");
    }
    assert!(stdout.contains("198.18.0.10"), "{stdout}");
    assert!(!stderr.contains('\x1b'), "no colours in a pipe");
    assert!(
        !stderr.contains("│ [    "),
        "calm is without the kernel's messages: {stderr}"
    );

    assert!(lab.command(&["down"], &[]).status().unwrap().success());
    assert_eq!(lab.alive(), Vec::<String>::new());
}

#[test]
fn an_interrupted_wait_leaves_what_down_ends() {
    let lab = Lab::new().with_fake_qemu();
    let up = lab.command(&["up", "--wait=console:never"], &TINY);
    let (child, _lines) = started(up, "powered on");
    // SAFETY: the child has not been waited for, so the pid is still its own.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(!lab.alive().is_empty(), "what was started goes on");
    // What was typed is for a start; what runs is not made another.
    let output = lab.command(&["up"], &TINY).output().unwrap();
    let (_, stderr) = text(&output);
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    assert!(
        stderr.contains("stop it first: bootjack vm stop node-1"),
        "{stderr}"
    );
    assert!(lab.command(&["down"], &[]).status().unwrap().success());
    assert_eq!(lab.alive(), Vec::<String>::new());
}

#[test]
fn a_kernel_that_panics_is_not_waited_for() {
    let lab = Lab::new().with_fake_qemu();
    let mut up = lab.command(&["up", "--wait"], &TINY);
    let output = up.env("FAKE_QEMU", "panics").output().unwrap();
    let (_, stderr) = text(&output);
    assert_eq!(output.status.code(), Some(8), "{stderr}");
    let said = "bootjack: node-1: its kernel panicked: VFS: Unable to mount root fs; its console: bootjack vm logs node-1\n";
    assert!(stderr.ends_with(said), "{stderr}");
}

#[test]
fn a_dry_run_shows_everything_and_starts_nothing() {
    let lab = Lab::new();
    let output = lab.command(&["up", "--dry-run"], &TINY).output().unwrap();
    let (stdout, stderr) = text(&output);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    for part in [
        "[[subnet]]",
        "net namespace \\\n",
        "\n# node-1: x86_64 BIOS, emulated\n",
        "qemu-system-x86_64 \\\n  -nodefaults",
        "-accel tcg,thread=multi",
        ",bootindex=1,disable-legacy=on,romfile=",
    ] {
        assert!(stdout.contains(part), "no `{part}` in:\n{stdout}");
    }
    assert!(!lab.path("state/bootjack/labs").exists());
    assert_eq!(lab.alive(), Vec::<String>::new());
}

#[test]
fn what_is_missing_is_said_with_the_way_to_get_it() {
    for (target, said) in [
        (
            "/nowhere",
            "bootjack: the lab lacks network boot programs in /nowhere/ipxe: make them with ipxe/programs.sh, or install ipxe and leave provisioner.programs out\n",
        ),
        (
            "@home@",
            "bootjack: provisioner.artifacts of lab.toml: wanted a file or directory, found no @home@/guest/tiny-x86_64; deploy/guest/*.sh makes those of the lab's profiles\n",
        ),
    ] {
        let lab = Lab::of("");
        std::fs::create_dir(lab.path("ipxe")).unwrap();
        let home = lab.home.path().to_str().unwrap();
        let file = FILE.replace("@target@", target).replace("@home@", home);
        std::fs::write(lab.path("lab.toml"), file).unwrap();
        let output = lab.command(&["up"], &TINY).output().unwrap();
        let (_, stderr) = text(&output);
        assert_eq!(output.status.code(), Some(6), "{stderr}");
        assert_eq!(stderr, said.replace("@home@", home));
        assert_eq!(lab.alive(), Vec::<String>::new());
    }
}
