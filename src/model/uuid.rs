//! The machine's own number, as SMBIOS and option 97 have it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::hex;

/// A UUID. SMBIOS 2.6 and later store its first three fields with the low octet first, and firmware sends either order: two
/// are the same machine's if they are equal in one of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid([u8; 16]);

/// Text that is not a UUID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MalformedUuid(String);

impl Uuid {
    /// From the octets of option 97 after its type octet; nothing for all zeros and all ones, which boards without a number send.
    pub fn from_octets(octets: [u8; 16]) -> Option<Self> {
        (octets != [0; 16] && octets != [0xff; 16]).then_some(Self(octets))
    }

    /// The same for a UUID in either octet order.
    pub fn canonical(self) -> Self {
        self.min(self.swapped())
    }

    fn swapped(self) -> Self {
        let mut octets = self.0;
        octets[..4].reverse();
        octets[4..6].reverse();
        octets[6..8].reverse();
        Self(octets)
    }
}

impl FromStr for Uuid {
    type Err = MalformedUuid;

    /// Understands `6ba7b810-9dad-11d1-80b4-00c04fd430c8`, in either case.
    fn from_str(text: &str) -> Result<Self, MalformedUuid> {
        let malformed = || MalformedUuid(text.to_owned());
        let groups: Vec<&str> = text.split('-').collect();
        let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
        let octets = hex::array(&groups.concat()).filter(|_| lengths == [8, 4, 4, 4, 12]);
        octets.and_then(Self::from_octets).ok_or_else(malformed)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, octet) in self.0.iter().enumerate() {
            let hyphen = if matches!(at, 4 | 6 | 8 | 10) {
                "-"
            } else {
                ""
            };
            write!(f, "{hyphen}{octet:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for MalformedUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a machine's UUID; write it like 6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            self.0.escape_default()
        )
    }
}

impl std::error::Error for MalformedUuid {}

impl Serialize for Uuid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Uuid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_known_by_either_octet_order_of_its_uuid() {
        let network: Uuid = "00112233-4455-6677-8899-aabbccddeeff"
            .parse()
            .expect("a UUID");
        let smbios: Uuid = "33221100-5544-7766-8899-aabbccddeeff"
            .parse()
            .expect("a UUID");
        assert_ne!(network, smbios);
        assert_eq!(network.canonical(), smbios.canonical());
    }

    #[test]
    fn what_boards_without_a_number_send_is_no_identity() {
        assert_eq!(Uuid::from_octets([0; 16]), None);
        assert_eq!(Uuid::from_octets([0xff; 16]), None);
        for bad in [
            "",
            "x",
            "00000000-0000-0000-0000-000000000000",
            "00112233-4455-6677-8899-aabbccddeef",
        ] {
            assert!(bad.parse::<Uuid>().is_err(), "{bad}");
        }
    }
}
