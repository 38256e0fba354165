//! Dnsmasq: its configuration with everything that it includes, hosts files, and `/etc/ethers`.
//!
//! Tags are resolved when all is read: an option for a tag that hosts set becomes an option of each of them, and of a tag that a
//! range sets, one of its subnet.

mod host;
mod line;
mod option;
mod other;
mod range;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bootjack_api::v1::Reservation;

use self::host::Host;
use self::line::Word;
use self::option::{Boot, TaggedOption};
use super::network::Subnet;
use super::{Files, Imported, beside, place};
use crate::wanted::{self, Place};

/// Reads each path: a configuration, a directory of them, a hosts file, or an ethers file.
pub fn read(paths: &[String], files: &dyn Files) -> Imported {
    let mut reader = Reader {
        files,
        out: Imported::default(),
        seen: HashSet::new(),
        hosts: Vec::new(),
        options: Vec::new(),
        boots: Vec::new(),
        depth: 0,
    };
    for path in paths {
        let start = place(&path.as_str().into(), 0);
        reader.path(&start, path, Guess::Yes);
    }
    reader.resolved().sorted()
}

/// What a file holds, or whether that is to be guessed from its lines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guess {
    Yes,
    Settings,
    Hosts,
    Options,
    Ethers,
}

struct Reader<'a> {
    files: &'a dyn Files,
    out: Imported,
    /// Files that were read: one that includes itself is read once.
    seen: HashSet<String>,
    hosts: Vec<Host>,
    options: Vec<TaggedOption>,
    boots: Vec<Boot>,
    depth: usize,
}

impl Reader<'_> {
    /// A file, or every file of a directory but those that editors leave behind.
    fn path(&mut self, from: &Place, path: &str, holds: Guess) {
        match self.files.list(path) {
            None => self.file(from, path, holds),
            Some(names) => self.directory(from, path, &names, holds, &|_| true),
        }
    }

    fn directory(
        &mut self,
        from: &Place,
        path: &str,
        names: &[String],
        holds: Guess,
        is_wanted: &dyn Fn(&str) -> bool,
    ) {
        for name in names {
            let is_left_behind = name.starts_with('.')
                || name.ends_with('~')
                || name.starts_with('#') && name.ends_with('#');
            if !is_left_behind && is_wanted(name) {
                let path = format!("{}/{name}", path.trim_end_matches('/'));
                self.file(from, &path, holds);
            }
        }
    }

    fn file(&mut self, from: &Place, path: &str, holds: Guess) {
        if !self.seen.insert(path.to_owned()) {
            return;
        }
        if self.depth > 16 {
            self.out
                .malformed(from, path, "files include each other more than 16 deep");
            return;
        }
        let text = match self.files.read(path) {
            Ok(text) => text,
            Err(problem) => {
                self.out.malformed(
                    from,
                    path,
                    format!("{problem}; a copy of another host's files is read with --root DIR"),
                );
                return;
            }
        };
        self.depth += 1;
        let holds = if holds == Guess::Yes {
            guess(path, &text)
        } else {
            holds
        };
        let file: Arc<str> = path.into();
        for (number, line) in text.lines().enumerate() {
            let place = place(&file, number + 1);
            match line::read(line) {
                Ok(word) if word.is_empty() => {}
                Ok(word) => self.line(&place, &word, holds),
                Err(problem) => self.out.malformed(&place, line.trim(), problem),
            }
        }
        self.depth -= 1;
    }

    fn line(&mut self, place: &Place, word: &Word, holds: Guess) {
        match holds {
            Guess::Hosts => self.host(place, word),
            Guess::Options => self.option(place, word),
            Guess::Ethers => self.ethers(place, &word.text()),
            Guess::Settings | Guess::Yes => {
                let (key, value) = word.setting();
                self.setting(place, &key, &value.unwrap_or_default());
            }
        }
    }

    fn setting(&mut self, place: &Place, key: &str, value: &Word) {
        let text = value.text();
        match key {
            "dhcp-host" => self.host(place, value),
            "dhcp-option" | "dhcp-option-force" => self.option(place, value),
            "dhcp-boot" => match option::boot(place, value) {
                Ok(boot) => self.boots.push(boot),
                Err(problem) => self
                    .out
                    .malformed(place, format!("dhcp-boot={text}"), problem),
            },
            "dhcp-range" => range::read(place, value, &mut self.out),
            "dhcp-hostsfile" | "dhcp-hostsdir" => {
                self.path(place, &beside(&place.file, &text), Guess::Hosts)
            }
            "dhcp-optsfile" | "dhcp-optsdir" => {
                self.path(place, &beside(&place.file, &text), Guess::Options)
            }
            "read-ethers" => self.file(place, "/etc/ethers", Guess::Ethers),
            "conf-file" => self.file(place, &beside(&place.file, &text), Guess::Settings),
            "conf-dir" => self.conf_dir(place, value),
            "domain" if !text.is_empty() && !text.contains(',') => {
                self.out
                    .network
                    .options
                    .entry(15)
                    .or_insert_with(|| text.into());
            }
            _ => other::read(place, key, &text, &mut self.out),
        }
    }

    /// `conf-dir=DIR,.bak` leaves out, `conf-dir=DIR,*.conf` takes alone.
    fn conf_dir(&mut self, place: &Place, value: &Word) {
        let parts: Vec<String> = value.parts().iter().map(Word::text).collect();
        let path = beside(&place.file, &parts[0]);
        let (only, but): (Vec<&String>, Vec<&String>) =
            parts[1..].iter().partition(|part| part.starts_with('*'));
        let is_wanted = |name: &str| {
            let ends = |suffix: &String| name.ends_with(suffix.trim_start_matches('*'));
            (only.is_empty() || only.iter().any(|suffix| ends(suffix)))
                && !but.iter().any(|suffix| ends(suffix))
        };
        match self.files.list(&path) {
            Some(names) => self.directory(place, &path, &names, Guess::Settings, &is_wanted),
            None => self.out.malformed(place, format!("conf-dir={path}"), "there is no such directory; a copy of another host's files is read with --root DIR"),
        }
    }

    fn host(&mut self, place: &Place, value: &Word) {
        self.hosts.extend(host::read(place, value, &mut self.out));
    }

    fn option(&mut self, place: &Place, value: &Word) {
        match option::read(place, value) {
            Ok(option) => self.options.push(option),
            Err(left) if left.is_malformed => {
                self.out
                    .malformed(place, format!("dhcp-option={}", value.text()), left.why)
            }
            Err(left) => self.out.leave(
                place,
                format!("dhcp-option={}", value.text()),
                left.why,
                left.todo,
            ),
        }
    }

    /// `MAC NAME` or `MAC ADDRESS`.
    fn ethers(&mut self, place: &Place, text: &str) {
        let mut words = text.split_whitespace();
        let (Some(mac), Some(name)) = (words.next(), words.next()) else {
            return self
                .out
                .malformed(place, text, "wanted a MAC and a name or address");
        };
        let mut reservation = Reservation::default();
        match wanted::mac(mac) {
            Ok(mac) => reservation.mac = mac,
            Err(problem) => return self.out.malformed(place, text, problem),
        }
        match name.parse::<std::net::Ipv4Addr>() {
            Ok(address) => reservation.address = address.to_string(),
            Err(_) => name.clone_into(&mut reservation.hostname),
        }
        let place = place.clone();
        self.hosts.push(Host {
            place,
            reservation,
            tags: Vec::new(),
        });
    }

    /// Gives everything its tags' meaning.
    fn resolved(mut self) -> Imported {
        let mut by_tag: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (at, host) in self.hosts.iter_mut().enumerate() {
            for tag in &host.tags {
                by_tag.entry(tag.clone()).or_default().push(at);
                let label = format!("dnsmasq/{tag}");
                match wanted::check_label(&label, "set") {
                    Ok(()) => drop(host.reservation.labels.insert(label, "set".to_owned())),
                    Err(problem) => self
                        .out
                        .leave(&host.place, format!("tag {tag}"), problem, ""),
                }
            }
        }
        for option in std::mem::take(&mut self.options) {
            let hosts = option.tags.first().and_then(|tag| by_tag.get(tag));
            match (option.tags.as_slice(), hosts) {
                ([], _) => drop(
                    self.out
                        .network
                        .options
                        .insert(option.code, option.value.clone()),
                ),
                ([_], Some(hosts)) => {
                    for at in hosts {
                        let reservation = &mut self.hosts[*at].reservation;
                        option.give_to(reservation);
                    }
                }
                ([tag], None) if self.is_of_subnet(tag) => {
                    for subnet in self
                        .out
                        .network
                        .subnets
                        .iter_mut()
                        .filter(|s| s.tag.as_ref() == Some(tag))
                    {
                        subnet.settings.insert(option.code, option.value.clone());
                    }
                }
                _ => self.out.leave(
                    &option.place,
                    option.what(),
                    "its tags are not those of hosts",
                    "write a [[class]] with these options in bootjackd.toml",
                ),
            }
        }
        for boot in std::mem::take(&mut self.boots) {
            match boot.tags.first().and_then(|tag| by_tag.get(tag)) {
                Some(hosts) if boot.tags.len() == 1 => {
                    for at in hosts {
                        let reservation = &mut self.hosts[*at].reservation;
                        self.out.boot_file(&boot.place, reservation, &boot.file, boot.server.as_deref());
                    }
                }
                _ => self.out.leave(
                    &boot.place,
                    format!("boot file {}", boot.file),
                    "Bootjack chooses the network boot program by architecture, and then boots the profile",
                    "nothing, or name a program in a [[class]]",
                ),
            }
        }
        for host in self.hosts {
            self.out.take(host.place, "", host.reservation);
        }
        self.out
    }

    fn is_of_subnet(&self, tag: &str) -> bool {
        let is_it = |subnet: &Subnet| subnet.tag.as_deref() == Some(tag);
        self.out.network.subnets.iter().any(is_it)
    }
}

/// A configuration has settings, a hosts file what stands behind `dhcp-host=`, an ethers file a MAC and a name.
fn guess(path: &str, text: &str) -> Guess {
    let mut lines = (text.lines())
        .filter_map(|line| line::read(line).ok())
        .filter(|word| !word.is_empty());
    let Some(first) = lines.next().map(|word| word.text()) else {
        return Guess::Settings;
    };
    let words: Vec<&str> = first.split_whitespace().collect();
    let begins_with_mac = words.first().is_some_and(|word| wanted::mac(word).is_ok());
    let key = first.split(['=', ' ']).next().unwrap_or_default();
    let is_key = key
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if begins_with_mac && words.len() > 1 || path.ends_with("/ethers") {
        Guess::Ethers
    } else if is_key && (first.contains('=') || !first.contains(',')) {
        Guess::Settings
    } else {
        Guess::Hosts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::tests_support::Texts;

    #[test]
    fn what_a_file_holds_is_seen_in_its_first_line() {
        for (text, holds) in [
            ("# c\ndhcp-range=198.18.0.1,198.18.0.9\n", Guess::Settings),
            ("read-ethers\n", Guess::Settings),
            ("52:54:00:00:00:01,198.18.0.9,node-1\n", Guess::Hosts),
            ("id:abc,198.18.0.9\n", Guess::Hosts),
            ("52:54:00:00:00:01 node-1\n", Guess::Ethers),
        ] {
            assert!(guess("x", text) == holds, "{text}");
        }
    }

    #[test]
    fn tags_of_hosts_and_ranges_are_resolved_over_all_files() {
        let texts = Texts::of(&[
            (
                "d.conf",
                "dhcp-option=tag:lab,option:ntp-server,198.18.0.5\ndhcp-option=tag:net1,3,198.18.0.1\ndhcp-boot=tag:lab,ipxe.efi\nconf-dir=d,.bak\nconf-file=d.conf\ndhcp-option=tag:other,3,198.18.0.1\n",
            ),
            (
                "d/hosts.conf",
                "dhcp-host=52:54:00:00:00:01,set:lab,node-1\ndhcp-range=set:net1,198.18.0.100,198.18.0.199,255.255.255.0,1h\n",
            ),
            ("d/old.bak", "dhcp-host=52:54:00:00:00:01,set:lab,node-9\n"),
        ]);
        let found = read(&["d.conf".to_owned()], &texts);
        let r = &found.wanted[0].reservation;
        assert_eq!(
            (found.wanted.len(), r.hostname.as_str(), r.program.as_str()),
            (1, "node-1", "ipxe")
        );
        assert_eq!(r.labels.keys().collect::<Vec<_>>(), ["dnsmasq/lab"]);
        assert!(r.options.contains_key("ntp_servers"));
        assert_eq!(
            found.network.subnets[0].settings[&3],
            serde_json::json!(["198.18.0.1"])
        );
        assert_eq!(found.left.len(), 1, "{:?}", found.left);
    }

    #[test]
    fn a_file_that_is_missing_makes_the_import_incomplete() {
        let texts = Texts::of(&[("d.conf", "dhcp-hostsfile=/etc/hosts.dnsmasq\n")]);
        let found = read(&["d.conf".to_owned()], &texts);
        assert!(found.left[0].is_malformed);
        assert_eq!(found.left[0].place.to_string(), "d.conf:1");
    }
}
