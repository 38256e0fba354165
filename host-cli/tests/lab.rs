//! `bootjack lab` as a person runs it: a real bootjackd, a real namespace, real firmware.
//!
//! Wants what `make test` makes: bootjackd beside bootjack in the target directory, target/guest/tiny-x86_64, QEMU, and root
//! (or a user namespace and a /dev/net/tun for this user).

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// The checkout.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// The tiny guest from a BIOS, emulated, in a directory of its own.
fn lab(dir: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootjack"));
    command
        .current_dir(root())
        .args([
            "lab",
            "--profile",
            "tiny",
            "--firmware",
            "bios",
            "--accel",
            "tcg",
            "--dir",
        ])
        .arg(dir)
        .args(flags);
    command
}

/// Processes whose command line names the directory.
fn alive(dir: &Path) -> Vec<String> {
    let dir = dir.to_str().unwrap();
    let commands = std::fs::read_dir("/proc").unwrap().filter_map(|process| {
        let text = std::fs::read(process.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&text).replace('\0', " "))
    });
    commands.filter(|command| command.contains(dir)).collect()
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Starts it and reads its steps up to this one.
fn started(mut command: Command, step: &str) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut child = command
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    let mut seen = String::new();
    while !line.contains(step) {
        line.clear();
        assert_ne!(
            lines.read_line(&mut line).unwrap(),
            0,
            "no `{step}` in:\n{seen}"
        );
        seen.push_str(&line);
    }
    (child, lines)
}

#[test]
fn a_machine_boots_from_the_network_and_proves_it() {
    let dir = tempfile::tempdir().unwrap();
    let output = lab(dir.path(), &["--timeout", "3m"]).output().unwrap();
    let (stdout, stderr) = text(&output);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(
        stdout.starts_with("proof: node-1 (198.18.0.10, x86_64 BIOS) booted from the network in "),
        "{stdout}"
    );
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    for step in [
        "grpc   reserved 198.18.0.10 for node-1 (52:54:00:00:00:01)",
        "dhcp   offered 198.18.0.10 to 52:54:00:00:00:01 (x86_64 BIOS, iPXE, boot script)",
        "http   rendered boot script, ",
        "http   served kernel tiny-x86_64/vmlinuz, ",
        "http   served initrd tiny-x86_64/initrd.img, ",
        "http   rendered meta-data, ",
        "node-1 │ bootjack-guest: done",
    ] {
        assert!(stderr.contains(step), "no `{step}` in:\n{stderr}");
    }
    assert!(!stderr.contains('\x1b'), "no colours in a pipe");
    assert_eq!(alive(dir.path()), Vec::<String>::new());
}

#[test]
fn an_interrupted_lab_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (child, _lines) = started(lab(dir.path(), &[]), "is powered on");
    assert!(
        alive(dir.path()).len() >= 3,
        "bootjack, bootjackd and QEMU run"
    );
    // SAFETY: the child has not been waited for, so the pid is still its own.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(alive(dir.path()), Vec::<String>::new());
    assert!(!dir.path().join("run/api.sock").exists());
}

#[test]
fn a_killed_lab_takes_its_programs_along() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, mut lines) = started(lab(dir.path(), &[]), "is powered on");
    child.kill().unwrap();
    child.wait().unwrap();
    // Its own standard error has ended; its programs end when the kernel gets to them.
    let mut rest = String::new();
    while lines.read_line(&mut rest).unwrap() > 0 {}
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !alive(dir.path()).is_empty() {
        assert!(
            std::time::Instant::now() < patience,
            "{:?}",
            alive(dir.path())
        );
        std::thread::yield_now();
    }
}

#[test]
fn a_dry_run_shows_everything_and_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let lab_dir = dir.path().join("lab");
    let output = lab(&lab_dir, &["--dry-run"]).output().unwrap();
    let (stdout, stderr) = text(&output);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    for part in [
        "[[subnet]]\ncidr = \"198.18.0.0/24\"",
        "qemu-system-x86_64 \\\n  -nodefaults",
        "-accel tcg,thread=multi",
        "mac=52:54:00:00:00:01,bootindex=0,disable-legacy=on,romfile=",
    ] {
        assert!(stdout.contains(part), "no `{part}` in:\n{stdout}");
    }
    assert!(!lab_dir.exists());
}

#[test]
fn what_is_missing_is_said_with_the_way_to_get_it() {
    let dir = tempfile::tempdir().unwrap();
    let guests = dir.path().join("guests");
    let output = lab(dir.path(), &["--guest-dir", guests.to_str().unwrap()])
        .output()
        .unwrap();
    let (_, stderr) = text(&output);
    assert_eq!(output.status.code(), Some(6), "{stderr}");
    let wanted = format!(
        "bootjack: the lab lacks {0}/tiny-x86_64/vmlinuz: make it with deploy/guest/tiny.sh {0}/tiny-x86_64 x86_64\n",
        guests.display()
    );
    assert_eq!(stderr, wanted);
}
