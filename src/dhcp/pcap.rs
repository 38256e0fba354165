//! DHCP packets out of a capture. In: the octets of a pcap file (the classic form, Ethernet). Out: the UDP datagrams to DHCP's
//! ports, in order; whatever else the capture holds is passed over.

use std::net::Ipv4Addr;

use super::proxy::{BOOT_SERVER_PORT, Port};
use super::route::SERVER_PORT;

/// One datagram to a DHCP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Its place among the capture's packets, from 1.
    pub number: usize,
    pub port: Port,
    pub from: Ipv4Addr,
    pub octets: Vec<u8>,
}

/// Reads a capture.
pub fn read(file: &[u8]) -> Result<Vec<Captured>, String> {
    let number = |octets: &[u8], big: bool| -> Option<u32> {
        let octets: [u8; 4] = octets.get(..4)?.try_into().ok()?;
        Some(if big {
            u32::from_be_bytes(octets)
        } else {
            u32::from_le_bytes(octets)
        })
    };
    let not_a_capture = || {
        "not a pcap file; write one with tcpdump -w FILE, or convert: editcap -F pcap IN OUT"
            .to_owned()
    };
    // Microseconds or nanoseconds, in either octet order.
    let big = match file.get(..4) {
        Some([0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d]) => true,
        Some([0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1]) => false,
        _ => return Err(not_a_capture()),
    };
    let link = file
        .get(20..24)
        .and_then(|at| number(at, big))
        .ok_or_else(not_a_capture)?;
    if link != 1 {
        return Err(format!(
            "wanted a capture of Ethernet (link type 1), got link type {link}"
        ));
    }
    let mut captured = Vec::new();
    let mut rest = &file[24..];
    for count in 1.. {
        let Some(length) = rest.get(8..12).and_then(|at| number(at, big)) else {
            break;
        };
        let length = usize::try_from(length).map_err(|_| not_a_capture())?;
        let Some(frame) = rest.get(16..16 + length) else {
            break; // cut off in the middle, as captures are
        };
        captured.extend(datagram(frame).map(|(port, from, octets)| Captured {
            number: count,
            port,
            from,
            octets: octets.to_vec(),
        }));
        rest = &rest[16 + length..];
    }
    Ok(captured)
}

fn datagram(frame: &[u8]) -> Option<(Port, Ipv4Addr, &[u8])> {
    let kind = frame.get(12..14)?;
    let packet = match kind {
        [0x08, 0x00] => frame.get(14..)?,
        [0x81, 0x00] if frame.get(16..18)? == [0x08, 0x00] => frame.get(18..)?, // a VLAN's tag
        _ => return None,
    };
    let header = usize::from(packet.first()? & 0x0f) * 4;
    if packet[0] >> 4 != 4 || packet.get(9) != Some(&17) {
        return None;
    }
    let from: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    let udp = packet.get(header..)?;
    let port = match u16::from_be_bytes([*udp.get(2)?, *udp.get(3)?]) {
        SERVER_PORT => Port::Server,
        BOOT_SERVER_PORT => Port::BootServer,
        _ => return None,
    };
    let length = usize::from(u16::from_be_bytes([*udp.get(4)?, *udp.get(5)?]));
    Some((port, from.into(), udp.get(8..length.min(udp.len()))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dhcp_is_found_in_a_capture_and_anything_else_passed_over() {
        let frame = |destination_port: u16| {
            let payload = b"payload";
            let mut frame = vec![0xff; 12];
            frame.extend([8, 0, 0x45, 0, 0, 35, 0, 0, 0, 0, 64, 17, 0, 0]);
            frame.extend([0, 0, 0, 0, 255, 255, 255, 255]);
            frame.extend(68_u16.to_be_bytes());
            frame.extend(destination_port.to_be_bytes());
            frame.extend([0, 15, 0, 0]);
            frame.extend(payload);
            frame
        };
        let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
        file.extend([0; 12]);
        file.extend(1_u32.to_le_bytes());
        for port in [53, 67, 4011] {
            let frame = frame(port);
            file.extend([0; 8]);
            file.extend(u32::try_from(frame.len()).expect("short").to_le_bytes());
            file.extend([0; 4]);
            file.extend(frame);
        }
        file.extend([0; 8]);
        let found = read(&file).expect("a capture");
        let ports: Vec<(usize, Port)> = found.iter().map(|c| (c.number, c.port)).collect();
        assert_eq!(ports, [(2, Port::Server), (3, Port::BootServer)]);
        assert!(found.iter().all(|c| c.octets == b"payload"));
        assert!(read(b"not one").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_file_makes_the_reader_panic(tail: Vec<u8>) {
            let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
            file.extend([0; 12]);
            file.extend(1_u32.to_le_bytes());
            file.extend(tail);
            let _ = read(&file);
        }
    }
}
