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
    /// It starts from a cloud image, and has to be made what it is.
    pub cloud: Option<CloudSeed>,
}

/// What makes a provisioner of a cloud image.
#[derive(Clone, Debug)]
pub struct CloudSeed {
    /// Paths without a slash in front, modes, texts.
    pub files: Vec<(&'static str, u32, &'static str)>,
    /// The script that lays them over, and starts what is to run.
    pub setup: &'static str,
    /// What an image of our own has on its kernel's command line.
    pub words: String,
    /// It waits at its gate to be frozen, or let through.
    pub has_gate: bool,
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
    let vendor = match &seed.cloud {
        None => {
            files.extend(own_network(seed));
            "#cloud-config\n".to_owned()
        }
        Some(cloud) => {
            files.extend(cloud_files(cloud));
            cloud_vendor_data(seed, cloud)
        }
    };
    let network = cloud_network(seed);
    let user_data = seed.user_data.as_deref();
    let keys = &seed.authorized_keys;
    files.extend(documents(&seed.hostname, keys, vendor, user_data, &network));
    numbered(files)
}

/// The network of an image of our own, where cloud-init has no say in it.
fn own_network(seed: &ProvisionerSeed) -> Vec<Entry> {
    vec![
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
    ]
}

/// What is laid over a cloud image, and what it knows by it.
fn cloud_files(cloud: &CloudSeed) -> Vec<Entry> {
    let words = format!("{}\n", cloud.words);
    let mut files = vec![Entry::text("root/etc/bootjack/cmdline", 0o644, words)];
    if cloud.has_gate {
        files.push(Entry::text("root/etc/bootjack/gate", 0o644, ""));
    }
    let over = cloud.files.iter();
    files.extend(over.map(|(path, mode, text)| Entry::text(&format!("root/{path}"), *mode, *text)));
    files
}

/// The cards of a cloud image.
fn cloud_network(seed: &ProvisionerSeed) -> Json {
    json!({
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
    })
}

/// Two documents in one (RFC 2046): how one logs in, before sshd starts, and the script. As vendor-data neither of them takes
/// anything from the owner's user-data, nor loses anything to it but what it says otherwise.
fn cloud_vendor_data(seed: &ProvisionerSeed, cloud: &CloudSeed) -> String {
    let config = yaml::document(&login(&seed.hostname, &seed.domain, &seed.host_key));
    let setup = cloud.setup;
    format!(
        "Content-Type: multipart/mixed; boundary=\"{BOUNDARY}\"\nMIME-Version: 1.0\n\n\
         --{BOUNDARY}\nContent-Type: text/cloud-config; charset=\"us-ascii\"\n\n#cloud-config\n{config}\n\
         --{BOUNDARY}\nContent-Type: text/x-shellscript; charset=\"us-ascii\"\n\n{setup}\n\
         --{BOUNDARY}--\n"
    )
}

const BOUNDARY: &str = "bootjack-part";

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
    let vendor = yaml::document(&login(&seed.hostname, &seed.domain, &seed.host_key));
    numbered(documents(
        &seed.hostname,
        &seed.authorized_keys,
        format!("#cloud-config\n{vendor}"),
        seed.user_data.as_deref(),
        &network,
    ))
}

/// Its name, and how one logs in: by keys, to a machine that is known by its own.
fn login(hostname: &str, domain: &str, host_key: &HostKey) -> Json {
    json!({
        "fqdn": format!("{hostname}.{domain}"),
        "hostname": hostname,
        "manage_etc_hosts": true,
        "disable_root": false,
        "ssh_pwauth": false,
        "ssh_deletekeys": true,
        "ssh_keys": {
            "ed25519_private": line_end(&host_key.private),
            "ed25519_public": host_key.public.trim(),
        },
    })
}

/// NoCloud's documents; meta-data is still without its instance-id.
fn documents(
    hostname: &str,
    authorized_keys: &[String],
    vendor: String,
    user_data: Option<&str>,
    network: &Json,
) -> Vec<Entry> {
    let keys: Vec<&str> = authorized_keys.iter().map(|key| key.trim()).collect();
    let meta = json!({ "local-hostname": hostname, "public-keys": keys });
    vec![
        Entry::text(META_DATA, 0o644, yaml::document(&meta)),
        Entry::text(
            "user-data",
            0o644,
            user_data.unwrap_or("#cloud-config\n{}\n"),
        ),
        Entry::text("vendor-data", 0o644, vendor),
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
            cloud: None,
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
    fn a_cloud_image_is_made_a_provisioner() {
        let seed = ProvisionerSeed {
            user_data: Some("#cloud-config\npackages: [vim]\n".to_owned()),
            cloud: Some(CloudSeed {
                files: vec![("usr/lib/bootjack/run", 0o755, "#!/bin/sh\nexec podman\n")],
                setup: "#!/bin/sh\nexit 0\n",
                words: "bootjack.container=abc:7".to_owned(),
                has_gate: true,
            }),
            ..provisioner_seed()
        };
        let files = provisioner(&seed);
        let script = files
            .iter()
            .find(|file| file.path.ends_with("bootjack/run"));
        assert_eq!(script.unwrap().mode, 0o755);
        assert_eq!(
            content(&files, "root/etc/bootjack/cmdline"),
            "bootjack.container=abc:7\n"
        );
        assert_eq!(content(&files, "root/etc/bootjack/gate"), "");
        // Its network is cloud-init's alone.
        let is_network = |file: &Entry| file.path.contains("systemd/network");
        assert!(!files.iter().any(is_network));
        assert_eq!(
            Some(content(&files, "user-data")),
            seed.user_data.as_deref()
        );
        let vendor = content(&files, "vendor-data");
        assert!(vendor.is_ascii());
        let parts: Vec<&str> = vendor.split("--bootjack-part").collect();
        let [head, config, setup, end] = parts.as_slice() else {
            panic!("{vendor}")
        };
        assert!(head.contains("boundary=\"bootjack-part\""), "{head}");
        assert!(
            config.contains("\n\n#cloud-config\ndisable_root: false\n"),
            "{config}"
        );
        assert!(
            setup.contains("x-shellscript") && setup.ends_with("\n\n#!/bin/sh\nexit 0\n\n"),
            "{setup}"
        );
        assert_eq!(*end, "--\n");
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
