//! Whom the service runs as, and what it leaves behind.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use crate::support::api::{self, Api};
use crate::support::dhcp::{Segment, mac};
use crate::support::netns::server_and_client;
use crate::support::service::{Home, Service};

const NOBODY: u32 = 60_077;
/// CAP_NET_BIND_SERVICE is 10, CAP_NET_RAW is 13.
const KEPT: u64 = 1 << 10 | 1 << 13;

/// A home that others may enter, with its socket in a directory of the service's own.
fn home() -> Home {
    let home = Home::new();
    std::fs::set_permissions(home.path(), PermissionsExt::from_mode(0o755)).expect("ours");
    home
}

fn config(home: &Home, user: &str) -> String {
    let socket = format!("unix:{}/run/api.sock", home.path().display());
    home.config(&format!("\n[process]\nuser = \"{user}\"\n"))
        .replace(&home.api(), &socket)
}

/// Lines of /proc/PID/status, of every thread: those that differ between threads fail.
fn status(pid: u32) -> BTreeMap<String, String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut threads = 0;
    for task in tasks {
        let path = task.expect("an entry").path().join("status");
        let Ok(text) = std::fs::read_to_string(path) else {
            continue;
        };
        threads += 1;
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            if !(key.starts_with("Cap") || ["Uid", "Gid", "NoNewPrivs", "Groups"].contains(&key)) {
                continue;
            }
            let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
            let before = found.insert(key.to_owned(), value.clone());
            assert!(
                before.is_none_or(|before| before == value),
                "{key} of {pid}"
            );
        }
    }
    assert!(threads > 1, "{threads} threads");
    found
}

fn capabilities(status: &BTreeMap<String, String>, key: &str) -> u64 {
    u64::from_str_radix(&status[key], 16).expect("hexadecimal")
}

/// Every file below, with its owner and mode.
fn files(dir: &Path) -> Vec<(String, u32, u32, bool)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).expect("readable") {
        let path = entry.expect("an entry").path();
        let found = std::fs::symlink_metadata(&path).expect("there");
        all.push((
            path.display().to_string(),
            found.uid(),
            found.mode() & 0o777,
            found.is_dir(),
        ));
        if found.is_dir() {
            all.extend(files(&path));
        }
    }
    all
}

#[test]
fn started_by_root_it_is_its_user_on_every_thread_with_two_capabilities_and_serves() {
    let (server, segment) = Segment::new();
    let home = home();
    let config = config(&home, &format!("{NOBODY}:{NOBODY}"));
    let service = Service::start(&server, &home, &config);
    let told = service.wait_for("runs as", |_| true);
    assert_eq!(told["user"], NOBODY.to_string(), "{told}");
    let seen = status(service.pid());
    let all = [NOBODY; 4].map(|id| id.to_string()).join(" ");
    assert_eq!(
        (&seen["Uid"], &seen["Gid"], seen["NoNewPrivs"].as_str()),
        (&all, &all, "1")
    );
    for key in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(capabilities(&seen, key), KEPT, "{key}");
    }
    for key in ["CapInh", "CapAmb"] {
        assert_eq!(capabilities(&seen, key), 0, "{key}");
    }
    segment.acquire(mac(1));
    let api = Api::at(&format!("unix:{}/run/api.sock", home.path().display()));
    api.create(api::node(9)).expect("root may still ask");
    // An interface that comes later is served on privileged ports, too.
    server.ip(&["address", "del", "198.18.0.1/24", "dev", "lan0"]);
    service.wait_for("gone", |_| true);
    server.ip(&["address", "add", "198.18.0.1/24", "dev", "lan0"]);
    service.wait_for_nth("listening", 2, |line| line["address"] == "0.0.0.0:67%lan0");
    segment.acquire(mac(2));
    let (ended, _) = service.terminate();
    assert!(ended.success());
    for (path, uid, mode, is_dir) in files(&home.path().join("data")) {
        assert_eq!(uid, NOBODY, "{path}");
        let wanted = if is_dir { 0o700 } else { 0o600 };
        assert_eq!(mode & !wanted, 0, "{path} is {mode:o}");
    }
    // It starts again on what is its own by now.
    let service = Service::start(&server, &home, &config);
    assert_eq!(status(service.pid())["Uid"], all);
}

#[test]
fn data_that_root_left_is_given_to_the_user_and_what_others_left_is_not() {
    let (server, _client) = server_and_client("52:54:00:00:00:01");
    let home = home();
    let root = Service::start(&server, &home, &config(&home, "root"));
    assert_eq!(capabilities(&status(root.pid()), "CapEff"), KEPT);
    assert!(root.terminate().0.success());
    let (foreign, several) = (
        home.write("data/foreign", "x"),
        home.write("data/several", "x"),
    );
    chown(&foreign, Some(60_001), Some(60_001)).expect("root may");
    std::fs::hard_link(&several, home.path().join("elsewhere")).expect("linked");
    let target = home.write("target", "x");
    std::os::unix::fs::symlink(&target, home.path().join("data/link")).expect("linked");
    let service = Service::start(&server, &home, &config(&home, &NOBODY.to_string()));
    let owner = |path: &Path| std::fs::symlink_metadata(path).expect("there").uid();
    assert_eq!(owner(&home.path().join("data/db")), NOBODY);
    assert_eq!(
        (owner(&foreign), owner(&several), owner(&target)),
        (60_001, 0, 0)
    );
    drop(service);
}

#[test]
fn where_its_user_could_not_reach_the_data_root_stays_root_without_its_powers_and_says_so() {
    let (server, segment) = Segment::new();
    // The home is its owner's alone, as a directory below /root is.
    let home = Home::new();
    std::fs::set_permissions(home.path(), PermissionsExt::from_mode(0o700)).expect("ours");
    let service = Service::start(&server, &home, &config(&home, &NOBODY.to_string()));
    let told = service.wait_for("runs as", |line| line["level"] == "WARN");
    let reason = told["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("cannot reach data_dir") && reason.contains("process.user"),
        "{told}"
    );
    let seen = status(service.pid());
    assert_eq!(
        (seen["Uid"].as_str(), capabilities(&seen, "CapEff")),
        ("0 0 0 0", KEPT)
    );
    segment.acquire(mac(1));
    drop(service);
    // Files of somebody else's keep it the right to use them.
    let data = home.path().join("data");
    chown(&data, Some(60_001), Some(60_001)).expect("root may");
    let service = Service::start(&server, &home, &config(&home, &NOBODY.to_string()));
    let seen = status(service.pid());
    let (override_, owner) = (1 << 1, 1 << 3);
    assert_eq!(capabilities(&seen, "CapEff"), KEPT | override_ | owner);
}

#[test]
fn a_user_that_there_is_not_is_said_and_the_service_runs() {
    let (server, _client) = server_and_client("52:54:00:00:00:01");
    let home = home();
    let service = Service::start(&server, &home, &config(&home, "nobody-of-this-name"));
    let told = service.wait_for("runs as", |_| true);
    let reason = told["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("there is no user nobody-of-this-name"),
        "{told}"
    );
    assert_eq!(capabilities(&status(service.pid()), "CapEff"), KEPT);
}

#[test]
fn the_shipped_unit_leaves_the_service_little_to_break() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/bootjackd.service");
    let mut command = Command::new("systemd-analyze");
    // Its unit is tenths: 20 is 2.0.
    command.args([
        "security",
        "--offline=true",
        "--threshold=20",
        "--no-pager",
        unit,
    ]);
    let output = command
        .output()
        .expect("systemd-analyze is there: deploy/packages.sh test");
    let text = String::from_utf8_lossy(&output.stdout);
    let overall = text.lines().last().unwrap_or_default();
    assert!(output.status.success(), "{overall}");
    let text = std::fs::read_to_string(unit).expect("there");
    assert!(text.contains("Type=notify") && text.contains("WatchdogSec="));
}
