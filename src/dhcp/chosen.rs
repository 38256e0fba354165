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
    let mut chosen = Vec::new();
    for code in codes(request, view) {
        let mut content = Vec::new();
        if let Some(layer) = write(code, view, &mut content) {
            chosen.push(Chosen {
                code,
                content,
                layer,
            });
        }
    }
    chosen
}

/// The codes that `choose` looks at, each once.
pub fn codes(request: &Request, view: &View) -> Vec<u8> {
    let mut codes: Vec<u8> = match request.parameters() {
        Some(asked) => asked.to_vec(),
        None => [&BUILT_IN[..], &view.configured_codes()].concat(),
    };
    let mut seen = [false; 256];
    codes.retain(|code| !std::mem::replace(&mut seen[usize::from(*code)], true));
    if let Some(at) = codes.iter().position(|code| *code == SUBNET_MASK) {
        codes[..=at].rotate_right(1);
    }
    codes
}

/// Adds the option's content: what the highest layer says, the subnet's own words among the subnet's.
pub fn write(code: u8, view: &View, octets: &mut Vec<u8>) -> Option<Layer> {
    let begin = octets.len();
    let built_in = built_in(code, view, octets);
    let layer = match (view.configured_option(code), built_in) {
        (None, built_in) => built_in?,
        (Some((_, layer)), Some(own)) if layer < own => own,
        (Some((content, layer)), _) => {
            octets.truncate(begin);
            octets.extend(content);
            layer
        }
    };
    if let Some(router) = view.subnet.router
        // RFC 3442: a client that takes these ignores option 3, so the way out must be among them.
        && CLASSLESS_ROUTES.contains(&code)
        && !has_default_route(&octets[begin..])
    {
        octets.extend(route(ipnet::Ipv4Net::default(), router));
    }
    Some(layer)
}

fn built_in(code: u8, view: &View, octets: &mut Vec<u8>) -> Option<Layer> {
    let subnet = view.subnet;
    let mut layer = Layer::Subnet;
    let begin = octets.len();
    match code {
        SUBNET_MASK => octets.extend(subnet.cidr.netmask().octets()),
        BROADCAST_ADDRESS => octets.extend(subnet.cidr.broadcast().octets()),
        ROUTERS => octets.extend(subnet.router?.octets()),
        DOMAIN_NAME_SERVERS => octets.extend(subnet.dns.iter().flat_map(Ipv4Addr::octets)),
        HOST_NAME => {
            let name = view.reservation?.hostname.as_deref()?;
            octets.extend(host_part(name).as_bytes());
            layer = Layer::Reservation;
        }
        DOMAIN_NAME => {
            let name = view.reservation.and_then(|own| own.hostname.as_deref());
            match name.and_then(|name| name.split_once('.')) {
                Some((_, domain)) => {
                    octets.extend(domain.as_bytes());
                    layer = Layer::Reservation;
                }
                None => octets.extend(subnet.domain.as_deref()?.as_bytes()),
            }
        }
        _ => return None,
    }
    (octets.len() > begin).then_some(layer)
}

/// A host name with a domain is given as options 12 and 15 apart, as RFC 2132 §3.14 and §3.17 have it.
fn host_part(hostname: &str) -> &str {
    hostname.split('.').next().unwrap_or(hostname)
}
