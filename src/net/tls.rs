//! Certificates and keys. In: PEM files. Out: what a TLS server shows of itself, read again when the files change. It refuses files
//! that are no PEM, and a key that is not the certificate's; what was good before stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use thiserror::Error;

use super::followed::Followed;

/// A certificate or a key that cannot be used.
#[derive(Debug, Error)]
pub enum BadCertificate {
    #[error("{place}: {file}: {problem}; wanted a PEM file with {wanted}")]
    Unreadable {
        place: String,
        file: String,
        problem: String,
        wanted: &'static str,
    },
    #[error(
        "{key} is not the key of {certificate}, or of a kind that TLS has no use for: {problem}"
    )]
    Unfit {
        certificate: String,
        key: String,
        problem: rustls::Error,
    },
}

/// What makes TLS; the one provider of the service.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The certificates of a PEM file; `place` is what the configuration calls it.
pub fn certificates(
    place: &str,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, BadCertificate> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    match read {
        Ok(found) if !Vec::is_empty(&found) => Ok(found),
        Ok(_) => Err(unreadable(place, file, "none in it", "a certificate")),
        Err(error) => Err(unreadable(place, file, error, "a certificate")),
    }
}

fn unreadable(
    place: &str,
    file: &Path,
    problem: impl ToString,
    wanted: &'static str,
) -> BadCertificate {
    BadCertificate::Unreadable {
        place: place.to_owned(),
        file: file.display().to_string(),
        problem: problem.to_string(),
        wanted,
    }
}

/// Where a server's certificate is, followed by those that signed it, and its key.
#[derive(Clone, Debug)]
pub struct Place {
    /// What the configuration calls the two.
    pub names: (String, String),
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// A certificate that a server shows, as its files have it.
#[derive(Debug)]
pub struct Shown {
    place: Place,
    current: ArcSwap<CertifiedKey>,
    files: Followed,
}

impl Shown {
    pub fn read(place: Place) -> Result<Self, BadCertificate> {
        let files = vec![place.certificate.clone(), place.key.clone()];
        let (files, found) = Followed::read(files, || read(&place))?;
        Ok(Self {
            current: ArcSwap::from_pointee(found),
            files,
            place,
        })
    }

    /// Reads the files again if they have changed; says whether they had. The last good certificate is shown in any case.
    pub fn follow(&self) -> Result<bool, BadCertificate> {
        let found = self.files.follow(|| read(&self.place))?;
        let has_changed = found.is_some();
        (found.into_iter()).for_each(|found| self.current.store(Arc::new(found)));
        Ok(has_changed)
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn read(place: &Place) -> Result<CertifiedKey, BadCertificate> {
    let (certificate_name, key_name) = &place.names;
    let chain = certificates(certificate_name, &place.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&place.key)
        .map_err(|error| unreadable(key_name, &place.key, error, "a private key"))?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|problem| BadCertificate::Unfit {
        certificate: certificate_name.clone(),
        key: key_name.clone(),
        problem,
    })
}

/// Until when the first certificate of a PEM file is good, in Unix seconds; an error says what is wrong with the file.
pub fn expiry(file: &Path) -> Result<u64, String> {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let said = |error: &dyn ToString| format!("{}: {}", file.display(), error.to_string());
    let found = CertificateDer::from_pem_file(file).map_err(|error| said(&error))?;
    let (_, parsed) = X509Certificate::from_der(&found).map_err(|error| said(&error))?;
    Ok(u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or_default())
}
