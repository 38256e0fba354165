//! What the README's chapter on security tells people to type, typed; and `make install`, as a package would use it.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::auth::{Authority, bootjack};
use crate::support::netns::{Netns, server_and_client};
use crate::support::service::{Home, Service, program};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The chapter of this name.
fn chapter(name: &str) -> String {
    let readme = std::fs::read_to_string(Path::new(ROOT).join("README.md")).expect("readable");
    let (_, rest) = readme
        .split_once(&format!("\n## {name}\n"))
        .expect("it is there");
    rest.split("\n## ").next().unwrap_or_default().to_owned()
}

/// What is typed at this prompt.
fn typed(chapter: &str, prompt: &str) -> Vec<String> {
    let lines = chapter.lines().filter_map(|line| line.strip_prefix(prompt));
    let commands = lines.filter(|line| line.starts_with("bootjack "));
    commands.map(str::to_owned).collect()
}

/// Runs a line as a shell does, in this directory and network, where `bootjack` is the one under test.
fn shell(netns: &Netns, dir: &Path, line: &str) -> Output {
    let bin = bootjack();
    let path = format!(
        "{}:{}",
        bin.parent().expect("a directory").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let mut command = netns.command("sh");
    command
        .args(["-c", line])
        .current_dir(dir)
        .env("PATH", path);
    command.output().expect("ip runs")
}

#[test]
fn what_the_chapter_on_security_says_is_so() {
    let (server, _client) = server_and_client("52:54:00:00:00:01");
    server.ip(&["address", "add", "192.0.2.1/32", "dev", "lo"]);
    let home = Home::new();
    let dir = home.path();
    let auth = dir.join("auth");
    let chapter = chapter("Security");

    let root = typed(&chapter, "# ");
    assert_eq!(root.len(), 5, "{root:?}");
    let (revoke, others) = root.split_last().expect("some");
    assert!(revoke.starts_with("bootjack auth revoke "), "{revoke}");
    let here = format!("bootjack auth --dir {}", auth.display());
    for line in others {
        let done = shell(&server, dir, &line.replace("bootjack auth", &here));
        assert!(done.status.success(), "{line}: {done:?}");
    }

    let toml = chapter.split("```toml\n").nth(1).expect("a configuration");
    let toml = toml.split("```").next().unwrap_or_default();
    let toml = toml
        .replace("unix:/run/bootjack/api.sock", &home.api())
        .replace("/etc/bootjack/auth", &auth.display().to_string())
        .replace("/var/log/bootjack", &dir.display().to_string());
    let usual = format!("[grpc]\nlisten = \"{}\"\n", home.api());
    let config = home.config("");
    assert!(config.contains(&usual));
    let service = Service::start(&server, &home, &config.replace(&usual, &toml));

    // What alice is given, and everybody.
    let authority = Authority { dir: auth.clone() };
    let (certificate, key) = authority.client("alice");
    for (from, to) in [
        (authority.ca(), "ca.pem"),
        (certificate, "alice.pem"),
        (key, "alice.key"),
    ] {
        std::fs::copy(from, dir.join(to)).expect("copied");
    }
    let theirs = typed(&chapter, "$ ");
    assert_eq!(theirs.len(), 2, "{theirs:?}");
    let at_this = |line: &str| line.replace("boot.example.net", "192.0.2.1");
    for line in &theirs {
        let done = shell(&server, dir, &at_this(line));
        assert!(done.status.success(), "{line}: {done:?}");
    }
    let with_token = theirs.iter().find(|line| line.contains("ci.token"));
    let with_token = at_this(with_token.expect("one"));
    let create = with_token.replace(
        "reservation list",
        "reservation create --mac 52:54:00:00:00:07 --hostname node-7",
    );
    let done = shell(&server, dir, &create);
    assert!(done.status.success(), "scope reserve: {done:?}");
    let audit = std::fs::read_to_string(dir.join("audit.log")).expect("it is written");
    assert!(audit.contains("token ci"), "{audit}");

    let done = shell(&server, dir, &revoke.replace("bootjack auth", &here));
    assert!(done.status.success(), "{done:?}");
    let refused = shell(&server, dir, &with_token);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(6), "{said}");
    assert!(said.contains("revoked"), "{said}");
    assert!(service.terminate().0.success());
}

#[test]
fn make_install_puts_programs_manual_unit_and_user_below_destdir() {
    let to = tempfile::tempdir().expect("a directory");
    let programs = Path::new(program()).parent().expect("a directory");
    assert!(bootjack().starts_with(programs));
    let mut make = Command::new("make");
    make.arg("--no-print-directory")
        .args(["-C", ROOT, "install", "PREFIX=/usr"]);
    make.arg(format!("PROGRAMS={}", programs.display()));
    make.arg(format!("DESTDIR={}", to.path().display()));
    let done = make.output().expect("make runs");
    assert!(done.status.success(), "{done:?}");
    let file = |name: &str| to.path().join("usr").join(name);
    let text =
        |name: &str| std::fs::read_to_string(file(name)).unwrap_or_else(|_| panic!("{name}"));
    for name in ["bootjackd", "bootjack"] {
        let said = Command::new(file("bin").join(name))
            .arg("--version")
            .output();
        assert!(said.expect("it runs").status.success(), "{name}");
        let manual = text(&format!("share/man/man1/{name}.1"));
        assert!(manual.contains("\n.SH NAME\n"), "{manual}");
    }
    let manual = text("share/man/man1/bootjackd.1");
    for verb in ["serve", "store verify", "artifact import", "doctor"] {
        assert!(
            manual.contains(&format!(".SS \"bootjackd {verb}\"")),
            "{verb}"
        );
    }
    let unit = text("lib/systemd/system/bootjackd.service");
    assert!(
        unit.contains("ExecStart=/usr/bin/bootjackd serve"),
        "{unit}"
    );
    assert!(text("lib/sysusers.d/bootjack.conf").contains("u bootjack"));
    assert!(text("lib/sysctl.d/50-bootjack.conf").contains("net.core"));

    let nowhere = format!("PROGRAMS={}", to.path().display());
    let mut make = Command::new("make");
    make.args(["-C", ROOT, "install", &nowhere, "DESTDIR=/nonexistent"]);
    let refused = make.output().expect("make runs");
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("is missing; run: make build"), "{said}");
}
