//! Leases as messages. In: what is known of an address, and the time. Out: one message for leases, offers, declined and reserved ones.

use std::net::Ipv4Addr;

use bootjack_api::v1;
use bootjack_api::v1::lease::State;

use super::values::time;
use crate::catalog::Catalog;
use crate::model::{ClientKey, Lease, LeaseState};

/// What every resource name starts with.
pub(super) const COLLECTION: &str = "leases/";

/// An address, and its lease if there is one.
#[derive(Clone, Debug)]
pub(super) struct Known<'a> {
    pub(super) address: Ipv4Addr,
    pub(super) lease: Option<&'a Lease>,
}

pub(super) fn known(address: Ipv4Addr, lease: Option<&Lease>) -> Known<'_> {
    Known { address, lease }
}

/// How the address stands at this time.
pub(super) fn state(catalog: &Catalog, known: &Known<'_>, now_secs: u64) -> State {
    let is_reserved = || catalog.by_address(known.address).is_some();
    let Some(lease) = known.lease else {
        return State::Reserved;
    };
    match lease.state {
        LeaseState::Released if is_reserved() => State::Reserved,
        LeaseState::Released => State::Released,
        LeaseState::Revoked if is_reserved() => State::Reserved,
        LeaseState::Revoked => State::Revoked,
        _ if !lease.is_current(now_secs) && is_reserved() => State::Reserved,
        _ if !lease.is_current(now_secs) => State::Expired,
        LeaseState::Offered => State::Offered,
        LeaseState::Bound => State::Bound,
        LeaseState::Declined => State::Declined,
    }
}

/// The MAC of a holder that has one.
pub(super) fn mac(lease: &Lease) -> Option<String> {
    match &lease.client {
        ClientKey::Mac(mac) => Some(mac.to_string()),
        ClientKey::Id(_) => None,
    }
}

/// What another holder is known by.
pub(super) fn client_id(lease: &Lease) -> Option<String> {
    match &lease.client {
        ClientKey::Mac(_) => None,
        ClientKey::Id(id) => Some(crate::model::Octets(id.clone()).to_string()),
    }
}

/// The id of the holder's reservation, if it has one.
pub(super) fn holder(catalog: &Catalog, lease: &Lease) -> Option<String> {
    let by_mac = || match &lease.client {
        ClientKey::Mac(mac) => catalog.by_mac(*mac).map(|own| own.id.clone()),
        ClientKey::Id(_) => None,
    };
    lease.reservation.clone().or_else(by_mac)
}

/// Changes with every change of the lease.
pub(super) fn etag(lease: &Lease) -> String {
    let json = serde_json::to_vec(lease).unwrap_or_default();
    format!("{:08x}", crc32fast::hash(&json))
}

pub(super) fn to_message(catalog: &Catalog, known: &Known<'_>, now_secs: u64) -> v1::Lease {
    let address = known.address;
    let reservation = |id: &str| format!("reservations/{id}");
    let own = catalog.by_address(address);
    let mut message = v1::Lease {
        name: format!("{COLLECTION}{address}"),
        address: address.to_string(),
        state: state(catalog, known, now_secs).into(),
        reservation: own.map_or_else(String::new, |own| reservation(&own.id)),
        subnet: (catalog.subnet_of(address))
            .map_or_else(String::new, |subnet| subnet.cidr.to_string()),
        ..v1::Lease::default()
    };
    if let Some(lease) = known.lease {
        message.mac = mac(lease).unwrap_or_default();
        message.client_id = client_id(lease).unwrap_or_default();
        message.hostname = lease.hostname.clone().unwrap_or_default();
        message.holder = holder(catalog, lease).map_or_else(String::new, |id| reservation(&id));
        message.expire_time = Some(time(lease.expires_secs));
        let circuit_id = lease.circuit_id.as_ref();
        message.circuit_id = circuit_id.map_or_else(String::new, ToString::to_string);
        message.etag = etag(lease);
    }
    message
}
