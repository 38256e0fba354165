//! What is on a seed: cloud-init's NoCloud documents, and for the provisioner the files that are laid over its root file system.
//! Pure. In: who the machine is. Out: files of an image with the label `CIDATA`. The instance-id is a digest of everything else,
//! so that a machine whose seed has changed is set up again.
//!
//! The provisioner's own image (`deploy/provisioner`) does not run cloud-init unless its owner has user-data for it: Python's
//! four starts cost more than the rest of its boot.

use std::net::Ipv4Addr;

use serde_json::{Value as Json, json};

use super::digest;
use super::iso::{Content, Entry};
use crate::yaml;

/// The provisioner's address in the network that leads out, as QEMU's translator of addresses hands it out.
pub const WAN_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const WAN_ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// QEMU's resolver, good for targets too.
pub const WAN_RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// Whom bootjackd runs as in its container.
const SERVICE_USER: u32 = crate::container::USER;

/// An SSH host key that was made here, so that the machine is known before it answers.
#[derive(Clone, PartialEq, Eq)]
pub struct HostKey {
    /// As `ssh-keygen` writes it; a secret.
    pub private: String,
    /// One line.
    pub public: String,
}

impl std::fmt::Debug for HostKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostKey({})", self.public.trim())
    }
}

/// Who the provisioner is.
#[derive(Clone, Debug)]
pub struct ProvisionerSeed {
    pub hostname: String,
    pub domain: String,
    pub wan_mac: String,
    pub lan_mac: String,
    pub lan_address: Ipv4Addr,
    /// Length of the prefix of the lan.
    pub lan_prefix: u8,
    pub host_key: HostKey,
    /// Public keys, a line each, that may log in as root.
    pub authorized_keys: Vec<String>,
    /// The text of bootjackd.toml.
    pub config: String,
    /// The service's half of `bootjack auth`: names and contents; secrets.
    pub auth: Vec<(String, String)>,
    /// The owner's own user-data; cloud-init runs if there is any.
    pub user_data: Option<String>,
}

/// Who a machine is that starts from a cloud image.
#[derive(Clone, Debug)]
pub struct TargetSeed {
    pub hostname: String,
    pub domain: String,
    pub mac: String,
    pub host_key: HostKey,
    /// Public keys, a line each, that may log in as root and as the image's own user.
    pub authorized_keys: Vec<String>,
    /// The owner's own user-data. It goes before what the lab wants.
    pub user_data: Option<String>,
}

/// The provisioner's seed.
pub fn provisioner(seed: &ProvisionerSeed) -> Vec<Entry> {
    let mut files = vec![
        Entry::text("root/etc/hostname", 0o644, format!("{}\n", seed.hostname)),
        Entry::text("root/etc/hosts", 0o644, hosts(&seed.hostname, &seed.domain)),
        Entry::text(
            "root/etc/resolv.conf",
            0o644,
            format!("nameserver {WAN_RESOLVER}\n"),
        ),
        Entry::text(
            "root/etc/systemd/network/10-wan0.link",
            0o644,
            link("wan0", &seed.wan_mac),
        ),
        Entry::text(
            "root/etc/systemd/network/10-lan0.link",
            0o644,
            link("lan0", &seed.lan_mac),
        ),
        Entry::text(
            "root/etc/systemd/network/10-wan0.network",
            0o644,
            format!(
                "[Match]\nMACAddress={}\n\n[Network]\nAddress={WAN_ADDRESS}/24\nGateway={WAN_ROUTER}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
                seed.wan_mac
            ),
        ),
        Entry::text(
            "root/etc/systemd/network/10-lan0.network",
            0o644,
            format!(
                "[Match]\nMACAddress={}\n\n[Network]\nAddress={}/{}\nConfigureWithoutCarrier=yes\nIPv6AcceptRA=no\n",
                seed.lan_mac, seed.lan_address, seed.lan_prefix
            ),
        ),
        Entry::text(
            "root/etc/ssh/ssh_host_ed25519_key",
            0o600,
            line_end(&seed.host_key.private),
        ),
        Entry::text(
            "root/etc/ssh/ssh_host_ed25519_key.pub",
            0o644,
            line_end(&seed.host_key.public),
        ),
        Entry::text(
            "root/root/.ssh/authorized_keys",
            0o600,
            lines(&seed.authorized_keys),
        ),
        Entry::text("root/etc/bootjack/bootjackd.toml", 0o644, &*seed.config),
    ];
    for (name, content) in &seed.auth {
        let mode = if name.ends_with(".pem") { 0o644 } else { 0o600 };
        let path = format!("root/etc/bootjack/auth/{name}");
        files.push(Entry::text(&path, mode, &**content).owned_by(SERVICE_USER));
    }
    let network = json!({
        "version": 2,
        "ethernets": {
            "wan0": {
                "match": { "macaddress": seed.wan_mac },
                "set-name": "wan0",
                "addresses": [format!("{WAN_ADDRESS}/24")],
                "gateway4": WAN_ROUTER,
                "nameservers": { "addresses": [WAN_RESOLVER] },
            },
            "lan0": {
                "match": { "macaddress": seed.lan_mac },
                "set-name": "lan0",
                "addresses": [format!("{}/{}", seed.lan_address, seed.lan_prefix)],
                "optional": true,
            },
        },
    });
    let user_data = seed.user_data.as_deref();
    let keys = &seed.authorized_keys;
    files.extend(documents(&seed.hostname, keys, None, user_data, &network));
    numbered(files)
}

/// The seed of a machine that starts from a cloud image.
pub fn target(seed: &TargetSeed) -> Vec<Entry> {
    // The MAC address decides, as it did for the reservation.
    let network = json!({
        "version": 2,
        "ethernets": {
            "lan0": {
                "match": { "macaddress": seed.mac },
                "dhcp4": true,
                "dhcp-identifier": "mac",
            },
        },
    });
    // In vendor-data: where the owner's user-data says something else, that holds.
    let vendor = json!({
        "fqdn": format!("{}.{}", seed.hostname, seed.domain),
        "hostname": seed.hostname,
        "manage_etc_hosts": true,
        "disable_root": false,
        "ssh_pwauth": false,
        "ssh_deletekeys": true,
        "ssh_keys": {
            "ed25519_private": line_end(&seed.host_key.private),
            "ed25519_public": seed.host_key.public.trim(),
        },
    });
    numbered(documents(
        &seed.hostname,
        &seed.authorized_keys,
        Some(&vendor),
        seed.user_data.as_deref(),
        &network,
    ))
}

/// NoCloud's documents; meta-data is still without its instance-id.
fn documents(
    hostname: &str,
    authorized_keys: &[String],
    vendor: Option<&Json>,
    user_data: Option<&str>,
    network: &Json,
) -> Vec<Entry> {
    let keys: Vec<&str> = authorized_keys.iter().map(|key| key.trim()).collect();
    let meta = json!({ "local-hostname": hostname, "public-keys": keys });
    let vendor = vendor.map_or_else(String::new, yaml::document);
    vec![
        Entry::text(META_DATA, 0o644, yaml::document(&meta)),
        Entry::text(
            "user-data",
            0o644,
            user_data.unwrap_or("#cloud-config\n{}\n"),
        ),
        Entry::text("vendor-data", 0o644, format!("#cloud-config\n{vendor}")),
        Entry::text("network-config", 0o644, yaml::document(network)),
    ]
}

const META_DATA: &str = "meta-data";

/// With an instance-id that is another for other files.
fn numbered(mut files: Vec<Entry>) -> Vec<Entry> {
    files.sort_by(|one, other| one.path.cmp(&other.path));
    let mut all = Vec::new();
    for file in &files {
        let Content::Octets(octets) = &file.content else {
            continue;
        };
        let head = format!(
            "{} {:o} {} {}\n",
            file.path,
            file.mode,
            file.owner,
            octets.len()
        );
        all.extend(head.into_bytes());
        all.extend(octets);
    }
    let id = format!("instance-id: iid-{}\n", &digest(&all)[..16]);
    for file in &mut files {
        if let (META_DATA, Content::Octets(octets)) = (file.path.as_str(), &mut file.content) {
            octets.splice(0..0, id.bytes());
        }
    }
    files
}

fn hosts(hostname: &str, domain: &str) -> String {
    format!(
        "127.0.0.1 localhost\n127.0.1.1 {hostname}.{domain} {hostname}\n::1 localhost ip6-localhost ip6-loopback\n"
    )
}

/// systemd.link(5): the name of the card with this address.
fn link(name: &str, mac: &str) -> String {
    format!("[Match]\nMACAddress={mac}\nType=ether\n\n[Link]\nName={name}\n")
}

fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| line_end(line)).collect()
}

/// Closed by exactly one line end: sshd takes no key without one.
fn line_end(text: &str) -> String {
    format!("{}\n", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> HostKey {
        HostKey {
            private: "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----"
                .to_owned(),
            public: "ssh-ed25519 AAAA host\n".to_owned(),
        }
    }

    fn provisioner_seed() -> ProvisionerSeed {
        ProvisionerSeed {
            hostname: "provisioner".to_owned(),
            domain: "lab.internal".to_owned(),
            wan_mac: "52:54:00:00:00:01".to_owned(),
            lan_mac: "52:54:00:00:00:02".to_owned(),
            lan_address: Ipv4Addr::new(198, 18, 0, 1),
            lan_prefix: 24,
            host_key: key(),
            authorized_keys: vec!["ssh-ed25519 BBBB me".to_owned()],
            config: "data_dir = \"/var/lib/bootjack\"\n".to_owned(),
            auth: vec![
                ("server.pem".to_owned(), "certificate".to_owned()),
                ("server.key".to_owned(), "key".to_owned()),
            ],
            user_data: None,
        }
    }

    fn content<'a>(files: &'a [Entry], path: &str) -> &'a str {
        let file = files.iter().find(|file| file.path == path);
        match &file.unwrap_or_else(|| panic!("no {path}")).content {
            Content::Octets(octets) => std::str::from_utf8(octets).unwrap(),
            Content::File { .. } => panic!("{path} is no text"),
        }
    }

    #[test]
    fn the_provisioner_knows_its_cards_by_their_addresses() {
        let files = provisioner(&provisioner_seed());
        assert_eq!(
            content(&files, "root/etc/systemd/network/10-lan0.link"),
            "[Match]\nMACAddress=52:54:00:00:00:02\nType=ether\n\n[Link]\nName=lan0\n"
        );
        assert_eq!(
            content(&files, "root/etc/systemd/network/10-lan0.network"),
            "[Match]\nMACAddress=52:54:00:00:00:02\n\n[Network]\nAddress=198.18.0.1/24\nConfigureWithoutCarrier=yes\nIPv6AcceptRA=no\n"
        );
        let network = content(&files, "network-config");
        for name in ["wan0", "lan0"] {
            assert!(
                network.contains(&format!("    set-name: {name}\n")),
                "{network}"
            );
        }
        assert_eq!(content(&files, "user-data"), "#cloud-config\n{}\n");
    }

    #[test]
    fn secrets_of_the_provisioner_are_their_users_alone() {
        let files = provisioner(&provisioner_seed());
        for (path, mode, owner) in [
            ("root/etc/ssh/ssh_host_ed25519_key", 0o600, 0),
            ("root/root/.ssh/authorized_keys", 0o600, 0),
            ("root/etc/bootjack/auth/server.key", 0o600, 65_532),
            ("root/etc/bootjack/auth/server.pem", 0o644, 65_532),
        ] {
            let file = files.iter().find(|file| file.path == path).unwrap();
            assert_eq!((file.mode, file.owner), (mode, owner), "{path}");
        }
        assert!(!format!("{:?}", provisioner_seed().host_key).contains("OPENSSH"));
    }

    #[test]
    fn a_changed_seed_is_another_instance_and_the_same_seed_is_the_same() {
        let id = |seed: &ProvisionerSeed| {
            let files = provisioner(seed);
            let meta = content(&files, META_DATA);
            let line = meta.lines().next().unwrap();
            line.strip_prefix("instance-id: ").unwrap().to_owned()
        };
        let (seed, mut changed) = (provisioner_seed(), provisioner_seed());
        changed.config.push('\n');
        assert_eq!(id(&seed), id(&provisioner_seed()));
        assert_ne!(id(&seed), id(&changed));
        assert_eq!(id(&seed).len(), "iid-0123456789abcdef".len());
    }

    #[test]
    fn a_target_is_given_its_keys_and_the_owners_user_data_as_it_is() {
        let mine = "#cloud-config\npackages: [vim]\n";
        let files = target(&TargetSeed {
            hostname: "edge".to_owned(),
            domain: "lab.internal".to_owned(),
            mac: "52:54:00:00:00:03".to_owned(),
            host_key: key(),
            authorized_keys: vec!["ssh-ed25519 BBBB me\n".to_owned()],
            user_data: Some(mine.to_owned()),
        });
        assert_eq!(content(&files, "user-data"), mine);
        let meta = content(&files, META_DATA);
        assert!(
            meta.ends_with("local-hostname: edge\npublic-keys:\n- ssh-ed25519 BBBB me\n"),
            "{meta}"
        );
        let vendor = content(&files, "vendor-data");
        assert!(vendor.starts_with("#cloud-config\n"), "{vendor}");
        assert!(vendor.contains("disable_root: false\n"), "{vendor}");
        assert!(vendor.contains("ed25519_private:"), "{vendor}");
        // cloud-init's schema has no empty lists of these, and with keys that are given none are made.
        assert!(!vendor.contains("ssh_genkeytypes"), "{vendor}");
        let network = content(&files, "network-config");
        assert!(
            network.contains("macaddress: \"52:54:00:00:00:03\""),
            "{network}"
        );
    }
}
