//! Booting machines beside somebody else's DHCP server (PXE 2.1 §2.2, "proxyDHCP"), and the boot server port 4011. In: a
//! request, the port it came to, and its boot file. Out: the boot file without an address, or the reason for silence.

use super::bootfile::Bootfile;
use super::decide::{Answer, Decision, silent};
use super::request::{Kind, Request};
use super::view::View;
use crate::model::Silence;

/// Where boot servers listen (PXE 2.1 §2.2.1).
pub const BOOT_SERVER_PORT: u16 = 4011;

/// Which of our ports a packet came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// 67, where DISCOVERs are broadcast.
    Server,
    /// 4011, where clients that have an address ask for their boot file.
    BootServer,
}

/// Decides one packet on which only the boot file is ours to give.
pub fn decide(request: &Request, port: Port, bootfile: Option<&Bootfile>, view: &View) -> Decision {
    if !request.boots_from_network() {
        return silent(
            Silence::NotBooting,
            "it does not boot from the network, and addresses are another server's",
        );
    }
    if bootfile.is_none() {
        return silent(Silence::NoProgram, "no network boot program is for it");
    }
    let names_us = request.server_id.is_none_or(|id| id == view.server_id);
    let (answer, rule) = match (request.kind, port) {
        (Kind::Discover, Port::Server) => (
            Answer::ProxyOffer,
            "the boot file beside the other server's offer (PXE 2.1 §2.2)",
        ),
        (Kind::Request | Kind::Inform, Port::BootServer) => (
            Answer::ProxyAck,
            "a boot server answers those that have an address (PXE 2.1 §2.5)",
        ),
        (Kind::Inform, Port::Server) => (
            Answer::ProxyAck,
            "it has an address, and asks for the rest (RFC 2131 §4.3.5)",
        ),
        // Some firmware asks us on port 67, by name, once it has its address from the other server.
        (Kind::Request, Port::Server) if request.server_id == Some(view.server_id) => (
            Answer::ProxyAck,
            "option 54 names this server (PXE 2.1 §2.5)",
        ),
        (Kind::Request, Port::Server) => {
            let rule = "it takes the other server's offer of an address";
            return silent(Silence::OtherServerChosen, rule);
        }
        _ => {
            let rule = "addresses are another server's";
            return silent(Silence::UnexpectedMessageType, rule);
        }
    };
    if port == Port::BootServer && !names_us {
        let rule = "option 54 names another boot server";
        return silent(Silence::OtherServerChosen, rule);
    }
    Decision {
        answer,
        change: None,
        rule,
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::packet;
    use super::super::view::Ingress;
    use super::*;
    use crate::bindings::Bindings;
    use crate::catalog::{Catalog, Settings};
    use crate::model::Subnet;

    const US: [u8; 4] = [198, 18, 0, 1];

    fn answer(kind: u8, options: &[(u8, &[u8])], port: Port) -> Answer {
        let kind = [kind];
        let options = [&[(53, &kind as &[u8])], options].concat();
        let request = Request::parse(&packet(&options)).expect("valid");
        let catalog = Catalog::new(Settings {
            subnets: vec![Subnet::of("198.18.0.0/24".parse().expect("a network"))],
            ..Settings::default()
        });
        let ingress = Ingress {
            server_id: US.into(),
            is_unicast: false,
            authoritative: false,
            now_secs: 0,
        };
        let bindings = Bindings::default();
        let view = View::new(&request, &catalog, &bindings, ingress).expect("a subnet");
        let program = Bootfile::Tftp("undionly.kpxe".into());
        decide(&request, port, Some(&program), &view).answer
    }

    #[test]
    fn a_booting_machine_is_offered_its_boot_file_and_any_other_left_alone() {
        let pxe = (60, b"PXEClient" as &[u8]);
        assert_eq!(answer(1, &[pxe], Port::Server), Answer::ProxyOffer);
        assert_eq!(
            answer(1, &[], Port::Server),
            Answer::Silent(Silence::NotBooting)
        );
    }

    #[test]
    fn a_request_on_either_port_is_answered_if_it_is_ours() {
        let pxe = (60, b"PXEClient" as &[u8]);
        let (ours, other) = ((54, &US as &[u8]), (54, &[198_u8, 18, 0, 9] as &[u8]));
        for (port, options, acked) in [
            (Port::BootServer, vec![pxe], true),
            (Port::BootServer, vec![pxe, ours], true),
            (Port::BootServer, vec![pxe, other], false),
            (Port::Server, vec![pxe, ours], true),
            (Port::Server, vec![pxe, other], false),
            (Port::Server, vec![pxe], false),
        ] {
            let is_acked = answer(3, &options, port) == Answer::ProxyAck;
            assert_eq!(is_acked, acked, "{port:?} {options:?}");
        }
        assert_eq!(answer(8, &[pxe], Port::Server), Answer::ProxyAck);
        assert_eq!(answer(8, &[pxe], Port::BootServer), Answer::ProxyAck);
    }
}
