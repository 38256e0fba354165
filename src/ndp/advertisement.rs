//! The answer to a router solicitation. In: what was heard. Out: an advertisement of a router that is none: no default route, no
//! prefix, no address to be had, so that a client that waits for IPv6 knows that it need not.

use crate::model::MacAddr;

/// ICMPv6 types (RFC 4861 §4.1, §4.2).
pub const ROUTER_SOLICITATION: u8 = 133;
pub const ROUTER_ADVERTISEMENT: u8 = 134;

/// What a datagram on the segment means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Somebody looks for a router.
    Solicitation,
    /// There is a router: it answers for itself.
    Router,
    Other,
}

/// Reads the ICMPv6 message.
pub fn heard(message: &[u8]) -> Heard {
    match message {
        [ROUTER_SOLICITATION, 0, ..] if message.len() >= 8 => Heard::Solicitation,
        // One with a lifetime of zero is no router either, but another like us.
        [ROUTER_ADVERTISEMENT, 0, _, _, _, flags, high, low, ..] => {
            let has_lifetime = *high != 0 || *low != 0;
            let has_addresses = flags & 0xc0 != 0; // M or O: DHCPv6 is there
            let has_options = message.len() > 24; // more than a link-layer address: a prefix, most likely
            if has_lifetime || has_addresses || has_options {
                Heard::Router
            } else {
                Heard::Other
            }
        }
        _ => Heard::Other,
    }
}

/// The advertisement (RFC 4861 §4.2): hop limit unspecified, no flags, router lifetime 0, timers unspecified, and our link-layer
/// address. The kernel fills in the checksum.
pub fn advertisement(own: MacAddr) -> Vec<u8> {
    let mut message = vec![ROUTER_ADVERTISEMENT, 0, 0, 0];
    message.extend([0; 12]);
    message.extend([1, 1]);
    message.extend(own.0);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_advertisement_is_no_routers() {
        let message = advertisement(MacAddr([2, 0, 0, 0, 0, 1]));
        assert_eq!(message.len(), 24);
        assert_eq!(heard(&message), Heard::Other);
    }

    #[test]
    fn a_router_and_a_solicitation_are_known() {
        let mut router = advertisement(MacAddr([2, 0, 0, 0, 0, 1]));
        router[6] = 7;
        assert_eq!(heard(&router), Heard::Router);
        assert_eq!(heard(&[133, 0, 0, 0, 0, 0, 0, 0]), Heard::Solicitation);
        assert_eq!(heard(&[133]), Heard::Other);
        assert_eq!(heard(&[]), Heard::Other);
    }
}
