//! Which network options a client is sent, and which layer said each. In: what the client asks for and the view. Out: contents
//! in the order they are to be sent.

use std::net::Ipv4Addr;

use super::options::{has_default_route, route};
use super::request::Request;
use super::view::View;
use crate::model::Layer;

/// Codes with a meaning of their own here.
const SUBNET_MASK: u8 = 1;
const ROUTERS: u8 = 3;
const DOMAIN_NAME_SERVERS: u8 = 6;
const HOST_NAME: u8 = 12;
const DOMAIN_NAME: u8 = 15;
const BROADCAST_ADDRESS: u8 = 28;
const CLASSLESS_ROUTES: [u8; 2] = [121, 249];

/// What a subnet says in words of its own.
const BUILT_IN: [u8; 6] = [
    SUBNET_MASK,
    ROUTERS,
    DOMAIN_NAME_SERVERS,
    HOST_NAME,
    DOMAIN_NAME,
    BROADCAST_ADDRESS,
];

/// One option, and who said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    pub code: u8,
    pub content: Vec<u8>,
    pub layer: Layer,
}

/// The options asked for (55) that somebody configures, in the client's order, but the mask before the routers (RFC 2132
/// §3.3). A client that asks for nothing in particular gets all of them.
pub fn choose(request: &Request, view: &View) -> Vec<Chosen> {
    let mut codes: Vec<u8> = match request.parameters() {
        Some(asked) => asked.to_vec(),
        None => [&BUILT_IN[..], &view.configured_codes()].concat(),
    };
    if let Some(at) = codes.iter().position(|code| *code == SUBNET_MASK) {
        codes[..=at].rotate_right(1);
    }
    let mut chosen: Vec<Chosen> = Vec::new();
    for code in codes {
        if chosen.iter().all(|known| known.code != code) {
            chosen.extend(one(code, view));
        }
    }
    chosen
}

/// The option's content: what the highest layer says, the subnet's own words among the subnet's.
fn one(code: u8, view: &View) -> Option<Chosen> {
    let configured = view.configured_option(code);
    let built_in = built_in(code, view);
    let (content, layer) = match (configured, built_in) {
        (Some((content, layer)), Some((_, own))) if layer >= own => (content.to_vec(), layer),
        (_, Some(built_in)) => built_in,
        (Some((content, layer)), None) => (content.to_vec(), layer),
        (None, None) => return None,
    };
    let content = match view.subnet.router {
        // RFC 3442: a client that takes these ignores option 3, so the way out must be among them.
        Some(router) if CLASSLESS_ROUTES.contains(&code) && !has_default_route(&content) => {
            [content, route(ipnet::Ipv4Net::default(), router)].concat()
        }
        _ => content,
    };
    Some(Chosen {
        code,
        content,
        layer,
    })
}

fn built_in(code: u8, view: &View) -> Option<(Vec<u8>, Layer)> {
    let subnet = view.subnet;
    let addresses =
        |list: &[Ipv4Addr]| -> Vec<u8> { list.iter().flat_map(Ipv4Addr::octets).collect() };
    let of_subnet = |content: Vec<u8>| (!content.is_empty()).then_some((content, Layer::Subnet));
    match code {
        SUBNET_MASK => of_subnet(subnet.cidr.netmask().octets().to_vec()),
        BROADCAST_ADDRESS => of_subnet(subnet.cidr.broadcast().octets().to_vec()),
        ROUTERS => of_subnet(addresses(subnet.router.as_slice())),
        DOMAIN_NAME_SERVERS => of_subnet(addresses(&subnet.dns)),
        HOST_NAME => {
            let name = view.reservation?.hostname.as_deref()?;
            Some((host_part(name).into(), Layer::Reservation))
        }
        DOMAIN_NAME => {
            let name = view.reservation.and_then(|own| own.hostname.as_deref());
            match name.and_then(|name| name.split_once('.')) {
                Some((_, domain)) => Some((domain.into(), Layer::Reservation)),
                None => of_subnet(subnet.domain.as_deref()?.into()),
            }
        }
        _ => None,
    }
}

/// A host name with a domain is given as options 12 and 15 apart, as RFC 2132 §3.14 and §3.17 have it.
fn host_part(hostname: &str) -> &str {
    hostname.split('.').next().unwrap_or(hostname)
}
