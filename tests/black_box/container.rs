//! The container image, run by a real engine: as the Dockerfile makes it, and as `bootjack image container` packs it.
//!
//! `tests/container/build.sh` has built the Dockerfile, and left the program that is in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::dhcp::{Packet, Segment, mac};
use crate::support::service::{Home, Service, program};

/// What `make test-needs` left.
fn built(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test/container");
    let path = path.join(name);
    assert!(
        path.exists(),
        "{} is missing; run: make test-needs",
        path.display()
    );
    path
}

/// podman with images and containers of its own.
struct Engine {
    home: tempfile::TempDir,
}

impl Engine {
    fn new() -> Self {
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let at = |name: &str| home.path().join(name).display().to_string();
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
            at("images"),
            at("run")
        );
        fs::write(home.path().join("storage.conf"), storage).expect("written");
        Self { home }
    }

    fn podman(&self) -> Command {
        let mut command = Command::new("podman");
        command
            .env(
                "CONTAINERS_STORAGE_CONF",
                self.home.path().join("storage.conf"),
            )
            .args(["--runtime", "runc"]);
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.podman().args(arguments).output();
        told(&output.expect("podman runs; run: deploy/packages.sh test"))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Its mounts go with its containers.
        let _ = self.podman().args(["rm", "--all", "--force"]).output();
        let _ = self.podman().args(["rmi", "--all", "--force"]).output();
    }
}

fn told(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A client boots off the container, which has two capabilities and no rights, and finds its lease again in the next container.
fn serves(archive: &Path) {
    let engine = Engine::new();
    let loaded = engine.run(&["load", "--quiet", "--input", &archive.display().to_string()]);
    let image = loaded.rsplit(' ').next().expect("a name");
    let (netns, client) = Segment::new();
    let home = Home::new();
    let config = home.write(
        "bootjackd.toml",
        "[dhcp]\ninterfaces = [\"lan0\"]\n[[subnet]]\ncidr = \"198.18.0.0/24\"\npools = [\"198.18.0.100-198.18.0.199\"]\n",
    );
    let network = format!("ns:/var/run/netns/{}", netns.name());
    let mount = format!("{}:/etc/bootjack/bootjackd.toml:ro", config.display());
    let start = |name: &str| {
        let mut command = engine.podman();
        command
            .args(["run", "--name", name, "--network", &network])
            .args([
                "--ulimit",
                "nofile=1024:1024",
                "--ulimit",
                "nproc=1024:1024",
            ])
            .args([
                "--cap-drop",
                "ALL",
                "--cap-add",
                "NET_BIND_SERVICE",
                "--cap-add",
                "NET_RAW",
            ])
            .args(["--volume", &mount, "--volume", "data:/var/lib/bootjack"])
            .args([image, "serve", "--log-format", "json"]);
        let service = Service::run(command);
        service.wait_for("ready", |_| true);
        service
    };

    let service = start("first");
    let lease = client.acquire(mac(7));
    let said = engine.run(&["exec", "first", "/bootjackd", "health"]);
    assert!(said.starts_with("bootjackd serves on unix:"), "{said}");
    let pid = engine.run(&["inspect", "--format", "{{.State.Pid}}", "first"]);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.expect(name)
            .split_whitespace()
            .next()
            .expect("a value")
    };
    assert_eq!(line("Uid:"), "65532");
    assert_eq!(
        line("CapEff:"),
        "0000000000002400",
        "ports below 1024, and frames"
    );
    let (ended, _) = service.terminate();
    assert!(ended.success(), "{ended}");

    let service = start("second");
    let again = client.ask(&Packet::rebooting(mac(7), lease.yiaddr()));
    assert_eq!((again.kind(), again.yiaddr()), (5, lease.yiaddr()));
    drop(service.terminate());
}

#[test]
fn the_dockerfile_makes_an_image_that_boots_machines() {
    serves(&built("dockerfile.tar"));
}

/// It has a C library in it, which must not load what the machine's own has for looking up users.
#[test]
fn the_program_of_the_image_runs_as_root_on_a_machine_of_any_distribution() {
    let (server, client) = Segment::new();
    let home = Home::new();
    let config = home.write("bootjackd.toml", home.config(""));
    let program = built("bootjackd");
    let mut command = server.command(program.to_str().expect("UTF-8"));
    command.args(["serve", "--log-format", "json", "--config"]);
    command.arg(config);
    let service = Service::run(command);
    let settled = service.wait_for("runs as", |_| true);
    assert_eq!(settled["user"], "root", "{settled}");
    service.wait_for("ready", |_| true);
    client.acquire(mac(7));
    drop(service.terminate());
}

#[test]
fn an_image_that_no_engine_made_boots_machines() {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let archive = home.path().join("image.tar");
    let packed = Command::new(Path::new(program()).with_file_name("bootjack"))
        .args(["image", "container", "--arch", std::env::consts::ARCH])
        .arg("--program")
        .arg(built("bootjackd"))
        .args(["--boot-programs", "target/ipxe", "--to"])
        .arg(&archive)
        .output();
    told(&packed.expect("it runs; run: cargo build --workspace"));
    serves(&archive);
}

#[test]
fn a_program_that_could_not_run_in_the_image_is_refused() {
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let refused = |program: &Path| {
        let output = Command::new(Path::new(self::program()).with_file_name("bootjack"))
            .args(["image", "container", "--arch", std::env::consts::ARCH])
            .args(["--boot-programs", "target/ipxe", "--to"])
            .arg(home.path().join("image.tar"))
            .arg("--program")
            .arg(program)
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(3));
        assert!(!home.path().join("image.tar").exists());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let script = home.path().join("script");
    fs::write(&script, "#!/bin/sh\n").expect("written");
    assert!(refused(&script).contains("wanted a Linux program (ELF)"));
    // As cargo builds it for this machine.
    assert!(refused(Path::new(program())).contains("it needs libraries"));
}
