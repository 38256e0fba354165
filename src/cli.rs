//! What was typed, and the exit status it ends with.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::app::{self, BadConfig};

/// The configuration is wrong (EX_USAGE of sysexits.h).
const EXIT_CONFIG: u8 = 64;

/// Boots machines off the network jack: DHCP, TFTP, HTTP and gRPC in one service.
#[derive(Parser)]
#[command(
    name = "bootjackd",
    version,
    after_help = "Exit status: 0 done, 64 the configuration is wrong, 1 anything else."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve in the foreground until SIGTERM or SIGINT.
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

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Does what was typed.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Check { config } => check(&config),
        Command::Serve {
            config,
            log_format,
            log,
        } => serve(&config, log_format, &log),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
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

fn check(config: &std::path::Path) -> anyhow::Result<()> {
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

fn serve(config: &std::path::Path, format: LogFormat, filter: &str) -> anyhow::Result<()> {
    start_log(format, filter)?;
    let loaded = app::load(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(async {
        let stop = CancellationToken::new();
        stop_on_signals(stop.clone())?;
        app::serve(loaded, stop).await
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
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
    Ok(())
}
