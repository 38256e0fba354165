//! Packets from packets. In: the corpus and a seed. Out: one damaged packet after the other, the same in every run.

use std::path::Path;

/// Numbers that look random and are the same in every run (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).expect("31 bits") % below.max(1)
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn octet(&mut self) -> u8 {
        u8::try_from(self.below(256)).expect("below 256")
    }

    fn octets(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.octet()).collect()
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// Addresses that mean something in `world`.
const ADDRESSES: [[u8; 4]; 15] = [
    [0, 0, 0, 0],
    [255, 255, 255, 255],
    [198, 18, 0, 1],
    [198, 18, 0, 10],
    [198, 18, 0, 102],
    [198, 18, 0, 103],
    [198, 18, 0, 104],
    [198, 18, 0, 109],
    [198, 18, 0, 255],
    [198, 19, 0, 1],
    [198, 19, 0, 30],
    [198, 19, 0, 52],
    [192, 0, 2, 7],
    [127, 0, 0, 1],
    [224, 0, 0, 1],
];
/// Options that the server looks at, and a few that it does not.
const CODES: [u8; 26] = [
    0, 12, 43, 50, 51, 52, 53, 54, 55, 56, 57, 60, 61, 66, 67, 77, 80, 82, 93, 94, 97, 118, 121,
    175, 254, 255,
];
const TEXTS: [&[u8]; 9] = [
    b"PXEClient:Arch:00007:UNDI:003016",
    b"HTTPClient:Arch:00016:UNDI:003001",
    b"iPXE",
    b"\x04iPXE",
    b"phone-7",
    b"\x01\x04lan1",
    b"\x05\x04\xc6\x13\x00\x00\x0b\x04\xc6\x13\x00\x01",
    b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10",
    b"node-1\x00",
];
const OCTETS: [u8; 10] = [0, 1, 2, 6, 16, 17, 52, 127, 128, 255];
/// As many as a batch of other clients' answers.
const LEARNED: usize = 256;
/// What fits an Ethernet frame.
const LONGEST: usize = 1472;

pub struct Mutator {
    random: Random,
    corpus: Vec<Vec<u8>>,
    learned: Vec<Vec<u8>>,
}

impl Mutator {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            corpus: corpus(),
            learned: Vec::new(),
        }
    }

    /// The next packet: one in eight as it was recorded but for who sends it.
    pub fn next(&mut self) -> Vec<u8> {
        let pool = match self.learned.is_empty() || self.random.one_in(3) {
            true => &self.corpus,
            false => &self.learned,
        };
        let mut packet = self.random.of(pool).clone();
        if self.random.one_in(2) && packet.len() > 34 {
            packet[28..33].copy_from_slice(&[0x52, 0x54, 0, 0, 0]);
            packet[33] = self.random.octet() % 32; // a few clients that meet again and again
        }
        if !self.random.one_in(8) {
            for _ in 0..1 + self.random.below(5) {
                self.damage(&mut packet);
            }
        }
        packet.truncate(LONGEST);
        packet
    }

    /// A client goes on from what it is given: what it sends next is worth damaging too.
    pub fn learn(&mut self, asked: &[u8], reply: Option<&[u8]>) {
        let Some(reply) = reply.filter(|reply| reply[16..20] != [0; 4]) else {
            return;
        };
        let (address, server) = (&reply[16..20], &reply[245..249]); // 53, and 54 behind it
        let mut next = asked[..240].to_vec();
        let kind = match reply[242] {
            2 => 3,
            _ => *self.random.of(&[3, 4, 7, 8]),
        };
        next.extend([53, 1, kind]);
        if reply[242] == 2 || kind == 4 {
            next.extend([&[50, 4], address, &[54, 4], server].concat());
        } else {
            next[12..16].copy_from_slice(address);
        }
        next.extend(&asked[243..]);
        if self.learned.len() < LEARNED {
            self.learned.push(next);
        } else {
            let at = self.random.below(LEARNED);
            self.learned[at] = next;
        }
    }

    fn damage(&mut self, packet: &mut Vec<u8>) {
        let random = &mut self.random;
        if packet.len() < 245 {
            packet.extend(random.octets(8));
            return;
        }
        match random.below(14) {
            0 => {
                let at = random.below(packet.len());
                packet[at] ^= 1 << random.below(8);
            }
            1 => {
                let at = random.below(packet.len());
                packet[at] = *random.of(&OCTETS);
            }
            2 if random.one_in(4) => packet.truncate(random.below(packet.len())),
            3 => {
                let count = random.below(300);
                packet.extend(random.octets(count));
            }
            4 => {
                let other = random.of(&self.corpus);
                let at = 240 + random.below(packet.len() - 240);
                let from = 240 + random.below(other.len() - 240);
                packet.truncate(at);
                packet.extend(&other[from..]);
            }
            5 => {
                let at = *random.of(&[12, 20, 24]); // ciaddr, siaddr, giaddr
                let address: [u8; 4] = *random.of(&ADDRESSES);
                packet[at..at + 4].copy_from_slice(&address);
            }
            6 => {
                let at = *random.of(&[0, 1, 2, 3, 8, 10, 11]); // op, htype, hlen, hops, secs, flags
                packet[at] = *random.of(&OCTETS);
            }
            7 => {
                let at = 28 + random.below(16);
                packet[at] = random.octet();
            }
            8 => {
                // Options in the fields of the header (52), which may be nonsense.
                let at = *random.of(&[44, 108]);
                let count = random.below(64);
                let octets = random.octets(count);
                packet[at..at + count].copy_from_slice(&octets);
                insert(packet, 240, 52, &[random.octet() % 5]);
            }
            9 | 10 => damage_option(packet, random),
            _ => {
                let code = *random.of(&CODES);
                let content = content(code, random);
                let starts = options(packet);
                let at = *random.of(&starts);
                insert(packet, at, code, &content);
            }
        }
    }
}

/// A length that lies, a code that is another, an option twice, or none.
fn damage_option(packet: &mut Vec<u8>, random: &mut Random) {
    let starts = options(packet);
    let at = *random.of(&starts);
    if at + 2 > packet.len() {
        return;
    }
    let end = (at + 2 + usize::from(packet[at + 1])).min(packet.len());
    match random.below(5) {
        0 => packet[at + 1] = random.octet(),
        1 => packet[at + 1] = packet[at + 1].wrapping_add(1),
        2 => packet[at] = *random.of(&CODES),
        3 => {
            let option = packet[at..end].to_vec();
            packet.splice(at..at, option);
        }
        _ => drop(packet.drain(at..end)),
    }
}

fn content(code: u8, random: &mut Random) -> Vec<u8> {
    match (code, random.below(4)) {
        (53, 1..) => vec![*random.of(&[1, 3, 3, 4, 7, 8])],
        (50 | 54 | 118, 1..) => random.of(&ADDRESSES).to_vec(),
        (57, 1..) => vec![*random.of(&[0, 2, 2, 4, 5, 255]), random.octet()],
        (51, 1..) => vec![
            random.octet(),
            random.octet(),
            random.octet(),
            random.octet(),
        ],
        (55, 1..) => {
            let count = random.below(255);
            random.octets(count)
        }
        (_, 0 | 1) => random.of(&TEXTS).to_vec(),
        (_, 2) => Vec::new(),
        _ => {
            let count = random.below(256);
            random.octets(count)
        }
    }
}

fn insert(packet: &mut Vec<u8>, at: usize, code: u8, content: &[u8]) {
    let length = u8::try_from(content.len()).expect("at most 255");
    packet.splice(at..at, [&[code, length], content].concat());
}

/// Where the options begin, as far as they can be followed; at least the first place.
fn options(packet: &[u8]) -> Vec<usize> {
    let mut starts = vec![240];
    let mut at = 240;
    while at + 1 < packet.len() && packet[at] != 255 {
        at += match packet[at] {
            0 => 1,
            _ => 2 + usize::from(packet[at + 1]),
        };
        if at < packet.len() {
            starts.push(at);
        }
    }
    starts
}

fn corpus() -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packets");
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .expect("tests/packets is there")
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    files.sort();
    let texts = files
        .iter()
        .map(|file| std::fs::read_to_string(file).expect("it can be read"));
    let lines: Vec<String> = texts
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| !line.starts_with('#'))
        .collect();
    lines
        .iter()
        .map(|line| {
            let pair = |at: usize| u8::from_str_radix(&line[at..at + 2], 16).expect("hexadecimal");
            (0..line.len()).step_by(2).map(pair).collect()
        })
        .collect()
}
