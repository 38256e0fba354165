//! `bootjack net`: the lab's private network as it is seen from outside.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use crate::cli::{CaptureArgs, Format, LinkState, NetArgs, NetCommand};
use crate::exit::{Exit, Failure};
use crate::namespace::{self, supervisor};
use crate::output::{self, Style, io_reason};
use crate::switch::bridge::{Drops, Impairment};
use crate::switch::control::Client;
use crate::switch::pcap::Records;
use crate::switch::protocol::{PortStatus, Status};
use crate::switch::server;

pub fn run(args: &NetArgs) -> Result<(), Failure> {
    match &args.command {
        NetCommand::Switch(run) => server::run(&run.run),
        NetCommand::Namespace(args) => supervisor::run(args),
        NetCommand::Probe => namespace::probe(),
        NetCommand::Dial { run, host, port } => {
            namespace::control::Client::connect(&run.run)?.dial(*host, *port)
        }
        NetCommand::Status(run) => status(&run.run()?, args.format()),
        NetCommand::Capture { run, args } => capture(&run.run()?, args),
        NetCommand::Link { run, port, state } => {
            run.check(port)?;
            Client::connect(&run.run()?)?.link(port, *state == LinkState::Up)
        }
        NetCommand::Impair {
            run,
            port,
            loss,
            delay,
        } => {
            run.check(port)?;
            let impairment = Impairment {
                loss: *loss,
                delay: *delay,
            };
            Client::connect(&run.run()?)?.impair(port, impairment)
        }
    }
}

fn status(run: &Path, format: Format) -> Result<(), Failure> {
    let status = Client::connect(run)?.status()?;
    // None in a namespace is no failure.
    let namespace = namespace::control::Client::connect(run).and_then(|mut client| client.status());
    let namespace = namespace.ok();
    output::answer(
        format,
        || {
            let mut value = serde_json::json!(status);
            value["namespace"] = serde_json::json!(namespace);
            value
        },
        || {
            let mut text = for_people(&status, Style::stdout());
            if let Some(namespace) = &namespace {
                text.push('\n');
                text.push_str(&provisioner(namespace));
            }
            text
        },
    )
}

fn provisioner(status: &namespace::control::Status) -> String {
    let how = match status.right.as_str() {
        "root" => "made by root",
        _ => "made without root",
    };
    format!(
        "bootjackd (pid {}) {} in a namespace {how}, by a {}; {} frames out, {} in, {} dropped",
        status.bootjackd,
        if status.ready { "serves" } else { "starts" },
        status.interface,
        status.frames_to_switch,
        status.frames_from_switch,
        status.frames_dropped
    )
}

fn for_people(status: &Status, style: Style) -> String {
    let up = Duration::from_millis(status.uptime_ms);
    let mut text = format!(
        "switch runs for {} (pid {}), {} ports, {} captures",
        output::span(up),
        status.pid,
        status.ports.len(),
        status.captures
    );
    let rows: Vec<Vec<String>> = status.ports.iter().map(row).collect();
    if !rows.is_empty() {
        let header = [
            "PORT", "LINK", "MAC", "FROM IT", "TO IT", "WAITING", "DROPPED",
        ];
        text.push('\n');
        text.push_str(&output::table(style, &header, rows));
    }
    text
}

fn row(port: &PortStatus) -> Vec<String> {
    let counters = &port.counters;
    let amount = |frames: u64, octets: u64| format!("{frames} ({})", output::size(octets));
    vec![
        port.name.clone(),
        link(port),
        output::or_dash(&port.macs.join(" ")).to_owned(),
        amount(counters.received_frames, counters.received_octets),
        amount(counters.sent_frames, counters.sent_octets),
        port.queued.to_string(),
        output::or_dash(&dropped(&counters.dropped)).to_owned(),
    ]
}

fn link(port: &PortStatus) -> String {
    let mut words = vec![if port.up { "up" } else { "down" }.to_owned()];
    if port.isolated {
        words.push("isolated".to_owned());
    }
    if port.loss > 0.0 {
        words.push(format!("loses {}", port.loss));
    }
    if port.delay_ms > 0 {
        words.push(format!("{} ms late", port.delay_ms));
    }
    words.join(", ")
}

fn dropped(drops: &Drops) -> String {
    let reasons = [
        (drops.absent, "machine absent"),
        (drops.full, "queue full"),
        (drops.link_down, "link down"),
        (drops.loss, "lost as asked"),
        (drops.bad, "bad"),
        (drops.refused, "refused"),
    ];
    let said = (reasons.iter())
        .filter(|(count, _)| *count > 0)
        .map(|(count, reason)| format!("{count} {reason}"));
    said.collect::<Vec<_>>().join(", ")
}

fn capture(run: &Path, args: &CaptureArgs) -> Result<(), Failure> {
    let stream = Client::connect(run)?.capture(args.port.as_deref())?;
    let limit = args.count.unwrap_or(u64::MAX);
    let written = if args.write == Path::new("-") {
        copy(stream, &mut std::io::stdout().lock(), limit)
    } else {
        let mut file = File::create(&args.write).map_err(Failure::io("write", &args.write))?;
        copy(stream, &mut file, limit)
    };
    match (written, args.count) {
        (Ok(count), Some(wanted)) if count < wanted => {
            let text = format!("the switch ended after {count} of {wanted} frames");
            Err(Failure::new(Exit::Failed, text))
        }
        (Ok(_), _) => Ok(()),
        (Err(why), _) => {
            let text = format!("capture to {}: {why}", args.write.display());
            Err(Failure::new(Exit::Failed, text))
        }
    }
}

/// Writes whole records, each as soon as it is there: a capture that is interrupted is whole. How many frames it was.
fn copy(mut from: impl Read, to: &mut impl Write, limit: u64) -> Result<u64, String> {
    let mut records = Records::default();
    let mut count = 0;
    let mut room = vec![0; 64 << 10];
    let mut whole = Vec::new();
    while count < limit {
        let read = from.read(&mut room).map_err(|error| io_reason(&error))?;
        if read == 0 {
            break;
        }
        records.feed(&room[..read]);
        whole.clear();
        count += records.drain(limit - count, &mut whole)?;
        let written = to.write_all(&whole).and_then(|()| to.flush());
        match written {
            // Whoever reads it has seen enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(limit),
            written => written.map_err(|error| io_reason(&error))?,
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switch::bridge::Counters;

    #[test]
    fn people_see_who_is_where_and_what_was_dropped() {
        let port = |name: &str, counters: Counters| PortStatus {
            id: "00000000".to_owned(),
            name: name.to_owned(),
            isolated: name == "node1",
            up: true,
            loss: 0.0,
            delay_ms: 0,
            macs: vec!["52:54:00:00:00:01".to_owned()],
            queued: 0,
            busy: 0,
            counters,
        };
        let dropped = Drops {
            absent: 3,
            full: 1,
            ..Drops::default()
        };
        let counters = Counters {
            received_frames: 5,
            received_octets: 2048,
            dropped,
            ..Counters::default()
        };
        let status = Status {
            pid: 42,
            uptime_ms: 61_500,
            captures: 1,
            ports: vec![
                port("provisioner", Counters::default()),
                port("node1", counters),
            ],
        };
        let text = for_people(&status, Style::plain());
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].ends_with("(pid 42), 2 ports, 1 captures"),
            "{text}"
        );
        assert!(lines[1].starts_with("PORT"), "{text}");
        assert!(
            lines[3].starts_with("node1        up, isolated  52:54:00:00:00:01  5 (2"),
            "{text}"
        );
        assert!(
            lines[3].ends_with("3 machine absent, 1 queue full"),
            "{text}"
        );
    }

    #[test]
    fn a_copy_ends_with_its_count_or_its_source_and_is_whole() {
        let mut capture = crate::switch::pcap::header().to_vec();
        for frame in [&b"one"[..], b"two"] {
            crate::switch::pcap::record(&mut capture, std::time::SystemTime::UNIX_EPOCH, frame);
        }
        let mut out = Vec::new();
        assert_eq!(copy(&capture[..], &mut out, 1), Ok(1));
        assert_eq!(out.len(), 24 + 16 + 3);
        let mut out = Vec::new();
        assert_eq!(copy(&capture[..capture.len() - 1], &mut out, 9), Ok(1));
        assert_eq!(out.len(), 24 + 16 + 3);
    }
}
