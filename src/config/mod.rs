//! The configuration file. In: its text. Out: a `Config` that makes sense as a whole, or every problem at once with line
//! numbers. Touches no file but the text it is given: whether directories exist is the app's to see.

mod artifacts;
pub mod reader;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::Ipv4Net;

pub use self::artifacts::{Artifacts, Upstream};
use self::reader::{At, Problem, Reader, Section};
use crate::catalog::{Catalog, Change, Refusal, Settings};
use crate::dhcp::answer::Mode;
use crate::dhcp::limit::Limit;
use crate::dhcp::options;
use crate::http::access::Bind;
use crate::model::{
    Class, ClientArch, ClientPolicy, LocalBoot, MacAddr, Match, Octets, Options, Pool, Profile,
    Reservation, Source, Subnet, Uuid, check_hostname,
};

/// Where leases and reservations are kept unless the file says otherwise.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/bootjack";
/// Where the API listens unless the file says otherwise: nobody but this machine's root can reach it.
pub const DEFAULT_GRPC_LISTEN: &str = "unix:/run/bootjack/api.sock";
/// Where Debian's and Ubuntu's `ipxe` package puts the network boot programs.
pub const DEFAULT_PROGRAMS: &str = "/usr/lib/ipxe";
/// RFC 2131 leaves it open; an hour lets an address return soon, and renewals stay rare.
pub const DEFAULT_LEASE_TIME: Duration = Duration::from_secs(3600);
/// Packets a second from one client: no boot comes near, and a client that storms takes a hundredth of what is answered.
pub const DEFAULT_RATE_LIMIT: u32 = 1000;
/// An installation is over in minutes, and what runs after it is another system: its address must follow soon.
pub const DEFAULT_INSTALL_LEASE_SECS: u32 = 300;
/// The profile that machines in rescue boot.
pub const DEFAULT_RESCUE_PROFILE: &str = "rescue";
/// Shorter leases than this would have clients renew at every breath.
pub const SHORTEST_LEASE_TIME: Duration = Duration::from_secs(60);

/// What `bootjackd.toml` says.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub data_dir: PathBuf,
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
    pub artifacts: Artifacts,
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
}

#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// None: port 80 of every address that DHCP serves from.
    pub listen: Option<SocketAddr>,
    pub files: Option<PathBuf>,
    /// What scripts and documents are bound to.
    pub bind_documents: Bind,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Grpc {
    pub listen: GrpcListen,
    pub is_default: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum GrpcListen {
    Unix(PathBuf),
    Tcp(SocketAddr),
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

/// Reads the file's text: what it says, as far as it says it well, and every problem in it. With `profiles` (by name),
/// reservations are held against them too.
pub fn read(text: &str, profiles: Option<&BTreeMap<String, Profile>>) -> (Config, Vec<Problem>) {
    let mut reader = Reader::new(text);
    let config = read_root(&mut reader.root, profiles);
    (config, reader.problems())
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
    let mut boot = root.section("boot");
    let tftp_root = path(&mut tftp, "root", "tftp.root");
    let files = path(&mut http, "files", "http.files");
    let bind_documents = read_bind(&mut http);
    let rescue = boot.text("rescue").map(|at| at.value);
    let programs = path(&mut boot, "programs", "boot.programs");
    let profiles_dir = path(&mut boot, "profiles", "boot.profiles");
    let mut listen = |section: &mut Section, place: &'static str, example| {
        let at = section.parsed::<SocketAddr>("listen", example)?;
        lines.insert(place, at.line);
        Some(at.value)
    };
    let tftp_listen = listen(&mut tftp, "tftp.listen", "198.18.0.1:69");
    let http_listen = listen(&mut http, "http.listen", "198.18.0.1:80");
    let mut admin = root.section("admin");
    let admin_listen = listen(&mut admin, "admin.listen", "127.0.0.1:9469");
    for section in [&tftp, &http, &boot, &admin] {
        section.finish();
    }

    let dhcp = read_dhcp(&mut root.section("dhcp"), &mut lines);
    let grpc = read_grpc(&mut root.section("grpc"), &mut lines);
    let artifacts = artifacts::read(root);
    let options = read_options(root);
    let subnets = read_subnets(root);
    let classes = read_classes(root, &subnets);
    let reservations = read_reservations(root, &subnets, profiles);
    Config {
        data_dir,
        dhcp,
        subnets: subnets.into_iter().map(|at| at.value).collect(),
        options,
        classes,
        tftp: Tftp {
            listen: tftp_listen,
            root: tftp_root,
        },
        http: Http {
            listen: http_listen,
            files,
            bind_documents,
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
        artifacts,
        reservations,
        lines,
    }
}

fn read_dhcp(section: &mut Section, lines: &mut BTreeMap<&'static str, usize>) -> Dhcp {
    let interfaces = section.texts("interfaces").map(|at| {
        lines.insert("dhcp.interfaces", at.line);
        if at.value.is_empty() {
            section.report(
                at.line,
                "interfaces",
                "wanted at least one interface name; leave the key out to serve every interface with an address in a subnet",
            );
        }
        let mut names: Vec<String> = Vec::new();
        for (index, name) in at.value.into_iter().enumerate() {
            let key = format!("interfaces[{index}]");
            // IFNAMSIZ is 16 with the closing NUL.
            if !(1..=15).contains(&name.value.len()) || name.value.contains(['/', '\0', ' ']) {
                let text = format!("`{}` is not an interface name", name.value.escape_default());
                section.report(name.line, &key, text);
            } else if names.contains(&name.value) {
                section.report(name.line, &key, format!("{} is named twice", name.value));
            }
            names.push(name.value);
        }
        names
    });
    let authoritative = section.boolean("authoritative").is_some_and(|at| at.value);
    let mode = match section.text("mode") {
        None => Mode::Server,
        Some(at) => match at.value.as_str() {
            "server" => Mode::Server,
            "proxy" => Mode::Proxy,
            _ => {
                section.report(at.line, "mode", "wanted \"server\" or \"proxy\"");
                Mode::Server
            }
        },
    };
    let look_for_others = section.boolean("look_for_others").is_none_or(|at| at.value);
    let answer_ipv6_solicitations =
        (section.boolean("answer_ipv6_solicitations")).is_none_or(|at| at.value);
    let per_second = section.whole_number("rate_limit", 0, 1_000_000);
    let shortest = u32::try_from(SHORTEST_LEASE_TIME.as_secs()).unwrap_or(u32::MAX);
    let install_lease_secs = section.whole_number("install_lease_secs", shortest, 86_400);
    let install_lease_secs = install_lease_secs.map_or(DEFAULT_INSTALL_LEASE_SECS, |at| at.value);
    section.finish();
    let per_second = per_second.map_or(DEFAULT_RATE_LIMIT, |at| at.value);
    Dhcp {
        interfaces,
        mode,
        authoritative,
        look_for_others,
        answer_ipv6_solicitations,
        limit: Limit {
            per_second,
            burst: per_second.saturating_mul(2),
        },
        install_lease: Duration::from_secs(u64::from(install_lease_secs)),
    }
}

fn read_grpc(section: &mut Section, lines: &mut BTreeMap<&'static str, usize>) -> Grpc {
    let example = "unix:/run/bootjack/api.sock or 127.0.0.1:50051";
    let at = section.parsed::<GrpcListen>("listen", example);
    let is_default = at.is_none();
    section.finish();
    if let Some(At { line, value }) = &at {
        lines.insert("grpc.listen", *line);
        if let GrpcListen::Tcp(address) = value
            && !address.ip().is_loopback()
        {
            section.report(
                *line,
                "listen",
                format!(
                    "{address} would open the reservation API to everyone on that network without any authentication; use a loopback address or unix:PATH"
                ),
            );
        }
    }
    let listen = at.map(|at| at.value);
    Grpc {
        listen: listen.unwrap_or_else(|| GrpcListen::Unix("/run/bootjack/api.sock".into())),
        is_default,
    }
}

/// `[options]`, `[subnet.options]`, …: by name, or `option_NNN`.
fn read_options(section: &mut Section) -> Options {
    let mut read = Options::default();
    for (name, At { line, value }) in section.values("options") {
        let key = format!("options.{name}");
        match options::encode(&name, &value) {
            Ok((code, _)) if read.0.contains_key(&code) => {
                section.report(line, &key, format!("option {code} is given twice"));
            }
            Ok((code, content)) => {
                read.0.insert(code, content);
            }
            Err(problem) => section.report(line, &key, problem),
        }
    }
    read
}

fn read_classes(root: &mut Section, subnets: &[At<Subnet>]) -> Vec<Class> {
    let mut classes: Vec<Class> = Vec::new();
    for mut section in root.sections("class") {
        let line = section.line();
        let name = section.text("name");
        let mut rules = section.section("match");
        let matches = read_match(&mut rules);
        rules.finish();
        let pools = section.all_parsed_by_index::<PoolText>("pools", "198.18.0.100-198.18.0.199");
        for (index, at) in &pools {
            let in_one = |subnet: &At<Subnet>| {
                let cidr = subnet.value.cidr;
                cidr.contains(&at.value.0.first) && cidr.contains(&at.value.0.last)
            };
            if !subnets.iter().any(in_one) {
                let text = format!("{} is inside no subnet", at.value.0);
                section.report(at.line, &format!("pools[{index}]"), text);
            }
        }
        let class = Class {
            options: read_options(&mut section),
            program: read_program(&mut section),
            lease_time: read_class_lease_time(&mut section),
            ignore: section.boolean("ignore").is_some_and(|at| at.value),
            pools: pools.into_iter().map(|(_, at)| at.value.0).collect(),
            name: name.map_or_else(String::new, |at| at.value),
            matches,
        };
        section.finish();
        if class.name.is_empty() {
            section.report(
                line,
                "name",
                "is missing; logs and explain call the class by it",
            );
        } else if classes.iter().any(|other| other.name == class.name) {
            section.report(
                line,
                "name",
                format!("{} is the name of two classes", class.name),
            );
        }
        if class.matches.is_empty() {
            section.report(
                line,
                "match",
                "has no rule, so it would hold every client; give one, or use [options]",
            );
        }
        classes.push(class);
    }
    classes
}

/// What a class matches. A rule that no packet can satisfy is a problem.
fn read_match(rules: &mut Section) -> Match {
    let texts = |rules: &mut Section, key: &'static str| -> Vec<String> {
        let texts = rules.texts(key).map(|at| at.value).unwrap_or_default();
        for (index, at) in texts.iter().enumerate() {
            if at.value.is_empty() || at.value.len() > 255 {
                let text = "can never match: an option holds 1 to 255 octets";
                rules.report(at.line, &format!("{key}[{index}]"), text);
            }
        }
        texts.into_iter().map(|at| at.value).collect()
    };
    let vendor_class = texts(rules, "vendor_class");
    let user_class = texts(rules, "user_class");
    let arch = rules.all_parsed::<ArchText>("arch", "\"0x0007\", \"7\" or \"x86_64-uefi\"");
    let prefixes = rules.all_parsed::<PrefixText>("mac_prefix", "52:54:00");
    let circuit_id = texts(rules, "circuit_id");
    Match {
        vendor_class,
        user_class,
        arch: arch.into_iter().flat_map(|at| at.value.0).collect(),
        mac_prefix: prefixes.into_iter().map(|at| at.value.0).collect(),
        circuit_id: circuit_id.iter().map(|text| Octets::parse(text)).collect(),
    }
}

/// A word (`snponly`, `ipxe`, `undionly`), a file below `boot.programs` or `tftp.root`, or a URL.
fn read_program(section: &mut Section) -> Option<String> {
    let at = section.text("program")?;
    if at.value.is_empty() || at.value.contains(char::is_whitespace) || at.value.len() > 255 {
        let text = "wanted snponly, ipxe, undionly, a file's name or a URL";
        section.report(at.line, "program", text);
    }
    Some(at.value)
}

fn read_bind(section: &mut Section) -> Bind {
    match section.text("bind_documents") {
        None => Bind::default(),
        Some(at) => match at.value.as_str() {
            "lease" => Bind::Lease,
            "token" => Bind::Token,
            _ => {
                section.report(at.line, "bind_documents", "wanted \"lease\" or \"token\"");
                Bind::default()
            }
        },
    }
}

/// How machines are sent to their own disk.
pub fn read_local_boot(section: &mut Section) -> Option<LocalBoot> {
    Some(section.parsed("local_boot", "exit")?.value)
}

fn read_subnets(root: &mut Section) -> Vec<At<Subnet>> {
    let mut subnets: Vec<At<Subnet>> = Vec::new();
    let is_missing = !root.has("subnet");
    let sections = root.sections("subnet");
    if is_missing {
        root.report(0, "subnet", "none is given; add [[subnet]] with its cidr");
    }
    for mut section in sections {
        let line = section.line();
        let Some(subnet) = read_subnet(&mut section) else {
            continue;
        };
        let overlapped = subnets.iter().find(|other| {
            let (a, b) = (other.value.cidr, subnet.cidr);
            a.contains(&b.network()) || b.contains(&a.network())
        });
        if let Some(other) = overlapped {
            section.report(
                line,
                "cidr",
                format!(
                    "{} overlaps subnet {} of line {}",
                    subnet.cidr, other.value.cidr, other.line
                ),
            );
        }
        subnets.push(At {
            line,
            value: subnet,
        });
    }
    subnets
}

/// One `[[subnet]]`; nothing if it has no usable cidr, and everything else of it is looked at all the same.
fn read_subnet(section: &mut Section) -> Option<Subnet> {
    let has_cidr = section.has("cidr");
    let cidr = section.parsed::<Ipv4Net>("cidr", "198.18.0.0/24");
    let pools = section.all_parsed_by_index::<PoolText>("pools", "198.18.0.100-198.18.0.199");
    let router = section.parsed::<Ipv4Addr>("router", "198.18.0.1");
    let dns = section.all_parsed::<Ipv4Addr>("dns", "198.18.0.1");
    let domain = section.text("domain").map(|at| {
        if let Err(error) = check_hostname(&at.value) {
            section.report(at.line, "domain", error);
        }
        at.value
    });
    let lease_time = read_lease_time(section);
    let exclude = section.all_parsed::<PoolText>("exclude", "198.18.0.150-198.18.0.159");
    let client_policy = match section.text("lease_key") {
        None => ClientPolicy::Mac,
        Some(at) => match at.value.as_str() {
            "mac" => ClientPolicy::Mac,
            "client_id" => ClientPolicy::ClientId,
            _ => {
                section.report(at.line, "lease_key", "wanted \"mac\" or \"client_id\"");
                ClientPolicy::Mac
            }
        },
    };
    let probe = match section.text("probe") {
        None => false,
        Some(at) => match at.value.as_str() {
            "none" => false,
            "arp" => true,
            _ => {
                section.report(at.line, "probe", "wanted \"none\" or \"arp\"");
                false
            }
        },
    };
    let options = read_options(section);
    section.finish();
    let cidr = cidr.or_else(|| {
        if !has_cidr {
            section.report(
                section.line(),
                "cidr",
                "is missing; write it like cidr = \"198.18.0.0/24\"",
            );
        }
        None
    })?;
    check_cidr(section, &cidr);
    if let Some(router) = router.as_ref().filter(|at| !cidr.value.contains(&at.value)) {
        let text = format!("{} is outside subnet {}", router.value, cidr.value);
        section.report(router.line, "router", text);
    }
    Some(Subnet {
        pools: check_pools(section, cidr.value, pools),
        exclude: exclude.into_iter().map(|at| at.value.0).collect(),
        options,
        probe,
        client_policy,
        cidr: cidr.value,
        router: router.map(|at| at.value),
        dns: dns.into_iter().map(|at| at.value).collect(),
        domain,
        lease_time,
    })
}

fn check_cidr(section: &Section, cidr: &At<Ipv4Net>) {
    let net = cidr.value;
    if net.addr() != net.network() {
        let text = format!("{net} has host bits set; write {}", net.trunc());
        section.report(cidr.line, "cidr", text);
    } else if net.prefix_len() < 8 {
        let text = format!("{net} is larger than any real network; use a prefix from /8 to /32");
        section.report(cidr.line, "cidr", text);
    }
}

fn check_pools(section: &Section, cidr: Ipv4Net, pools: Vec<(usize, At<PoolText>)>) -> Vec<Pool> {
    let mut good: Vec<Pool> = Vec::new();
    for (index, at) in pools {
        let (key, PoolText(pool)) = (format!("pools[{index}]"), at.value);
        if !cidr.contains(&pool.first) || !cidr.contains(&pool.last) {
            let text = format!("{pool} is outside subnet {cidr}");
            section.report(at.line, &key, text);
        } else if let Some(other) = good
            .iter()
            .find(|other| other.first <= pool.last && pool.first <= other.last)
        {
            section.report(at.line, &key, format!("{pool} overlaps pool {other}"));
        } else {
            good.push(pool);
        }
    }
    good.sort_by_key(|pool| pool.first);
    good
}

fn read_lease_time(section: &mut Section) -> Duration {
    let Some(at) = section.text("lease_time") else {
        return DEFAULT_LEASE_TIME;
    };
    let longest = Duration::from_secs(u64::from(u32::MAX) - 1);
    match humantime::parse_duration(&at.value) {
        Ok(time) if (SHORTEST_LEASE_TIME..=longest).contains(&time) => time,
        Ok(_) => {
            let text = format!("{} is not between 1m and 136 years", at.value);
            section.report(at.line, "lease_time", text);
            DEFAULT_LEASE_TIME
        }
        Err(error) => {
            let text = format!(
                "`{}` does not parse: {error}; write it like 1h or 90m",
                at.value
            );
            section.report(at.line, "lease_time", text);
            DEFAULT_LEASE_TIME
        }
    }
}

fn read_class_lease_time(section: &mut Section) -> Option<Duration> {
    let is_given = section.has("lease_time");
    let time = read_lease_time(section);
    is_given.then_some(time)
}

fn read_reservations(
    root: &mut Section,
    subnets: &[At<Subnet>],
    profiles: Option<&BTreeMap<String, Profile>>,
) -> Vec<At<Reservation>> {
    let subnets = subnets.iter().map(|at| at.value.clone()).collect();
    let mut catalog = Catalog::new(Settings {
        subnets,
        profiles: profiles.cloned().unwrap_or_default(),
        ..Settings::default()
    });
    let mut reservations = Vec::new();
    for mut section in root.sections("reservation") {
        let line = section.line();
        let Some((reservation, lines)) = read_reservation(&mut section) else {
            continue;
        };
        let mut checked = reservation.clone();
        if profiles.is_none() {
            checked.profile = None;
        }
        match catalog.with(&Change::Create(checked)) {
            Ok(next) => catalog = next,
            Err(refusal) => {
                let (key, text) = problem_of(&refusal);
                section.report(lines.get(key).copied().unwrap_or(line), key, text);
            }
        }
        reservations.push(At {
            line,
            value: reservation,
        });
    }
    reservations
}

/// The refusal as a problem of one key: the place already says which reservation it is.
fn problem_of(refusal: &Refusal) -> (&'static str, String) {
    match refusal {
        Refusal::Invalid { field, problem, .. } => {
            let text = problem
                .strip_prefix(field)
                .map_or(problem.as_str(), str::trim_start);
            // The API has the id beside the reservation, the file in it.
            let key = if *field == "reservation_id" {
                "id"
            } else {
                field
            };
            (key, text.to_owned())
        }
        Refusal::Taken {
            field,
            value,
            owner,
            ..
        } => (*field, format!("{value} already belongs to {owner}")),
        other => ("mac", other.to_string()),
    }
}

type Lines = BTreeMap<&'static str, usize>;

fn read_reservation(section: &mut Section) -> Option<(Reservation, Lines)> {
    let mut lines = Lines::new();
    let has_mac = section.has("mac");
    let mac = section.parsed::<MacAddr>("mac", "52:54:00:00:00:01");
    let address = section.parsed::<Ipv4Addr>("address", "198.18.0.10");
    let hostname = section.text("hostname");
    let profile = section.text("profile");
    let id = section.text("id");
    let macs = section.all_parsed::<MacAddr>("macs", "52:54:00:00:00:01");
    let uuids = section.all_parsed::<Uuid>("uuids", "6ba7b810-9dad-11d1-80b4-00c04fd430c8");
    let client_ids = read_octets(section, "client_ids");
    let circuit_ids = read_octets(section, "circuit_ids");
    let mut reservation = Reservation::of(String::new(), Source::ConfigFile);
    reservation.vars = section.vars("vars", &[]);
    reservation.options = read_options(section);
    reservation.program = read_program(section);
    reservation.local_boot = read_local_boot(section);
    section.finish();
    reservation.identities.macs = values(macs);
    reservation.identities.uuids = values(uuids);
    reservation.identities.client_ids = client_ids;
    reservation.identities.circuit_ids = circuit_ids;
    if mac.is_none() && (has_mac || reservation.identities.is_empty()) {
        if !has_mac {
            let text = "is missing; write it like mac = \"52:54:00:00:00:01\"";
            section.report(section.line(), "mac", text);
        }
        return None;
    }
    let mut noted = |key, line| {
        lines.insert(key, line);
    };
    if let Some(at) = mac {
        noted("mac", at.line);
        reservation.mac = Some(at.value);
    }
    if let Some(at) = address {
        noted("address", at.line);
        reservation.address = Some(at.value);
    }
    if let Some(at) = hostname {
        noted("hostname", at.line);
        reservation.hostname = Some(at.value);
    }
    if let Some(at) = profile {
        noted("profile", at.line);
        reservation.profile = Some(at.value);
    }
    reservation.id = match id {
        Some(at) => {
            noted("id", at.line);
            at.value
        }
        None => default_id(&reservation),
    };
    Some((reservation, lines))
}

fn values<T>(list: Vec<At<T>>) -> Vec<T> {
    list.into_iter().map(|at| at.value).collect()
}

/// Identities in hexadecimal or as text.
fn read_octets(section: &mut Section, key: &'static str) -> Vec<Octets> {
    let texts = section.texts(key).map(|at| at.value).unwrap_or_default();
    for (index, at) in texts.iter().enumerate() {
        if at.value.is_empty() || at.value.len() > 255 * 3 {
            let text = "wanted 1 to 255 octets, as 01:52:54:… or as text";
            section.report(at.line, &format!("{key}[{index}]"), text);
        }
    }
    texts.iter().map(|at| Octets::parse(&at.value)).collect()
}

/// The id of a reservation that was not given one: its host name, or else its first identity with hyphens.
pub fn default_id(reservation: &Reservation) -> String {
    match &reservation.hostname {
        Some(hostname) => hostname.to_ascii_lowercase(),
        None => reservation.known_by().replace(':', "-"),
    }
}

/// `198.18.0.100-198.18.0.199`, or one address alone.
struct PoolText(Pool);

impl FromStr for PoolText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let address = |part: &str| {
            part.trim()
                .parse::<Ipv4Addr>()
                .map_err(|_| format!("`{}` is not an IPv4 address", part.trim()))
        };
        let (first, last) = (address(first)?, address(last)?);
        if last < first {
            return Err(format!("{last} comes before {first}"));
        }
        Ok(Self(Pool { first, last }))
    }
}

/// The architectures meant by a number (`7`, `0x0007`) or by `PROCESSOR-FIRMWARE` (`x86_64-uefi`).
pub fn parse_arch(text: &str) -> Result<Vec<ClientArch>, String> {
    text.parse::<ArchText>().map(|archs| archs.0)
}

/// An architecture by number, or all of a processor and firmware.
struct ArchText(Vec<ClientArch>);

impl FromStr for ArchText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = match text.strip_prefix("0x") {
            Some(hex) => u16::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        };
        if let Some(number) = number {
            return Ok(Self(vec![ClientArch(number)]));
        }
        let named: Vec<ClientArch> = (0..0x40)
            .map(ClientArch)
            .filter(|arch| {
                let platform = arch.platform();
                platform.is_some_and(|(cpu, firmware)| text == format!("{cpu}-{firmware}"))
            })
            .collect();
        if named.is_empty() {
            return Err("neither a number nor PROCESSOR-FIRMWARE".to_owned());
        }
        Ok(Self(named))
    }
}

/// The first octets of a hardware address.
struct PrefixText(Octets);

impl FromStr for PrefixText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match Octets::from_hex(text) {
            Some(octets) if octets.0.len() <= 16 => Ok(Self(octets)),
            Some(_) => Err("can never match: a hardware address has at most 16 octets".to_owned()),
            None => Err("not hexadecimal".to_owned()),
        }
    }
}

impl FromStr for GrpcListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) => {
                let path = path.strip_prefix("//").unwrap_or(path);
                if !path.starts_with('/') {
                    return Err("the socket's path is not absolute".to_owned());
                }
                // sun_path holds 108 octets with the closing NUL (unix(7)).
                if path.len() > 107 {
                    return Err(format!(
                        "the socket's path has {} octets; the kernel takes 107",
                        path.len()
                    ));
                }
                Ok(Self::Unix(path.into()))
            }
            None => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| "neither unix:PATH nor ADDRESS:PORT".to_owned()),
        }
    }
}

impl fmt::Display for GrpcListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}
