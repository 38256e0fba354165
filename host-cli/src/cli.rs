//! What was typed.

mod auth;
mod files;
mod image;
mod lab;
mod net;
mod provisioner;
mod reservation;
mod services;

use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::commands::replicas::ReplicasCommand;
use crate::drivers::spec::Arch;
use crate::exit::{Exit, Failure};
use crate::server::{Access, Place, Server};

pub use self::auth::{AuthArgs, AuthCommand, InitArgs, IssueArgs};
pub use self::files::{ApplyArgs, FileArgs, ImportArgs, ImportFrom};
pub use self::image::{
    DiskCommand, ExportArgs, ImportImageArgs, KeptCommand, PullArgs, SnapshotCommand,
};
pub use self::lab::{
    At, BootChoice, DestroyArgs, DownArgs, How, InitLabArgs, LAB_VERBS, LabTemplate, LabVerb,
    NewMachine, UpArgs, VmCommand, Waiting,
};
pub use self::net::{CaptureArgs, LinkState, NamespaceArgs, NetArgs, NetCommand};
pub use self::provisioner::{
    BuildArgs, Built, ContainerCommand, GraceArgs, LogsArgs, ProvisionerCommand,
};
pub use self::reservation::{CreateArgs, FieldArgs, ReservationCommand, UpdateArgs};
pub use self::services::{
    ArtifactCommand, LeaseCommand, OperationCommand, ProfileCommand, ServerCommand,
};

/// Boots machines off the network jack: reservations of a running bootjackd, and a lab to try it in
#[derive(Debug, Parser)]
#[command(name = "bootjack", version, after_help = Exit::help(), arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    api: ApiArgs,

    #[command(subcommand)]
    pub command: Command,
}

/// How to talk to bootjackd, and to whom the answers go. Understood before and after the verb.
#[derive(Clone, Debug, Args)]
pub struct ApiArgs {
    /// Where bootjackd's gRPC listens: unix:PATH, https://HOST:PORT or, on this machine, HOST:PORT [env: BOOTJACK_SERVER] [default: unix:/run/bootjack/api.sock, and where nothing is there, that of the lab of this directory]
    #[arg(long, value_name = "ADDR")]
    server: Option<Place>,

    #[command(flatten)]
    access: Access,

    /// How answers are printed [default: table]
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
}

impl ApiArgs {
    pub fn server(&self) -> Result<Server, Failure> {
        let named = std::env::var("BOOTJACK_SERVER").unwrap_or_default();
        let place = match &self.server {
            Some(place) => place.clone(),
            None if named.is_empty() => match self.of_lab()? {
                Some(server) => return Ok(server),
                None => Place::default(),
            },
            None => named
                .parse()
                .map_err(|error| Failure::new(Exit::Usage, format!("BOOTJACK_SERVER: {error}")))?,
        };
        let mut access = self.access.clone();
        // The environment is for every server: what has no meaning for this one is left out.
        let environment = Access::of_environment();
        access = access.or(match &place {
            Place::Tls(_) => environment,
            place if place.takes_token() => environment.token_alone(),
            _ => Access::default(),
        });
        Server::new(place, access)
    }

    /// That of the lab in whose directory this is, where nothing was said and no bootjackd is installed.
    fn of_lab(&self) -> Result<Option<Server>, Failure> {
        let installed = match Place::default() {
            Place::Unix(socket) => std::path::Path::new(&socket).exists(),
            Place::Tcp(_) | Place::Tls(_) => false,
        };
        if installed || self.access != Access::default() {
            return Ok(None);
        }
        match crate::lab::open::open(&crate::lab::open::LabRef::default()) {
            Ok(opened) => crate::lab::provisioner::server(&opened).map(Some),
            Err(failure) if failure.exit == Exit::NotFound => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    pub fn format(&self) -> Format {
        self.output.unwrap_or(Format::Table)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// For people with room: all columns
    Wide,
    /// For programs: keys are stable and always there, null stands for none
    Json,
    /// The same as YAML
    Yaml,
}

impl Format {
    /// Whether programs are to read it.
    pub fn is_for_programs(self) -> bool {
        matches!(self, Self::Json | Self::Yaml)
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Which machine gets which address, host name and profile
    #[command(visible_alias = "reservations", after_help = Exit::help())]
    Reservation {
        #[command(flatten)]
        api: ApiArgs,

        #[command(subcommand)]
        command: ReservationCommand,
    },

    /// Where machines stand under their profiles, and what they boot next
    #[command(visible_alias = "machines", after_help = Exit::help())]
    Machine {
        #[command(flatten)]
        api: ApiArgs,

        #[command(subcommand)]
        command: MachineCommand,
    },

    /// Which of several bootjackd that share one etcd answers whom; without a verb, lists them
    #[command(visible_alias = "replica", after_help = Exit::help())]
    Replicas {
        #[command(flatten)]
        api: ApiArgs,

        #[command(subcommand)]
        command: Option<ReplicasCommand>,
    },

    /// Who holds which address
    #[command(visible_alias = "leases", after_help = Exit::help())]
    Lease {
        #[command(flatten)]
        api: ApiArgs,

        #[command(subcommand)]
        command: LeaseCommand,
    },

    /// Machines on their way to another address
    #[command(visible_alias = "operations", after_help = Exit::help())]
    Operation {
        #[command(flatten)]
        api: ApiArgs,

        #[command(subcommand)]
        command: OperationCommand,
    },

    /// What machines boot, and the documents they are served
    #[command(visible_alias = "profiles", after_help = Exit::help())]
    Profile {
        #[command(flatten)]
        api: ApiArgs,

        #[command(subcommand)]
        command: ProfileCommand,
    },

    /// Kernels, RAM disks and images that machines fetch
    #[command(visible_alias = "artifacts", after_help = Exit::help())]
    Artifact {
        #[command(flatten)]
        api: ApiArgs,

        #[command(subcommand)]
        command: ArtifactCommand,
    },

    /// What runs, and by which configuration
    #[command(after_help = Exit::help())]
    Server {
        #[command(flatten)]
        api: ApiArgs,

        #[command(subcommand)]
        command: ServerCommand,
    },

    /// Make reservations what files say: create and update only what differs
    ///
    /// A file is YAML or JSON: `reservations:` and a list, or one reservation in each document. A reservation of a file is the whole
    /// of it: what it does not say is empty. Everything is checked before the first write, here and by bootjackd.
    #[command(after_help = Exit::help())]
    Apply {
        #[command(flatten)]
        api: ApiArgs,

        #[command(flatten)]
        args: ApplyArgs,
    },

    /// Show what apply would change; exit status 0: nothing, 9: something
    #[command(after_help = Exit::help())]
    Diff {
        #[command(flatten)]
        api: ApiArgs,

        #[command(flatten)]
        args: FileArgs,
    },

    /// Take reservations over from dnsmasq, ISC dhcpd, Kea or pvmlab
    ///
    /// Prints what comes over, everything that does not and why, and the subnets for bootjackd.toml. Nothing is written or sent
    /// unless --to or --apply says so.
    #[command(after_help = Exit::help())]
    Import {
        #[command(flatten)]
        api: ApiArgs,

        #[command(flatten)]
        args: ImportArgs,
    },

    /// Wait until a machine is installed, runs, or has failed
    ///
    /// Exit status 0 means that it is so. Waiting for installed or ready ends with status 5 when the installation fails, and
    /// waiting for failed ends with 5 when it succeeds; status 7 means that the time is over.
    #[command(after_help = Exit::help())]
    Wait {
        #[command(flatten)]
        api: ApiArgs,

        #[command(flatten)]
        args: WaitArgs,
    },

    /// Who may use the API over a network: certificates and tokens, made and revoked in a directory of yours
    #[command(after_help = Exit::help())]
    Auth(AuthArgs),

    #[command(flatten)]
    Verb(LabVerb),

    /// The lab's private network: who is on it, and what goes over it
    #[command(after_help = Exit::help())]
    Net(NetArgs),

    /// Images: of disks that machines have or start from, and of the service
    #[command(visible_alias = "images", after_help = Exit::help())]
    Image {
        /// How answers are printed [default: table]
        #[arg(long, short, value_enum, value_name = "FORMAT", global = true)]
        output: Option<Format>,

        #[command(subcommand)]
        command: ImageCommand,
    },

    /// Disks of machines: make, look, change, and export for others
    #[command(visible_alias = "disks", after_help = Exit::help())]
    Disk {
        /// How answers are printed [default: table]
        #[arg(long, short, value_enum, value_name = "FORMAT", global = true)]
        output: Option<Format>,

        #[command(subcommand)]
        command: DiskCommand,
    },

    /// Write the manual pages, bootjack.1 and one for each verb, into a directory
    Man {
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },

    /// Print the version of this program and what it was built for
    Version {
        /// How it is printed [default: table]
        #[arg(long, short, value_enum, value_name = "FORMAT")]
        output: Option<Format>,
    },

    /// Print the completion script for a shell
    Completion {
        #[arg(value_enum)]
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub enum MachineCommand {
    /// List machines
    #[command(visible_alias = "ls")]
    List {
        /// Only these, such as 'state = FAILED AND labels.rack = "r1"'
        #[arg(
            long,
            default_value = "",
            hide_default_value = true,
            value_name = "FILTER"
        )]
        filter: String,
    },

    /// Show where one stands, and what happened to it
    Show {
        /// Its name, id, host name or MAC
        name: String,

        /// Every event that is kept, and not those of its last attempt alone
        #[arg(long)]
        all: bool,
    },

    /// Have it install its profile at its next network boot, if it is idle or has failed
    Arm { name: String },

    /// Have it install its profile at its next network boot, whatever is on its disk now
    Reinstall { name: String },

    /// Have it boot nothing from the network until it is released
    Hold { name: String },

    /// End hold and rescue
    Release { name: String },

    /// Have it boot the rescue profile until it is released
    Rescue { name: String },

    /// Say where its next network boot leads, once
    NextBoot {
        name: String,

        #[arg(value_enum)]
        from: NextBootFrom,
    },
}

/// Where one boot leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NextBootFrom {
    /// Its own disk
    Disk,
    /// Its profile, also if it is held or in rescue
    Network,
    /// The rescue profile
    Rescue,
    /// As usual: takes back what was asked for
    Usual,
}

#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Its name, id, host name or MAC
    pub name: String,

    /// What to wait for
    #[arg(
        long = "for",
        value_enum,
        value_name = "STATE",
        default_value = "installed"
    )]
    pub state: WaitFor,

    /// How long
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = duration)]
    pub timeout: Duration,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WaitFor {
    /// Its installer has said that it is done
    Installed,
    /// The installed system has phoned home; of a profile that installs nothing: it has fetched its user-data since its last script
    Ready,
    /// Its installation has failed
    Failed,
}

#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    #[command(flatten)]
    Kept(KeptCommand),

    /// Pack bootjackd and network boot programs into a container image, without a container engine
    ///
    /// The archive is an OCI image layout that docker, podman and skopeo load. The same files give the same archive.
    Container(ContainerArgs),

    /// Make an image from this distribution's packages, as root or with a range of user ids (/etc/subuid)
    ///
    /// It takes a minute, and nothing where the image is as it would be made now.
    Build(BuildArgs),
}

#[derive(Debug, Args)]
pub struct ContainerArgs {
    /// bootjackd as a Linux program that needs no libraries
    #[arg(long, value_name = "FILE")]
    pub program: PathBuf,

    /// Processor it is for
    #[arg(long, value_enum, default_value = "x86_64")]
    pub arch: Arch,

    /// Directory of network boot programs (*.efi, *.kpxe)
    #[arg(long, value_name = "DIR", default_value = "/usr/lib/ipxe")]
    pub boot_programs: PathBuf,

    /// Certificates that downloads are checked against, in PEM; without it, this machine's
    #[arg(long, value_name = "FILE")]
    pub certificates: Option<PathBuf>,

    /// What the image is called
    #[arg(long, default_value = "bootjackd")]
    pub name: String,

    /// Its tag; it is tagged latest too
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    pub tag: String,

    /// Where the archive goes
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
}

/// What is shown of a machine's console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ConsoleView {
    /// What says more than that all is well
    Calm,
    /// Kernel messages and every service too
    All,
    /// Nothing
    None,
}

/// Parses the command line; ends the program with clap's message and status 2 if it is not understood.
pub fn parse() -> Cli {
    let mut command = command();
    let matches = command.get_matches_mut();
    // A flag that would be ignored is refused.
    if let Some((verb, _)) = matches.subcommand()
        && (SILENT_VERBS.contains(&verb) || answers_alone(verb))
    {
        for flag in ["server", "ca", "cert", "key", "token_file", "output"] {
            let has_meaning = flag == "output" && answers_alone(verb);
            if matches.value_source(flag) == Some(ValueSource::CommandLine) && !has_meaning {
                let flag = flag.replace('_', "-");
                let text = format!("--{flag} has no meaning for `bootjack {verb}`");
                command
                    .error(clap::error::ErrorKind::ArgumentConflict, text)
                    .exit();
            }
        }
    }
    Cli::from_arg_matches(&matches)
        .unwrap_or_else(|error| error.format(&mut command).exit())
        .merged()
}

/// The whole command line. What an answer is asked for with is understood anywhere after verbs with verbs of their own, too.
pub fn command() -> clap::Command {
    let anywhere = |verb: clap::Command| {
        verb.mut_args(|arg| match arg.get_id().as_str() {
            "server" | "ca" | "cert" | "key" | "token_file" | "output" | "file" => arg.global(true),
            _ => arg,
        })
    };
    let with_verbs = [
        "reservation",
        "machine",
        "lease",
        "replicas",
        "operation",
        "profile",
        "artifact",
        "server",
        "vm",
        "provisioner",
    ];
    (with_verbs.into_iter()).fold(Cli::command(), |command, verb| {
        command.mut_subcommand(verb, anywhere)
    })
}

/// Verbs that neither talk to a bootjackd that somebody names nor answer in a format of choice.
const SILENT_VERBS: [&str; 3] = ["init", "completion", "man"];

/// Whether a verb answers in a format of choice without talking to a bootjackd that somebody names.
fn answers_alone(verb: &str) -> bool {
    let others = ["auth", "net", "image", "disk", "version"];
    others.contains(&verb) || (LAB_VERBS.contains(&verb) && !SILENT_VERBS.contains(&verb))
}

impl Command {
    /// How its answer is to be printed, if it answers without talking to a bootjackd that somebody names.
    fn own_output(&mut self) -> Option<&mut Option<Format>> {
        match self {
            Self::Auth(auth) => Some(&mut auth.output),
            Self::Net(net) => Some(&mut net.output),
            Self::Image { output, .. } | Self::Disk { output, .. } | Self::Version { output } => {
                Some(output)
            }
            Self::Verb(verb) => verb.at().map(|at| &mut at.output),
            _ => None,
        }
    }

    /// How it talks to bootjackd, if it does.
    fn api(&mut self) -> Option<&mut ApiArgs> {
        match self {
            Self::Reservation { api, .. }
            | Self::Machine { api, .. }
            | Self::Lease { api, .. }
            | Self::Replicas { api, .. }
            | Self::Operation { api, .. }
            | Self::Profile { api, .. }
            | Self::Artifact { api, .. }
            | Self::Server { api, .. }
            | Self::Apply { api, .. }
            | Self::Diff { api, .. }
            | Self::Import { api, .. }
            | Self::Wait { api, .. } => Some(api),
            Self::Auth(_)
            | Self::Verb(_)
            | Self::Net(_)
            | Self::Image { .. }
            | Self::Disk { .. }
            | Self::Man { .. }
            | Self::Version { .. }
            | Self::Completion { .. } => None,
        }
    }
}

impl Cli {
    /// How answers are printed.
    pub fn format(&mut self) -> Format {
        if let Some(output) = self.command.own_output() {
            return output.unwrap_or(Format::Table);
        }
        let api = self.command.api();
        api.map_or(Format::Table, |api| api.format())
    }

    /// What stands after the verb wins.
    fn merged(mut self) -> Self {
        if let Some(output) = self.command.own_output() {
            *output = output.or(self.api.output);
        }
        if let Some(api) = self.command.api() {
            api.server = api.server.take().or(self.api.server.take());
            api.access = std::mem::take(&mut api.access).or(self.api.access.clone());
            api.output = api.output.or(self.api.output);
        }
        self
    }
}

/// `90`, `90s`, `5m` or `1m 30s`.
pub fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(secs) = text.parse() {
        return Ok(Duration::from_secs(secs));
    }
    humantime::parse_duration(text).map_err(|error| format!("{error}; wanted such as 90s or 5m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn the_server_is_understood_before_and_after_the_verb() {
        let parsed = |typed: &str| {
            let matches = command()
                .try_get_matches_from(typed.split_whitespace())
                .unwrap();
            match Cli::from_arg_matches(&matches).unwrap().merged().command {
                Command::Reservation { api, .. } => {
                    (api.server().unwrap().to_string(), api.format())
                }
                other => panic!("{other:?}"),
            }
        };
        for typed in [
            "bootjack --server a:1 -o json reservation list",
            "bootjack reservation --server a:1 -o json list",
            "bootjack reservation list --server a:1 --output json",
            "bootjack --server b:1 reservation list --server a:1 -o json",
        ] {
            assert_eq!(parsed(typed), ("a:1".to_owned(), Format::Json), "{typed}");
        }
    }

    #[test]
    fn durations_are_seconds_or_have_a_unit() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert!(
            duration("soon")
                .unwrap_err()
                .ends_with("wanted such as 90s or 5m")
        );
    }

    #[test]
    fn an_update_that_changes_nothing_is_a_usage_error() {
        let typed = ["bootjack", "reservation", "update", "node-1"];
        let error = Cli::try_parse_from(typed).unwrap_err();
        assert_eq!(error.exit_code(), Exit::Usage as i32);
        let typed = [
            "bootjack",
            "reservation",
            "update",
            "node-1",
            "--unset-var",
            "x",
        ];
        assert!(Cli::try_parse_from(typed).is_ok());
    }
}
