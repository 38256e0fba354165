//! Filters of machines. In: the terms of a filter. Out: whether a machine fits.

use tonic::Status;

use super::filter::{Term, parse};
use super::reservation_filter;
use crate::catalog::Catalog;
use crate::lifecycle;
use crate::model::{BootFrom, Machine, Mode, Reservation};

const FIELDS: [&str; 8] = [
    "id",
    "state",
    "mode",
    "next_boot",
    "installs",
    "profile",
    "hostname",
    "labels.NAME",
];
const STATES: [&str; 5] = ["idle", "armed", "installing", "installed", "failed"];

/// Which machines; all of them if it says nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    own: Vec<(bool, Test)>,
    of_reservation: reservation_filter::Filter,
}

#[derive(Clone, Debug)]
enum Test {
    State(&'static str),
    Mode(Mode),
    NextBoot(Option<BootFrom>),
    Installs(bool),
}

impl Filter {
    pub(super) fn new(text: &str) -> Result<Self, Status> {
        let mut filter = Self::default();
        let mut others = Vec::new();
        for term in parse(text)? {
            match test(&term)? {
                Some(test) => filter.own.push((!term.is_not, test)),
                None => others.push(term),
            }
        }
        filter.of_reservation = reservation_filter::Filter::of(&others)?;
        Ok(filter)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.of_reservation.is_empty()
    }

    pub(super) fn fits(&self, catalog: &Catalog, reservation: &Reservation, now_secs: u64) -> bool {
        if !self.of_reservation.fits(catalog, reservation) {
            return false;
        }
        let idle = || Machine::idle(&reservation.id, now_secs);
        let machine = catalog.machine(&reservation.id).cloned();
        let machine = machine.unwrap_or_else(idle);
        self.own.iter().all(|(wanted, test)| {
            let is_true = match test {
                Test::State(state) => machine.phase.as_str() == *state,
                Test::Mode(mode) => machine.mode == *mode,
                Test::NextBoot(from) => lifecycle::next_boot(&machine, now_secs) == *from,
                Test::Installs(installs) => {
                    let profile = catalog.profile_of(reservation);
                    profile.is_some_and(|profile| profile.install.is_some()) == *installs
                }
            };
            is_true == *wanted
        })
    }
}

/// What the term asks of the machine itself; nothing if it asks its reservation.
fn test(term: &Term) -> Result<Option<Test>, Status> {
    Ok(Some(match term.field.as_str() {
        "state" => Test::State(term.one_of(&STATES.map(|state| (state, state)))?),
        "mode" => Test::Mode(term.one_of(&[
            ("NORMAL", Mode::Normal),
            ("HELD", Mode::Held),
            ("RESCUE", Mode::Rescue),
        ])?),
        "next_boot" => Test::NextBoot(term.one_of(&[
            ("UNSPECIFIED", None),
            ("DISK", Some(BootFrom::Disk)),
            ("NETWORK", Some(BootFrom::Network)),
            ("RESCUE", Some(BootFrom::Rescue)),
        ])?),
        "installs" => Test::Installs(term.one_of(&[("true", true), ("false", false)])?),
        "id" | "profile" | "hostname" => return Ok(None),
        field if field.starts_with("labels.") => return Ok(None),
        _ => return Err(term.unknown(&FIELDS)),
    }))
}
