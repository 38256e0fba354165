//! Packets that real firmware and real systems sent, as we understand them: `tests/packets` has them as they were on the wire,
//! `tests/golden/packets.txt` what each is taken for, which boot file it is sent, and what it is answered where nothing is known
//! of its sender.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use bootjackd::bindings::Bindings;
use bootjackd::catalog::{Catalog, Settings};
use bootjackd::dhcp::answer::{Mode, answer};
use bootjackd::dhcp::bootfile::{BootServers, Bootfile};
use bootjackd::dhcp::decide::Answer;
use bootjackd::dhcp::proxy::Port;
use bootjackd::dhcp::reply;
use bootjackd::dhcp::request::Request;
use bootjackd::dhcp::route::{self, Destination};
use bootjackd::dhcp::view::{Ingress, View};
use bootjackd::model::{Pool, Subnet};

const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

fn octets(line: &str) -> Vec<u8> {
    let pairs = line.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            let pair = std::str::from_utf8(pair).expect("hex is ASCII");
            u8::from_str_radix(pair, 16).expect("two hex digits")
        })
        .collect()
}

/// A network with a pool and a little of everything that clients ask for.
fn catalog() -> Catalog {
    let mut subnet = Subnet::of("198.18.0.0/24".parse().expect("a network"));
    subnet.pools = vec![Pool {
        first: Ipv4Addr::new(198, 18, 0, 10),
        last: Ipv4Addr::new(198, 18, 0, 250),
    }];
    subnet.router = Some(SERVER);
    subnet.dns = vec![SERVER];
    subnet.domain = Some("lab.internal".to_owned());
    Catalog::new(Settings {
        subnets: vec![subnet],
        ..Settings::default()
    })
}

/// Two lines: who sends what, and what it is answered.
fn understood(packet: &[u8]) -> String {
    let servers = BootServers {
        programs: ["undionly.kpxe", "snponly.efi", "ipxe-arm64.efi"]
            .map(str::to_owned)
            .into(),
        http_port: 80,
        http_address: None,
    };
    let request = match Request::parse(packet) {
        Ok(request) => request,
        Err(reason) => return format!("dropped: {reason}"),
    };
    let mut line = format!("{:8}", request.kind_name());
    if let Some(client) = request.client() {
        let _ = write!(line, " {client}");
    }
    if let Some(arch) = request.arch() {
        let _ = write!(line, ", arch {arch}");
    }
    match request.ipxe() {
        Some(ipxe) if ipxe.http => line.push_str(", iPXE with HTTP"),
        Some(_) => line.push_str(", iPXE without HTTP"),
        None => {}
    }
    let catalog = catalog();
    let ingress = Ingress {
        server_id: SERVER,
        is_unicast: false,
        authoritative: true,
        now_secs: 0,
    };
    let bindings = Bindings::default();
    let view = View::new(&request, &catalog, &bindings, ingress).expect("its subnet");
    let (decision, bootfile) = answer(&request, Port::Server, Mode::Server, &servers, &view);
    let _ = match &bootfile {
        Some(Bootfile::Tftp(name)) => write!(line, "; program {name}"),
        Some(Bootfile::HttpProgram(url)) => write!(line, "; program {url}"),
        Some(Bootfile::Script(url)) => write!(line, "; script {url}"),
        Some(Bootfile::RaspberryPi) => write!(line, "; a Raspberry Pi's menu"),
        None => write!(line, "; an address alone"),
    };
    let reply = reply::encode(&request, &decision.answer, bootfile.as_ref(), &view);
    let (name, address) = match decision.answer {
        Answer::Offer { address, .. } => ("offer", Some(address)),
        Answer::Ack { address, .. } => ("ack", Some(address)),
        Answer::Silent(reason) => (reason.as_str(), None),
        other => panic!("{other:?} to a client of nobody's"),
    };
    let _ = write!(line, "\n    {name}");
    if let (Some(address), Some(reply)) = (address, reply) {
        let way = match route::of_grant(&request, Some(address)) {
            Destination::Frame { .. } => "in a frame",
            Destination::Datagram(_) => "to its address",
            Destination::Broadcast | Destination::BroadcastAnd(_) => "by broadcast",
        };
        let _ = write!(line, " {address} {way}, with{}", codes(&reply));
    }
    line
}

/// The codes of a reply's options in their order, pads left out.
fn codes(reply: &[u8]) -> String {
    let mut codes = String::new();
    let mut rest = &reply[240..];
    while let [code, length, ..] = rest
        && *code != 255
    {
        let skipped = match code {
            0 => 1,
            _ => 2 + usize::from(*length),
        };
        if *code != 0 {
            let _ = write!(codes, " {code}");
        }
        rest = &rest[skipped..];
    }
    codes
}

#[test]
fn recorded_packets_are_understood_as_the_golden_text_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut files: Vec<_> = std::fs::read_dir(root.join("packets"))
        .expect("tests/packets is there")
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    files.sort();
    let mut text = String::new();
    for file in files {
        let name = file.file_stem().expect("a name").to_string_lossy();
        let _ = writeln!(text, "{name}");
        let content = std::fs::read_to_string(&file).expect("it can be read");
        for line in content.lines().filter(|line| !line.starts_with('#')) {
            let _ = writeln!(text, "  {}", understood(&octets(line)));
        }
    }
    let golden = std::fs::read_to_string(root.join("golden/packets.txt")).unwrap_or_default();
    assert!(
        text == golden,
        "tests/golden/packets.txt should be:\n{text}"
    );
}
