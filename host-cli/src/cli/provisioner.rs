//! `bootjack provisioner` and `bootjack image build`, as they are typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{How, duration};
use crate::drivers::spec::Arch;

#[derive(Debug, Subcommand)]
pub enum ProvisionerCommand {
    /// Bring it up, and no machine with it
    Start {
        #[command(flatten)]
        how: How,
    },

    /// Shut it down; what bootjackd knows is kept
    Stop {
        #[command(flatten)]
        grace: GraceArgs,
    },

    /// Shut it down, and bring it up as lab.toml has it now
    Restart {
        #[command(flatten)]
        grace: GraceArgs,

        #[command(flatten)]
        how: How,
    },

    /// Have bootjackd run by lab.toml as it is now, and the machine below it go on: container reload, or for a namespace restart
    Reload {
        #[command(flatten)]
        how: How,
    },

    /// Show what it runs on, and whether bootjackd answers
    Status,

    /// Show what its console has said; in a namespace: what bootjackd has logged
    Logs(LogsArgs),

    /// Show where its API is and by which files one gets in
    ApiInfo,

    /// The container that bootjackd runs in
    Container {
        #[command(subcommand)]
        command: ContainerCommand,
    },
}

#[derive(Debug, Subcommand)]
pub enum ContainerCommand {
    /// Put an image in the place of the one there is, and start it
    ///
    /// Any docker or OCI archive will do, compressed or not. A copy of it is kept, and every start takes that until the one that
    /// lab.toml names is loaded again: by this without FILE, or by reload. One that does not run is replaced by the one before.
    Load {
        /// The archive; without it, the one that lab.toml names
        #[arg(value_name = "FILE")]
        archive: Option<PathBuf>,
    },

    /// Start it
    Start,

    /// Stop it
    Stop,

    /// Show its image, since when it runs, and what it may
    Status,

    /// Show what bootjackd has logged
    Logs(LogsArgs),

    /// Have it run by lab.toml as it is now: configuration and image
    Reload,
}

#[derive(Debug, Args)]
pub struct GraceArgs {
    /// How long it may take to shut down before it is ended
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub grace: Duration,
}

#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Show what comes, too, until Ctrl-C
    #[arg(long, short = 'F')]
    pub follow: bool,

    /// Only so many lines of what there is
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 200)]
    pub lines: usize,
}

#[derive(Debug, Args)]
pub struct BuildArgs {
    #[arg(value_enum)]
    pub what: Built,

    /// Processor it is for: this computer's own
    #[arg(long, value_enum)]
    pub arch: Option<Arch>,

    /// Directory it goes to; without it, where labs look for it
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
}

/// An image that is made here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Built {
    /// The machine that runs bootjackd in a container
    Provisioner,
}
