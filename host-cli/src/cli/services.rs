//! What was typed after `bootjack lease`, `operation`, `profile`, `artifact` and `server`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use super::duration;
use super::reservation::FilterArgs;

#[derive(Debug, Subcommand)]
pub enum LeaseCommand {
    /// List addresses that are held, offered, declined or reserved
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        filter: FilterArgs,
    },

    /// Show one
    Get { address: String },

    /// End what is known of addresses; who holds one is refused when it next asks to go on with it
    Release {
        #[arg(required = true, value_name = "ADDRESS")]
        addresses: Vec<String>,
    },

    /// Tell of every change as it happens, until it is interrupted
    Watch {
        #[command(flatten)]
        filter: FilterArgs,

        /// Tell what there is first
        #[arg(long, conflicts_with = "resume")]
        initial: bool,

        /// Go on after the message with this token, as --output json shows it
        #[arg(long, value_name = "TOKEN")]
        resume: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum OperationCommand {
    /// List machines that were moved to another address, and whether they have taken it
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        filter: FilterArgs,
    },

    /// Show one
    Get {
        /// As `bootjack reservation get` shows it: operations/…
        name: String,
    },

    /// Wait until the machine holds its new address; exit status 7: it does not in time
    Wait {
        /// As `bootjack reservation get` shows it: operations/…
        name: String,

        /// How long; without it, until the operation's deadline
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        timeout: Option<Duration>,
    },
}

#[derive(Debug, Subcommand)]
pub enum ProfileCommand {
    /// List profiles
    #[command(visible_alias = "ls")]
    List,

    /// Show one
    Get {
        name: String,

        /// Write its files into this directory
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
    },

    /// Make a profile, or put another in its place
    Put {
        /// Directory of its files, profile.toml among them
        #[arg(value_name = "DIR")]
        dir: PathBuf,

        /// Its name; without it, the directory's
        #[arg(long)]
        name: Option<String>,

        /// Put it only while this is the etag of the one that is there
        #[arg(long)]
        etag: Option<String>,

        /// Only check it
        #[arg(long)]
        dry_run: bool,
    },

    /// Delete profiles that were made over the API
    #[command(visible_alias = "rm")]
    Delete {
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },

    /// Look at every document of the machines that have it; exit status 3: one of them is broken
    Lint {
        /// Its name
        name: String,

        /// Look at these files in place of those that it has
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub enum ArtifactCommand {
    /// List kernels, RAM disks and images
    #[command(visible_alias = "ls")]
    List,

    /// Show one
    Get {
        /// Its path below /files/
        name: String,
    },

    /// Send a file; it is there when every octet of it is
    Upload {
        /// Its path below /files/, such as debian-12/x86_64/vmlinuz
        name: String,

        file: PathBuf,

        /// What its SHA-256 must be; without it, that of the file as it is now
        #[arg(long, value_name = "HEX", value_parser = sha256)]
        sha256: Option<String>,
    },

    /// Delete artefacts that nothing uses
    #[command(visible_alias = "rm")]
    Delete {
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum ServerCommand {
    /// Show what runs, where it listens, and what it cannot do
    Info,

    /// Show the configuration that it goes by, every default filled in
    Config,

    /// Print its whole state, as `bootjackd store import` reads it
    Export {
        /// File to write it to; without it, standard output
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
}

/// 64 hexadecimal digits.
fn sha256(text: &str) -> Result<String, String> {
    match text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => Ok(text.to_ascii_lowercase()),
        false => Err("wanted 64 hexadecimal digits".to_owned()),
    }
}
