//! Reservations out of other servers' files.
//!
//! In: text, and whatever it includes. Out: the reservations, what did not come over and why, and the subnets as bootjackd.toml
//! would have them. Each parser is a function of texts alone; it asks `Files` for them.

pub mod dnsmasq;
pub mod files;
pub mod isc;
pub mod kea;
pub mod network;
pub mod pvmlab;

use std::collections::HashMap;
use std::sync::Arc;

use bootjack_api::v1::Reservation;

use self::network::Network;
use crate::wanted::{self, COLLECTION, Place, Wanted};

/// What an import found.
#[derive(Debug, Default)]
pub struct Imported {
    pub wanted: Vec<Wanted>,
    pub left: Vec<Left>,
    pub network: Network,
    /// Settings that say nothing of DHCP.
    pub unrelated: usize,
    /// Identities that came over, and whose they are.
    taken: HashMap<(&'static str, String), Place>,
}

/// Something that did not come over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    pub place: Place,
    pub what: String,
    pub why: String,
    /// What to do instead; empty: nothing.
    pub todo: String,
    /// It cannot be read, so that nobody knows what it means.
    pub is_malformed: bool,
}

/// Network boot programs that Bootjack brings itself, for every architecture.
const OWN_PROGRAMS: [&str; 3] = ["undionly", "snponly", "ipxe"];

/// Where texts come from.
pub trait Files {
    fn read(&self, path: &str) -> Result<String, String>;
    /// The names in a directory, in order; `None` if it is none.
    fn list(&self, path: &str) -> Option<Vec<String>>;
}

impl Imported {
    pub fn leave(
        &mut self,
        place: &Place,
        what: impl Into<String>,
        why: impl Into<String>,
        todo: impl Into<String>,
    ) {
        self.left.push(Left {
            place: place.clone(),
            what: what.into(),
            why: why.into(),
            todo: todo.into(),
            is_malformed: false,
        });
    }

    /// Something that cannot be read.
    pub fn malformed(&mut self, place: &Place, what: impl Into<String>, why: impl Into<String>) {
        self.left.push(Left {
            place: place.clone(),
            what: what.into(),
            why: why.into(),
            todo: "mend the line, or leave it out with --skip-invalid".to_owned(),
            is_malformed: true,
        });
    }

    /// Takes a reservation; `name` is what its file calls it, or empty. A second one of the same identity stays behind.
    pub fn take(&mut self, place: Place, name: &str, mut reservation: Reservation) {
        if wanted::known_by(&reservation).is_empty() {
            // Why it has none was told a line before.
            if self.left.last().is_some_and(|left| left.place == place) {
                return;
            }
            let what = if name.is_empty() { "a host" } else { name };
            self.leave(
                &place,
                what,
                "it has nothing that Bootjack knows a machine by: a MAC, client-id or circuit-id",
                "bootjack reservation create --mac MAC …",
            );
            return;
        }
        if let Err(problem) = wanted::check_hostname(&reservation.hostname)
            && !reservation.hostname.is_empty()
        {
            let hostname = std::mem::take(&mut reservation.hostname);
            self.leave(
                &place,
                format!("host name {hostname}"),
                problem,
                "give it another with: bootjack reservation update",
            );
        }
        let wished = if name.is_empty() {
            wanted::default_id(&reservation)
        } else {
            name.to_owned()
        };
        let id = as_id(&wished);
        let mut keys = wanted::keys(&reservation);
        keys.push(("id", id.clone()));
        if let Some((key, first)) = keys
            .iter()
            .find_map(|key| Some((key, self.taken.get(key)?)))
        {
            let (field, value) = key;
            let why = format!(
                "{field} {value} is used in {first} already; a machine has one reservation, and an address one machine"
            );
            self.leave(
                &place,
                wished,
                why,
                "keep one of them, or give it as another identity (macs, client_ids)",
            );
            return;
        }
        self.taken
            .extend(keys.into_iter().map(|key| (key, place.clone())));
        reservation.name = format!("{COLLECTION}{id}");
        self.wanted.push(Wanted { place, reservation });
    }

    /// One machine's boot file, and the server it is fetched from now.
    fn boot_file(&mut self, place: &Place, r: &mut Reservation, file: &str, server: Option<&str>) {
        match program(file) {
            Err(problem) => self.leave(place, "boot file", problem, ""),
            Ok(program) => {
                let is_own = OWN_PROGRAMS.contains(&program.as_str()) || program.contains("://");
                if let Some(server) = server.filter(|_| !is_own) {
                    let why = "machines fetch boot files from Bootjack itself";
                    self.leave(
                        place,
                        format!("boot server {server}"),
                        why,
                        format!("copy {program} below tftp.root"),
                    );
                }
                r.program = program;
            }
        }
    }

    /// In the order of the files, whatever order they were understood in.
    pub fn sorted(mut self) -> Self {
        self.left.sort_by(|a, b| a.place.cmp(&b.place));
        self
    }
}

/// A name as an id: what is not of ids becomes a hyphen.
fn as_id(name: &str) -> String {
    let of_id = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_alphanumeric() || c == '-' || c == '.' => c,
        _ => '-',
    };
    let id: String = name.chars().map(of_id).take(253).collect();
    match id.is_empty() {
        true => "unnamed".to_owned(),
        false => id,
    }
}

/// The directory that a file is in, with its slash; empty for one without.
fn directory(file: &str) -> &str {
    file.rfind('/').map_or("", |at| &file[..=at])
}

/// A path that `file` names: relative ones are beside it.
fn beside(file: &str, path: &str) -> String {
    match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{}{path}", directory(file)),
    }
}

fn place(file: &Arc<str>, line: usize) -> Place {
    Place {
        file: Arc::clone(file),
        line,
    }
}

/// The program that a boot file stands for: one of Bootjack's own by its word, any other by its name.
fn program(file: &str) -> Result<String, String> {
    let name = file.rsplit('/').next().unwrap_or(file);
    let stem = name.split(['.', '-']).next().unwrap_or(name);
    let program = match OWN_PROGRAMS.contains(&stem) && !file.contains("://") {
        true => stem,
        false => file,
    };
    match program.is_empty() || program.contains(char::is_whitespace) || program.len() > 255 {
        true => Err(format!("`{program}` is no name of a boot file")),
        false => Ok(program.to_owned()),
    }
}

#[cfg(test)]
mod tests_support {
    use std::collections::BTreeMap;

    /// Texts that stand for files.
    pub struct Texts(BTreeMap<String, String>);

    impl Texts {
        pub fn of(files: &[(&str, &str)]) -> Self {
            let owned = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
            Self(files.iter().map(owned).collect())
        }
    }

    impl super::Files for Texts {
        fn read(&self, path: &str) -> Result<String, String> {
            self.0
                .get(path)
                .cloned()
                .ok_or_else(|| format!("cannot read {path}: no such file or directory"))
        }

        fn list(&self, path: &str) -> Option<Vec<String>> {
            let names: Vec<String> = (self.0.keys())
                .filter_map(|file| file.strip_prefix(path)?.strip_prefix('/'))
                .map(str::to_owned)
                .collect();
            (!names.is_empty()).then_some(names)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_files_become_programs() {
        for (file, program_is) in [
            ("undionly.kpxe", "undionly"),
            ("/efi/snponly-arm64.efi", "snponly"),
            ("pxelinux.0", "pxelinux.0"),
            ("http://198.18.0.9/ipxe.efi", "http://198.18.0.9/ipxe.efi"),
        ] {
            assert_eq!(program(file).as_deref(), Ok(program_is));
        }
        assert!(program("a b").is_err());
    }

    #[test]
    fn the_second_of_two_with_one_identity_stays_behind() {
        let mut imported = Imported::default();
        let file: Arc<str> = "hosts".into();
        let with = |mac: &str| Reservation {
            mac: mac.into(),
            ..Reservation::default()
        };
        imported.take(place(&file, 1), "Node_1", with("52:54:00:00:00:01"));
        imported.take(place(&file, 2), "node-2", with("52:54:00:00:00:01"));
        imported.take(place(&file, 3), "", Reservation::default());
        assert_eq!(imported.wanted.len(), 1);
        assert_eq!(imported.wanted[0].reservation.name, "reservations/node-1");
        let why: Vec<&str> = imported.left.iter().map(|left| left.why.as_str()).collect();
        assert!(
            why[0].starts_with("mac 52:54:00:00:00:01 is used in hosts:1 already"),
            "{why:?}"
        );
        assert!(why[1].starts_with("it has nothing"), "{why:?}");
    }

    /// Files that are there are read by people and broken by people: whatever stands in them, a reader ends and says something.
    #[test]
    fn no_text_is_too_broken_to_be_read() {
        type Reads = fn(&[String], &dyn Files) -> Imported;
        const SAMPLES: [(&str, Reads, &str); 5] = [
            (
                "d.conf",
                dnsmasq::read,
                include_str!("../../tests/import/dnsmasq/dnsmasq.conf"),
            ),
            (
                "hosts",
                dnsmasq::read,
                include_str!("../../tests/import/dnsmasq/dnsmasq.hosts"),
            ),
            (
                "dhcpd.conf",
                isc::read,
                include_str!("../../tests/import/isc/dhcpd.conf"),
            ),
            (
                "kea.conf",
                kea::read,
                include_str!("../../tests/import/kea/reservations.json"),
            ),
            (
                "vm.json",
                pvmlab::read,
                include_str!("../../tests/import/pvmlab/vms/node-1.json"),
            ),
        ];
        // A row of numbers that is the same every time.
        let mut state = 1_u64;
        let mut next = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            usize::try_from(state >> 33).unwrap() % below
        };
        for (name, read, sample) in SAMPLES {
            for _ in 0..400 {
                let mut letters: Vec<char> = match name {
                    "kea.conf" => format!("{{\"Dhcp4\": {{\"reservations\": {sample}}}}}")
                        .chars()
                        .collect(),
                    _ => sample.chars().collect(),
                };
                for _ in 0..=next(4) {
                    if letters.is_empty() {
                        break;
                    }
                    let at = next(letters.len());
                    let strange = [
                        '"', '\'', '{', '}', ';', ',', '=', ':', '#', '\\', '\n', ' ', '*', 'é',
                        '\0',
                    ];
                    match next(3) {
                        0 => letters[at] = strange[next(strange.len())],
                        1 => drop(letters.remove(at)),
                        _ => letters.truncate(at.max(1)),
                    }
                }
                let text: String = letters.into_iter().collect();
                let found = read(
                    &[name.to_owned()],
                    &tests_support::Texts::of(&[(name, &text)]),
                );
                let is_something =
                    !found.wanted.is_empty() || !found.left.is_empty() || found.unrelated > 0;
                assert!(
                    is_something || text.trim().len() < 80,
                    "{name}: nothing is said of {text}"
                );
            }
        }
    }
}
