//! `bootjack import` into a running service: what other servers had is what machines get.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::cli::{bootjack, serve};
use crate::support::service::program;

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/host-cli/tests/import");

#[test]
fn ten_thousand_lines_are_sent_and_sending_them_again_changes_nothing() {
    let server = serve("[[subnet]]\ncidr = \"10.0.0.0/8\"\n");
    let mut hosts = String::new();
    for n in 1..=10_000_u32 {
        let [_, b, c, d] = n.to_be_bytes();
        let _ = writeln!(
            hosts,
            "52:54:01:{b:02x}:{c:02x}:{d:02x},10.{b}.{c}.{d},node-{n}"
        );
    }
    let file = server.home.write("hosts", hosts);
    let file = file.to_str().expect("UTF-8");
    let typed = ["import", "dnsmasq", file, "--apply", "--owner", "dnsmasq"];
    let sent = server.json(&typed);
    assert_eq!(
        sent["created"].as_array().map(Vec::len),
        Some(10_000),
        "{}",
        sent["failed"]
    );
    let again = server.json(&typed);
    assert_eq!(again["unchanged"].as_array().map(Vec::len), Some(10_000));
    let one = server.json(&["reservation", "get", "node-9999"]);
    assert_eq!(one["address"], "10.0.39.15");
}

#[test]
fn what_is_printed_for_the_configuration_is_taken_by_the_service() {
    for (from, path) in [
        ("dnsmasq", "dnsmasq/dnsmasq.conf"),
        ("isc-dhcpd", "isc/dhcpd.conf"),
        ("kea", "kea/kea-dhcp4.conf"),
        ("pvmlab", "pvmlab/vms"),
    ] {
        let report = Command::new(bootjack())
            .current_dir(SAMPLES)
            .args(["import", from, path, "--root", "dnsmasq/root", "-o", "json"])
            .output()
            .expect("it runs");
        let report: serde_json::Value = serde_json::from_slice(&report.stdout).expect("JSON");
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("bootjackd.toml");
        let config = report["config"].as_str().expect("text");
        let head = format!("data_dir = \"{}\"\n", home.path().display());
        std::fs::write(&file, format!("{head}{config}")).expect("written");
        check(&file, from);
    }
}

/// `bootjackd check` says nothing against it but that there is no interface for it here.
fn check(file: &Path, from: &str) {
    let checked = Command::new(program())
        .arg("check")
        .arg("--config")
        .arg(file)
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success(), "{from}: {told}");
}

/// Kea's sample was held against `kea-dhcp4 -t` by hand.
#[test]
fn the_programs_that_are_left_take_the_samples() {
    let samples = Path::new(SAMPLES);
    let dnsmasq = crate::support::clients::find("dnsmasq", "dnsmasq-base");
    let dhcpd = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test/dhcpd/usr/sbin/dhcpd");
    assert!(
        dhcpd.is_file(),
        "{} is missing; run: deploy/unpack.sh target/test/dhcpd isc-dhcp-server",
        dhcpd.display()
    );
    for (program, dir, arguments) in [
        (dnsmasq, "dnsmasq", &["--test", "-C", "dnsmasq.conf"][..]),
        (dhcpd, "isc", &["-t", "-cf", "dhcpd.conf"]),
    ] {
        let mut command = Command::new(&program);
        let tested = command
            .current_dir(samples.join(dir))
            .args(arguments)
            .output();
        let tested = tested.expect("it runs");
        assert!(tested.status.success(), "{}: {tested:?}", program.display());
    }
}
