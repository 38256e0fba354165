//! The provisioner as a machine, for real: the image of `deploy/provisioner`, and container images as `make image` and as the
//! Dockerfile make them.
//!
//! Wants what `make test` makes: target/provisioner/ARCH, target/test/container, target/ipxe, QEMU, zstd, strip and ssh.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// A lab with nothing but a provisioner, in directories of its own; it is gone with this.
struct Lab {
    home: tempfile::TempDir,
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
        // In a short place: its sockets are below it.
        let home = tempfile::Builder::new()
            .prefix("bj-")
            .tempdir_in("/tmp")
            .unwrap();
        let archive = home.path().join("bootjackd.tar");
        pack(&archive);
        let image = built(&format!("provisioner/{}", std::env::consts::ARCH));
        let text = format!(
            "version = 1\n[lab]\nname = \"provisioner-test\"\n[provisioner]\nkind = \"vm\"\nimage = \"{}\"\ncontainer = \"{}\"\n",
            image.display(),
            archive.display()
        );
        std::fs::write(home.path().join("lab.toml"), text).unwrap();
        Self { home }
    }

    fn bootjack(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bootjack"));
        let at = |name: &str| self.home.path().join(name);
        std::fs::create_dir_all(at("r")).unwrap();
        let output = command
            .current_dir(self.home.path())
            .env("XDG_STATE_HOME", at("s"))
            .env("XDG_RUNTIME_DIR", at("r"))
            .env("XDG_DATA_HOME", at("d"))
            .args(words)
            .output();
        output.unwrap()
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
        let name = "s/bootjack/labs/provisioner-test/provisioner/console.log";
        let log = std::fs::read(self.home.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
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
    let (_, said) = lab.run(&["provisioner", "start", "--driver", "qemu-tcg"]);
    assert!(said.contains("thawed"), "{said}");
    assert!(lab.api(&["reservation", "list"]).contains("keeper"));
    assert_ne!(before, lab.there(&["cat", "/proc/sys/kernel/random/uuid"]));
    let theirs: u64 = lab.there(&["date", "+%s"]).parse().unwrap();
    let ours = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let apart = ours.as_secs().abs_diff(theirs);
    assert!(apart < Duration::from_secs(60).as_secs(), "{apart} s");

    // The container comes and goes without the machine, and any archive will do: this one is buildah's.
    lab.run(&["provisioner", "container", "stop"]);
    assert_eq!(lab.json(&["provisioner", "status"])["answers"], false);
    let archive = built("test/container/dockerfile.tar").display().to_string();
    lab.run(&["provisioner", "container", "load", &archive]);
    assert_eq!(lab.json(&["provisioner", "status"])["answers"], true);
    let log = lab.run(&["provisioner", "container", "logs"]).0;
    assert!(log.contains("ready"), "{log}");
    let loaded = lab.json(&["provisioner", "container", "status"]);
    assert_ne!(loaded["image_id"], container["image_id"]);
}
