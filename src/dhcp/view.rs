//! What a decision may look at: immutable values and the time.

use std::net::Ipv4Addr;

use crate::bindings::Bindings;
use crate::catalog::Catalog;
use crate::model::{ClientKey, Reservation, Subnet};

use super::request::Request;

/// The world as one packet finds it.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub catalog: &'a Catalog,
    pub bindings: &'a Bindings,
    /// The subnet the client is on.
    pub subnet: &'a Subnet,
    /// The client's reservation, wherever its address lies.
    pub reservation: Option<&'a Reservation>,
    /// The server's address on the interface the packet came from: option 54 of the reply.
    pub server_id: Ipv4Addr,
    /// Clients that nothing is known of are refused, since no other server can know them.
    pub authoritative: bool,
    pub now_secs: u64,
}

impl<'a> View<'a> {
    /// Looks up the client's subnet and reservation. The subnet is that of the relay agent, or of the server's own address.
    pub fn new(
        request: &Request,
        catalog: &'a Catalog,
        bindings: &'a Bindings,
        server_id: Ipv4Addr,
        authoritative: bool,
        now_secs: u64,
    ) -> Option<Self> {
        let on = if request.giaddr.is_unspecified() {
            server_id
        } else {
            request.giaddr
        };
        Some(Self {
            catalog,
            bindings,
            subnet: catalog.subnet_of(on)?,
            reservation: request
                .mac()
                .and_then(|mac| catalog.by_mac(mac))
                .map(|reservation| &**reservation),
            server_id,
            authoritative,
            now_secs,
        })
    }

    /// The address reserved for the client, if it is one of this subnet: elsewhere the machine is served like any other.
    pub fn reserved_address(&self) -> Option<Ipv4Addr> {
        self.reservation?
            .address
            .filter(|address| self.subnet.cidr.contains(address))
    }

    /// Whether the client may be given this address from a pool: it lies in one, is nobody's special address, is reserved for
    /// nobody, and nobody else holds or declined it.
    pub fn is_free_for(&self, client: &ClientKey, address: Ipv4Addr) -> bool {
        self.subnet.pools_hold(address)
            && self.subnet.can_be_given(address)
            && address != self.server_id
            && self.catalog.by_address(address).is_none()
            && !self
                .bindings
                .at(address)
                .is_some_and(|lease| lease.keeps_out(client, self.now_secs))
    }
}
