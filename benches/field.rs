//! The service beside dnsmasq and Kea, in one run: how many exchanges of four packets each completes in a second, losing less
//! than one in a hundred, and what CPU time it takes for a reply.
//!
//! In: BENCH_ROUNDS (3) and BENCH_SECONDS (2, of one trial); dnsmasq, perfdhcp and nft as installed, Kea as unpacked by
//! `benches/kea.sh`. Out: a table. Servers and clients live in network namespaces of their own; every load is bounded in time,
//! and so are the trials. Every trial meets a server that has just started, with the same reservations and no lease.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

mod support;

use support::netns::{Netns, run};
use support::{Running, describe_machine, from_environment, kea, median, version, write_file};

const RESERVATIONS: u32 = 10_000;
/// More than any trial's exchanges, so that each is a client's first.
const DYNAMIC_CLIENTS: u32 = 60_000;
const SERVER: &str = "198.18.0.1";
const CLIENT: &str = "198.18.0.2";
const SUBNET: &str = "198.18.0.0/15";
const POOL: (&str, &str) = ("198.19.0.1", "198.19.255.254");
/// Trials of one search for the best rate.
const MOST_TRIALS: u32 = 7;
/// Exchanges that may be lost.
const LOSS: f64 = 0.01;
/// A server that does not answer by then never will.
const START: Duration = Duration::from_secs(30);

/// Who is measured.
#[derive(Clone, Copy, PartialEq)]
enum Contender {
    Bootjackd,
    /// With `--log warn`: no line for each packet.
    BootjackdQuiet,
    Dnsmasq,
    Kea,
}

use Contender::{Bootjackd, BootjackdQuiet, Dnsmasq, Kea};

const CONTENDERS: [Contender; 4] = [Bootjackd, BootjackdQuiet, Dnsmasq, Kea];

/// What is asked of them.
#[derive(Clone, Copy, PartialEq)]
struct Load {
    reserved: bool,
    /// Through a relay agent, or else by broadcast both ways.
    relayed: bool,
}

const LOADS: [Load; 4] = [
    Load {
        reserved: true,
        relayed: true,
    },
    Load {
        reserved: false,
        relayed: true,
    },
    Load {
        reserved: true,
        relayed: false,
    },
    Load {
        reserved: false,
        relayed: false,
    },
];

/// What one trial showed.
#[derive(Clone, Copy, Default)]
struct Trial {
    /// Exchanges of four packets that perfdhcp saw completed.
    per_second: f64,
    replies_per_second: f64,
    cpu_us_per_reply: f64,
    /// The share of packets that the server did not answer.
    lost: f64,
    /// perfdhcp sent less than it was asked to, or its socket lost replies: the server may do more.
    is_lower_bound: bool,
}

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Bootjackd => "bootjackd",
            BootjackdQuiet => "bootjackd --log warn",
            Dnsmasq => "dnsmasq",
            Kea => "kea-dhcp4 memfile",
        }
    }

    /// The rate that the first search starts at.
    fn first_guess(self) -> f64 {
        match self {
            Bootjackd | BootjackdQuiet => 10_000.0,
            Dnsmasq => 600.0,
            Kea => 6_000.0,
        }
    }

    /// How it is started on a fresh directory.
    fn command(self, netns: &Netns, home: &Path) -> Command {
        match self {
            Bootjackd => bootjackd(netns, home, "info"),
            BootjackdQuiet => bootjackd(netns, home, "warn"),
            Dnsmasq => dnsmasq(netns, home),
            Kea => kea_dhcp4(netns, home),
        }
    }
}

impl Load {
    fn name(self) -> String {
        let clients = if self.reserved { "reserved" } else { "dynamic" };
        let way = if self.relayed { "relayed" } else { "broadcast" };
        format!("{clients} clients, {way}")
    }
}

/// The reservations, by MAC and address.
fn reservations() -> impl Iterator<Item = (String, Ipv4Addr)> {
    let first = Ipv4Addr::new(198, 18, 64, 0).to_bits();
    (0..RESERVATIONS).map(move |number| {
        let [_, high, middle, low] = number.to_be_bytes();
        let mac = format!("52:54:00:{high:02x}:{middle:02x}:{low:02x}");
        (mac, Ipv4Addr::from_bits(first + number))
    })
}

fn bootjackd(netns: &Netns, home: &Path, log: &str) -> Command {
    let mut config = format!(
        r#"data_dir = "{home}/data"
[dhcp]
interfaces = ["lan0"]
[[subnet]]
cidr = "{SUBNET}"
pools = ["{first}-{last}"]
router = "{SERVER}"
dns = ["{SERVER}"]
domain = "lab.internal"
lease_time = "1h"
[grpc]
listen = "127.0.0.1:50051"
"#,
        home = home.display(),
        first = POOL.0,
        last = POOL.1,
    );
    for (mac, address) in reservations() {
        let _ = write!(
            config,
            "[[reservation]]\nmac = \"{mac}\"\naddress = \"{address}\"\n"
        );
    }
    let file = write_file(home, "bootjackd.toml", &config);
    let mut command = netns.command(env!("CARGO_BIN_EXE_bootjackd"));
    command.args(["serve", "--log", log, "--config"]).arg(file);
    command
}

/// Without its search by ICMP for who has an address, since neither of the others makes one.
fn dnsmasq(netns: &Netns, home: &Path) -> Command {
    let hosts: String = reservations()
        .map(|(mac, address)| format!("{mac},{address}\n"))
        .collect();
    let hosts = write_file(home, "hosts", &hosts);
    let at = |option: &str, path: &Path| format!("--{option}={}", path.display());
    let mut command = netns.command("dnsmasq");
    command
        .args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--port=0",
            "--user=root",
        ])
        .args([
            "--interface=lan0",
            "--bind-interfaces",
            "--no-ping",
            "--pid-file=",
        ])
        .args(["--dhcp-lease-max=100000", "--domain=lab.internal"])
        .arg(format!("--dhcp-range={},{},255.254.0.0,1h", POOL.0, POOL.1))
        .args([
            format!("--dhcp-option=3,{SERVER}"),
            format!("--dhcp-option=6,{SERVER}"),
        ])
        .arg(at("dhcp-hostsfile", &hosts))
        .arg(at("dhcp-leasefile", &home.join("leases")))
        .arg(at("log-facility", &home.join("log")));
    command
}

fn kea_dhcp4(netns: &Netns, home: &Path) -> Command {
    let reservations: Vec<serde_json::Value> = reservations()
        .map(|(mac, address)| serde_json::json!({ "hw-address": mac, "ip-address": address }))
        .collect();
    let option = |name: &str, data: &str| serde_json::json!({ "name": name, "data": data });
    let config = serde_json::json!({ "Dhcp4": {
        "interfaces-config": { "interfaces": ["lan0"] },
        "lease-database": { "type": "memfile", "name": home.join("leases.csv") },
        "valid-lifetime": 3600,
        "loggers": [{
            "name": "kea-dhcp4",
            "severity": "INFO",
            "output_options": [{ "output": home.join("log") }],
        }],
        "subnet4": [{
            "subnet": SUBNET,
            "pools": [{ "pool": format!("{}-{}", POOL.0, POOL.1) }],
            "option-data": [
                option("routers", SERVER),
                option("domain-name-servers", SERVER),
                option("domain-name", "lab.internal"),
            ],
            "reservations": reservations,
        }],
    } });
    let file = write_file(home, "kea.json", &config.to_string());
    let mut command = netns.command(&kea::program());
    command.arg("-c").arg(file);
    kea::keep_to(&mut command, home);
    command
}

/// A server that answers; killed when dropped.
struct Server {
    running: Running,
    _home: tempfile::TempDir,
}

impl Server {
    fn start(contender: Contender, lan: &Lan) -> Self {
        // Beside the build, where the disk is that a service would write to; not in /tmp, which may be memory.
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let said = File::create(home.path().join("said")).expect("a file");
        let child = contender
            .command(&lan.server, home.path())
            .stdin(Stdio::null())
            .stdout(said.try_clone().expect("one more descriptor"))
            .stderr(said)
            .spawn()
            .expect("ip runs");
        let mut server = Self {
            running: Running(child),
            _home: home,
        };
        let started = Instant::now();
        while !lan.is_answered() {
            let ended = server.running.0.try_wait().expect("it is ours");
            if ended.is_some() || started.elapsed() > START {
                let home = server._home.path();
                let said = ["said", "log"].map(|name| fs::read_to_string(home.join(name)));
                panic!("{} does not answer: {said:?}", contender.name());
            }
        }
        server
    }
}

/// The servers' network and the clients'.
struct Lan {
    server: Netns,
    client: Netns,
    /// DISCOVER and REQUEST of a client without relay agent, as perfdhcp reads them.
    templates: tempfile::TempDir,
}

impl Lan {
    fn new() -> Self {
        let (server, client) = (Netns::new("srv"), Netns::new("cli"));
        let (s, c) = (server.name(), client.name());
        run(&[
            "link", "add", "lan0", "netns", s, "type", "veth", "peer", "name", "eth0", "netns", c,
        ]);
        for (netns, link, address) in [(&server, "lan0", SERVER), (&client, "eth0", CLIENT)] {
            netns.ip(&["address", "add", &format!("{address}/15"), "dev", link]);
            netns.ip(&["link", "set", link, "up"]);
        }
        // perfdhcp's socket has an address of its own, which broadcasts do not reach.
        let rules = format!(
            "add table ip bench; add chain ip bench arrive {{ type filter hook prerouting priority raw; }}; \
             add rule ip bench arrive ip daddr 255.255.255.255 udp dport 68 ip daddr set {CLIENT}"
        );
        let done = client.command("nft").arg(rules).status();
        assert!(
            done.is_ok_and(|done| done.success()),
            "nft fails; run: deploy/packages.sh bench"
        );

        let templates = tempfile::tempdir().expect("a directory");
        let parameters = [55, 7, 1, 28, 2, 3, 15, 6, 12];
        let taken = [&[54, 4, 0, 0, 0, 0, 50, 4, 0, 0, 0, 0], &parameters[..]].concat();
        write_file(templates.path(), "discover", &template(1, &parameters));
        write_file(templates.path(), "request", &template(3, &taken));
        Self {
            server,
            client,
            templates,
        }
    }

    /// With one thread, which leaves a core of two to the server.
    fn perfdhcp(&self, arguments: &[&str]) -> Output {
        self.client
            .command("perfdhcp")
            .args(["-4", "-g", "single", "-l", CLIENT])
            .args(arguments)
            .output()
            .expect("ip runs")
    }

    /// Asks once, and waits up to 300 ms for an offer.
    fn is_answered(&self) -> bool {
        let arguments = [
            "-n",
            "1",
            "-r",
            "10",
            "-W",
            "300000",
            "-b",
            "mac=02:00:00:00:00:01",
            SERVER,
        ];
        let output = self.perfdhcp(&arguments);
        String::from_utf8_lossy(&output.stdout).contains("received packets: 1")
    }

    /// One trial at this rate against a fresh server.
    fn try_rate(&self, contender: Contender, load: Load, rate: f64, seconds: u32) -> Trial {
        let server = Server::start(contender, self);
        let rate = format!("{rate:.0}");
        let seconds = seconds.to_string();
        let (clients, base) = match load.reserved {
            true => (RESERVATIONS.to_string(), "mac=52:54:00:00:00:00"),
            false => (DYNAMIC_CLIENTS.to_string(), "mac=52:54:01:00:00:00"),
        };
        // What is under way when the time is over gets 100 ms more.
        let mut arguments = vec![
            "-r", &rate, "-p", &seconds, "-W", "100000", "-R", &clients, "-b", base,
        ];
        let file = |name: &str| self.templates.path().join(name).display().to_string();
        let (discover, request) = (file("discover"), file("request"));
        if load.relayed {
            arguments.push(SERVER);
        } else {
            arguments.extend([
                "-B", "-L", "68", "-N", "67", "-T", &discover, "-T", &request,
            ]);
            // Where a template has xid, the MAC's last octet, secs, and in a REQUEST options 54 and 50.
            arguments.extend([
                "-X4",
                "-X4",
                "-O33",
                "-O33",
                "-E8",
                "-S243",
                "-I249",
                "255.255.255.255",
            ]);
        }
        let (lost_before, before) = (self.lost_by_perfdhcp(), server.running.cpu());
        let output = self.perfdhcp(&arguments);
        let cpu = server.running.cpu() - before;
        let lost = self.lost_by_perfdhcp() - lost_before;
        let report = String::from_utf8_lossy(&output.stdout);
        Trial::read(&report, lost, cpu, &rate, &seconds)
    }

    /// Replies for which perfdhcp's socket had no room, ever: the server sent them. Its buffer is the kernel's default, which
    /// only the whole machine could have otherwise.
    fn lost_by_perfdhcp(&self) -> f64 {
        let output = self.client.command("cat").arg("/proc/net/snmp").output();
        let counters = String::from_utf8_lossy(&output.expect("ip runs").stdout).into_owned();
        let mut lines = counters
            .lines()
            .filter_map(|line| line.strip_prefix("Udp: "));
        let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
            panic!("no UDP in proc(5): {counters}");
        };
        let named = |(name, _): &(&str, &str)| *name == "RcvbufErrors";
        let mut pairs = names.split_whitespace().zip(values.split_whitespace());
        let found = pairs.find(named).and_then(|(_, value)| value.parse().ok());
        found.expect("a number")
    }

    /// The best trial with a bearable loss: up from `guess` or down, then halfway between what held and what did not.
    fn search(&self, contender: Contender, load: Load, guess: f64, seconds: u32) -> Trial {
        let mut best = Trial::default();
        let (mut held, mut failed) = (None::<f64>, None::<f64>);
        let mut rate = guess;
        for _ in 0..MOST_TRIALS {
            let trial = self.try_rate(contender, load, rate, seconds);
            if trial.lost < LOSS {
                held = Some(rate);
                // Beyond perfdhcp's own limit there is nothing to see.
                let is_the_limit =
                    trial.is_lower_bound && trial.per_second < best.per_second * 1.05;
                if trial.per_second > best.per_second {
                    best = trial;
                }
                if is_the_limit {
                    break;
                }
            } else {
                failed = Some(rate);
            }
            rate = match (held, failed) {
                (Some(held), Some(failed)) if failed / held < 1.1 => break,
                (Some(held), Some(failed)) => (held * failed).sqrt(),
                (Some(held), None) => held * 1.4,
                (None, Some(failed)) => failed * 0.7,
                (None, None) => rate,
            };
        }
        best
    }
}

/// A packet with the broadcast flag, in hexadecimal.
fn template(kind: u8, options: &[u8]) -> String {
    let mut octets = vec![0; 236];
    octets[..3].copy_from_slice(&[1, 1, 6]);
    octets[10] = 0x80;
    octets.extend([99, 130, 83, 99, 53, 1, kind]);
    octets.extend(options);
    octets.push(255);
    octets.resize(octets.len().max(300), 0);
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

impl Trial {
    /// From perfdhcp's report, and the number of replies that it did not see.
    fn read(report: &str, unseen: f64, cpu: Duration, rate: &str, seconds: &str) -> Self {
        let numbers = |name: &str| -> Vec<f64> {
            (report.lines())
                .filter_map(|line| line.strip_prefix(name)?.trim().parse().ok())
                .collect()
        };
        let (sent, received) = (numbers("sent packets:"), numbers("received packets:"));
        let ([discovers, requests], [offers, acks]) = (&sent[..], &received[..]) else {
            panic!("perfdhcp says something else: {report}");
        };
        let seconds: f64 = seconds.parse().unwrap_or(1.0);
        let asked = rate.parse::<f64>().unwrap_or(0.0) * seconds;
        let (asked_of_server, replies) = (discovers + requests, offers + acks + unseen);
        Self {
            per_second: acks / seconds,
            replies_per_second: replies / seconds,
            cpu_us_per_reply: cpu.as_secs_f64() * 1e6 / replies.max(1.0),
            lost: 1.0 - replies / asked_of_server.max(1.0),
            is_lower_bound: *discovers < asked * 0.95 || unseen / replies.max(1.0) > LOSS,
        }
    }
}

fn describe(rounds: u32, seconds: u32) {
    describe_machine();
    println!("{}", version(env!("CARGO_BIN_EXE_bootjackd"), "--version"));
    println!("{}", version("dnsmasq", "--version"));
    println!("kea-dhcp4 {}", version(&kea::program(), "-v"));
    println!("perfdhcp {}", version("perfdhcp", "-v"));
    println!(
        "{RESERVATIONS} reservations; {rounds} rounds, interleaved; trials of {seconds} s, each on a fresh server"
    );
    println!(
        "logs to a file: bootjackd and Kea at info, dnsmasq without --log-dhcp; dnsmasq with --no-ping"
    );
    println!("only bootjackd syncs leases to the disk before it acknowledges them");
}

fn print_table(results: &[Vec<Vec<Trial>>]) {
    let of = |trials: &[Trial], what: fn(&Trial) -> f64| -> Vec<f64> {
        trials.iter().map(what).collect()
    };
    for (load, by_contender) in LOADS.iter().zip(results) {
        let rates: Vec<f64> = by_contender
            .iter()
            .map(|t| median(of(t, |t| t.per_second)))
            .collect();
        let costs: Vec<f64> = by_contender
            .iter()
            .map(|t| median(of(t, |t| t.cpu_us_per_reply)))
            .collect();
        let place = |wanted| CONTENDERS.iter().position(|c| *c == wanted).unwrap_or(0);
        let (dnsmasq, kea) = (place(Dnsmasq), place(Kea));
        println!("\n{}", load.name());
        println!(
            "  {:<22}{:>12}{:>15}{:>11}{:>8}{:>11}{:>14}{:>9}{:>7}",
            "",
            "exchanges/s",
            "(min-max)",
            "x dnsmasq",
            "x Kea",
            "replies/s",
            "CPU us/reply",
            "dnsmasq",
            "Kea"
        );
        for (at, trials) in by_contender.iter().enumerate() {
            let each = of(trials, |t| t.per_second);
            let (least, most) = (
                each.iter().fold(f64::MAX, |a, b| a.min(*b)),
                each.iter().fold(0.0, |a: f64, b| a.max(*b)),
            );
            let bound = if trials.iter().any(|t| t.is_lower_bound) {
                ">"
            } else {
                ""
            };
            println!(
                "  {:<22}{:>12}{:>15}{:>11.1}{:>8.2}{:>11.0}{:>14.1}{:>9.3}{:>7.2}",
                CONTENDERS[at].name(),
                format!("{bound}{:.0}", rates[at]),
                format!("({least:.0}-{most:.0})"),
                rates[at] / rates[dnsmasq],
                rates[at] / rates[kea],
                median(of(trials, |t| t.replies_per_second)),
                costs[at],
                costs[at] / costs[dnsmasq],
                costs[at] / costs[kea],
            );
        }
    }
    println!(
        "\n> perfdhcp was at its own limit: the server may do more. The last two columns: CPU time as a share of theirs."
    );
}

fn main() {
    if !support::is_asked_for("field") {
        return;
    }
    let (rounds, seconds) = (
        from_environment("BENCH_ROUNDS", 3),
        from_environment("BENCH_SECONDS", 2),
    );
    describe(rounds, seconds);
    let lan = Lan::new();
    let mut results = vec![vec![Vec::<Trial>::new(); CONTENDERS.len()]; LOADS.len()];
    for round in 1..=rounds {
        for (load, by_contender) in LOADS.iter().zip(&mut results) {
            for (contender, trials) in CONTENDERS.iter().zip(by_contender) {
                let last = trials
                    .last()
                    .map(|trial| trial.per_second)
                    .filter(|rate| *rate > 0.0);
                let guess = last.unwrap_or_else(|| contender.first_guess());
                let best = lan.search(*contender, *load, guess, seconds);
                eprintln!(
                    "round {round}, {}, {}: {:.0}/s, {:.1} us",
                    load.name(),
                    contender.name(),
                    best.per_second,
                    best.cpu_us_per_reply
                );
                trials.push(best);
            }
        }
    }
    print_table(&results);
}
