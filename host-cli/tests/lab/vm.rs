//! Machines of a lab from outside, on a QEMU that runs nothing (tests/lab/fake_qemu.py): they outlive the command that started
//! them, are found again by facts, and nothing foreign is touched.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::Lab;

const FILE: &str = r#"version = 1
[lab]
name = "fake"
arch = "x86_64"
[[vm]]
name = "a"
firmware = "bios"
disk = "1GiB"
profile = "tiny"
[[vm]]
name = "b"
firmware = "bios"
profile = "tiny"
"#;

fn lab() -> Lab {
    Lab::of(FILE).with_fake("fake_qemu.py", "qemu-system-x86_64")
}

fn shown(lab: &Lab, name: &str, key: &str) -> PathBuf {
    let shown = lab.json(&["vm", "show", name]);
    PathBuf::from(shown[key].as_str().unwrap())
}

fn kill(pid: i64, signal: i32) {
    // SAFETY: takes no pointers; the process is one that this test has started.
    assert_eq!(unsafe { libc::kill(pid as libc::pid_t, signal) }, 0);
}

#[test]
fn a_machine_outlives_the_command_and_is_found_again() {
    let lab = lab();
    assert_eq!(lab.state_of("a"), ("stopped".to_owned(), None));
    lab.works(&["vm", "start", "a", "b", "--driver", "qemu-tcg"]);
    let (state, pid) = lab.state_of("a");
    assert_eq!(state, "running");
    assert!(
        lab.path("state/bootjack/labs/fake/vm/a/disk.qcow2")
            .exists()
    );
    // Again: nothing is started twice.
    lab.works(&["vm", "start", "a", "--driver", "qemu-tcg"]);
    assert_eq!(lab.state_of("a"), ("running".to_owned(), pid));
    lab.works(&["vm", "stop", "a"]);
    assert_eq!(lab.state_of("a").0, "stopped");
    assert_eq!(lab.state_of("b").0, "running");
    lab.works(&["down"]);
    assert_eq!(lab.state_of("b").0, "stopped");
    let left: Vec<_> = std::fs::read_dir(lab.path("r/bootjack")).unwrap().collect();
    let dir = left.into_iter().next().unwrap().unwrap().path();
    let left: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(
        left.iter()
            .all(|name| !name.to_string_lossy().contains('-')),
        "{left:?}"
    );
}

#[test]
fn what_qemu_complains_of_is_said_and_nothing_runs() {
    let lab = lab();
    let output = lab
        .command(&["vm", "start", "a", "--driver", "qemu-tcg"])
        .env("FAKE_QEMU", "dies")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(8));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("a: qemu ended with exit status: 1: qemu-system-x86_64: -device nonsense: 'nonsense' is not a valid device model name; log: "),
        "{stderr}"
    );
    assert_eq!(lab.state_of("a").0, "stopped");
    // And with the cause gone it starts.
    lab.works(&["vm", "start", "a", "--driver", "qemu-tcg"]);
}

#[test]
fn a_killed_qemu_leaves_nothing_that_stands_in_the_way() {
    let lab = lab();
    lab.works(&["vm", "start", "a", "--driver", "qemu-tcg"]);
    let pid = lab.state_of("a").1.unwrap();
    kill(pid, libc::SIGKILL);
    let pid_file = shown(&lab, "a", "monitor").with_extension("pid");
    assert!(pid_file.exists(), "a kill leaves the pid file");
    while lab.state_of("a").0 != "stopped" {}
    lab.works(&["vm", "start", "a", "--driver", "qemu-tcg"]);
    assert_ne!(lab.state_of("a").1, Some(pid));
}

#[test]
fn a_machine_that_stands_for_want_of_room_goes_on_when_there_is_some() {
    let lab = lab();
    let start = ["vm", "start", "a", "--driver", "qemu-tcg"];
    let first = lab.command(&start).env("FAKE_QEMU", "full").output();
    assert!(first.unwrap().status.success());
    let (state, pid) = lab.state_of("a");
    assert_eq!(state, "io-error");
    let directory = lab.path("state/bootjack/labs/fake/vm/a");
    std::fs::write(directory.join("still-full"), "").unwrap();
    let (code, said) = lab.fails(&start);
    assert_eq!(code, 8, "{said}");
    let wanted = format!(
        "a stands still: its disk cannot be written to; make room in {}",
        directory.display()
    );
    assert!(said.contains(&wanted), "{said}");
    std::fs::remove_file(directory.join("still-full")).unwrap();
    lab.works(&start);
    assert_eq!(lab.state_of("a"), ("running".to_owned(), pid));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_with_its_directory_and_the_next_try_has_nothing_in_its_way() {
    let mut lab = lab();
    std::fs::create_dir(lab.path("state")).unwrap();
    let state = lab.path("state").display().to_string();
    let script = format!("mount -t tmpfs -o size=16k small {state}");
    lab.held = Some(crate::support::Held::by(&["--mount"], &script));
    let grow = |kib: u32| {
        let mut mount = lab.held.as_ref().unwrap().command("mount");
        let options = format!("remount,size={kib}k");
        let grown = mount.args(["-o", &options, &state]).status();
        assert!(grown.unwrap().success());
    };
    let start = ["vm", "start", "a", "--driver", "qemu-tcg"];
    for kib in [16, 48, 96] {
        grow(kib);
        let (_, said) = lab.fails(&start);
        assert!(said.contains(&state), "{kib} KiB: {said}");
        assert!(
            said.to_lowercase().contains("no space left"),
            "{kib} KiB: {said}"
        );
    }
    grow(8192);
    lab.works(&start);
    lab.works(&["down", "--kill"]);
}

#[test]
fn a_pid_of_somebody_else_is_never_touched() {
    let lab = lab();
    lab.works(&["vm", "start", "a", "--driver", "qemu-tcg"]);
    lab.works(&["vm", "stop", "a"]);
    let mut bystander = Command::new("/bin/cat")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let pid_file = shown(&lab, "a", "monitor").with_extension("pid");
    std::fs::write(&pid_file, format!("{}\n", bystander.id())).unwrap();
    assert_eq!(lab.state_of("a").0, "stopped");
    lab.works(&["down", "--kill"]);
    assert_eq!(bystander.try_wait().unwrap(), None, "it still lives");
    lab.works(&["vm", "start", "a", "--driver", "qemu-tcg"]);
    assert_eq!(bystander.try_wait().unwrap(), None, "it still lives");
    drop(bystander.stdin.take());
    bystander.wait().unwrap();
}

/// A QEMU that the lab has not started, on the sockets that are for a machine of it.
fn on_sockets_of(lab: &Lab, name: &str, more: impl Fn(&mut Command) -> &mut Command) -> Child {
    let monitor = shown(lab, name, "monitor");
    let mut command = Command::new(lab.path("bin/qemu-system-x86_64"));
    more(&mut command)
        .arg("-pidfile")
        .arg(monitor.with_extension("pid"))
        .args(["-qmp", &format!("unix:{},server=on", monitor.display())])
        .args([
            "-chardev",
            &format!("socket,logfile={}", lab.path("theirs.log").display()),
        ]);
    let mut qemu = command.spawn().unwrap();
    while !monitor.exists() {
        assert_eq!(qemu.try_wait().unwrap(), None, "it ended");
    }
    qemu
}

#[test]
fn a_machine_with_another_uuid_on_our_sockets_is_left_alone() {
    let lab = lab();
    lab.works(&["vm", "start", "a", "--driver", "qemu-tcg"]);
    lab.works(&["vm", "stop", "a"]);
    let mut stranger = on_sockets_of(&lab, "a", |qemu| {
        qemu.args(["-uuid", "11111111-1111-8111-8111-111111111111"])
    });
    let (code, stderr) = loop {
        // It listens a moment after its socket is there.
        let output = lab.run(&["vm", "start", "a", "--driver", "qemu-tcg"]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        if !stderr.contains("nothing listens") {
            break (output.status.code(), stderr);
        }
    };
    assert_eq!(code, Some(5), "{stderr}");
    assert!(
        stderr.contains("is held by a machine that is not ours"),
        "{stderr}"
    );
    let (_, stderr) = lab.fails(&["down", "--kill"]);
    assert!(stderr.contains("it is left alone"), "{stderr}");
    assert_eq!(stranger.try_wait().unwrap(), None, "it still lives");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn a_guest_that_hears_nothing_is_powered_off_and_a_hung_qemu_killed() {
    let lab = lab();
    for (mood, how) in [("deaf", "powered off"), ("", "shut down")] {
        let started = lab
            .command(&["vm", "start", "a", "--driver", "qemu-tcg"])
            .env("FAKE_QEMU", mood)
            .status();
        assert!(started.unwrap().success());
        let output = lab.run(&["vm", "stop", "a", "--grace", "1s"]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(how), "{mood}: {stderr}");
    }
}

#[test]
fn a_qemu_that_answers_nobody_is_told_as_such_and_killed() {
    let lab = lab();
    lab.works(&["vm", "start", "a", "--driver", "qemu-tcg"]);
    let mut hung = on_sockets_of(&lab, "b", |qemu| qemu.env("FAKE_QEMU", "hung"));
    assert_eq!(lab.state_of("b").0, "hung");
    let output = lab.run(&["vm", "stop", "b"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("killed: it did not answer"), "{stderr}");
    assert!(!hung.wait().unwrap().success());
    assert_eq!(lab.state_of("b").0, "stopped");
}

#[test]
fn a_killed_switch_is_there_again_and_machines_keep_running() {
    let lab = lab();
    lab.works(&["vm", "start", "a", "--driver", "qemu-tcg"]);
    let before = lab.state_of("a");
    let pid_file = shown(&lab, "a", "monitor").with_file_name("sw.pid");
    let switch: i64 = std::fs::read_to_string(pid_file)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    kill(switch, libc::SIGKILL);
    lab.works(&["vm", "start", "a", "--driver", "qemu-tcg"]);
    assert_eq!(lab.state_of("a"), before);
    let status = lab.json(&["net", "status"]);
    assert!(status.to_string().contains("\"a\""), "{status}");
}

#[test]
fn what_runs_and_belongs_to_no_lab_is_told_and_left_alone() {
    let lab = lab();
    lab.works(&["vm", "start", "b", "--driver", "qemu-tcg"]);
    let pid = lab.state_of("b").1.unwrap();
    let state = lab.path("state/bootjack/labs/fake");
    let kept = lab.path("kept");
    std::fs::rename(&state, &kept).unwrap();
    let output = lab.run(&["doctor"]);
    let told = String::from_utf8(output.stdout).unwrap();
    let orphan = told.lines().find(|line| line.contains("belongs to no lab"));
    assert!(
        orphan.is_some_and(|line| line.contains(&pid.to_string())),
        "{told}"
    );
    std::fs::rename(&kept, &state).unwrap();
    assert_eq!(lab.state_of("b").1, Some(pid), "it still runs");
    // A lab whose file is gone is told, too, with what still runs of it.
    std::fs::rename(lab.path("lab.toml"), lab.path("other.toml")).unwrap();
    let told = String::from_utf8(lab.run(&["doctor"]).stdout).unwrap();
    assert!(
        told.contains("is gone or is not this lab's any more; it still runs"),
        "{told}"
    );
    std::fs::rename(lab.path("other.toml"), lab.path("lab.toml")).unwrap();
}

#[test]
fn two_commands_at_once_start_one_machine() {
    let lab = lab();
    let start = || {
        lab.command(&["vm", "start", "a", "b", "--driver", "qemu-tcg"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let all: Vec<Child> = (0..4).map(|_| start()).collect();
    for mut child in all {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(lab.state_of("a").0, "running");
    let log = std::fs::read_to_string(shown(&lab, "a", "console_log")).unwrap();
    assert_eq!(log.matches("powered on").count(), 1, "{log}");
}

#[test]
fn a_command_that_is_killed_at_any_moment_leaves_what_the_next_understands() {
    let lab = lab();
    for turn in 0..12 {
        let mut child = lab
            .command(&["vm", "start", "a", "b", "--driver", "qemu-tcg"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // At its start, after its first line, after its second, …
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        for _ in 0..turn % 4 {
            let _ = lines.next();
        }
        let _ = child.kill();
        child.wait().unwrap();
        if turn % 3 == 2 {
            lab.works(&["vm", "start", "a", "b", "--driver", "qemu-tcg"]);
            assert_eq!(lab.state_of("a").0, "running");
            assert_eq!(lab.state_of("b").0, "running");
            lab.works(&["down"]);
            assert_eq!(lab.state_of("b").0, "stopped");
        }
    }
}

#[test]
fn the_disk_goes_first_unless_the_network_is_asked_for() {
    let lab = lab();
    lab.works(&[
        "vm", "start", "a", "--driver", "qemu-tcg", "--boot", "once:pxe",
    ]);
    let log = std::fs::read_to_string(shown(&lab, "a", "console_log")).unwrap();
    // At once the card is last again, which QEMU heeds at the next reset.
    assert!(log.contains("nic-lan 3"), "{log}");
    let of_a = lab.json(&["vm", "show", "a"]);
    let command = of_a["command"].as_str().unwrap();
    assert!(
        command.contains("bootindex=1,disable-legacy=on"),
        "{command}"
    );
    lab.works(&["vm", "reset", "a"]);
    let log = std::fs::read_to_string(shown(&lab, "a", "console_log")).unwrap();
    assert!(log.ends_with("reset\n"), "{log}");
    let (code, stderr) = lab.fails(&["vm", "start", "b", "--driver", "qemu-tcg", "--boot", "disk"]);
    assert_eq!(
        (code, stderr.contains("b has no disk")),
        (3, true),
        "{stderr}"
    );
}

#[test]
fn a_deep_home_has_short_sockets() {
    let lab = lab();
    let deep = lab.path(&"d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let run = |words: &[&str]| {
        lab.command(words)
            .env("XDG_STATE_HOME", deep.join("state"))
            .env("XDG_RUNTIME_DIR", &deep)
            .output()
            .unwrap()
    };
    let started = run(&["vm", "start", "b", "--driver", "qemu-tcg"]);
    let stderr = String::from_utf8_lossy(&started.stderr).into_owned();
    let stopped = run(&["down"]);
    assert!(started.status.success(), "{stderr}");
    assert!(stopped.status.success());
}

#[test]
fn a_file_with_problems_is_told_by_line_and_nothing_is_done() {
    let lab = lab();
    let mut file = std::fs::File::options()
        .append(true)
        .open(lab.path("lab.toml"))
        .unwrap();
    file.write_all(b"memry = \"1GiB\"\n").unwrap();
    for verb in [
        vec!["validate"],
        vec!["plan"],
        vec!["up"],
        vec!["vm", "start", "a"],
    ] {
        let (code, stderr) = lab.fails(&verb);
        assert_eq!(code, 3, "{verb:?}");
        assert_eq!(
            stderr,
            "bootjack: lab.toml has 1 problem\n  lab.toml:14: vm[1].memry: unknown key; did you mean memory?\n"
        );
    }
    assert!(!lab.path("state").exists());
    let (code, stderr) = lab.fails(&["status", "--lab", "nowhere.toml"]);
    assert_eq!(
        (code, stderr.contains("make one with: bootjack init")),
        (4, true),
        "{stderr}"
    );
}

#[test]
fn a_lab_belongs_to_one_file() {
    let lab = lab();
    lab.works(&["vm", "start", "b", "--driver", "qemu-tcg"]);
    let other = lab.path("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::copy(lab.path("lab.toml"), other.join("lab.toml")).unwrap();
    let (code, stderr) = lab.fails(&["status", "--lab", "other/lab.toml"]);
    assert_eq!(code, 5);
    assert!(stderr.contains("give the one of"), "{stderr}");
    // One that was moved is the lab's.
    std::fs::remove_file(lab.path("lab.toml")).unwrap();
    lab.works(&["status", "--lab", "other/lab.toml"]);
    lab.works(&["down", "--lab", "other/lab.toml"]);
}

#[test]
fn destroy_asks_first_and_deletes_what_the_lab_had_alone() {
    let lab = lab();
    lab.works(&["vm", "start", "a", "--driver", "qemu-tcg"]);
    let (code, stderr) = lab.fails(&["destroy"]);
    assert_eq!((code, stderr.contains("add --yes")), (2, true), "{stderr}");
    assert_eq!(lab.state_of("a").0, "running");
    lab.works(&["destroy", "--keep-disks"]);
    assert!(
        lab.path("state/bootjack/labs/fake/vm/a/disk.qcow2")
            .exists()
    );
    lab.works(&["destroy", "--yes"]);
    assert!(!lab.path("state/bootjack/labs/fake").exists());
    assert!(lab.path("lab.toml").exists());
}

/// Serves these octets to whoever asks, and counts who did.
fn server(content: Vec<u8>) -> (String, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/disk.img", listener.local_addr().unwrap());
    let asked = std::sync::Arc::<std::sync::atomic::AtomicUsize>::default();
    let counter = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(&mut stream).lines();
            lines
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .for_each(drop);
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                content.len()
            );
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&content);
        }
    });
    (url, asked)
}

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn an_image_that_is_not_here_is_got_before_its_machine_is_made() {
    use sha2::Digest as _;

    let lab = lab();
    let mut content = vec![7; 1 << 20];
    (content[0], content[510], content[511]) = (0, 0x55, 0xaa);
    let digest = sha2::Sha256::digest(&content);
    let digest: String = digest.iter().map(|octet| format!("{octet:02x}")).collect();
    let (url, asked) = server(content);
    let asked = || asked.load(std::sync::atomic::Ordering::Relaxed);
    std::fs::create_dir(lab.path("programs")).unwrap();
    let file = format!(
        "version = 1\n[lab]\nname = \"fake\"\narch = \"x86_64\"\n[provisioner]\nkind = \"namespace\"\nprograms = \"programs\"\n\
         [[image]]\nname = \"own\"\nurl = \"{url}?key=secret\"\ndigest = \"{digest}\"\n\
         [[image]]\nname = \"wrong\"\nurl = \"{url}\"\ndigest = \"{}\"\n\
         [[vm]]\nname = \"a\"\nfirmware = \"bios\"\nimage = \"own\"\n\
         [[vm]]\nname = \"b\"\nfirmware = \"bios\"\nimage = \"wrong\"\n",
        "0".repeat(64)
    );
    std::fs::write(lab.path("lab.toml"), file).unwrap();

    // What would be done is said, and not done.
    let step = format!("pull own for x86_64 from {url}");
    let planned = lab.run(&["plan"]);
    let text = String::from_utf8(planned.stdout).unwrap();
    assert_eq!(planned.status.code(), Some(9), "{text}");
    assert!(text.contains(&format!("image: {step}\n")), "{text}");
    let dry = [
        "up",
        "a",
        "--dry-run",
        "--driver",
        "qemu-tcg",
        "--bootjackd",
    ];
    let (text, _) = lab.works(&[&dry[..], &["lab.toml"]].concat());
    assert!(text.starts_with(&format!("# {step}\n")), "{text}");
    assert!(!text.contains("pull wrong"), "{text}");
    assert_eq!(asked(), 0);

    let start = lab.run(&["vm", "start", "a", "--driver", "qemu-tcg"]);
    let stderr = String::from_utf8(start.stderr).unwrap();
    assert!(start.status.success(), "{stderr}");
    assert!(stderr.contains("own for x86_64 is here"), "{stderr}");
    assert!(!stderr.contains("secret"), "{stderr}");
    assert_eq!((lab.state_of("a").0.as_str(), asked()), ("running", 1));
    let disk = lab.path("state/bootjack/labs/fake/vm/a/disk.qcow2");
    let backing = Command::new("qemu-img")
        .args(["info", "-U"])
        .arg(&disk)
        .output();
    let backing = String::from_utf8(backing.unwrap().stdout).unwrap();
    assert!(
        backing.contains(&format!("blobs/sha256/{digest}")),
        "{backing}"
    );

    // It is here from then on, whatever it is called elsewhere.
    lab.works(&["vm", "stop", "a", "--kill"]);
    lab.works(&["vm", "delete", "a"]);
    lab.works(&["vm", "start", "a", "--driver", "qemu-tcg"]);
    assert_eq!(asked(), 1);

    // The provisioner may be made from one, too.
    let file = std::fs::read_to_string(lab.path("lab.toml")).unwrap();
    let kind = "kind = \"namespace\"\nprograms = \"programs\"\n";
    let machine = file.replace(kind, "image = \"wrong\"\n");
    std::fs::write(lab.path("lab.toml"), machine).unwrap();
    let (text, _) = lab.works(&["up", "a", "--dry-run", "--driver", "qemu-tcg"]);
    let begin = format!("# pull wrong for x86_64 from {url}\n# provisioner: made from");
    assert!(text.starts_with(&begin), "{text}");
    std::fs::write(lab.path("lab.toml"), file).unwrap();

    // What is not what it has to be leaves nothing.
    let (code, stderr) = lab.fails(&["vm", "start", "b", "--driver", "qemu-tcg"]);
    assert_eq!((code, stderr.contains(&digest)), (10, true), "{stderr}");
    assert_eq!(lab.state_of("b").0, "stopped");
    assert!(
        !lab.path("state/bootjack/labs/fake/vm/b/disk.qcow2")
            .exists()
    );
}

#[test]
fn an_image_that_nobody_vouches_for_or_knows_is_refused() {
    let lab = lab();
    let head = "version = 1\n[lab]\nname = \"fake\"\narch = \"x86_64\"\n[[vm]]\nname = \"a\"\nfirmware = \"bios\"\nimage = \"ubuntu-2404\"\n";
    std::fs::write(lab.path("lab.toml"), head).unwrap();
    let (code, stderr) = lab.fails(&["vm", "start", "a", "--driver", "qemu-tcg"]);
    assert_eq!(
        (code, stderr.contains("did you mean ubuntu-24.04?")),
        (6, true),
        "{stderr}"
    );
    let images = "[[image]]\nname = \"x\"\nurl = \"https://h.example/x.img\"\n[[image]]\nname = \"y\"\nurl = \"ftp://h.example/y\"\nchecksums = \"http://h.example/SUMS\"\n";
    std::fs::write(lab.path("lab.toml"), format!("{head}{images}")).unwrap();
    let (code, stderr) = lab.fails(&["validate"]);
    assert_eq!(code, 3);
    for line in [
        "lab.toml:9: image[0]: nobody vouches for what comes from there",
        "lab.toml:14: image[1].url: wanted https://HOST/PATH",
        "lab.toml:15: image[1].checksums: wanted https://",
    ] {
        assert!(stderr.contains(line), "no `{line}` in {stderr}");
    }
}

#[test]
fn machines_are_written_into_the_file_renamed_and_forgotten() {
    let lab = lab();
    let text = || std::fs::read_to_string(lab.path("lab.toml")).unwrap();
    let wide = std::fs::Permissions::from_mode(0o664);
    std::fs::set_permissions(lab.path("lab.toml"), wide).unwrap();
    let create = ["vm", "create", "c", "--profile", "tiny"];
    lab.works(
        &[
            &create[..],
            &["--firmware", "bios", "--disk", "1GiB", "--boot", "disk,net"],
        ]
        .concat(),
    );
    let added = "\n[[vm]]\nname = \"c\"\nfirmware = \"bios\"\ndisk = \"1GiB\"\nboot = [\"disk\", \"net\"]\nprofile = \"tiny\"\n";
    assert_eq!(text(), format!("{FILE}{added}"));
    let mode = std::fs::metadata(lab.path("lab.toml"))
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o664);

    // What would not do is told as if it stood there, and does not stand there.
    let before = text();
    let (code, stderr) = lab.fails(&["vm", "create", "d", "--profile", "tiny", "--memory", "much"]);
    assert_eq!(
        (code, stderr.contains("vm[3].memory")),
        (3, true),
        "{stderr}"
    );
    let (code, stderr) = lab.fails(&["vm", "rename", "a", "c"]);
    assert_eq!(
        (code, stderr.contains("a machine c already")),
        (5, true),
        "{stderr}"
    );
    let (code, _) = lab.fails(&["vm", "rename", "nobody", "d"]);
    assert_eq!((code, text()), (4, before));

    lab.works(&["vm", "start", "c", "--driver", "qemu-tcg"]);
    let shown = |name: &str, key: &str| {
        let shown: Value = lab.json(&["vm", "show", name]);
        shown[key].clone()
    };
    let (mac, address) = (shown("c", "mac"), shown("c", "reserved_address"));
    let (code, stderr) = lab.fails(&["vm", "rename", "c", "d"]);
    assert_eq!(
        (code, stderr.contains("c runs; stop it first")),
        (5, true),
        "{stderr}"
    );
    lab.works(&["vm", "stop", "c", "--kill"]);
    let vms = lab.path("state/bootjack/labs/fake/vm");
    let host_key =
        |name: &str| std::fs::read(lab.path("state/bootjack/labs/fake/ssh/hosts").join(name));
    let key = host_key("c").unwrap();
    // A command that was killed has written the file, and no more.
    let file = text();
    std::fs::write(
        lab.path("lab.toml"),
        file.replace("name = \"c\"", "name = \"d\"") + &format!("mac = {mac}\n"),
    )
    .unwrap();
    std::fs::write(vms.join("c/kept"), "what was written").unwrap();
    lab.works(&["vm", "rename", "c", "d"]);
    assert_eq!(
        std::fs::read(vms.join("d/kept")).unwrap(),
        b"what was written"
    );
    assert!(!vms.join("c").exists());
    assert_eq!(
        (shown("d", "mac"), shown("d", "reserved_address")),
        (mac.clone(), address)
    );
    assert_eq!(host_key("d").unwrap(), key);
    lab.works(&["vm", "rename", "d", "e"]);
    assert_eq!(
        (shown("e", "mac"), vms.join("e/kept").exists()),
        (mac, true)
    );

    lab.works(&["vm", "delete", "e", "--forget"]);
    assert_eq!(text(), FILE);
    assert!(!vms.join("e").exists());
}
