//! What is measured, as a monitoring system reads it; and that the dashboard asks for nothing else.

use std::collections::{BTreeMap, BTreeSet};

use bootjack_api::v1::Reservation;
use serde_json::Value;

use crate::support::api::{self, Api, Http, node};
use crate::support::dhcp::{NAK, OFFER, Packet, Segment, mac};
use crate::support::netns::Netns;
use crate::support::service::{Home, Service};

const ADMIN: &str = "127.0.0.1:9469";
const INSTALLER: &str =
    "installs = true\n[x86_64]\nkernel = \"vmlinuz\"\nargs = [\"seed={{ seed_url }}\"]\n";

struct Lab {
    netns: Netns,
    segment: Segment,
    home: Home,
    service: Service,
}

fn lab() -> Lab {
    let (netns, segment) = Segment::new();
    netns.ip(&["link", "set", "lo", "up"]);
    let home = Home::new();
    home.write("profiles/installer/profile.toml", INSTALLER);
    home.write("http/vmlinuz", vec![7; 20_000]);
    let service = Service::start(
        &netns,
        &home,
        &home.config(&format!("[admin]\nlisten = \"{ADMIN}\"\n")),
    );
    Lab {
        netns,
        segment,
        home,
        service,
    }
}

impl Lab {
    /// Every series by its name and labels, as they are written.
    fn metrics(&self) -> BTreeMap<String, f64> {
        let mut http = Http::over(api::connect(&self.netns, ADMIN).expect("it listens"));
        let got = http.get("/metrics");
        assert_eq!(got.status, 200);
        let lines = got.text().lines().filter(|line| !line.starts_with('#'));
        lines
            .filter_map(|line| {
                let (series, value) = line.rsplit_once(' ')?;
                Some((series.to_owned(), value.parse().ok()?))
            })
            .collect()
    }
}

#[test]
fn histograms_and_gauges_say_how_long_things_took_and_how_they_stand() {
    let lab = lab();
    let before = lab.metrics();
    assert_eq!(
        before["bootjack_pool_addresses{subnet=\"198.18.0.0/24\",state=\"free\"}"],
        100.0
    );
    assert_eq!(before["bootjack_machines{state=\"armed\"}"], 0.0);
    assert_eq!(
        before["bootjack_install_seconds_count{profile=\"installer\",outcome=\"installed\"}"],
        0.0
    );

    let made = Api::unix(&lab.home).create(Reservation {
        profile: "installer".to_owned(),
        ..node(10)
    });
    made.expect("created");
    let from = "198.18.0.10";
    let get = |target: &str| api::get_from(&lab.netns, from, target);
    let script = get("/machines/52-54-00-00-00-0a/boot.ipxe?arch=x86_64&firmware=bios");
    let (_, rest) = script
        .text()
        .split_once("seed=http://198.18.0.1")
        .expect("it installs");
    let (base, _) = rest.split_once("/nocloud/").expect("a seed URL");
    assert_eq!(get(&format!("{base}/nocloud/user-data")).status, 200);
    assert_eq!(get(&format!("{base}/files/vmlinuz")).status, 200);
    lab.service
        .wait_for("served", |line| line["path"] == "vmlinuz");
    assert_eq!(
        lab.metrics()["bootjack_machines{state=\"installing\"}"],
        1.0
    );
    assert_eq!(get(&format!("{base}/events/done")).status, 200);
    lab.service.wait_for("installation over", |line| {
        line["outcome"] == "installed" && line["profile"] == "installer"
    });
    assert_eq!(lab.segment.ask(&Packet::discover(mac(77))).kind(), OFFER);
    lab.service.wait_for("offered", |_| true);
    let after = lab.metrics();
    for (series, wanted) in [
        ("bootjack_machines{state=\"installed\"}", 1.0),
        (
            "bootjack_install_seconds_count{profile=\"installer\",outcome=\"installed\"}",
            1.0,
        ),
        (
            "bootjack_install_seconds_bucket{profile=\"installer\",outcome=\"installed\",le=\"+Inf\"}",
            1.0,
        ),
        (
            "bootjack_transfer_size_bytes_sum{protocol=\"http\",outcome=\"complete\"}",
            20_000.0,
        ),
        (
            "bootjack_transfer_size_bytes_bucket{protocol=\"http\",outcome=\"complete\",le=\"10000\"}",
            0.0,
        ),
        (
            "bootjack_transfer_size_bytes_bucket{protocol=\"http\",outcome=\"complete\",le=\"100000\"}",
            1.0,
        ),
        (
            "bootjack_transfer_seconds_count{protocol=\"http\",outcome=\"complete\"}",
            1.0,
        ),
        (
            "bootjack_document_render_seconds_count{document=\"boot.ipxe\"}",
            1.0,
        ),
        (
            "bootjack_document_render_seconds_count{document=\"user-data\"}",
            1.0,
        ),
        ("bootjack_dhcp_reply_seconds_count{reply=\"offer\"}", 1.0),
        ("bootjack_leases{state=\"offered\"}", 1.0),
        (
            "bootjack_pool_addresses{subnet=\"198.18.0.0/24\",state=\"free\"}",
            99.0,
        ),
        (
            "bootjack_pool_addresses{subnet=\"198.18.0.0/24\",state=\"taken\"}",
            1.0,
        ),
    ] {
        assert_eq!(after.get(series), Some(&wanted), "{series}: {after:#?}");
    }
    for series in after.keys() {
        for value in ["52:54", "02:00:00", "198.18.0.1", "node-10", "vmlinuz"] {
            assert!(
                !series.contains(value) || series.contains("subnet="),
                "{series}"
            );
        }
    }
}

/// Names of metrics in a query: words that begin like ours.
fn names_in(query: &str) -> impl Iterator<Item = &str> {
    query
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("bootjack_"))
}

#[test]
fn every_query_of_the_dashboard_names_a_metric_that_is_there() {
    let lab = lab();
    // Each reason is a label of its own, there from when it first was one.
    let elsewhere = std::net::Ipv4Addr::new(203, 0, 113, 1);
    let refused = lab.segment.ask(&Packet::rebooting(mac(77), elsewhere));
    assert_eq!(refused.kind(), NAK);
    let nobody = Packet {
        hlen: 0,
        ..Packet::discover([0; 6])
    };
    lab.segment.send(&nobody);
    lab.segment
        .expect_silence(&lab.service, &nobody, "no_identity");
    let metrics = lab.metrics();
    let known: BTreeSet<&str> = metrics
        .keys()
        .filter_map(|series| series.split('{').next())
        .collect();
    let text = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/grafana/bootjackd.json");
    let text = std::fs::read_to_string(text).expect("it is there");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    let queries: Vec<&str> = targets
        .map(|target| target["expr"].as_str().expect("a query"))
        .collect();
    assert!(queries.len() > 15, "the dashboard was read");
    for query in queries {
        assert!(names_in(query).next().is_some(), "{query}");
        for name in names_in(query) {
            assert!(
                known.contains(name),
                "no {name}, which is asked for by {query}; there are {known:#?}"
            );
        }
    }
    let job = dashboard["templating"]["list"][1]["query"]
        .as_str()
        .expect("a query");
    assert!(names_in(job).all(|name| known.contains(name)));
}
