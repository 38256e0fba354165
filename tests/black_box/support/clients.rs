//! DHCP clients that systems really have, each in the foreground with files of its own: ISC's dhclient, BusyBox's udhcpc and
//! systemd-networkd.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::netns::Netns;
use super::service::{Home, signal};

/// A hang is a failure; this only bounds how long one is waited for.
const HANG: Duration = Duration::from_secs(60);

/// dhclient and udhcpc call a script with what they got. These use it, and say it in one form; nothing but the interface is touched.
const DHCLIENT_SCRIPT: &str = r#"#!/bin/sh
case $reason in
PREINIT) ip link set "$interface" up ;;
BOUND | RENEW | REBIND | REBOOT)
    ip address flush dev "$interface"
    ip address add "$new_ip_address/$new_subnet_mask" dev "$interface" ;;
RELEASE | STOP | EXPIRE) ip address flush dev "$interface" ;;
esac
echo "$reason address=$new_ip_address hostname=$new_host_name domain=$new_domain_name router=$new_routers dns=$new_domain_name_servers lease=$new_dhcp_lease_time server=$new_dhcp_server_identifier"
"#;
const UDHCPC_SCRIPT: &str = r#"#!/bin/sh
case $1 in
deconfig) ip link set "$interface" up; ip address flush dev "$interface" ;;
bound | renew) ip address replace "$ip/$mask" dev "$interface" ;;
esac
echo "$1 address=$ip hostname=$hostname domain=$domain router=$router dns=$dns lease=$lease server=$serverid"
"#;
const DHCLIENT_CONF: &str = "
send host-name \"said-by-the-client\";
request subnet-mask, broadcast-address, routers, domain-name, domain-name-servers, host-name;
timeout 60;
retry 1;
";

const NETWORKD_NETWORK: &str = "[Match]
Name=eth0
[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no
[DHCPv4]
UseHostname=no
DUIDType=vendor
DUIDRawData=00:00:ab:11:e5:0f:17:8e:af:d4:ef:30
";
/// A message bus that trusts everybody: nobody but networkd and networkctl is there.
const BUS_CONF: &str = r#"<busconfig>
<type>system</type>
<listen>unix:path=/run/dbus/system_bus_socket</listen>
<auth>EXTERNAL</auth>
<policy context="default">
<allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
</policy>
</busconfig>
"#;
/// networkd and its message bus, as the first of processes and mounts of their own: all of it is gone with the script. It keeps
/// its files below /run, gives up root for a user of its own, which is root here, and waits for udev unless /sys is read-only.
/// What comes in on standard input are words for networkctl.
const NETWORKD_SCRIPT: &str = r#"#!/bin/sh
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/dbus /run/systemd/network /run/systemd/netif/leases /run/systemd/netif/links /run/systemd/netif/lldp
cp "$1/eth0.network" /run/systemd/network/
printf '%s\n' 'root:x:0:0::/:/bin/sh' 'systemd-network:x:0:0::/:/bin/sh' >/run/passwd
mount --bind /run/passwd /etc/passwd
mount -o remount,bind,ro /sys
dbus-daemon --nofork --config-file="$1/bus.conf" &
SYSTEMD_LOG_LEVEL=debug SYSTEMD_LOG_TARGET=console "$2" 2>&1 &
while read -r word; do networkctl "$word" eth0; done
"#;

/// dhclient in the foreground.
pub fn dhclient(netns: &Netns, home: &Home, more: &str) -> Running {
    Running::start(
        dhclient_command(netns, home, more, &["-d", "-1"]),
        "dhclient",
    )
}

/// dhclient on `eth0` with files of its own; `more` is added to its configuration.
pub fn dhclient_command(netns: &Netns, home: &Home, more: &str, arguments: &[&str]) -> Command {
    let conf = home.write("dhclient/conf", format!("{DHCLIENT_CONF}{more}"));
    let files = [
        ("-cf", conf),
        ("-sf", script(home, "dhclient/script", DHCLIENT_SCRIPT)),
        ("-lf", home.path().join("dhclient/leases")),
        ("-pf", home.path().join("dhclient/pid")),
    ];
    // A copy: AppArmor's profile goes by path, and would not let it use these files.
    let copy = home.path().join("dhclient/dhclient");
    if !copy.exists() {
        let program = find("dhclient", "isc-dhcp-client");
        std::fs::copy(program, &copy).expect("copied");
    }
    let mut command = netns.command(&copy.display().to_string());
    command.args(arguments);
    for (flag, path) in files {
        command.arg(flag).arg(path);
    }
    command.arg("eth0");
    command
}

/// udhcpc in the foreground, on `eth0`.
pub fn udhcpc(netns: &Netns, home: &Home, arguments: &[&str]) -> Running {
    let program = find("udhcpc", "udhcpc");
    let script = script(home, "udhcpc/script", UDHCPC_SCRIPT);
    let mut command = netns.command(&program.display().to_string());
    command
        .args(["-f", "-i", "eth0", "-t", "60", "-T", "1", "-s"])
        .arg(script)
        .args(arguments);
    Running::start(command, "udhcpc")
}

/// systemd-networkd, which runs `eth0`. It takes words such as `renew`.
pub fn networkd(netns: &Netns, home: &Home) -> Running {
    let program = Path::new("/lib/systemd/systemd-networkd");
    assert!(
        program.exists(),
        "{} is missing: install systemd",
        program.display()
    );
    find("dbus-daemon", "dbus-daemon");
    home.write("networkd/eth0.network", NETWORKD_NETWORK);
    let bus = home.write("networkd/bus.conf", BUS_CONF);
    let script = script(home, "networkd/script", NETWORKD_SCRIPT);
    let mut command = netns.command("unshare");
    command
        .args(["--mount", "--pid", "--fork", "--kill-child"])
        .arg(script)
        .arg(bus.parent().expect("it has one"))
        .arg(program);
    Running::start(command, "systemd-networkd")
}

fn script(home: &Home, path: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let known = home.path().join(path);
    if known.exists() {
        return known; // it may be running
    }
    let path = home.write(path, text);
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&path, mode).expect("it is ours");
    path
}

/// A program's path; what is missing fails the test by its package's name.
pub fn find(program: &str, package: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!(
                "{program} is missing: install {package}, or all of it by: deploy/packages.sh test"
            )
        })
}

/// A client that runs, and what it and its script say.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    name: &'static str,
}

impl Running {
    pub fn start(mut command: Command, name: &'static str) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let (say, lines) = channel();
        let streams: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("piped")),
            Box::new(child.stderr.take().expect("piped")),
        ];
        for stream in streams {
            let say = say.clone();
            std::thread::spawn(move || {
                let lines = BufReader::new(stream).lines().map_while(Result::ok);
                lines.for_each(|line| drop(say.send(line)));
            });
        }
        Self { child, lines, name }
    }

    /// Waits for a line that begins with this word: what the script was called with, or the client's own.
    pub fn wait_for(&self, word: &str) -> Told {
        Told(self.wait_for_line(word, |line| line.split(' ').next() == Some(word)))
    }

    /// Waits for a line that `is_it`.
    pub fn wait_for_line(&self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let mut before = Vec::new();
        let deadline = Instant::now() + HANG;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(rest) {
                Ok(line) if is_it(&line) => return line,
                Ok(line) => before.push(line),
                Err(error) => panic!("{} does not say {what}: {error}; {before:#?}", self.name),
            }
        }
    }

    /// Says a word to those that read their standard input.
    pub fn say(&mut self, word: &str) {
        let input = self.child.stdin.as_mut().expect("piped");
        writeln!(input, "{word}").expect("it reads");
    }

    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One line of a script.
#[derive(Debug)]
pub struct Told(String);

impl Told {
    pub fn get(&self, name: &str) -> &str {
        let mut words = self.0.split(' ').filter_map(|word| word.split_once('='));
        let found = words.find(|(known, _)| *known == name);
        found.expect("the script says it").1
    }

    pub fn address(&self) -> &str {
        self.get("address")
    }
}
