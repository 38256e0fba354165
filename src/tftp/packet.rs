//! TFTP packets (RFC 1350 §5, RFC 2347). In: a datagram's octets. Out: what it says, in owned values of bounded size; and the
//! other way round for what we send. Refuses nothing by itself: what makes no sense is `Packet::Nonsense`.

/// RFC 2347 allows requests of 512 octets; a longer name is refused by name, so it is let through to there.
const LONGEST_TEXT: usize = 1024;
/// What a client's ERROR may say into our log.
const LONGEST_ERROR: usize = 128;
/// Opcode and block number.
pub const DATA_HEADER: usize = 4;
/// RFC 2348 §2.
const BLOCK_SIZES: std::ops::RangeInclusive<u64> = 8..=65464;
/// RFC 7440 §3.
const WINDOW_SIZES: std::ops::RangeInclusive<u64> = 1..=65535;
/// RFC 2349, in seconds.
const TIMEOUTS: std::ops::RangeInclusive<u64> = 1..=255;

/// What a datagram says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// RRQ.
    Read(Request),
    /// WRQ.
    Write(Request),
    Ack(u16),
    Error(ClientError),
    /// RRQ or WRQ without a file name or a mode.
    BadRequest,
    /// DATA and OACK, which nobody sends to a server that is only read from, and what is no TFTP at all.
    Nonsense,
}

/// A read or write request. Two that are equal ask for the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// As it was sent, but for what some ROMs send behind it.
    pub name: Vec<u8>,
    pub mode: Mode,
    /// Those that are known and within their RFC's bounds, each once, in the order they were asked for.
    pub options: Vec<Wish>,
}

/// RFC 1350 §1. Names are compared without regard to case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Octet,
    Netascii,
    /// `mail`, which RFC 1350 calls obsolete, and what no RFC knows.
    Other,
}

/// An option that a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// `blksize`, in octets (RFC 2348).
    BlockSize(u16),
    /// `windowsize`, in blocks (RFC 7440).
    WindowSize(u16),
    /// `timeout`, in seconds (RFC 2349).
    Timeout(u8),
    /// `tsize` (RFC 2349).
    Size,
}

/// A client's ERROR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientError {
    pub code: u16,
    /// Printable, and of bounded length.
    pub text: String,
}

/// Our ERROR codes (RFC 1350 §5, appendix).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    NotDefined = 0,
    NotFound = 1,
    AccessViolation = 2,
    IllegalOperation = 4,
    UnknownTransfer = 5,
}

/// Reads a datagram.
pub fn parse(octets: &[u8]) -> Packet {
    let Some((opcode, rest)) = octets.split_first_chunk::<2>() else {
        return Packet::Nonsense;
    };
    let number = || Some(u16::from_be_bytes(*rest.first_chunk()?));
    match (u16::from_be_bytes(*opcode), number()) {
        (1, _) => parse_request(rest).map_or(Packet::BadRequest, Packet::Read),
        (2, _) => parse_request(rest).map_or(Packet::BadRequest, Packet::Write),
        (4, Some(block)) => Packet::Ack(block),
        (5, Some(code)) => Packet::Error(ClientError {
            code,
            text: printable(&rest[2..]),
        }),
        _ => Packet::Nonsense,
    }
}

fn parse_request(octets: &[u8]) -> Option<Request> {
    let mut words = octets.split(|octet| *octet == 0);
    let name = words.next()?;
    // A ROM that takes option 67 without a length of its own sends the End option that followed it: 0xFF.
    let junk = name
        .iter()
        .rev()
        .take_while(|octet| **octet == 0xff)
        .count();
    let name = &name[..name.len() - junk];
    let mode = match words.next()? {
        b"" => return None,
        word if word.eq_ignore_ascii_case(b"octet") => Mode::Octet,
        word if word.eq_ignore_ascii_case(b"netascii") => Mode::Netascii,
        _ => Mode::Other,
    };
    let mut options: Vec<Wish> = Vec::new();
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        // RFC 2347: an option may be given once. Of several, the first counts.
        if let Some(wish) = wish(name, value)
            && !options.iter().any(|known| known.is_like(wish))
        {
            options.push(wish);
        }
    }
    Some(Request {
        name: name[..name.len().min(LONGEST_TEXT)].to_vec(),
        mode,
        options,
    })
}

/// RFC 2347: what a server does not know, or cannot make sense of, it leaves unanswered.
fn wish(name: &[u8], value: &[u8]) -> Option<Wish> {
    let value: Option<u64> = str::from_utf8(value).ok().and_then(|v| v.parse().ok());
    let within = |bounds: std::ops::RangeInclusive<u64>| value.filter(|v| bounds.contains(v));
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    if is(b"blksize") {
        let size = within(BLOCK_SIZES)?;
        Some(Wish::BlockSize(u16::try_from(size).ok()?))
    } else if is(b"windowsize") {
        let size = within(WINDOW_SIZES)?;
        Some(Wish::WindowSize(u16::try_from(size).ok()?))
    } else if is(b"timeout") {
        let seconds = within(TIMEOUTS)?;
        Some(Wish::Timeout(u8::try_from(seconds).ok()?))
    } else if is(b"tsize") {
        // RFC 2349 has the client say 0; what else it says changes nothing.
        value.map(|_| Wish::Size)
    } else {
        None
    }
}

impl Wish {
    fn is_like(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }

    /// The option's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::BlockSize(_) => "blksize",
            Self::WindowSize(_) => "windowsize",
            Self::Timeout(_) => "timeout",
            Self::Size => "tsize",
        }
    }
}

fn printable(text: &[u8]) -> String {
    let text = text.split(|octet| *octet == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(&text[..text.len().min(LONGEST_ERROR)]);
    text.chars().filter(|c| !c.is_control()).collect()
}

/// The header of a DATA packet; its octets follow.
pub fn data_header(block: u16) -> [u8; DATA_HEADER] {
    let [high, low] = block.to_be_bytes();
    [0, 3, high, low]
}

/// An ERROR packet.
pub fn error(code: ErrorCode, text: &str) -> Vec<u8> {
    let mut packet = vec![0, 5, 0, code as u8];
    packet.extend_from_slice(text.as_bytes());
    packet.push(0);
    packet
}

/// An OACK packet (RFC 2347).
pub fn option_ack(options: &[(&str, u64)]) -> Vec<u8> {
    let mut packet = vec![0, 6];
    for (name, value) in options {
        packet.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
    }
    packet
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(octets: &[u8]) -> Request {
        match parse(octets) {
            Packet::Read(request) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_of_ovmf_is_read() {
        let request =
            read(b"\0\x01snponly.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0");
        assert_eq!(
            request,
            Request {
                name: b"snponly.efi".to_vec(),
                mode: Mode::Octet,
                options: vec![Wish::Size, Wish::BlockSize(1468), Wish::WindowSize(4)],
            }
        );
    }

    #[test]
    fn options_out_of_their_bounds_repeated_or_unknown_count_for_nothing() {
        for options in [
            "blksize\x007",
            "blksize\x0065465",
            "blksize\x00-1",
            "blksize\x00",
            "blksize\x0099999999999999999999",
            "windowsize\x000",
            "windowsize\x0065536",
            "timeout\x000",
            "timeout\x00256",
            "tsize\x00large",
            "multicast\x00",
            "blksize",
        ] {
            let octets = format!("\0\x01f\0octet\0{options}\0");
            assert_eq!(read(octets.as_bytes()).options, [], "{options:?}");
        }
        let twice = read(b"\0\x01f\0octet\0BLKSIZE\x00512\0blksize\x001024\0TimeOut\x00255\0");
        assert_eq!(
            twice.options,
            [Wish::BlockSize(512), Wish::Timeout(255)],
            "the first counts"
        );
        let bounds = read(b"\0\x01f\0octet\0blksize\x008\0windowsize\x0065535\0timeout\x001\0");
        assert_eq!(
            bounds.options,
            [
                Wish::BlockSize(8),
                Wish::WindowSize(65535),
                Wish::Timeout(1)
            ]
        );
    }

    #[test]
    fn a_name_is_octets_without_what_a_rom_leaves_behind_it() {
        assert_eq!(read(b"\0\x01pxelinux.0\xff\0octet\0").name, b"pxelinux.0");
        assert_eq!(
            read(b"\0\x01pxelinux.0\xff\xff\0octet\0").name,
            b"pxelinux.0"
        );
        assert_eq!(read(b"\0\x01gr\xfc\xdfe\0octet\0").name, b"gr\xfc\xdfe");
        assert_eq!(read(b"\0\x01\0octet\0").name, b"");
        // Without the last NUL.
        assert_eq!(read(b"\0\x01f\0octet").mode, Mode::Octet);
    }

    #[test]
    fn modes_are_known_in_any_case() {
        for (word, mode) in [
            ("octet", Mode::Octet),
            ("OCTET", Mode::Octet),
            ("NetASCII", Mode::Netascii),
            ("mail", Mode::Other),
            ("octets", Mode::Other),
        ] {
            assert_eq!(read(format!("\0\x01f\0{word}\0").as_bytes()).mode, mode);
        }
    }

    #[test]
    fn what_is_no_request_is_told_apart() {
        for (octets, packet) in [
            (&b"\0\x01"[..], Packet::BadRequest),
            (b"\0\x01name", Packet::BadRequest),
            (b"\0\x01name\0", Packet::BadRequest),
            (b"\0\x02name\0\0", Packet::BadRequest),
            (b"\0\x04\xff\xff", Packet::Ack(65535)),
            (b"\0\x04\x01", Packet::Nonsense),
            (b"\0\x03\0\x01data", Packet::Nonsense),
            (b"\0\x06tsize\x000\0", Packet::Nonsense),
            (b"\x01\x04\0\x01", Packet::Nonsense),
            (b"\0", Packet::Nonsense),
            (b"", Packet::Nonsense),
        ] {
            assert_eq!(parse(octets), packet, "{octets:?}");
        }
    }

    #[test]
    fn an_error_says_what_can_be_printed() {
        let Packet::Error(error) = parse(b"\0\x05\0\x08User aborted\n the \x1b[1mtransfer\0junk")
        else {
            panic!("no error");
        };
        assert_eq!(
            (error.code, &error.text[..]),
            (8, "User aborted the [1mtransfer")
        );
        let long = [b"\0\x05\0\0".to_vec(), vec![b'x'; 1000]].concat();
        assert!(matches!(parse(&long), Packet::Error(e) if e.text.len() == LONGEST_ERROR));
    }

    #[test]
    fn packets_are_written_as_the_rfcs_draw_them() {
        assert_eq!(data_header(258), [0, 3, 1, 2]);
        assert_eq!(
            error(ErrorCode::UnknownTransfer, "who?"),
            b"\0\x05\0\x05who?\0"
        );
        assert_eq!(
            option_ack(&[("tsize", 1 << 33), ("blksize", 8)]),
            b"\0\x06tsize\x008589934592\0blksize\x008\0"
        );
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_or_grow(octets in proptest::collection::vec(any::<u8>(), 0..1500)) {
            if let Packet::Read(request) | Packet::Write(request) = parse(&octets) {
                prop_assert!(request.name.len() <= LONGEST_TEXT && request.options.len() <= 4);
            }
        }

        #[test]
        fn nothing_behind_a_read_makes_it_panic(rest in proptest::collection::vec(0..4_u8, 0..60)) {
            parse(&[&[0, 1], &rest[..]].concat());
        }
    }
}
