//! The configuration file. In: its text. Out: a `Config` that makes sense as a whole, or every problem at once with line
//! numbers. Touches no file but the text it is given: whether directories exist is the app's to see.

mod artifacts;
mod classes;
pub mod effective;
mod etcd;
mod groups;
mod grpc;
mod layers;
pub mod reader;
mod replicas;
mod reservations;
mod services;
mod store;
mod subnets;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use self::artifacts::{Artifacts, Upstream};
pub use self::classes::parse_arch;
use self::classes::read_classes;
pub use self::etcd::{Backend, Etcd};
use self::groups::read_groups;
use self::grpc::read_grpc;
pub use self::grpc::{DEFAULT_GRPC_RATE_LIMIT, Grpc, GrpcListen};
pub use self::layers::read_local_boot;
use self::layers::read_options;
use self::reader::{At, Problem, Reader, Section};
pub use self::replicas::{DEFAULT_TTL_SECS, Replicas};
pub use self::reservations::default_id;
use self::reservations::read_reservations;
use self::services::{read_bind, read_dhcp, read_tls};
pub use self::store::Store;
use self::store::read_store;
use self::subnets::read_subnets;
use crate::dhcp::answer::Mode;
use crate::dhcp::limit::Limit;
use crate::http::access::Bind;
use crate::model::{Class, Group, Options, Profile, Reservation, Subnet, Vars};

/// Where leases and reservations are kept unless the file says otherwise.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/bootjack";
/// Where the API listens unless the file says otherwise: nobody but this machine's root can reach it.
pub const DEFAULT_GRPC_LISTEN: &str = "unix:/run/bootjack/api.sock";
/// Where Debian's and Ubuntu's `ipxe` package puts the network boot programs.
pub const DEFAULT_PROGRAMS: &str = "/usr/lib/ipxe";
/// Whom a service that root started becomes, if there is somebody of that name.
pub const DEFAULT_USER: &str = "bootjack";
/// The profile that machines in rescue boot.
pub const DEFAULT_RESCUE_PROFILE: &str = "rescue";
/// Four racks of racks that power on at once.
pub const DEFAULT_TRANSFERS: usize = 4096;
/// A stranger gets an eighth of that; a whole room behind one address (NAT, containers) still boots.
pub const DEFAULT_TRANSFERS_PER_CLIENT: usize = 512;

/// What `bootjackd.toml` says.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub data_dir: PathBuf,
    pub store: Store,
    pub dhcp: Dhcp,
    pub subnets: Vec<Subnet>,
    /// DHCP options for every client.
    pub options: Options,
    pub classes: Vec<Class>,
    pub tftp: Tftp,
    pub http: Http,
    pub grpc: Grpc,
    pub boot: Boot,
    pub admin: Admin,
    pub process: Process,
    /// Where secrets are that reservations made over the API may name; without it they may name none.
    pub secrets_dir: Option<PathBuf>,
    /// Variables for every machine.
    pub vars: Vars,
    pub groups: Vec<Group>,
    pub artifacts: Artifacts,
    /// None: nobody answers clients with this service.
    pub replicas: Option<Replicas>,
    /// Those of the file, each with its line.
    pub reservations: Vec<At<Reservation>>,
    /// The line of every path and address in it, for problems that only the machine it runs on can show.
    pub lines: BTreeMap<&'static str, usize>,
}

impl Config {
    /// Where artefacts are.
    pub fn artifacts_dir(&self) -> PathBuf {
        let usual = || self.data_dir.join("artifacts");
        self.artifacts.dir.clone().unwrap_or_else(usual)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Dhcp {
    /// None: every interface with an address in a subnet.
    pub interfaces: Option<Vec<String>>,
    /// Whether to start although an interface or an address is not there yet.
    pub wait_for_interfaces: bool,
    pub mode: Mode,
    /// Whether clients that nothing is known of are refused rather than left to another server.
    pub authoritative: bool,
    /// Whether other DHCP servers of a segment are looked for, at start and now and then.
    pub look_for_others: bool,
    /// Whether machines that look for an IPv6 router, where there is none, are told so: iPXE waits 15 s otherwise.
    pub answer_ipv6_solicitations: bool,
    /// How much one client may send.
    pub limit: Limit,
    /// The longest lease of a machine that is installing.
    pub install_lease: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Tftp {
    /// None: port 69 of every address that DHCP serves from.
    pub listen: Option<SocketAddr>,
    pub root: Option<PathBuf>,
    /// Whether all transfers go through the listening port, for where no other can be reached: containers, NAT.
    pub single_port: bool,
    /// Transfers that may run at once, and those to one address.
    pub max_transfers: usize,
    pub max_transfers_per_client: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// None: port 80 of every address that DHCP serves from.
    pub listen: Option<SocketAddr>,
    pub files: Option<PathBuf>,
    /// What scripts and documents are bound to.
    pub bind_documents: Bind,
    /// MiB a second that one client is sent; 0 for no limit.
    pub rate_limit_mib: u32,
    pub tls: Option<HttpTls>,
}

/// HTTP over TLS.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpTls {
    pub listen: SocketAddr,
    /// In PEM, followed by those that signed it.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Boot {
    pub programs: PathBuf,
    pub profiles: Option<PathBuf>,
    /// The profile that machines in rescue boot.
    pub rescue: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Metrics and health; none unless asked for.
    pub listen: Option<SocketAddr>,
}

/// Whom the service becomes.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// A name, or numbers: `UID:GID`. Root stays root where nobody is called so and nothing was configured.
    pub user: String,
    pub is_default: bool,
}

/// Reads the file's text: what it says, as far as it says it well, and every problem in it. With `profiles` (by name),
/// reservations are held against them too.
pub fn read(text: &str, profiles: Option<&BTreeMap<String, Profile>>) -> (Config, Vec<Problem>) {
    let mut reader = Reader::new(text);
    let config = read_root(&mut reader.root, profiles);
    (config, reader.problems())
}

/// Where the file says the service keeps what is its own, even if the rest of it has problems.
pub fn data_dir(text: &str) -> PathBuf {
    let at = Reader::new(text).root.text("data_dir");
    at.map_or_else(|| DEFAULT_DATA_DIR.into(), |at| at.value.into())
}

/// Where profiles that are made over the API lie.
pub fn own_profiles_dir(data_dir: &std::path::Path) -> PathBuf {
    data_dir.join("profiles")
}

/// Where the file says the profiles are, even if the rest of it has problems.
pub fn profiles_dir(text: &str) -> Option<At<PathBuf>> {
    let mut reader = Reader::new(text);
    let at = reader.root.section("boot").text("profiles")?;
    Some(At {
        line: at.line,
        value: at.value.into(),
    })
}

fn read_root(root: &mut Section, profiles: Option<&BTreeMap<String, Profile>>) -> Config {
    let mut lines = BTreeMap::new();
    let mut boot = root.section("boot");
    let rescue = boot.text("rescue").map(|at| {
        lines.insert("boot.rescue", at.line);
        at.value
    });
    let mut path = |section: &mut Section, key: &'static str, place: &'static str| {
        let at = section.text(key)?;
        if at.value.is_empty() {
            section.report(at.line, key, "wanted a path, got an empty string");
        }
        lines.insert(place, at.line);
        Some(PathBuf::from(at.value))
    };

    let data_dir = path(root, "data_dir", "data_dir").unwrap_or_else(|| DEFAULT_DATA_DIR.into());
    let mut tftp = root.section("tftp");
    let mut http = root.section("http");
    let tftp_root = path(&mut tftp, "root", "tftp.root");
    let files = path(&mut http, "files", "http.files");
    let bind_documents = read_bind(&mut http);
    let rate_limit_mib = http.whole_number("rate_limit_mib", 0, 1_000_000);
    let tls = http.has("tls").then(|| read_tls(&mut http.section("tls")));
    let programs = path(&mut boot, "programs", "boot.programs");
    let profiles_dir = path(&mut boot, "profiles", "boot.profiles");
    let mut secrets = root.section("secrets");
    let secrets_dir = path(&mut secrets, "dir", "secrets.dir");
    let mut listen = |section: &mut Section, place: &'static str, example| {
        let at = section.parsed::<SocketAddr>("listen", example)?;
        lines.insert(place, at.line);
        Some(at.value)
    };
    let tftp_listen = listen(&mut tftp, "tftp.listen", "198.18.0.1:69");
    let single_port = tftp.boolean("single_port").is_some_and(|at| at.value);
    let mut count = |key, default| {
        let at = tftp.whole_number(key, 1, 65_535);
        at.map_or(default, |at| at.value as usize)
    };
    let max_transfers = count("max_transfers", DEFAULT_TRANSFERS);
    let max_transfers_per_client = count("max_transfers_per_client", DEFAULT_TRANSFERS_PER_CLIENT);
    let http_listen = listen(&mut http, "http.listen", "198.18.0.1:80");
    let mut admin = root.section("admin");
    let admin_listen = listen(&mut admin, "admin.listen", "127.0.0.1:9469");
    let mut process = root.section("process");
    let user = process.text("user").map(|at| {
        lines.insert("process.user", at.line);
        at.value
    });
    for section in [&tftp, &http, &boot, &admin, &secrets, &process] {
        section.finish();
    }

    let dhcp = read_dhcp(&mut root.section("dhcp"), &mut lines);
    let grpc = read_grpc(&mut root.section("grpc"), &mut lines);
    let artifacts = artifacts::read(root);
    let store = read_store(&mut root.section("store"), &mut lines);
    let is_shared = matches!(store.backend, Backend::Etcd(_));
    let replicas = replicas::read(root, is_shared);
    let options = read_options(root);
    let subnets = read_subnets(root);
    let classes = read_classes(root, &subnets);
    let vars = root.vars("vars", &[]);
    let groups = read_groups(root, profiles);
    let common = (&vars, &groups[..]);
    let reservations = read_reservations(root, &subnets, common, profiles);
    Config {
        data_dir,
        store,
        dhcp,
        subnets: subnets.into_iter().map(|at| at.value).collect(),
        options,
        classes,
        tftp: Tftp {
            listen: tftp_listen,
            root: tftp_root,
            single_port,
            max_transfers,
            max_transfers_per_client,
        },
        http: Http {
            listen: http_listen,
            files,
            bind_documents,
            rate_limit_mib: rate_limit_mib.map_or(0, |at| at.value),
            tls: tls.flatten(),
        },
        grpc,
        boot: Boot {
            programs: programs.unwrap_or_else(|| DEFAULT_PROGRAMS.into()),
            profiles: profiles_dir,
            rescue: rescue.unwrap_or_else(|| DEFAULT_RESCUE_PROFILE.to_owned()),
        },
        admin: Admin {
            listen: admin_listen,
        },
        process: Process {
            is_default: user.is_none(),
            user: user.unwrap_or_else(|| DEFAULT_USER.to_owned()),
        },
        secrets_dir,
        vars,
        groups,
        artifacts,
        replicas,
        reservations,
        lines,
    }
}
