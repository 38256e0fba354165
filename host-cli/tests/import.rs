//! `bootjack import` over files as people have them, held against what they came to when somebody last looked. With
//! BOOTJACK_BLESS=1 the golden files are written anew.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Each kind of files, how it is typed, and the name of its golden files.
const SAMPLES: [(&str, &[&str]); 4] = [
    (
        "dnsmasq",
        &["dnsmasq", "dnsmasq/dnsmasq.conf", "--root", "dnsmasq/root"],
    ),
    ("isc", &["isc-dhcpd", "isc/dhcpd.conf"]),
    ("kea", &["kea", "kea/kea-dhcp4.conf"]),
    ("pvmlab", &["pvmlab", "pvmlab/vms"]),
];

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import")
}

fn import_in(dir: &Path, typed: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootjack"));
    command
        .current_dir(dir)
        .arg("import")
        .args(typed)
        .env_remove("BOOTJACK_SERVER");
    command.output().unwrap()
}

fn text(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).unwrap()
}

fn assert_golden(name: &str, is: &str) {
    let path = samples().join("golden").join(name);
    if std::env::var_os("BOOTJACK_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, is).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        is,
        golden,
        "{} is not what it was; if it is better, run again with BOOTJACK_BLESS=1",
        path.display()
    );
}

#[test]
fn every_sample_comes_to_what_it_came_to() {
    for (name, typed) in SAMPLES {
        let report = import_in(&samples(), typed);
        assert_eq!(
            report.status.code(),
            Some(0),
            "{name}: {}",
            text(&report.stderr)
        );
        assert_golden(&format!("{name}.txt"), &text(&report.stdout));
        let file = import_in(&samples(), &[typed, &["--to", "-"]].concat());
        assert_golden(&format!("{name}.yaml"), &text(&file.stdout));
        assert_eq!(
            text(&file.stderr),
            text(&report.stdout),
            "the report stands beside the file"
        );
    }
}

#[test]
fn what_is_printed_for_the_configuration_is_toml() {
    for (name, typed) in SAMPLES {
        let report = import_in(&samples(), &[typed, &["-o", "json"]].concat());
        let report: Value = serde_json::from_slice(&report.stdout).unwrap();
        let config: toml::Table = report["config"].as_str().unwrap().parse().unwrap();
        assert!(config.contains_key("subnet"), "{name}");
    }
}

#[test]
fn a_line_that_cannot_be_read_keeps_everything_back_unless_it_is_to_be_skipped() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("d.conf"),
        "dhcp-host=52:54:00:00:00:01,node-1\ndhcp-host=52:54:00:00:00,node-2\ndhcp-option=option:nosuch,1\n",
    )
    .unwrap();
    let to = dir.path().join("hosts.yaml");
    let typed = ["dnsmasq", "d.conf", "--to", "hosts.yaml"];
    let refused = import_in(dir.path(), &typed);
    assert_eq!(refused.status.code(), Some(3));
    assert!(
        text(&refused.stderr)
            .starts_with("bootjack: 2 lines cannot be read, so nothing was imported; "),
        "{}",
        text(&refused.stderr)
    );
    assert!(!to.exists());
    let told = text(&refused.stdout);
    assert!(
        told.contains(
            "d.conf:2: dhcp-host=52:54:00:00:00,node-2\n    `52:54:00:00:00` is not a MAC address"
        ),
        "{told}"
    );

    let skipped = import_in(dir.path(), &[&typed[..], &["--skip-invalid"]].concat());
    assert_eq!(skipped.status.code(), Some(0));
    assert!(
        std::fs::read_to_string(&to)
            .unwrap()
            .contains("- id: node-1\n")
    );
}

#[test]
fn for_programs_the_error_is_json_too() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("kea.conf"), "{ \"Dhcp4\": [ }").unwrap();
    let refused = import_in(dir.path(), &["kea", "kea.conf", "-o", "json"]);
    let error: Value = serde_json::from_slice(&refused.stderr).unwrap();
    assert_eq!(error["error"]["exit_status"], 3);
    assert_eq!(error["error"]["details"][0]["field"], "kea.conf:1");
    let report: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!(report["not_carried_over"][0]["malformed"], true);
}

#[test]
fn flags_dress_what_comes_over() {
    let typed = [
        "pvmlab",
        "pvmlab/vms/node-1.json",
        "-o",
        "yaml",
        "--profile",
        "debian-12",
        "--label",
        "rack=r1",
    ];
    let report = text(&import_in(&samples(), &typed).stdout);
    assert!(report.contains("  profile: debian-12\n"), "{report}");
    assert!(report.contains("    rack: r1\n"), "{report}");
    let wrong = import_in(&samples(), &["pvmlab", "pvmlab/vms", "--label", "rack"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn ten_thousand_lines_come_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut hosts = String::new();
    for n in 0..10_000_u32 {
        let [_, b, c, d] = n.to_be_bytes();
        let _ = writeln!(
            hosts,
            "52:54:00:{b:02x}:{c:02x}:{d:02x},10.{b}.{c}.{d},node-{n}"
        );
    }
    std::fs::write(dir.path().join("hosts"), hosts).unwrap();
    let done = import_in(dir.path(), &["dnsmasq", "hosts", "--to", "hosts.yaml"]);
    let report = text(&done.stdout);
    assert!(report.ends_with("\n10000 reservations; 0 things not carried over\n"));
    let written = std::fs::read_to_string(dir.path().join("hosts.yaml")).unwrap();
    assert_eq!(written.matches("\n- id: node-").count(), 10_000);
}
