//! What artefacts are called. In: text. Out: a digest, or a name that is a path below `/files/` and nothing else.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// As a file's name it must fit into 255 octets, with three for each slash.
const LONGEST_NAME: usize = 200;

/// A SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// What an artefact is asked for by: `debian-12/x86_64/vmlinuz`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Text that is no digest.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("wanted a SHA-256, 64 hexadecimal digits")]
pub struct BadDigest;

/// Text that is no name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "wanted a name such as debian-12/x86_64/vmlinuz: up to 200 letters, digits and . _ - + ~ @ = , :, in parts that begin with none of . -"
)]
pub struct BadName;

impl FromStr for Digest {
    type Err = BadDigest;

    fn from_str(text: &str) -> Result<Self, BadDigest> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text).as_bytes();
        let mut octets = [0; 32];
        if digits.len() != 64 {
            return Err(BadDigest);
        }
        for (octet, pair) in octets.iter_mut().zip(digits.chunks(2)) {
            let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(BadDigest);
            let value = digit(pair[0])? * 16 + digit(pair[1])?;
            *octet = u8::try_from(value).map_err(|_| BadDigest)?;
        }
        Ok(Self(octets))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._-+~@=,:".contains(&b);
        let is_part = |part: &str| {
            !part.is_empty() && !part.starts_with(['.', '-']) && part.bytes().all(is_plain)
        };
        if text.len() <= LONGEST_NAME && text.split('/').all(is_part) && !text.contains("://") {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName)
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the file that holds it.
    pub fn file_name(&self) -> String {
        self.0.replace('/', "%2F")
    }

    /// The other way round.
    pub fn of_file_name(text: &str) -> Option<Self> {
        text.replace("%2F", "/").parse().ok()
    }

    /// A name below this one.
    pub fn join(&self, path: &str) -> Result<Self, BadName> {
        format!("{}/{path}", self.0).parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_a_path_below_files() {
        for good in ["vmlinuz", "debian-12/x86_64/vmlinuz", "a/b:c=d,e@f~g+h_i"] {
            let name: Name = good.parse().expect(good);
            assert_eq!(Name::of_file_name(&name.file_name()), Some(name));
        }
        let long = "x".repeat(201);
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            "..",
            "a/../b",
            ".hidden",
            "a/.b",
            "-rf",
            "a b",
            "a\\b",
            "a%2Fb",
            "ä",
            "a\0b",
            "http://h/x",
            &long,
        ] {
            assert_eq!(bad.parse::<Name>(), Err(BadName), "{bad}");
        }
    }

    #[test]
    fn a_digest_is_64_hexadecimal_digits() {
        let text = "00ff".repeat(16);
        assert_eq!(text.parse::<Digest>().expect("it is one").to_string(), text);
        assert!(
            format!("sha256:{}", text.to_uppercase())
                .parse::<Digest>()
                .is_ok()
        );
        for bad in ["", "00", &"0".repeat(63), &"g".repeat(64), &"0".repeat(65)] {
            assert_eq!(bad.parse::<Digest>(), Err(BadDigest), "{bad}");
        }
    }
}
