//! What an operator configures beyond addresses: identities, options, classes, relay agents' wishes, a boot server beside another
//! DHCP server; and `bootjackd explain`, which must say what is then done.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Output;

use crate::support::api::{Api, text};
use crate::support::dhcp::{ACK, OFFER, Packet, SERVER, Segment, mac};
use crate::support::netns::{Netns, run, server_and_client};
use crate::support::service::{Home, Service, program};

struct Lab {
    service: Service,
    segment: Segment,
    server: Netns,
    home: Home,
}

impl Lab {
    fn new(more: &str) -> Self {
        Self::with(more, |config| config)
    }

    fn with(more: &str, change: impl FnOnce(String) -> String) -> Self {
        let (server, segment) = Segment::new();
        let home = Home::new();
        for program in ["undionly.kpxe", "snponly.efi", "ipxe.efi"] {
            home.write(&format!("programs/{program}"), "a program");
        }
        let programs = home.path().join("programs").display().to_string();
        let config = change(home.config(more).replace("/usr/lib/ipxe", &programs));
        Self {
            service: Service::start(&server, &home, &config),
            segment,
            server,
            home,
        }
    }

    fn explain(&self, arguments: &[&str]) -> Output {
        self.server
            .command(program())
            .args(["explain", "--config"])
            .arg(self.home.path().join("bootjackd.toml"))
            .args(arguments)
            .output()
            .expect("it runs")
    }
}

fn pxe(n: u16) -> Packet {
    Packet::discover(mac(n))
        .with(60, b"PXEClient:Arch:00007:UNDI:003016")
        .with(93, &[0, 7])
}

#[test]
fn a_machine_reserved_over_the_api_is_known_by_its_uuid_in_either_order_and_boots_by_its_id() {
    let lab = Lab::new("");
    let machine = bootjack_api::v1::Reservation {
        address: "198.18.0.30".into(),
        hostname: "board".into(),
        uuids: vec!["00010203-0405-0607-0809-0a0b0c0d0e0f".into()],
        options: [("option_224".to_owned(), text("68:69"))].into(),
        program: "ipxe".into(),
        ..Default::default()
    };
    let made = Api::unix(&lab.home).create(machine.clone()).expect("made");
    assert_eq!((made.uuids, made.program), (machine.uuids, machine.program));
    let plain: Vec<u8> = (0..17).map(|n: u8| n.saturating_sub(1)).collect();
    let mut swapped = plain.clone();
    swapped[1..5].reverse();
    swapped[5..7].reverse();
    swapped[7..9].reverse();
    for (n, uuid) in [(70, &plain), (71, &swapped)] {
        let offer = lab.segment.ask(&pxe(n).with(97, uuid).with(55, &[1, 224]));
        assert_eq!(offer.yiaddr(), Ipv4Addr::new(198, 18, 0, 30), "{uuid:?}");
        assert_eq!(offer.file(), "ipxe.efi");
        assert_eq!(offer.option(224), Some(&b"hi"[..]));
    }
    let ipxe = pxe(70).with(97, &plain).with(77, b"iPXE");
    let script = lab.segment.ask(&ipxe).file();
    assert!(script.contains("/machines/board/boot.ipxe?"), "{script}");
}

#[test]
fn options_and_classes_of_the_configuration_reach_the_client_and_explain_names_their_layers() {
    let lab = Lab::with(
        r#"
[options]
ntp_servers = ["198.18.0.1"]
interface_mtu = 1400

[[class]]
name = "jumbo"
match = { vendor_class = ["Linux"] }
options = { interface_mtu = 9000 }
pools = ["198.18.0.150-198.18.0.150"]
lease_time = "5m"
"#,
        |config| {
            config.replace(
                "lease_time = \"1h\"",
                "lease_time = \"1h\"\nexclude = [\"198.18.0.100-198.18.0.140\"]",
            )
        },
    );
    let asked = [1, 26, 42];
    let member = Packet::discover(mac(80))
        .with(60, b"Linux 6")
        .with(55, &asked);
    let offer = lab.segment.ask(&member);
    assert_eq!(offer.yiaddr(), Ipv4Addr::new(198, 18, 0, 150));
    assert_eq!(offer.number(51), Some(300));
    assert_eq!(offer.option(26), Some(&9000_u16.to_be_bytes()[..]));
    assert_eq!(offer.address(42), Some(SERVER));
    for n in 81..91 {
        let other = lab
            .segment
            .acquire_by(&Packet::discover(mac(n)).with(55, &asked));
        assert_eq!(other.option(26), Some(&1400_u16.to_be_bytes()[..]));
        let host = other.yiaddr().octets()[3];
        assert!(host > 140 && host != 150, "{host}");
    }
    let said = lab.explain(&[
        "--mac",
        "52:54:00:00:00:50",
        "--option",
        "60=Linux 6",
        "--option",
        "55=01:1a:2a",
    ]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    for line in [
        "answer       offer\n",
        "address      198.18.0.150\n",
        "classes      jumbo\n",
        "option        26 interface_mtu = 9000   (class jumbo)\n",
        "option        42 ntp_servers = [\"198.18.0.1\"]   (global)\n",
        "according to the running service\n",
    ] {
        assert!(said.contains(line), "{line} in\n{said}");
    }
}

#[test]
fn explain_tells_of_silence_and_of_captures_and_changes_nothing() {
    let lab = Lab::with("", |config| {
        config.replace("198.18.0.199\"]", "198.18.0.100\"]")
    });
    let holder = lab.segment.acquire(mac(60));
    let said = lab.explain(&["--mac", "52:54:00:00:00:99", "--output", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&said.stdout).expect("JSON");
    assert_eq!(json[0]["answer"], "silent");
    assert_eq!(
        json[0]["because"],
        "pool_exhausted: every address of its pools is taken"
    );
    let again = lab.segment.acquire(mac(60));
    assert_eq!(again.yiaddr(), holder.yiaddr(), "it still holds it");

    // A capture of one DISCOVER, as tcpdump writes it.
    let content = Packet::discover(mac(60)).octets();
    let udp = u16::try_from(8 + content.len()).expect("short");
    let mut frame = vec![0xff; 12];
    frame.extend([8, 0, 0x45, 0]);
    frame.extend((20 + udp).to_be_bytes());
    frame.extend([
        0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 68, 0, 67,
    ]);
    frame.extend(udp.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(content);
    let length = u32::try_from(frame.len()).expect("short").to_le_bytes();
    let mut capture = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
    capture.extend([0; 12]);
    capture.extend(1_u32.to_le_bytes());
    capture.extend([0; 8]);
    capture.extend([length, length].concat());
    capture.extend(frame);
    let file = lab.home.write("boot.pcap", capture);
    let said = lab.explain(&["--pcap", &file.display().to_string()]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.starts_with("packet 1 from 0.0.0.0\n"), "{said}");
    assert!(
        said.contains(&format!("address      {}\n", holder.yiaddr())),
        "{said}"
    );

    let home = Home::new();
    lab.service.terminate();
    let config = home.write("bootjackd.toml", home.config(""));
    let here = lab
        .server
        .command(program())
        .args(["explain", "--config"])
        .arg(config)
        .args(["--mac", "52:54:00:00:00:01"])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&here.stdout).into_owned();
    assert!(said.contains("no service runs"), "{said}");
    assert!(
        !home.path().join("data").exists(),
        "nothing is made for the asking"
    );
}

#[test]
fn the_link_a_relay_agent_names_chooses_the_subnet_and_its_override_the_server_identifier() {
    let lab =
        Lab::new("\n[[subnet]]\ncidr = \"198.19.0.0/24\"\npools = [\"198.19.0.50-198.19.0.60\"]\n");
    let agent = Ipv4Addr::new(198, 18, 0, 2);
    let (card, instead) = ([2, 0, 0, 0, 0, 2], [198, 19, 0, 1]);
    lab.segment.take_address(agent, card);
    let said = [&[5, 4, 198, 19, 0, 0][..], &[11, 4], &instead].concat();
    let discover = Packet::discover(mac(90)).relayed_by(agent).with(82, &said);
    lab.segment.send_through_agent(&discover, card);
    let offer = lab.segment.answer_to(&discover);
    assert_eq!(offer.yiaddr().octets()[..3], [198, 19, 0], "RFC 3527");
    assert_eq!(offer.server_id(), Ipv4Addr::from(instead), "RFC 5107");
    assert_eq!(offer.option(82), Some(&said[..]));
    let request = Packet::selecting(&offer).relayed_by(agent).with(82, &said);
    lab.segment.send_through_agent(&request, card);
    assert_eq!(lab.segment.answer_to(&request).kind(), ACK);
}

#[test]
fn a_boot_server_beside_another_dhcp_server_gives_boot_files_and_no_addresses() {
    let lab = Lab::with("", |config| {
        config.replace(
            "interfaces = [\"lan0\"]",
            "interfaces = [\"lan0\"]\nmode = \"proxy\"",
        )
    });
    let offer = lab.segment.ask(&pxe(40));
    assert_eq!(
        (offer.kind(), offer.yiaddr()),
        (OFFER, Ipv4Addr::UNSPECIFIED)
    );
    assert_eq!(offer.file(), "snponly.efi");
    assert_eq!(
        (offer.siaddr(), offer.text(60)),
        (SERVER, Some("PXEClient"))
    );
    assert_eq!([51, 1, 3].map(|code| offer.option(code)), [None; 3]);

    let address = Ipv4Addr::new(198, 18, 0, 140);
    let request = Packet::inform(mac(40), address)
        .with(53, &[3])
        .with(60, b"PXEClient:Arch:00007:UNDI:003016")
        .with(93, &[0, 7]);
    lab.segment.send_to_boot_server(&request, 4011);
    let ack = lab.segment.answer_to(&request);
    assert_eq!((ack.kind(), ack.file()), (ACK, "snponly.efi".to_owned()));
    assert_eq!(
        ack.datagram.to,
        SocketAddrV4::new(address, 4011),
        "where it came from"
    );
    assert_eq!(ack.datagram.from, SocketAddrV4::new(SERVER, 4011));

    let plain = Packet::discover(mac(41));
    lab.segment.send(&plain);
    lab.segment
        .expect_silence(&lab.service, &plain, "not_booting");
}

#[test]
fn an_address_that_somebody_uses_is_not_offered_where_the_subnet_is_probed() {
    let lab = Lab::with("", |config| {
        config
            .replace("198.18.0.100-198.18.0.199", "198.18.0.100-198.18.0.101")
            .replace("\nlease_time", "\nprobe = \"arp\"\nlease_time")
    });
    let (squatted, free) = (
        Ipv4Addr::new(198, 18, 0, 100),
        Ipv4Addr::new(198, 18, 0, 101),
    );
    lab.segment.take_address(squatted, [2, 0, 0, 0, 0, 9]);
    let wanting = |address: Ipv4Addr| Packet::discover(mac(20)).with(50, &address.octets());
    let first = wanting(squatted);
    lab.segment.send(&first);
    while !lab
        .service
        .log()
        .iter()
        .any(|line| line["message"] == "address in use")
    {
        lab.segment.expect_nothing_more(&first); // it answers ARP meanwhile
    }
    let offer = lab.segment.ask(&wanting(squatted));
    assert_eq!(offer.yiaddr(), free);
}

#[test]
fn another_dhcp_server_is_reported_and_an_authoritative_one_does_not_start_beside_it() {
    let (server, other) = server_and_client("02:00:00:00:00:02");
    other.ip(&["address", "add", "198.18.0.2/24", "dev", "eth0"]);
    let (home, its_home) = (Home::new(), Home::new());
    let first = Service::start(&server, &home, &home.config(""));
    let config = its_home
        .config("")
        .replace("interfaces = [\"lan0\"]", "interfaces = [\"eth0\"]")
        .replace("listen = \"198.18.0.1:", "listen = \"198.18.0.2:");
    let second = Service::start(&other, &its_home, &config);
    let line = second.wait_for("another DHCP server answers here", |_| true);
    assert_eq!(
        (&line["server"], &line["iface"]),
        (&"198.18.0.1".into(), &"eth0".into())
    );
    second.terminate();
    let alone = config.replace("interfaces", "authoritative = true\ninterfaces");
    let (status, log) = Service::spawn(&other, &its_home, &alone).wait();
    assert_eq!(status.code(), Some(1));
    let said = "bootjackd: dhcp: another DHCP server, 198.18.0.1, answers on eth0; stop it, or take dhcp.authoritative out of the configuration";
    assert_eq!(log.last(), Some(&said.into()));
    drop(first);
    run(&["netns", "list"]);
}
