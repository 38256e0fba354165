//! How long things take and how many there are. In: an `Event`, or how things stand. Out: histograms and gauges, each there from
//! the start with every label it can have, so that a dashboard shows nought and not nothing.
//!
//! Labels come from closed sets: protocols, states, kinds of document; subnets and profiles as the configuration has them.

use std::sync::LazyLock;

use metrics::{Histogram, counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

use crate::model::{Dhcp, Ended, Event, Transfer};

const REPLY: &str = "bootjack_dhcp_reply_seconds";
const TRANSFER: &str = "bootjack_transfer_seconds";
const TRANSFER_SIZE: &str = "bootjack_transfer_size_bytes";
const RENDER: &str = "bootjack_document_render_seconds";
const INSTALL: &str = "bootjack_install_seconds";
const LEASES: &str = "bootjack_leases";
const POOL: &str = "bootjack_pool_addresses";
const MACHINES: &str = "bootjack_machines";
const REPLICAS: &str = "bootjack_replicas";
const REPLICA_SHARE: &str = "bootjack_replica_share_ratio";
const REPLICA_CONFIRMED: &str = "bootjack_replica_confirmed";
const JOURNAL: &str = "bootjack_store_journal_bytes";
const JOURNAL_AGE: &str = "bootjack_store_journal_age_seconds";
const TROUBLE: &str = "bootjack_store_trouble";
const UP: &str = "bootjack_store_up";

/// Upper bounds, each where a reader would act otherwise.
const REPLY_BOUNDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0,
];
const TRANSFER_BOUNDS: &[f64] = &[0.01, 0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0];
const SIZE_BOUNDS: &[f64] = &[1e4, 1e5, 1e6, 1e7, 5e7, 2e8, 1e9, 4e9];
const RENDER_BOUNDS: &[f64] = &[0.001, 0.005, 0.025, 0.1, 0.5];
const INSTALL_BOUNDS: &[f64] = &[
    30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0,
];

const REPLIES: [&str; 3] = ["offer", "ack", "nak"];
const PROTOCOLS: [&str; 2] = ["tftp", "http"];
const OUTCOMES: [&str; 2] = ["complete", "cut_off"];
const ENDS: [&str; 3] = ["installed", "failed", "retried"];
const DOCUMENTS: [&str; 6] = [
    "boot.ipxe",
    "meta-data",
    "user-data",
    "vendor-data",
    "network-config",
    "other",
];

/// How things stand, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// By state.
    pub leases: Vec<(&'static str, u64)>,
    /// By subnet: addresses that are taken, and all of them.
    pub pools: Vec<(String, u64, u64)>,
    /// By phase.
    pub machines: Vec<(&'static str, u64)>,
    /// Octets written that the database does not have yet, and for how many seconds it has been behind.
    pub journal: (u64, u64),
    /// Whether the store fails in the background.
    pub store_in_trouble: bool,
    /// Whether the store that replicas share cannot be reached.
    pub store_is_away: bool,
}

/// What counts and measures. It is to be tidied up now and then, or it keeps every sample until somebody looks.
pub fn recorder() -> PrometheusRecorder {
    let bounds = [
        (REPLY, REPLY_BOUNDS),
        (TRANSFER, TRANSFER_BOUNDS),
        (TRANSFER_SIZE, SIZE_BOUNDS),
        (RENDER, RENDER_BOUNDS),
        (INSTALL, INSTALL_BOUNDS),
    ];
    let builder = PrometheusBuilder::new();
    bounds
        .into_iter()
        .fold(builder, |builder, (name, bounds)| {
            let name = Matcher::Full(name.to_owned());
            builder
                .set_buckets_for_metric(name, bounds)
                .expect("there are bounds")
        })
        .build_recorder()
}

/// Names everything that is measured, before there is anything to measure; `installing` are the profiles that install.
pub fn register<'a>(installing: impl Iterator<Item = &'a str>) {
    describe_histogram!(REPLY, "From a DHCP packet to its answer, by kind of answer");
    describe_histogram!(TRANSFER, "How long a file took, by protocol and outcome");
    describe_histogram!(
        TRANSFER_SIZE,
        "Octets sent of a file, by protocol and outcome"
    );
    describe_histogram!(RENDER, "How long a boot script or document took to make");
    describe_histogram!(
        INSTALL,
        "From the boot script to the end of an attempt, by profile and outcome"
    );
    describe_gauge!(LEASES, "Leases by state");
    describe_gauge!(
        POOL,
        "Addresses of a subnet's pools, by whether they are taken"
    );
    describe_gauge!(MACHINES, "Machines by where they stand");
    describe_gauge!(REPLICAS, "Replicas that share the clients");
    describe_gauge!(REPLICA_SHARE, "This replica's part of all buckets");
    describe_gauge!(
        REPLICA_CONFIRMED,
        "1 while this replica knows that nobody has taken over its share"
    );
    describe_gauge!(JOURNAL, "Octets of the store's journal");
    describe_gauge!(
        JOURNAL_AGE,
        "How many seconds the store's database has been behind its journal"
    );
    describe_gauge!(
        TROUBLE,
        "Whether the store fails at something that is not a write"
    );
    describe_gauge!(
        UP,
        "Whether the store can be written to; 0 while the one that replicas share is away"
    );
    for reply in REPLIES {
        let _ = histogram!(REPLY, "reply" => reply);
    }
    for protocol in PROTOCOLS {
        for outcome in OUTCOMES {
            let _ = histogram!(TRANSFER, "protocol" => protocol, "outcome" => outcome);
            let _ = histogram!(TRANSFER_SIZE, "protocol" => protocol, "outcome" => outcome);
        }
    }
    for document in DOCUMENTS {
        let _ = histogram!(RENDER, "document" => document);
    }
    for profile in installing {
        for outcome in ENDS {
            let _ = histogram!(INSTALL, "profile" => profile.to_owned(), "outcome" => outcome);
        }
    }
    register_counters();
}

/// Those that `count` counts, as far as their labels are few.
fn register_counters() {
    for name in [
        "bootjack_dhcp_offers_total",
        "bootjack_dhcp_acks_total",
        "bootjack_dhcp_send_failures_total",
        "bootjack_documents_total",
        "bootjack_render_failures_total",
    ] {
        counter!(name).increment(0);
    }
    for protocol in PROTOCOLS {
        for name in [
            "bootjack_transfers_total",
            "bootjack_transfer_bytes_total",
            "bootjack_refused_requests_total",
            "bootjack_barred_requests_total",
        ] {
            counter!(name, "protocol" => protocol).increment(0);
        }
    }
}

/// Has the gauges show how things stand.
pub fn show(standing: &Standing) {
    for &(state, count) in &standing.leases {
        gauge!(LEASES, "state" => state).set(count as f64);
    }
    for (subnet, taken, all) in &standing.pools {
        let free = all.saturating_sub(*taken);
        gauge!(POOL, "subnet" => subnet.clone(), "state" => "taken").set(*taken as f64);
        gauge!(POOL, "subnet" => subnet.clone(), "state" => "free").set(free as f64);
    }
    for &(phase, count) in &standing.machines {
        gauge!(MACHINES, "state" => phase).set(count as f64);
    }
    let (journal, age) = standing.journal;
    gauge!(JOURNAL).set(journal as f64);
    gauge!(JOURNAL_AGE).set(age as f64);
    gauge!(UP).set(f64::from(u8::from(!standing.store_is_away)));
    gauge!(TROUBLE).set(f64::from(u8::from(standing.store_in_trouble)));
}

/// Measures one event.
pub(super) fn measure(event: &Event) {
    match event {
        Event::Offered(dhcp) => replied(&OFFER, dhcp),
        Event::Acked(dhcp) => replied(&ACK, dhcp),
        Event::Refused { dhcp, .. } => replied(&NAK, dhcp),
        Event::Served(transfer) => served(transfer),
        Event::Rendered {
            document,
            elapsed_ms,
            ..
        } => {
            let known = DOCUMENTS.into_iter().find(|known| known == document);
            let document = known.unwrap_or("other");
            histogram!(RENDER, "document" => document).record(*elapsed_ms as f64 / 1e3);
        }
        Event::Replicas {
            members,
            buckets,
            is_confirmed,
            ..
        } => {
            gauge!(REPLICAS).set(members.len() as f64);
            gauge!(REPLICA_SHARE).set(*buckets as f64 / 256.0);
            gauge!(REPLICA_CONFIRMED).set(f64::from(u8::from(*is_confirmed)));
        }
        Event::InstallEnded {
            profile,
            outcome,
            seconds,
            ..
        } => {
            histogram!(INSTALL, "profile" => profile.clone(), "outcome" => *outcome)
                .record(*seconds as f64);
        }
        _ => {}
    }
}

/// Looked up once, as they are on the path of every packet.
static OFFER: LazyLock<Histogram> = LazyLock::new(|| histogram!(REPLY, "reply" => "offer"));
static ACK: LazyLock<Histogram> = LazyLock::new(|| histogram!(REPLY, "reply" => "ack"));
static NAK: LazyLock<Histogram> = LazyLock::new(|| histogram!(REPLY, "reply" => "nak"));

fn replied(reply: &Histogram, dhcp: &Dhcp) {
    if let Some(elapsed_us) = dhcp.elapsed_us {
        reply.record(elapsed_us as f64 / 1e6);
    }
}

fn served(transfer: &Transfer) {
    let Transfer {
        protocol,
        bytes,
        ended,
        elapsed_ms,
        ..
    } = transfer;
    let outcome = match ended {
        // It says what UEFI asks before each file, and nothing about how fast files are.
        Ended::SizeAsked => return,
        Ended::Complete => "complete",
        _ => "cut_off",
    };
    histogram!(TRANSFER, "protocol" => *protocol, "outcome" => outcome)
        .record(*elapsed_ms as f64 / 1e3);
    histogram!(TRANSFER_SIZE, "protocol" => *protocol, "outcome" => outcome).record(*bytes as f64);
}
