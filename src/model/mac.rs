//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::hex;

/// A 48-bit Ethernet address, written `52:54:00:00:00:01`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

/// Text that is not a MAC address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MalformedMac(pub String);

impl MacAddr {
    /// The form used in URLs and resource names: `52-54-00-00-00-01`.
    pub fn hyphenated(&self) -> String {
        self.to_string().replace(':', "-")
    }

    /// A multicast or all-zero address names no single machine.
    pub fn is_unicast(&self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl FromStr for MacAddr {
    type Err = MalformedMac;

    /// Understands `52:54:00:00:00:01`, `52-54-00-00-00-01`, `5254.0000.0001` and `525400000001`, in either case.
    fn from_str(text: &str) -> Result<Self, MalformedMac> {
        let malformed = || MalformedMac(text.to_owned());
        let groups: Vec<&str> = text.split([':', '-', '.']).collect();
        let separators = text.chars().filter(|c| ":-.".contains(*c));
        let one_kind = separators
            .clone()
            .all(|c| Some(c) == separators.clone().next());
        let digits_per_group = match groups.len() {
            1 => 12,
            3 => 4,
            6 => 2,
            _ => return Err(malformed()),
        };
        if !one_kind || groups.iter().any(|group| group.len() != digits_per_group) {
            return Err(malformed());
        }
        hex::array(&groups.concat()).map(Self).ok_or_else(malformed)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for MalformedMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a MAC address; write it like 52:54:00:00:00:01",
            self.0.escape_default()
        )
    }
}

impl std::error::Error for MalformedMac {}

impl Serialize for MacAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(OfText)
    }
}

/// Reads one where it stands: a start reads a million.
struct OfText;

impl serde::de::Visitor<'_> for OfText {
    type Value = MacAddr;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a MAC address")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<MacAddr, E> {
        as_written(text).map_or_else(|| text.parse().map_err(E::custom), Ok)
    }
}

/// Of the one notation that is written.
fn as_written(text: &str) -> Option<MacAddr> {
    let text: &[u8; 17] = text.as_bytes().try_into().ok()?;
    let digit = |octet: u8| char::from(octet).to_digit(16);
    let mut octets = [0; 6];
    for (octet, group) in octets.iter_mut().zip(text.chunks(3)) {
        *octet = u8::try_from(digit(group[0])? << 4 | digit(group[1])?).ok()?;
        if group.get(2).is_some_and(|separator| *separator != b':') {
            return None;
        }
    }
    Some(MacAddr(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_common_notation_is_understood_and_answered_in_one() {
        for text in [
            "52:54:00:AB:cd:01",
            "52-54-00-ab-cd-01",
            "5254.00ab.cd01",
            "525400ABCD01",
        ] {
            assert_eq!(
                text.parse::<MacAddr>().expect(text).to_string(),
                "52:54:00:ab:cd:01"
            );
        }
    }

    #[test]
    fn what_is_read_where_it_stands_is_read_like_anywhere() {
        let read = |text| {
            use serde::de::value::{Error, StrDeserializer};
            MacAddr::deserialize(StrDeserializer::<Error>::new(text))
        };
        for text in ["52:54:00:ab:cd:01", "52:54:00:AB:CD:01", "5254.00ab.cd01"] {
            assert_eq!(read(text), Ok(text.parse().expect(text)));
        }
        for text in [
            "52:54:00:ab:cd-01",
            "52:54:00:ab:cd:0g",
            "+2:54:00:ab:cd:01",
        ] {
            assert!(read(text).is_err(), "{text}");
            assert_eq!(as_written(text), None, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for text in [
            "",
            "52:54:00:00:00",
            "52:54-00:00:00:01",
            "52:54:00:00:00:0g",
            "52:54:00:00:00:1",
            "5254000000011",
            "+2:54:00:00:00:01",
            "52:54:00:00:00:0é",
        ] {
            let refused = text.parse::<MacAddr>().expect_err(text).to_string();
            assert!(refused.contains("52:54:00:00:00:01"), "{refused}");
        }
    }
}
