//! DHCP octet by octet: packets made by hand, and answers looked at as they are on the wire.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::support::dhcp::{
    ACK, NAK, OFFER, Packet, Reply, SERVER, Segment, is_about, mac, numbers, text,
};
use crate::support::netns::Netns;
use crate::support::service::{Home, Service};
use crate::support::wire::EVERYONE;

const NODE_1: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);
const NODE_2: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 20);
/// In the subnet, in no pool, and nobody's.
const UNUSED: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 77);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

/// Machine 1 and 2 have an address reserved, machine 3 only a name.
const RESERVATIONS: &str = r#"
[[reservation]]
mac = "52:54:00:00:00:01"
address = "198.18.0.10"
hostname = "node-1"

[[reservation]]
mac = "52:54:00:00:00:02"
address = "198.18.0.20"
hostname = "node-2.rack.example"

[[reservation]]
mac = "52:54:00:00:00:03"
hostname = "node-3"
"#;

/// A service and the link its clients are on.
struct Lab {
    service: Service,
    segment: Segment,
    server: Netns,
    home: Home,
    config: String,
}

impl Lab {
    fn new() -> Self {
        Self::with(|config| config)
    }

    /// With a configuration that is changed before the start.
    fn with(change: impl FnOnce(String) -> String) -> Self {
        let (server, segment) = Segment::new();
        let home = Home::new();
        // Programs of our own: what a distribution's package has differs.
        for program in ["undionly.kpxe", "snponly.efi"] {
            home.write(&format!("programs/{program}"), "a program");
        }
        let programs = home.path().join("programs").display().to_string();
        let config = home
            .config(RESERVATIONS)
            .replace("/usr/lib/ipxe", &programs);
        let config = change(config);
        Self {
            service: Service::start(&server, &home, &config),
            segment,
            server,
            home,
            config,
        }
    }

    /// With a pool of these addresses and no others.
    fn with_pool(pool: &str) -> Self {
        Self::with(|config| config.replace("198.18.0.100-198.18.0.199", pool))
    }

    /// Stops the service as an operator does, and starts it again on the same data.
    fn restart(self) -> Self {
        let (status, log) = self.service.terminate();
        assert!(status.success(), "{log:?}");
        Self {
            service: Service::start(&self.server, &self.home, &self.config),
            ..self
        }
    }

    fn ask(&self, packet: &Packet) -> Reply {
        self.segment.ask(packet)
    }

    fn expect_silence(&self, packet: &Packet, reason: &str) {
        self.segment.send(packet);
        self.segment.expect_silence(&self.service, packet, reason);
    }

    fn expect_nak(&self, packet: &Packet, reason: &str) {
        let reply = self.ask(packet);
        assert_eq!(reply.kind(), NAK);
        assert_eq!(reply.yiaddr(), Ipv4Addr::UNSPECIFIED);
        assert_eq!(reply.ciaddr(), Ipv4Addr::UNSPECIFIED);
        assert_eq!(reply.server_id(), SERVER);
        assert_eq!(reply.option(51), None);
        assert_is_broadcast(&reply);
        let line = self
            .service
            .wait_for("refused", |line| is_about(line, packet));
        assert_eq!(line["reason"], reason, "{line}");
    }
}

fn assert_is_broadcast(reply: &Reply) {
    assert_eq!(reply.datagram.to_mac, EVERYONE);
    assert_eq!(
        reply.datagram.to,
        SocketAddrV4::new(Ipv4Addr::BROADCAST, 68)
    );
}

fn assert_is_in_pool(address: Ipv4Addr) {
    let [network @ .., host] = address.octets();
    assert!(
        network == [198, 18, 0] && (100..200).contains(&host),
        "{address}"
    );
}

/// A DISCOVER of PXE firmware of this architecture.
fn pxe(n: u16, arch: u16) -> Packet {
    Packet::discover(mac(n))
        .with(
            60,
            format!("PXEClient:Arch:{arch:05}:UNDI:003001").as_bytes(),
        )
        .with(93, &arch.to_be_bytes())
}

const ASKED_BY_FIRMWARE: [u8; 8] = [1, 3, 6, 12, 15, 43, 66, 67];

#[test]
fn a_reserved_machine_gets_its_address_in_a_frame_to_its_card() {
    let lab = Lab::new();
    let discover = Packet::discover(mac(1));
    let offer = lab.ask(&discover);
    let ack = lab.ask(&Packet::selecting(&offer));
    for (reply, kind) in [(&offer, OFFER), (&ack, ACK)] {
        assert_eq!(reply.kind(), kind);
        assert_eq!(reply.datagram.to_mac, mac(1));
        assert_eq!(reply.datagram.to, SocketAddrV4::new(NODE_1, 68));
        assert_eq!(reply.datagram.from, SocketAddrV4::new(SERVER, 67));
        assert_eq!((reply.yiaddr(), reply.chaddr()), (NODE_1, mac(1)));
        assert_eq!(reply.server_id(), SERVER);
        assert_eq!(reply.text(12), Some("node-1"));
        let lease = [51, 58, 59].map(|code| reply.number(code));
        assert_eq!(lease, [Some(3600), Some(1800), Some(3150)]);
        assert_eq!(reply.option(53), Some(&[kind][..]));
        assert_eq!(reply.options[0].0, 53, "first, as clients expect it");
    }
    for message in ["offered", "acked"] {
        let line = lab.service.wait_for(message, |l| is_about(l, &discover));
        assert_eq!(line["machine"], "node-1");
        assert_eq!(line["mac"], text(mac(1)).as_str());
        assert_eq!(line["yiaddr"], "198.18.0.10");
    }
}

#[test]
fn any_other_machine_gets_an_address_of_the_pool_and_no_name() {
    let lab = Lab::new();
    let ack = lab.segment.acquire(mac(50));
    assert_is_in_pool(ack.yiaddr());
    assert_eq!(ack.option(12), None);
    let other = lab.segment.acquire(mac(51));
    assert_is_in_pool(other.yiaddr());
    assert_ne!(ack.yiaddr(), other.yiaddr());
}

#[test]
fn a_reservation_without_an_address_keeps_its_name_and_takes_from_the_pool() {
    let lab = Lab::new();
    let ack = lab.segment.acquire(mac(3));
    assert_is_in_pool(ack.yiaddr());
    assert_eq!(ack.text(12), Some("node-3"));
}

#[test]
fn a_client_that_cannot_take_unicast_yet_is_answered_by_broadcast() {
    let lab = Lab::new();
    let discover = Packet::discover(mac(1)).wanting_broadcast();
    let offer = lab.ask(&discover);
    assert_is_broadcast(&offer);
    assert_eq!((offer.flags(), offer.yiaddr()), (0x8000, NODE_1));
    let ack = lab.ask(&Packet::selecting(&offer));
    assert_eq!(ack.kind(), ACK);
    assert_is_broadcast(&ack);
}

#[test]
fn a_client_without_a_hardware_address_is_known_by_its_id_and_answered_by_broadcast() {
    let lab = Lab::new();
    let discover = Packet {
        htype: 32, // InfiniBand (RFC 4390)
        hlen: 0,
        ..Packet::discover([0; 6]).with(61, &[255, 1, 2, 3, 4])
    };
    let offer = lab.ask(&discover);
    assert_is_broadcast(&offer);
    assert_is_in_pool(offer.yiaddr());
    let again = Packet {
        xid: discover.xid + 0x0100_0000,
        ..discover.clone()
    };
    assert_eq!(lab.ask(&again).yiaddr(), offer.yiaddr());
    let nobody = Packet {
        hlen: 0,
        ..Packet::discover([0; 6])
    };
    lab.expect_silence(&nobody, "no_identity");
}

#[test]
fn a_client_that_renews_is_answered_at_its_address() {
    let lab = Lab::new();
    let address = lab.segment.acquire(mac(60)).yiaddr();
    let renew = Packet::extending(mac(60), address);
    lab.segment.send_from_address(&renew);
    let ack = lab.segment.answer_to(&renew);
    assert_eq!((ack.kind(), ack.yiaddr()), (ACK, address));
    assert_eq!(ack.ciaddr(), address);
    assert_eq!(ack.datagram.to_mac, mac(60));
    assert_eq!(ack.datagram.to, SocketAddrV4::new(address, 68));
    assert_eq!(ack.number(51), Some(3600));

    // REBINDING: the same, broadcast.
    let rebind = Packet::extending(mac(60), address);
    let ack = lab.ask(&rebind);
    assert_eq!((ack.kind(), ack.yiaddr()), (ACK, address));
    assert_eq!(ack.datagram.to, SocketAddrV4::new(address, 68));
}

#[test]
fn a_relayed_client_gets_an_address_of_its_own_subnet_through_its_relay_agent() {
    let lab = Lab::with(|config| {
        config
            + r#"
[[subnet]]
cidr = "198.18.5.0/24"
pools = ["198.18.5.100-198.18.5.109"]
router = "198.18.5.1"
lease_time = "10m"
"#
    });
    let agent = [2, 0, 0, 0, 5, 1];
    let agents_address = Ipv4Addr::new(198, 18, 0, 2);
    let giaddr = Ipv4Addr::new(198, 18, 5, 1);
    lab.segment.take_address(agents_address, agent);
    lab.server
        .ip(&["route", "add", "198.18.5.0/24", "via", "198.18.0.2"]);

    let circuit = [1, 4, b'p', b'o', b'r', b't', 2, 2, 0xff, 0];
    let discover = Packet::discover(mac(70))
        .with(82, &circuit)
        .with(61, &[1, 9, 9])
        .relayed_by(giaddr);
    lab.segment.send_through_agent(&discover, agent);
    let offer = lab.segment.answer_to(&discover);
    let request = Packet::selecting(&offer)
        .with(82, &circuit)
        .relayed_by(giaddr);
    lab.segment.send_through_agent(&request, agent);
    let ack = lab.segment.answer_to(&request);
    for (reply, kind) in [(&offer, OFFER), (&ack, ACK)] {
        assert_eq!(reply.kind(), kind);
        assert_eq!(reply.datagram.to_mac, agent);
        assert_eq!(reply.datagram.to, SocketAddrV4::new(giaddr, 67));
        assert_eq!(reply.datagram.from, SocketAddrV4::new(SERVER, 67));
        assert_eq!(reply.giaddr(), giaddr);
        assert_eq!(reply.yiaddr().octets()[..3], [198, 18, 5]);
        assert_eq!(reply.address(3), Some(giaddr));
        assert_eq!(reply.number(51), Some(600));
        assert_eq!(reply.options.last(), Some(&(82, circuit.to_vec())));
    }

    // A NAK goes the same way and asks the agent to broadcast it (RFC 2131 §4.3.2).
    let stray = Packet::rebooting(mac(70), NODE_1).relayed_by(giaddr);
    lab.segment.send_through_agent(&stray, agent);
    let nak = lab.segment.answer_to(&stray);
    assert_eq!((nak.kind(), nak.flags()), (NAK, 0x8000));
    assert_eq!(nak.datagram.to, SocketAddrV4::new(giaddr, 67));

    // Machine 1's address is of another subnet: here it is served like any other, with its name.
    let moved = Packet::discover(mac(1)).relayed_by(giaddr);
    lab.segment.send_through_agent(&moved, agent);
    let offer = lab.segment.answer_to(&moved);
    assert_eq!(offer.yiaddr().octets()[..3], [198, 18, 5]);
    assert_eq!(offer.text(12), Some("node-1"));

    let lost = Packet::discover(mac(71)).relayed_by(ELSEWHERE);
    lab.segment.send_through_agent(&lost, agent);
    lab.segment.expect_silence(&lab.service, &lost, "no_subnet");
}

#[test]
fn options_come_as_asked_for_and_the_mask_before_the_router() {
    let lab = Lab::new();
    let ours = [1, 3, 6, 12, 15, 28];
    let given = |asked: &[u8]| -> Vec<u8> {
        let reply = lab.ask(&Packet::discover(mac(1)).with(55, asked));
        let codes = reply.options.iter().map(|(code, _)| *code);
        codes.filter(|code| ours.contains(code)).collect()
    };
    assert_eq!(given(&[15, 3, 6, 1]), [1, 15, 3, 6]);
    assert_eq!(given(&[12]), [12]);
    assert_eq!(given(&[121, 33, 3]), [3]);
    assert_eq!(given(&[3, 3, 1, 1]), [1, 3]);
    assert_eq!(given(&[]), [0; 0]);

    let reply = lab.ask(&Packet::discover(mac(1)));
    assert_eq!(reply.option(1), Some(&[255, 255, 255, 0][..]));
    assert_eq!(reply.address(3), Some(SERVER));
    assert_eq!(reply.address(6), Some(SERVER));
    assert_eq!(reply.text(15), Some("lab.internal"));
    assert_eq!(reply.address(28), Some(Ipv4Addr::new(198, 18, 0, 255)));
}

#[test]
fn a_host_name_with_a_domain_is_given_as_name_and_domain() {
    let lab = Lab::new();
    let reply = lab.ask(&Packet::discover(mac(2)));
    assert_eq!(reply.text(12), Some("node-2"));
    assert_eq!(reply.text(15), Some("rack.example"));
}

#[test]
fn a_client_may_ask_for_a_shorter_lease_but_not_for_a_longer_one() {
    let lab = Lab::new();
    for (asked, granted) in [(120_u32, 120), (10, 60), (1 << 31, 3600), (u32::MAX, 3600)] {
        let offer = lab.ask(&Packet::discover(mac(1)).with(51, &asked.to_be_bytes()));
        let times = [51, 58, 59].map(|code| offer.number(code));
        let expected = [granted, granted / 2, granted - granted / 8];
        assert_eq!(times, expected.map(Some), "asked for {asked}");
    }
}

#[test]
fn firmware_gets_the_boot_program_of_its_architecture_in_every_place_it_may_look() {
    let lab = Lab::new();
    for (arch, program) in [(0, "undionly.kpxe"), (7, "snponly.efi"), (9, "snponly.efi")] {
        let discover = pxe(1, arch).with(55, &ASKED_BY_FIRMWARE);
        let offer = lab.ask(&discover);
        let ack = lab.ask(&Packet {
            options: [&Packet::selecting(&offer).options, &discover.options[1..]].concat(),
            ..Packet::selecting(&offer)
        });
        assert_eq!(ack.kind(), ACK);
        for reply in [offer, ack] {
            assert_eq!(reply.siaddr(), SERVER);
            assert_eq!(reply.file(), program);
            assert_eq!(reply.text(67), Some(program));
            assert_eq!(reply.text(66), Some("198.18.0.1"));
            assert_eq!(reply.text(60), Some("PXEClient"));
            // PXE 2.1 §2.2.3: boot this file, ask no boot server.
            assert_eq!(reply.option(43), Some(&[6, 1, 8, 255][..]));
            assert_eq!(reply.option(175), None);
        }
    }
}

#[test]
fn the_first_known_of_several_architectures_counts_and_option_60_where_there_is_none() {
    let lab = Lab::new();
    let several = pxe(1, 0).with(93, &[0, 99, 0, 7, 0, 0]);
    assert_eq!(lab.ask(&several).file(), "snponly.efi");
    let told = Packet::discover(mac(1)).with(60, b"PXEClient:Arch:00007:UNDI:003016");
    assert_eq!(lab.ask(&told).file(), "snponly.efi");
    let old = Packet::discover(mac(1)).with(60, b"PXEClient");
    assert_eq!(lab.ask(&old).file(), "undionly.kpxe");
}

#[test]
fn a_machine_that_no_program_is_for_gets_an_address_and_no_boot_file() {
    let lab = Lab::new();
    // 11: arm64, for which none is installed; 2: Itanium; none at all: an operating system.
    for discover in [pxe(1, 11), pxe(1, 2), Packet::discover(mac(1))] {
        let offer = lab.ask(&discover);
        assert_eq!((offer.kind(), offer.yiaddr()), (OFFER, NODE_1));
        assert_eq!(offer.siaddr(), Ipv4Addr::UNSPECIFIED);
        assert_eq!(offer.file(), "");
        for code in [43, 60, 66, 67, 175] {
            assert_eq!(offer.option(code), None, "option {code}");
        }
    }
}

#[test]
fn the_octet_behind_the_boot_files_name_is_a_pad_because_edk2_writes_a_nul_there() {
    // UefiPxeBcDxe and HttpBootDxe close the name of option 67 in place. Over the next option's code that made OVMF 2022.11 lose
    // its way in the rest of the packet and decline the address, or not, by the length of the domain's name.
    let lab = Lab::new();
    for discover in [
        pxe(1, 0),
        pxe(1, 7),
        pxe(1, 16).with(60, b"HTTPClient:Arch:00016"),
    ] {
        let offer = lab.ask(&discover);
        let name = offer.text(67).expect("a boot file");
        let option = [
            &[67, u8::try_from(name.len()).expect("short")],
            name.as_bytes(),
        ]
        .concat();
        let octets = &offer.datagram.content;
        let at = octets
            .windows(option.len())
            .position(|window| window == option);
        let behind = at.expect("it is there") + option.len();
        assert_eq!(octets[behind], 0, "{name}");
    }
}

#[test]
fn http_boot_gets_a_url_and_its_own_word_back() {
    let lab = Lab::new();
    let discover = Packet::discover(mac(1))
        .with(60, b"HTTPClient:Arch:00016:UNDI:003000")
        .with(93, &[0, 16]);
    let offer = lab.ask(&discover);
    let url = "http://198.18.0.1/programs/snponly.efi";
    assert_eq!(offer.text(60), Some("HTTPClient"));
    assert_eq!(offer.text(67), Some(url));
    assert_eq!(offer.file(), url);
    assert_eq!(offer.siaddr(), Ipv4Addr::UNSPECIFIED);
    assert_eq!((offer.option(66), offer.option(43)), (None, None));
}

#[test]
fn ipxe_gets_the_script_of_its_machine_however_it_says_what_it_is() {
    let lab = Lab::new();
    let http = [16, 1, 1, 19, 1, 1, 33, 1, 1];
    let script = |firmware| {
        format!(
            "http://198.18.0.1/machines/52-54-00-00-00-01/boot.ipxe?arch=x86_64&firmware={firmware}"
        )
    };
    for (discover, firmware) in [
        (pxe(1, 0).with(77, b"iPXE").with(175, &http), "bios"),
        (pxe(1, 7).with(77, b"\x04iPXE").with(175, &http), "uefi"),
        (pxe(1, 7).with(175, &http), "uefi"),
        (pxe(1, 0).with(77, b"iPXE"), "bios"),
        // iPXE started by HTTP boot still says so in its user class.
        (pxe(1, 7).with(77, b"\x05other\x04iPXE"), "uefi"),
    ] {
        let offer = lab.ask(&discover);
        let url = script(firmware);
        assert_eq!(offer.text(67), Some(url.as_str()), "{discover:02x?}");
        assert_eq!(offer.file(), url);
        assert_eq!(offer.siaddr(), SERVER, "it is iPXE's ${{next-server}}");
        // no-pxedhcp: it need not wait for a proxyDHCP server.
        assert_eq!(offer.option(175), Some(&[176, 1, 1][..]));
    }
}

#[test]
fn an_ipxe_that_cannot_fetch_over_http_gets_one_that_can() {
    let lab = Lab::new();
    let discover = pxe(1, 0).with(77, b"iPXE").with(175, &[33, 1, 1, 21, 1, 1]);
    assert_eq!(lab.ask(&discover).file(), "undionly.kpxe");
}

#[test]
fn what_is_to_be_sent_back_comes_back_octet_by_octet() {
    let lab = Lab::new();
    let uuid: Vec<u8> = (0..17).map(|n| n * 15).collect();
    let agent: Vec<u8> = (0..255).collect();
    for (code, content) in [
        (97, &uuid[..]),
        (97, &[0]),
        (97, &uuid[..9]),
        (61, &[1, 0x52, 0x54, 0, 0, 0, 1]),
        (61, &[255, 0, 0, 0, 1, 0, 2, 0, 0, 0xab, 0x11, 7]),
        (61, &[]),
        (82, &[1, 2, 0, 255]),
        (82, &agent),
        (82, &[]),
    ] {
        let discover = pxe(1, 0).with(code, content).with(55, &ASKED_BY_FIRMWARE);
        let offer = lab.ask(&discover);
        assert_eq!(offer.option(code), Some(content), "option {code}");
        let ack = lab.ask(
            &Packet::selecting(&offer)
                .with(93, &[0, 0])
                .with(code, content),
        );
        assert_eq!(ack.option(code), Some(content), "option {code}");
    }
    // Together: option 82 last (RFC 3046 §2.2), even where there is hardly room for the rest.
    let all = pxe(1, 0)
        .with(82, &agent)
        .with(61, &[1, 2])
        .with(97, &uuid)
        .with(57, &576_u16.to_be_bytes());
    let offer = lab.ask(&all);
    assert_eq!(offer.options.last(), Some(&(82, agent.clone())));
    assert_eq!(offer.option(61), Some(&[1, 2][..]));
    assert!(offer.datagram.content.len() <= 576 - 28);
    assert_eq!(offer.file(), "undionly.kpxe");
    assert_eq!(offer.number(51), Some(3600));
}

#[test]
fn every_reply_has_the_300_octets_that_old_clients_want() {
    // `Reply::read` holds it against each reply of each test; here against the shortest there is.
    let lab = Lab::new();
    let nak = lab.ask(&Packet::rebooting(mac(1), ELSEWHERE));
    assert_eq!(nak.datagram.content.len(), 300);
    let offer = lab.ask(&Packet::discover(mac(1)).with(55, &[]));
    assert_eq!(offer.datagram.content.len(), 300);
}

#[test]
fn the_one_machine_has_one_address_whatever_client_id_its_firmware_and_systems_send() {
    let lab = Lab::new();
    let mut addresses: Vec<Ipv4Addr> = [
        Packet::discover(mac(80)),
        Packet::discover(mac(80)).with(61, &[1, 0x52, 0x54, 0, 0, 0, 80]),
        Packet::discover(mac(80)).with(61, &[255, 1, 2, 3, 4, 0, 2, 0, 0, 0xab, 0x11]),
    ]
    .iter()
    .map(|discover| lab.segment.acquire_by(discover).yiaddr())
    .collect();
    addresses.dedup();
    assert_eq!(addresses.len(), 1, "{addresses:?}");
}

#[test]
fn a_second_discover_gets_the_same_offer() {
    let lab = Lab::new();
    let discover = Packet::discover(mac(81));
    let (first, second) = (lab.ask(&discover), lab.ask(&discover));
    assert_eq!(first.datagram.content, second.datagram.content);
    let later = lab.ask(&Packet::discover(mac(81)));
    assert_eq!(later.yiaddr(), first.yiaddr());
}

#[test]
fn a_client_that_takes_another_servers_offer_is_left_alone_and_its_offer_freed() {
    let lab = Lab::with_pool("198.18.0.100");
    let offer = lab.ask(&Packet::discover(mac(82)));
    lab.expect_silence(&Packet::discover(mac(83)), "pool_exhausted");
    let chose_other = Packet {
        xid: offer.xid() + 0x0100_0000,
        ..Packet::selecting(&offer)
    }
    .with(54, &[198, 18, 0, 9]);
    lab.expect_silence(&chose_other, "other_server_chosen");
    let ack = lab.segment.acquire(mac(83));
    assert_eq!(ack.yiaddr(), offer.yiaddr());
}

#[test]
fn a_wish_for_an_address_that_cannot_be_is_refused_by_broadcast() {
    let lab = Lab::new();
    let held = lab.segment.acquire(mac(84)).yiaddr();
    for (n, address, reason) in [
        (90, ELSEWHERE, "wrong_network"),
        (90, NODE_1, "reserved_for_another"),
        (90, UNUSED, "not_in_pool"),
        (90, held, "taken"),
        (1, NODE_2, "reserved_elsewhere"),
        (1, Ipv4Addr::new(198, 18, 0, 150), "reserved_elsewhere"),
    ] {
        lab.expect_nak(&Packet::rebooting(mac(n), address), reason);
        // Renewing: the client is told by broadcast too, since its address is what is in doubt.
        let renewing = Packet::extending(mac(n), address);
        lab.expect_nak(&renewing, reason);
    }
    // One that renews at the server directly, as after its reservation was changed.
    let renewing = Packet::extending(mac(1), UNUSED);
    lab.segment.send_from_address(&renewing);
    let nak = lab.segment.answer_to(&renewing);
    assert_eq!(nak.kind(), NAK);
    assert_is_broadcast(&nak);
    assert!(
        nak.text(56)
            .is_some_and(|reason| reason.contains("reserved"))
    );
}

#[test]
fn a_client_that_returns_keeps_its_address_and_an_unknown_one_is_left_to_others() {
    let lab = Lab::new();
    let address = lab.segment.acquire(mac(85)).yiaddr();
    let known = lab.ask(&Packet::rebooting(mac(85), address));
    assert_eq!((known.kind(), known.yiaddr()), (ACK, address));
    let reserved = lab.ask(&Packet::rebooting(mac(1), NODE_1));
    assert_eq!((reserved.kind(), reserved.yiaddr()), (ACK, NODE_1));
    // RFC 2131 §4.3.2: another server may know it.
    let free = Ipv4Addr::new(198, 18, 0, 199);
    assert_ne!(free, address);
    lab.expect_silence(&Packet::rebooting(mac(86), free), "unknown_lease");
    lab.expect_silence(&Packet::extending(mac(86), free), "unknown_lease");
    lab.expect_silence(&Packet::new(3, mac(86)), "no_address_requested");
}

#[test]
fn a_server_that_is_alone_grants_an_unknown_client_its_free_address() {
    let lab = Lab::with(|config| config.replace("[dhcp]", "[dhcp]\nauthoritative = true"));
    let free = Ipv4Addr::new(198, 18, 0, 199);
    let ack = lab.ask(&Packet::rebooting(mac(86), free));
    assert_eq!((ack.kind(), ack.yiaddr()), (ACK, free));
}

#[test]
fn a_released_address_waits_for_its_client_and_serves_others_when_there_is_no_more() {
    let lab = Lab::with_pool("198.18.0.100-198.18.0.102");
    let address = lab.segment.acquire(mac(87)).yiaddr();
    let release = Packet::release(mac(87), address);
    lab.segment.send_from_address(&release);
    lab.segment
        .expect_silence(&lab.service, &release, "released");

    // Somebody new is rather given one that nobody had.
    assert_ne!(lab.segment.acquire(mac(88)).yiaddr(), address);
    assert_eq!(lab.segment.acquire(mac(87)).yiaddr(), address);

    lab.segment
        .send_from_address(&Packet::release(mac(87), address));
    assert_ne!(lab.segment.acquire(mac(89)).yiaddr(), address);
    assert_eq!(lab.segment.acquire(mac(90)).yiaddr(), address);
    lab.expect_silence(&Packet::discover(mac(87)), "pool_exhausted");
}

#[test]
fn nobody_can_release_or_decline_what_is_not_theirs() {
    let lab = Lab::new();
    let address = lab.segment.acquire(mac(91)).yiaddr();
    let release = Packet::release(mac(92), address);
    lab.segment.send_from_address(&release);
    lab.segment
        .expect_silence(&lab.service, &release, "not_the_holder");
    lab.expect_silence(&Packet::decline(mac(92), address), "not_the_holder");
    lab.expect_silence(&Packet::decline(mac(92), NODE_1), "not_the_holder");
    let other = Packet::decline(mac(91), address).with(54, &[198, 18, 0, 9]);
    lab.expect_silence(&other, "other_server_chosen");
    let ack = lab.ask(&Packet::rebooting(mac(91), address));
    assert_eq!((ack.kind(), ack.yiaddr()), (ACK, address));
}

#[test]
fn a_declined_address_is_given_to_nobody_and_its_client_gets_another() {
    let lab = Lab::with_pool("198.18.0.100-198.18.0.101");
    let declined = lab.segment.acquire(mac(93)).yiaddr();
    lab.expect_silence(&Packet::decline(mac(93), declined), "declined");
    let other = lab.segment.acquire(mac(93)).yiaddr();
    assert_ne!(other, declined);
    lab.expect_silence(&Packet::discover(mac(94)), "pool_exhausted");
    lab.expect_nak(&Packet::rebooting(mac(93), declined), "taken");
}

#[test]
fn a_declined_reserved_address_is_an_operators_matter() {
    let lab = Lab::new();
    lab.segment.acquire(mac(1));
    lab.expect_silence(&Packet::decline(mac(1), NODE_1), "declined");
    let discover = Packet::discover(mac(1));
    lab.expect_silence(&discover, "reserved_address_declined");
    let line = lab
        .service
        .wait_for("silent", |line| is_about(line, &discover));
    assert_eq!(line["level"], "ERROR", "{line}");
}

#[test]
fn a_client_with_an_address_of_its_own_is_informed_and_given_none() {
    let lab = Lab::new();
    let inform = Packet::inform(mac(95), UNUSED).with(55, &[1, 3, 6, 15]);
    lab.segment.send_from_address(&inform);
    let ack = lab.segment.answer_to(&inform);
    assert_eq!((ack.kind(), ack.yiaddr()), (ACK, Ipv4Addr::UNSPECIFIED));
    assert_eq!(ack.ciaddr(), UNUSED);
    assert_eq!(ack.datagram.to, SocketAddrV4::new(UNUSED, 68));
    assert_eq!([51, 58, 59].map(|code| ack.option(code)), [None; 3]);
    assert_eq!(ack.address(3), Some(SERVER));
    assert_eq!(ack.text(15), Some("lab.internal"));
    lab.expect_silence(&Packet::inform(mac(95), ELSEWHERE), "no_subnet");
}

#[test]
fn an_exhausted_pool_is_silent_and_recovers() {
    let lab = Lab::with_pool("198.18.0.100-198.18.0.101");
    let first = lab.segment.acquire(mac(96)).yiaddr();
    lab.segment.acquire(mac(97));
    let late = Packet::discover(mac(98));
    lab.expect_silence(&late, "pool_exhausted");
    let line = lab.service.wait_for("silent", |line| is_about(line, &late));
    assert_eq!(line["level"], "ERROR", "{line}");
    // The reserved are served all the same.
    assert_eq!(lab.segment.acquire(mac(1)).yiaddr(), NODE_1);
    let release = Packet::release(mac(96), first);
    lab.segment.send_from_address(&release);
    lab.segment
        .expect_silence(&lab.service, &release, "released");
    assert_eq!(lab.segment.acquire(mac(98)).yiaddr(), first);
}

#[test]
fn a_subnet_without_a_pool_serves_its_reserved_machines_alone() {
    let lab = Lab::with(|config| config.replace("[\"198.18.0.100-198.18.0.199\"]", "[]"));
    assert_eq!(lab.segment.acquire(mac(1)).yiaddr(), NODE_1);
    lab.expect_silence(&Packet::discover(mac(99)), "no_pool");
}

#[test]
fn leases_outlive_the_service() {
    let lab = Lab::new();
    let leases: Vec<(u16, Ipv4Addr)> = (200..220)
        .map(|n| (n, lab.segment.acquire(mac(n)).yiaddr()))
        .collect();
    let released = leases[0].1;
    lab.segment
        .send_from_address(&Packet::release(mac(200), released));
    let declined = leases[1].1;
    lab.expect_silence(&Packet::decline(mac(201), declined), "declined");

    let lab = lab.restart();
    for (n, address) in &leases[2..] {
        let ack = lab.ask(&Packet::rebooting(mac(*n), *address));
        assert_eq!((ack.kind(), ack.yiaddr()), (ACK, *address));
    }
    assert_eq!(lab.ask(&Packet::discover(mac(200))).yiaddr(), released);
    lab.expect_nak(&Packet::rebooting(mac(201), declined), "taken");
    for n in 300..310 {
        let address = lab.segment.acquire(mac(n)).yiaddr();
        let holder = leases.iter().find(|(_, held)| *held == address);
        assert_eq!(holder, None, "given to two");
    }
    // An offer is forgotten by a restart, and can be taken all the same.
    let offer = lab.ask(&Packet::discover(mac(320)));
    let lab = lab.restart();
    let ack = lab.ask(&Packet::selecting(&offer));
    assert_eq!((ack.kind(), ack.yiaddr()), (ACK, offer.yiaddr()));
}

/// What no client should send, and the reason it is dropped for.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let good = || Packet::discover(mac(40));
    let damaged = |damage: &dyn Fn(&mut Vec<u8>)| {
        let mut octets = good().octets();
        damage(&mut octets);
        octets
    };
    let relayed_too_often = Packet { hops: 17, ..good() };
    let no_type = Packet {
        options: vec![],
        ..good()
    };
    vec![
        ("too_short", vec![]),
        ("too_short", vec![1]),
        ("too_short", damaged(&|p| p.truncate(239))),
        ("not_a_request", Packet { op: 2, ..good() }.octets()),
        ("not_a_request", Packet { op: 0, ..good() }.octets()),
        ("not_a_request", vec![0xa5; 1472]),
        ("not_a_request", vec![0xff; 1500]),
        (
            "hardware_address_too_long",
            Packet { hlen: 17, ..good() }.octets(),
        ),
        (
            "hardware_address_too_long",
            Packet {
                hlen: 255,
                ..good()
            }
            .octets(),
        ),
        ("too_many_hops", relayed_too_often.octets()),
        (
            "bad_magic_cookie",
            Packet {
                cookie: [99, 130, 83, 98],
                ..good()
            }
            .octets(),
        ),
        ("options_truncated", damaged(&|p| p.truncate(242))),
        ("options_truncated", damaged(&|p| p[241] = 255)),
        ("no_message_type", no_type.octets()),
        ("no_message_type", damaged(&|p| p.truncate(240))),
        ("malformed_option", good().with(53, &[1, 1]).octets()),
        ("malformed_option", good().with(53, &[]).octets()),
        ("malformed_option", good().with(50, &[198, 18, 0]).octets()),
        (
            "malformed_option",
            good().with(54, &[1, 2, 3, 4, 5]).octets(),
        ),
        ("malformed_option", good().with(51, &[]).octets()),
        ("malformed_option", good().with(52, &[9]).octets()),
        ("unexpected_message_type", good().with(53, &[0]).octets()),
        (
            "unexpected_message_type",
            good().with(53, &[OFFER]).octets(),
        ),
        ("unexpected_message_type", good().with(53, &[255]).octets()),
        // Longer than any frame, cut by the kernel at its end: nothing in it is believed.
        ("not_a_request", vec![0; 8000]),
    ]
}

#[test]
fn malformed_packets_are_dropped_with_their_reason() {
    let lab = Lab::new();
    let mut seen = std::collections::BTreeMap::new();
    for (reason, octets) in malformed() {
        lab.segment.send_octets(mac(40), octets);
        let nth = seen.entry(reason).or_insert(0);
        *nth += 1;
        lab.service
            .wait_for_nth("silent", *nth, |line| line["reason"] == reason);
    }
    let silent = lab.service.log();
    let silent = silent.iter().filter(|line| line["message"] == "silent");
    assert_eq!(silent.count(), malformed().len());
    assert_eq!(lab.segment.acquire(mac(1)).yiaddr(), NODE_1);
}

#[test]
fn an_option_that_makes_no_sense_costs_nobody_an_address() {
    let lab = Lab::new();
    let odd = pxe(1, 0)
        .with(12, b"n\xe4me\0")
        .with(57, &[1])
        .with(55, &[0, 255, 1])
        .with(43, &[255; 40])
        .with(94, &[])
        .with(97, &[])
        .with(175, &[19])
        .with(77, &[0, 0, 0])
        .with(254, &[1; 255]);
    let offer = lab.ask(&odd);
    assert_eq!((offer.kind(), offer.yiaddr()), (OFFER, NODE_1));
    let unclosed = {
        let mut octets = Packet::discover(mac(1)).octets();
        octets.pop();
        octets
    };
    let xid: [u8; 4] = unclosed[4..8].try_into().expect("four");
    lab.segment.send_octets(mac(1), unclosed);
    let packet = Packet {
        xid: u32::from_be_bytes(xid),
        ..Packet::discover(mac(1))
    };
    assert_eq!(lab.segment.answer_to(&packet).yiaddr(), NODE_1);
}

#[test]
fn thousands_of_damaged_packets_neither_stop_nor_starve_the_service() {
    const BATCHES: usize = 24;
    const BATCH: usize = 250;
    let lab = Lab::new();
    let mut random = numbers(7);
    let originals: Vec<Vec<u8>> = [
        pxe(1, 7)
            .with(55, &ASKED_BY_FIRMWARE)
            .with(77, b"\x04iPXE")
            .with(175, &[19, 1, 1])
            .with(97, &[0; 17])
            .with(61, &[1, 2, 3]),
        Packet::rebooting(mac(1), NODE_1).with(82, &[1, 2, 3, 4]),
        Packet::extending(mac(41), NODE_1),
        Packet::decline(mac(42), NODE_1).with(52, &[3]),
        Packet::release(mac(43), NODE_1),
        Packet::inform(mac(44), UNUSED),
    ]
    .into_iter()
    // Far from the sentinels', which no damage is to turn into.
    .map(|packet| Packet { xid: 1, ..packet }.octets())
    .collect();
    for batch in 0..BATCHES {
        for _ in 0..BATCH {
            let mut octets = originals[random(originals.len())].clone();
            for _ in 0..=random(8) {
                // Half of the damage to the options: most of the header is only copied.
                let from = if random(2) == 0 { 0 } else { 236 };
                let at = from + random(octets.len() - from);
                match random(8) {
                    0 => octets.truncate(at.max(236)),
                    1 => octets.insert(at, random(256) as u8),
                    2 => drop(octets.remove(at)),
                    _ => octets[at] = random(256) as u8,
                }
                if octets.len() <= 237 {
                    break;
                }
            }
            lab.segment.send_octets(mac(41), octets);
        }
        // Not machine 1: damage may turn its REQUEST into a DECLINE.
        let sentinel = Packet {
            xid: 0xf0f0_f000 + batch as u32,
            ..Packet::discover(mac(2))
        };
        let offer = lab.ask(&sentinel);
        assert_eq!(offer.yiaddr(), NODE_2);
        lab.service
            .wait_for("offered", |line| is_about(line, &sentinel));
    }
    // What must be on disk first is told later than what came after it.
    let (status, log) = lab.service.terminate();
    assert!(status.success(), "{:?}", log.last());
    let outcomes = ["silent", "offered", "acked", "refused", "not sent"];
    let told = log
        .iter()
        .filter(|line| line["protocol"] == "dhcp")
        .filter(|line| outcomes.iter().any(|outcome| line["message"] == *outcome));
    assert_eq!(told.count(), BATCHES * (BATCH + 1), "one line each");
    let panicked = |line: &&serde_json::Value| line.as_str().is_some();
    assert_eq!(log.iter().find(panicked), None, "only events are logged");
}
