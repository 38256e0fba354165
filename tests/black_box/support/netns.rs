//! Networks of our own: namespaces and the links between them, gone when dropped.

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
    let (s, c) = (server.name(), client.name());
    run(&[
        "link", "add", "lan0", "netns", s, "type", "veth", "peer", "name", "eth0", "netns", c,
    ]);
    server.ip(&["address", "add", "198.18.0.1/24", "dev", "lan0"]);
    server.ip(&["link", "set", "lan0", "up"]);
    client.ip(&["link", "set", "eth0", "address", mac]);
    client.ip(&["link", "set", "eth0", "up"]);
    (server, client)
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
