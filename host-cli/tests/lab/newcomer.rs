//! What a newcomer types too early, or wrong: the exit status, and that the sentence says what was wanted and what to do next.

use crate::support::{Lab, said};

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

/// Each command line with its exit status and the whole of what it says; @home@ is the directory it is typed in.
fn check(lab: &Lab, table: &[(&str, i32, &str)]) {
    for (typed, code, wanted) in table {
        let words: Vec<&str> = typed.split(' ').collect();
        let output = lab.run(&words);
        let stderr = said(&output).1.replace(lab.home(), "@home@");
        assert_eq!(stderr.trim_end(), format!("bootjack: {wanted}"), "{typed}");
        assert_eq!(output.status.code(), Some(*code), "{typed}");
    }
}

#[test]
fn without_a_lab_every_verb_of_one_says_how_to_make_it() {
    let lab = Lab::none();
    let no_lab = "there is no lab.toml in @home@ or above; make one with: bootjack init";
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
        check(&lab, &[(typed, 4, no_lab)]);
    }
    check(
        &lab,
        &[
            (
                "up --lab x.toml",
                4,
                "there is no lab file @home@/x.toml; make one with: bootjack init",
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
    let lab = Lab::of(FILE);
    let not_up = "the provisioner does not run; bring it up: bootjack up";
    let unknown = "there is no machine b in lab new; there are: a, provisioner";
    check(
        &lab,
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
                "@home@/state/bootjack/labs/new/vm/a/console.log is not there: a has not run yet; start it with: bootjack up a",
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
    let (_, stderr) = lab.works(&["down"]);
    assert!(stderr.contains("a            did not run"), "{stderr}");
}

#[test]
fn errors_for_programs_are_json() {
    let lab = Lab::none();
    for typed in [
        &["status", "-o", "json"][..],
        &["vm", "list", "-o", "json"],
        &["net", "status", "-o", "json"],
    ] {
        let output = lab.run(typed);
        let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        assert!(
            error.to_string().contains("there is no lab.toml in"),
            "{typed:?}: {error}"
        );
        assert_eq!(output.status.code(), Some(4));
    }
}
