//! What would be answered to a packet, and why. In: a packet's octets and the world as it is. Out: the words. The same functions
//! decide as do live; nothing is sent and nothing changes.

use std::fmt;
use std::net::Ipv4Addr;

use serde::Serialize;

use super::answer::{Mode, answer};
use super::bootfile::BootServers;
use super::chosen;
use super::decide::Answer;
use super::options;
use super::proxy::Port;
use super::request::Request;
use super::route::{self, Destination};
use super::view::{Ingress, View, link_address};
use crate::bindings::Bindings;
use crate::catalog::Catalog;
use crate::model::{BindingChange, Silence};

/// What is looked at beside the packet.
#[derive(Clone, Copy)]
pub struct World<'a> {
    pub catalog: &'a Catalog,
    pub bindings: &'a Bindings,
    pub boot: &'a BootServers,
    pub mode: Mode,
    pub ingress: Ingress,
}

/// The words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `offer`, `ack`, `nak` or `silent`.
    pub answer: &'static str,
    /// Why: a rule with its RFC, or the typed reason of a NAK or of silence before it.
    pub because: String,
    pub request: String,
    pub client: Option<String>,
    pub subnet: Option<String>,
    pub reservation: Option<String>,
    /// What the machine is served, and by which state.
    pub machine: Option<String>,
    pub classes: Vec<String>,
    pub address: Option<Ipv4Addr>,
    pub lease_secs: Option<u32>,
    /// Who says how long a lease may be: `subnet`, a class, or `installation`.
    pub lease_layer: Option<String>,
    pub bootfile: Option<String>,
    pub options: Vec<ExplainedOption>,
    /// Where the reply would go.
    pub sent_to: Option<String>,
    /// What would be written before it is sent.
    pub binding: Option<String>,
}

/// One network option and the layer that says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExplainedOption {
    pub code: u8,
    pub name: String,
    pub value: String,
    pub layer: String,
}

/// Explains one packet.
pub fn explain(octets: &[u8], port: Port, world: World<'_>) -> Explanation {
    let request = match Request::parse(octets) {
        Ok(request) => request,
        Err(reason) => return before_the_view(reason, "malformed packet".to_owned()),
    };
    let described = describe(&request);
    let World {
        catalog,
        bindings,
        boot,
        mode,
        ingress,
    } = world;
    let Some(view) = View::new(&request, catalog, bindings, ingress) else {
        let (link, rule) = link_address(&request, catalog, ingress);
        let mut explanation = before_the_view(Silence::NoSubnet, described);
        explanation.because = format!("no_subnet: no [[subnet]] holds {link}; {rule}");
        return explanation;
    };
    let (decision, bootfile) = answer(&request, port, mode, boot, &view);
    let (name, reason) = name_of(&decision.answer);
    let (address, lease_secs) = match decision.answer {
        Answer::Offer {
            address,
            lease_secs,
        }
        | Answer::Ack {
            address,
            lease_secs,
        } => (Some(address), Some(lease_secs)),
        _ => (None, None),
    };
    let network = matches!(
        decision.answer,
        Answer::Offer { .. } | Answer::Ack { .. } | Answer::AckInform
    );
    Explanation {
        answer: name,
        because: match reason {
            Some(reason) => format!("{reason}: {}", decision.rule),
            None => decision.rule.to_owned(),
        },
        request: described,
        client: view.client.as_ref().map(ToString::to_string),
        subnet: Some(format!("{}; {}", view.subnet.cidr, view.subnet_rule)),
        reservation: Some(match view.reservation {
            Some(own) => format!(
                "{} ({}), {}",
                own.title(),
                own.known_by(),
                view.reservation_rule
            ),
            None => format!("none; {}", view.reservation_rule),
        }),
        machine: machine_text(&view),
        classes: view
            .classes
            .iter()
            .map(|class| class.name.clone())
            .collect(),
        address,
        lease_secs,
        lease_layer: lease_secs.map(|_| view.longest_lease(&request).1.to_string()),
        bootfile: (name != "silent" && name != "nak")
            .then_some(bootfile)
            .flatten()
            .map(|bootfile| bootfile.as_str().to_owned()),
        options: if network {
            explained_options(&request, &view)
        } else {
            Vec::new()
        },
        sent_to: sent_to(&request, &decision.answer),
        binding: decision.change.as_ref().map(change_text),
    }
}

/// Of a machine that has a state: without one its profile says everything.
fn machine_text(view: &View) -> Option<String> {
    let machine = view.catalog.machine(&view.reservation?.id)?;
    let mode = match machine.mode {
        mode if mode.is_normal() => String::new(),
        mode => format!(", {}", mode.as_str()),
    };
    let phase = machine.phase.as_str();
    let known = match machine.attempt {
        0 => format!("{phase}{mode}"),
        attempt => format!("{phase}{mode}, attempt {attempt}"),
    };
    Some(format!("{known}; {}", view.verdict?))
}

fn before_the_view(reason: Silence, request: String) -> Explanation {
    Explanation {
        answer: "silent",
        because: reason.to_string(),
        request,
        ..Explanation::default()
    }
}

fn describe(request: &Request) -> String {
    let mut text = format!("{} xid {:08x}", request.kind_name(), request.xid);
    if let Some(arch) = request.arch() {
        text.push_str(&format!(", arch {arch}"));
    }
    if let Some(ipxe) = request.ipxe() {
        text.push_str(if ipxe.http {
            ", iPXE"
        } else {
            ", iPXE without HTTP"
        });
    }
    if !request.giaddr.is_unspecified() {
        text.push_str(&format!(", relayed by {}", request.giaddr));
    }
    text
}

fn name_of(answer: &Answer) -> (&'static str, Option<&'static str>) {
    match answer {
        Answer::Offer { .. } | Answer::ProxyOffer => ("offer", None),
        Answer::Ack { .. } | Answer::AckInform | Answer::ProxyAck => ("ack", None),
        Answer::Nak(reason) => ("nak", Some(reason.as_str())),
        Answer::Silent(reason) => ("silent", Some(reason.as_str())),
    }
}

fn explained_options(request: &Request, view: &View) -> Vec<ExplainedOption> {
    chosen::choose(request, view)
        .into_iter()
        .map(|option| ExplainedOption {
            code: option.code,
            name: options::name_of(option.code),
            value: serde_json::to_string(&options::decode(option.code, &option.content))
                .unwrap_or_default(),
            layer: option.layer.to_string(),
        })
        .collect()
}

fn sent_to(request: &Request, answer: &Answer) -> Option<String> {
    let to = match answer {
        Answer::Silent(_) => return None,
        Answer::Nak(_) => route::of_nak(request),
        Answer::Offer { address, .. } | Answer::Ack { address, .. } => {
            route::of_grant(request, Some(*address))
        }
        Answer::AckInform | Answer::ProxyOffer | Answer::ProxyAck => route::of_grant(request, None),
    };
    Some(match to {
        Destination::Datagram(address) => address.to_string(),
        Destination::Broadcast => "255.255.255.255:68".to_owned(),
        Destination::BroadcastAnd(address) => format!("255.255.255.255:68 and {address}"),
        Destination::Frame { mac, address } => format!("{address}:68 in a frame to {mac}"),
    })
}

fn change_text(change: &BindingChange) -> String {
    match change {
        BindingChange::Put(lease) => {
            let state = format!("{:?}", lease.state).to_lowercase();
            format!(
                "{} {state} for {} until {}",
                lease.address, lease.client, lease.expires_secs
            )
        }
        BindingChange::Withdraw { address, client } => {
            format!("the offer of {address} to {client} is withdrawn")
        }
    }
}

impl Explanation {
    fn lease_text(&self) -> Option<String> {
        let layer = self.lease_layer.as_ref()?;
        Some(format!("{} s   ({layer})", self.lease_secs?))
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<12} {}", "request", self.request)?;
        let lines = [
            ("client", self.client.clone()),
            ("subnet", self.subnet.clone()),
            ("reservation", self.reservation.clone()),
            ("machine", self.machine.clone()),
            (
                "classes",
                (!self.classes.is_empty()).then(|| self.classes.join(", ")),
            ),
            ("answer", Some(self.answer.to_owned())),
            ("because", Some(self.because.clone())),
            ("address", self.address.map(|a| a.to_string())),
            ("lease", self.lease_text()),
            (
                "boot file",
                self.bootfile.clone().filter(|name| !name.is_empty()),
            ),
            ("sent to", self.sent_to.clone()),
            ("binding", self.binding.clone()),
        ];
        for (name, value) in lines {
            if let Some(value) = value {
                writeln!(f, "{name:<12} {value}")?;
            }
        }
        for option in &self.options {
            writeln!(
                f,
                "{:<12} {:>3} {} = {}   ({})",
                "option", option.code, option.name, option.value, option.layer
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::packet;
    use super::*;
    use crate::catalog::{Change, Settings};
    use crate::model::{MacAddr, Octets, Options, Reservation, Source, Subnet};

    #[test]
    fn a_decision_is_told_with_the_rule_and_the_layer_of_each_option() {
        let mut subnet = Subnet::of("198.18.0.0/24".parse().expect("a network"));
        subnet.router = Some(Ipv4Addr::new(198, 18, 0, 1));
        subnet.options = Options([(42, Octets(vec![198, 18, 0, 1]))].into());
        let mut own = Reservation::of("node-1".into(), Source::Api);
        own.mac = Some(MacAddr([0x52, 0x54, 0, 0, 0, 1]));
        own.address = Some(Ipv4Addr::new(198, 18, 0, 10));
        let catalog = Catalog::new(Settings {
            subnets: vec![subnet],
            ..Settings::default()
        });
        let catalog = catalog.with(&Change::Create(own)).expect("fits");
        let boot = BootServers {
            programs: ["snponly.efi".to_owned()].into(),
            http_port: 80,
            http_address: None,
        };
        let world = World {
            catalog: &catalog,
            bindings: &Bindings::default(),
            boot: &boot,
            mode: Mode::Server,
            ingress: Ingress {
                server_id: Ipv4Addr::new(198, 18, 0, 1),
                is_unicast: false,
                authoritative: false,
                now_secs: 1000,
            },
        };
        let octets = packet(&[
            (53, &[1]),
            (60, b"PXEClient"),
            (93, &[0, 7]),
            (55, &[3, 42]),
        ]);
        let text = explain(&octets, Port::Server, world).to_string();
        assert_eq!(
            text,
            "request      discover xid 12345678, arch 0x0007 (x86_64 uefi)\n\
             client       52:54:00:00:00:01\n\
             subnet       198.18.0.0/24; the interface that it was heard on is there (RFC 2131 §4.3.1)\n\
             reservation  node-1 (52:54:00:00:00:01), by its MAC\n\
             answer       offer\n\
             because      the address is reserved for it\n\
             address      198.18.0.10\n\
             lease        3600 s   (subnet)\n\
             boot file    snponly.efi\n\
             sent to      198.18.0.10:68 in a frame to 52:54:00:00:00:01\n\
             binding      198.18.0.10 offered for 52:54:00:00:00:01 until 1064\n\
             option         3 routers = [\"198.18.0.1\"]   (subnet)\n\
             option        42 ntp_servers = [\"198.18.0.1\"]   (subnet)\n"
        );
        let garbage = explain(&octets[..100], Port::Server, world);
        assert_eq!(
            (garbage.answer, garbage.because.as_str()),
            ("silent", "too_short")
        );
    }
}
