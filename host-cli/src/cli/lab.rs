//! The verbs of a lab, as they are typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{ConsoleView, Format, duration};
use crate::drivers::Driver;
use crate::drivers::spec::{Arch, Firmware};
use crate::exit::Exit;
use crate::lab::open::LabRef;

/// Which lab, and to whom the answers go.
#[derive(Clone, Debug, Default, Args)]
pub struct At {
    #[command(flatten)]
    pub lab: LabRef,

    /// How answers are printed [default: table]
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
}

impl At {
    pub fn format(&self) -> Format {
        self.output.unwrap_or(Format::Table)
    }
}

#[derive(Debug, Subcommand)]
pub enum LabVerb {
    /// Write a lab.toml to start from
    #[command(after_help = Exit::help())]
    Init(InitLabArgs),

    /// Look whether the lab's file is right, and do nothing else
    #[command(after_help = Exit::help())]
    Validate {
        #[command(flatten)]
        at: At,
    },

    /// Show what up would do; exit status 0: nothing, 9: something
    #[command(after_help = Exit::help())]
    Plan {
        #[command(flatten)]
        at: At,
    },

    /// Bring the lab up: network, provisioner, machines; what is there already is left as it is
    #[command(after_help = Exit::help())]
    Up(UpArgs),

    /// Shut machines down; the whole lab without names. Nothing is lost
    #[command(after_help = Exit::help())]
    Down(DownArgs),

    /// Shut machines down and delete their disks; the whole lab without names
    #[command(after_help = Exit::help())]
    Destroy(DestroyArgs),

    /// Show what runs, and where machines stand
    #[command(after_help = Exit::help())]
    Status {
        #[command(flatten)]
        at: At,
    },

    /// Look at this computer: what a lab needs and does not find, and what is left of labs that ended badly
    #[command(after_help = Exit::help())]
    Doctor {
        #[command(flatten)]
        at: At,
    },

    /// The lab's machines, one by one
    #[command(visible_alias = "vms", after_help = Exit::help())]
    Vm {
        #[command(flatten)]
        at: At,

        #[command(subcommand)]
        command: VmCommand,
    },

    /// What bootjackd runs on, and the container that it runs in
    #[command(after_help = Exit::help())]
    Provisioner {
        #[command(flatten)]
        at: At,

        #[command(subcommand)]
        command: super::ProvisionerCommand,
    },

    /// Log in to a machine, or run a command there
    #[command(after_help = Exit::help())]
    Shell {
        #[command(flatten)]
        at: At,

        /// The machine, or provisioner
        name: String,

        /// The command, after --
        #[arg(last = true)]
        command: Vec<String>,
    },

    /// Run a command in a machine; its exit status is this one's
    #[command(after_help = Exit::help())]
    Exec {
        #[command(flatten)]
        at: At,

        /// The machine, or provisioner
        name: String,

        #[arg(required = true, last = true)]
        command: Vec<String>,
    },

    /// Copy files to or from a machine: NAME:PATH is a machine's
    #[command(after_help = Exit::help())]
    Cp {
        #[command(flatten)]
        at: At,

        /// Directories, too
        #[arg(long, short)]
        recursive: bool,

        #[arg(required = true, num_args = 2.., value_name = "FROM|TO")]
        paths: Vec<String>,
    },

    /// Print the configuration that ssh, scp, rsync and Ansible reach the machines by
    #[command(after_help = Exit::help())]
    SshConfig {
        #[command(flatten)]
        at: At,
    },
}

#[derive(Clone, Debug, Args)]
pub struct InitLabArgs {
    /// Where it is written
    #[arg(value_name = "FILE", default_value = crate::lab::open::FILE_NAME)]
    pub file: PathBuf,

    /// What the lab is to show
    #[arg(long, value_enum, default_value = "pair")]
    pub template: LabTemplate,
}

/// A lab to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LabTemplate {
    /// A provisioner VM, and two machines that boot from it: one with a BIOS, one with UEFI
    Pair,
    /// One machine, and bootjackd in a network namespace of this Linux
    Quick,
}

#[derive(Clone, Debug, Args)]
pub struct UpArgs {
    #[command(flatten)]
    pub at: At,

    /// These machines, and what they need; all of them without names
    pub names: Vec<String>,

    /// Return when every machine is so far: ssh, cloud-init, installed, or console:REGEX
    #[arg(long, value_name = "STATE", num_args = 0..=1, default_missing_value = "ssh", require_equals = true)]
    pub wait: Option<crate::lab::wait::Until>,

    /// How long that may take
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = duration)]
    pub timeout: Duration,

    /// Show what the machines say on their consoles meanwhile
    #[arg(long, value_enum, value_name = "LINES", num_args = 0..=1, default_missing_value = "calm", default_value = "none", hide_default_value = true, require_equals = true, requires = "wait")]
    pub console: ConsoleView,

    /// Power on with this firmware, whatever the lab's file says; for these machines, and this time
    #[arg(long, value_enum)]
    pub firmware: Option<Firmware>,

    /// Have them boot this profile, whatever the lab's file says
    #[arg(long)]
    pub profile: Option<String>,

    #[command(flatten)]
    pub how: How,

    /// Print what would be started, with its whole command line, and start nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// How machines are run.
#[derive(Clone, Debug, Args)]
pub struct How {
    /// What runs machines; without it QEMU, natively if a test guest ran well so, and else by emulation
    #[arg(long, value_enum)]
    pub driver: Option<Driver>,

    /// The bootjackd of a namespace; without it, the one beside this program, or else on the PATH
    #[arg(long, value_name = "FILE")]
    pub bootjackd: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct DownArgs {
    #[command(flatten)]
    pub at: At,

    /// These machines; the whole lab without names
    pub names: Vec<String>,

    /// How long a guest may take to shut down before it is ended
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub grace: Duration,

    /// Do not ask the guests
    #[arg(long, conflicts_with = "grace")]
    pub kill: bool,
}

#[derive(Clone, Debug, Args)]
pub struct DestroyArgs {
    #[command(flatten)]
    pub at: At,

    /// These machines; the whole lab without names
    pub names: Vec<String>,

    /// Keep disks, and the provisioner's data
    #[arg(long)]
    pub keep_disks: bool,

    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

#[derive(Debug, Subcommand)]
pub enum VmCommand {
    /// List machines with their state and the lease that bootjackd gave them
    #[command(visible_alias = "ls")]
    List,

    /// Show one, with its command line
    Show { name: String },

    /// Power machines on
    Start {
        #[arg(required = true)]
        names: Vec<String>,

        /// Boot from here first this time: pxe, disk; once:pxe: and as usual after its next reset
        #[arg(long, value_enum)]
        boot: Option<BootChoice>,

        /// Be at its console from its first word on
        #[arg(long, short, conflicts_with = "wait")]
        interactive: bool,

        #[command(flatten)]
        how: How,

        #[command(flatten)]
        waiting: Waiting,
    },

    /// Shut machines down
    Stop {
        #[arg(required = true)]
        names: Vec<String>,

        /// How long the guest may take before it is ended
        #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
        grace: Duration,

        /// Do not ask the guest
        #[arg(long, conflicts_with = "grace")]
        kill: bool,
    },

    /// Shut machines down and power them on again
    Restart {
        #[arg(required = true)]
        names: Vec<String>,

        #[arg(long, value_enum)]
        boot: Option<BootChoice>,

        #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
        grace: Duration,

        #[command(flatten)]
        how: How,

        #[command(flatten)]
        waiting: Waiting,
    },

    /// Press the reset button
    Reset {
        #[arg(required = true)]
        names: Vec<String>,
    },

    /// Install a machine again: bootjackd is told, and it boots from the network now
    Reinstall {
        #[arg(required = true)]
        names: Vec<String>,

        #[command(flatten)]
        how: How,

        #[command(flatten)]
        waiting: Waiting,
    },

    /// Write a new machine into lab.toml, which keeps its comments and order; `up` makes it
    Create {
        name: String,

        #[command(flatten)]
        new: NewMachine,
    },

    /// Give a machine that does not run another name, in lab.toml, too
    ///
    /// Its disk, MAC address (written into lab.toml from now on) and host key stay its own. Its UUID comes from its name, so it is
    /// new; to bootjackd it is a machine that it has not seen before, with the old one's address.
    Rename { old: String, new: String },

    /// Delete machines' disks and firmware variables; lab.toml keeps them
    Delete {
        #[arg(required = true)]
        names: Vec<String>,

        /// Take them out of lab.toml, too, with the comments above them
        #[arg(long)]
        forget: bool,
    },

    /// Print what a machine's console has said
    Logs {
        name: String,

        /// Go on as it says more
        #[arg(long)]
        follow: bool,

        /// What QEMU itself had to say
        #[arg(long)]
        driver: bool,
    },

    /// Be at a machine's console: every key goes to it, ^] ends it
    Console { name: String },

    /// Wait for what a machine's console says, and type there, without a person
    ///
    /// A script has one step on a line: `expect RE`, `send TEXT` (with Enter), `type TEXT` (without), `timeout DURATION`. Waiting
    /// begins with the line that the console is at.
    Expect {
        name: String,

        /// Wait for this regular expression
        #[arg(long, value_name = "RE", required_unless_present = "script")]
        pattern: Option<String>,

        /// Then type this, and Enter
        #[arg(long, value_name = "TEXT", requires = "pattern")]
        send: Option<String>,

        /// Do the steps of this file
        #[arg(long, value_name = "FILE", conflicts_with = "pattern")]
        script: Option<PathBuf>,

        /// How long each wait may take, unless the script says otherwise
        #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
        timeout: Duration,
    },

    /// Take a picture of a machine's screen, as PNG; the machine needs display = true
    Screenshot {
        name: String,

        /// Where it is written
        #[arg(value_name = "FILE")]
        to: PathBuf,
    },

    /// Ask QEMU something in its own words, and print what it answers
    Qmp {
        name: String,

        /// Such as query-status
        command: String,

        /// As JSON, such as '{"id": "x"}'
        #[arg(default_value = "{}")]
        arguments: String,
    },
}

/// When a command on machines returns.
#[derive(Clone, Debug, Args)]
pub struct Waiting {
    /// Return when every machine is so far: ssh, cloud-init, installed, or console:REGEX
    #[arg(long, value_name = "STATE", num_args = 0..=1, default_missing_value = "ssh", require_equals = true)]
    pub wait: Option<crate::lab::wait::Until>,

    /// How long that may take
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = duration)]
    pub timeout: Duration,
}

/// What is written of a new machine; the rest is as lab.toml has it without. Values are as they are there.
#[derive(Clone, Debug, Args)]
pub struct NewMachine {
    /// What bootjackd serves it when it boots from the network
    #[arg(long, required_unless_present = "image")]
    pub profile: Option<String>,

    /// A cloud image that its disk starts as
    #[arg(long)]
    pub image: Option<String>,

    /// A file of cloud-config for that image
    #[arg(long, value_name = "FILE", requires = "image")]
    pub user_data: Option<String>,

    #[arg(long, value_enum)]
    pub arch: Option<Arch>,

    #[arg(long, value_enum)]
    pub firmware: Option<Firmware>,

    #[arg(long)]
    pub cpus: Option<u32>,

    /// Such as 2GiB
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,

    /// Such as 20GiB
    #[arg(long, value_name = "SIZE")]
    pub disk: Option<String>,

    /// What it boots from, first to last: disk,net
    #[arg(long, value_delimiter = ',')]
    pub boot: Vec<String>,

    /// Its reserved address; without it, the next that is free
    #[arg(long)]
    pub address: Option<String>,

    #[arg(long)]
    pub mac: Option<String>,

    /// Give it a screen
    #[arg(long)]
    pub display: bool,
}

/// What a machine boots from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BootChoice {
    /// The network first
    Pxe,
    /// Its disk first
    Disk,
    /// The network first, and as usual after its next reset
    #[value(name = "once:pxe")]
    OncePxe,
}

impl LabVerb {
    pub fn at(&mut self) -> Option<&mut At> {
        match self {
            Self::Init(_) => None,
            Self::Validate { at }
            | Self::Plan { at }
            | Self::Status { at }
            | Self::Doctor { at }
            | Self::Vm { at, .. }
            | Self::Provisioner { at, .. }
            | Self::Shell { at, .. }
            | Self::Exec { at, .. }
            | Self::Cp { at, .. }
            | Self::SshConfig { at } => Some(at),
            Self::Up(args) => Some(&mut args.at),
            Self::Down(args) => Some(&mut args.at),
            Self::Destroy(args) => Some(&mut args.at),
        }
    }
}

/// Their names.
pub const LAB_VERBS: [&str; 14] = [
    "provisioner",
    "init",
    "validate",
    "plan",
    "up",
    "down",
    "destroy",
    "status",
    "doctor",
    "vm",
    "shell",
    "exec",
    "cp",
    "ssh-config",
];
