//! `host NAME { … }`.

use std::net::Ipv4Addr;

use bootjack_api::v1::Reservation;

use super::syntax::{Statement, Word};
use super::{Located, Reader, Scope, option};
use crate::import::place;
use crate::options::{self, hex, unhex};
use crate::vars;
use crate::wanted::{self, Place};

impl Reader<'_> {
    /// Takes the host; one of its lines that cannot be read keeps it back.
    pub(super) fn host(&mut self, at: &Place, name: &str, body: Vec<Located>, scope: &Scope) {
        let mut host = Host {
            boot_file: scope.boot_file.clone(),
            boot_server: scope.boot_server.clone(),
            ..Host::default()
        };
        let r = &mut host.reservation;
        r.options = (scope.options.iter())
            .map(|(code, value)| (options::name_of(*code), vars::from_json(value.clone())))
            .collect();
        if let Some(host_name) = r.options.remove("host_name").or_else(|| {
            scope
                .uses_declared_names
                .then(|| vars::from_json(name.into()))
        }) {
            r.hostname = vars::to_json(&host_name)
                .as_str()
                .unwrap_or_default()
                .to_owned();
        }
        for Located { file, statement } in body {
            let place = place(&file, statement.line);
            self.line(&place, name, &statement, &mut host);
        }
        if host.is_broken {
            return;
        }
        let mut reservation = host.reservation;
        if let Some(file) = host.boot_file {
            self.out
                .boot_file(at, &mut reservation, &file, host.boot_server.as_deref());
        }
        self.out.take(at.clone(), name, reservation);
    }

    fn line(&mut self, place: &Place, name: &str, statement: &Statement, host: &mut Host) {
        let shown = format!("host {name}: {}", statement.shown());
        let read = match statement.word(0) {
            "hardware" => host.hardware(statement),
            "fixed-address" => host.addresses(statement),
            "uid" => host.client_id(statement.words.get(1)),
            "filename" => {
                host.boot_file = Some(statement.word(1).to_owned());
                Ok(())
            }
            "next-server" => {
                host.boot_server = Some(statement.word(1).to_owned());
                Ok(())
            }
            "option" if statement.word(1) == "dhcp-client-identifier" => {
                host.client_id(statement.words.get(2))
            }
            "option" => {
                match option::read(statement, &mut self.defined) {
                    Ok(Some((code, value))) => host.option(code, value),
                    Ok(None) => {}
                    Err(why) => {
                        let malformed = self.out.left.len();
                        why.tell(place, statement, &mut self.out);
                        host.is_broken |= self.out.left[malformed..]
                            .iter()
                            .any(|left| left.is_malformed);
                    }
                }
                Ok(())
            }
            "host-identifier" => host.identifier(statement),
            "ddns-hostname" | "ddns-domainname" | "dynamic" => {
                self.out.unrelated += 1;
                Ok(())
            }
            "deny" | "ignore" | "allow" => Err(Why::Left(
                "what a client may do is not said per machine",
                "hold it: bootjack machine hold NAME",
            )),
            "server-name" => Err(Why::Left(
                "machines fetch boot files from Bootjack itself",
                "",
            )),
            "default-lease-time" | "max-lease-time" | "min-lease-time" => Err(Why::Left(
                "lease times are of subnets and classes",
                "set lease_time there",
            )),
            "fixed-address6" | "fixed-prefix6" => {
                Err(Why::Left("Bootjack gives IPv4 addresses", ""))
            }
            "if" | "elsif" | "else" => Err(Why::Left(
                "Bootjack has no expressions, so what is in these braces holds for nobody",
                "write what it comes to",
            )),
            "deleted" => Err(Why::Left("it is deleted", "")),
            _ => Err(Why::Left("it has no counterpart", "")),
        };
        match read {
            Ok(()) => {}
            Err(Why::Left(why, todo)) => self.out.leave(place, shown, why, todo),
            Err(Why::LeftAs(why, todo)) => self.out.leave(place, shown, why, todo),
            Err(Why::Malformed(why)) => {
                host.is_broken = true;
                self.out.malformed(place, shown, why);
            }
        }
    }
}

/// A host, as far as it is read.
#[derive(Debug, Default)]
struct Host {
    reservation: Reservation,
    boot_file: Option<String>,
    boot_server: Option<String>,
    is_broken: bool,
}

/// Why a line of a host does not come over.
enum Why {
    Left(&'static str, &'static str),
    LeftAs(String, String),
    Malformed(String),
}

impl Host {
    fn hardware(&mut self, statement: &Statement) -> Result<(), Why> {
        if statement.word(1) != "ethernet" {
            return Err(Why::Left(
                "it is no Ethernet card",
                "reserve it by its client-id",
            ));
        }
        let mac = wanted::mac(statement.word(2)).map_err(Why::Malformed)?;
        match self.reservation.mac.is_empty() {
            true => self.reservation.mac = mac,
            false => self.reservation.macs.push(mac),
        }
        Ok(())
    }

    /// Dhcpd takes the address that fits where the client is; a reservation has one.
    fn addresses(&mut self, statement: &Statement) -> Result<(), Why> {
        let values = statement.values(1);
        let first = values
            .first()
            .ok_or_else(|| Why::Malformed("it has no address".to_owned()))?;
        if let Some(name) = values
            .iter()
            .find(|value| value.parse::<Ipv4Addr>().is_err())
        {
            let is_name = wanted::check_hostname(name).is_ok()
                && name.chars().any(|c| c.is_ascii_alphabetic());
            return Err(match is_name {
                true => Why::Left(
                    "dhcpd asks DNS for it when it starts; without it the machine gets an address from a pool",
                    "write the address",
                ),
                false => Why::Malformed(format!("`{name}` is no IPv4 address")),
            });
        }
        self.reservation.address.clone_from(first);
        match &values[1..] {
            [] => Ok(()),
            others => Err(Why::LeftAs(
                format!(
                    "a reservation has one address: {first} came over, {} did not",
                    others.join(", ")
                ),
                "reserve its other cards by their own MACs".to_owned(),
            )),
        }
    }

    fn client_id(&mut self, word: Option<&Word>) -> Result<(), Why> {
        let octets = match word {
            Some(Word::Quoted(text)) if !text.is_empty() => {
                text.chars().map(|c| u8::try_from(c).ok()).collect()
            }
            Some(Word::Bare(text)) => unhex(text),
            _ => None,
        };
        let octets: Vec<u8> = octets.ok_or_else(|| {
            Why::Malformed("it is neither hexadecimal nor text in quotes".to_owned())
        })?;
        self.reservation.client_ids.push(hex(&octets));
        Ok(())
    }

    /// `host-identifier option agent.circuit-id VALUE`.
    fn identifier(&mut self, statement: &Statement) -> Result<(), Why> {
        let octets = match statement.words.get(3) {
            Some(Word::Quoted(text)) => Some(text.clone().into_bytes()),
            Some(Word::Bare(text)) => unhex(text),
            _ => None,
        };
        let octets = octets.filter(|octets| !octets.is_empty());
        let octets = octets.ok_or_else(|| {
            Why::Malformed("it is neither hexadecimal nor text in quotes".to_owned())
        })?;
        match statement.word(2) {
            "agent.circuit-id" => self.reservation.circuit_ids.push(hex(&octets)),
            "dhcp-client-identifier" => self.reservation.client_ids.push(hex(&octets)),
            _ => {
                return Err(Why::Left(
                    "Bootjack knows machines by MAC, client-id, UUID and circuit-id",
                    "reserve it by one of these",
                ));
            }
        }
        Ok(())
    }

    fn option(&mut self, code: u8, value: serde_json::Value) {
        match (code, value.as_str()) {
            (options::HOST_NAME, Some(name)) => name.clone_into(&mut self.reservation.hostname),
            _ => drop(
                self.reservation
                    .options
                    .insert(options::name_of(code), vars::from_json(value)),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::import::Imported;
    use crate::import::tests_support::Texts;

    fn found(text: &str) -> Imported {
        super::super::read(&["d".to_owned()], &Texts::of(&[("d", text)]))
    }

    #[test]
    fn a_host_keeps_what_a_reservation_has() {
        let found = found(
            "use-host-decl-names on;\nhost Web_1 {\n hardware ethernet 52:54:0:0:0:1;\n fixed-address 198.18.0.10;\n \
             option host-name \"web-1\";\n option dhcp-client-identifier \"abc\";\n host-identifier option agent.circuit-id \"p1\";\n}\n\
             host b { hardware ethernet 52:54:00:00:00:02; }\n",
        );
        assert!(found.left.is_empty(), "{:?}", found.left);
        let r = &found.wanted[0].reservation;
        assert_eq!(
            (r.name.as_str(), r.mac.as_str(), r.hostname.as_str()),
            ("reservations/web-1", "52:54:00:00:00:01", "web-1")
        );
        assert_eq!(
            (r.client_ids[0].as_str(), r.circuit_ids[0].as_str()),
            ("61:62:63", "70:31")
        );
        assert_eq!(found.wanted[1].reservation.hostname, "b");
    }

    #[test]
    fn what_a_reservation_has_not_stays_behind() {
        let found = found(
            "host a { hardware ethernet 52:54:00:00:00:01; fixed-address 198.18.0.1, 198.19.0.1; }\n\
             host b { hardware ethernet 52:54:00:00:00:02; fixed-address b.lab.internal; }\n\
             host c { hardware token-ring 52:54:00:00:00:03; }\n\
             host d { hardware ethernet 52:54:00:00:00:04; deny booting; if known { option routers 1.2.3.4; } }\n",
        );
        assert_eq!(found.wanted.len(), 3);
        assert_eq!(found.wanted[0].reservation.address, "198.18.0.1");
        assert_eq!(found.wanted[1].reservation.address, "");
        let lines: Vec<usize> = found.left.iter().map(|left| left.place.line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 4], "{:?}", found.left);
        assert!(found.left.iter().all(|left| !left.is_malformed));
    }

    #[test]
    fn a_host_with_a_line_that_cannot_be_read_is_not_taken_in_part() {
        let found =
            found("host a {\n hardware ethernet 52:54:00;\n fixed-address 198.18.0.1;\n}\n");
        assert!(found.wanted.is_empty());
        assert!(found.left[0].is_malformed && found.left[0].place.line == 2);
    }
}
