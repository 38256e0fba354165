//! `bootjackd doctor`: whatever is missing on this computer is listed, each with what follows and what to do about it.

use std::process::Output;

use serde_json::Value;

use crate::support::netns::{Netns, server_and_client};
use crate::support::service::{Home, Service, program};

struct Lab {
    server: Netns,
    home: Home,
    config: String,
    _client: Netns,
}

impl Lab {
    fn new() -> Self {
        let (server, client) = server_and_client("52:54:00:00:00:01");
        let home = Home::new();
        let config = home.config("");
        home.write("bootjackd.toml", &config);
        Self {
            server,
            home,
            config,
            _client: client,
        }
    }

    /// Examines this computer without these capabilities (`net_raw`).
    fn doctor(&self, without: &[&str], output: &str) -> Output {
        let less: Vec<String> = without.iter().map(|name| format!("-{name}")).collect();
        let less = less.join(",");
        let mut command = self.server.command("setpriv");
        if !less.is_empty() {
            command.args([
                format!("--inh-caps={less}"),
                format!("--bounding-set={less}"),
            ]);
        }
        let config = self.home.path().join("bootjackd.toml");
        command.args([program(), "doctor", "--output", output, "--config"]);
        command.arg(config).output().expect("ip and setpriv run")
    }

    fn found(&self, without: &[&str]) -> (Vec<Value>, Option<i32>) {
        let output = self.doctor(without, "json");
        let found = serde_json::from_slice(&output.stdout);
        let found: Vec<Value> = found.unwrap_or_else(|_| panic!("{output:?}"));
        for need in &found {
            let said = |key: &str| !need[key].as_str().unwrap_or_default().is_empty();
            let is_good = need["state"] == "good";
            assert!(said("name") && said("detail"), "{need}");
            assert_eq!(said("consequence"), !is_good, "{need}");
            assert_eq!(said("next_step"), !is_good, "{need}");
        }
        (found, output.status.code())
    }
}

/// The states of all needs of this name.
fn states<'a>(found: &'a [Value], name: &str) -> Vec<&'a str> {
    let named = found.iter().filter(|need| need["name"] == name);
    named.filter_map(|need| need["state"].as_str()).collect()
}

fn need<'a>(found: &'a [Value], name: &str) -> &'a Value {
    let named = found.iter().find(|need| need["name"] == name);
    named.unwrap_or_else(|| panic!("no {name} in {found:?}"))
}

#[test]
fn each_capability_that_is_missing_is_listed_with_what_follows() {
    let lab = Lab::new();
    let (all, status) = lab.found(&[]);
    for name in ["raw_socket", "privileged_ports", "interface", "directories"] {
        assert_eq!(states(&all, name), ["good"], "{name}");
    }
    assert!(states(&all, "port").iter().all(|state| *state == "good"));
    assert_eq!(status, Some(0), "nothing is missing: {all:?}");

    let (found, status) = lab.found(&["net_raw"]);
    let raw = need(&found, "raw_socket");
    let consequence = raw["consequence"].as_str().unwrap_or_default();
    assert!(consequence.starts_with("broadcast only: "), "{raw}");
    let next = raw["next_step"].as_str().unwrap_or_default();
    assert!(next.contains("CAP_NET_RAW"), "{raw}");
    assert_eq!(raw["state"], "degraded", "it runs without");
    assert_eq!(states(&found, "other_dhcp_servers"), ["good"]);
    assert_eq!(states(&found, "privileged_ports"), ["good"]);
    assert_eq!(status, Some(0), "it runs without: {found:?}");

    let (found, status) = lab.found(&["net_raw", "net_bind_service"]);
    assert_eq!(states(&found, "raw_socket"), ["degraded"]);
    let ports = need(&found, "privileged_ports");
    assert_eq!(ports["state"], "missing");
    assert!(ports.to_string().contains("it does not start"), "{ports}");
    assert!(
        ports.to_string().contains("CAP_NET_BIND_SERVICE"),
        "{ports}"
    );
    let others = need(&found, "other_dhcp_servers").to_string();
    assert!(others.contains("stays unseen"), "{others}");
    assert!(states(&found, "port").contains(&"missing"), "{found:?}");
    assert_eq!(status, Some(1));

    let text = lab.doctor(&["net_raw"], "text").stdout;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let at = lines
        .iter()
        .position(|line| line.starts_with("degraded  raw_socket"));
    let at = at.unwrap_or_else(|| panic!("{text}"));
    assert!(lines[at + 1].starts_with("so: broadcast only"), "{text}");
    assert!(lines[at + 2].starts_with("do: grant CAP_NET_RAW"), "{text}");
}

/// What it says is so: without raw frames the service runs, and says the same of itself.
#[test]
fn a_service_without_raw_frames_runs_and_says_what_is_degraded() {
    let lab = Lab::new();
    let config = lab.home.write("bootjackd.toml", &lab.config);
    let mut command = lab.server.command("setpriv");
    command.args(["--inh-caps=-net_raw", "--bounding-set=-net_raw", program()]);
    command.args(["serve", "--log-format", "json", "--config"]);
    command.arg(config);
    let service = Service::run(command);
    service.wait_for("ready", |_| true);
    let (found, status) = lab.found(&["net_raw"]);
    let running = need(&found, "service");
    assert!(
        running.to_string().contains("runs and answers"),
        "{running}"
    );
    assert!(states(&found, "port").is_empty(), "its ports are its own");
    assert_eq!(status, Some(0));
    let info = crate::support::api::Api::unix(&lab.home).with(async |channel| {
        let mut client = bootjack_api::v1::server_client::ServerClient::new(channel);
        let request = bootjack_api::v1::GetServerInfoRequest {};
        client.get_server_info(request).await
    });
    let info = format!("{:?}", info.expect("answered"));
    assert!(info.contains("broadcast only"), "{info}");
}
