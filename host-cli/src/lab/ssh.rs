//! Logging in to the lab's machines: keys of the lab's own, and a configuration for the ssh there is. In: the lab and where its
//! provisioner is reached. Out: text for `ssh -F`, `scp -F`, Ansible's and rsync's.
//!
//! Every machine is known by a host key that the lab made for it, so nothing is ever trusted at first sight.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::open::{Opened, make_private};
use super::paths::{LabPaths, PROVISIONER};
use super::{provisioner, switch};
use crate::exit::{Exit, Failure};
use crate::files::write_whole;
use crate::labfile::{Lab, ProvisionerKind};
use crate::process;

/// The lab's keys.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// The public key that logs in to every machine.
    pub public: String,
    /// Each machine's own private key, by its name; a secret.
    pub hosts: BTreeMap<String, String>,
    /// The public ones.
    pub known: BTreeMap<String, String>,
}

/// The keys of the lab, those that are not there yet being made.
pub async fn keys(opened: &Opened) -> Result<Keys, Failure> {
    let paths = &opened.paths;
    make_private(&paths.ssh().join("hosts"))?;
    let mut keys = Keys {
        public: pair(&paths.ssh_key()).await?.1,
        ..Keys::default()
    };
    for name in names(&opened.lab) {
        let (private, public) = pair(&paths.host_key(name)).await?;
        keys.hosts.insert(name.to_owned(), private);
        keys.known.insert(name.to_owned(), public);
    }
    let known = known_hosts(&opened.lab.name, &keys.known);
    write_whole(&paths.known_hosts(), known)?;
    Ok(keys)
}

fn names(lab: &Lab) -> impl Iterator<Item = &str> {
    let vms = lab.vms.iter().map(|vm| vm.name.as_str());
    vms.chain([PROVISIONER])
}

/// The two halves of a key, which is made if it is not there.
async fn pair(file: &Path) -> Result<(String, String), Failure> {
    let public = file.with_extension("pub");
    if !file.is_file() || !public.is_file() {
        // ssh-keygen asks before it writes over half a key.
        let _ = fs::remove_file(file);
        process::ssh_keygen(file).await?;
    }
    let read = |file: &Path| fs::read_to_string(file).map_err(Failure::io("read", file));
    Ok((read(file)?, read(&public)?.trim().to_owned()))
}

fn known_hosts(lab: &str, known: &BTreeMap<String, String>) -> String {
    let lines = known
        .iter()
        .map(|(name, key)| format!("{} {key}\n", alias(lab, name)));
    lines.collect()
}

/// What a machine is called in known_hosts, wherever it is reached.
fn alias(lab: &str, name: &str) -> String {
    format!("{name}.{lab}.bootjack")
}

/// Writes the configuration, as the ports are now; returns its file.
pub fn write(opened: &Opened) -> Result<String, Failure> {
    if !opened.paths.ssh_key().is_file() {
        let text = format!(
            "lab {} has no keys yet; bring it up first: bootjack up",
            opened.lab.name
        );
        return Err(Failure::new(Exit::Conflict, text));
    }
    let port = provisioner::ssh_port(opened);
    let program = switch::this_program()?;
    let text = config(&opened.lab, &opened.paths, port, &program);
    let file = opened.paths.ssh_config();
    write_whole(&file, text)?;
    Ok(file.display().to_string())
}

/// Text of the configuration. `port` is where the provisioner's ssh is on loopback, `bootjack` this program.
pub fn config(lab: &Lab, paths: &LabPaths, port: Option<u16>, bootjack: &Path) -> String {
    let mut text = format!(
        "# Made by bootjack for lab {}; changes are lost. Use it with: ssh -F THIS_FILE NAME\n",
        lab.name
    );
    if let (ProvisionerKind::Vm, Some(port)) = (lab.provisioner.kind, port) {
        text.push_str(&format!(
            "\nHost {PROVISIONER}\n  HostName 127.0.0.1\n  Port {port}\n  HostKeyAlias {}\n",
            alias(&lab.name, PROVISIONER)
        ));
    }
    let way = match lab.provisioner.kind {
        // Not ProxyJump, which would forget the file that all of this is from.
        ProvisionerKind::Vm => format!(
            "ssh -F {} -W [%h]:%p {PROVISIONER}",
            quoted(&paths.ssh_config())
        ),
        ProvisionerKind::Namespace => format!(
            "{} net dial --run {} %h %p",
            quoted(bootjack),
            quoted(paths.run())
        ),
    };
    for vm in &lab.vms {
        text.push_str(&format!(
            "\nHost {}\n  HostName {}\n  HostKeyAlias {}\n  ProxyCommand {way}\n",
            vm.name,
            vm.address,
            alias(&lab.name, &vm.name)
        ));
    }
    text.push_str(&format!(
        "\nHost *\n  User root\n  IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile /dev/null\n  \
         StrictHostKeyChecking yes\n  PasswordAuthentication no\n  ConnectTimeout 20\n  ServerAliveInterval 15\n  LogLevel ERROR\n",
        config_word(&paths.ssh_key()),
        config_word(&paths.known_hosts())
    ));
    text
}

/// A path for the shell that runs ProxyCommand, in which ssh takes a percent sign for one of its own.
fn quoted(path: &Path) -> String {
    crate::words::quoted(&path.display().to_string().replace('%', "%%"))
}

/// A path as a word of ssh_config(5).
fn config_word(path: &Path) -> String {
    let text = path.display().to_string().replace('%', "%%");
    match text.contains([' ', '\t', '#', '"']) {
        true => format!("\"{}\"", text.replace('"', "\\\"")),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::paths::Bases;

    fn lab(kind: &str) -> (Lab, LabPaths) {
        let text = format!(
            "version = 1\n[provisioner]\nkind = \"{kind}\"\n[[vm]]\nname = \"node-1\"\nprofile = \"x\"\n"
        );
        let lab = crate::labfile::read(&text, Path::new("/x/demo")).unwrap();
        let bases = Bases {
            state: "/home/me/my state".into(),
            run: "/run/b".into(),
            data: "/d".into(),
            images: "/d/images".into(),
        };
        let paths = bases.lab("demo");
        (lab, paths)
    }

    #[test]
    fn targets_are_reached_through_the_provisioner() {
        let (lab, paths) = lab("vm");
        let text = config(&lab, &paths, Some(40055), Path::new("/usr/bin/bootjack"));
        assert!(text.contains("\nHost provisioner\n  HostName 127.0.0.1\n  Port 40055\n"));
        assert!(text.contains("  HostName 198.18.0.10\n  HostKeyAlias node-1.demo.bootjack\n"));
        assert!(text.contains(
            "  ProxyCommand ssh -F '/home/me/my state/labs/demo/ssh/config' -W [%h]:%p provisioner\n"
        ));
        assert!(text.contains("  IdentityFile \"/home/me/my state/labs/demo/ssh/id_ed25519\"\n"));
        assert!(text.contains("StrictHostKeyChecking yes"));
    }

    #[test]
    fn a_namespace_is_dialled() {
        let (lab, paths) = lab("namespace");
        let text = config(&lab, &paths, None, Path::new("/usr/bin/bootjack"));
        assert!(!text.contains("Host provisioner"));
        assert!(
            text.contains("  ProxyCommand /usr/bin/bootjack net dial --run /run/b/"),
            "{text}"
        );
    }

    #[test]
    fn every_machine_is_known_by_its_own_key() {
        let known = [("a", "ssh-ed25519 AA a"), ("b", "ssh-ed25519 BB b")];
        let known = known.map(|(name, key)| (name.to_owned(), key.to_owned()));
        let text = known_hosts("demo", &BTreeMap::from(known));
        assert_eq!(
            text,
            "a.demo.bootjack ssh-ed25519 AA a\nb.demo.bootjack ssh-ed25519 BB b\n"
        );
    }
}
