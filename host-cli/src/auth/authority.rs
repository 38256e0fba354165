//! Keys, certificates and tokens. In: a name, a scope, until when. Out: PEM, or a token. ECDSA on P-256 throughout: every TLS
//! library has it, and signing costs the service microseconds.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bootjack_api::access::{Scope, TOKEN_PREFIX, client_uri, serial_text};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};

use crate::exit::{Exit, Failure};

/// Clocks of two machines may differ by so much.
const SKEW: Duration = Duration::from_secs(300);
/// How long an authority signs; what it signed does not outlive it.
pub const AUTHORITY_DAYS: u32 = 3650;

/// A certificate and its key.
pub struct Signed {
    /// In PEM.
    pub certificate: String,
    /// In PEM; a secret.
    pub key: String,
    pub serial: String,
}

/// What signs: the authority's certificate and key.
pub struct Authority(Issuer<'static, KeyPair>);

/// A token, and the name it is revoked by.
pub struct NewToken {
    pub id: String,
    /// A secret.
    pub token: String,
}

impl Authority {
    /// A new one.
    pub fn make(expires: u64) -> Result<Signed, Failure> {
        let (key, serial) = (key()?, serial()?);
        let mut params = params("Bootjack authority", &serial, expires);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Signed {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            serial: serial_text(&serial),
        })
    }

    /// That of these PEM texts.
    pub fn read(certificate: &str, key: &str) -> Result<Self, Failure> {
        let key = KeyPair::from_pem(key).map_err(failed)?;
        let issuer = Issuer::from_ca_cert_pem(certificate, key);
        Ok(Self(issuer.map_err(failed)?))
    }

    /// A certificate for a server of these names and addresses.
    pub fn server(&self, names: &[String], expires: u64) -> Result<Signed, Failure> {
        let wanted = names.iter().map(|name| match name.parse::<IpAddr>() {
            Ok(address) => Ok(SanType::IpAddress(address)),
            Err(_) => Ok(SanType::DnsName(name.as_str().try_into().map_err(
                |_| {
                    Failure::new(
                        Exit::Invalid,
                        format!("`{name}` is no host's name or address"),
                    )
                },
            )?)),
        });
        let names = wanted.collect::<Result<Vec<_>, Failure>>()?;
        self.sign(
            "bootjackd",
            names,
            ExtendedKeyUsagePurpose::ServerAuth,
            expires,
        )
    }

    /// A certificate for a client.
    pub fn client(&self, name: &str, scope: Scope, expires: u64) -> Result<Signed, Failure> {
        let uri = client_uri(name, scope);
        let uri = SanType::URI(uri.as_str().try_into().map_err(failed)?);
        self.sign(
            name,
            vec![uri],
            ExtendedKeyUsagePurpose::ClientAuth,
            expires,
        )
    }

    fn sign(
        &self,
        subject: &str,
        names: Vec<SanType>,
        purpose: ExtendedKeyUsagePurpose,
        expires: u64,
    ) -> Result<Signed, Failure> {
        let (key, serial) = (key()?, serial()?);
        let mut params = params(subject, &serial, expires);
        params.subject_alt_names = names;
        params.extended_key_usages = vec![purpose];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.0).map_err(failed)?;
        Ok(Signed {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            serial: serial_text(&serial),
        })
    }
}

impl NewToken {
    /// 256 random bits, and an id that says nothing of them.
    pub fn make() -> Result<Self, Failure> {
        let hex = |octets: &[u8]| -> String {
            octets.iter().map(|octet| format!("{octet:02x}")).collect()
        };
        let (mut secret, mut id) = ([0; 32], [0; 4]);
        fill(&mut secret)?;
        fill(&mut id)?;
        Ok(Self {
            id: format!("t-{}", hex(&id)),
            token: format!("{TOKEN_PREFIX}{}", hex(&secret)),
        })
    }
}

/// Now, in Unix seconds.
pub fn now_secs() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn params(subject: &str, serial: &[u8], expires: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.not_before = (SystemTime::now() - SKEW).into();
    params.not_after = (UNIX_EPOCH + Duration::from_secs(expires)).into();
    params
}

fn key() -> Result<KeyPair, Failure> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)
}

/// Random, positive, and never the same length of nothing (RFC 5280 §4.1.2.2).
fn serial() -> Result<[u8; 16], Failure> {
    let mut serial = [0; 16];
    fill(&mut serial)?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

fn fill(octets: &mut [u8]) -> Result<(), Failure> {
    getrandom::fill(octets).map_err(failed)
}

fn failed(error: impl ToString) -> Failure {
    let text = format!("cannot make a certificate or token: {}", error.to_string());
    Failure::new(Exit::Failed, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_signs_again_after_it_was_read_from_its_files() {
        let made = Authority::make(now_secs() + 1000).unwrap();
        let authority = Authority::read(&made.certificate, &made.key).unwrap();
        let one = authority
            .client("ci", Scope::Read, now_secs() + 100)
            .unwrap();
        let other = authority
            .client("ci", Scope::Read, now_secs() + 100)
            .unwrap();
        assert_ne!(one.serial, other.serial);
        assert_eq!(one.serial.len(), 32);
        let names = [
            "provisioner".to_owned(),
            "198.18.0.1".to_owned(),
            "::1".to_owned(),
        ];
        assert!(authority.server(&names, now_secs() + 100).is_ok());
        assert!(authority.server(&["nö".to_owned()], now_secs()).is_err());
        assert!(Authority::read(&made.certificate, "no key").is_err());
    }

    #[test]
    fn tokens_are_never_the_same() {
        let (one, other) = (NewToken::make().unwrap(), NewToken::make().unwrap());
        assert!(one.token != other.token && one.id != other.id);
        assert_eq!(one.token.len(), TOKEN_PREFIX.len() + 64);
    }
}
