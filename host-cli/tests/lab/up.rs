//! `bootjack up` of a lab without a provisioner VM, as a person runs it: a real bootjackd in a real namespace, and real firmware
//! where a machine has to boot.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};

use crate::support::{Lab, said};

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

fn with_fake_qemu() -> Lab {
    Lab::of(FILE).with_fake("fake_qemu.py", "qemu-system-x86_64")
}

fn command(lab: &Lab, words: &[&str]) -> Command {
    lab.command(&[words, &TINY].concat())
}

/// Processes whose command line names the lab's directory.
fn alive(lab: &Lab) -> Vec<String> {
    let commands = std::fs::read_dir("/proc").unwrap().filter_map(|process| {
        let text = std::fs::read(process.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&text).replace('\0', " "))
    });
    commands
        .filter(|command| command.contains(lab.home()))
        .collect()
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
    let lab = Lab::real(FILE);
    let up = ["up", "--wait=console:bootjack-guest: done", "--console"];
    let output = command(&lab, &up).output().unwrap();
    let (stdout, stderr) = said(&output);
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

    lab.works(&["down"]);
    assert_eq!(alive(&lab), Vec::<String>::new());
}

#[test]
fn an_interrupted_wait_leaves_what_down_ends() {
    let lab = with_fake_qemu();
    let up = command(&lab, &["up", "--wait=console:never"]);
    let (child, _lines) = started(up, "powered on");
    // SAFETY: the child has not been waited for, so the pid is still its own.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(!alive(&lab).is_empty(), "what was started goes on");
    // What was typed is for a start; what runs is not made another.
    let output = command(&lab, &["up"]).output().unwrap();
    let (_, stderr) = said(&output);
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    assert!(
        stderr.contains("stop it first: bootjack vm stop node-1"),
        "{stderr}"
    );
    lab.works(&["down"]);
    assert_eq!(alive(&lab), Vec::<String>::new());
}

#[test]
fn a_kernel_that_panics_is_not_waited_for() {
    let lab = with_fake_qemu();
    let mut up = command(&lab, &["up", "--wait"]);
    let output = up.env("FAKE_QEMU", "panics").output().unwrap();
    let (_, stderr) = said(&output);
    assert_eq!(output.status.code(), Some(8), "{stderr}");
    let wanted = "bootjack: node-1: its kernel panicked: VFS: Unable to mount root fs; its console: bootjack vm logs node-1\n";
    assert!(stderr.ends_with(wanted), "{stderr}");
}

#[test]
fn a_dry_run_shows_everything_and_starts_nothing() {
    let lab = Lab::of(FILE);
    let output = command(&lab, &["up", "--dry-run"]).output().unwrap();
    let (stdout, stderr) = said(&output);
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
    assert_eq!(alive(&lab), Vec::<String>::new());
}

#[test]
fn what_is_missing_is_said_with_the_way_to_get_it() {
    for (target, wanted) in [
        (
            "/nowhere",
            "bootjack: the lab lacks network boot programs in /nowhere/ipxe: make them with ipxe/programs.sh, or install ipxe and leave provisioner.programs out\n",
        ),
        (
            "@home@",
            "bootjack: provisioner.artifacts of lab.toml: wanted a file or directory, found no @home@/guest/tiny-x86_64; deploy/guest/*.sh makes those of the lab's profiles\n",
        ),
    ] {
        let lab = Lab::of(&FILE.replace("@target@", target));
        std::fs::create_dir(lab.path("ipxe")).unwrap();
        let output = command(&lab, &["up"]).output().unwrap();
        let (_, stderr) = said(&output);
        assert_eq!(output.status.code(), Some(6), "{stderr}");
        assert_eq!(stderr, wanted.replace("@home@", lab.home()));
        assert_eq!(alive(&lab), Vec::<String>::new());
    }
}
