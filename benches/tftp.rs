//! The TFTP server beside async-tftp, dnsmasq and tftpd-hpa, in one run: how fast one client gets a large file with different
//! options, how fast a hundred clients get small ones, and what CPU time each server takes for it.
//!
//! In: BENCH_ROUNDS (3); dnsmasq as installed, tftpd-hpa as unpacked by `benches/tftpd-hpa.sh`. Out: a table. Servers and
//! clients live in network namespaces of their own, on links with an MTU of 9000; all servers run, and take turns with each
//! load; every transfer is bounded in time, and what arrives is held against what was sent. One client and its server share a
//! core, a hundred and theirs have all.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use async_tftp::packet;
use async_tftp::server::{Handler, TftpServerBuilder};

mod support;

use support::netns::{Netns, run};
use support::{Running, describe_machine, from_environment, median, version};

const SERVER: &str = "198.18.0.1";
const CLIENT: &str = "198.18.0.2";
/// Where `benches/tftpd-hpa.sh` put it.
const TFTPD_HPA: &str = "target/bench/tftpd-hpa/usr/sbin/in.tftpd";
const LARGE: usize = 64 << 20;
const SMALL: usize = 1 << 20;
const CLIENTS: usize = 100;
/// A server that does not answer by then never will.
const START: Duration = Duration::from_secs(30);
/// A transfer that takes longer is given up.
const LONGEST: Duration = Duration::from_secs(120);
/// How long a client waits before it says again what it said last.
const PATIENCE: Duration = Duration::from_secs(1);
const RECEIVE_BUFFER: usize = 4 << 20;
/// The flag that has this program be the rival.
const BE_ASYNC_TFTP: &str = "--be-async-tftp";

#[derive(Clone, Copy, PartialEq)]
enum Contender {
    Bootjackd,
    BootjackdSinglePort,
    AsyncTftp,
    Dnsmasq,
    TftpdHpa,
}

use Contender::{AsyncTftp, Bootjackd, BootjackdSinglePort, Dnsmasq, TftpdHpa};

const CONTENDERS: [Contender; 5] = [Bootjackd, BootjackdSinglePort, AsyncTftp, Dnsmasq, TftpdHpa];

/// What is asked of them.
#[derive(Clone, Copy)]
struct Load {
    clients: usize,
    length: usize,
    block_size: u16,
    window: u16,
}

const fn one(block_size: u16, window: u16) -> Load {
    Load {
        clients: 1,
        length: LARGE,
        block_size,
        window,
    }
}

const fn hundred(window: u16) -> Load {
    Load {
        clients: CLIENTS,
        length: SMALL,
        block_size: 1468,
        window,
    }
}

const LOADS: [Load; 11] = [
    one(512, 1),
    one(512, 4),
    one(512, 16),
    one(1468, 1),
    one(1468, 4),
    one(1468, 16),
    one(8192, 1),
    one(8192, 4),
    one(8192, 16),
    hundred(1),
    hundred(4),
];

/// What one trial showed.
#[derive(Clone, Copy)]
struct Trial {
    megabytes_per_second: f64,
    cpu_ms_per_megabyte: f64,
}

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Bootjackd => "bootjackd",
            BootjackdSinglePort => "bootjackd, single_port",
            AsyncTftp => "async-tftp 0.4.2",
            Dnsmasq => "dnsmasq",
            TftpdHpa => "tftpd-hpa",
        }
    }

    fn knows_windows(self) -> bool {
        !matches!(self, Dnsmasq | TftpdHpa)
    }

    /// How it is started to serve the files of `home`/tftp.
    fn command(self, netns: &Netns, home: &Path) -> Command {
        let root = home.join("tftp").display().to_string();
        match self {
            Bootjackd => bootjackd(netns, home, false),
            BootjackdSinglePort => bootjackd(netns, home, true),
            AsyncTftp => {
                let this = std::env::current_exe().expect("it runs");
                let mut command = netns.command(&this.display().to_string());
                command.args([BE_ASYNC_TFTP, &root]);
                command
            }
            Dnsmasq => {
                let mut command = netns.command("dnsmasq");
                command
                    .args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0"])
                    .args(["--user=root", "--interface=lan0", "--bind-interfaces"])
                    .args(["--pid-file=", "--enable-tftp", "--tftp-max=1100"])
                    .arg(format!("--tftp-root={root}"))
                    .arg(format!("--log-facility={}", home.join("log").display()));
                command
            }
            TftpdHpa => {
                let mut command = netns.command(TFTPD_HPA);
                command.args([
                    "-L",
                    "-u",
                    "root",
                    "-a",
                    &format!("{SERVER}:69"),
                    "-s",
                    &root,
                ]);
                command
            }
        }
    }
}

fn bootjackd(netns: &Netns, home: &Path, single_port: bool) -> Command {
    let config = format!(
        r#"data_dir = "{home}/data"
[dhcp]
interfaces = ["lan0"]
[[subnet]]
cidr = "198.18.0.0/24"
[tftp]
root = "{home}/tftp"
single_port = {single_port}
[grpc]
listen = "127.0.0.1:50051"
"#,
        home = home.display()
    );
    let file = home.join("bootjackd.toml");
    fs::write(&file, config).expect("the directory is ours");
    let mut command = netns.command(env!("CARGO_BIN_EXE_bootjackd"));
    command.args(["serve", "--config"]).arg(file);
    command
}

/// The rival as its documentation shows it, with files that are held in memory: faster than its own reader of directories.
fn be_async_tftp(root: &str) {
    struct Files(std::path::PathBuf);
    impl Handler for Files {
        type Reader = futures_util::io::Cursor<Vec<u8>>;
        type Writer = futures_util::io::Sink;
        async fn read_req_open(
            &mut self,
            _client: &SocketAddr,
            path: &Path,
        ) -> Result<(Self::Reader, Option<u64>), packet::Error> {
            let octets = fs::read(self.0.join(path)).map_err(|_| packet::Error::FileNotFound)?;
            let length = octets.len() as u64;
            Ok((futures_util::io::Cursor::new(octets), Some(length)))
        }
        async fn write_req_open(
            &mut self,
            _client: &SocketAddr,
            _path: &Path,
            _size: Option<u64>,
        ) -> Result<Self::Writer, packet::Error> {
            Err(packet::Error::PermissionDenied)
        }
    }
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let served = runtime.block_on(async {
        TftpServerBuilder::with_handler(Files(root.into()))
            .bind(SocketAddr::new(SERVER.parse().expect("one"), 69))
            .timeout(PATIENCE)
            .build()
            .await?
            .serve()
            .await
    });
    panic!("{served:?}");
}

/// A server that answers, in a network of its own; killed when dropped.
struct Server {
    running: Running,
    lan: Lan,
    _home: tempfile::TempDir,
}

impl Server {
    fn start(contender: Contender, large: &[u8]) -> Self {
        let lan = Lan::new();
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        fs::create_dir(home.path().join("tftp")).expect("ours");
        for (name, content) in [("large", large), ("small", &large[..SMALL])] {
            fs::write(home.path().join("tftp").join(name), content).expect("ours");
        }
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
            lan,
            _home: home,
        };
        let started = Instant::now();
        while server.lan.ask_once("small").is_err() {
            let ended = server.running.0.try_wait().expect("it is ours");
            if ended.is_some() || started.elapsed() > START {
                let mut text = String::new();
                let said = File::open(server._home.path().join("said"));
                let _ = said.and_then(|mut said| said.read_to_string(&mut text));
                panic!("{} does not answer: {text}", contender.name());
            }
        }
        server
    }

    /// One trial: all clients at once.
    fn try_load(&self, load: Load, large: &[u8]) -> Trial {
        let name = if load.length == LARGE {
            "large"
        } else {
            "small"
        };
        let sockets: Vec<UdpSocket> = (0..load.clients).map(|_| self.lan.socket()).collect();
        let alone = load.clients == 1;
        self.keep_to_one_core(alone);
        let (cpu, started) = (self.running.cpu(), Instant::now());
        std::thread::scope(|scope| {
            for socket in &sockets {
                scope.spawn(move || {
                    keep_to_one_core(0, alone);
                    fetch(socket, name, load, &large[..load.length]);
                });
            }
        });
        let (took, cpu) = (started.elapsed(), self.running.cpu() - cpu);
        let megabytes = (load.clients * load.length) as f64 / 1e6;
        Trial {
            megabytes_per_second: megabytes / took.as_secs_f64(),
            cpu_ms_per_megabyte: cpu.as_secs_f64() * 1e3 / megabytes,
        }
    }

    /// All threads of it.
    fn keep_to_one_core(&self, one: bool) {
        let threads = fs::read_dir(format!("/proc/{}/task", self.running.0.id()));
        for thread in threads.expect("it runs").flatten() {
            let number = thread.file_name().to_string_lossy().parse();
            keep_to_one_core(number.expect("proc(5)"), one);
        }
    }
}

/// A server's network and its clients'.
struct Lan {
    server: Netns,
    client: Netns,
}

impl Lan {
    fn new() -> Self {
        let (server, client) = (Netns::new("srv"), Netns::new("cli"));
        let (s, c) = (server.name(), client.name());
        run(&[
            "link", "add", "lan0", "netns", s, "type", "veth", "peer", "name", "eth0", "netns", c,
        ]);
        for (netns, link, address) in [(&server, "lan0", SERVER), (&client, "eth0", CLIENT)] {
            netns.ip(&["address", "add", &format!("{address}/24"), "dev", link]);
            netns.ip(&["link", "set", link, "mtu", "9000", "up"]);
        }
        Self { server, client }
    }

    fn socket(&self) -> UdpSocket {
        let socket = (self.client).inside(|| UdpSocket::bind((CLIENT, 0)).expect("a port"));
        // What a client has no room for is its own loss, and not what is measured.
        let room = socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER);
        room.expect("set");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        socket
    }

    /// The beginning of a transfer, given up at once: whether there is a server.
    fn ask_once(&self, name: &str) -> std::io::Result<()> {
        let socket = self.socket();
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        socket.send_to(&request(name, 512, 1), (SERVER, 69))?;
        let (_, from) = socket.recv_from(&mut [0; 600])?;
        socket.send_to(b"\0\x05\0\0enough\0", from).map(drop)
    }
}

/// Has a thread run on the first core alone, or on all. 0 is the calling thread. One client and its server take turns: on two
/// cores, what is measured is how long a core takes to wake up, and that depends on whatever else the machine does.
fn keep_to_one_core(thread: i32, one: bool) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = if one { 1 } else { cores };
    // SAFETY: all zero is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for core in 0..cores {
        // SAFETY: the set is ours; a core beyond its end changes nothing.
        unsafe { libc::CPU_SET(core, &mut set) };
    }
    // SAFETY: the set outlives the call, and the length is its own. A thread that has ended is none of our concern.
    unsafe { libc::sched_setaffinity(thread, size_of_val(&set), &raw const set) };
}

fn request(name: &str, block_size: u16, window: u16) -> Vec<u8> {
    let mut octets = format!("\0\x01{name}\0octet\0blksize\0{block_size}\0").into_bytes();
    if window > 1 {
        let _ = write!(octets, "windowsize\0{window}\0");
    }
    octets
}

/// Fetches a file and holds it against what it should be. Whatever is lost is asked for again.
fn fetch(socket: &UdpSocket, name: &str, load: Load, content: &[u8]) {
    let started = Instant::now();
    let mut octets = vec![0; 65_536];
    let mut say = request(name, load.block_size, load.window);
    let mut server: SocketAddr = SocketAddr::new(SERVER.parse().expect("one"), 69);
    let mut is_first = true;
    let (mut got, mut block, mut in_window) = (0, 0_u16, 0);
    let (mut block_size, mut window) = (512, 1);
    socket.send_to(&say, server).expect("sent");
    loop {
        assert!(started.elapsed() < LONGEST, "{name}: {got} octets in time");
        let (length, from) = match socket.recv_from(&mut octets) {
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                socket.send_to(&say, server).expect("sent");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        if is_first {
            (server, is_first) = (from, false);
        }
        let number = u16::from_be_bytes([octets[2], octets[3]]);
        match octets[1] {
            6 if block == 0 => {
                (block_size, window) = granted(&octets[2..length]);
                say = vec![0, 4, 0, 0];
            }
            3 if number == block.wrapping_add(1) => {
                let data = &octets[4..length];
                assert!(content[got..].starts_with(data), "{name}: wrong at {got}");
                got += data.len();
                block = number;
                in_window += 1;
                let is_last = data.len() < block_size;
                if !is_last && in_window < window {
                    continue;
                }
                in_window = 0;
                say = [[0, 4], number.to_be_bytes()].concat();
                if is_last {
                    socket.send_to(&say, server).expect("sent");
                    assert_eq!(got, content.len());
                    return;
                }
            }
            3 if number == block => continue,
            3 => {
                in_window = 0;
                say = [[0, 4], block.to_be_bytes()].concat();
            }
            _ => panic!("{name}: {:?}", String::from_utf8_lossy(&octets[..length])),
        }
        socket.send_to(&say, server).expect("sent");
    }
}

/// The block size and the window of an OACK.
fn granted(options: &[u8]) -> (usize, u16) {
    let words: Vec<&str> = (options.split(|octet| *octet == 0))
        .map(|word| std::str::from_utf8(word).expect("ASCII"))
        .collect();
    let value = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1)?.parse().ok()
    };
    let block_size = value("blksize").expect("it was asked for");
    (usize::from(block_size), value("windowsize").unwrap_or(1))
}

/// Octets without a pattern that a lost or doubled block would fit into.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn describe(rounds: u32) {
    describe_machine();
    for (program, flag) in [
        (env!("CARGO_BIN_EXE_bootjackd"), "--version"),
        ("dnsmasq", "--version"),
        (TFTPD_HPA, "-V"),
    ] {
        println!("{}", version(program, flag));
    }
    println!(
        "{rounds} rounds, in turns; medians, of speeds and of each round's ratios; MB are 10^6 octets; links with an MTU of 9000"
    );
}

fn print_table(results: &[Vec<Vec<Trial>>]) {
    for (load, by_contender) in LOADS.iter().zip(results) {
        println!(
            "\n{} x {} MiB, blksize {}, windowsize {}",
            load.clients,
            load.length >> 20,
            load.block_size,
            load.window
        );
        println!(
            "  {:<24}{:>8}{:>16}{:>14}{:>11}{:>12}",
            "", "MB/s", "(min-max)", "x async-tftp", "x dnsmasq", "CPU ms/MB"
        );
        let of = |wanted| {
            let at = CONTENDERS.iter().position(|c| *c == wanted).unwrap_or(0);
            &by_contender[at][..]
        };
        for (contender, trials) in CONTENDERS.iter().zip(by_contender) {
            if trials.is_empty() {
                println!("  {:<24}{:>8}", contender.name(), "no windows");
                continue;
            }
            let each = trials.iter().map(|t| t.megabytes_per_second);
            let least = each.clone().fold(f64::MAX, f64::min);
            let most = each.fold(0.0, f64::max);
            // Each round's own ratio: what else the machine does slows all of a round.
            let ratio = |others: &[Trial]| {
                let pairs = trials.iter().zip(others);
                let ratios = pairs.map(|(t, o)| t.megabytes_per_second / o.megabytes_per_second);
                match median(ratios) {
                    ratio if ratio.is_nan() => String::new(),
                    ratio => format!("{ratio:.2}"),
                }
            };
            let cpu = match contender {
                TftpdHpa => "not seen".to_owned(), // it has its children's time counted nowhere
                _ => format!(
                    "{:.2}",
                    median(trials.iter().map(|t| t.cpu_ms_per_megabyte))
                ),
            };
            println!(
                "  {:<24}{:>8.0}{:>16}{:>14}{:>11}{:>12}",
                contender.name(),
                median(trials.iter().map(|t| t.megabytes_per_second)),
                format!("({least:.0}-{most:.0})"),
                ratio(of(AsyncTftp)),
                ratio(of(Dnsmasq)),
                cpu,
            );
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, root] = &arguments[..]
        && flag == BE_ASYNC_TFTP
    {
        return be_async_tftp(root);
    }
    if !support::is_asked_for("tftp") {
        return;
    }
    let rounds = from_environment("BENCH_ROUNDS", 3);
    describe(rounds);
    let large = noise(LARGE);
    let servers = CONTENDERS.map(|contender| Server::start(contender, &large));
    let mut results = vec![vec![Vec::<Trial>::new(); CONTENDERS.len()]; LOADS.len()];
    for round in 1..=rounds {
        for (load, by_contender) in LOADS.iter().zip(&mut results) {
            for ((contender, server), trials) in CONTENDERS.iter().zip(&servers).zip(by_contender) {
                if load.window > 1 && !contender.knows_windows() {
                    continue;
                }
                let trial = server.try_load(*load, &large);
                eprintln!(
                    "round {round}, {}, {} x {} MiB, {} x {}: {:.0} MB/s, {:.2} ms/MB",
                    contender.name(),
                    load.clients,
                    load.length >> 20,
                    load.block_size,
                    load.window,
                    trial.megabytes_per_second,
                    trial.cpu_ms_per_megabyte
                );
                trials.push(trial);
            }
        }
    }
    print_table(&results);
}
