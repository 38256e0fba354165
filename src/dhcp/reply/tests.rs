use super::super::request::tests::packet;
use super::super::view::Ingress;
use super::*;
use crate::bindings::Bindings;
use crate::catalog::{Catalog, Change, Settings};
use crate::model::{
    Class, MacAddr, Match, NakReason, Octets, Options, Reservation, Source, Subnet,
};

const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const YIADDR: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);

fn catalog(hostname: &str) -> Catalog {
    catalog_with(hostname, |_, _, _| ())
}

fn catalog_with(
    hostname: &str,
    change: impl FnOnce(&mut Settings, &mut Subnet, &mut Reservation),
) -> Catalog {
    let mut settings = Settings::default();
    let mut subnet = Subnet::of("198.18.0.0/24".parse().expect("a network"));
    subnet.router = Some(SERVER);
    subnet.dns = vec![SERVER, Ipv4Addr::new(198, 18, 0, 2)];
    subnet.domain = Some("lab.internal".into());
    let mut reservation = Reservation::of("node-1".into(), Source::Api);
    reservation.mac = Some(MacAddr([0x52, 0x54, 0, 0, 0, 1]));
    reservation.address = Some(YIADDR);
    reservation.hostname = Some(hostname.into());
    change(&mut settings, &mut subnet, &mut reservation);
    settings.subnets = vec![subnet];
    Catalog::new(settings)
        .with(&Change::Create(reservation))
        .expect("fits")
}

fn options(pairs: &[(u8, &[u8])]) -> Options {
    let pairs = pairs
        .iter()
        .map(|(code, content)| (*code, Octets(content.to_vec())));
    Options(pairs.collect())
}

/// A reply taken apart: header fields, and options in the order they stand in.
struct Reply {
    octets: Vec<u8>,
    options: Vec<(u8, Vec<u8>)>,
}

impl Reply {
    fn option(&self, code: u8) -> Option<&[u8]> {
        let (_, content) = self.options.iter().find(|(c, _)| *c == code)?;
        Some(content)
    }

    fn codes(&self) -> Vec<u8> {
        self.options.iter().map(|(code, _)| *code).collect()
    }

    fn file(&self) -> &[u8] {
        let field = &self.octets[108..236];
        field.split(|b| *b == 0).next().unwrap_or(field)
    }
}

fn reply_to(
    octets: &[u8],
    answer: &Answer,
    bootfile: Option<Bootfile>,
    catalog: &Catalog,
) -> Reply {
    let request = Request::parse(octets).expect("valid");
    let bindings = Bindings::default();
    let ingress = Ingress {
        server_id: SERVER,
        is_unicast: false,
        authoritative: false,
        now_secs: 0,
    };
    let view = View::new(&request, catalog, &bindings, ingress).expect("a subnet");
    let octets = encode(&request, answer, bootfile.as_ref(), &view).expect("an answer");
    let mut options = Vec::new();
    let mut rest = &octets[240..];
    while let [code, length, tail @ ..] = rest
        && *code != 255
    {
        if *code == 0 {
            rest = &rest[1..];
            continue;
        }
        let (content, after) = tail.split_at(usize::from(*length));
        options.push((*code, content.to_vec()));
        rest = after;
    }
    assert_eq!(rest.first(), Some(&255), "the end option");
    Reply { octets, options }
}

fn ack() -> Answer {
    Answer::Ack {
        address: YIADDR,
        lease_secs: 3600,
    }
}

#[test]
fn a_reply_has_the_fields_of_table_3_and_the_options_that_were_asked_for_in_order() {
    let request = packet(&[(53, &[3]), (55, &[15, 3, 12, 1, 6, 77]), (61, b"\x01abc")]);
    let reply = reply_to(&request, &ack(), None, &catalog("node-1"));
    assert_eq!(reply.octets[0], 2, "BOOTREPLY");
    assert_eq!(reply.octets[4..8], request[4..8], "xid");
    assert_eq!(reply.octets[16..20], YIADDR.octets());
    assert_eq!(reply.octets[28..44], request[28..44], "chaddr");
    assert_eq!(reply.codes(), [53, 54, 51, 58, 59, 1, 15, 3, 12, 6, 61]);
    assert_eq!(reply.option(54), Some(&SERVER.octets()[..]));
    assert_eq!(reply.option(51), Some(&3600_u32.to_be_bytes()[..]));
    assert_eq!(reply.option(58), Some(&1800_u32.to_be_bytes()[..]));
    assert_eq!(reply.option(59), Some(&3150_u32.to_be_bytes()[..]));
    assert_eq!(reply.option(12), Some(&b"node-1"[..]));
    assert_eq!(reply.option(15), Some(&b"lab.internal"[..]));
    assert_eq!(reply.option(61), Some(&b"\x01abc"[..]));
}

#[test]
fn a_host_name_with_a_domain_is_said_in_two_options() {
    let request = packet(&[(53, &[1]), (55, &[12, 15])]);
    let reply = reply_to(&request, &ack(), None, &catalog("node-1.rack.test"));
    assert_eq!(reply.option(12), Some(&b"node-1"[..]));
    assert_eq!(reply.option(15), Some(&b"rack.test"[..]));
}

#[test]
fn a_boot_file_is_said_wherever_some_firmware_looks_for_it() {
    let uuid = [&[0_u8][..], &[7; 16]].concat();
    let request = packet(&[
        (53, &[1]),
        (60, b"PXEClient:Arch:00007"),
        (93, &[0, 7]),
        (97, &uuid),
    ]);
    let program = Bootfile::Tftp("snponly.efi".into());
    let reply = reply_to(&request, &ack(), Some(program), &catalog("node-1"));
    assert_eq!(reply.octets[20..24], SERVER.octets(), "siaddr");
    assert_eq!(reply.file(), b"snponly.efi");
    assert_eq!(reply.option(67), Some(&b"snponly.efi"[..]));
    assert_eq!(reply.option(66), Some(&b"198.18.0.1"[..]));
    assert_eq!(reply.option(60), Some(&b"PXEClient"[..]));
    assert_eq!(reply.option(43), Some(&[6, 1, 8, 255][..]));
    assert_eq!(reply.option(97), Some(&uuid[..]));
    assert_eq!(reply.option(175), None);
    let name = b"\x43\x0bsnponly.efi\0";
    assert!(
        reply.octets.windows(name.len()).any(|w| w == name),
        "a pad behind it, for EDK II"
    );
}

#[test]
fn a_url_too_long_for_the_file_field_is_in_option_67_alone() {
    let request = packet(&[(53, &[1]), (77, b"iPXE"), (57, &[5, 192])]);
    for (length, in_file) in [(127, 127), (128, 0), (300, 0)] {
        let url = "u".repeat(length);
        let reply = reply_to(
            &request,
            &ack(),
            Some(Bootfile::Script(url)),
            &catalog("node-1"),
        );
        assert_eq!(reply.file().len(), in_file);
        let said: usize = (reply.options.iter())
            .filter(|(code, _)| *code == 67)
            .map(|(_, content)| content.len())
            .sum();
        assert_eq!(said, length, "in parts of 255 (RFC 3396)");
        assert_eq!(reply.option(175), Some(&[176, 1, 1][..]));
    }
}

#[test]
fn http_boot_is_answered_in_its_own_words() {
    let request = packet(&[(53, &[1]), (60, b"HTTPClient:Arch:00016"), (93, &[0, 16])]);
    let url = Bootfile::HttpProgram("http://198.18.0.1/programs/ipxe.efi".into());
    let reply = reply_to(&request, &ack(), Some(url), &catalog("node-1"));
    assert_eq!(reply.option(60), Some(&b"HTTPClient"[..]));
    assert_eq!(
        reply.option(67),
        Some(&b"http://198.18.0.1/programs/ipxe.efi"[..])
    );
    assert_eq!((reply.option(66), reply.option(43)), (None, None));
    assert_eq!(reply.octets[20..24], [0; 4], "siaddr");
}

#[test]
fn what_a_relay_agent_said_comes_back_whole_and_last() {
    let said: Vec<u8> = (0..200).collect();
    let mut request = packet(&[(53, &[1]), (82, &said), (61, b"\x01abc")]);
    request[24..28].copy_from_slice(&[198, 18, 0, 2]);
    let reply = reply_to(&request, &ack(), None, &catalog("node-1"));
    assert_eq!(reply.options.last(), Some(&(82, said)));
    assert_eq!(reply.octets[24..28], [198, 18, 0, 2], "giaddr");
}

#[test]
fn a_nak_says_why_and_nothing_of_addresses() {
    let mut request = packet(&[(53, &[3]), (60, b"PXEClient"), (12, b"x")]);
    let nak = Answer::Nak(NakReason::WrongNetwork);
    let program = || Some(Bootfile::Tftp("undionly.kpxe".into()));
    let reply = reply_to(&request, &nak, program(), &catalog("node-1"));
    assert_eq!(reply.codes(), [53, 54, 56]);
    assert_eq!(reply.octets.len(), SHORTEST_REPLY);
    assert_eq!(reply.octets[12..24], [0; 12], "ciaddr, yiaddr, siaddr");
    assert_eq!(reply.octets[10], 0);
    request[24..28].copy_from_slice(&[198, 18, 0, 2]);
    let relayed = reply_to(&request, &nak, None, &catalog("node-1"));
    assert_eq!(
        relayed.octets[10], 0x80,
        "the relay agent is to broadcast it"
    );
}

#[test]
fn an_inform_is_answered_without_address_and_lease_times() {
    let mut request = packet(&[(53, &[8]), (55, &[1, 3, 51])]);
    request[12..16].copy_from_slice(&YIADDR.octets());
    let reply = reply_to(&request, &Answer::AckInform, None, &catalog("node-1"));
    assert_eq!(reply.codes(), [53, 54, 1, 3]);
    assert_eq!(reply.octets[12..16], YIADDR.octets(), "ciaddr");
    assert_eq!(reply.octets[16..20], [0; 4], "yiaddr");
}

#[test]
fn a_reply_never_exceeds_what_the_client_takes_and_drops_the_least_important_first() {
    let long_id = vec![7; 255];
    let request = packet(&[
        (53, &[1]),
        (57, &[2, 64]),
        (61, &long_id),
        (60, b"PXEClient"),
        (93, &[0, 7]),
    ]);
    let program = Bootfile::Tftp("x".repeat(120));
    let reply = reply_to(&request, &ack(), Some(program), &catalog("node-1"));
    assert!(reply.octets.len() <= 548, "{}", reply.octets.len());
    assert_eq!(reply.codes()[..5], [53, 54, 51, 58, 59]);
    assert_eq!(reply.file().len(), 120, "the boot file stays");
    assert_eq!(reply.option(61), Some(&long_id[..]));
}

#[test]
fn of_two_layers_that_say_an_option_the_more_particular_one_wins() {
    let class = |name: &str, vendor: &str, options: Options| Class {
        name: name.into(),
        matches: Match {
            vendor_class: vec![vendor.into()],
            ..Match::default()
        },
        options,
        pools: vec![],
        program: None,
        lease_time: None,
        boot_server: false,
        ignore: false,
    };
    let asked = |codes: &[u8]| packet(&[(53, &[1]), (60, b"Linux"), (55, codes)]);
    let catalog = catalog_with("node-1", |settings, subnet, reservation| {
        settings.options = options(&[
            (42, &[1]),
            (26, &[1]),
            (150, &[1]),
            (252, &[1]),
            (3, &[9; 4]),
        ]);
        subnet.options = options(&[(26, &[2]), (150, &[2]), (252, &[2])]);
        settings.classes = vec![
            class("first", "Lin", options(&[(150, &[3]), (252, &[3])])),
            class("other", "BSD", options(&[(42, &[7])])),
        ];
        reservation.options = options(&[(252, &[4])]);
    });
    let reply = reply_to(&asked(&[252, 150, 26, 42, 3]), &ack(), None, &catalog);
    assert_eq!(reply.codes()[5..], [252, 150, 26, 42, 3]);
    for (code, content) in [(42, 1), (26, 2), (150, 3), (252, 4)] {
        assert_eq!(reply.option(code), Some(&[content][..]), "{code}");
    }
    assert_eq!(
        reply.option(3),
        Some(&SERVER.octets()[..]),
        "the subnet's own router"
    );
    let reply = reply_to(&asked(&[1]), &ack(), None, &catalog);
    assert_eq!(
        reply.codes()[5..],
        [1],
        "what was not asked for is not sent"
    );
}

#[test]
fn classless_routes_hold_the_way_out_since_they_hide_option_3() {
    let catalog = catalog_with("node-1", |_, subnet, _| {
        subnet.options = options(&[(121, &[24, 192, 0, 2, 198, 18, 0, 9])]);
    });
    let reply = reply_to(
        &packet(&[(53, &[1]), (55, &[121, 3])]),
        &ack(),
        None,
        &catalog,
    );
    assert_eq!(
        reply.option(121),
        Some(&[24, 192, 0, 2, 198, 18, 0, 9, 0, 198, 18, 0, 1][..])
    );
}

#[test]
fn options_overflow_into_the_fields_that_nothing_else_needs() {
    let long = [7; 100];
    let codes = [224, 225, 226, 227];
    let catalog = catalog_with("node-1", |settings, _, _| {
        settings.options = options(&codes.map(|code| (code, &long[..])));
    });
    let request = packet(&[(53, &[1]), (55, &codes), (60, b"PXEClient"), (93, &[0, 7])]);
    let parsed_again = |reply: &Reply| {
        let mut octets = reply.octets.clone();
        octets[0] = 1;
        Request::parse(&octets).map(|_| ()).err()
    };
    // Two fit behind the header and one into `file`; into `sname` none does.
    let reply = reply_to(&request, &ack(), None, &catalog);
    assert_eq!(reply.option(52), Some(&[1][..]));
    assert!(reply.octets.len() <= 548);
    assert_eq!(reply.octets[108..110], [226, 100]);
    assert_eq!(
        parsed_again(&reply),
        Some(crate::model::Silence::UnexpectedMessageType),
        "it parses"
    );
    // With a boot file that field is taken, and the boot file is where ROMs look for it.
    let program = Bootfile::Tftp("snponly.efi".into());
    let reply = reply_to(&request, &ack(), Some(program), &catalog);
    assert_eq!(reply.option(52), None);
    assert_eq!(reply.file(), b"snponly.efi");
}

#[test]
fn what_is_sent_back_leaves_room_for_the_lease_within_what_the_client_takes() {
    let (id, said) = ([7; 250], [8; 200]);
    // In parts (RFC 3396): 500 octets of client-id, which 548 octets cannot hold beside a lease.
    let request = packet(&[(53, &[3]), (61, &id), (61, &id), (82, &said)]);
    let reply = reply_to(&request, &ack(), None, &catalog("node-1"));
    assert_eq!(reply.option(61), None);
    assert_eq!(reply.option(51), Some(&3600_u32.to_be_bytes()[..]));
    assert_eq!(reply.option(82), Some(&said[..]), "the relay agent's own");
    assert!(reply.octets.len() <= 548 + 202, "{}", reply.octets.len());
    let takes_more = packet(&[
        (53, &[3]),
        (57, &1500_u16.to_be_bytes()),
        (61, &id),
        (61, &id),
    ]);
    let reply = reply_to(&takes_more, &ack(), None, &catalog("node-1"));
    assert_eq!(reply.codes().iter().filter(|code| **code == 61).count(), 2);
}

#[test]
fn a_relay_agent_that_stands_for_the_server_has_no_boot_files() {
    let agent = [198, 18, 0, 2];
    let said = [&[11, 4][..], &agent].concat();
    let mut octets = packet(&[(53, &[3]), (60, b"PXEClient"), (93, &[0, 7]), (82, &said)]);
    octets[24..28].copy_from_slice(&agent);
    let program = Some(Bootfile::Tftp("snponly.efi".into()));
    let reply = reply_to(&octets, &ack(), program, &catalog("node-1"));
    assert_eq!(reply.option(54), Some(&agent[..]), "RFC 5107");
    assert_eq!(reply.octets[20..24], SERVER.octets(), "siaddr");
    assert_eq!(reply.option(66), Some(&b"198.18.0.1"[..]));
}
