//! `[[reservation]]`: machines that the file knows. They are held against each other, their subnets and profiles as those of the
//! API are, by the catalog.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::groups::read_labels;
use super::layers::{read_local_boot, read_options, read_program};
use super::reader::{At, Section};
use crate::catalog::{Catalog, Change, Refusal, Settings};
use crate::model::{Group, MacAddr, Octets, Profile, Reservation, Source, Subnet, Uuid, Vars};

pub(super) fn read_reservations(
    root: &mut Section,
    subnets: &[At<Subnet>],
    (vars, groups): (&Vars, &[Group]),
    profiles: Option<&BTreeMap<String, Profile>>,
) -> Vec<At<Reservation>> {
    let subnets = subnets.iter().map(|at| at.value.clone()).collect();
    let mut catalog = Catalog::new(Settings {
        subnets,
        profiles: profiles.cloned().unwrap_or_default(),
        vars: vars.clone(),
        // A group's profile that does not exist was reported there.
        groups: (groups.iter().cloned())
            .map(|mut group| {
                let exists = |name: &String| profiles.is_some_and(|all| all.contains_key(name));
                group.profile = group.profile.filter(exists);
                group
            })
            .collect(),
        ..Settings::default()
    });
    let mut reservations = Vec::new();
    for mut section in root.sections("reservation") {
        let line = section.line();
        let Some((reservation, lines)) = read_reservation(&mut section) else {
            continue;
        };
        let mut checked = reservation.clone();
        if profiles.is_none() {
            checked.profile = None;
        }
        match catalog.with(&Change::Create(checked)) {
            Ok(next) => catalog = next,
            Err(refusal) => {
                let (key, text) = problem_of(&refusal);
                section.report(lines.get(key).copied().unwrap_or(line), key, text);
            }
        }
        reservations.push(At {
            line,
            value: reservation,
        });
    }
    reservations
}

/// The refusal as a problem of one key: the place already says which reservation it is.
fn problem_of(refusal: &Refusal) -> (&'static str, String) {
    match refusal {
        Refusal::Invalid { field, problem, .. } => {
            let text = problem
                .strip_prefix(field)
                .map_or(problem.as_str(), str::trim_start);
            // The API has the id beside the reservation, the file in it.
            let key = if *field == "reservation_id" {
                "id"
            } else {
                field
            };
            (key, text.to_owned())
        }
        Refusal::Taken {
            field,
            value,
            owner,
            ..
        } => (*field, format!("{value} already belongs to {owner}")),
        other => ("mac", other.to_string()),
    }
}

type Lines = BTreeMap<&'static str, usize>;

fn read_reservation(section: &mut Section) -> Option<(Reservation, Lines)> {
    let mut lines = Lines::new();
    let has_mac = section.has("mac");
    let mac = section.parsed::<MacAddr>("mac", "52:54:00:00:00:01");
    let address = section.parsed::<Ipv4Addr>("address", "198.18.0.10");
    let hostname = section.text("hostname");
    let profile = section.text("profile");
    let id = section.text("id");
    let macs = section.all_parsed::<MacAddr>("macs", "52:54:00:00:00:01");
    let uuids = section.all_parsed::<Uuid>("uuids", "6ba7b810-9dad-11d1-80b4-00c04fd430c8");
    let client_ids = read_octets(section, "client_ids");
    let circuit_ids = read_octets(section, "circuit_ids");
    let mut reservation = Reservation::of(String::new(), Source::ConfigFile);
    for key in ["vars", "labels"] {
        lines.extend(section.line_of(key).map(|line| (key, line)));
    }
    reservation.vars = section.vars("vars", &[]);
    reservation.labels = read_labels(section, "labels");
    reservation.options = read_options(section);
    reservation.program = read_program(section);
    reservation.local_boot = read_local_boot(section);
    section.finish();
    reservation.identities.macs = values(macs);
    reservation.identities.uuids = values(uuids);
    reservation.identities.client_ids = client_ids;
    reservation.identities.circuit_ids = circuit_ids;
    if mac.is_none() && (has_mac || reservation.identities.is_empty()) {
        if !has_mac {
            let text = "is missing; write it like mac = \"52:54:00:00:00:01\"";
            section.report(section.line(), "mac", text);
        }
        return None;
    }
    let mut noted = |key, line| {
        lines.insert(key, line);
    };
    if let Some(at) = mac {
        noted("mac", at.line);
        reservation.mac = Some(at.value);
    }
    if let Some(at) = address {
        noted("address", at.line);
        reservation.address = Some(at.value);
    }
    if let Some(at) = hostname {
        noted("hostname", at.line);
        reservation.hostname = Some(at.value);
    }
    if let Some(at) = profile {
        noted("profile", at.line);
        reservation.profile = Some(at.value);
    }
    reservation.id = match id {
        Some(at) => {
            noted("id", at.line);
            at.value
        }
        None => default_id(&reservation),
    };
    Some((reservation, lines))
}

fn values<T>(list: Vec<At<T>>) -> Vec<T> {
    list.into_iter().map(|at| at.value).collect()
}

/// Identities in hexadecimal or as text.
fn read_octets(section: &mut Section, key: &'static str) -> Vec<Octets> {
    let texts = section.texts(key).map(|at| at.value).unwrap_or_default();
    for (index, at) in texts.iter().enumerate() {
        if at.value.is_empty() || at.value.len() > 255 * 3 {
            let text = "wanted 1 to 255 octets, as 01:52:54:… or as text";
            section.report(at.line, &format!("{key}[{index}]"), text);
        }
    }
    texts.iter().map(|at| Octets::parse(&at.value)).collect()
}

/// The id of a reservation that was not given one: its host name, or else its first identity with hyphens.
pub fn default_id(reservation: &Reservation) -> String {
    match &reservation.hostname {
        Some(hostname) => hostname.to_ascii_lowercase(),
        None => reservation.known_by().replace(':', "-"),
    }
}
