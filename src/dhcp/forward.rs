//! Which replica a packet is for. In: the packet, how it came, the replicas that live and the time. Out: that it is answered here,
//! left to another, or sent on to its owner. Where there are no replicas, nobody asks.
//!
//! A client that names a server is that server's, while it lives: a share that moves between OFFER and REQUEST costs no round.
//! Everything else is its owner's (`replicas::group`). What another replica sent on is answered at once and never sent on again,
//! so that two who see the group differently cannot play ball with a packet.

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcproto::v4::OptionCode;

use super::request::{Kind, Request, RequestState};
use crate::replicas::group::{Client, Group, Member};

/// A client that has asked for longer is answered by whoever can do so safely: the service delay of RFC 3074 §5.3.
pub const SERVICE_DELAY_SECS: u16 = 3;

/// How a packet came.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The server's address on the interface.
    pub server_id: Ipv4Addr,
    pub from: Option<SocketAddrV4>,
    /// Where it was sent.
    pub to: Option<Ipv4Addr>,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// We do. `named` is the server identifier (option 54) to answer under: that of another replica where the client has chosen
    /// or asked that one, since iPXE and others take no answer of anybody else.
    Ours { named: Option<Ipv4Addr> },
    /// Another one, which hears the packet too.
    NotOurs,
    /// Another one, which does not hear it: it is to be sent there.
    Forward { to: Ipv4Addr },
}

/// What the client is balanced by.
pub fn client_of(request: &Request) -> Client<'_> {
    let hardware = &request.chaddr[..usize::from(request.hlen)];
    let client_id = request.option(OptionCode::ClientIdentifier);
    Client {
        identity: client_id.filter(|id| !id.is_empty()).unwrap_or(hardware),
        hardware,
        mac: request.mac(),
    }
}

/// Says whose turn it is. `is_reserved` is asked only of a client that has waited long: whether its address is reserved, so that
/// two who answer it say the same.
pub fn turn(
    request: &Request,
    arrival: Arrival,
    group: &Group,
    is_reserved: impl FnOnce() -> bool,
    now_secs: u64,
) -> Turn {
    let sender = arrival.from.map(|from| *from.ip());
    if let Some(sender) = sender.filter(|sender| other_at(*sender, group).is_some()) {
        return forwarded(request, sender, group);
    }
    let is_relayed = !request.giaddr.is_unspecified();
    let named = request.server_id.filter(|_| request.kind != Kind::Inform);
    if named == Some(arrival.server_id) {
        return Turn::Ours { named: None };
    }
    if let Some(chosen) = named.and_then(|named| other_at(named, group)) {
        return match (is_relayed, chosen.addresses.first()) {
            (true, Some(to)) => Turn::Forward { to: *to },
            _ => Turn::NotOurs,
        };
    }
    let ours = Turn::Ours {
        named: named.filter(|named| group.has_left(*named)),
    };
    let owner = match group.owner(client_of(request), now_secs) {
        Some((owner, _)) if owner.id != group.own_id() => owner,
        _ => return ours,
    };
    if request.secs > SERVICE_DELAY_SECS && is_reserved() {
        return ours;
    }
    let is_unicast = arrival.to == Some(arrival.server_id);
    match owner.addresses.first() {
        Some(to) if is_relayed || (is_unicast && extends(request)) => Turn::Forward { to: *to },
        // Nobody else has heard it.
        _ if is_relayed || is_unicast => ours,
        _ => Turn::NotOurs,
    }
}

/// Whoever sent it on knew that it is not its own, and nobody else will hear it.
fn forwarded(request: &Request, sender: Ipv4Addr, group: &Group) -> Turn {
    let is_relayed = !request.giaddr.is_unspecified();
    let of_another = |named: &Ipv4Addr| other_at(*named, group).is_some() || group.has_left(*named);
    let named = match request.server_id {
        Some(named) => Some(named).filter(of_another),
        None if !is_relayed && extends(request) => Some(sender),
        None => None,
    };
    Turn::Ours { named }
}

fn other_at(address: Ipv4Addr, group: &Group) -> Option<&Member> {
    (group.member_at(address)).filter(|member| member.id != group.own_id())
}

/// Whether it asks for more time by its own address, past any relay agent.
fn extends(request: &Request) -> bool {
    request.kind == Kind::Request && matches!(request.state(), RequestState::Extending { .. })
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::packet;
    use super::*;
    use crate::replicas::group::tests::{group, member};

    const NOW: u64 = 1000;
    const OURS: Turn = Turn::Ours { named: None };
    const DISCOVER: u8 = 1;
    const REQUEST: u8 = 3;
    const RELEASE: u8 = 7;

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, 0, last)
    }

    /// A client that of replicas 1, 2 and 3 the one of this number owns.
    fn client_of_replica(owner: u8) -> [u8; 6] {
        let group = group(1, &[1, 2, 3]);
        let mut clients = (0..=255_u8).map(|n| [0x52, 0x54, 0, 0, 0, n]);
        let is_owned = |octets: &[u8; 6]| {
            let client = Client {
                identity: octets,
                hardware: octets,
                mac: None,
            };
            group
                .owner(client, NOW)
                .is_some_and(|(m, _)| *m == member(owner))
        };
        clients.find(is_owned).expect("each has some")
    }

    struct Asked {
        client: u8,
        kind: u8,
        options: Vec<(u8, Vec<u8>)>,
        giaddr: Option<u8>,
        ciaddr: Option<u8>,
        secs: u16,
        from: Ipv4Addr,
        to: Ipv4Addr,
        is_reserved: bool,
    }

    /// A broadcast of a client of replica `client`.
    fn asked(kind: u8, client: u8) -> Asked {
        Asked {
            client,
            kind,
            options: Vec::new(),
            giaddr: None,
            ciaddr: None,
            secs: 0,
            from: Ipv4Addr::UNSPECIFIED,
            to: Ipv4Addr::BROADCAST,
            is_reserved: false,
        }
    }

    fn selecting(client: u8, server: u8) -> Asked {
        let server = address(server).octets().to_vec();
        let requested = address(100).octets().to_vec();
        Asked {
            options: vec![(54, server), (50, requested)],
            ..asked(REQUEST, client)
        }
    }

    /// Whose turn it is, in the eyes of replica 1.
    fn turn_of(asked: &Asked, group: &Group) -> Turn {
        let kind = [asked.kind];
        let options: Vec<(u8, &[u8])> = [(53, &kind[..])]
            .into_iter()
            .chain(
                asked
                    .options
                    .iter()
                    .map(|(code, content)| (*code, &content[..])),
            )
            .collect();
        let mut octets = packet(&options);
        octets[28..34].copy_from_slice(&client_of_replica(asked.client));
        octets[8..10].copy_from_slice(&asked.secs.to_be_bytes());
        for (at, last) in [(12, asked.ciaddr), (24, asked.giaddr)] {
            if let Some(last) = last {
                octets[at..at + 4].copy_from_slice(&address(last).octets());
            }
        }
        let request = Request::parse(&octets).expect("valid");
        let arrival = Arrival {
            server_id: address(1),
            from: Some(SocketAddrV4::new(asked.from, 67)),
            to: Some(asked.to),
        };
        turn(&request, arrival, group, || asked.is_reserved, NOW)
    }

    #[test]
    fn of_a_broadcast_each_replica_answers_its_own_clients_alone() {
        let group = group(1, &[1, 2, 3]);
        assert_eq!(turn_of(&asked(DISCOVER, 1), &group), OURS);
        assert_eq!(turn_of(&asked(DISCOVER, 2), &group), Turn::NotOurs);
        assert_eq!(
            turn_of(&asked(REQUEST, 3), &group),
            Turn::NotOurs,
            "INIT-REBOOT"
        );
    }

    #[test]
    fn what_a_relay_agent_sends_to_the_wrong_replica_is_sent_on_to_the_owner() {
        let group = group(1, &[1, 2, 3]);
        let relayed = |client| Asked {
            giaddr: Some(250),
            from: address(250),
            to: address(1),
            ..asked(DISCOVER, client)
        };
        assert_eq!(turn_of(&relayed(1), &group), OURS);
        assert_eq!(
            turn_of(&relayed(2), &group),
            Turn::Forward { to: address(2) }
        );
        let renewing = Asked {
            ciaddr: Some(100),
            from: address(100),
            to: address(1),
            ..asked(REQUEST, 3)
        };
        assert_eq!(turn_of(&renewing, &group), Turn::Forward { to: address(3) });
    }

    #[test]
    fn what_another_replica_sent_on_is_never_sent_on_again() {
        let group = group(1, &[1, 2, 3]);
        for client in [1, 2, 3] {
            let forwarded = Asked {
                giaddr: Some(250),
                from: address(2),
                to: address(1),
                ..asked(DISCOVER, client)
            };
            assert_eq!(turn_of(&forwarded, &group), OURS);
        }
        let renewing = Asked {
            ciaddr: Some(100),
            from: address(2),
            to: address(1),
            ..asked(REQUEST, 3)
        };
        let named = Some(address(2));
        assert_eq!(
            turn_of(&renewing, &group),
            Turn::Ours { named },
            "it asked replica 2"
        );
    }

    #[test]
    fn a_client_that_names_a_server_is_that_ones_while_it_lives_whoever_owns_it() {
        let group = group(1, &[1, 2, 3]);
        assert_eq!(turn_of(&selecting(3, 1), &group), OURS);
        assert_eq!(turn_of(&selecting(1, 2), &group), Turn::NotOurs);
        let relayed = Asked {
            giaddr: Some(250),
            from: address(250),
            to: address(1),
            ..selecting(3, 2)
        };
        assert_eq!(turn_of(&relayed, &group), Turn::Forward { to: address(2) });
        let releasing = Asked {
            kind: RELEASE,
            ciaddr: Some(100),
            to: address(1),
            ..selecting(2, 1)
        };
        assert_eq!(turn_of(&releasing, &group), OURS);
    }

    #[test]
    fn the_offer_of_one_that_has_left_is_kept_in_its_name_by_the_owner() {
        let before = group(1, &[1, 2, 3]);
        let group = before.with_members(vec![member(1), member(3)]);
        let turns = [1, 3].map(|client| turn_of(&selecting(client, 2), &group));
        let named = Some(address(2));
        assert_eq!(turns, [Turn::Ours { named }, Turn::NotOurs]);
        // A server that is no replica is none of ours to speak for.
        assert_eq!(turn_of(&selecting(1, 77), &group), OURS);
        assert_eq!(turn_of(&selecting(3, 77), &group), Turn::NotOurs);
    }

    #[test]
    fn who_waits_in_vain_is_answered_by_any_replica_if_its_address_is_reserved() {
        let group = group(1, &[1, 2, 3]);
        let waiting = |secs, is_reserved| Asked {
            secs,
            is_reserved,
            ..asked(DISCOVER, 2)
        };
        assert_eq!(
            turn_of(&waiting(SERVICE_DELAY_SECS + 1, true), &group),
            OURS
        );
        assert_eq!(
            turn_of(&waiting(SERVICE_DELAY_SECS, true), &group),
            Turn::NotOurs
        );
        assert_eq!(turn_of(&waiting(60, false), &group), Turn::NotOurs);
    }

    #[test]
    fn where_nobody_is_known_everything_is_answered() {
        let nobody = Group::new("replica-1".to_owned());
        assert_eq!(turn_of(&asked(DISCOVER, 2), &nobody), OURS);
        let unreachable = Member {
            addresses: Vec::new(),
            ..member(2)
        };
        let group = Group::new("replica-1".to_owned()).with_members(vec![unreachable]);
        let relayed = Asked {
            giaddr: Some(250),
            to: address(1),
            ..asked(DISCOVER, 2)
        };
        assert_eq!(turn_of(&relayed, &group), OURS, "nobody else would hear it");
    }
}
