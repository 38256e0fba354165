//! Packets as a client would send them, from what a person says of it: for `explain`, and for looking for other servers.

use std::net::Ipv4Addr;

use super::request::Kind;
use crate::model::{ClientArch, MacAddr};

/// A client's packet, before it is written.
#[derive(Clone, Debug)]
pub struct Probe {
    pub kind: Kind,
    pub mac: MacAddr,
    pub xid: u32,
    pub broadcast: bool,
    pub ciaddr: Ipv4Addr,
    pub giaddr: Ipv4Addr,
    /// By code, in the order they are sent in.
    pub options: Vec<(u8, Vec<u8>)>,
}

impl Probe {
    /// A packet of this kind that says nothing else.
    pub fn new(kind: Kind, mac: MacAddr) -> Self {
        Self {
            kind,
            mac,
            xid: 0,
            broadcast: false,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            options: Vec::new(),
        }
    }

    /// Sets an option, over what was said of it before.
    pub fn set(&mut self, code: u8, content: impl Into<Vec<u8>>) {
        self.options.retain(|(known, _)| *known != code);
        self.options.push((code, content.into()));
    }

    /// What firmware of this architecture says of itself (PXE 2.1 §2.2.1), or UEFI HTTP boot where the number is one of its.
    pub fn boot_as(&mut self, arch: ClientArch) {
        let word = if arch.boots_from_http() {
            "HTTPClient"
        } else {
            "PXEClient"
        };
        self.set(60, format!("{word}:Arch:{:05}:UNDI:003016", arch.0));
        self.set(93, arch.0.to_be_bytes());
        self.set(94, [1, 3, 16]);
    }

    /// What iPXE says of itself, with HTTP among its features.
    pub fn run_ipxe(&mut self) {
        self.set(77, *b"iPXE");
        self.set(175, [19, 1, 1, 33, 1, 1]);
    }

    /// The datagram's content (RFC 2131 §2).
    pub fn octets(&self) -> Vec<u8> {
        let kind = match self.kind {
            Kind::Discover => 1,
            Kind::Request => 3,
            Kind::Decline => 4,
            Kind::Release => 7,
            Kind::Inform => 8,
        };
        let mut octets = vec![0; 236];
        octets[..4].copy_from_slice(&[1, 1, 6, 0]);
        octets[4..8].copy_from_slice(&self.xid.to_be_bytes());
        octets[10] = if self.broadcast { 0x80 } else { 0 };
        octets[12..16].copy_from_slice(&self.ciaddr.octets());
        octets[24..28].copy_from_slice(&self.giaddr.octets());
        octets[28..34].copy_from_slice(&self.mac.0);
        octets.extend([99, 130, 83, 99, 53, 1, kind]);
        for (code, content) in &self.options {
            for part in content.chunks(255) {
                octets.push(*code);
                octets.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
                octets.extend(part);
            }
        }
        octets.push(255);
        octets.resize(octets.len().max(300), 0);
        octets
    }
}
