//! Looks whether an address is in use before it is offered to a client that has not had it: RFC 2131 §3.1 step 2, by ARP, since
//! whoever is on the segment must answer that, or by an ICMP echo, which goes behind relay agents too. Only where the subnet asks
//! for it, and never for a reserved machine or one that returns: their firmware would run out of patience for nothing.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::decide::{Answer, DECLINE_SECS, Decision};
use super::view::View;
use crate::model::{AddressProbe, BindingChange, ClientKey, Event, Lease, LeaseState, MacAddr};
use crate::net::{arp, icmp, now_secs};
use crate::observe::emit;
use crate::store::Store;

/// How many addresses are looked for at once; beyond, an offer is sent without.
const AT_ONCE: usize = 64;

/// Looks on one interface.
pub struct Prober {
    pub interface: String,
    pub interface_index: u32,
    /// Where echoes come from.
    pub own_address: Ipv4Addr,
    /// None where it is not Ethernet, and nothing is looked for by ARP.
    pub mac: Option<MacAddr>,
    pub store: Store,
    pub places: Arc<Semaphore>,
}

impl Prober {
    pub fn new(
        interface: String,
        interface_index: u32,
        own_address: Ipv4Addr,
        mac: Option<MacAddr>,
        store: Store,
    ) -> Self {
        Self {
            interface,
            interface_index,
            own_address,
            mac,
            store,
            places: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// The lease whose address is to be looked for first: that of a first offer from a pool.
    pub fn wanted(&self, decision: &Decision, view: &View) -> Option<Lease> {
        let Answer::Offer { address, .. } = decision.answer else {
            return None;
        };
        let is_known = view
            .bindings
            .at(address)
            .is_some_and(|lease| view.is_own(lease));
        let can_look = match view.subnet.probe? {
            AddressProbe::Arp => view.subnet.cidr.contains(&view.own_address),
            AddressProbe::Icmp => true,
        };
        let Some(BindingChange::Put(lease)) = &decision.change else {
            return None;
        };
        (can_look && !is_known && view.reserved_address().is_none()).then(|| lease.clone())
    }

    fn probe_of(&self, lease: &Lease) -> Option<AddressProbe> {
        self.store.catalog().subnet_of(lease.address)?.probe
    }

    /// Whether nobody has the lease's address. Where somebody has, it is given to nobody for a while.
    pub async fn is_unused(&self, lease: Lease) -> bool {
        let (Some(probe), Ok(_place)) = (self.probe_of(&lease), self.places.try_acquire()) else {
            return true;
        };
        let asking = match lease.client {
            ClientKey::Mac(mac) => Some(mac),
            ClientKey::Id(_) => None,
        };
        let (index, own, mac) = (self.interface_index, self.own_address, self.mac);
        let address = lease.address;
        let look = move || match (probe, mac) {
            (AddressProbe::Arp, Some(mac)) => {
                let holder = arp::who_has(index, mac, asking, address)?;
                Ok(holder.map(|mac| mac.to_string()))
            }
            (AddressProbe::Arp, None) => Ok(None),
            (AddressProbe::Icmp, _) => {
                let is_there = icmp::answers(own, address)?;
                Ok(is_there.then(|| "somebody who answers echoes".to_owned()))
            }
        };
        let holder = match tokio::task::spawn_blocking(look).await {
            Ok(Ok(Some(holder))) => holder,
            Ok(Ok(None)) => return true,
            // Not being able to look is no reason to leave a machine without an address.
            Ok(Err(error)) => {
                let error: io::Error = error;
                let error = format!("{}: cannot look for {address}: {error}", self.interface);
                emit(&Event::Failed {
                    about: "dhcp",
                    error,
                });
                return true;
            }
            Err(_) => return true,
        };
        let now = now_secs();
        let taken = BindingChange::Put(Lease {
            state: LeaseState::Declined,
            expires_secs: now + DECLINE_SECS,
            ..lease
        });
        if let Err(error) = self.store.bind(vec![taken], now).await {
            let error = error.to_string();
            emit(&Event::Failed {
                about: "store",
                error,
            });
        }
        emit(&Event::AddressInUse {
            iface: self.interface.clone(),
            address,
            holder,
        });
        false
    }
}
