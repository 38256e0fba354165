//! etcd servers: Debian's own, unpacked by `make test-needs`, each in a namespace where its ports are free; ended with the test.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use tempfile::TempDir;

use super::netns::{Netns, run};
use super::service::signal;

/// A hang is a failure; this only bounds how long one is waited for.
const HANG: Duration = Duration::from_secs(60);
const CLIENTS: u16 = 2379;
const PEERS: u16 = 2380;

/// One server: alone, or one of a cluster.
pub struct Etcd {
    netns: String,
    host: String,
    scheme: &'static str,
    arguments: Vec<String>,
    child: Option<Child>,
    dir: TempDir,
}

/// Where the programs are.
fn program(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("target/test/etcd/usr/bin").join(name);
    assert!(
        path.exists(),
        "{} is missing; run: deploy/unpack.sh target/test/etcd etcd-server etcd-client",
        path.display()
    );
    path
}

impl Etcd {
    /// A lone server on the loopback of this namespace, which answers.
    pub fn start(netns: &Netns) -> Self {
        Self::start_with(netns, |_| Vec::new())
    }

    /// A lone server at this address of its namespace.
    pub fn start_at(netns: &Netns, host: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut etcd = Self::new(netns, host, "http", dir);
        etcd.run();
        etcd
    }

    /// The same with these arguments, made from its own directory; files it is to have can be put there.
    pub fn start_with(netns: &Netns, more: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let more = more(dir.path());
        let scheme = match more.iter().any(|argument| argument.contains("cert-file")) {
            true => "https",
            false => "http",
        };
        let mut etcd = Self::new(netns, "127.0.0.1", scheme, dir);
        etcd.arguments.extend(more);
        etcd.run();
        etcd
    }

    fn new(netns: &Netns, host: &str, scheme: &'static str, dir: TempDir) -> Self {
        let mut etcd = Self {
            netns: netns.name().to_owned(),
            host: host.to_owned(),
            scheme,
            arguments: Vec::new(),
            child: None,
            dir,
        };
        let (clients, data) = (etcd.endpoint(), etcd.dir.path().join("data"));
        etcd.arguments = [
            "--data-dir",
            &data.display().to_string(),
            "--listen-client-urls",
            &clients,
            "--advertise-client-urls",
            &clients,
            "--logger",
            "zap",
            "--log-outputs",
            "stderr",
        ]
        .map(str::to_owned)
        .to_vec();
        etcd
    }

    /// Where clients reach it.
    pub fn endpoint(&self) -> String {
        format!("{}://{}:{CLIENTS}", self.scheme, self.host)
    }

    /// Runs it on what it has kept, and waits until it answers.
    pub fn run(&mut self) {
        self.spawn()();
    }

    /// Runs it; what comes back waits until it answers, which it does not before most of its cluster run.
    fn spawn(&mut self) -> impl FnOnce() + use<> {
        assert!(self.child.is_none(), "it runs already");
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.netns])
            .arg(program("etcd"))
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ip runs; install iproute2");
        let stderr = child.stderr.take().expect("piped");
        self.child = Some(child);
        let (ready, is_ready) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = ready.send(line);
            }
        });
        move || {
            let mut said = Vec::new();
            loop {
                match is_ready.recv_timeout(HANG) {
                    Ok(line) if line.contains("client traffic") && line.contains("serving") => {
                        return;
                    }
                    Ok(line) => said.push(line),
                    Err(RecvTimeoutError::Timeout) => panic!("etcd hangs:\n{}", said.join("\n")),
                    Err(RecvTimeoutError::Disconnected) => {
                        panic!("etcd ended:\n{}", said.join("\n"))
                    }
                }
            }
        }
    }

    /// SIGKILL; what it has kept stays.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops it from doing anything, as a machine that hangs; `thaw` undoes it.
    pub fn freeze(&self) {
        signal(self.pid(), "STOP");
    }

    pub fn thaw(&self) {
        signal(self.pid(), "CONT");
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Runs etcdctl on it; what it prints. A failure is the test's.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.netns])
            .arg(program("etcdctl"))
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.endpoint()])
            .args(arguments)
            .output()
            .expect("ip runs");
        assert!(
            output.status.success(),
            "etcdctl {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Has it forget how everything came to be as it is now.
    pub fn compact(&self) {
        let status = self.ctl(&["get", "nothing", "-w", "json"]);
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        let revision = status["header"]["revision"].as_i64().expect("a revision");
        self.ctl(&["compaction", &revision.to_string()]);
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Namespaces on one switch, which is no router to anywhere: the network over which replicas reach etcd.
pub struct Switch {
    netns: Netns,
    ports: AtomicU32,
}

impl Switch {
    pub fn new() -> Self {
        let netns = Netns::new("switch");
        netns.ip(&["link", "add", "br0", "type", "bridge"]);
        netns.ip(&["link", "set", "br0", "up"]);
        let ports = AtomicU32::new(0);
        Self { netns, ports }
    }

    /// Links a namespace to it by an interface of this name, with this address (`192.0.2.1/24`). Answers the name of the switch's
    /// port, for `unplug`.
    pub fn plug(&self, netns: &Netns, interface: &str, address: &str) -> String {
        let port = format!("p{}", self.ports.fetch_add(1, Ordering::Relaxed));
        let (here, there) = (self.netns.name(), netns.name());
        run(&[
            "link", "add", &port, "netns", here, "type", "veth", "peer", "name", interface,
            "netns", there,
        ]);
        self.netns.ip(&["link", "set", &port, "master", "br0"]);
        self.netns.ip(&["link", "set", &port, "up"]);
        netns.ip(&["address", "add", address, "dev", interface]);
        netns.ip(&["link", "set", interface, "up"]);
        port
    }

    /// Whoever is at this port reaches nobody any more, and sees no link go down.
    pub fn cut(&self, port: &str) {
        self.netns.ip(&["link", "set", port, "nomaster"]);
    }

    /// Undoes `cut`.
    pub fn mend(&self, port: &str) {
        self.netns.ip(&["link", "set", port, "master", "br0"]);
    }
}

/// Three servers that are one etcd, each in a namespace of its own.
pub struct Cluster {
    pub members: Vec<Etcd>,
    /// The port of each on the switch.
    pub ports: Vec<String>,
    _namespaces: Vec<Netns>,
}

impl Cluster {
    /// Three servers at 192.0.2.11, .12 and .13 of this switch, which answer.
    pub fn start(switch: &Switch) -> Self {
        let hosts = [11, 12, 13].map(|last| format!("192.0.2.{last}"));
        let peer = |host: &str| format!("http://{host}:{PEERS}");
        let everybody: Vec<String> = (hosts.iter().enumerate())
            .map(|(at, host)| format!("m{at}={}", peer(host)))
            .collect();
        let everybody = everybody.join(",");
        let (mut members, mut ports, mut namespaces) = (Vec::new(), Vec::new(), Vec::new());
        for (at, host) in hosts.iter().enumerate() {
            let netns = Netns::new(&format!("etcd{at}"));
            ports.push(switch.plug(&netns, "eth0", &format!("{host}/24")));
            let dir = tempfile::tempdir().expect("a directory");
            let mut member = Etcd::new(&netns, host, "http", dir);
            let (name, peer) = (format!("m{at}"), peer(host));
            let more = [
                "--name",
                &name,
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
                "--initial-cluster",
                &everybody,
                "--initial-cluster-state",
                "new",
            ];
            member.arguments.extend(more.map(str::to_owned));
            members.push(member);
            namespaces.push(netns);
        }
        let waits: Vec<_> = members.iter_mut().map(Etcd::spawn).collect();
        waits.into_iter().for_each(|wait| wait());
        Self {
            members,
            ports,
            _namespaces: namespaces,
        }
    }

    /// Where clients reach them.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Etcd::endpoint).collect()
    }
}

/// Writes what a server at 127.0.0.1 shows; answers, in PEM, who signed it, and a client's certificate with its key.
pub fn certificates(dir: &Path) -> (Vec<u8>, (Vec<u8>, Vec<u8>)) {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let mut ca = CertificateParams::new(Vec::new()).expect("sound");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "test CA");
    let ca_key = KeyPair::generate().expect("a key");
    let ca_certificate = ca.self_signed(&ca_key).expect("signed");
    let issuer = Issuer::new(ca, ca_key);
    let issue = |name: &str| {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("sound");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &issuer).expect("signed");
        (
            certificate.pem().into_bytes(),
            key.serialize_pem().into_bytes(),
        )
    };
    let (server, server_key) = issue("server");
    std::fs::write(dir.join("ca.pem"), ca_certificate.pem()).expect("written");
    std::fs::write(dir.join("server.pem"), server).expect("written");
    std::fs::write(dir.join("server.key"), server_key).expect("written");
    (ca_certificate.pem().into_bytes(), issue("replica"))
}

/// The arguments of a server that shows those, and lets in nobody without a certificate of the same signer.
pub fn with_tls(dir: &Path) -> Vec<String> {
    let file = |name: &str| dir.join(name).display().to_string();
    vec![
        format!("--cert-file={}", file("server.pem")),
        format!("--key-file={}", file("server.key")),
        format!("--trusted-ca-file={}", file("ca.pem")),
        "--client-cert-auth".to_owned(),
    ]
}
