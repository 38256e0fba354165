//! What every reply must be, read by a reader that shares no line with the server's. In: what was asked, and the reply. Out: the
//! rule that is broken, if one is.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Octets of a UDP datagram in an Ethernet frame.
const FRAME: usize = 1472;

/// A packet of either direction, as far as it can be read.
pub struct Packet<'a> {
    pub octets: &'a [u8],
    /// In the order they stand in, fields of the header after the packet's own.
    pub options: Vec<(u8, Vec<u8>)>,
    /// Where the end option of the packet's own options stands.
    end: Option<usize>,
}

impl<'a> Packet<'a> {
    /// Fails where an option runs out of its field.
    pub fn read(octets: &'a [u8]) -> Result<Self, String> {
        let mut options = Vec::new();
        let end = walk(octets, 240, octets.len(), &mut options)?;
        let overload = options.iter().find(|(code, _)| *code == 52);
        let overload = overload.map_or(0, |(_, content)| content.first().copied().unwrap_or(0));
        if overload & 1 != 0 {
            walk(octets, 108, 236, &mut options)?.ok_or("no end option in file")?;
        }
        if overload & 2 != 0 {
            walk(octets, 44, 108, &mut options)?.ok_or("no end option in sname")?;
        }
        Ok(Self {
            octets,
            options,
            end,
        })
    }

    /// All parts of an option together (RFC 3396).
    pub fn option(&self, code: u8) -> Option<Vec<u8>> {
        let parts: Vec<_> = self.options.iter().filter(|(c, _)| *c == code).collect();
        (!parts.is_empty()).then(|| {
            parts
                .into_iter()
                .flat_map(|(_, part)| part.clone())
                .collect()
        })
    }

    pub fn address(&self, at: usize) -> Ipv4Addr {
        let octets: [u8; 4] = self.octets[at..at + 4].try_into().expect("four");
        octets.into()
    }

    pub fn kind(&self) -> u8 {
        self.option(53).map_or(0, |content| content[0])
    }
}

fn walk(
    octets: &[u8],
    mut at: usize,
    end: usize,
    options: &mut Vec<(u8, Vec<u8>)>,
) -> Result<Option<usize>, String> {
    while at < end {
        match octets[at] {
            0 => at += 1,
            255 => return Ok(Some(at)),
            code => {
                let length = octets.get(at + 1).ok_or("an option without a length")?;
                let after = at + 2 + usize::from(*length);
                let content = octets.get(at + 2..after).filter(|_| after <= end);
                let content =
                    content.ok_or_else(|| format!("option {code} runs out of its field"))?;
                options.push((code, content.to_vec()));
                at = after;
            }
        }
    }
    Ok(None)
}

/// The rules that need no look at the world.
pub fn check(asked: &[u8], reply: &[u8]) -> Result<(), String> {
    let asked_options = requested(asked);
    if reply.len() < 300 {
        return Err(format!("{} octets are less than BOOTP's 300", reply.len()));
    }
    check_header(asked, reply)?;
    let read = Packet::read(reply)?;
    let end = read.end.ok_or("no end option")?;
    if reply[end + 1..].iter().any(|octet| *octet != 0) {
        return Err("something stands behind the end option".into());
    }
    // RFC 3046 §2.2: what the relay agent said is its own, and goes beside what the client takes.
    let agent = asked_options.get(&82);
    let agents = agent.map_or(0, |said| said.len() + 2 * said.len().div_ceil(255).max(1));
    let takes = asked_options
        .get(&57)
        .and_then(|content| Some(u16::from_be_bytes(content.as_slice().try_into().ok()?)))
        .map_or(576, usize::from)
        .clamp(576, 1500)
        - 28;
    if reply.len() > (takes + agents).min(FRAME) {
        return Err(format!("{} octets; it takes {takes}", reply.len()));
    }
    if let Some(said) = agent
        && read.option(82).as_ref() != Some(said)
    {
        return Err("what the relay agent said does not come back".into());
    }
    let last_own = read.options.iter().rposition(|_| true);
    let is_last = read.options.iter().position(|(code, _)| *code == 82);
    if agent.is_some() && read.option(52).is_none() && is_last.is_some() {
        let parts = agents.div_ceil(257).max(1);
        if is_last
            .zip(last_own)
            .is_some_and(|(at, last)| at + parts != last + 1)
        {
            return Err("option 82 is not the last".into());
        }
    }
    let id = asked_options.get(&61);
    if read.option(61).is_some() && read.option(61).as_ref() != id {
        return Err("another client-id comes back".into());
    }
    if read.option(54).is_none_or(|content| content.len() != 4) {
        return Err("no server identifier".into());
    }
    check_kind(asked, &read)
}

/// RFC 2131 §4.3.1, table 3.
fn check_header(asked: &[u8], reply: &[u8]) -> Result<(), String> {
    let hlen = usize::from(asked[2]);
    let is_nak = reply[240..243] == [53, 1, 6];
    let flags = |octets: &[u8]| u16::from_be_bytes([octets[10], octets[11]]);
    let is_relayed = asked[24..28] != [0; 4];
    let wanted_flags = match is_nak && is_relayed {
        true => flags(asked) | 0x8000, // §4.3.2
        false => flags(asked),
    };
    let fields = [
        ("op", reply[0] == 2),
        ("htype", reply[1] == asked[1]),
        ("hlen", reply[2] == asked[2]),
        ("hops", reply[3] == 0),
        ("xid", reply[4..8] == asked[4..8]),
        ("flags", flags(reply) == wanted_flags),
        ("giaddr", reply[24..28] == asked[24..28]),
        ("chaddr", reply[28..28 + hlen] == asked[28..28 + hlen]),
        ("cookie", reply[236..240] == [99, 130, 83, 99]),
    ];
    match fields.iter().find(|(_, is_good)| !is_good) {
        Some((field, _)) => Err(format!("{field} does not come back")),
        None => Ok(()),
    }
}

/// What an OFFER, an ACK and a NAK have and have not.
fn check_kind(asked: &[u8], reply: &Packet) -> Result<(), String> {
    let yiaddr = reply.address(16);
    let has = |code: u8| reply.option(code).is_some();
    match (reply.kind(), yiaddr.is_unspecified()) {
        (2 | 5, false) if has(51) && has(58) && has(59) => Ok(()),
        (2 | 5, false) => Err("an address without a time".into()),
        (2 | 5, true) if has(51) => Err("a time without an address".into()),
        (2 | 5, true) => Ok(()),
        (6, true) if has(51) || reply.address(12) != Ipv4Addr::UNSPECIFIED => {
            Err("a NAK that gives".into())
        }
        (6, true) if requested(asked).get(&53).map(Vec::as_slice) != Some(&[3]) => {
            Err("a NAK to no REQUEST".into())
        }
        (6, true) => Ok(()),
        (kind, _) => Err(format!("a reply of type {kind} with {yiaddr}")),
    }
}

/// What the packet's options are, by a reading as lenient as there can be.
pub fn requested(asked: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut options = BTreeMap::<u8, Vec<u8>>::new();
    let read = Packet::read_loosely(asked);
    for (code, content) in read {
        options.entry(code).or_default().extend(content);
    }
    options
}

impl Packet<'_> {
    fn read_loosely(octets: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut options = Vec::new();
        let _ = walk(octets, 240, octets.len(), &mut options);
        let overload = (options.iter())
            .filter(|(code, _)| *code == 52)
            .flat_map(|(_, content)| content.clone())
            .next()
            .unwrap_or(0);
        if overload & 1 != 0 {
            let _ = walk(octets, 108, 236, &mut options);
        }
        if overload & 2 != 0 {
            let _ = walk(octets, 44, 108, &mut options);
        }
        options
    }
}
