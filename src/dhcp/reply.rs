//! Writes a reply. In: the request, the answer and what the subnet offers. Out: the octets of one datagram, options in the
//! order a client expects them and within the size it takes.
//!
//! Written straight into the octets that are sent: dhcproto keeps options in an order of its own, and makes each of them first.

use std::net::Ipv4Addr;
use std::ops::Range;

use dhcproto::v4::{MAGIC, MessageType, OptionCode};

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

/// The header and the magic cookie.
const HEADER: usize = 240;

/// The options of a reply as they are written, and where each of them ends.
struct Options<'a> {
    octets: &'a mut Vec<u8>,
    ends: Vec<usize>,
    said: [bool; 256],
}

/// The reply's octets; `None` for silence.
pub fn encode(
    request: &Request,
    answer: &Answer,
    bootfile: Option<&Bootfile>,
    view: &View,
) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    append(request, answer, bootfile, view, &mut octets);
    (!octets.is_empty()).then_some(octets)
}

/// Adds the reply's octets to what is there; none for silence. Options that do not fit what the client takes are left out, the
/// least important ones first: those of the lease and of the boot stand at the front, then what the client asks for, in its
/// order.
pub fn append(
    request: &Request,
    answer: &Answer,
    bootfile: Option<&Bootfile>,
    view: &View,
    octets: &mut Vec<u8>,
) {
    let (message_type, yiaddr, lease_secs) = match answer {
        Answer::Silent(_) => return,
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
    let begin = octets.len();
    octets.reserve(SHORTEST_REPLY * 2);
    write_header(request, answer, yiaddr, bootfile, view, octets);

    let mut options = Options {
        octets,
        ends: Vec::with_capacity(24),
        said: [false; 256],
    };
    options.add(OptionCode::MessageType, &[message_type.into()]);
    options.add(OptionCode::ServerIdentifier, &view.server_id.octets());
    match answer {
        Answer::Nak(reason) => options.add(OptionCode::Message, reason.message().as_bytes()),
        _ => {
            lease_secs
                .into_iter()
                .for_each(|secs| options.add_lease(secs));
            options.add_boot(request, bootfile, view);
        }
    }
    // Beside another server only the boot is ours; the network is for that one to describe.
    if !matches!(
        answer,
        Answer::Nak(_) | Answer::ProxyOffer | Answer::ProxyAck
    ) {
        // What the machine's boot needs stands before what it may do without.
        for code in chosen::codes(request, view) {
            options.add_chosen(code, view);
        }
    }
    let ends = options.ends;
    place(octets, begin, &ends, request);
    octets.resize(octets.len().max(begin + SHORTEST_REPLY), 0);
}

impl Options<'_> {
    /// In parts of 255 if it is longer (RFC 3396).
    fn add(&mut self, code: OptionCode, content: &[u8]) {
        let code = u8::from(code);
        write_option(code, content, self.octets);
        self.close(code);
    }

    fn close(&mut self, code: u8) {
        self.said[usize::from(code)] = true;
        self.ends.push(self.octets.len());
    }

    fn add_chosen(&mut self, code: u8, view: &View) {
        if self.said[usize::from(code)] {
            return;
        }
        let begin = self.octets.len();
        self.octets.extend([code, 0]);
        if chosen::write(code, view, self.octets).is_none() {
            return self.octets.truncate(begin);
        }
        match u8::try_from(self.octets.len() - begin - 2) {
            Ok(length) => self.octets[begin + 1] = length,
            Err(_) => {
                let content = self.octets.split_off(begin + 2);
                self.octets.truncate(begin);
                write_option(code, &content, self.octets);
            }
        }
        self.close(code);
    }

    /// 51, and 58 and 59 at the fractions of RFC 2131 §4.4.5.
    fn add_lease(&mut self, secs: u32) {
        self.add(OptionCode::AddressLeaseTime, &secs.to_be_bytes());
        self.add(OptionCode::Renewal, &(secs / 2).to_be_bytes());
        self.add(OptionCode::Rebinding, &(secs - secs / 8).to_be_bytes());
    }

    /// What a machine that boots from the network needs, said in every place that some firmware reads.
    fn add_boot(&mut self, request: &Request, bootfile: Option<&Bootfile>, view: &View) {
        let Some(bootfile) = bootfile else {
            return;
        };
        if !bootfile.as_str().is_empty() {
            self.add(OptionCode::BootfileName, bootfile.as_str().as_bytes());
            // EDK II ends the name with a NUL of its own, over the octet behind the option: a pad gives it one to spare.
            // Without, the next option is destroyed, and OVMF 2022.11 declines the lease.
            self.octets.push(0);
            self.close(0);
        }
        let server = || view.own_address.to_string().into_bytes();
        match bootfile {
            Bootfile::RaspberryPi => {
                self.add(OptionCode::TFTPServerName, &server());
                self.add(OptionCode::ClassIdentifier, b"PXEClient");
                // Its ROM boots from whoever offers this very menu (43.9, 43.10).
                let menu = [
                    &[9, 20, 0, 0, 17][..],
                    b"Raspberry Pi Boot",
                    &[10, 4, 0],
                    b"PXE",
                    &[255],
                ];
                self.add(OptionCode::VendorExtensions, &menu.concat());
            }
            // UEFI 2.10 §24.7: without it the firmware takes the offer for one without a boot file.
            Bootfile::HttpProgram(_) => self.add(OptionCode::ClassIdentifier, b"HTTPClient"),
            Bootfile::Tftp(_) | Bootfile::Script(_) => {
                if view.configured_option(66).is_none() {
                    self.add(OptionCode::TFTPServerName, &server());
                }
                let says_pxe = request
                    .option(OptionCode::ClassIdentifier)
                    .is_some_and(|class| class.starts_with(b"PXEClient"));
                if says_pxe {
                    self.add(OptionCode::ClassIdentifier, b"PXEClient");
                    // PXE 2.1 §2.2.3, PXE_DISCOVERY_CONTROL bit 3: the boot file is here, ask no boot server.
                    if !view.asks_boot_server() {
                        self.add(OptionCode::VendorExtensions, &[6, 1, 8, 255]);
                    }
                }
            }
        }
        // PXE 2.1 §2.2.1: the machine's UUID is sent back unchanged.
        if let Some(uuid) = request.option(OptionCode::ClientMachineIdentifier) {
            self.add(OptionCode::ClientMachineIdentifier, uuid);
        }
        if request.ipxe().is_some() {
            // 176 in iPXE's own options, no-pxedhcp: do not wait two seconds for a proxyDHCP offer.
            self.add(OptionCode::Unknown(175), &[176, 1, 1]);
        }
    }
}

/// Leaves the options where they are, behind the header, if they fit; if they do not, puts them in the fields `file` and `sname`
/// too, as far as nothing else is said there (option 52, RFC 2132 §9.3). PXE ROMs look for the boot file in `file` and never in
/// an option that stands there, so a boot file keeps its field. What fits nowhere is left out.
fn place(octets: &mut Vec<u8>, begin: usize, ends: &[usize], request: &Request) {
    let takes = request.max_reply_octets();
    let id = sent_back(request, OptionCode::ClientIdentifier, takes);
    let id_length = id.map_or(0, option_length);
    let agent_most = LONGEST_REPLY - id_length;
    let agent = sent_back(request, OptionCode::RelayAgentInformation, agent_most);
    let agent_length = agent.map_or(0, option_length);
    let most = takes.max(LEAST + id_length + agent_length);
    let room = most.saturating_sub(id_length + agent_length + 1); // and the end option
    if octets.len() - begin > room {
        overload(octets, begin, ends, room);
    }
    for (code, content) in [
        (OptionCode::ClientIdentifier, id),
        (OptionCode::RelayAgentInformation, agent),
    ] {
        if let Some(content) = content {
            write_option(code.into(), content, octets);
        }
    }
    octets.push(255);
}

/// What is sent back at the end of a reply. RFC 6842 §3: the client-id, unless it leaves no room for a lease. RFC 3046 §2.2: what
/// the relay agent said, as the last option; rather than leave no room for a lease it goes beside what the client takes,
/// since the agent keeps it, but one that no frame holds is left out.
fn sent_back(request: &Request, code: OptionCode, most: usize) -> Option<&[u8]> {
    (request.option(code)).filter(|content| LEAST + option_length(content) <= most)
}

fn overload(octets: &mut Vec<u8>, begin: usize, ends: &[usize], room: usize) {
    let behind = octets.split_off(begin + HEADER);
    let reply = &mut octets[begin..];
    let mut fields = [(FILE, 1_u8), (SNAME, 2_u8)].map(|(range, bit)| {
        let is_free = reply[range.clone()].iter().all(|octet| *octet == 0);
        (range, bit, is_free, Vec::new())
    });
    let mut from = 0;
    for end in ends.iter().map(|end| end - begin - HEADER) {
        let part = &behind[from..end];
        from = end;
        // Three octets are kept for option 52 itself.
        if octets.len() - begin + part.len() + 3 <= room {
            octets.extend(part);
            continue;
        }
        let fitting = (fields.iter_mut()).find(|(range, _, is_free, content)| {
            *is_free && content.len() + part.len() < range.len()
        });
        if let Some((_, _, _, content)) = fitting {
            content.extend(part);
        }
    }
    let mut said = 0;
    for (range, bit, _, mut content) in fields {
        if !content.is_empty() {
            said |= bit;
            content.push(255);
            let place = begin + range.start;
            octets[place..place + content.len()].copy_from_slice(&content);
        }
    }
    if said != 0 {
        octets.extend([52, 1, said]);
    }
}

/// RFC 2131 §2, figure 1.
fn write_header(
    request: &Request,
    answer: &Answer,
    yiaddr: Ipv4Addr,
    bootfile: Option<&Bootfile>,
    view: &View,
    octets: &mut Vec<u8>,
) {
    let ciaddr = match answer {
        Answer::Ack { .. } | Answer::AckInform | Answer::ProxyAck => request.ciaddr, // §4.3.1, table 3
        _ => Ipv4Addr::UNSPECIFIED,
    };
    // An HTTP URL stands for itself; siaddr names the TFTP server, and iPXE's ${next-server}.
    let siaddr = match bootfile {
        Some(Bootfile::Tftp(_) | Bootfile::Script(_) | Bootfile::RaspberryPi) => view.own_address,
        _ => Ipv4Addr::UNSPECIFIED,
    };
    let flags = match answer {
        // §4.3.2: towards a relay agent the broadcast bit has it broadcast the NAK.
        Answer::Nak(_) if !request.giaddr.is_unspecified() => request.flags | 0x8000,
        _ => request.flags,
    };
    let begin = octets.len();
    octets.extend([2, request.htype, request.hlen, 0]); // BOOTREPLY
    octets.extend(request.xid.to_be_bytes());
    octets.extend([0, 0]); // secs
    octets.extend(flags.to_be_bytes());
    for address in [ciaddr, yiaddr, siaddr, request.giaddr] {
        octets.extend(address.octets());
    }
    let hardware = &request.chaddr[..usize::from(request.hlen)];
    octets.extend(hardware);
    octets.resize(begin + HEADER - MAGIC.len(), 0);
    octets.extend(MAGIC);
    if let Some(name) = bootfile
        .map(Bootfile::as_str)
        .filter(|name| name.len() < FILE.len())
    {
        let place = begin + FILE.start;
        octets[place..place + name.len()].copy_from_slice(name.as_bytes());
    }
}

fn write_option(code: u8, content: &[u8], octets: &mut Vec<u8>) {
    if content.is_empty() {
        return octets.extend([code, 0]);
    }
    for part in content.chunks(255) {
        octets.extend([code, part.len() as u8]);
        octets.extend(part);
    }
}

fn option_length(content: &[u8]) -> usize {
    content.len() + 2 * content.len().div_ceil(255).max(1)
}

#[cfg(test)]
mod tests;
