//! The provisioner as a machine, for real: the image of `deploy/provisioner`, and container images as `make image` and as the
//! Dockerfile make them.

use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::support::{Held, Lab, built, checkout, pack, said};

/// A lab with such a provisioner; `more` is of the section `[provisioner]`.
fn lab(name: &str, image: &str, more: &str) -> Lab {
    let file = format!(
        "version = 1\n[lab]\nname = \"{name}\"\n[provisioner]\nkind = \"vm\"\nimage = \"@target@/{image}\"\n\
         container = \"@home@/bootjackd.tar\"\n{more}"
    );
    let lab = Lab::real(&file);
    pack(&lab.path("bootjackd.tar"));
    lab
}

/// Namespaces with a bridge in them, which QEMU's helper may make taps for: /etc as it is, with a file more, as the helper has no
/// other place for it.
fn with_bridge() -> Held {
    let script = "ip link set lo up
        ip link add br0 type bridge
        ip link set br0 up
        mount -t tmpfs none /mnt
        mkdir /mnt/upper /mnt/work
        mount -t overlay none -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc
        mkdir -p /etc/qemu
        echo 'allow br0' >/etc/qemu/bridge.conf";
    Held::by(&["--net", "--mount"], script)
}

/// Kills a command once QEMU, which it started, answers for itself.
fn kill_when_qemu_is_there(lab: &Lab, words: &[&str]) {
    let mut command = lab.command(words).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let is_there = || {
        let shown = lab.run(&["provisioner", "status", "--output", "json"]);
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap_or_default();
        shown["pid"].is_number()
    };
    while !is_there() {
        assert!(Instant::now() < until, "{}", lab.logs());
    }
    command.kill().unwrap();
    command.wait().unwrap();
}

/// A command in the machine.
fn there(lab: &Lab, command: &[&str]) -> String {
    let words = [&["exec", "provisioner", "--"], command].concat();
    lab.works(&words).0.trim().to_owned()
}

/// Over the API, with the lab's certificates.
fn api(lab: &Lab, words: &[&str]) -> String {
    let api = lab.json(&["provisioner", "api-info"]);
    let of = |key: &str| api[key].as_str().unwrap().to_owned();
    let (server, ca, cert, key) = (of("server"), of("ca"), of("cert"), of("key"));
    assert!(server.starts_with("https://127.0.0.1:"), "{server}");
    let access = [
        "--server", &server, "--ca", &ca, "--cert", &cert, "--key", &key,
    ];
    lab.works(&[words, &access].concat()).0
}

/// Cold, thawed, and what it keeps between the two.
#[test]
fn a_machine_runs_the_container_and_thaws_in_seconds_with_its_data() {
    let image = format!("provisioner/{}", std::env::consts::ARCH);
    let lab = lab("provisioner-test", &image, "");
    let (_, said) = lab.works(&["up", "--driver", "qemu-tcg"]);
    assert!(said.contains("powered on"), "{said}");
    assert!(said.contains("frozen: it starts in seconds"), "{said}");

    // bootjackd itself answers, to the lab's certificate alone.
    let status = lab.json(&["provisioner", "status"]);
    assert_eq!(
        (&status["kind"], &status["answers"]),
        (&"vm".into(), &true.into())
    );
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    let info = lab.json(&["provisioner", "api-info"]);
    let stranger = lab.run(&[
        "reservation",
        "list",
        "--server",
        info["server"].as_str().unwrap(),
        "--ca",
        info["ca"].as_str().unwrap(),
    ]);
    assert!(!stranger.status.success(), "{stranger:?}");

    // With these rights and no others, on both of its networks.
    let container = lab.json(&["provisioner", "container", "status"]);
    assert_eq!(container["state"], "active");
    assert_eq!(
        container["capabilities"],
        serde_json::json!(["CAP_NET_BIND_SERVICE", "CAP_NET_RAW"])
    );
    let rights = there(
        &lab,
        &["sh", "-c", "grep CapEff /proc/$(pidof bootjackd)/status"],
    );
    assert_eq!(rights, "CapEff:\t0000000000002400");
    let listens = there(&lab, &["ss", "-Hlnut"]);
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
    api(&lab, &reserved);
    let before = there(&lab, &["cat", "/proc/sys/kernel/random/uuid"]);
    let (_, said) = lab.works(&["provisioner", "stop"]);
    assert!(said.contains("shut down"), "by its power button: {said}");
    // Whoever is killed in the middle of it leaves what the next one goes on with.
    let start = ["provisioner", "start", "--driver", "qemu-tcg"];
    kill_when_qemu_is_there(&lab, &start);
    let (_, said) = lab.works(&start);
    assert!(!said.contains("powered on"), "{said}");
    assert!(api(&lab, &["reservation", "list"]).contains("keeper"));
    assert_ne!(
        before,
        there(&lab, &["cat", "/proc/sys/kernel/random/uuid"])
    );
    let theirs: u64 = there(&lab, &["date", "+%s"]).parse().unwrap();
    let ours = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let apart = ours.as_secs().abs_diff(theirs);
    assert!(apart < Duration::from_secs(60).as_secs(), "{apart} s");

    // The container comes and goes without the machine; up means that bootjackd answers.
    lab.works(&["provisioner", "container", "stop"]);
    assert_eq!(lab.json(&["provisioner", "status"])["answers"], false);
    lab.works(&["up", "--driver", "qemu-tcg"]);
    assert_eq!(lab.json(&["provisioner", "status"])["answers"], true);

    // Any archive will do: this one is buildah's. What is none changes nothing.
    let archive = built("test/container/dockerfile.tar").display().to_string();
    let refused = lab.run(&["provisioner", "container", "load", "lab.toml"]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    lab.works(&["provisioner", "container", "load", &archive]);
    assert_eq!(lab.json(&["provisioner", "status"])["answers"], true);
    let log = lab.works(&["provisioner", "container", "logs"]).0;
    assert!(log.contains("ready"), "{log}");
    let loaded = lab.json(&["provisioner", "container", "status"]);
    assert_ne!(loaded["image_id"], container["image_id"]);

    // Later starts take it too, until the lab's own is asked for; the machine that runs is as it would be started now.
    let digest = |status: &Value| status["archive_sha256"].as_str().unwrap().to_owned();
    let dry = ["up", "--dry-run", "--driver", "qemu-tcg"];
    assert!(lab.works(&dry).0.contains(&digest(&loaded)));
    let (_, said) = lab.works(&["up", "--driver", "qemu-tcg"]);
    assert!(said.contains("loaded by hand"), "{said}");
    assert!(!said.contains("restart"), "{said}");
    lab.works(&["provisioner", "container", "reload"]);
    assert!(lab.works(&dry).0.contains(&digest(&container)));
    let back = lab.json(&["provisioner", "container", "status"]);
    assert_eq!(back["image_id"], container["image_id"]);
    lab.works(&["destroy", "--yes"]);
}

/// As it comes from whoever publishes it, but for podman; nothing can be had from anywhere, and its machines are on a bridge.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_cloud_image_becomes_the_provisioner_of_machines_on_a_bridge_without_a_way_out() {
    let more = "user_data = \"mine.yaml\"\ninternet = false\nfreeze = false\nartifacts = [\"@target@/guest/tiny-x86_64\"]\n\
                [network]\nkind = \"bridge\"\nbridge = \"br0\"\n\
                [[vm]]\nname = \"node\"\nfirmware = \"bios\"\nmemory = \"512MiB\"\nprofile = \"tiny\"\n";
    let mut lab = lab("cloud-test", "guest/cloud-x86_64/disk.qcow2", more);
    lab.held = Some(with_bridge());
    lab.write("mine.yaml", "runcmd: [ touch /mine ]\n");
    let up = [
        "up",
        "--wait=console:bootjack-guest: done",
        "--driver",
        "qemu-tcg",
    ];
    let (code, told) = lab.fails(&up);
    assert_eq!(code, 3, "{told}");
    assert!(
        told.contains("mine.yaml: wanted cloud-init's user-data"),
        "{told}"
    );
    lab.write("mine.yaml", "#cloud-config\nruncmd: [ touch /mine ]\n");

    lab.works(&up);
    let container = lab.json(&["provisioner", "container", "status"]);
    assert_eq!(container["state"], "active");
    assert_eq!(
        container["capabilities"],
        serde_json::json!(["CAP_NET_BIND_SERVICE", "CAP_NET_RAW"])
    );
    // What the owner wants is done beside what the lab wants.
    there(&lab, &["cloud-init", "status", "--wait"]);
    there(&lab, &["test", "-e", "/mine"]);
    let listens = there(&lab, &["ss", "-Hlnut"]);
    for socket in ["198.18.0.1:69", "198.18.0.1:80", "10.0.2.15:8443"] {
        assert!(listens.contains(socket), "{listens}");
    }
    // It routes for its machines, and lets them into nothing of its own.
    assert_eq!(there(&lab, &["cat", "/proc/sys/net/ipv4/ip_forward"]), "1");
    let rules = there(&lab, &["nft", "list", "ruleset"]);
    assert!(rules.contains("tcp dport 22 drop"), "{rules}");
    // A tap for each machine, gone with it; the node has powered itself off by now or soon.
    let taps = || {
        let mut ip = lab.held.as_ref().unwrap().command("ip");
        let ip = ip.args(["-o", "link", "show", "master", "br0"]).output();
        said(&ip.unwrap()).0.lines().count()
    };
    assert!(taps() >= 1);
    lab.works(&["down"]);
    assert_eq!(taps(), 0);
}

#[test]
fn a_namespace_has_the_verbs_of_a_machine() {
    let file = "version = 1\n[lab]\nname = \"verbs\"\n[provisioner]\nkind = \"namespace\"\nprograms = \"@target@/ipxe\"\n";
    let lab = Lab::of(file);
    let status = || lab.json(&["provisioner", "status"]);
    assert_eq!(lab.run(&["provisioner", "logs"]).status.code(), Some(4));
    lab.works(&["up"]);
    let first = status();
    assert_eq!(
        (&first["state"], &first["answers"]),
        (&"running".into(), &true.into())
    );
    let log = lab.works(&["provisioner", "logs"]).0;
    assert!(log.contains("ready"), "{log}");

    // Another process, by another configuration; the same verb as a machine has.
    let other = format!("{file}[network]\ndomain = \"other.internal\"\n");
    lab.write("lab.toml", &other);
    let (_, said) = lab.works(&["up"]);
    assert!(said.contains("runs by an earlier lab.toml"), "{said}");
    lab.works(&["provisioner", "reload"]);
    let second = status();
    assert!(first["pid"].is_number() && second["pid"].is_number());
    assert_ne!(first["pid"], second["pid"]);
    let (_, said) = lab.works(&["up"]);
    assert!(!said.contains("earlier"), "{said}");
    let (_, told) = lab.fails(&["provisioner", "container", "reload"]);
    assert!(
        told.contains("see: bootjack provisioner status, logs and reload"),
        "{told}"
    );
    lab.works(&["down"]);
    assert_eq!(status()["state"], "stopped");
}

/// Without making it, which takes as long as all other tests: `make image ARCH=aarch64` does.
#[test]
fn a_container_image_is_made_for_the_processor_that_is_asked_for() {
    let root = checkout();
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
