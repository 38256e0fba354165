//! Who calls. In: a client's certificate, or a token, and the lists of `bootjack auth`. Out: a name and a scope, or why neither is
//! any good. Nothing here is a secret but the token, which is hashed at once.

use std::sync::Arc;
use std::time::Duration;

use bootjack_api::access::{Scope, read_client_uri, serial_text};
use rustls::CertificateError;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A caller, let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// For the log: `certificate ci`, `token ci`, `uid 0`.
    pub who: String,
    /// Where from, for the log.
    pub from: String,
    pub scope: Scope,
    /// What let them in; nothing a user of this machine.
    pub credential: Option<Credential>,
}

/// What lets a caller in: it ends some day, and may be taken back before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    Token {
        id: String,
        /// Unix time in seconds.
        expires: u64,
    },
    Certificate(Certified),
}

impl Credential {
    /// A token's id, a certificate's serial number.
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Token { id, .. } => id,
            Self::Certificate(certified) => &certified.serial,
        }
    }
}

/// A client's certificate that the authority signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    pub(crate) name: String,
    pub(crate) scope: Scope,
    pub(crate) serial: String,
    /// Unix time in seconds.
    pub(crate) expires: u64,
    /// Itself and what leads to the authority, for another authority to look at.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// The id of the one that has looked at it.
    pub(crate) authority: String,
}

/// Who signs the certificates of clients.
pub(crate) struct Authority {
    pub(crate) verifier: Arc<dyn ClientCertVerifier>,
    /// SHA-256 of its certificates.
    pub(crate) id: String,
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// For programs: `ErrorInfo.reason`.
    pub(crate) reason: &'static str,
    /// For people: what is wrong, and what to do.
    pub(crate) text: String,
}

pub(crate) fn unknown(reason: &'static str, text: impl Into<String>) -> Unknown {
    let text = text.into();
    Unknown { reason, text }
}

/// A date and time, for people.
pub(crate) fn date(unix_secs: u64) -> String {
    // Beyond the year 9999 it has no other form.
    let at = Duration::from_secs(unix_secs.min(253_402_300_799));
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + at).to_string()
}

impl Certified {
    /// What the certificate of a finished handshake says, if `authority` signed it and it is valid now.
    pub(crate) fn read(
        chain: &[CertificateDer<'_>],
        authority: &Authority,
        now_secs: u64,
    ) -> Result<Self, Unknown> {
        let unfit = |why: &str| {
            let text = format!(
                "the client's certificate {why}; make one with bootjack auth issue --name NAME"
            );
            unknown("CERTIFICATE_UNFIT", text)
        };
        let (own, others) = chain.split_first().ok_or_else(|| unfit("is not there"))?;
        let (_, parsed) = X509Certificate::from_der(own).map_err(|_| unfit("is malformed"))?;
        let not_after = parsed.validity().not_after.timestamp();
        let expires = u64::try_from(not_after).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now_secs));
        if let Err(error) = authority.verifier.verify_client_cert(own, others, now) {
            return Err(refused(&error, expires).unwrap_or_else(|| unfit("is not for clients")));
        }
        let names = parsed.subject_alternative_name().ok().flatten();
        let uris = names.iter().flat_map(|names| &names.value.general_names);
        let (name, scope) = uris
            .filter_map(|name| match name {
                GeneralName::URI(uri) => read_client_uri(uri),
                _ => None,
            })
            .next()
            .ok_or_else(|| unfit("names no client and scope (bootjack://client/NAME?scope=…)"))?;
        Ok(Self {
            name,
            scope,
            serial: serial_text(parsed.raw_serial()),
            expires,
            chain: chain.iter().map(|own| own.clone().into_owned()).collect(),
            authority: authority.id.clone(),
        })
    }
}

fn refused(error: &rustls::Error, expires: u64) -> Option<Unknown> {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidYet, NotValidYetContext, UnknownIssuer,
    };
    let rustls::Error::InvalidCertificate(error) = error else {
        return None;
    };
    Some(match error {
        Expired | ExpiredContext { .. } => expired("certificate", expires),
        NotValidYet | NotValidYetContext { .. } => unknown(
            "CERTIFICATE_NOT_YET_VALID",
            "the client's certificate is not valid yet; look at the clocks of both machines",
        ),
        UnknownIssuer | BadSignature => unknown(
            "CERTIFICATE_FOREIGN",
            "the client's certificate is signed by another authority than this service's; ask its operator for one (bootjack auth issue)",
        ),
        _ => return None,
    })
}

/// What was good until then.
pub(crate) fn expired(what: &str, expires: u64) -> Unknown {
    let reason = match what {
        "token" => "TOKEN_EXPIRED",
        _ => "CERTIFICATE_EXPIRED",
    };
    let date = date(expires);
    let text = format!("the {what} expired on {date}; ask for another (bootjack auth issue)");
    unknown(reason, text)
}

/// SHA-256 of a token, as the list of tokens has it.
pub(crate) fn hash(token: &str) -> String {
    let digest = Sha256::digest(token.as_bytes());
    digest.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Whether two texts are the same, in a time that says nothing of where they differ.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let pairs = one.iter().zip(other);
    let difference = pairs.fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
    one.len() == other.len() && difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_compared_whole() {
        assert!(is_same("", "") && is_same("ab", "ab"));
        assert!(!is_same("ab", "ac") && !is_same("ab", "abc") && !is_same("abc", "ab"));
    }

    #[test]
    fn a_hash_is_what_sha256sum_says() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash("abc"), abc);
    }

    #[test]
    fn dates_are_for_people_even_where_there_are_none() {
        assert_eq!(date(1_800_000_000), "2027-01-15T08:00:00Z");
        assert_eq!(date(u64::MAX), "9999-12-31T23:59:59Z");
    }
}
