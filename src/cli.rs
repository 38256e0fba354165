//! What was typed, and the exit status it ends with.

mod artifact;
mod doctor;
mod documents;
mod store;

use std::io::IsTerminal as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::app::{self, Asked, BadConfig};
use crate::config;
use crate::dhcp::probe::Probe;
use crate::dhcp::proxy::Port;
use crate::dhcp::request::Kind;
use crate::dhcp::{options, pcap};
use crate::model::{MacAddr, Octets, Var};
use crate::observe::{Lines, Text};

/// The configuration is wrong (EX_USAGE of sysexits.h).
const EXIT_CONFIG: u8 = 64;

/// Boots machines off the network jack: DHCP, TFTP, HTTP and gRPC in one service.
#[derive(Parser)]
#[command(
    name = "bootjackd",
    version,
    after_help = "Exit status: 0 done, 2 the command line is wrong, 64 the configuration is wrong, 1 anything else."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve in the foreground until SIGTERM or SIGINT; SIGHUP has profiles read again.
    Serve {
        /// The configuration file.
        #[arg(
            long,
            value_name = "FILE",
            default_value = "/etc/bootjack/bootjackd.toml"
        )]
        config: PathBuf,
        /// How log lines are written, to standard error.
        #[arg(long, value_enum, default_value_t = LogFormat::Text, env = "BOOTJACK_LOG_FORMAT")]
        log_format: LogFormat,
        /// What is logged: error, warn, info, debug, or a filter such as bootjackd=debug,h2=info.
        #[arg(
            long,
            value_name = "FILTER",
            default_value = "info",
            env = "BOOTJACK_LOG"
        )]
        log: String,
    },
    /// Say what would be answered to a DHCP packet, and because of which rule; send nothing.
    ///
    /// The running service is asked, if there is one, so that its leases and reservations count; or else the store is read.
    Explain(Explain),
    /// Keep kernels, RAM disks and images by their content, for profiles to name.
    Artifact(artifact::Artifact),
    /// Export, import, back up, verify and repair what was written.
    Store(store::Store),
    /// Show a document as it would be served to a machine, and which layer each of its variables comes from.
    Render(documents::Render),
    /// Look at every document of a profile, or of all, for every machine that has it.
    ///
    /// Without a machine, a sample stands for it. Exit status 1 if there are errors.
    Lint(documents::Lint),
    /// Say whether the service of this configuration runs and serves.
    Health {
        /// The configuration file.
        #[arg(
            long,
            value_name = "FILE",
            default_value = "/etc/bootjack/bootjackd.toml"
        )]
        config: PathBuf,
    },
    /// List what the service needs and how it stands here: rights, ports, interfaces, directories, certificates, other servers.
    ///
    /// Each need is good, degraded (the service runs, and what follows is said) or missing. Exit status 1 if something is missing.
    Doctor {
        /// The configuration file.
        #[arg(
            long,
            value_name = "FILE",
            default_value = "/etc/bootjack/bootjackd.toml"
        )]
        config: PathBuf,
        /// How it is written.
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Report every problem of the configuration file and of the profiles it names; start nothing.
    Check {
        /// The configuration file.
        #[arg(
            long,
            value_name = "FILE",
            default_value = "/etc/bootjack/bootjackd.toml"
        )]
        config: PathBuf,
    },
}

#[derive(clap::Args)]
struct Explain {
    /// The configuration file.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/bootjack/bootjackd.toml"
    )]
    config: PathBuf,
    /// The client's MAC.
    #[arg(long, value_name = "MAC", required_unless_present = "pcap")]
    mac: Option<MacAddr>,
    /// What it sends.
    #[arg(long, value_enum, default_value_t = Sent::Discover)]
    kind: Sent,
    /// Its architecture (option 93): a number such as 7, or x86_64-uefi. It is taken for booting firmware then.
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
    /// It is iPXE already.
    #[arg(long)]
    ipxe: bool,
    /// The address it asks for (option 50).
    #[arg(long, value_name = "ADDRESS")]
    requested: Option<Ipv4Addr>,
    /// The address it has and renews.
    #[arg(long, value_name = "ADDRESS")]
    ciaddr: Option<Ipv4Addr>,
    /// The relay agent that it comes through.
    #[arg(long, value_name = "ADDRESS")]
    giaddr: Option<Ipv4Addr>,
    /// Any option, as CODE=HEX or NAME=TEXT: 61=01:52:54:00:00:00:01, host_name=node-1.
    #[arg(long = "option", value_name = "OPTION=VALUE")]
    options: Vec<String>,
    /// The server's address on the interface it is heard on.
    #[arg(long, value_name = "ADDRESS")]
    server: Option<Ipv4Addr>,
    /// Explain every DHCP packet of a capture instead.
    #[arg(long, value_name = "FILE", conflicts_with = "mac")]
    pcap: Option<PathBuf>,
    /// How it is written.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Sent {
    Discover,
    Request,
    Decline,
    Release,
    Inform,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// One JSON array.
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Does what was typed.
pub fn main() -> ExitCode {
    let done = |done: anyhow::Result<()>| done.map(|()| ExitCode::SUCCESS);
    let done = match Cli::parse().command {
        Command::Check { config } => done(check(&config)),
        Command::Explain(asked) => done(explain(&asked)),
        Command::Health { config } => done(health(&config)),
        Command::Doctor { config, output } => doctor::run(&config, output),
        Command::Render(asked) => done(documents::render(&asked)),
        Command::Lint(asked) => documents::lint(&asked),
        Command::Artifact(asked) => done(artifact::run(asked)),
        Command::Store(asked) => store::run(asked),
        Command::Serve {
            config,
            log_format,
            log,
        } => done(serve(&config, log_format, &log)),
    };
    match done {
        Ok(status) => status,
        Err(error) => {
            eprintln!("bootjackd: {error:#}");
            if error.is::<BadConfig>() {
                ExitCode::from(EXIT_CONFIG)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn check(config: &Path) -> anyhow::Result<()> {
    let loaded = app::load(config)?;
    let count = |n: usize, noun: &str| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
    println!(
        "{} is sound: {}, {}, {}",
        config.display(),
        count(loaded.catalog.subnets().len(), "subnet"),
        count(loaded.catalog.len(), "reservation"),
        count(loaded.catalog.profiles().len(), "profile"),
    );
    Ok(())
}

fn health(config: &Path) -> anyhow::Result<()> {
    let loaded = app::load(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let places = runtime.block_on(app::health(&loaded))?;
    println!("bootjackd serves on {places}");
    Ok(())
}

fn explain(asked: &Explain) -> anyhow::Result<()> {
    let packets = match &asked.pcap {
        Some(file) => captured(file, asked.server)?,
        None => vec![(String::new(), made(asked)?)],
    };
    let loaded = app::load(&asked.config)?;
    let (titles, packets): (Vec<String>, Vec<Asked>) = packets.into_iter().unzip();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (from, explained) = runtime.block_on(app::explain(loaded, packets))?;
    if asked.output == Output::Json {
        let all: Vec<serde_json::Value> = explained.into_iter().map(|(_, json)| json).collect();
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    for (title, (text, _)) in titles.iter().zip(explained) {
        if !title.is_empty() {
            println!("{title}");
        }
        println!("{text}");
    }
    println!("{:<12} {from}", "according to");
    Ok(())
}

fn captured(file: &Path, server_id: Option<Ipv4Addr>) -> anyhow::Result<Vec<(String, Asked)>> {
    let octets = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let found = pcap::read(&octets).map_err(|e| anyhow::anyhow!("{}: {e}", file.display()))?;
    if found.is_empty() {
        anyhow::bail!("{}: no packet to a DHCP server in it", file.display());
    }
    let packets = found.into_iter().map(|packet| {
        let title = format!("packet {} from {}", packet.number, packet.from);
        let asked = Asked {
            octets: packet.octets,
            port: packet.port,
            server_id,
        };
        (title, asked)
    });
    Ok(packets.collect())
}

/// A packet as the flags describe it.
fn made(asked: &Explain) -> anyhow::Result<Asked> {
    let mac = asked.mac.context("--mac is missing")?;
    let kind = match asked.kind {
        Sent::Discover => Kind::Discover,
        Sent::Request => Kind::Request,
        Sent::Decline => Kind::Decline,
        Sent::Release => Kind::Release,
        Sent::Inform => Kind::Inform,
    };
    let mut probe = Probe::new(kind, mac);
    probe.ciaddr = asked.ciaddr.unwrap_or(Ipv4Addr::UNSPECIFIED);
    probe.giaddr = asked.giaddr.unwrap_or(Ipv4Addr::UNSPECIFIED);
    if let Some(arch) = &asked.arch {
        let archs = config::parse_arch(arch).map_err(|e| anyhow::anyhow!("--arch {arch}: {e}"))?;
        probe.boot_as(*archs.first().context("--arch names none")?);
    }
    if asked.ipxe {
        probe.run_ipxe();
    }
    if let Some(address) = asked.requested {
        probe.set(50, address.octets());
    }
    for option in &asked.options {
        let (code, content) = parse_option(option)?;
        probe.set(code, content);
    }
    Ok(Asked {
        octets: probe.octets(),
        port: Port::Server,
        server_id: asked.server,
    })
}

fn parse_option(text: &str) -> anyhow::Result<(u8, Vec<u8>)> {
    let (name, value) = text
        .split_once('=')
        .with_context(|| format!("--option {text}: wanted CODE=HEX or NAME=TEXT"))?;
    if let Ok(code) = name.parse::<u8>() {
        return Ok((code, Octets::parse(value).0));
    }
    let (code, content) = options::encode(name, &Var::Text(value.to_owned()))
        .map_err(|error| anyhow::anyhow!("--option {text}: {error}"))?;
    Ok((code, content.0))
}

fn serve(config: &Path, format: LogFormat, filter: &str) -> anyhow::Result<()> {
    start_log(format, filter)?;
    let loaded = app::load(config)?;
    let keys = app::Keys::read(&loaded.config)?;
    // Threads get their rights from this one.
    app::privileges::become_nobody_in_particular(&loaded.config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(async {
        let stop = CancellationToken::new();
        stop_on_signals(stop.clone())?;
        app::serve(loaded, keys, stop).await
    });
    runtime.shutdown_background();
    done
}

fn stop_on_signals(stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        // The first one asks; a second one, from somebody who will not wait for the drain, ends it. Nothing acknowledged is lost.
        for asked in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if asked {
                std::process::exit(130);
            }
            stop.cancel();
        }
    });
    Ok(())
}

fn start_log(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        anyhow::anyhow!("--log {filter}: {error}; write it like info or bootjackd=debug")
    })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_writer(Lines);
    match format {
        LogFormat::Text => subscriber.event_format(Text).init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
    Ok(())
}
