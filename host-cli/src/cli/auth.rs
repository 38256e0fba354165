//! `bootjack auth`, as it is typed.

use std::path::PathBuf;

use bootjack_api::access::Scope;
use clap::{Args, Subcommand};

use super::Format;

#[derive(Debug, Args)]
pub struct AuthArgs {
    /// The authority's directory; without it, /etc/bootjack/auth for root, bootjack/auth in a user's configuration otherwise [env: BOOTJACK_AUTH_DIR]
    #[arg(
        long,
        value_name = "DIR",
        env = "BOOTJACK_AUTH_DIR",
        hide_env = true,
        global = true
    )]
    pub dir: Option<PathBuf>,

    /// How answers are printed [default: table]
    #[arg(long, short, value_enum, value_name = "FORMAT", global = true)]
    pub output: Option<Format>,

    #[command(subcommand)]
    pub command: AuthCommand,
}

impl AuthArgs {
    pub fn format(&self) -> Format {
        self.output.unwrap_or(Format::Table)
    }
}

#[derive(Debug, Subcommand)]
pub enum AuthCommand {
    /// Make an authority, and the server's certificate
    Init(InitArgs),

    /// Make a client's certificate, or a token
    Issue(IssueArgs),

    /// Have certificates and tokens be good no longer, from now on
    Revoke {
        /// Serial numbers, ids of tokens, or names: all that was issued under a name
        #[arg(required = true, value_name = "ID|NAME")]
        which: Vec<String>,
    },

    /// List all that was issued, with its expiry
    #[command(visible_alias = "ls")]
    List,
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// Name or address that clients reach the server by; may be given several times; without it, those of this machine
    #[arg(long = "name", value_name = "NAME|ADDRESS")]
    pub names: Vec<String>,

    /// How many days the server's certificate is good
    #[arg(long, default_value_t = 825, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,

    /// Make a new certificate for the server alone, signed by the authority that is there
    #[arg(long)]
    pub server: bool,
}

#[derive(Debug, Args)]
pub struct IssueArgs {
    /// Whose it is: it stands in the service's log of writes
    #[arg(long)]
    pub name: String,

    /// What it is good for: read, reserve (reservations, leases, machines' boots) or admin
    #[arg(long)]
    pub scope: Scope,

    /// How many days it is good
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,

    /// A token, printed once, instead of a certificate
    #[arg(long, conflicts_with = "out")]
    pub token: bool,

    /// Directory for the certificate and its key; without it, clients/ in the authority's
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}
