//! Certificates and keys. In: PEM files. Out: what a TLS server shows of itself, read again when the files change. It refuses files
//! that are no PEM, and a key that is not the certificate's; what was good before stays.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use thiserror::Error;

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
    seen: Mutex<Seen>,
}

impl Shown {
    pub fn read(place: Place) -> Result<Self, BadCertificate> {
        let seen = Seen::of([&place.certificate, &place.key]);
        Ok(Self {
            current: ArcSwap::from_pointee(read(&place)?),
            seen: Mutex::new(seen),
            place,
        })
    }

    /// Reads the files again if they have changed; says whether they had. The last good certificate is shown in any case.
    pub fn follow(&self) -> Result<bool, BadCertificate> {
        let now = Seen::of([&self.place.certificate, &self.place.key]);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == now {
            return Ok(false);
        }
        *seen = now;
        self.current.store(Arc::new(read(&self.place)?));
        Ok(true)
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

/// How files were when they were looked at: whether they are others now is seen without reading them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(Vec<Option<(u64, u64, SystemTime)>>);

impl Seen {
    pub fn of<'a>(files: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let look = |file: &PathBuf| {
            let found = std::fs::metadata(file).ok()?;
            Some((found.ino(), found.len(), found.modified().ok()?))
        };
        Self(files.into_iter().map(look).collect())
    }
}
