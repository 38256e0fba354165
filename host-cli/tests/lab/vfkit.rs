//! Machines of a lab by `--driver vfkit`, on a vfkit that runs nothing (tests/lab/fake_vfkit.py): no Mac was there to try it on.

#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const FILE: &str = r#"version = 1
[lab]
name = "mac"
[[vm]]
name = "a"
image = "cloud.raw"
disk = "2MiB"
[[vm]]
name = "pxe"
profile = "tiny"
"#;

/// A lab of its own in a directory of its own, ended with this value.
struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("bj-").tempdir_in("/tmp");
        let lab = Self { dir: dir.unwrap() };
        std::fs::write(lab.path("lab.toml"), FILE).unwrap();
        // A raw disk is one with the mark of a boot sector.
        let mut image = vec![0; 1 << 20];
        image[..5].copy_from_slice(b"hello");
        image[510..512].copy_from_slice(&[0x55, 0xaa]);
        std::fs::write(lab.path("cloud.raw"), image).unwrap();
        for dir in ["bin", "run"] {
            std::fs::create_dir(lab.path(dir)).unwrap();
        }
        let fake = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/fake_vfkit.py");
        std::fs::copy(fake, lab.path("bin/vfkit")).unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(lab.path("bin/vfkit"), mode).unwrap();
        lab
    }

    fn path(&self, rest: &str) -> PathBuf {
        self.dir.path().join(rest)
    }

    fn run(&self, mood: &str, words: &[&str]) -> Output {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bootjack"));
        command
            .args(words)
            .current_dir(self.dir.path())
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("FAKE_VFKIT", mood)
            .env("HOME", self.dir.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_DATA_HOME", self.path("data"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env_remove("BOOTJACK_LAB")
            .stdin(Stdio::null());
        command.output().unwrap()
    }

    fn works(&self, words: &[&str]) -> String {
        let output = self.run("", words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {stderr}");
        format!("{}{stderr}", String::from_utf8_lossy(&output.stdout))
    }

    fn fails(&self, mood: &str, words: &[&str]) -> (i32, String) {
        let output = self.run(mood, words);
        let stderr = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), stderr)
    }

    fn state(&self) -> (String, Option<i64>) {
        let output = self.run("", &["vm", "show", "a", "-o", "json"]);
        let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
        (
            shown["state"].as_str().unwrap().to_owned(),
            shown["pid"].as_i64(),
        )
    }

    fn console(&self) -> Vec<String> {
        let log = self.path("state/bootjack/labs/mac/vm/a/console.log");
        let text = std::fs::read_to_string(log).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.run("", &["down", "--kill"]);
    }
}

const START: [&str; 5] = ["vm", "start", "a", "--driver", "vfkit"];

#[test]
fn a_machine_is_started_found_again_and_asked_to_shut_down() {
    let lab = Lab::new();
    let told = lab.works(&START);
    assert!(told.contains("UEFI, vfkit, pid "), "{told}");
    let (state, pid) = lab.state();
    assert_eq!(state, "running");
    // Its image is on a raw disk of its own, with room behind it.
    let disk = std::fs::read(lab.path("state/bootjack/labs/mac/vm/a/disk.raw")).unwrap();
    assert_eq!((disk.len(), &disk[..5]), (2 << 20, &b"hello"[..]));
    let words: Vec<String> = serde_json::from_str(&lab.console()[0]).unwrap();
    let ends_in = |end: &str| words.iter().any(|word| word.ends_with(end));
    assert!(
        ends_in("/vm/a/disk.raw") && ends_in("/vm/a/seed.iso,readonly"),
        "{words:?}"
    );
    // Again: nothing is started twice.
    lab.works(&START);
    assert_eq!(lab.state(), ("running".to_owned(), pid));

    // What it cannot do is said, and not tried.
    for (words, said) in [
        (
            &["vm", "reset", "a"][..],
            "a is run by vfkit, which has no reset button; ",
        ),
        (
            &["vm", "qmp", "a", "query-status"],
            "a is run by vfkit, which is not QEMU; ",
        ),
        (
            &["vm", "console", "a"],
            "a is run by vfkit, which keeps its console to itself ",
        ),
    ] {
        let (code, stderr) = lab.fails("", words);
        assert_eq!(code, 5, "{stderr}");
        assert!(stderr.contains(said), "{stderr}");
    }
    let told = lab.works(&["vm", "stop", "a"]);
    assert!(told.contains("a            shut down"), "{told}");
    assert_eq!(lab.state().0, "stopped");
    assert_eq!(lab.console()[1..], ["Stop"]);

    // QEMU would not find on a disk of its own what is on this one.
    let (code, stderr) = lab.fails("", &["vm", "start", "a", "--driver", "qemu-tcg"]);
    assert_eq!(code, 5, "{stderr}");
    assert!(
        stderr.contains("qemu-tcg wants its disk as qcow2, and it is "),
        "{stderr}"
    );
}

#[test]
fn a_guest_that_hears_nothing_is_stopped_hard() {
    let lab = Lab::new();
    let output = lab.run("deaf", &START);
    assert!(output.status.success(), "{output:?}");
    lab.works(&["vm", "stop", "a", "--grace", "1s"]);
    assert_eq!(lab.state().0, "stopped");
    assert_eq!(lab.console()[1..], ["Stop", "HardStop"]);
}

#[test]
fn a_killed_vfkit_stands_in_nobodys_way() {
    let lab = Lab::new();
    lab.works(&START);
    let pid = lab.state().1.unwrap();
    // SAFETY: takes no pointers; the process is one that this test has started.
    assert_eq!(unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) }, 0);
    lab.works(&["vm", "stop", "a"]);
    assert_eq!(lab.state().0, "stopped");
    lab.works(&START);
    assert_eq!(lab.state().0, "running");
}

#[test]
fn what_it_complains_of_and_what_it_cannot_run_is_said() {
    let lab = Lab::new();
    let (code, stderr) = lab.fails("dies", &START);
    assert_eq!(code, 8, "{stderr}");
    assert!(
        stderr.contains("a: vfkit ended with exit status: 1: level=error"),
        "{stderr}"
    );
    let (code, stderr) = lab.fails("", &["vm", "start", "pxe", "--driver", "vfkit"]);
    assert_eq!(code, 6, "{stderr}");
    assert!(
        stderr.contains("a driver for pxe: vfkit has no firmware that boots from the network"),
        "{stderr}"
    );
    std::fs::remove_file(lab.path("bin/vfkit")).unwrap();
    let (code, stderr) = lab.fails("", &START);
    assert_eq!(code, 6, "{stderr}");
    assert!(stderr.contains("cannot start vfkit: "), "{stderr}");
    assert!(
        stderr.contains("vfkit is for macOS: install it"),
        "{stderr}"
    );
}
