//! What was typed for files of reservations: apply, diff and import.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::reservation::label;
use crate::wanted;

/// Files of reservations.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// File, or directory of *.yaml, *.yml and *.json; - is standard input; may be given several times
    #[arg(long, short = 'f', required = true, value_name = "FILE")]
    pub file: Vec<PathBuf>,

    /// Label everything in the files bootjack/owner=NAME, and touch nothing that has another owner
    #[arg(long, value_name = "NAME", value_parser = owner)]
    pub owner: Option<String>,

    /// Delete what has this owner and is in none of the files
    #[arg(long, requires = "owner")]
    pub prune: bool,
}

#[derive(Debug, Args)]
pub struct ApplyArgs {
    #[command(flatten)]
    pub files: FileArgs,

    /// Check everything, show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Whose files they are
    #[arg(value_enum)]
    pub from: ImportFrom,

    /// Files or directories; what they include is read too
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<String>,

    /// Directory that holds a copy of the other host's files: /etc/… that they include is looked for in it
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// Profile that all of them boot
    #[arg(long)]
    pub profile: Option<String>,

    /// Label for all of them; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub label: Vec<(String, String)>,

    /// Label all of them bootjack/owner=NAME, so that apply --prune knows them as its own
    #[arg(long, value_name = "NAME", value_parser = owner)]
    pub owner: Option<String>,

    /// Write them to a file for bootjack apply; - is standard output
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,

    /// Send them to bootjackd: create what is not there, update what differs
    #[arg(long, conflicts_with_all = ["to", "dry_run"])]
    pub apply: bool,

    /// Change nothing, as without --apply
    #[arg(long)]
    pub dry_run: bool,

    /// Take over the rest though some lines cannot be read
    #[arg(long)]
    pub skip_invalid: bool,
}

/// Servers that reservations can come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImportFrom {
    /// dnsmasq.conf, a directory of such files, hosts files, /etc/ethers
    Dnsmasq,
    /// dhcpd.conf
    IscDhcpd,
    /// kea-dhcp4.conf
    Kea,
    /// Virtual machines: ~/.pvmlab/vms
    Pvmlab,
}

/// A name that can be a label's value, and is not empty.
fn owner(text: &str) -> Result<String, String> {
    wanted::check_label(wanted::OWNER, text)?;
    match text.is_empty() {
        true => Err("wanted a name".to_owned()),
        false => Ok(text.to_owned()),
    }
}
