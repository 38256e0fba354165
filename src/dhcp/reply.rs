//! Writes a reply. In: the request, the answer and what the subnet offers. Out: the octets of one datagram, options in the
//! order a client expects them and within the size it takes.
//!
//! dhcproto encodes the header and each option; the order is ours, since its own is by number.

use std::net::Ipv4Addr;
use std::ops::Range;

use dhcproto::v4::{
    DhcpOption, Flags, HType, Message, MessageType, Opcode, OptionCode, UnknownOption,
};
use dhcproto::{Encodable, Encoder};

use super::bootfile::Bootfile;
use super::chosen;
use super::decide::Answer;
use super::request::Request;
use super::view::View;

/// The shortest BOOTP packet (RFC 951): some ROMs drop anything less.
const SHORTEST_REPLY: usize = 300;
/// What an Ethernet frame holds beside the headers of IPv4 and UDP.
const LONGEST_REPLY: usize = 1472;
/// The header and what no reply goes without: options 53, 54, 51, 58, 59, 52 and the end.
const LEAST: usize = 240 + 3 + 4 * 6 + 3 + 1;
/// The fields of the header that options may overflow into.
const SNAME: Range<usize> = 44..108;
const FILE: Range<usize> = 108..236;

/// The reply's octets; `None` for silence. Options that do not fit what the client takes are left out, the least important
/// ones first: those of the lease and of the boot stand at the front, then what the client asks for, in its order.
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
        Answer::ProxyOffer => (MessageType::Offer, Ipv4Addr::UNSPECIFIED, None),
        Answer::ProxyAck => (MessageType::Ack, Ipv4Addr::UNSPECIFIED, None),
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
        }
    }

    let mut octets = encode_header(request, answer, yiaddr, bootfile, view)?;
    let mut parts: Vec<Vec<u8>> = options.iter().map(encode_option).collect::<Option<_>>()?;
    // Beside another server only the boot is ours; the network is for that one to describe.
    if !matches!(
        answer,
        Answer::Nak(_) | Answer::ProxyOffer | Answer::ProxyAck
    ) {
        // What the machine's boot needs stands before what it may do without.
        let said: Vec<u8> = parts
            .iter()
            .filter_map(|part| part.first().copied())
            .collect();
        let chosen = chosen::choose(request, view).into_iter();
        parts.extend(
            chosen
                .filter(|option| !said.contains(&option.code))
                .map(|option| raw_option(option.code, &option.content)),
        );
    }
    let (tail, most) = sent_back(request);
    place(&mut octets, parts, tail, most);
    octets.resize(octets.len().max(SHORTEST_REPLY), 0);
    Some(octets)
}

/// What is sent back at the end of a reply, and how long that reply may be. RFC 6842 §3: the client-id, unless it leaves no
/// room for a lease. RFC 3046 §2.2: what the relay agent said, as the last option; rather than leave no room for a lease it goes
/// beside what the client takes, since the agent keeps it, but one that no frame holds is left out.
fn sent_back(request: &Request) -> (Vec<u8>, usize) {
    let takes = request.max_reply_octets();
    let option = |code: OptionCode, most: usize| {
        let content = request.option(code)?;
        Some(raw_option(code.into(), content)).filter(|option| LEAST + option.len() <= most)
    };
    let id = option(OptionCode::ClientIdentifier, takes).unwrap_or_default();
    let agent_most = LONGEST_REPLY - id.len();
    let agent = option(OptionCode::RelayAgentInformation, agent_most).unwrap_or_default();
    let tail = [id, agent].concat();
    let most = takes.max(LEAST + tail.len());
    (tail, most)
}

/// Puts the options where there is room: behind the header; if they do not fit, in the fields `file` and `sname` too, as far
/// as nothing else is said there (option 52, RFC 2132 §9.3). PXE ROMs look for the boot file in `file` and never in an option
/// that stands there, so a boot file keeps its field. What fits nowhere is left out.
fn place(octets: &mut Vec<u8>, parts: Vec<Vec<u8>>, tail: Vec<u8>, most: usize) {
    let room = most.saturating_sub(tail.len() + 1); // and the end option
    let needed: usize = parts.iter().map(Vec::len).sum();
    if octets.len() + needed <= room {
        octets.extend(parts.concat());
    } else {
        let mut fields = [(FILE, Vec::new(), 1_u8), (SNAME, Vec::new(), 2_u8)];
        let is_free =
            |range: &Range<usize>, octets: &[u8]| octets[range.clone()].iter().all(|b| *b == 0);
        let free: Vec<bool> = fields
            .iter()
            .map(|(range, _, _)| is_free(range, octets))
            .collect();
        for part in parts {
            // Three octets are kept for option 52 itself.
            if octets.len() + part.len() + 3 <= room {
                octets.extend(part);
                continue;
            }
            let fitting = fields
                .iter_mut()
                .zip(&free)
                .find(|((range, content, _), free)| {
                    **free && content.len() + part.len() < range.len()
                });
            if let Some(((_, content, _), _)) = fitting {
                content.extend(part);
            }
        }
        let mut overload = 0;
        for (range, mut content, bit) in fields {
            if !content.is_empty() {
                overload |= bit;
                content.push(255);
                octets[range.start..range.start + content.len()].copy_from_slice(&content);
            }
        }
        if overload != 0 {
            octets.extend([52, 1, overload]);
        }
    }
    octets.extend(tail);
    octets.push(255);
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
    let mut options = match bootfile.as_str() {
        "" => Vec::new(),
        // EDK II ends the name with a NUL of its own, over the octet behind the option: a pad gives it one to spare. Without,
        // the next option is destroyed, and OVMF 2022.11 declines the lease.
        name => vec![DhcpOption::BootfileName(name.into()), DhcpOption::Pad],
    };
    match bootfile {
        Bootfile::RaspberryPi => {
            options.push(DhcpOption::TFTPServerName(
                view.own_address.to_string().into_bytes(),
            ));
            options.push(DhcpOption::ClassIdentifier(b"PXEClient".to_vec()));
            // Its ROM boots from whoever offers this very menu (43.9, 43.10).
            let menu = [
                &[9, 20, 0, 0, 17][..],
                b"Raspberry Pi Boot",
                &[10, 4, 0],
                b"PXE",
                &[255],
            ];
            options.push(DhcpOption::VendorExtensions(menu.concat()));
        }
        // UEFI 2.10 §24.7: without it the firmware takes the offer for one without a boot file.
        Bootfile::HttpProgram(_) => {
            options.push(DhcpOption::ClassIdentifier(b"HTTPClient".to_vec()));
        }
        Bootfile::Tftp(_) | Bootfile::Script(_) => {
            if view.configured_option(66).is_none() {
                let server = view.own_address.to_string().into_bytes();
                options.push(DhcpOption::TFTPServerName(server));
            }
            let says_pxe = request
                .option(OptionCode::ClassIdentifier)
                .is_some_and(|class| class.starts_with(b"PXEClient"));
            if says_pxe {
                options.push(DhcpOption::ClassIdentifier(b"PXEClient".to_vec()));
                // PXE 2.1 §2.2.3, PXE_DISCOVERY_CONTROL bit 3: the boot file is here, ask no boot server.
                if !view.asks_boot_server() {
                    options.push(DhcpOption::VendorExtensions(vec![6, 1, 8, 255]));
                }
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

fn encode_header(
    request: &Request,
    answer: &Answer,
    yiaddr: Ipv4Addr,
    bootfile: Option<&Bootfile>,
    view: &View,
) -> Option<Vec<u8>> {
    let hardware = &request.chaddr[..usize::from(request.hlen)];
    let ciaddr = match answer {
        Answer::Ack { .. } | Answer::AckInform | Answer::ProxyAck => request.ciaddr, // RFC 2131 §4.3.1, table 3
        _ => Ipv4Addr::UNSPECIFIED,
    };
    // An HTTP URL stands for itself; siaddr names the TFTP server, and iPXE's ${next-server}.
    let siaddr = match bootfile {
        Some(Bootfile::Tftp(_) | Bootfile::Script(_) | Bootfile::RaspberryPi) => view.own_address,
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
        .filter(|n| n.len() < FILE.len())
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
