//! What a newcomer types too early, or wrong: the exit status, and that the sentence says what was wanted and what to do next.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

const FILE: &str = r#"version = 1
[lab]
name = "new"
arch = "x86_64"
[provisioner]
kind = "namespace"
[[vm]]
name = "a"
profile = "tiny"
"#;

fn run(dir: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootjack"));
    command
        .args(words)
        .current_dir(dir)
        .env("HOME", dir)
        .env("XDG_STATE_HOME", dir.join("state"))
        .env("XDG_DATA_HOME", dir.join("data"))
        .env("XDG_RUNTIME_DIR", dir)
        .env_remove("BOOTJACK_LAB")
        .env_remove("BOOTJACK_SERVER")
        .stdin(Stdio::null());
    command.output().unwrap()
}

/// Each command line with its exit status and the whole of what it says; @dir@ is the directory it is typed in.
fn check(dir: &Path, table: &[(&str, i32, &str)]) {
    for (typed, code, said) in table {
        let words: Vec<&str> = typed.split(' ').collect();
        let output = run(dir, &words);
        let stderr = String::from_utf8(output.stderr).unwrap();
        let stderr = stderr.replace(dir.to_str().unwrap(), "@dir@");
        assert_eq!(stderr.trim_end(), format!("bootjack: {said}"), "{typed}");
        assert_eq!(output.status.code(), Some(*code), "{typed}");
    }
}

#[test]
fn without_a_lab_every_verb_of_one_says_how_to_make_it() {
    let dir = tempfile::tempdir().unwrap();
    let said = "there is no lab.toml in @dir@ or above; make one with: bootjack init";
    for typed in [
        "validate",
        "plan",
        "up",
        "down",
        "status",
        "vm list",
        "vm start a",
        "shell a",
        "exec a -- ls",
        "cp a:b c",
        "ssh-config",
        "provisioner status",
        "net status",
        "destroy --yes",
    ] {
        check(dir.path(), &[(typed, 4, said)]);
    }
    check(
        dir.path(),
        &[
            (
                "up --lab x.toml",
                4,
                "there is no lab file @dir@/x.toml; make one with: bootjack init",
            ),
            (
                "apply -f x.yaml",
                4,
                "cannot read x.yaml: no such file or directory",
            ),
            (
                "image show x",
                4,
                "there is no image x; see what is here with: bootjack image list, and get one with: bootjack image pull, or import",
            ),
        ],
    );
}

#[test]
fn what_does_not_run_is_said_with_the_way_to_have_it_run() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("lab.toml"), FILE).unwrap();
    let not_up = "the provisioner does not run; bring it up: bootjack up";
    let unknown = "there is no machine b in lab new; there are: a, provisioner";
    check(
        dir.path(),
        &[
            (
                "vm reset a",
                5,
                "a does not run; start it with: bootjack vm start a",
            ),
            (
                "vm qmp a query-status",
                5,
                "a does not run; start it with: bootjack vm start a",
            ),
            ("vm reinstall a", 5, not_up),
            ("machine list", 5, not_up),
            ("lease list", 5, not_up),
            ("shell a", 5, "a does not run; start it with: bootjack up a"),
            (
                "cp a:x y",
                5,
                "a does not run; start it with: bootjack up a",
            ),
            (
                "vm logs a",
                4,
                "@dir@/state/bootjack/labs/new/vm/a/console.log is not there: a has not run yet; start it with: bootjack up a",
            ),
            (
                "vm console a",
                5,
                "a does not run, so there is no console (no such file or directory); start it with: bootjack up a",
            ),
            (
                "vm expect a --pattern (",
                2,
                "wanted a regular expression, got `(`: unclosed group",
            ),
            ("vm start b", 4, unknown),
            ("shell b", 4, unknown),
            ("net link b down", 4, unknown),
            ("net impair b --loss 0.5", 4, unknown),
            (
                "disk export --vm b --format raw --to x",
                4,
                "there is no machine b in lab new; there are: a",
            ),
            (
                "machine list --server unix:nowhere",
                11,
                "cannot reach bootjackd at unix:nowhere: no such file or directory; start bootjackd, or say with --server (or BOOTJACK_SERVER) where it listens",
            ),
        ],
    );
    let output = run(dir.path(), &["down"]);
    assert_eq!(output.status.code(), Some(0));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("a            did not run"), "{stderr}");
}

#[test]
fn errors_for_programs_are_json() {
    let dir = tempfile::tempdir().unwrap();
    for typed in [
        &["status", "-o", "json"][..],
        &["vm", "list", "-o", "json"],
        &["net", "status", "-o", "json"],
    ] {
        let output = run(dir.path(), typed);
        let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        assert!(
            error.to_string().contains("there is no lab.toml in"),
            "{typed:?}: {error}"
        );
        assert_eq!(output.status.code(), Some(4));
    }
}
