//! What was typed after `bootjack reservation`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};

use super::duration;
use crate::{vars, wanted};

#[derive(Debug, Subcommand)]
pub enum ReservationCommand {
    /// Make a reservation
    Create(Box<CreateArgs>),

    /// List reservations, those of bootjackd.toml included
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        filter: FilterArgs,
    },

    /// Show one reservation with its variables
    Get {
        /// Its name, id, host name or MAC
        name: String,
    },

    /// Change what is given, keep the rest; an empty value, such as --address "", clears
    Update(Box<UpdateArgs>),

    /// Delete reservations; their addresses are free again at once
    #[command(visible_alias = "rm")]
    Delete {
        /// Names, ids, host names or MACs
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },

    /// Print what is there as a file for bootjack apply
    Export {
        #[command(flatten)]
        filter: FilterArgs,

        /// Those of bootjackd.toml, too
        #[arg(long)]
        all: bool,
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

/// Which ones.
#[derive(Debug, Args)]
pub struct FilterArgs {
    /// Only these, such as 'profile = debian-12 AND labels.rack = "r1"'
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "FILTER"
    )]
    pub filter: String,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").multiple(true))]
#[command(group = ArgGroup::new("identity").args(["mac", "also_mac", "client_id", "uuid", "circuit_id"]).required(true).multiple(true))]
pub struct CreateArgs {
    #[command(flatten)]
    pub fields: FieldArgs,

    /// Id of the reservation; without it, the host name, or else the MAC
    #[arg(long)]
    pub id: Option<String>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true))]
pub struct UpdateArgs {
    /// Its name, id, host name or MAC
    pub name: String,

    #[command(flatten)]
    pub fields: FieldArgs,

    /// Remove this variable
    #[arg(long = "unset-var", value_name = "KEY", group = "change")]
    pub unset_var: Vec<String>,

    /// Remove this label
    #[arg(long = "unset-label", value_name = "KEY", group = "change")]
    pub unset_label: Vec<String>,

    /// Remove this DHCP option
    #[arg(long = "unset-option", value_name = "NAME", group = "change")]
    pub unset_option: Vec<String>,

    /// Change it only while this is its current etag
    #[arg(long)]
    pub etag: Option<String>,

    /// Wait until the machine holds its new address, if that becomes another; exit status 7: it does not in time
    #[arg(long)]
    pub wait: bool,

    /// How long the machine has for that; without it, until its present lease has ended, and at least 10 minutes
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub within: Option<Duration>,
}

/// What a reservation has. Of lists, all is given at once; of maps, one key after the other.
#[derive(Debug, Args)]
pub struct FieldArgs {
    /// MAC address of the network card the machine boots from
    #[arg(long, group = "change")]
    pub mac: Option<String>,

    /// MAC address of another of its cards; may be given several times
    #[arg(long, value_name = "MAC", group = "change")]
    pub also_mac: Vec<String>,

    /// Client identifier (option 61): hexadecimal with its type octet, or text; may be given several times
    #[arg(long, value_name = "ID", group = "change")]
    pub client_id: Vec<String>,

    /// Machine UUID, as SMBIOS has it; may be given several times
    #[arg(long, group = "change")]
    pub uuid: Vec<String>,

    /// Port it is plugged in, as a relay agent says it (option 82): hexadecimal or text; may be given several times
    #[arg(long, value_name = "ID", group = "change")]
    pub circuit_id: Vec<String>,

    /// IPv4 address that this machine, and no other, is given; without it, one from a pool
    #[arg(long, group = "change")]
    pub address: Option<String>,

    /// Host name
    #[arg(long, group = "change")]
    pub hostname: Option<String>,

    /// Profile it boots; without one, that of its groups, or else its local disk
    #[arg(long, group = "change")]
    pub profile: Option<String>,

    /// Label, which chooses groups; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = label, group = "change")]
    pub label: Vec<(String, String)>,

    /// DHCP option for this machine, such as ntp_servers=198.18.0.1,198.18.0.2; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = vars::option, group = "change")]
    pub option: Vec<(String, prost_types::Value)>,

    /// DHCP option as a JSON value, such as 'option_224={"hex": "01:02"}'
    #[arg(long, value_name = "NAME=JSON", value_parser = vars::json, group = "change")]
    pub option_json: Vec<(String, prost_types::Value)>,

    /// Network boot program: snponly, ipxe, undionly, a file's name or a URL; without it, by architecture
    #[arg(long, group = "change")]
    pub program: Option<String>,

    /// How it is sent to its own disk: exit, sanboot or reboot
    #[arg(long, value_name = "HOW", group = "change")]
    pub local_boot: Option<String>,

    #[command(flatten)]
    pub vars: VarArgs,
}

/// Variables for the profile's templates.
#[derive(Debug, Args)]
pub struct VarArgs {
    /// Variable for the profile's templates, as text; may be given several times
    #[arg(long = "var", value_name = "KEY=VALUE", value_parser = vars::text, group = "change")]
    pub text: Vec<(String, prost_types::Value)>,

    /// Variable as a JSON value: number, boolean, list or object
    #[arg(long = "var-json", value_name = "KEY=JSON", value_parser = vars::json, group = "change")]
    pub json: Vec<(String, prost_types::Value)>,

    /// File of variables, a JSON object; - is standard input; --var and --var-json win
    #[arg(long = "vars-file", value_name = "FILE", group = "change")]
    pub file: Option<PathBuf>,
}

/// `KEY=VALUE`.
pub fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        (text.split_once('=')).ok_or_else(|| format!("wanted KEY=VALUE, got `{text}`"))?;
    wanted::check_label(key, value)?;
    Ok((key.to_owned(), value.to_owned()))
}
