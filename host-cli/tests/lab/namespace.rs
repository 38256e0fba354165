//! bootjackd in a namespace on the lab's switch, by root and by nobody in particular: a machine boots from it. Root tries it as
//! nobody, too, with and without a /dev/net/tun.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Turn, checkout};

/// For what must come; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(120);
const NOBODY: u32 = 65_534;
/// The machine's port: the first 8 digits of the SHA-256 of its name, node1.
const NODE1: &str = "ca12f31b";

/// Who runs it all.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    /// Whoever runs the tests.
    Ourselves,
    /// Nobody, where there is no /dev/net/tun.
    Nobody,
    /// Where /dev/net/tun is everybody's, as on most systems.
    NobodyWithTun,
}

impl Who {
    fn command(self, program: impl AsRef<Path>) -> Command {
        let setpriv = "exec setpriv --reuid 65534 --regid 65534 --clear-groups -- \"$0\" \"$@\"";
        let with_tun = format!(
            "mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200 && {setpriv}"
        );
        let without_tun = format!("mount -t tmpfs none /dev/net && {setpriv}");
        let mut command = match self {
            Self::Ourselves => return Command::new(program.as_ref()),
            _ => Command::new("unshare"),
        };
        match self {
            Self::NobodyWithTun => command.args(["-m", "sh", "-c", &with_tun]),
            _ => command.args(["-m", "sh", "-c", &without_tun]),
        };
        command.arg(program.as_ref());
        command
    }

    /// Whether these rights can be tried here: only root can be somebody else.
    fn can_be_tried(self) -> bool {
        // SAFETY: only reads an id of this process.
        self == Self::Ourselves || unsafe { libc::geteuid() } == 0
    }
}

/// A runtime directory with a switch and a namespace in it.
struct Lab {
    who: Who,
    run: tempfile::TempDir,
    switch: Child,
    namespace: Child,
}

impl Lab {
    fn new(who: Who) -> Self {
        let run = tempfile::Builder::new()
            .prefix("ns")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in("/tmp")
            .unwrap();
        if who != Who::Ourselves {
            std::os::unix::fs::chown(run.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let config = run.path().join("bootjackd.toml");
        std::fs::write(&config, configuration(run.path())).unwrap();
        let switch = await_ready(net(who, run.path(), "switch").spawn().unwrap());
        for (name, id, isolated) in [("provisioner", "01218adf", false), ("node1", NODE1, true)] {
            ask(
                &run.path().join("sw"),
                &serde_json::json!({"add": {"id": id, "name": name, "isolated": isolated}}),
            );
        }
        let namespace = namespace(who, run.path());
        Self {
            who,
            run,
            switch,
            namespace: await_ready(namespace),
        }
    }

    fn run(&self) -> &Path {
        self.run.path()
    }

    fn status(&self) -> Value {
        ask(&self.run().join("ns"), &serde_json::json!({"status": null}))
    }

    /// The same program as a user of the lab types it.
    fn bootjack(&self, arguments: &[&str]) -> Output {
        let mut command = self.who.command(env!("CARGO_BIN_EXE_bootjack"));
        command.args(arguments).output().unwrap()
    }

    fn bootjackd(&self) -> u32 {
        u32::try_from(self.status()["bootjackd"].as_u64().unwrap()).unwrap()
    }

    fn dialled(&self, host: &str, port: &str) -> Child {
        let run = self.run().to_str().unwrap();
        let mut command = self.who.command(env!("CARGO_BIN_EXE_bootjack"));
        command.args(["net", "dial", "--run", run, host, port]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// What is said to a TCP port from inside, and answered until it closes.
    fn dial(&self, host: &str, port: &str, said: &str) -> Output {
        let mut child = self.dialled(host, port);
        // Open until the answer is there: a server may take an end for one that has gone.
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(said.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        drop(stdin);
        output
    }
}

/// The first line of what is answered on a connection that stays open, read octet by octet as ssh reads it.
fn first_line(child: &mut Child, said: &str) -> String {
    let stdin = child.stdin.as_mut().unwrap();
    stdin.write_all(said.as_bytes()).unwrap();
    let mut answer = child.stdout.take().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut line, mut octet) = (Vec::new(), [0]);
        while octet != [b'\n'] && answer.read_exact(&mut octet).is_ok() {
            line.extend(octet);
        }
        let _ = tell.send(line);
    });
    let line = told.recv_timeout(PATIENCE);
    let _ = child.kill();
    let _ = child.wait();
    String::from_utf8(line.expect("what has come is not given")).unwrap()
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in [&mut self.namespace, &mut self.switch] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn net(who: Who, run: &Path, verb: &str) -> Command {
    let mut command = who.command(env!("CARGO_BIN_EXE_bootjack"));
    command.args(["net", verb, "--run"]).arg(run);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn namespace(who: Who, run: &Path) -> Child {
    let bootjackd = Path::new(env!("CARGO_BIN_EXE_bootjack")).with_file_name("bootjackd");
    let mut command = net(who, run, "namespace");
    command.arg("--config").arg(run.join("bootjackd.toml"));
    command.arg("--log").arg(run.join("bootjackd.log"));
    command.arg("--bootjackd").arg(bootjackd);
    command.args(["--address", "198.18.0.1/24"]);
    command.spawn().unwrap()
}

fn await_ready(mut child: Child) -> Child {
    let mut said = String::new();
    (child.stdout.take().unwrap())
        .read_to_string(&mut said)
        .unwrap();
    if said != "ready\n" {
        let output = child.wait_with_output().unwrap();
        panic!("{said}{}", String::from_utf8_lossy(&output.stderr));
    }
    child
}

fn ask(socket: &Path, request: &Value) -> Value {
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("{request}\n").as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    let answer: Value = serde_json::from_str(&line).unwrap();
    answer.get("ok").expect(&line).clone()
}

fn configuration(run: &Path) -> String {
    let (run, checkout) = (run.display(), checkout());
    let checkout = checkout.display();
    format!(
        r#"data_dir = "{run}/data"
process = {{ user = "root" }}
dhcp = {{ interfaces = ["lan0"] }}
tftp = {{ listen = "198.18.0.1:69" }}
http = {{ listen = "198.18.0.1:80", files = "{checkout}/target/guest" }}
grpc = {{ listen = "unix:{run}/api" }}
boot = {{ programs = "{checkout}/target/ipxe", profiles = "{checkout}/deploy/lab/profiles" }}
[[subnet]]
cidr = "198.18.0.0/24"
pools = ["198.18.0.100-198.18.0.199"]
router = "198.18.0.1"
"#
    )
}

/// Waits until the process is no more, or only a name that nobody asked for.
fn await_end(pid: u32) {
    let deadline = Instant::now() + PATIENCE;
    let state = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    };
    while !matches!(state(), None | Some('Z' | 'X')) {
        assert!(Instant::now() < deadline, "process {pid} is {:?}", state());
        std::thread::yield_now();
    }
}

/// Boots the tiny guest at the machine's port; what its console said, up to the guest's last word.
fn boot(lab: &Lab) -> String {
    let _turn = Turn::awaited();
    let run = lab.run().display();
    let netdev = format!(
        "dgram,id=n0,local.type=unix,local.path={run}/v-{NODE1},remote.type=unix,remote.path={run}/s-{NODE1}"
    );
    let card = "virtio-net-pci,netdev=n0,mac=52:54:00:00:00:01,bootindex=0,disable-legacy=on,romfile=/usr/lib/ipxe/qemu/pxe-virtio.rom";
    let mut command = lab.who.command("qemu-system-x86_64");
    command
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
        ])
        .args([
            "-machine",
            "q35,graphics=off",
            "-accel",
            "tcg",
            "-cpu",
            "max",
            "-m",
            "512",
        ])
        .args(["-serial", "stdio", "-device", "virtio-rng-pci"])
        .args(["-netdev", &netdev, "-device", card])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut qemu = command
        .spawn()
        .expect("wanted QEMU; run: deploy/packages.sh lab");
    let mut console = String::new();
    for line in BufReader::new(qemu.stdout.take().unwrap()).split(b'\n') {
        let line = line.unwrap();
        console.push_str(&String::from_utf8_lossy(&line));
        console.push('\n');
        if console.contains("bootjack-guest: done") {
            break;
        }
    }
    let _ = qemu.kill();
    let _ = qemu.wait();
    console
}

fn boots(who: Who) {
    if !who.can_be_tried() {
        return;
    }
    let lab = Lab::new(who);
    let status = lab.status();
    assert_eq!(status["ready"], true);
    let api = format!("unix:{}/api", lab.run().display());
    let created = lab.bootjack(&[
        "--server",
        &api,
        "reservation",
        "create",
        "--mac",
        "52:54:00:00:00:01",
        "--address",
        "198.18.0.10",
        "--hostname",
        "node1",
        "--profile",
        "tiny",
    ]);
    assert!(
        created.status.success(),
        "{}",
        String::from_utf8_lossy(&created.stderr)
    );
    let console = boot(&lab);
    let log = std::fs::read_to_string(lab.run().join("bootjackd.log")).unwrap();
    assert!(console.contains("bootjack-guest: done"), "{console}\n{log}");
    assert!(console.contains("address=198.18.0.10 "), "{console}");
    assert!(console.contains("meta-data: local-hostname: "), "{console}");
    let text = lab.bootjack(&["net", "status", "--run", lab.run().to_str().unwrap()]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.contains("node1") && text.contains("52:54:00:00:00:01"),
        "{text}"
    );
    assert!(text.contains("serves in a namespace"), "{text}");
}

#[test]
fn a_machine_boots_from_bootjackd_in_a_namespace_of_ours() {
    boots(Who::Ourselves);
}

#[test]
fn a_machine_boots_from_a_namespace_of_somebody_who_has_no_device_and_no_right() {
    boots(Who::Nobody);
}

#[test]
fn nobody_in_particular_takes_a_tap_where_it_may_and_reaches_tcp_in_the_namespace() {
    for who in [Who::Ourselves, Who::Nobody, Who::NobodyWithTun] {
        if !who.can_be_tried() {
            continue;
        }
        let lab = Lab::new(who);
        let status = lab.status();
        let (right, interface) = match who {
            Who::Ourselves => (status["right"].clone(), status["interface"].clone()),
            Who::Nobody => ("user_namespace".into(), "veth".into()),
            Who::NobodyWithTun => ("user_namespace".into(), "tap".into()),
        };
        assert_eq!(
            (&status["right"], &status["interface"]),
            (&right, &interface)
        );
        let answer = lab.dial("198.18.0.1", "80", "GET /healthz HTTP/1.0\r\n\r\n");
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        assert!(text.starts_with("HTTP/1.0 200 OK\r\n"), "{text}");
        assert!(answer.status.success());
        let mut open = lab.dialled("198.18.0.1", "80");
        let line = first_line(&mut open, "GET /healthz HTTP/1.1\r\nHost: lab\r\n\r\n");
        assert_eq!(line, "HTTP/1.1 200 OK\r\n");
        let refused = lab.dial("198.18.0.1", "81", "");
        assert_eq!(refused.status.code(), Some(1));
        assert_eq!(
            String::from_utf8(refused.stderr).unwrap(),
            "bootjack: the provisioner's namespace: cannot reach 198.18.0.1, port 81: connection refused\n"
        );
    }
}

#[test]
fn it_ends_whole_when_it_is_asked_to() {
    let mut lab = Lab::new(Who::Ourselves);
    let bootjackd = lab.bootjackd();
    let mut stream = std::os::unix::net::UnixStream::connect(lab.run().join("ns")).unwrap();
    stream
        .write_all(b"{\"dance\":null}\n{\"stop\":null}\n")
        .unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert!(
        said.contains("wanted an object with one of status, dial, stop"),
        "{said}"
    );
    assert!(said.ends_with("{\"ok\":null}\n"), "{said}");
    assert!(lab.namespace.wait().unwrap().success());
    await_end(bootjackd);
    for file in ["ns", "api", "v-01218adf"] {
        assert!(!lab.run().join(file).exists(), "{file}");
    }
}

#[test]
fn a_supervisor_that_is_killed_takes_bootjackd_along_and_is_replaced() {
    for who in [Who::Ourselves, Who::Nobody] {
        if !who.can_be_tried() {
            continue;
        }
        let mut lab = Lab::new(who);
        let bootjackd = lab.bootjackd();
        lab.namespace.kill().unwrap();
        lab.namespace.wait().unwrap();
        await_end(bootjackd);
        lab.namespace = await_ready(namespace(who, lab.run()));
        assert_eq!(lab.status()["ready"], true);
    }
}

#[test]
fn a_second_one_is_refused_and_the_first_goes_on() {
    let lab = Lab::new(Who::Ourselves);
    let second = namespace(Who::Ourselves, lab.run())
        .wait_with_output()
        .unwrap();
    assert_eq!(second.status.code(), Some(5));
    let text = String::from_utf8(second.stderr).unwrap();
    assert!(text.contains("/ns.pid: a provisioner (pid "), "{text}");
    assert_eq!(lab.status()["ready"], true);
}

#[test]
fn when_bootjackd_ends_so_does_the_supervisor_with_its_words() {
    let mut lab = Lab::new(Who::Ourselves);
    // SAFETY: takes no pointers; the supervisor has not waited for it, so the pid is still its own.
    unsafe { libc::kill(lab.bootjackd() as libc::pid_t, libc::SIGKILL) };
    let mut text = String::new();
    lab.namespace
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(lab.namespace.wait().unwrap().code(), Some(11));
    assert!(
        text.contains("bootjack: bootjackd ended (signal: 9 (SIGKILL)"),
        "{text}"
    );
    assert!(!lab.run().join("ns").exists());

    std::fs::write(lab.run().join("bootjackd.toml"), "nonsense = 1\n").unwrap();
    let output = namespace(Who::Ourselves, lab.run())
        .wait_with_output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(11), "{text}");
    assert!(text.contains("nonsense"), "{text}");
}

#[test]
fn how_a_namespace_can_be_had_is_tried_for_each() {
    for (who, wanted) in [
        (Who::Nobody, "user_namespace veth\n"),
        (Who::NobodyWithTun, "user_namespace tap\n"),
    ] {
        if who.can_be_tried() {
            let mut command = who.command(env!("CARGO_BIN_EXE_bootjack"));
            let output = command.args(["net", "probe"]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), wanted);
        }
    }
}
