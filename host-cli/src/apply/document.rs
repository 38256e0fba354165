//! Files of reservations, YAML or JSON. In: a text. Out: reservations with their places, or every problem of it.
//!
//! ```yaml
//! reservations:               # or one reservation for each document, with `kind: reservation` if that is to be said
//! - id: node-1                # without it, the host name, or else the MAC
//!   mac: 52:54:00:00:00:01
//!   address: 198.18.0.10
//! ```
//!
//! A reservation of a file is the whole of it: what it does not say is empty.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bootjack_api::v1::Reservation;
use serde_json::Value as Json;

use super::fields::{self, FIELDS};
use crate::tree::{self, Dialect, Entry, Fault, Node, did_you_mean};
use crate::wanted::{self, COLLECTION, Place, Wanted};
use crate::yaml;

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub place: Place,
    /// Such as `reservations[3].mac`; empty: the file as a whole.
    pub field: String,
    pub message: String,
}

/// Keys that a listing shows and nobody can set.
const OUTPUT_ONLY: [&str; 6] = [
    "etag",
    "source",
    "create_time",
    "update_time",
    "operation",
    "name",
];

/// Reads a text; `file` is what it is called.
pub fn read(file: &str, text: &str) -> Result<Vec<Wanted>, Vec<Problem>> {
    let mut reader = Reader {
        file: file.into(),
        wanted: Vec::new(),
        problems: Vec::new(),
    };
    // JSON is YAML too, but for the tabs that it may be indented with.
    let is_json = text.trim_start().starts_with(['{', '[']);
    let documents = match is_json {
        true => tree::read_json(text, Dialect::Strict).map(|node| vec![node]),
        false => tree::read_yaml(text),
    };
    match documents {
        Ok(documents) => documents
            .iter()
            .for_each(|document| reader.document(document)),
        Err(fault) => reader.problem("", fault),
    }
    match reader.problems.is_empty() {
        true => Ok(reader.wanted),
        false => Err(reader.problems),
    }
}

/// Problems of reservations that are good each by itself: two of them want the same.
pub fn clashes(wanted: &[Wanted]) -> Vec<Problem> {
    let mut first: HashMap<(&'static str, String), &Wanted> = HashMap::new();
    let mut problems = Vec::new();
    for one in wanted {
        let mut keys = wanted::keys(&one.reservation);
        keys.push(("id", wanted::id(&one.reservation).to_owned()));
        for key in keys {
            let Some(other) = first.get(&key) else {
                first.insert(key, one);
                continue;
            };
            let (field, value) = key;
            problems.push(Problem {
                place: one.place.clone(),
                field: field.to_owned(),
                message: format!(
                    "{value} is {}'s too ({})",
                    wanted::id(&other.reservation),
                    other.place
                ),
            });
        }
    }
    problems
}

struct Reader {
    file: Arc<str>,
    wanted: Vec<Wanted>,
    problems: Vec<Problem>,
}

impl Reader {
    fn problem(&mut self, field: &str, fault: Fault) {
        let file = Arc::clone(&self.file);
        let line = fault.at.line;
        self.problems.push(Problem {
            place: Place { file, line },
            field: field.to_owned(),
            message: fault.message,
        });
    }

    /// A list of reservations, a map that holds such a list, or one reservation.
    fn document(&mut self, node: &Node) {
        if let Ok(list) = node.list() {
            return self.list("", list);
        }
        let entries = match node.map() {
            Ok(entries) => entries,
            Err(_) => {
                let text = format!(
                    "wanted `reservations:` and a list, or a reservation, got {}",
                    node.kind()
                );
                return self.problem("", Fault::new(node.at, text));
            }
        };
        match entries.iter().find(|entry| entry.key == "reservations") {
            None => self.reservation("", node),
            Some(_) => {
                for entry in entries {
                    self.section(entry);
                }
            }
        }
    }

    fn section(&mut self, entry: &Entry) {
        match entry.key.as_str() {
            "reservations" if entry.node.is_null() => {}
            "reservations" => match entry.node.list() {
                Ok(list) => self.list("reservations", list),
                Err(fault) => self.problem("reservations", fault),
            },
            other => {
                let text =
                    format!("unknown key beside reservations; did you mean to indent {other}?");
                self.problem(other, Fault::new(entry.at, text));
            }
        }
    }

    fn list(&mut self, field: &str, list: &[Node]) {
        for (at, node) in list.iter().enumerate() {
            self.reservation(&format!("{field}[{at}]"), node);
        }
    }

    fn reservation(&mut self, field: &str, node: &Node) {
        let entries = match node.map() {
            Ok(entries) => entries,
            Err(fault) => return self.problem(field, fault),
        };
        let before = self.problems.len();
        let mut r = Reservation::default();
        let mut id = None;
        for entry in entries {
            let path = match field {
                "" => entry.key.clone(),
                field => format!("{field}.{}", entry.key),
            };
            let said = match entry.key.as_str() {
                "id" => self::id(&entry.node).map(|said| id = Some(said)),
                "name" if id.is_none() => self::id(&entry.node).map(|said| id = Some(said)),
                "kind" => kind(&entry.node),
                key if FIELDS.contains(&key) => fields::set(&mut r, key, &entry.node),
                key if OUTPUT_ONLY.contains(&key) => Ok(()),
                key => Err(unknown(entry, key)),
            };
            if let Err(fault) = said {
                self.problem(&path, fault);
            }
        }
        if self.problems.len() > before {
            return;
        }
        if wanted::known_by(&r).is_empty() {
            let text =
                "it is known by nothing; give it a mac, or else client_ids, uuids or circuit_ids";
            return self.problem(field, Fault::new(node.at, text));
        }
        let id = id.unwrap_or_else(|| wanted::default_id(&r));
        if let Err(problem) = wanted::check_id(&id) {
            return self.problem(field, Fault::new(node.at, problem));
        }
        r.name = format!("{COLLECTION}{id}");
        let file = Arc::clone(&self.file);
        let line = node.at.line;
        let place = Place { file, line };
        self.wanted.push(Wanted {
            place,
            reservation: r,
        });
    }
}

fn id(node: &Node) -> Result<String, Fault> {
    let text = node.text()?;
    let id = text.strip_prefix(COLLECTION).unwrap_or(text);
    wanted::check_id(id).map_err(|problem| Fault::new(node.at, problem))?;
    Ok(id.to_owned())
}

fn kind(node: &Node) -> Result<(), Fault> {
    match node.text()? {
        "reservation" | "Reservation" => Ok(()),
        other => Err(Fault::new(
            node.at,
            format!("wanted reservation, got `{other}`"),
        )),
    }
}

fn unknown(entry: &Entry, key: &str) -> Fault {
    let known: Vec<&'static str> = FIELDS
        .into_iter()
        .chain(["id", "kind", "reservations"])
        .collect();
    let text = match did_you_mean(key, &known) {
        Some(known) => format!("unknown key; did you mean {known}?"),
        None => format!("unknown key; wanted some of: id, {}", FIELDS.join(", ")),
    };
    Fault::new(entry.at, text)
}

/// Reservations as a file that `read` reads.
pub fn write<'a>(reservations: impl IntoIterator<Item = &'a Reservation>) -> String {
    let mut out = String::from("reservations:\n");
    let mut is_empty = true;
    for r in reservations {
        is_empty = false;
        let mut one = String::new();
        yaml::entry(&mut one, 2, "id", &Json::from(wanted::id(r)));
        for field in FIELDS {
            match fields::get(r, field) {
                Json::Null => {}
                value => yaml::entry(&mut one, 2, field, &value),
            }
        }
        out.push_str("- ");
        out.push_str(one.trim_start());
    }
    match is_empty {
        true => "reservations: []\n".to_owned(),
        false => out,
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => write!(f, "{}: {}", self.place, self.message),
            field => write!(f, "{}: {field}: {}", self.place, self.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let problems = read("f", text).unwrap_err();
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_is_a_list_or_a_reservation_in_each_document() {
        let list = "reservations:\n- {id: a, mac: '52:54:00:00:00:01'}\n- {hostname: B, mac: '52:54:00:00:00:02'}\n";
        let documents = "kind: reservation\nid: a\nmac: 52:54:00:00:00:01\n---\nhostname: B\nmac: 52:54:00:00:00:02\n";
        let json = "{\n\t\"reservations\": [{\"id\": \"a\", \"mac\": \"52:54:00:00:00:01\", \"etag\": \"7\"},\n\t{\"hostname\": \"B\", \"mac\": \"525400000002\"}]\n}";
        for (text, line) in [(list, 3), (documents, 5), (json, 3)] {
            let wanted = read("f", text).unwrap();
            let names: Vec<&str> = wanted.iter().map(|w| w.reservation.name.as_str()).collect();
            assert_eq!(names, ["reservations/a", "reservations/b"], "{text}");
            assert_eq!(wanted[1].place.line, line, "{text}");
        }
        assert_eq!(read("f", "reservations: []\n").unwrap(), []);
        assert_eq!(read("f", "# nothing\n").unwrap(), []);
    }

    #[test]
    fn every_problem_is_told_at_once_with_line_and_field() {
        let text = "reservations:\n- mca: 52:54:00:00:00:01\n- mac: 52:54\n  adress: 198.18.0.1\n- id: a\n- mac: 52:54:00:00:00:01\n  id: A B\n";
        assert_eq!(
            problems(text),
            [
                "f:2: reservations[0].mca: unknown key; did you mean mac?",
                "f:3: reservations[1].mac: `52:54` is not a MAC address; write it like 52:54:00:00:00:01",
                "f:4: reservations[1].adress: unknown key; did you mean address?",
                "f:5: reservations[2]: it is known by nothing; give it a mac, or else client_ids, uuids or circuit_ids",
                "f:7: reservations[3].id: `A B` is not a reservation id; use 1 to 253 of a-z 0-9 . -",
            ]
        );
        assert_eq!(
            problems("just text\n"),
            ["f:1: wanted `reservations:` and a list, or a reservation, got text"]
        );
        assert_eq!(
            problems("kind: Deployment\nmac: 52:54:00:00:00:01\n"),
            ["f:1: kind: wanted reservation, got `Deployment`"]
        );
    }

    #[test]
    fn two_that_want_the_same_clash() {
        let text = "reservations:\n- {id: a, mac: '52:54:00:00:00:01', address: 198.18.0.1}\n- {id: b, mac: '52-54-00-00-00-01', address: 198.18.0.1}\n";
        let wanted = read("f", text).unwrap();
        let clashes: Vec<String> = clashes(&wanted).iter().map(ToString::to_string).collect();
        assert_eq!(
            clashes,
            [
                "f:3: mac: 52:54:00:00:00:01 is a's too (f:2)",
                "f:3: address: 198.18.0.1 is a's too (f:2)"
            ]
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text = "reservations:\n- id: node-1\n  mac: \"52:54:00:00:00:01\"\n  macs:\n  - \"52:54:00:00:00:02\"\n  address: 198.18.0.10\n  \
                    hostname: node-1\n  labels:\n    rack: \"1\"\n  vars:\n    on: \"no\"\n    script: |\n      #!/bin/sh\n      exit 0\n  options:\n    interface_mtu: 9000\n  program: ipxe\n";
        let wanted = read("f", text).unwrap();
        let written = write(wanted.iter().map(|w| &w.reservation));
        let again = read("f", &written).unwrap();
        assert_eq!(wanted[0].reservation, again[0].reservation);
        assert_eq!(written.replace("\"on\":", "on:"), text);
        assert_eq!(write(&[]), "reservations: []\n");
    }
}
