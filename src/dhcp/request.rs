//! A DHCP packet as the server understands it. In: the octets of one UDP datagram. Out: a `Request`, or the reason for which it
//! is dropped. Never panics and allocates no more than the packet is long.
//!
//! The header is read by dhcproto's borrowed decoder; the option fields are walked here, because a decoder that gives up at the
//! first odd option would lose a boot over a Latin-1 host name.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dhcproto::v4::{MessageType, OptionCode, borrowed};

use crate::model::{ClientArch, ClientKey, MacAddr, Match, Octets, Silence, Uuid};

/// The magic cookie before the options (RFC 2131 §3).
const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// Ethernet (RFC 1700, "Number Hardware Type").
const HTYPE_ETHERNET: u8 = 1;
/// A packet that has been relayed more often runs in circles (RFC 1542 §4.1.1).
const MOST_HOPS: u8 = 16;

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Discover,
    Request,
    Decline,
    Release,
    Inform,
}

/// A client's packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub kind: Kind,
    pub htype: u8,
    pub hlen: u8,
    pub chaddr: [u8; 16],
    pub xid: u32,
    pub secs: u16,
    /// As received, the broadcast flag and the bits that must be zero alike.
    pub flags: u16,
    pub ciaddr: Ipv4Addr,
    pub giaddr: Ipv4Addr,
    /// Option 50.
    pub requested: Option<Ipv4Addr>,
    /// Option 51, in seconds.
    pub lease_secs: Option<u32>,
    /// Option 54.
    pub server_id: Option<Ipv4Addr>,
    /// Every option's content by code, the parts of a long one joined (RFC 3396).
    options: BTreeMap<u8, Vec<u8>>,
}

/// The four ways in which a REQUEST is meant (RFC 2131 §4.3.2, table 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestState {
    /// It takes an offer: option 54 names the server.
    Selecting { requested: Ipv4Addr },
    /// It was here before and asks whether its address still holds.
    InitReboot { requested: Ipv4Addr },
    /// It has the address and wants it for longer; renewing and rebinding differ in how the packet came.
    Extending { ciaddr: Ipv4Addr },
    /// It names no address at all.
    Unclear,
}

/// What iPXE says of itself in option 175.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipxe {
    /// It can fetch over HTTP. Taken for granted where it sends no list of features.
    pub http: bool,
}

impl Request {
    /// Reads one datagram.
    pub fn parse(octets: &[u8]) -> Result<Self, Silence> {
        let header = borrowed::Message::new(octets).map_err(|_| Silence::TooShort)?;
        // RFC 2131 §2: BOOTREQUEST = 1. Numbers are compared here: dhcproto's names hide what was sent.
        if octets[0] != 1 {
            return Err(Silence::NotARequest);
        }
        let hlen = header.hlen();
        if usize::from(hlen) > 16 {
            return Err(Silence::HardwareAddressTooLong);
        }
        if header.hops() > MOST_HOPS {
            return Err(Silence::TooManyHops);
        }
        if octets[236..240] != MAGIC {
            return Err(Silence::BadMagicCookie);
        }
        let options = read_options(octets)?;
        let mut chaddr = [0; 16];
        chaddr[..usize::from(hlen)].copy_from_slice(header.chaddr());
        Ok(Self {
            kind: kind_of(&options)?,
            htype: octets[1],
            hlen,
            chaddr,
            xid: header.xid(),
            secs: header.secs(),
            flags: u16::from_be_bytes([octets[10], octets[11]]),
            ciaddr: header.ciaddr(),
            giaddr: header.giaddr(),
            requested: address_in(&options, OptionCode::RequestedIpAddress)?,
            lease_secs: number_in(&options, OptionCode::AddressLeaseTime)?,
            server_id: address_in(&options, OptionCode::ServerIdentifier)?,
            options,
        })
    }

    /// The content of an option.
    pub fn option(&self, code: OptionCode) -> Option<&[u8]> {
        self.options.get(&u8::from(code)).map(Vec::as_slice)
    }

    /// The client's MAC, on Ethernet.
    pub fn mac(&self) -> Option<MacAddr> {
        let octets: [u8; 6] = self.chaddr[..6].try_into().ok()?;
        (self.htype == HTYPE_ETHERNET && self.hlen == 6)
            .then_some(MacAddr(octets))
            .filter(MacAddr::is_unicast)
    }

    /// Whom leases are kept under: the MAC; without one the client-id (option 61), or else the hardware address.
    pub fn client(&self) -> Option<ClientKey> {
        let hardware = &self.chaddr[..usize::from(self.hlen)];
        self.mac().map(ClientKey::Mac).or_else(|| {
            let id = self
                .client_id()
                .or_else(|| hardware.iter().any(|b| *b != 0).then_some(hardware))?;
            Some(ClientKey::Id(id.to_vec()))
        })
    }

    /// The client-id (option 61), of at least the two octets it must have (RFC 2132 §9.14).
    pub fn client_id(&self) -> Option<&[u8]> {
        self.option(OptionCode::ClientIdentifier)
            .filter(|id| id.len() >= 2)
    }

    /// The machine's UUID: option 97 of type 0 (RFC 4578 §2.3).
    pub fn uuid(&self) -> Option<Uuid> {
        let [0, octets @ ..] = self.option(OptionCode::ClientMachineIdentifier)? else {
            return None;
        };
        Uuid::from_octets(octets.try_into().ok()?)
    }

    /// One of the things a relay agent says (option 82, RFC 3046 §2.0).
    pub fn relay_sub_option(&self, code: u8) -> Option<&[u8]> {
        let mut rest = self.option(OptionCode::RelayAgentInformation)?;
        while let [found, length, tail @ ..] = rest {
            let (content, after) = tail.split_at_checked(usize::from(*length))?;
            if *found == code {
                return Some(content);
            }
            rest = after;
        }
        None
    }

    /// One of them that is an address.
    pub fn relay_address(&self, code: u8) -> Option<Ipv4Addr> {
        let octets: [u8; 4] = self.relay_sub_option(code)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets)).filter(|address| !address.is_unspecified())
    }

    /// The port the machine is plugged in, as its relay agent says (sub-option 1).
    pub fn circuit_id(&self) -> Option<&[u8]> {
        self.relay_sub_option(1).filter(|id| !id.is_empty())
    }

    /// The subnet the client wants an address of (option 118, RFC 3011).
    pub fn subnet_selection(&self) -> Option<Ipv4Addr> {
        let octets: [u8; 4] = self.option(OptionCode::from(118))?.try_into().ok()?;
        Some(Ipv4Addr::from(octets)).filter(|address| !address.is_unspecified())
    }

    /// Whether the client, which is plugged in there, is one of those that these rules mean.
    pub fn is_in(&self, rules: &Match, circuit_id: Option<&Octets>) -> bool {
        let hardware = &self.chaddr[..usize::from(self.hlen)];
        let vendor_class = self.option(OptionCode::ClassIdentifier);
        let user_class = self.option(OptionCode::UserClass);
        let archs = self.archs();
        let holds = |is_given: bool, one_fits: bool| !is_given || one_fits;
        holds(
            !rules.vendor_class.is_empty(),
            vendor_class.is_some_and(|said| {
                rules
                    .vendor_class
                    .iter()
                    .any(|wanted| said.starts_with(wanted.as_bytes()))
            }),
        ) && holds(
            !rules.user_class.is_empty(),
            user_class.is_some_and(|said| {
                user_classes(said).any(|c| rules.user_class.iter().any(|w| w.as_bytes() == c))
            }),
        ) && holds(
            !rules.arch.is_empty(),
            archs.iter().any(|arch| rules.arch.contains(arch)),
        ) && holds(
            !rules.mac_prefix.is_empty(),
            rules
                .mac_prefix
                .iter()
                .any(|prefix| hardware.starts_with(&prefix.0)),
        ) && holds(
            !rules.circuit_id.is_empty(),
            circuit_id.is_some_and(|said| rules.circuit_id.contains(said)),
        )
    }

    /// The broadcast flag: the client cannot take unicast before it has its address (RFC 2131 §2).
    pub fn wants_broadcast(&self) -> bool {
        self.flags & 0x8000 != 0
    }

    /// Which of the four REQUESTs it is.
    pub fn state(&self) -> RequestState {
        match (self.server_id, self.requested, self.ciaddr.is_unspecified()) {
            (Some(_), Some(requested), _) => RequestState::Selecting { requested },
            (None, Some(requested), true) => RequestState::InitReboot { requested },
            // Some clients repeat option 50 while renewing (RFC 2131 says they must not): `ciaddr` decides.
            (_, _, false) => RequestState::Extending {
                ciaddr: self.ciaddr,
            },
            (_, None, true) => RequestState::Unclear,
        }
    }

    /// The codes the client asks for, in its order (option 55).
    pub fn parameters(&self) -> Option<&[u8]> {
        self.option(OptionCode::ParameterRequestList)
    }

    /// The client's architecture: the first in option 93 that is known, or else the first (RFC 4578 §2.1 allows several). Where
    /// the option is missing, what option 60 says in `PXEClient:Arch:00007:…`.
    pub fn arch(&self) -> Option<ClientArch> {
        let archs = self.archs();
        let known = archs.iter().find(|arch| arch.platform().is_some());
        known.or(archs.first()).copied()
    }

    /// All that it may boot as.
    fn archs(&self) -> Vec<ClientArch> {
        match self.option(OptionCode::ClientSystemArchitecture) {
            Some(list) => list
                .chunks_exact(2)
                .map(|pair| ClientArch(u16::from_be_bytes([pair[0], pair[1]])))
                .collect(),
            None => self.arch_of_class().into_iter().collect(),
        }
    }

    fn arch_of_class(&self) -> Option<ClientArch> {
        let class = std::str::from_utf8(self.option(OptionCode::ClassIdentifier)?).ok()?;
        let (_, number) = class.split_once(":Arch:")?;
        number.get(..5)?.parse().ok().map(ClientArch)
    }

    /// Whether the client's firmware wants to boot from the network: it says `PXEClient` or `HTTPClient` (option 60), sends an
    /// architecture, or is iPXE.
    pub fn boots_from_network(&self) -> bool {
        self.is_http_client()
            || self.class_starts_with(b"PXEClient")
            || self.option(OptionCode::ClientSystemArchitecture).is_some()
            || self.ipxe().is_some()
    }

    /// UEFI HTTP boot (UEFI 2.10 §24.7): the reply must say `HTTPClient` too and carry a URL.
    pub fn is_http_client(&self) -> bool {
        self.class_starts_with(b"HTTPClient")
    }

    fn class_starts_with(&self, prefix: &[u8]) -> bool {
        self.option(OptionCode::ClassIdentifier)
            .is_some_and(|class| class.starts_with(prefix))
    }

    /// Set when the client is iPXE: its user class (77) says so, or it sends its own options (175).
    pub fn ipxe(&self) -> Option<Ipxe> {
        let features = self.options.get(&175);
        let class_says_so = self
            .option(OptionCode::UserClass)
            .is_some_and(|class| user_classes(class).any(|class| class == b"iPXE"));
        if !class_says_so && features.is_none() {
            return None;
        }
        // 19 is HTTP among iPXE's features, each a sub-option of 175.
        let http =
            features.is_none_or(|list| list.is_empty() || sub_options(list).any(|c| c == 19));
        Some(Ipxe { http })
    }

    /// User class for the log.
    pub fn user_class(&self) -> Option<String> {
        let class = self.option(OptionCode::UserClass)?;
        let classes: Vec<String> = user_classes(class).map(printable).collect();
        classes.into_iter().next()
    }

    /// The name the client gives itself (option 12), as far as it is one.
    pub fn hostname(&self) -> Option<String> {
        let name = std::str::from_utf8(self.option(OptionCode::Hostname)?).ok()?;
        let name = name.trim_end_matches('\0');
        crate::model::check_hostname(name).ok()?;
        Some(name.to_owned())
    }

    /// The longest datagram content the client takes (option 57), at least the 576 - 28 that everyone must (RFC 2131 §2).
    pub fn max_reply_octets(&self) -> usize {
        let said = self
            .option(OptionCode::MaxMessageSize)
            .and_then(|octets| octets.try_into().ok())
            .map(u16::from_be_bytes);
        usize::from(said.unwrap_or(576).clamp(576, 1500)) - 28 // IPv4 and UDP headers
    }

    /// The message type's name, for the log.
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::Discover => "discover",
            Kind::Request => "request",
            Kind::Decline => "decline",
            Kind::Release => "release",
            Kind::Inform => "inform",
        }
    }
}

fn printable(octets: &[u8]) -> String {
    octets.escape_ascii().to_string()
}

/// The classes in option 77. RFC 3004 puts a length before each; iPXE, and most who copy it, sends bare text.
fn user_classes(octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut framed = Vec::new();
    let mut rest = octets;
    while let [length, tail @ ..] = rest {
        let Some((class, after)) = tail.split_at_checked(usize::from(*length)) else {
            return vec![octets].into_iter();
        };
        if class.is_empty() {
            return vec![octets].into_iter();
        }
        framed.push(class);
        rest = after;
    }
    framed.into_iter()
}

/// The codes of encapsulated sub-options, up to the first that does not fit.
fn sub_options(mut octets: &[u8]) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        while let [0, rest @ ..] = octets {
            octets = rest;
        }
        let [code, length, rest @ ..] = octets else {
            return None;
        };
        octets = rest.get(usize::from(*length)..)?;
        (*code != 255).then_some(*code)
    })
}

/// Walks the option fields: the packet's own, then `file` and `sname` where option 52 says that options continue there
/// (RFC 2131 §4.1), joining the parts of an option in that order (RFC 3396 §7).
fn read_options(octets: &[u8]) -> Result<BTreeMap<u8, Vec<u8>>, Silence> {
    let mut options = BTreeMap::new();
    walk(&octets[240..], &mut options)?;
    let overload = match options.get(&52).map(Vec::as_slice) {
        None => 0,
        Some([how @ 1..=3]) => *how,
        Some(_) => return Err(Silence::MalformedOption),
    };
    if overload & 1 != 0 {
        walk(&octets[108..236], &mut options)?;
    }
    if overload & 2 != 0 {
        walk(&octets[44..108], &mut options)?;
    }
    Ok(options)
}

fn walk(mut field: &[u8], options: &mut BTreeMap<u8, Vec<u8>>) -> Result<(), Silence> {
    loop {
        match field {
            // Many clients leave out the end option; the end of the packet is as good.
            [] | [255, ..] => return Ok(()),
            [0, rest @ ..] => field = rest,
            [code, length, rest @ ..] => {
                let (content, after) = rest
                    .split_at_checked(usize::from(*length))
                    .ok_or(Silence::OptionsTruncated)?;
                options.entry(*code).or_default().extend_from_slice(content);
                field = after;
            }
            [_] => return Err(Silence::OptionsTruncated),
        }
    }
}

fn kind_of(options: &BTreeMap<u8, Vec<u8>>) -> Result<Kind, Silence> {
    let content = options
        .get(&u8::from(OptionCode::MessageType))
        .ok_or(Silence::NoMessageType)?;
    let [number] = content[..] else {
        return Err(Silence::MalformedOption);
    };
    match MessageType::from(number) {
        MessageType::Discover => Ok(Kind::Discover),
        MessageType::Request => Ok(Kind::Request),
        MessageType::Decline => Ok(Kind::Decline),
        MessageType::Release => Ok(Kind::Release),
        MessageType::Inform => Ok(Kind::Inform),
        _ => Err(Silence::UnexpectedMessageType),
    }
}

fn fixed<const N: usize>(
    options: &BTreeMap<u8, Vec<u8>>,
    code: OptionCode,
) -> Result<Option<[u8; N]>, Silence> {
    options
        .get(&u8::from(code))
        .map(|content| content[..].try_into())
        .transpose()
        .map_err(|_| Silence::MalformedOption)
}

fn address_in(
    options: &BTreeMap<u8, Vec<u8>>,
    code: OptionCode,
) -> Result<Option<Ipv4Addr>, Silence> {
    Ok(fixed::<4>(options, code)?
        .map(Ipv4Addr::from)
        .filter(|address| !address.is_unspecified()))
}

fn number_in(options: &BTreeMap<u8, Vec<u8>>, code: OptionCode) -> Result<Option<u32>, Silence> {
    Ok(fixed::<4>(options, code)?.map(u32::from_be_bytes))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A packet of a client with MAC 52:54:00:00:00:01 and these options.
    pub(crate) fn packet(options: &[(u8, &[u8])]) -> Vec<u8> {
        let mut octets = vec![0; 240];
        octets[..4].copy_from_slice(&[1, 1, 6, 0]);
        octets[4..8].copy_from_slice(&0x1234_5678_u32.to_be_bytes());
        octets[28..34].copy_from_slice(&[0x52, 0x54, 0, 0, 0, 1]);
        octets[236..240].copy_from_slice(&MAGIC);
        for (code, content) in options {
            octets.push(*code);
            octets.push(u8::try_from(content.len()).expect("a short option"));
            octets.extend_from_slice(content);
        }
        octets.push(255);
        octets
    }

    fn parse(options: &[(u8, &[u8])]) -> Result<Request, Silence> {
        Request::parse(&packet(options))
    }

    #[test]
    fn the_states_of_a_request_are_told_apart_by_their_fields() {
        let asked = Ipv4Addr::new(198, 18, 0, 10);
        let (address, server) = (asked.octets(), [198, 18, 0, 1]);
        let selecting = parse(&[(53, &[3]), (54, &server), (50, &address)]).expect("valid");
        assert_eq!(
            selecting.state(),
            RequestState::Selecting { requested: asked }
        );
        let reboot = parse(&[(53, &[3]), (50, &address)]).expect("valid");
        assert_eq!(
            reboot.state(),
            RequestState::InitReboot { requested: asked }
        );
        let mut octets = packet(&[(53, &[3])]);
        octets[12..16].copy_from_slice(&address);
        let renewing = Request::parse(&octets).expect("valid");
        assert_eq!(renewing.state(), RequestState::Extending { ciaddr: asked });
        assert_eq!(
            parse(&[(53, &[3])]).expect("valid").state(),
            RequestState::Unclear
        );
    }

    #[test]
    fn ipxe_is_known_by_raw_and_framed_user_class_and_by_its_own_options() {
        type Options = [(u8, &'static [u8])];
        let cases: [(&Options, Option<bool>); 6] = [
            (&[(53, &[1])], None),
            (&[(53, &[1]), (77, b"iPXE")], Some(true)),
            (&[(53, &[1]), (77, b"\x04iPXE")], Some(true)),
            (&[(53, &[1]), (77, b"\x05other\x04iPXE")], Some(true)),
            (&[(53, &[1]), (175, &[19, 1, 1, 33, 1, 1])], Some(true)),
            (
                &[(53, &[1]), (77, b"iPXE"), (175, &[33, 1, 1])],
                Some(false),
            ),
        ];
        for (options, http) in cases {
            let request = parse(options).expect("valid");
            assert_eq!(request.ipxe().map(|ipxe| ipxe.http), http, "{options:?}");
        }
    }

    #[test]
    fn an_option_that_makes_no_sense_does_not_hide_the_ones_after_it() {
        let request = parse(&[
            (12, b"n\xe4me"),
            (150, &[1, 2, 3]),
            (81, b"abc"),
            (53, &[1]),
        ])
        .expect("the message type counts");
        assert_eq!(request.kind, Kind::Discover);
        assert_eq!(request.hostname(), None);
    }

    #[test]
    fn parts_of_a_long_option_are_joined_wherever_they_stand() {
        let request = parse(&[(77, b"iP"), (53, &[1]), (77, b"XE")]).expect("valid");
        assert!(request.ipxe().is_some());
    }

    #[test]
    fn options_go_on_in_file_and_sname_when_option_52_says_so() {
        let mut octets = packet(&[(52, &[3])]);
        octets[108..111].copy_from_slice(&[53, 1, 1]);
        octets[111] = 255;
        octets[44..50].copy_from_slice(&[93, 2, 0, 7, 255, 0]);
        let request = Request::parse(&octets).expect("valid");
        assert_eq!(request.kind, Kind::Discover);
        assert_eq!(request.arch(), Some(ClientArch(7)));
    }

    #[test]
    fn what_is_not_a_request_is_dropped_with_its_reason() {
        let damaged = |damage: fn(&mut Vec<u8>)| {
            let mut octets = packet(&[(53, &[1])]);
            damage(&mut octets);
            Request::parse(&octets).map(|_| ())
        };
        assert_eq!(damaged(|p| p.truncate(239)), Err(Silence::TooShort));
        assert_eq!(damaged(|p| p[0] = 2), Err(Silence::NotARequest));
        assert_eq!(damaged(|p| p[2] = 17), Err(Silence::HardwareAddressTooLong));
        assert_eq!(damaged(|p| p[3] = 17), Err(Silence::TooManyHops));
        assert_eq!(damaged(|p| p[236] = 0), Err(Silence::BadMagicCookie));
        assert_eq!(damaged(|p| p.truncate(242)), Err(Silence::OptionsTruncated));
        assert_eq!(damaged(|p| p[241] = 9), Err(Silence::OptionsTruncated));
        assert_eq!(damaged(|p| p[240] = 0), Err(Silence::NoMessageType));
        assert_eq!(damaged(|p| p[242] = 5), Err(Silence::UnexpectedMessageType));
        assert_eq!(parse(&[(53, &[1, 1])]), Err(Silence::MalformedOption));
        assert_eq!(
            parse(&[(53, &[1]), (50, &[1, 2])]),
            Err(Silence::MalformedOption)
        );
    }

    #[test]
    fn a_client_without_a_mac_is_known_by_its_id() {
        let mut octets = packet(&[(53, &[1]), (61, &[255, 1, 2, 3])]);
        octets[2] = 0;
        let request = Request::parse(&octets).expect("valid");
        assert_eq!(request.client(), Some(ClientKey::Id(vec![255, 1, 2, 3])));
        let mut octets = packet(&[(53, &[1])]);
        octets[2] = 0;
        assert_eq!(Request::parse(&octets).expect("valid").client(), None);
    }

    proptest::proptest! {
        #[test]
        fn no_octets_make_the_parser_panic(octets: Vec<u8>, tail: Vec<u8>) {
            let _ = Request::parse(&octets);
            let mut framed = packet(&[(53, &[1])]);
            framed.pop();
            framed.extend(tail);
            if let Ok(request) = Request::parse(&framed) {
                let _ = (request.client(), request.arch(), request.ipxe(), request.hostname());
                let _ = (request.state(), request.max_reply_octets(), request.user_class());
            }
        }
    }
}
