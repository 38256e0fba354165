//! Writes a reply. In: the request, the answer and what the subnet offers. Out: the octets of one datagram, options in the
//! order a client expects them and within the size it takes.
//!
//! dhcproto encodes the header and each option; the order is ours, since its own is by number.

use std::net::Ipv4Addr;

use dhcproto::v4::{
    DhcpOption, Flags, HType, Message, MessageType, Opcode, OptionCode, UnknownOption,
};
use dhcproto::{Encodable, Encoder};

use super::bootfile::Bootfile;
use super::decide::Answer;
use super::request::Request;
use super::view::View;

/// The shortest BOOTP packet (RFC 951): some ROMs drop anything less.
const SHORTEST_REPLY: usize = 300;
/// What the field `file` takes with its closing NUL.
const FILE_FIELD: usize = 128;

/// The reply's octets; `None` for silence. Options that do not fit what the client takes are left out, the least important
/// ones first: those of the lease and of the boot stand at the front.
pub fn encode(
    request: &Request,
    answer: &Answer,
    bootfile: Option<&Bootfile>,
    view: &View,
) -> Option<Vec<u8>> {
    let (message_type, yiaddr, lease_secs) = match answer {
        Answer::Silent(_) => return None,
        Answer::Offer {
            address,
            lease_secs,
        } => (MessageType::Offer, *address, Some(*lease_secs)),
        Answer::Ack {
            address,
            lease_secs,
        } => (MessageType::Ack, *address, Some(*lease_secs)),
        Answer::AckInform => (MessageType::Ack, Ipv4Addr::UNSPECIFIED, None),
        Answer::Nak(_) => (MessageType::Nak, Ipv4Addr::UNSPECIFIED, None),
    };
    let bootfile = bootfile.filter(|_| message_type != MessageType::Nak);
    let mut options = vec![
        DhcpOption::MessageType(message_type),
        DhcpOption::ServerIdentifier(view.server_id),
    ];
    match answer {
        Answer::Nak(reason) => options.push(DhcpOption::Message(reason.message().into())),
        _ => {
            options.extend(lease_secs.into_iter().flat_map(lease_options));
            options.extend(boot_options(request, bootfile, view));
            options.extend(network_options(request, view));
        }
    }

    let mut octets = encode_header(request, answer, yiaddr, bootfile, view)?;
    // RFC 6842 §3: the client-id is sent back; RFC 3046 §2.2: so is what the relay agent said, as the last option.
    let tail: Vec<u8> = [
        OptionCode::ClientIdentifier,
        OptionCode::RelayAgentInformation,
    ]
    .into_iter()
    .filter_map(|code| Some((u8::from(code), request.option(code)?)))
    .flat_map(|(code, content)| raw_option(code, content))
    .collect();
    let room = request.max_reply_octets().saturating_sub(tail.len() + 1);
    for option in &options {
        let encoded = encode_option(option)?;
        if octets.len() + encoded.len() <= room {
            octets.extend(encoded);
        }
    }
    octets.extend(tail);
    octets.push(255);
    octets.resize(octets.len().max(SHORTEST_REPLY), 0);
    Some(octets)
}

/// 51, and 58 and 59 at the fractions of RFC 2131 §4.4.5.
fn lease_options(lease_secs: u32) -> [DhcpOption; 3] {
    [
        DhcpOption::AddressLeaseTime(lease_secs),
        DhcpOption::Renewal(lease_secs / 2),
        DhcpOption::Rebinding(lease_secs - lease_secs / 8),
    ]
}

/// What a machine that boots from the network needs, said in every place that some firmware reads.
fn boot_options(request: &Request, bootfile: Option<&Bootfile>, view: &View) -> Vec<DhcpOption> {
    let Some(bootfile) = bootfile else {
        return Vec::new();
    };
    let mut options = vec![DhcpOption::BootfileName(bootfile.as_str().into())];
    match bootfile {
        // UEFI 2.10 §24.7: without it the firmware takes the offer for one without a boot file.
        Bootfile::HttpProgram(_) => {
            options.push(DhcpOption::ClassIdentifier(b"HTTPClient".to_vec()));
        }
        Bootfile::Tftp(_) | Bootfile::Script(_) => {
            options.push(DhcpOption::TFTPServerName(
                view.server_id.to_string().into_bytes(),
            ));
            let says_pxe = request
                .option(OptionCode::ClassIdentifier)
                .is_some_and(|class| class.starts_with(b"PXEClient"));
            if says_pxe {
                options.push(DhcpOption::ClassIdentifier(b"PXEClient".to_vec()));
                // PXE 2.1 §2.2.3, PXE_DISCOVERY_CONTROL bit 3: the boot file is here, ask no boot server.
                options.push(DhcpOption::VendorExtensions(vec![6, 1, 8, 255]));
            }
        }
    }
    // PXE 2.1 §2.2.1: the machine's UUID is sent back unchanged.
    if let Some(uuid) = request.option(OptionCode::ClientMachineIdentifier) {
        options.push(DhcpOption::ClientMachineIdentifier(uuid.to_vec()));
    }
    if request.ipxe().is_some() {
        // 176 in iPXE's own options, no-pxedhcp: do not wait two seconds for a proxyDHCP offer.
        options.push(DhcpOption::Unknown(UnknownOption::new(
            OptionCode::Unknown(175),
            vec![176, 1, 1],
        )));
    }
    options
}

/// What the subnet and the reservation say, in the order the client asks for it (option 55), the mask before the router (RFC
/// 2132 §3.3). A client that asks for nothing in particular gets all of it.
fn network_options(request: &Request, view: &View) -> Vec<DhcpOption> {
    let ours = [1, 3, 6, 12, 15, 28];
    let mut codes: Vec<u8> = request.parameters().unwrap_or(&ours).to_vec();
    codes.retain(|code| ours.contains(code));
    if let Some(at) = codes.iter().position(|code| *code == 1) {
        codes[..=at].rotate_right(1);
    }
    let mut seen = Vec::new();
    codes.retain(|code| {
        let is_new = !seen.contains(code);
        seen.push(*code);
        is_new
    });
    codes
        .into_iter()
        .filter_map(|code| network_option(code, view))
        .collect()
}

fn network_option(code: u8, view: &View) -> Option<DhcpOption> {
    let subnet = view.subnet;
    Some(match code {
        1 => DhcpOption::SubnetMask(subnet.cidr.netmask()),
        3 => DhcpOption::Router(vec![subnet.router?]),
        6 if !subnet.dns.is_empty() => DhcpOption::DomainNameServer(subnet.dns.clone()),
        12 => DhcpOption::Hostname(host_part(view.reservation?.hostname.as_deref()?).into()),
        15 => DhcpOption::DomainName(domain_of(view)?.into()),
        28 => DhcpOption::BroadcastAddr(subnet.cidr.broadcast()),
        _ => return None,
    })
}

/// A host name with a domain is given as option 12 and 15 apart, as RFC 2132 §3.14 and §3.17 have it.
fn host_part(hostname: &str) -> &str {
    hostname.split('.').next().unwrap_or(hostname)
}

fn domain_of<'a>(view: &View<'a>) -> Option<&'a str> {
    view.reservation
        .and_then(|reservation| reservation.hostname.as_deref())
        .and_then(|hostname| hostname.split_once('.'))
        .map(|(_, domain)| domain)
        .or(view.subnet.domain.as_deref())
}

fn encode_header(
    request: &Request,
    answer: &Answer,
    yiaddr: Ipv4Addr,
    bootfile: Option<&Bootfile>,
    view: &View,
) -> Option<Vec<u8>> {
    let hardware = &request.chaddr[..usize::from(request.hlen)];
    let ciaddr = match answer {
        Answer::Ack { .. } | Answer::AckInform => request.ciaddr, // RFC 2131 §4.3.1, table 3
        _ => Ipv4Addr::UNSPECIFIED,
    };
    // An HTTP URL stands for itself; siaddr names the TFTP server, and iPXE's ${next-server}.
    let siaddr = match bootfile {
        Some(Bootfile::Tftp(_) | Bootfile::Script(_)) => view.server_id,
        _ => Ipv4Addr::UNSPECIFIED,
    };
    let mut message = Message::new_with_id(
        request.xid,
        ciaddr,
        yiaddr,
        siaddr,
        request.giaddr,
        hardware,
    );
    let flags = match answer {
        // §4.3.2: towards a relay agent the broadcast bit has it broadcast the NAK.
        Answer::Nak(_) if !request.giaddr.is_unspecified() => request.flags | 0x8000,
        _ => request.flags,
    };
    message
        .set_opcode(Opcode::BootReply)
        .set_htype(HType::from(request.htype))
        .set_flags(Flags::from(flags));
    if let Some(name) = bootfile
        .map(Bootfile::as_str)
        .filter(|n| n.len() < FILE_FIELD)
    {
        message.set_fname_str(name);
    }
    let mut octets = Vec::with_capacity(SHORTEST_REPLY);
    message.encode(&mut Encoder::new(&mut octets)).ok()?;
    octets.truncate(240);
    Some(octets)
}

fn encode_option(option: &DhcpOption) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    option.encode(&mut Encoder::new(&mut octets)).ok()?;
    Some(octets)
}

/// An option whose content is sent as it came, in parts of 255 if it is longer (RFC 3396).
fn raw_option(code: u8, content: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = match content {
        [] => vec![content],
        _ => content.chunks(255).collect(),
    };
    parts
        .into_iter()
        .flat_map(|part| {
            let length = u8::try_from(part.len()).unwrap_or(u8::MAX);
            [&[code, length], part].concat()
        })
        .collect()
}

#[cfg(test)]
mod tests;
