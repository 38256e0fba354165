//! Filters of reservations. In: the terms of a filter. Out: whether a reservation fits.

use ipnet::Ipv4Net;
use tonic::Status;

use super::filter::{Term, Text, parse};
use crate::catalog::Catalog;
use crate::model::{MacAddr, Reservation, Source};

const FIELDS: [&str; 7] = [
    "id",
    "mac",
    "address",
    "hostname",
    "profile",
    "source",
    "labels.NAME",
];

/// Which reservations; all of them if it says nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter(Vec<(bool, Test)>);

#[derive(Clone, Debug)]
enum Test {
    Id(Text),
    Mac(Option<MacAddr>),
    Address(Option<Ipv4Net>),
    Hostname(Text),
    Profile(Text),
    Source(Source),
    Label(String, Text),
}

impl Filter {
    pub(super) fn new(text: &str) -> Result<Self, Status> {
        Self::of(&parse(text)?)
    }

    pub(super) fn of(terms: &[Term]) -> Result<Self, Status> {
        let tests = terms.iter().map(|term| Ok((!term.is_not, test(term)?)));
        Ok(Self(tests.collect::<Result<_, Status>>()?))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn fits(&self, catalog: &Catalog, reservation: &Reservation) -> bool {
        (self.0.iter()).all(|(wanted, test)| test.is_true(catalog, reservation) == *wanted)
    }
}

fn test(term: &Term) -> Result<Test, Status> {
    Ok(match term.field.as_str() {
        "id" => Test::Id(term.text()),
        "mac" => Test::Mac(mac(term)?),
        "address" if term.value.is_empty() => Test::Address(None),
        "address" => Test::Address(Some(term.network()?)),
        "hostname" => Test::Hostname(term.text()),
        "profile" => Test::Profile(term.text()),
        "source" => {
            let words = [("API", Source::Api), ("CONFIG_FILE", Source::ConfigFile)];
            Test::Source(term.one_of(&words)?)
        }
        field => match field.strip_prefix("labels.") {
            Some(name) if !name.is_empty() => Test::Label(name.to_owned(), term.text()),
            _ => return Err(term.unknown(&FIELDS)),
        },
    })
}

/// A MAC, or none for an empty value.
pub(super) fn mac(term: &Term) -> Result<Option<MacAddr>, Status> {
    if term.value.is_empty() {
        return Ok(None);
    }
    let mac = term.value.parse().map(Some);
    mac.map_err(|_| term.unfit("wanted a MAC such as 52:54:00:00:00:01"))
}

impl Test {
    fn is_true(&self, catalog: &Catalog, reservation: &Reservation) -> bool {
        match self {
            Self::Id(text) => text.fits(&reservation.id),
            Self::Mac(Some(mac)) => reservation.macs().any(|own| own == *mac),
            Self::Mac(None) => reservation.macs().next().is_none(),
            Self::Address(Some(net)) => reservation.address.is_some_and(|a| net.contains(&a)),
            Self::Address(None) => reservation.address.is_none(),
            Self::Hostname(text) => {
                text.fits_name(reservation.hostname.as_deref().unwrap_or_default())
            }
            Self::Profile(text) => {
                text.fits(catalog.profile_name_of(reservation).unwrap_or_default())
            }
            Self::Source(source) => reservation.source == *source,
            Self::Label(name, text) => {
                let value = reservation.labels.get(name);
                match (text, value) {
                    // A label may have an empty value, and is there all the same.
                    (Text::Any, value) => value.is_some(),
                    (text, value) => text.fits(value.map_or("", String::as_str)),
                }
            }
        }
    }
}
