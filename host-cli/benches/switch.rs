//! What a frame's way through the lab's switch costs, beside the other ways between two machines on one host.
//!
//! `cargo bench -p bootjack --bench switch`. Each way carries the same frames between two threads: as fast as the receiver takes
//! them, and one at a time to and fro. `mcast` is the shape of QEMU's `-netdev socket,mcast=`: UDP to a group on the loopback
//! interface, which loses what a receiver has no room for, and returns to each its own frames.

#![allow(clippy::unwrap_used)]

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::FromRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const FRAMES: u64 = 100_000;
const ROUNDS: usize = 5_000;
const RUNS: usize = 3;
/// After this long without a frame what is missing is lost.
const SILENCE: Duration = Duration::from_millis(500);

/// One machine's end.
trait End: Send + 'static {
    fn send(&self, frame: &[u8]);
    /// None after silence.
    fn receive(&self, room: &mut [u8]) -> Option<usize>;
}

struct Unix {
    socket: UnixDatagram,
    to: std::path::PathBuf,
}

impl Unix {
    fn new(run: &Path, own: &str, to: &str) -> Self {
        let socket = UnixDatagram::bind(run.join(own)).unwrap();
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        Self {
            socket,
            to: run.join(to),
        }
    }
}

impl End for Unix {
    fn send(&self, frame: &[u8]) {
        self.socket.send_to(frame, &self.to).unwrap();
    }

    fn receive(&self, room: &mut [u8]) -> Option<usize> {
        self.socket.recv(room).ok()
    }
}

struct Multicast {
    socket: UdpSocket,
    group: SocketAddrV4,
    /// What its own frames come from.
    own: u8,
}

impl Multicast {
    /// As QEMU's net/socket.c makes it.
    fn new(port: u16, own: u8) -> Self {
        let group = Ipv4Addr::new(230, 0, 0, 77);
        // SAFETY: the descriptor is new; option and address are as long as is said and outlive the calls.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
            let yes: libc::c_int = 1;
            let size = size_of::<libc::c_int>() as _;
            libc::setsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_REUSEADDR,
                (&raw const yes).cast(),
                size,
            );
            let mut address: libc::sockaddr_in = std::mem::zeroed();
            address.sin_family = libc::AF_INET as _;
            address.sin_port = port.to_be();
            address.sin_addr.s_addr = u32::from(group).to_be();
            let size = size_of::<libc::sockaddr_in>() as _;
            assert_eq!(libc::bind(fd, (&raw const address).cast(), size), 0);
            let interface = libc::in_addr {
                s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be(),
            };
            libc::setsockopt(
                fd,
                libc::IPPROTO_IP,
                libc::IP_MULTICAST_IF,
                (&raw const interface).cast(),
                size_of::<libc::in_addr>() as _,
            );
            UdpSocket::from_raw_fd(fd)
        };
        socket
            .join_multicast_v4(&group, &Ipv4Addr::LOCALHOST)
            .unwrap();
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        Self {
            socket,
            group: SocketAddrV4::new(group, port),
            own,
        }
    }
}

impl End for Multicast {
    fn send(&self, frame: &[u8]) {
        self.socket.send_to(frame, self.group).unwrap();
    }

    fn receive(&self, room: &mut [u8]) -> Option<usize> {
        loop {
            let length = self.socket.recv(room).ok()?;
            if room[11] != self.own {
                return Some(length);
            }
        }
    }
}

/// What one way carries.
#[derive(Clone, Copy)]
struct Result {
    frames_per_second: f64,
    lost: u64,
    round_trip: Duration,
}

/// Its name, and what it carries of frames of this length.
type Way = (&'static str, fn(usize) -> Result);

fn frame(to: u8, from: u8, length: usize) -> Vec<u8> {
    let mut frame = vec![0x52, 0x54, 0, 0, 0, to, 0x52, 0x54, 0, 0, 0, from, 8, 0];
    frame.resize(length, 0);
    frame
}

fn measure(one: &impl End, two: impl End, length: usize) -> Result {
    let mut room = vec![0; 65_536];
    // Both are known from now on.
    one.send(&frame(2, 1, 60));
    two.receive(&mut room).unwrap();
    two.send(&frame(1, 2, 60));
    one.receive(&mut room).unwrap();
    let receiver = std::thread::spawn(move || {
        let mut room = vec![0; 65_536];
        let (mut count, mut last) = (0, Instant::now());
        while count < FRAMES && two.receive(&mut room).is_some() {
            (count, last) = (count + 1, Instant::now());
        }
        (two, count, last)
    });
    let out = frame(2, 1, length);
    let start = Instant::now();
    for _ in 0..FRAMES {
        one.send(&out);
    }
    let (two, count, last) = receiver.join().unwrap();
    let echo = std::thread::spawn(move || {
        let mut room = vec![0; 65_536];
        let back = frame(1, 2, length);
        while two.receive(&mut room).is_some() {
            two.send(&back);
        }
    });
    let mut rounds: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            one.send(&out);
            one.receive(&mut room).unwrap();
            start.elapsed()
        })
        .collect();
    echo.join().unwrap();
    rounds.sort_unstable();
    Result {
        frames_per_second: count as f64 / (last - start).as_secs_f64(),
        lost: FRAMES - count,
        round_trip: rounds[ROUNDS / 2],
    }
}

fn directory() -> tempfile::TempDir {
    tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir_in("/tmp")
        .unwrap()
}

fn direct(length: usize) -> Result {
    let run = directory();
    let one = Unix::new(run.path(), "a", "b");
    measure(&one, Unix::new(run.path(), "b", "a"), length)
}

/// A thread for each direction that reads and writes one frame at a time; they end with this process.
fn relay(length: usize) -> Result {
    let run = directory();
    let one = Unix::new(run.path(), "a", "ra");
    let two = Unix::new(run.path(), "b", "rb");
    let [near, far] = ["ra", "rb"].map(|name| UnixDatagram::bind(run.path().join(name)).unwrap());
    for (from, to, name) in [(&near, &far, "b"), (&far, &near, "a")] {
        let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        let name = run.path().join(name);
        std::thread::spawn(move || {
            let mut room = vec![0; 65_536];
            while let Ok(length) = from.recv(&mut room) {
                let _ = to.send_to(&room[..length], &name);
            }
        });
    }
    measure(&one, two, length)
}

fn switch(length: usize) -> Result {
    let run = directory();
    let one = Unix::new(run.path(), "v-00000001", "s-00000001");
    let two = Unix::new(run.path(), "v-00000002", "s-00000002");
    // Ports that are found and not told of are isolated.
    let ports = r#"[{"id":"00000001","name":"one","isolated":false},{"id":"00000002","name":"two","isolated":false}]"#;
    std::fs::write(run.path().join("sw.ports"), ports).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_bootjack"))
        .args(["net", "switch", "--run"])
        .arg(run.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(said, "ready\n");
    let result = measure(&one, two, length);
    child.kill().unwrap();
    child.wait().unwrap();
    result
}

fn multicast(length: usize) -> Result {
    let port = 20_000 + (std::process::id() % 20_000) as u16;
    let one = Multicast::new(port, 1);
    measure(&one, Multicast::new(port, 2), length)
}

fn main() {
    println!(
        "{:<8} {:>6} {:>12} {:>10} {:>8} {:>12}",
        "way", "octets", "frames/s", "MB/s", "lost", "round trip"
    );
    let ways: [Way; 4] = [
        ("direct", direct),
        ("relay", relay),
        ("switch", switch),
        ("mcast", multicast),
    ];
    for length in [60, 1514, 9014] {
        for (name, way) in ways {
            let mut results: Vec<Result> = (0..RUNS).map(|_| way(length)).collect();
            results.sort_by(|a, b| a.frames_per_second.total_cmp(&b.frames_per_second));
            let middle = results[RUNS / 2];
            println!(
                "{name:<8} {length:>6} {:>12.0} {:>10.1} {:>7.1}% {:>9.1} us",
                middle.frames_per_second,
                middle.frames_per_second * length as f64 / 1e6,
                middle.lost as f64 * 100.0 / FRAMES as f64,
                middle.round_trip.as_nanos() as f64 / 1000.0,
            );
        }
    }
}
