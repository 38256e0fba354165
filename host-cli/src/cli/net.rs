//! `bootjack net`, as it is typed.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{Format, duration};
use crate::exit::Failure;
use crate::lab::open::LabRef;

#[derive(Debug, Args)]
pub struct NetArgs {
    /// How answers are printed [default: table]
    #[arg(long, short, value_enum, value_name = "FORMAT", global = true)]
    pub output: Option<Format>,

    #[command(subcommand)]
    pub command: NetCommand,
}

impl NetArgs {
    pub fn format(&self) -> Format {
        self.output.unwrap_or(Format::Table)
    }
}

#[derive(Debug, Subcommand)]
pub enum NetCommand {
    /// Show the switch's ports, who is at them, and what they dropped
    Status(OnLab),

    /// Write the network's frames to a file that tcpdump and Wireshark read, until Ctrl-C
    Capture {
        #[command(flatten)]
        run: OnLab,

        #[command(flatten)]
        args: CaptureArgs,
    },

    /// Pull a machine's cable, or plug it in again
    Link {
        #[command(flatten)]
        run: OnLab,

        /// The machine, or provisioner
        port: String,

        #[arg(value_enum)]
        state: LinkState,
    },

    /// Make a machine's cable lose and delay frames; without flags, make it good again
    Impair {
        #[command(flatten)]
        run: OnLab,

        /// The machine, or provisioner
        port: String,

        /// Share of frames that get lost in each direction, from 0 to 1
        #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
        loss: f64,

        /// How late frames to the machine are
        #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
        delay: Duration,
    },

    /// Run the switch
    #[command(hide = true)]
    Switch(RunArgs),

    /// Run bootjackd in a network namespace that is plugged into the switch
    #[command(hide = true)]
    Namespace(NamespaceArgs),

    /// Say how a network namespace can be had here
    #[command(hide = true)]
    Probe,

    /// Connect standard input and output to a machine, by TCP from the namespace of bootjackd: a ProxyCommand of ssh
    #[command(hide = true)]
    Dial {
        #[command(flatten)]
        run: RunArgs,

        host: IpAddr,

        port: u16,
    },
}

impl OnLab {
    /// Refuses names of machines that the lab does not have, if it is known which lab it is.
    pub fn check(&self, name: &str) -> Result<(), Failure> {
        if self.run.is_some() {
            return Ok(());
        }
        let opened = crate::lab::open::open(&self.lab)?;
        crate::lab::plan::known(&opened.lab, name).map(drop)
    }
}

/// The lab whose network it is.
#[derive(Clone, Debug, Args)]
pub struct OnLab {
    #[command(flatten)]
    lab: LabRef,

    /// The lab's runtime directory, in place of its file
    #[arg(long, value_name = "DIR", conflicts_with = "file")]
    run: Option<PathBuf>,
}

impl OnLab {
    /// The lab's runtime directory.
    pub fn run(&self) -> Result<PathBuf, Failure> {
        match &self.run {
            Some(run) => Ok(run.clone()),
            None => Ok(crate::lab::open::open(&self.lab)?.paths.run().to_owned()),
        }
    }
}

/// The lab whose network it is.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The lab's runtime directory
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub struct CaptureArgs {
    /// Where to write it; - is standard output
    #[arg(long, short, value_name = "FILE|-")]
    pub write: PathBuf,

    /// Only frames from or to this machine, or provisioner
    #[arg(long, value_name = "NAME")]
    pub port: Option<String>,

    /// End after so many frames
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

#[derive(Clone, Debug, Args)]
pub struct NamespaceArgs {
    #[command(flatten)]
    pub run: RunArgs,

    /// bootjackd's configuration
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,

    /// Where bootjackd's log is added to
    #[arg(long, value_name = "FILE")]
    pub log: PathBuf,

    /// The bootjackd program
    #[arg(long, value_name = "FILE")]
    pub bootjackd: PathBuf,

    /// Address of the interface lan0, such as 198.18.0.1/24
    #[arg(long, value_name = "ADDRESS/PREFIX", value_parser = address)]
    pub address: (Ipv4Addr, u8),
}

/// What becomes of a cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LinkState {
    /// Plugged in
    Up,
    /// Pulled
    Down,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text
        .parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "wanted a number from 0 to 1, such as 0.1".to_owned())
}

fn address(text: &str) -> Result<(Ipv4Addr, u8), String> {
    let parsed = text.split_once('/').and_then(|(address, prefix)| {
        let prefix = prefix
            .parse()
            .ok()
            .filter(|prefix| (1..=30).contains(prefix));
        Some((address.parse().ok()?, prefix?))
    });
    parsed.ok_or_else(|| "wanted an IPv4 address with its prefix, such as 198.18.0.1/24".to_owned())
}
