//! Digests of files: SHA-256 and SHA-512. In: hexadecimal text, or octets. Out: a value that knows its algorithm. It refuses
//! what has another length than the two, and what is not hexadecimal.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use sha2::{Digest as _, Sha256, Sha512};

/// What a digest is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// By the digest's length in hexadecimal digits.
    pub fn of_length(digits: usize) -> Option<Self> {
        match digits {
            64 => Some(Self::Sha256),
            128 => Some(Self::Sha512),
            _ => None,
        }
    }
}

/// What a file has to be: `sha256:…` or `sha512:…`, lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Digest {
    hex: String,
}

impl Digest {
    /// Nothing if it is no digest of this kind.
    pub fn new(algorithm: Algorithm, hex: &str) -> Option<Self> {
        let right = Algorithm::of_length(hex.len()) == Some(algorithm);
        let is_hex = hex.bytes().all(|digit| digit.is_ascii_hexdigit());
        (right && is_hex).then(|| Self {
            hex: hex.to_ascii_lowercase(),
        })
    }

    pub fn algorithm(&self) -> Algorithm {
        Algorithm::of_length(self.hex.len()).expect("it was made with one of the lengths")
    }

    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm().as_str(), self.hex)
    }
}

impl FromStr for Digest {
    type Err = String;

    /// With the algorithm in front, or by the length.
    fn from_str(text: &str) -> Result<Self, String> {
        let named = [Algorithm::Sha256, Algorithm::Sha512]
            .into_iter()
            .find_map(|algorithm| {
                let hex = text.strip_prefix(algorithm.as_str())?.strip_prefix(':')?;
                Some((algorithm, hex))
            });
        let found = match named {
            Some(named) => Some(named),
            None => Algorithm::of_length(text.len()).map(|algorithm| (algorithm, text)),
        };
        found
            .and_then(|(algorithm, hex)| Self::new(algorithm, hex))
            .ok_or_else(|| {
                format!(
                    "wanted 64 hexadecimal digits (SHA-256) or 128 (SHA-512), with or without sha256: or sha512: in front, got '{text}'"
                )
            })
    }
}

/// Makes digests while octets pass. SHA-512 only where it is asked for: it doubles the work.
pub struct Hasher {
    sha256: Sha256,
    sha512: Option<Sha512>,
}

impl Hasher {
    pub fn new(algorithm: Algorithm) -> Self {
        Self {
            sha256: Sha256::new(),
            sha512: (algorithm == Algorithm::Sha512).then(Sha512::new),
        }
    }

    pub fn update(&mut self, octets: &[u8]) {
        self.sha256.update(octets);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(octets);
        }
    }

    /// The SHA-256, and the digest of the algorithm that was asked for.
    pub fn finish(self) -> (Digest, Digest) {
        let sha256 = Digest {
            hex: hex(&self.sha256.finalize()),
        };
        let asked = match self.sha512 {
            Some(sha512) => Digest {
                hex: hex(&sha512.finalize()),
            },
            None => sha256.clone(),
        };
        (sha256, asked)
    }
}

/// Reads to the end; `passed` hears how many octets came.
pub fn read_through(
    from: &mut impl Read,
    hasher: &mut Hasher,
    mut passed: impl FnMut(u64),
) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                hasher.update(&buffer[..length]);
                passed(length as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Lower case, two digits an octet.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC_256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const ABC_512: &str = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";

    #[test]
    fn digests_are_those_of_the_standard() {
        let mut hasher = Hasher::new(Algorithm::Sha512);
        let mut passed = 0;
        read_through(&mut &b"abc"[..], &mut hasher, |more| passed += more).unwrap();
        let (sha256, sha512) = hasher.finish();
        assert_eq!((sha256.hex(), sha512.hex()), (ABC_256, ABC_512));
        assert_eq!(passed, 3);
        let (sha256, asked) = Hasher::new(Algorithm::Sha256).finish();
        assert_eq!(sha256, asked);
    }

    #[test]
    fn a_digest_is_read_with_and_without_its_algorithm() {
        let upper = ABC_256.to_ascii_uppercase();
        for text in [ABC_256.to_owned(), format!("sha256:{ABC_256}"), upper] {
            let digest: Digest = text.parse().unwrap();
            assert_eq!(digest.to_string(), format!("sha256:{ABC_256}"));
        }
        let digest: Digest = format!("sha512:{ABC_512}").parse().unwrap();
        assert_eq!(digest.algorithm(), Algorithm::Sha512);
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        let wrong = [
            String::new(),
            "abc".to_owned(),
            format!("sha512:{ABC_256}"),
            format!("md5:{ABC_256}"),
            format!("{}g", &ABC_256[1..]),
        ];
        for text in wrong {
            let error = text.parse::<Digest>().unwrap_err();
            assert!(error.starts_with("wanted 64 hexadecimal digits"), "{error}");
        }
    }
}
