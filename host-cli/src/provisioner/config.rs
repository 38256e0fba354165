//! The text of bootjackd.toml for a lab's provisioner, a pure function.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use crate::labfile::Subnet;

/// What a provisioner's bootjackd is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service<'a> {
    pub data_dir: &'a str,
    pub subnet: Subnet,
    /// The provisioner's own address in it: router, TFTP, HTTP.
    pub address: Ipv4Addr,
    pub domain: &'a str,
    /// Whom targets ask for names; nobody where nothing leads out.
    pub resolver: Option<Ipv4Addr>,
    /// Where gRPC listens, as in `grpc.listen`.
    pub grpc: &'a [String],
    /// The service's half of `bootjack auth`, if others than its own user ask.
    pub auth: Option<&'a str>,
    /// Directories of profiles and of files that they name.
    pub profiles: Option<&'a str>,
    pub files: Option<&'a str>,
    /// Where boot programs are, if not where the container has them.
    pub programs: Option<&'a str>,
}

/// First and last of the addresses for machines that nobody reserved one for, as host numbers.
const POOL: [u32; 2] = [100, 199];

/// The file.
pub fn text(service: &Service<'_>) -> String {
    let mut out = String::from("# Made by bootjack up, each time anew.\n");
    let mut key = |line: String| out.push_str(&(line + "\n"));
    key(format!("data_dir = {}", quoted(service.data_dir)));
    key("\n[dhcp]\ninterfaces = [\"lan0\"]\nwait_for_interfaces = true".to_owned());
    key(format!("\n[[subnet]]\ncidr = \"{}\"", service.subnet));
    if let Some(pool) = pool(service.subnet, service.address) {
        key(format!("pools = [\"{pool}\"]"));
    }
    key(format!("router = \"{}\"", service.address));
    if let Some(resolver) = service.resolver {
        key(format!("dns = [\"{resolver}\"]"));
    }
    key(format!("domain = {}", quoted(service.domain)));
    key("lease_time = \"1h\"".to_owned());
    key(format!("\n[tftp]\nlisten = \"{}:69\"", service.address));
    key(format!("\n[http]\nlisten = \"{}:80\"", service.address));
    if let Some(files) = service.files {
        key(format!("files = {}", quoted(files)));
    }
    let listen: Vec<String> = service.grpc.iter().map(|place| quoted(place)).collect();
    key(format!("\n[grpc]\nlisten = [{}]", listen.join(", ")));
    if let Some(auth) = service.auth {
        key(format!("auth = {}", quoted(auth)));
    }
    if service.profiles.is_some() || service.programs.is_some() {
        key("\n[boot]".to_owned());
    }
    for (name, value) in [("profiles", service.profiles), ("programs", service.programs)] {
        if let Some(value) = value {
            key(format!("{name} = {}", quoted(value)));
        }
    }
    out
}

/// A range of free addresses, if the subnet has room for one.
fn pool(subnet: Subnet, own: Ipv4Addr) -> Option<String> {
    let [first, last] = POOL;
    let fits = 32 - u32::from(subnet.prefix) >= 8;
    let [first, last] = [first, last].map(|number| subnet.host(number));
    (fits && !(first..=last).contains(&own)).then(|| format!("{first}-{last}"))
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_file() {
        let subnet = Subnet {
            network: Ipv4Addr::new(198, 18, 0, 0),
            prefix: 24,
        };
        let grpc = ["unix:/run/bootjack/api.sock", "10.0.2.15:8443"].map(str::to_owned);
        let text = text(&Service {
            data_dir: "/var/lib/bootjack",
            subnet,
            address: subnet.host(1),
            domain: "lab.internal",
            resolver: Some(Ipv4Addr::new(10, 0, 2, 3)),
            grpc: &grpc,
            auth: Some("/etc/bootjack/auth"),
            profiles: Some("/srv/bootjack/profiles"),
            files: Some("/srv/bootjack/files"),
            programs: None,
        });
        assert_eq!(
            text,
            r#"# Made by bootjack up, each time anew.
data_dir = "/var/lib/bootjack"

[dhcp]
interfaces = ["lan0"]
wait_for_interfaces = true

[[subnet]]
cidr = "198.18.0.0/24"
pools = ["198.18.0.100-198.18.0.199"]
router = "198.18.0.1"
dns = ["10.0.2.3"]
domain = "lab.internal"
lease_time = "1h"

[tftp]
listen = "198.18.0.1:69"

[http]
listen = "198.18.0.1:80"
files = "/srv/bootjack/files"

[grpc]
listen = ["unix:/run/bootjack/api.sock", "10.0.2.15:8443"]
auth = "/etc/bootjack/auth"

[boot]
profiles = "/srv/bootjack/profiles"
"#
        );
        let parsed: toml::Table = text.parse().unwrap();
        assert_eq!(parsed["grpc"]["listen"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn small_subnets_have_no_pool_and_the_provisioner_is_in_none() {
        let subnet = |prefix| Subnet {
            network: Ipv4Addr::new(192, 0, 2, 0),
            prefix,
        };
        let own = Ipv4Addr::new(192, 0, 2, 1);
        assert_eq!(pool(subnet(25), own), None);
        assert_eq!(
            pool(subnet(24), own).as_deref(),
            Some("192.0.2.100-192.0.2.199")
        );
        assert_eq!(pool(subnet(24), Ipv4Addr::new(192, 0, 2, 150)), None);
        assert_eq!(quoted("a\"b\\\n"), r#""a\"b\\\u000a""#);
    }
}
