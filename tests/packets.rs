//! Packets that real firmware and real systems sent, as we understand them: `tests/packets` has them as they were on the wire,
//! `tests/golden/packets.txt` what each is taken for and which boot file it is sent.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use bootjackd::bindings::Bindings;
use bootjackd::catalog::{Catalog, Settings};
use bootjackd::dhcp::bootfile::{BootServers, Bootfile, choose};
use bootjackd::dhcp::request::Request;
use bootjackd::dhcp::view::{Ingress, View};
use bootjackd::model::Subnet;

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

/// One line: who sends what, and what it is answered.
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
    let catalog = Catalog::new(Settings {
        subnets: vec![Subnet::of("198.18.0.0/24".parse().expect("a network"))],
        ..Settings::default()
    });
    let ingress = Ingress {
        server_id: SERVER,
        is_unicast: false,
        authoritative: false,
        now_secs: 0,
    };
    let bindings = Bindings::default();
    let view = View::new(&request, &catalog, &bindings, ingress).expect("its subnet");
    let _ = match choose(&request, &servers, &view) {
        Some(Bootfile::Tftp(name)) => write!(line, "; program {name}"),
        Some(Bootfile::HttpProgram(url)) => write!(line, "; program {url}"),
        Some(Bootfile::Script(url)) => write!(line, "; script {url}"),
        Some(Bootfile::RaspberryPi) => write!(line, "; a Raspberry Pi's menu"),
        None => write!(line, "; an address alone"),
    };
    line
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
