//! Machines of a lab by `--driver vfkit`, on a vfkit that runs nothing (tests/lab/fake_vfkit.py): no Mac was there to try it on.

use std::process::Output;

use crate::support::{Lab, said};

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

fn lab() -> Lab {
    let lab = Lab::of(FILE).with_fake("fake_vfkit.py", "vfkit");
    // A raw disk is one with the mark of a boot sector.
    let mut image = vec![0; 1 << 20];
    image[..5].copy_from_slice(b"hello");
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    std::fs::write(lab.path("cloud.raw"), image).unwrap();
    lab
}

fn run(lab: &Lab, mood: &str, words: &[&str]) -> Output {
    let mut command = lab.command(words);
    command.env("FAKE_VFKIT", mood).output().unwrap()
}

/// What the fake wrote into its machine's console: its command line, and what it was asked.
fn console(lab: &Lab) -> Vec<String> {
    lab.console("mac", "a").lines().map(str::to_owned).collect()
}

const START: [&str; 5] = ["vm", "start", "a", "--driver", "vfkit"];

#[test]
fn a_machine_is_started_found_again_and_asked_to_shut_down() {
    let lab = lab();
    let (_, told) = lab.works(&START);
    assert!(told.contains("UEFI, vfkit, pid "), "{told}");
    let (state, pid) = lab.state_of("a");
    assert_eq!(state, "running");
    // Its image is on a raw disk of its own, with room behind it.
    let disk = std::fs::read(lab.path("state/bootjack/labs/mac/vm/a/disk.raw")).unwrap();
    assert_eq!((disk.len(), &disk[..5]), (2 << 20, &b"hello"[..]));
    let words: Vec<String> = serde_json::from_str(&console(&lab)[0]).unwrap();
    let ends_in = |end: &str| words.iter().any(|word| word.ends_with(end));
    assert!(
        ends_in("/vm/a/disk.raw") && ends_in("/vm/a/seed.iso,readonly"),
        "{words:?}"
    );
    // Again: nothing is started twice.
    lab.works(&START);
    assert_eq!(lab.state_of("a"), ("running".to_owned(), pid));

    // What it cannot do is said, and not tried.
    for (words, wanted) in [
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
        let (code, stderr) = lab.fails(words);
        assert_eq!(code, 5, "{stderr}");
        assert!(stderr.contains(wanted), "{stderr}");
    }
    let (_, told) = lab.works(&["vm", "stop", "a"]);
    assert!(told.contains("a            shut down"), "{told}");
    assert_eq!(lab.state_of("a").0, "stopped");
    assert_eq!(console(&lab)[1..], ["Stop"]);

    // QEMU would not find on a disk of its own what is on this one.
    let (code, stderr) = lab.fails(&["vm", "start", "a", "--driver", "qemu-tcg"]);
    assert_eq!(code, 5, "{stderr}");
    assert!(
        stderr.contains("qemu-tcg wants its disk as qcow2, and it is "),
        "{stderr}"
    );
}

#[test]
fn a_guest_that_hears_nothing_is_stopped_hard() {
    let lab = lab();
    let output = run(&lab, "deaf", &START);
    assert!(output.status.success(), "{output:?}");
    lab.works(&["vm", "stop", "a", "--grace", "1s"]);
    assert_eq!(lab.state_of("a").0, "stopped");
    assert_eq!(console(&lab)[1..], ["Stop", "HardStop"]);
}

#[test]
fn a_killed_vfkit_stands_in_nobodys_way() {
    let lab = lab();
    lab.works(&START);
    let pid = lab.state_of("a").1.unwrap();
    // SAFETY: takes no pointers; the process is one that this test has started.
    assert_eq!(unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) }, 0);
    lab.works(&["vm", "stop", "a"]);
    assert_eq!(lab.state_of("a").0, "stopped");
    lab.works(&START);
    assert_eq!(lab.state_of("a").0, "running");
}

#[test]
fn what_it_complains_of_and_what_it_cannot_run_is_said() {
    let lab = lab();
    let output = run(&lab, "dies", &START);
    let stderr = said(&output).1;
    assert_eq!(output.status.code(), Some(8), "{stderr}");
    assert!(
        stderr.contains("a: vfkit ended with exit status: 1: level=error"),
        "{stderr}"
    );
    let (code, stderr) = lab.fails(&["vm", "start", "pxe", "--driver", "vfkit"]);
    assert_eq!(code, 6, "{stderr}");
    assert!(
        stderr.contains("a driver for pxe: vfkit has no firmware that boots from the network"),
        "{stderr}"
    );
    std::fs::remove_file(lab.path("bin/vfkit")).unwrap();
    let (code, stderr) = lab.fails(&START);
    assert_eq!(code, 6, "{stderr}");
    assert!(stderr.contains("cannot start vfkit: "), "{stderr}");
    assert!(
        stderr.contains("vfkit is for macOS: install it"),
        "{stderr}"
    );
}
