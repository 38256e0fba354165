//! One of Kea's `reservations`.

use std::net::Ipv4Addr;

use bootjack_api::v1::Reservation;

use super::{Reader, is_empty};
use crate::options::{self, hex, unhex};
use crate::tree::{Fault, Node};
use crate::vars;
use crate::wanted;

impl Reader {
    /// Takes a reservation; one that cannot be read is malformed as a whole.
    pub(super) fn host(&mut self, node: &Node) {
        if let Err(fault) = self.host_of(node) {
            self.fault("reservation", &fault);
        }
    }

    fn host_of(&mut self, node: &Node) -> Result<(), Fault> {
        let mut r = Reservation::default();
        let mut boot_file = None;
        let mut boot_server = None;
        let mut left = Vec::new();
        for entry in node.map()? {
            let value = &entry.node;
            if is_empty(value) {
                continue;
            }
            let wrong = |problem: String| Fault::new(value.at, format!("{}: {problem}", entry.key));
            let (why, todo) = match entry.key.as_str() {
                "hw-address" => {
                    r.mac = wanted::mac(value.text()?).map_err(wrong)?;
                    continue;
                }
                "client-id" => {
                    r.client_ids.push(octets(value.text()?).map_err(wrong)?);
                    continue;
                }
                "circuit-id" => {
                    r.circuit_ids.push(octets(value.text()?).map_err(wrong)?);
                    continue;
                }
                "ip-address" => {
                    let text = value.text()?;
                    let address: Ipv4Addr = text
                        .parse()
                        .map_err(|_| wrong(format!("`{text}` is no IPv4 address")))?;
                    r.address = address.to_string();
                    continue;
                }
                "hostname" => {
                    r.hostname = value.text()?.trim_end_matches('.').to_owned();
                    continue;
                }
                "boot-file-name" => {
                    boot_file = Some(value.text()?);
                    continue;
                }
                "next-server" => {
                    boot_server = Some(value.text()?);
                    continue;
                }
                "option-data" => {
                    self.options_of(value, &mut r)?;
                    continue;
                }
                "user-context" | "comment" => (
                    "a reservation has labels and variables instead",
                    "give it labels: bootjack reservation update NAME --label KEY=VALUE",
                ),
                "duid" => (
                    "a DUID is known by the client-id that holds it (RFC 4361)",
                    "reserve it by that client-id: ff, four octets of IAID, the DUID",
                ),
                "flex-id" => (
                    "Bootjack has no expressions",
                    "reserve it by MAC, client-id, UUID or circuit-id",
                ),
                "client-classes" => (
                    "classes are rules of bootjackd.toml",
                    "write a [[class]], or a [[group]] that matches labels",
                ),
                "server-hostname" => ("machines fetch boot files from Bootjack itself", ""),
                "ip-addresses" | "prefixes" | "excluded-prefixes" => {
                    ("Bootjack gives IPv4 addresses", "")
                }
                other => {
                    return Err(Fault::new(
                        entry.at,
                        format!("`{other}` is no key of a reservation"),
                    ));
                }
            };
            left.push((entry.at, entry.key.clone(), why, todo));
        }
        let place = self.place(node.at);
        let who = match (r.hostname.as_str(), wanted::known_by(&r)) {
            ("", known_by) if known_by.is_empty() => "a reservation".to_owned(),
            ("", known_by) => known_by,
            (hostname, _) => hostname.to_owned(),
        };
        for (at, key, why, todo) in left {
            let place = self.place(at);
            self.out.leave(&place, format!("{who}: {key}"), why, todo);
        }
        match (boot_file, boot_server) {
            (Some(file), server) => self.out.boot_file(&place, &mut r, file, server),
            (None, Some(server)) => {
                let why = "machines fetch boot files from Bootjack itself";
                self.out
                    .leave(&place, format!("{who}: boot server {server}"), why, "");
            }
            (None, None) => {}
        }
        self.out.take(place, "", r);
        Ok(())
    }

    fn options_of(&mut self, node: &Node, r: &mut Reservation) -> Result<(), Fault> {
        for data in node.list()? {
            match self.option(data)? {
                Some((options::HOST_NAME, value)) if r.hostname.is_empty() => {
                    value
                        .as_str()
                        .unwrap_or_default()
                        .clone_into(&mut r.hostname);
                }
                Some((code, value)) => drop(
                    r.options
                        .insert(options::name_of(code), vars::from_json(value)),
                ),
                None => {}
            }
        }
        Ok(())
    }
}

/// Hexadecimal, or text in single quotes.
fn octets(text: &str) -> Result<String, String> {
    let quoted = text
        .strip_prefix('\'')
        .and_then(|text| text.strip_suffix('\''));
    let octets = match quoted {
        Some(text) => Some(text.as_bytes().to_vec()),
        None => unhex(&text.replace(' ', "")),
    };
    match octets.filter(|octets| !octets.is_empty()) {
        Some(octets) => Ok(hex(&octets)),
        None => Err(format!(
            "`{text}` is neither hexadecimal nor text in single quotes"
        )),
    }
}

#[cfg(test)]
mod tests {
    use crate::import::Imported;
    use crate::import::tests_support::Texts;

    fn found(reservations: &str) -> Imported {
        let text = format!("{{\"Dhcp4\": {{\"reservations\": [\n{reservations}\n]}}}}");
        super::super::read(&["k".to_owned()], &Texts::of(&[("k", &text)]))
    }

    #[test]
    fn a_reservation_keeps_its_identities_options_and_boot_file() {
        let found = found(
            r#"{"client-id": "01:52:54:00:00:00:01", "circuit-id": "'port 1'", "ip-address": "198.18.0.5", "hostname": "a.lab.internal.",
                "boot-file-name": "/grub.efi", "next-server": "198.18.0.9", "option-data": [{"name": "ntp-servers", "data": "198.18.0.1"}]}"#,
        );
        let r = &found.wanted[0].reservation;
        assert_eq!(
            (r.client_ids[0].as_str(), r.circuit_ids[0].as_str()),
            ("01:52:54:00:00:00:01", "70:6f:72:74:20:31")
        );
        assert_eq!(
            (r.hostname.as_str(), r.program.as_str(), r.name.as_str()),
            ("a.lab.internal", "/grub.efi", "reservations/a.lab.internal")
        );
        assert!(r.options.contains_key("ntp_servers"));
        assert_eq!(found.left[0].what, "boot server 198.18.0.9");
    }

    #[test]
    fn duids_and_expressions_stay_behind_and_broken_ones_are_malformed() {
        let found = found(
            "{\"duid\": \"01:02\", \"ip-address\": \"198.18.0.5\"},\n{\"flex-id\": \"'x'\"},\n{\"hw-address\": \"52:54:00\"},\n\
             {\"hw-address\": \"52:54:00:00:00:01\", \"ip-address\": \"2001:db8::1\"},\n{\"hw-adress\": \"52:54:00:00:00:01\"}",
        );
        assert!(found.wanted.is_empty());
        let told: Vec<(usize, bool)> = found
            .left
            .iter()
            .map(|left| (left.place.line, left.is_malformed))
            .collect();
        assert_eq!(
            told,
            [(2, false), (3, false), (4, true), (5, true), (6, true)]
        );
    }
}
