//! Filters of leases. In: the terms of a filter. Out: whether what is known of an address fits.

use bootjack_api::v1::lease::State;
use ipnet::Ipv4Net;
use tonic::Status;

use super::filter::{Term, Text, parse};
use super::lease_message::{Known, client_id, holder, state};
use super::reservation_filter::mac;
use crate::catalog::Catalog;
use crate::model::{ClientKey, MacAddr};

const FIELDS: [&str; 8] = [
    "address",
    "subnet",
    "state",
    "mac",
    "client_id",
    "hostname",
    "reservation",
    "holder",
];
const STATES: [(&str, State); 7] = [
    ("OFFERED", State::Offered),
    ("BOUND", State::Bound),
    ("RELEASED", State::Released),
    ("DECLINED", State::Declined),
    ("EXPIRED", State::Expired),
    ("RESERVED", State::Reserved),
    ("REVOKED", State::Revoked),
];

/// Which leases; all of them if it says nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter(Vec<(bool, Test)>);

#[derive(Clone, Debug)]
enum Test {
    Address(Ipv4Net),
    State(State),
    Mac(Option<MacAddr>),
    ClientId(Text),
    Hostname(Text),
    Reservation(Text),
    Holder(Text),
}

impl Filter {
    pub(super) fn new(text: &str) -> Result<Self, Status> {
        let terms = parse(text)?;
        let tests = terms.iter().map(|term| Ok((!term.is_not, test(term)?)));
        Ok(Self(tests.collect::<Result<_, Status>>()?))
    }

    pub(super) fn fits(&self, catalog: &Catalog, known: &Known<'_>, now_secs: u64) -> bool {
        (self.0.iter()).all(|(wanted, test)| test.is_true(catalog, known, now_secs) == *wanted)
    }
}

fn test(term: &Term) -> Result<Test, Status> {
    Ok(match term.field.as_str() {
        "address" | "subnet" => Test::Address(term.network()?),
        "state" => Test::State(term.one_of(&STATES)?),
        "mac" => Test::Mac(mac(term)?),
        "client_id" => Test::ClientId(term.text()),
        "hostname" => Test::Hostname(term.text()),
        "reservation" => Test::Reservation(id(term)),
        "holder" => Test::Holder(id(term)),
        _ => return Err(term.unknown(&FIELDS)),
    })
}

fn id(term: &Term) -> Text {
    let plain = Term {
        value: (term.value.strip_prefix("reservations/"))
            .unwrap_or(&term.value)
            .to_owned(),
        ..term.clone()
    };
    plain.text()
}

impl Test {
    fn is_true(&self, catalog: &Catalog, known: &Known<'_>, now_secs: u64) -> bool {
        let lease = known.lease;
        match self {
            Self::Address(net) => net.contains(&known.address),
            Self::State(wanted) => state(catalog, known, now_secs) == *wanted,
            Self::Mac(wanted) => {
                let mac = lease.and_then(|lease| match &lease.client {
                    ClientKey::Mac(mac) => Some(*mac),
                    ClientKey::Id(_) => None,
                });
                mac == *wanted
            }
            Self::ClientId(text) => text.fits(&lease.and_then(client_id).unwrap_or_default()),
            Self::Hostname(text) => {
                let name = lease.and_then(|lease| lease.hostname.as_deref());
                text.fits_name(name.unwrap_or_default())
            }
            Self::Reservation(text) => {
                let own = catalog.by_address(known.address);
                text.fits(own.map_or("", |own| own.id.as_str()))
            }
            Self::Holder(text) => {
                let holder = lease.and_then(|lease| holder(catalog, lease));
                text.fits(&holder.unwrap_or_default())
            }
        }
    }
}
