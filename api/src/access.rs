//! Who may do what, as it is written down: the contract between `bootjack auth`, which writes these files, and bootjackd, which
//! reads them.
//!
//! `bootjack auth init DIR` makes two halves. `DIR` itself is the operator's: the authority's key (`ca.key`), the list of what was
//! issued (`issued`), and the clients' certificates. `DIR/service` is the service's, and what `grpc.auth` names: the authority's
//! certificate, the server's own with its key, the hashes of tokens, and what is revoked.

use std::fmt;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The directory of the service's half.
pub const SERVICE: &str = "service";
/// The authority's certificate, in PEM, in both halves.
pub const CA_CERTIFICATE: &str = "ca.pem";
/// Its key, in PEM, in the operator's half alone.
pub const CA_KEY: &str = "ca.key";
/// The server's certificate, in PEM.
pub const SERVER_CERTIFICATE: &str = "server.pem";
/// Its key, in PEM.
pub const SERVER_KEY: &str = "server.key";
/// A line for each `Token`.
pub const TOKENS: &str = "tokens";
/// A line for each `Revocation`.
pub const REVOKED: &str = "revoked";

/// What every token begins with; 256 random bits in hexadecimal follow.
pub const TOKEN_PREFIX: &str = "bj_";

/// What one may do; each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// See everything but the configuration and the whole state.
    Read,
    /// Write reservations, release leases, say what machines boot.
    Reserve,
    /// Everything.
    Admin,
}

impl Scope {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Reserve, Self::Admin];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Reserve => "reserve",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        (Self::ALL.into_iter().find(|scope| scope.as_str() == text))
            .ok_or_else(|| "wanted read, reserve or admin".to_owned())
    }
}

/// A token, without the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// What it is revoked by.
    pub id: String,
    /// Whose it is.
    pub name: String,
    pub scope: Scope,
    /// SHA-256 of the whole token, in hexadecimal.
    pub sha256: String,
    /// Unix time in seconds.
    pub created: u64,
    /// Unix time in seconds.
    pub expires: u64,
}

/// A certificate or token that is good no longer, whatever it says itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// A certificate's serial number in lower-case hexadecimal without leading zeros, or a token's id.
    pub id: String,
    /// Whose it was.
    pub name: String,
    /// Unix time in seconds.
    pub at: u64,
}

/// A line that is none of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    pub problem: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

impl std::error::Error for BadLine {}

/// Reads a file of lines; empty ones are passed over. What stands in a bad line is not repeated: it may be a secret.
pub fn read_lines<T: DeserializeOwned>(text: &str) -> Result<Vec<T>, BadLine> {
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| BadLine {
                line: index + 1,
                problem: format!("not as bootjack auth writes it (column {})", error.column()),
            })
        })
        .collect()
}

/// One line of such a file, with its end.
pub fn write_line<T: Serialize>(entry: &T) -> String {
    let line = serde_json::to_string(entry).expect("numbers and strings are JSON");
    line + "\n"
}

/// Whether it can be the name of a client: it stands in certificates, file names and the audit log.
pub fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    (1..=64).contains(&name.len()) && name.chars().all(fits) && !name.starts_with(['-', '.'])
}

/// What stands in a client's certificate as a subject alternative name: `bootjack://client/NAME?scope=SCOPE`. A URI cannot be
/// taken for a host's name, and no authority for the web signs one of ours.
pub fn client_uri(name: &str, scope: Scope) -> String {
    format!("{CLIENT_URI}{name}?scope={scope}")
}

const CLIENT_URI: &str = "bootjack://client/";

/// Name and scope of such a URI; none if it is none.
pub fn read_client_uri(uri: &str) -> Option<(String, Scope)> {
    let (name, scope) = uri.strip_prefix(CLIENT_URI)?.split_once("?scope=")?;
    let scope = scope.parse().ok()?;
    is_name(name).then(|| (name.to_owned(), scope))
}

/// A serial number as lists and logs show it.
pub fn serial_text(octets: &[u8]) -> String {
    let text: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    match text.trim_start_matches('0') {
        "" => "0".to_owned(),
        text => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_uri_is_read_as_it_was_written_and_nothing_else_is() {
        for scope in Scope::ALL {
            let uri = client_uri("ci@lab-1", scope);
            assert_eq!(read_client_uri(&uri), Some(("ci@lab-1".to_owned(), scope)));
        }
        for uri in [
            "https://client/ci?scope=admin",
            "bootjack://client/ci",
            "bootjack://client/ci?scope=root",
            "bootjack://client/?scope=admin",
            "bootjack://client/a/b?scope=admin",
            "bootjack://client/ci?scope=read&scope=admin",
        ] {
            assert_eq!(read_client_uri(uri), None, "{uri}");
        }
    }

    #[test]
    fn a_bad_line_is_named_and_not_repeated() {
        let good = Revocation {
            id: "1f".into(),
            name: "ci".into(),
            at: 1,
        };
        let text = format!("{}\nbj_secret\n", write_line(&good));
        let error = read_lines::<Revocation>(&text).unwrap_err();
        assert_eq!(error.line, 3);
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(read_lines(&write_line(&good)), Ok(vec![good]));
    }

    #[test]
    fn serial_numbers_are_written_without_leading_zeros() {
        assert_eq!(serial_text(&[0, 0x0a, 0xff]), "aff");
        assert_eq!(serial_text(&[0]), "0");
    }

    #[test]
    fn each_scope_may_what_those_before_it_may() {
        assert!(Scope::Read < Scope::Reserve && Scope::Reserve < Scope::Admin);
        assert_eq!("reserve".parse(), Ok(Scope::Reserve));
        assert!("root".parse::<Scope>().is_err());
    }
}
