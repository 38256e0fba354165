//! The provisioner as a machine, for real: the image of `deploy/provisioner`, and container images as `make image` and as the
//! Dockerfile make them.
//!
//! Wants what `make test` makes: target/provisioner/ARCH, target/test/container, target/ipxe, QEMU, zstd, strip and ssh.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// A lab with nothing but a provisioner, in directories of its own; it is gone with this.
struct Lab {
    home: tempfile::TempDir,
    /// What its commands run in.
    namespace: Option<Namespace>,
}

/// Namespaces with a bridge in them, which QEMU's helper may make taps for. They are gone with the process that holds them.
struct Namespace(Child);

impl Namespace {
    fn with_bridge() -> Self {
        // /etc as it is, with a file more: the helper has no other place for it. Waits for the end of what it reads.
        let script = "set -e
            ip link set lo up
            ip link add br0 type bridge
            ip link set br0 up
            mount -t tmpfs none /mnt
            mkdir /mnt/upper /mnt/work
            mount -t overlay none -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc
            mkdir -p /etc/qemu
            echo 'allow br0' >/etc/qemu/bridge.conf
            echo made
            exec cat >/dev/null";
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let stdout = holder.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut said).unwrap();
        assert_eq!(said, "made\n");
        Self(holder)
    }

    /// A command that runs in it.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let id = self.0.id().to_string();
        command.args(["--target", &id, "--net", "--mount", "--wd=.", "--", program]);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// What `make test-needs` left.
fn built(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let path = root.join("target").join(name);
    assert!(
        path.exists(),
        "{} is missing; run: make test-needs",
        path.display()
    );
    path
}

/// A container image without an engine: of the program that the Dockerfile made, without what is for debuggers.
fn pack(archive: &Path) {
    let program = archive.with_extension("program");
    let strip = Command::new("strip")
        .arg("-o")
        .args([&program, &built("test/container/bootjackd")])
        .status();
    assert!(
        strip
            .expect("strip runs; run: deploy/packages.sh test")
            .success()
    );
    let packed = Command::new(env!("CARGO_BIN_EXE_bootjack"))
        .args(["image", "container", "--arch", std::env::consts::ARCH])
        .arg("--program")
        .arg(&program)
        .arg("--boot-programs")
        .arg(built("ipxe"))
        .arg("--to")
        .arg(archive)
        .output()
        .unwrap();
    assert!(packed.status.success(), "{packed:?}");
}

impl Lab {
    fn new() -> Self {
        let image = built(&format!("provisioner/{}", std::env::consts::ARCH));
        Self::of("provisioner-test", &image, "")
    }

    /// `more` is of the section `[provisioner]`.
    fn of(name: &str, image: &Path, more: &str) -> Self {
        // In a short place: its sockets are below it.
        let home = tempfile::Builder::new()
            .prefix("bj-")
            .tempdir_in("/tmp")
            .unwrap();
        let archive = home.path().join("bootjackd.tar");
        pack(&archive);
        let text = format!(
            "version = 1\n[lab]\nname = \"{name}\"\n[provisioner]\nkind = \"vm\"\nimage = \"{}\"\ncontainer = \"{}\"\n{more}",
            image.display(),
            archive.display()
        );
        std::fs::write(home.path().join("lab.toml"), text).unwrap();
        Self {
            home,
            namespace: None,
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_bootjack");
        let mut command = match &self.namespace {
            Some(namespace) => namespace.command(program),
            None => Command::new(program),
        };
        let at = |name: &str| self.home.path().join(name);
        std::fs::create_dir_all(at("r")).unwrap();
        command
            .current_dir(self.home.path())
            .env("XDG_STATE_HOME", at("s"))
            .env("XDG_RUNTIME_DIR", at("r"))
            .env("XDG_DATA_HOME", at("d"))
            .args(words);
        command
    }

    fn bootjack(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Kills a command once QEMU, which it started, answers for itself.
    fn kill_when_qemu_is_there(&self, words: &[&str]) {
        let mut command = self.command(words).spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        let is_there = || {
            let shown = self.bootjack(&["provisioner", "status", "--output", "json"]);
            let shown: Value = serde_json::from_slice(&shown.stdout).unwrap_or_default();
            shown["pid"].is_number()
        };
        while !is_there() {
            assert!(Instant::now() < until, "{}", self.console());
        }
        command.kill().unwrap();
        command.wait().unwrap();
    }

    /// Standard output and standard error of a command that works.
    fn run(&self, words: &[&str]) -> (String, String) {
        let output = self.bootjack(words);
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(
            output.status.success(),
            "{words:?}: {stdout}{stderr}\n{}",
            self.console()
        );
        (stdout, stderr)
    }

    fn json(&self, words: &[&str]) -> Value {
        let (stdout, _) = self.run(&[words, &["--output", "json"]].concat());
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
    }

    /// A command in the machine.
    fn there(&self, command: &[&str]) -> String {
        let words = [&["exec", "provisioner", "--"], command].concat();
        self.run(&words).0.trim().to_owned()
    }

    /// Over the API, with the lab's certificates.
    fn api(&self, words: &[&str]) -> String {
        let api = self.json(&["provisioner", "api-info"]);
        let of = |key: &str| api[key].as_str().unwrap().to_owned();
        let (server, ca, cert, key) = (of("server"), of("ca"), of("cert"), of("key"));
        assert!(server.starts_with("https://127.0.0.1:"), "{server}");
        let access = [
            "--server", &server, "--ca", &ca, "--cert", &cert, "--key", &key,
        ];
        self.run(&[words, &access].concat()).0
    }

    fn console(&self) -> String {
        let labs = std::fs::read_dir(self.home.path().join("s/bootjack/labs"));
        let lab = labs.into_iter().flatten().flatten().next();
        let log = lab.map(|lab| lab.path().join("provisioner/console.log"));
        let log = log.and_then(|log| std::fs::read(log).ok());
        String::from_utf8_lossy(&log.unwrap_or_default()).into_owned()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let output = self.bootjack(&["destroy", "--yes"]);
        if !output.status.success() && !std::thread::panicking() {
            panic!("{output:?}");
        }
    }
}

/// Cold, thawed, and what it keeps between the two.
#[test]
fn a_machine_runs_the_container_and_thaws_in_seconds_with_its_data() {
    let lab = Lab::new();
    let (_, said) = lab.run(&["up", "--driver", "qemu-tcg"]);
    assert!(said.contains("powered on"), "{said}");
    assert!(said.contains("frozen: it starts in seconds"), "{said}");

    // bootjackd itself answers, to the lab's certificate alone.
    let status = lab.json(&["provisioner", "status"]);
    assert_eq!(
        (&status["kind"], &status["answers"]),
        (&"vm".into(), &true.into())
    );
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    let api = lab.json(&["provisioner", "api-info"]);
    let stranger = lab.bootjack(&[
        "reservation",
        "list",
        "--server",
        api["server"].as_str().unwrap(),
        "--ca",
        api["ca"].as_str().unwrap(),
    ]);
    assert!(!stranger.status.success(), "{stranger:?}");

    // With these rights and no others, on both of its networks.
    let container = lab.json(&["provisioner", "container", "status"]);
    assert_eq!(container["state"], "active");
    assert_eq!(
        container["capabilities"],
        serde_json::json!(["CAP_NET_BIND_SERVICE", "CAP_NET_RAW"])
    );
    let rights = lab.there(&["sh", "-c", "grep CapEff /proc/$(pidof bootjackd)/status"]);
    assert_eq!(rights, "CapEff:\t0000000000002400");
    let listens = lab.there(&["ss", "-Hlnut"]);
    for socket in ["198.18.0.1:69", "198.18.0.1:80", "10.0.2.15:8443"] {
        assert!(listens.contains(socket), "{listens}");
    }

    // What is written after the freezing is there after the thaw, and it is not that hour again.
    let reserved = [
        "reservation",
        "create",
        "--mac",
        "52:54:00:00:00:77",
        "--address",
        "198.18.0.77",
        "--hostname",
        "keeper",
    ];
    lab.api(&reserved);
    let before = lab.there(&["cat", "/proc/sys/kernel/random/uuid"]);
    let (_, said) = lab.run(&["provisioner", "stop"]);
    assert!(said.contains("shut down"), "by its power button: {said}");
    // Whoever is killed in the middle of it leaves what the next one goes on with.
    let start = ["provisioner", "start", "--driver", "qemu-tcg"];
    lab.kill_when_qemu_is_there(&start);
    let (_, said) = lab.run(&start);
    assert!(!said.contains("powered on"), "{said}");
    assert!(lab.api(&["reservation", "list"]).contains("keeper"));
    assert_ne!(before, lab.there(&["cat", "/proc/sys/kernel/random/uuid"]));
    let theirs: u64 = lab.there(&["date", "+%s"]).parse().unwrap();
    let ours = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let apart = ours.as_secs().abs_diff(theirs);
    assert!(apart < Duration::from_secs(60).as_secs(), "{apart} s");

    // The container comes and goes without the machine; up means that bootjackd answers.
    lab.run(&["provisioner", "container", "stop"]);
    assert_eq!(lab.json(&["provisioner", "status"])["answers"], false);
    lab.run(&["up", "--driver", "qemu-tcg"]);
    assert_eq!(lab.json(&["provisioner", "status"])["answers"], true);

    // Any archive will do: this one is buildah's. What is none changes nothing.
    let archive = built("test/container/dockerfile.tar").display().to_string();
    let refused = lab.bootjack(&["provisioner", "container", "load", "lab.toml"]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    lab.run(&["provisioner", "container", "load", &archive]);
    assert_eq!(lab.json(&["provisioner", "status"])["answers"], true);
    let log = lab.run(&["provisioner", "container", "logs"]).0;
    assert!(log.contains("ready"), "{log}");
    let loaded = lab.json(&["provisioner", "container", "status"]);
    assert_ne!(loaded["image_id"], container["image_id"]);

    // Later starts take it too, until the lab's own is asked for; the machine that runs is as it would be started now.
    let digest = |status: &Value| status["archive_sha256"].as_str().unwrap().to_owned();
    let dry = ["up", "--dry-run", "--driver", "qemu-tcg"];
    assert!(lab.run(&dry).0.contains(&digest(&loaded)));
    let (_, said) = lab.run(&["up", "--driver", "qemu-tcg"]);
    assert!(said.contains("loaded by hand"), "{said}");
    assert!(!said.contains("restart"), "{said}");
    lab.run(&["provisioner", "container", "reload"]);
    assert!(lab.run(&dry).0.contains(&digest(&container)));
    let back = lab.json(&["provisioner", "container", "status"]);
    assert_eq!(back["image_id"], container["image_id"]);
}

/// As it comes from whoever publishes it, but for podman; nothing can be had from anywhere, and its machines are on a bridge.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_cloud_image_becomes_the_provisioner_of_machines_on_a_bridge_without_a_way_out() {
    let image = built("guest/cloud-x86_64/disk.qcow2");
    let tiny = built("guest/tiny-x86_64");
    let more = format!(
        "user_data = \"mine.yaml\"\ninternet = false\nfreeze = false\nartifacts = [\"{}\"]\n\
         [network]\nkind = \"bridge\"\nbridge = \"br0\"\n\
         [[vm]]\nname = \"node\"\nfirmware = \"bios\"\nmemory = \"512MiB\"\nprofile = \"tiny\"\n",
        tiny.display()
    );
    let mut lab = Lab::of("cloud-test", &image, &more);
    lab.namespace = Some(Namespace::with_bridge());
    let mine = lab.home.path().join("mine.yaml");
    std::fs::write(&mine, "runcmd: [ touch /mine ]\n").unwrap();
    let up = [
        "up",
        "--wait=console:bootjack-guest: done",
        "--driver",
        "qemu-tcg",
    ];
    let refused = lab.bootjack(&up);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(
        said.contains("mine.yaml: wanted cloud-init's user-data"),
        "{said}"
    );
    std::fs::write(&mine, "#cloud-config\nruncmd: [ touch /mine ]\n").unwrap();

    lab.run(&up);
    let container = lab.json(&["provisioner", "container", "status"]);
    assert_eq!(container["state"], "active");
    assert_eq!(
        container["capabilities"],
        serde_json::json!(["CAP_NET_BIND_SERVICE", "CAP_NET_RAW"])
    );
    // What the owner wants is done beside what the lab wants.
    lab.there(&["cloud-init", "status", "--wait"]);
    lab.there(&["test", "-e", "/mine"]);
    let listens = lab.there(&["ss", "-Hlnut"]);
    for socket in ["198.18.0.1:69", "198.18.0.1:80", "10.0.2.15:8443"] {
        assert!(listens.contains(socket), "{listens}");
    }
    // It routes for its machines, and lets them into nothing of its own.
    assert_eq!(lab.there(&["cat", "/proc/sys/net/ipv4/ip_forward"]), "1");
    let rules = lab.there(&["nft", "list", "ruleset"]);
    assert!(rules.contains("tcp dport 22 drop"), "{rules}");
    // A tap for each machine, gone with it; the node has powered itself off by now or soon.
    let taps = || {
        let ip = lab
            .namespace
            .as_ref()
            .unwrap()
            .command("ip")
            .args(["-o", "link", "show", "master", "br0"])
            .output();
        String::from_utf8(ip.unwrap().stdout)
            .unwrap()
            .lines()
            .count()
    };
    assert!(taps() >= 1);
    lab.run(&["down"]);
    assert_eq!(taps(), 0);
}

#[test]
fn a_namespace_has_the_verbs_of_a_machine() {
    let home = tempfile::Builder::new().prefix("bj-").tempdir_in("/tmp");
    let lab = Lab {
        home: home.unwrap(),
        namespace: None,
    };
    let file = lab.home.path().join("lab.toml");
    let text = format!(
        "version = 1\n[lab]\nname = \"verbs\"\n[provisioner]\nkind = \"namespace\"\nprograms = \"{}\"\n",
        built("ipxe").display()
    );
    std::fs::write(&file, &text).unwrap();
    let status = || lab.json(&["provisioner", "status"]);
    assert_eq!(
        lab.bootjack(&["provisioner", "logs"]).status.code(),
        Some(4)
    );
    lab.run(&["up"]);
    let first = status();
    assert_eq!(
        (&first["state"], &first["answers"]),
        (&"running".into(), &true.into())
    );
    let log = lab.run(&["provisioner", "logs"]).0;
    assert!(log.contains("ready"), "{log}");

    // Another process, by another configuration; the same verb as a machine has.
    std::fs::write(
        &file,
        format!("{text}[network]\ndomain = \"other.internal\"\n"),
    )
    .unwrap();
    let (_, said) = lab.run(&["up"]);
    assert!(said.contains("runs by an earlier lab.toml"), "{said}");
    lab.run(&["provisioner", "reload"]);
    let second = status();
    assert!(first["pid"].is_number() && second["pid"].is_number());
    assert_ne!(first["pid"], second["pid"]);
    let (_, said) = lab.run(&["up"]);
    assert!(!said.contains("earlier"), "{said}");
    let refused = lab.bootjack(&["provisioner", "container", "reload"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("see: bootjack provisioner status, logs and reload"),
        "{said}"
    );
    lab.run(&["down"]);
    assert_eq!(status()["state"], "stopped");
}

/// Without making it, which takes as long as all other tests: `make image ARCH=aarch64` does.
#[test]
fn a_container_image_is_made_for_the_processor_that_is_asked_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let plan = |words: &[&str]| {
        let mut make = Command::new("make");
        let make = make.current_dir(root).args(["-n", "image"]).args(words);
        String::from_utf8(
            make.env_remove("ARCH")
                .env_remove("MAKEFLAGS")
                .output()
                .unwrap()
                .stdout,
        )
        .unwrap()
    };
    let (own, other) = match std::env::consts::ARCH {
        "x86_64" => ("x86_64", "aarch64"),
        own => (own, "x86_64"),
    };
    let (for_own, for_other) = (plan(&[]), plan(&[&format!("ARCH={other}")]));
    for (plan, arch, to) in [
        (&for_own, own, "bootjackd.tar".to_owned()),
        (&for_other, other, format!("bootjackd-{other}.tar")),
    ] {
        assert!(
            plan.contains(&format!("deploy/static.sh {arch}\n")),
            "{plan}"
        );
        assert!(plan.contains(&format!("--arch {arch} ")), "{plan}");
        assert!(
            plan.contains(&format!("--to target/image/{to}\n")),
            "{plan}"
        );
    }
    let refused = Command::new(root.join("deploy/static.sh"))
        .arg("riscv64")
        .output()
        .unwrap();
    assert!(!refused.status.success());
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(
        said,
        "static.sh: wanted architecture x86_64 or aarch64, got 'riscv64'\n"
    );
}
