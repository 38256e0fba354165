//! Networks of our own: namespaces and the links between them, gone when dropped.

use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A network namespace.
pub struct Netns {
    name: String,
}

impl Netns {
    /// A new one, with loopback up.
    pub fn new(role: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bj-{}-{number}-{role}", std::process::id());
        run(&["netns", "add", &name]);
        let netns = Self { name };
        netns.ip(&["link", "set", "lo", "up"]);
        netns
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// A program that will run in it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Does something inside it, such as opening a socket: that stays there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/var/run/netns/{}", self.name);
        let netns = std::fs::File::open(path).expect("ip made it");
        let entered = || {
            // SAFETY: it only changes which network the calling thread sees, and that thread does nothing else.
            let done = unsafe { libc::setns(netns.as_raw_fd(), libc::CLONE_NEWNET) };
            assert_eq!(done, 0, "setns: {}", std::io::Error::last_os_error());
            work()
        };
        std::thread::scope(|scope| scope.spawn(entered).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Has the kernel send on this interface what a card would: whole checksums, and no frame longer than the MTU.
    pub fn without_offloads(&self, interface: &str) {
        #[repr(C)]
        struct EthtoolValue {
            command: u32,
            data: u32,
        }
        // The namespace is the socket's.
        let socket = self.inside(|| UdpSocket::bind("127.0.0.1:0").expect("loopback is up"));
        // linux/ethtool.h: ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO
        for command in [0x17, 0x1f, 0x24] {
            let mut value = EthtoolValue { command, data: 0 };
            // SAFETY: all zero is a valid ifreq.
            let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
            for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
                *to = from as libc::c_char;
            }
            request.ifr_ifru.ifru_data = (&raw mut value).cast();
            // SAFETY: the request, and the value it points to, outlive the call.
            let done =
                unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
            assert_eq!(done, 0, "ethtool {command:#x} on {interface}");
        }
    }

    /// Runs `ip` on it.
    pub fn ip(&self, arguments: &[&str]) {
        run(&[&["-n", &self.name], arguments].concat());
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}

/// A server's namespace, whose `lan0` has 198.18.0.1/24, linked to a client's, whose `eth0` has this MAC and no address.
pub fn server_and_client(mac: &str) -> (Netns, Netns) {
    let (server, client) = (Netns::new("srv"), Netns::new("cli"));
    link(&server, &client, mac);
    server.ip(&["address", "add", "198.18.0.1/24", "dev", "lan0"]);
    (server, client)
}

/// A link from the one's `lan0` to the other's `eth0`, which has this MAC. Neither has an address.
pub fn link(server: &Netns, client: &Netns, mac: &str) {
    let (s, c) = (server.name(), client.name());
    run(&[
        "link", "add", "lan0", "netns", s, "type", "veth", "peer", "name", "eth0", "netns", c,
    ]);
    server.ip(&["link", "set", "lan0", "up"]);
    client.ip(&["link", "set", "eth0", "address", mac]);
    client.ip(&["link", "set", "eth0", "up"]);
}

/// Runs `ip`; what it says is the failure.
pub fn run(arguments: &[&str]) {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .expect("ip runs; install iproute2");
    assert!(
        output.status.success(),
        "ip {}: {}(these tests need root, or run them by `make test`)",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}
