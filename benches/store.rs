//! The store by itself: how long it takes to open, and what it takes in memory, with ten thousand, a hundred thousand and a million
//! reservations; and how many are durable in a second, one by one and in batches.
//!
//! `cargo bench --bench store`; sizes by `BENCH_SIZES=10000,100000`. Each opening is a process of its own, which says how much
//! memory it ever had. The files are in the directory for temporary ones, or in `BENCH_DIR`.

mod support;

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bootjackd::catalog::{Catalog, Change, Settings};
use bootjackd::model::{MacAddr, Reservation, Source, Subnet, Var};
use bootjackd::store::{Store, Writer, open_sled};

/// What the service allocates with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As many as one call may bring.
const BATCH: usize = 10_000;
/// Created one after the other.
const ONE_BY_ONE: usize = 1000;
const ROUNDS: usize = 3;
const HOUR: Duration = Duration::from_secs(3600);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, verb, dir] = arguments.as_slice()
        && verb == "open"
    {
        return open_and_say(Path::new(dir));
    }
    let sizes = std::env::var("BENCH_SIZES").unwrap_or("10000,100000,1000000".to_owned());
    let sizes = sizes
        .split(',')
        .map(|size| size.parse().expect("BENCH_SIZES: numbers"));
    support::describe_machine();
    println!(
        "{:>12} {:>12} {:>14} {:>14} {:>12} {:>10} {:>12} {:>12}",
        "reservations",
        "created/s",
        "one by one/s",
        "p99 of one ms",
        "disk MB",
        "close s",
        "open s",
        "memory MB"
    );
    for size in sizes {
        measure(size);
    }
}

/// One size: a store is filled, closed and opened again.
fn measure(size: usize) {
    let parent = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let home = tempfile::tempdir_in(parent).expect("a directory");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (store, writer) = open(home.path());
    let started = Instant::now();
    for first in (0..size).step_by(BATCH) {
        let batch = (first..size.min(first + BATCH)).map(reservation).collect();
        runtime
            .block_on(store.create_all(batch, 1))
            .expect("created");
    }
    let batched = size as f64 / started.elapsed().as_secs_f64();
    let mut times: Vec<f64> = Vec::new();
    for n in size..size + ONE_BY_ONE {
        let started = Instant::now();
        let create = Change::Create(reservation(n));
        runtime.block_on(store.change(create, 1)).expect("created");
        times.push(started.elapsed().as_secs_f64());
    }
    let one_by_one = times.len() as f64 / times.iter().sum::<f64>();
    let p99 = support::quantile(times, 0.99) * 1e3;
    let closing = Instant::now();
    drop(store);
    writer.close().expect("closed");
    let closed = closing.elapsed().as_secs_f64();
    let (mut opened, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let said = Command::new(std::env::current_exe().expect("this program"))
            .arg("open")
            .arg(home.path())
            .output()
            .expect("it runs");
        let said = String::from_utf8(said.stdout).expect("text");
        let numbers: Vec<f64> = said
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        let [count, seconds, megabytes] = numbers[..] else {
            panic!("it said: {said}");
        };
        assert_eq!(count as usize, size + ONE_BY_ONE, "all are there");
        opened.push(seconds);
        memory.push(megabytes);
    }
    println!(
        "{size:>12} {batched:>12.0} {one_by_one:>14.0} {p99:>14.2} {:>12.0} {closed:>10.2} {:>12.2} {:>12.0}",
        size_of(home.path()) as f64 / 1e6,
        support::median(opened),
        support::median(memory),
    );
}

/// How many there are, how long it took, and how much memory there ever was.
fn open_and_say(dir: &Path) {
    let started = Instant::now();
    let (store, writer) = open(dir);
    let seconds = started.elapsed().as_secs_f64();
    let count = store.catalog().len();
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    println!(
        "{count} {seconds} {}",
        kib.expect("a number") * 1024.0 / 1e6
    );
    drop((store, writer));
    std::process::exit(0);
}

fn open(dir: &Path) -> (Store, Writer) {
    let catalog = Catalog::new(Settings {
        subnets: vec![Subnet::of("10.0.0.0/8".parse().expect("a network"))],
        ..Settings::default()
    });
    let backend = open_sled(dir, HOUR).expect("it opens");
    let (store, writer, opened) = Store::open(backend, catalog, 1).expect("it opens");
    assert!(opened.set_aside.is_empty(), "all of them fit");
    (store, writer)
}

/// One as people make them: a card, an address, a name, and a key for whoever logs in.
fn reservation(n: usize) -> Reservation {
    let number = u32::try_from(n).expect("there are fewer");
    let mut reservation = Reservation::of(format!("node-{n}"), Source::Api);
    let [a, b, c, d] = number.to_be_bytes();
    reservation.mac = Some(MacAddr([0x52, 0x54, a, b, c, d]));
    reservation.address = Some(Ipv4Addr::from(
        u32::from(Ipv4Addr::new(10, 0, 1, 0)) + number,
    ));
    reservation.hostname = Some(format!("node-{n}"));
    reservation.vars = [("disk".to_owned(), Var::Text("/dev/nvme0n1".to_owned()))].into();
    reservation
}

fn size_of(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("readable").flatten();
    let sizes = entries.map(|entry| match entry.file_type().expect("known").is_dir() {
        true => size_of(&entry.path()),
        false => entry.metadata().expect("there").len(),
    });
    sizes.sum()
}
