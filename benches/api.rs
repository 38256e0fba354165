//! The API and its store: how many reservations a second are durable, how soon DHCP answers by one, and what a list, a watch,
//! a start and the memory cost, with ten thousand, a hundred thousand and a million of them; beside Kea and dnsmasq, which are
//! told of the same change in their own ways.
//!
//! In: BENCH_SIZES (`10000,100000,1000000`); dnsmasq as installed, Kea as unpacked by `benches/kea.sh`. Out: tables. Server and
//! client live in network namespaces of their own; every load is bounded in number and in time.

mod support;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bootjack_api::v1;
use bootjack_api::v1::reservations_client::ReservationsClient;
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

use support::netns::{Netns, run};
use support::{Running, describe_machine, kea, median, quantile, version, write_file};

const SERVER: &str = "198.18.0.1";
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const POOL: &str = "198.19.0.1-198.19.255.254";
const BATCH: usize = 10_000;
const CALLERS: usize = 32;
/// How long reservations are made one by one, by one caller and by many.
const ONE_BY_ONE: Duration = Duration::from_secs(3);
/// Changes that are waited for in DHCP: at most so many, and for so long.
const CHANGES: usize = 1_000;
const WAITING: Duration = Duration::from_secs(20);
/// A server that does not answer by then never will.
const START: Duration = Duration::from_secs(300);
/// An answer comes by then, or the question was lost.
const PATIENCE: Duration = Duration::from_millis(200);
/// Rivals are not asked to hold more: they take minutes.
const MOST_OF_RIVALS: usize = 100_000;

/// Reservation `number` of those that are only there: in a subnet behind relay agents.
fn filler(number: usize) -> (String, Ipv4Addr) {
    let number = u32::try_from(number).expect("some millions");
    let [_, a, b, c] = number.to_be_bytes();
    let first = Ipv4Addr::new(10, 0, 1, 0).to_bits();
    let mac = format!("52:54:01:{a:02x}:{b:02x}:{c:02x}");
    (mac, Ipv4Addr::from_bits(first + number))
}

/// Reservation `number` of those that are made while the clock runs.
fn change(number: usize) -> ([u8; 6], Ipv4Addr) {
    let number = u32::try_from(number).expect("some thousands");
    let [_, a, b, c] = number.to_be_bytes();
    let first = Ipv4Addr::new(198, 18, 64, 0).to_bits();
    (
        [0x52, 0x54, 2, a, b, c],
        Ipv4Addr::from_bits(first + number),
    )
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// The servers' network and the client's.
struct Lan {
    server: Netns,
    _client: Netns,
    /// The client's, which is a relay agent: it is answered at its own address.
    socket: UdpSocket,
}

impl Lan {
    fn new() -> Self {
        let (server, client) = (Netns::new("srv"), Netns::new("cli"));
        let (s, c) = (server.name(), client.name());
        run(&[
            "link", "add", "lan0", "netns", s, "type", "veth", "peer", "name", "eth0", "netns", c,
        ]);
        let address = CLIENT.to_string();
        for (netns, link, address) in [(&server, "lan0", SERVER), (&client, "eth0", &address)] {
            netns.ip(&["address", "add", &format!("{address}/15"), "dev", link]);
            netns.ip(&["link", "set", link, "up"]);
        }
        let socket = client.inside(|| UdpSocket::bind((CLIENT, 67)).expect("nobody is there"));
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        Self {
            server,
            _client: client,
            socket,
        }
    }

    /// The address that this client is offered now; none if no answer comes in time.
    fn offered(&self, mac: [u8; 6]) -> Option<Ipv4Addr> {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
        let xid = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut packet = vec![0; 236];
        packet[..4].copy_from_slice(&[1, 1, 6, 1]);
        packet[4..8].copy_from_slice(&xid.to_be_bytes());
        packet[24..28].copy_from_slice(&CLIENT.octets());
        packet[28..34].copy_from_slice(&mac);
        packet.extend([99, 130, 83, 99, 53, 1, 1, 255]);
        packet.resize(300, 0);
        self.socket.send_to(&packet, (SERVER, 67)).ok()?;
        let mut answer = [0; 1500];
        loop {
            let length = self.socket.recv(&mut answer).ok()?;
            if length >= 236 && answer[4..8] == xid.to_be_bytes() {
                let yiaddr: [u8; 4] = answer[16..20].try_into().expect("four octets");
                return Some(yiaddr.into());
            }
        }
    }

    /// Asks until this address is offered.
    fn wait_for(&self, mac: [u8; 6], wanted: Ipv4Addr) {
        let started = Instant::now();
        while self.offered(mac) != Some(wanted) {
            assert!(started.elapsed() < START, "{wanted} is never offered");
        }
    }

    /// A server that answers, and how long that took.
    fn start(&self, mut command: Command, home: &Path) -> (Running, Duration) {
        let said = File::create(home.join("said")).expect("a file");
        let started = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(said.try_clone().expect("one more descriptor"))
            .stderr(said)
            .spawn()
            .expect("ip runs");
        let mut running = Running(child);
        while self.offered([2, 0, 0, 0, 0, 1]).is_none() {
            let ended = running.0.try_wait().expect("it is ours");
            if ended.is_some() || started.elapsed() > START {
                let said = fs::read_to_string(home.join("said"));
                panic!("it does not answer: {said:?}");
            }
        }
        (running, started.elapsed())
    }
}

/// What was measured of one server at one size; milliseconds, seconds and MiB.
#[derive(Default)]
struct Figures {
    batched_per_second: f64,
    single_per_second: f64,
    single_ms: Vec<f64>,
    many_per_second: f64,
    visible_ms: Vec<f64>,
    list_secs: f64,
    watch_secs: f64,
    start_secs: f64,
    resident: f64,
    resident_after_start: f64,
    peak_of_start: f64,
}

/// `bootjackd` with an empty store, and a client of its API.
struct Bootjackd<'a> {
    lan: &'a Lan,
    home: tempfile::TempDir,
    runtime: Runtime,
}

impl<'a> Bootjackd<'a> {
    fn new(lan: &'a Lan) -> Self {
        // Beside the build, where the disk is that a service would write to; not in /tmp, which may be memory.
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let config = format!(
            r#"data_dir = "{home}/data"
[dhcp]
interfaces = ["lan0"]
[[subnet]]
cidr = "198.18.0.0/15"
pools = ["{POOL}"]
[[subnet]]
cidr = "10.0.0.0/8"
[grpc]
listen = "unix:{home}/api"
"#,
            home = home.path().display(),
        );
        write_file(home.path(), "bootjackd.toml", &config);
        Self {
            lan,
            home,
            runtime: Runtime::new().expect("a runtime"),
        }
    }

    fn start(&self) -> (Running, Duration) {
        let mut command = self.lan.server.command(env!("CARGO_BIN_EXE_bootjackd"));
        command
            .args(["serve", "--log", "warn", "--config"])
            .arg(self.home.path().join("bootjackd.toml"));
        self.lan.start(command, self.home.path())
    }

    fn client(&self) -> ReservationsClient<Channel> {
        let path = self.home.path().join("api");
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move {
                tokio::net::UnixStream::connect(path)
                    .await
                    .map(TokioIo::new)
            }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = self
            .runtime
            .block_on(endpoint.connect_with_connector(connector));
        ReservationsClient::new(channel.expect("it listens"))
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX)
    }

    fn measure(&self, size: usize) -> Figures {
        let (running, _) = self.start();
        let mut client = self.client();
        let mut figures = Figures {
            batched_per_second: self.fill(&mut client, size),
            ..Figures::default()
        };
        self.one_by_one(&mut client, &mut figures);
        figures.many_per_second = self.many(&client);
        self.visible(&mut client, &mut figures);
        self.read_all(&mut client, size, &mut figures);
        figures.resident = running.resident();
        stop(running);
        let (running, took) = self.start();
        figures.start_secs = took.as_secs_f64();
        figures.resident_after_start = running.resident();
        figures.peak_of_start = running.peak();
        stop(running);
        figures
    }

    /// In batches; answers how many a second.
    fn fill(&self, client: &mut ReservationsClient<Channel>, size: usize) -> f64 {
        let started = Instant::now();
        for first in (0..size).step_by(BATCH) {
            let requests = (first..size.min(first + BATCH)).map(|number| {
                let (mac, address) = filler(number);
                creation(mac, address)
            });
            let batch = v1::BatchCreateReservationsRequest {
                requests: requests.collect(),
                ..Default::default()
            };
            let made = self
                .runtime
                .block_on(client.batch_create_reservations(batch));
            made.expect("a batch is made");
        }
        size as f64 / started.elapsed().as_secs_f64()
    }

    fn one_by_one(&self, client: &mut ReservationsClient<Channel>, figures: &mut Figures) {
        let started = Instant::now();
        for number in 0.. {
            let before = Instant::now();
            let request = spare(0, number);
            let made = self.runtime.block_on(client.create_reservation(request));
            made.expect("a reservation is made");
            figures.single_ms.push(before.elapsed().as_secs_f64() * 1e3);
            if started.elapsed() > ONE_BY_ONE {
                break;
            }
        }
        figures.single_per_second =
            figures.single_ms.len() as f64 / started.elapsed().as_secs_f64();
    }

    /// By many callers at once.
    fn many(&self, client: &ReservationsClient<Channel>) -> f64 {
        let started = Instant::now();
        let callers = (1..=CALLERS).map(|caller| {
            let mut client = client.clone();
            self.runtime.spawn(async move {
                let mut number = 0;
                while started.elapsed() < ONE_BY_ONE {
                    let made = client.create_reservation(spare(caller, number)).await;
                    made.expect("a reservation is made");
                    number += 1;
                }
                number
            })
        });
        let callers: Vec<_> = callers.collect();
        let made: usize = callers
            .into_iter()
            .map(|caller| self.runtime.block_on(caller).expect("it ends"))
            .sum();
        made as f64 / started.elapsed().as_secs_f64()
    }

    /// From the call to the offer of what it reserved.
    fn visible(&self, client: &mut ReservationsClient<Channel>, figures: &mut Figures) {
        figures.visible_ms = visible(self.lan, CHANGES, |mac, address| {
            let request = creation(text(mac), address);
            let made = self.runtime.block_on(client.create_reservation(request));
            made.expect("a reservation is made");
        });
    }

    fn read_all(
        &self,
        client: &mut ReservationsClient<Channel>,
        size: usize,
        figures: &mut Figures,
    ) {
        let started = Instant::now();
        let (mut listed, mut token) = (0, String::new());
        loop {
            let request = v1::ListReservationsRequest {
                page_size: 10_000,
                page_token: token,
                ..Default::default()
            };
            let page = self.runtime.block_on(client.list_reservations(request));
            let page = page.expect("a page").into_inner();
            listed += page.reservations.len();
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        figures.list_secs = started.elapsed().as_secs_f64();
        assert!(listed >= size, "{listed} are listed");

        let started = Instant::now();
        let request = v1::WatchReservationsRequest {
            initial_state: true,
            ..Default::default()
        };
        let told = self.runtime.block_on(async {
            let watched = client.watch_reservations(request).await;
            let mut stream = watched.expect("a stream").into_inner();
            let mut told = 0;
            while let Some(message) = stream.message().await.expect("it goes on") {
                if message.kind() == v1::watch_reservations_response::Kind::Synced {
                    break;
                }
                told += 1;
            }
            told
        });
        figures.watch_secs = started.elapsed().as_secs_f64();
        assert_eq!(told, listed);
    }
}

fn creation(mac: String, address: Ipv4Addr) -> v1::CreateReservationRequest {
    v1::CreateReservationRequest {
        reservation: Some(v1::Reservation {
            mac,
            address: address.to_string(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// One that a caller makes: it needs no address of its own, but is durable like any other.
fn spare(caller: usize, number: usize) -> v1::CreateReservationRequest {
    let caller = u8::try_from(caller).expect("few callers");
    let [.., a, b, c] = number.to_be_bytes();
    v1::CreateReservationRequest {
        reservation: Some(v1::Reservation {
            mac: text([0x52, 0x55, caller, a, b, c]),
            hostname: format!("node-{caller}-{number}"),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// From before a change is asked for until the client is offered what it says, in milliseconds.
fn visible(lan: &Lan, most: usize, mut make: impl FnMut([u8; 6], Ipv4Addr)) -> Vec<f64> {
    let all = Instant::now();
    let mut took = Vec::new();
    while took.len() < most && all.elapsed() < WAITING {
        let (mac, address) = change(took.len());
        let started = Instant::now();
        make(mac, address);
        lan.wait_for(mac, address);
        took.push(started.elapsed().as_secs_f64() * 1e3);
    }
    took
}

/// Asks it to end, and waits until it has.
fn stop(mut running: Running) {
    let pid = i32::try_from(running.0.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a pid"), Signal::TERM).expect("it is ours");
    running.0.wait().expect("it is ours");
}

/// A rival, and how it is told of a change.
#[derive(Clone, Copy)]
enum Rival {
    /// A file, and `config-reload` on its control socket.
    Kea,
    /// One more file in its hostsdir.
    DnsmasqHostsdir,
    /// A longer hostsfile, and SIGHUP.
    DnsmasqHup,
}

const RIVALS: [Rival; 3] = [Rival::Kea, Rival::DnsmasqHostsdir, Rival::DnsmasqHup];

impl Rival {
    fn name(self) -> &'static str {
        match self {
            Self::Kea => "kea-dhcp4, config-reload",
            Self::DnsmasqHostsdir => "dnsmasq, hostsdir",
            Self::DnsmasqHup => "dnsmasq, SIGHUP",
        }
    }

    fn measure(self, lan: &Lan, size: usize) -> Figures {
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        let home = home.path();
        let mut known: Vec<(String, Ipv4Addr)> = (0..size).map(filler).collect();
        let command = match self {
            Self::Kea => {
                write_file(home, "kea.json", &kea_config(home, &known));
                let mut command = lan.server.command(&kea::program());
                command.arg("-c").arg(home.join("kea.json"));
                kea::keep_to(&mut command, home);
                command
            }
            Self::DnsmasqHostsdir | Self::DnsmasqHup => dnsmasq(self, lan, home, &known),
        };
        let (running, took) = lan.start(command, home);
        let mut figures = Figures {
            start_secs: took.as_secs_f64(),
            resident_after_start: running.resident(),
            peak_of_start: running.peak(),
            ..Figures::default()
        };
        let pid = i32::try_from(running.0.id()).ok().and_then(Pid::from_raw);
        let pid = pid.expect("a pid");
        // What an operator's program would write is written before the clock runs, but for the hostsdir's small file.
        let prepare = |known: &[(String, Ipv4Addr)]| match self {
            Self::Kea => drop(write_file(home, "kea.json", &kea_config(home, known))),
            Self::DnsmasqHup => drop(write_file(home, "hosts", &hosts(known))),
            Self::DnsmasqHostsdir => {}
        };
        let all = Instant::now();
        while figures.visible_ms.len() < 100 && all.elapsed() < WAITING {
            let (mac, address) = change(figures.visible_ms.len());
            known.push((text(mac), address));
            prepare(&known);
            let started = Instant::now();
            match self {
                Self::Kea => reload_kea(home),
                Self::DnsmasqHup => kill_process(pid, Signal::HUP).expect("it is ours"),
                Self::DnsmasqHostsdir => {
                    let one = hosts(&known[known.len() - 1..]);
                    write_file(&home.join("hosts.d"), &text(mac), &one);
                }
            }
            lan.wait_for(mac, address);
            let took = started.elapsed().as_secs_f64();
            figures.visible_ms.push(took * 1e3);
        }
        figures.resident = running.resident();
        figures
    }
}

fn hosts(known: &[(String, Ipv4Addr)]) -> String {
    let mut lines = String::new();
    for (mac, address) in known {
        let _ = writeln!(lines, "{mac},{address}");
    }
    lines
}

fn dnsmasq(rival: Rival, lan: &Lan, home: &Path, known: &[(String, Ipv4Addr)]) -> Command {
    let at = |option: &str, path: PathBuf| format!("--{option}={}", path.display());
    let mut command = lan.server.command("dnsmasq");
    command
        .args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0"])
        .args(["--user=root", "--interface=lan0", "--bind-interfaces"])
        .args(["--no-ping", "--pid-file=", "--dhcp-lease-max=2000000"])
        .arg("--dhcp-range=198.19.0.1,198.19.255.254,255.254.0.0,1h")
        .arg("--dhcp-range=10.0.0.1,static,255.0.0.0,1h")
        .arg(at("dhcp-leasefile", home.join("leases")))
        .arg(at("log-facility", home.join("log")));
    if let Rival::DnsmasqHostsdir = rival {
        fs::create_dir(home.join("hosts.d")).expect("ours");
        write_file(&home.join("hosts.d"), "first", &hosts(known));
        command.arg(at("dhcp-hostsdir", home.join("hosts.d")));
    } else {
        write_file(home, "hosts", &hosts(known));
        command.arg(at("dhcp-hostsfile", home.join("hosts")));
    }
    command
}

fn kea_config(home: &Path, known: &[(String, Ipv4Addr)]) -> String {
    let of = |is_wanted: fn(&Ipv4Addr) -> bool| {
        let mut reservations = String::new();
        for (mac, address) in known.iter().filter(|(_, address)| is_wanted(address)) {
            let comma = if reservations.is_empty() { "" } else { "," };
            let _ = write!(
                reservations,
                r#"{comma}{{"hw-address":"{mac}","ip-address":"{address}"}}"#
            );
        }
        reservations
    };
    let is_far = |address: &Ipv4Addr| address.octets()[0] == 10;
    let is_near = |address: &Ipv4Addr| address.octets()[0] != 10;
    format!(
        r#"{{"Dhcp4":{{"interfaces-config":{{"interfaces":["lan0"]}},
"lease-database":{{"type":"memfile","name":"{home}/leases.csv"}},
"control-socket":{{"socket-type":"unix","socket-name":"{home}/control"}},
"valid-lifetime":3600,"subnet4":[
{{"id":1,"subnet":"198.18.0.0/15","pools":[{{"pool":"{POOL}"}}],"reservations":[{near}]}},
{{"id":2,"subnet":"10.0.0.0/8","reservations":[{far}]}}]}}}}"#,
        home = home.display(),
        near = of(is_near),
        far = of(is_far),
    )
}

fn reload_kea(home: &Path) {
    let mut socket = UnixStream::connect(home.join("control")).expect("it listens");
    socket.set_read_timeout(Some(START)).expect("set");
    socket
        .write_all(br#"{"command":"config-reload"}"#)
        .expect("it reads");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("it answers");
    assert!(answer.contains("\"result\": 0"), "{answer}");
}

fn print_own(all: &[(usize, Figures)]) {
    println!("\nbootjackd: what its API and its store cost");
    let row = |name: &str, of: &dyn Fn(&Figures) -> String| {
        print!("  {name:<44}");
        for (_, figures) in all {
            print!("{:>14}", of(figures));
        }
        println!();
    };
    print!("  {:<44}", "reservations");
    all.iter().for_each(|(size, _)| print!("{size:>14}"));
    println!();
    row("made in batches of 10,000, a second", &|f| {
        format!("{:.0}", f.batched_per_second)
    });
    row("made by 32 callers one by one, a second", &|f| {
        format!("{:.0}", f.many_per_second)
    });
    row("made by one caller one by one, a second", &|f| {
        format!("{:.0}", f.single_per_second)
    });
    row("  such a call, p50 / p99, ms", &|f| quantiles(&f.single_ms));
    row("from the call to the offer, p50 / p99, ms", &|f| {
        quantiles(&f.visible_ms)
    });
    row("list of all, s", &|f| format!("{:.3}", f.list_secs));
    row("watch, until all is told, s", &|f| {
        format!("{:.3}", f.watch_secs)
    });
    row("start, until DHCP answers, s", &|f| {
        format!("{:.2}", f.start_secs)
    });
    row("resident after that, MiB", &|f| {
        format!("{:.0}", f.resident_after_start)
    });
    row("most resident until then, MiB", &|f| {
        format!("{:.0}", f.peak_of_start)
    });
    row("resident when all was made, MiB", &|f| {
        format!("{:.0}", f.resident)
    });
    println!(
        "\n  growth, as a multiple of n log n from the size before (1: exactly so; less: better)"
    );
    let growth = |name: &str, of: &dyn Fn(usize, &Figures) -> f64| {
        print!("  {name:<44}{:>14}", "");
        for pair in all.windows(2) {
            let [(less, before), (more, after)] = pair else {
                continue;
            };
            let n_log_n = |n: usize| n as f64 * (n as f64).ln();
            let ratio = of(*more, after) / of(*less, before);
            print!("{:>14.2}", ratio / (n_log_n(*more) / n_log_n(*less)));
        }
        println!();
    };
    growth("made in batches", &|size, f| {
        size as f64 / f.batched_per_second
    });
    growth("list", &|_, f| f.list_secs);
    growth("watch", &|_, f| f.watch_secs);
    growth("start", &|_, f| f.start_secs);
    growth("resident", &|_, f| f.resident_after_start);
}

fn quantiles(values: &[f64]) -> String {
    let at = |share| quantile(values.iter().copied(), share);
    format!("{:.2} / {:.2}", at(0.5), at(0.99))
}

fn print_beside(size: usize, own: &Figures, rivals: &[(Rival, Figures)]) {
    println!("\none change, {size} reservations: until DHCP answers by it");
    println!(
        "  {:<26}{:>20}{:>9}{:>12}{:>10}{:>10}",
        "", "p50 / p99, ms", "changes", "x bootjackd", "start, s", "MiB"
    );
    let middle = median(own.visible_ms.iter().copied());
    let row = |name: &str, figures: &Figures| {
        println!(
            "  {name:<26}{:>20}{:>9}{:>12.1}{:>10.2}{:>10.0}",
            quantiles(&figures.visible_ms),
            figures.visible_ms.len(),
            median(figures.visible_ms.iter().copied()) / middle,
            figures.start_secs,
            figures.resident_after_start,
        );
    };
    row("bootjackd, gRPC, synced", own);
    for (rival, figures) in rivals {
        row(rival.name(), figures);
    }
}

fn sizes() -> Vec<usize> {
    let text = std::env::var("BENCH_SIZES").unwrap_or_else(|_| "10000,100000,1000000".to_owned());
    let parse = |size: &str| match size.trim().parse() {
        Ok(number @ 1..=4_000_000) => number,
        _ => panic!("BENCH_SIZES: wanted numbers from 1 to 4000000 with commas, got {text}"),
    };
    text.split(',').map(parse).collect()
}

fn main() {
    if !support::is_asked_for("api") {
        return;
    }
    describe_machine();
    println!("{}", version(env!("CARGO_BIN_EXE_bootjackd"), "--version"));
    println!("{}", version("dnsmasq", "--version"));
    println!("kea-dhcp4 {}", version(&kea::program(), "-v"));
    println!("gRPC over a unix socket; every answer of bootjackd comes after a sync");
    let lan = Lan::new();
    let mut own = Vec::new();
    for size in sizes() {
        eprintln!("bootjackd, {size} reservations");
        let figures = Bootjackd::new(&lan).measure(size);
        let rivals = RIVALS
            .iter()
            .filter(|_| size <= MOST_OF_RIVALS)
            .map(|rival| {
                eprintln!("{}, {size} reservations", rival.name());
                (*rival, rival.measure(&lan, size))
            });
        let rivals: Vec<_> = rivals.collect();
        if !rivals.is_empty() {
            print_beside(size, &figures, &rivals);
        }
        own.push((size, figures));
    }
    print_own(&own);
}
