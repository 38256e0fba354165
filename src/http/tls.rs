//! HTTP over TLS, where the configuration names a certificate. In: a connection. Out: the same, encrypted, or none if the client
//! does not finish its handshake.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// iPXE on a slow machine needs a second or two for RSA.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// A certificate or a key that cannot be used.
#[derive(Debug, Error)]
pub enum BadCertificate {
    #[error("{place}: {file}: {problem}; wanted a PEM file with {wanted}")]
    Unreadable {
        place: &'static str,
        file: String,
        problem: String,
        wanted: &'static str,
    },
    #[error(
        "http.tls.key is not the key of http.tls.certificate, or of a kind that TLS has no use for: {0}"
    )]
    Unfit(rustls::Error),
}

/// Encrypts connections.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

impl Tls {
    /// With the certificate, followed by those that signed it, and its key, each in PEM.
    pub fn new(certificate: &Path, key: &Path) -> Result<Self, BadCertificate> {
        let unreadable = |place, file: &Path, wanted| {
            let file = file.display().to_string();
            move |error: rustls::pki_types::pem::Error| BadCertificate::Unreadable {
                place,
                file,
                problem: error.to_string(),
                wanted,
            }
        };
        let chain: Vec<CertificateDer> = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .map_err(unreadable(
                "http.tls.certificate",
                certificate,
                "a certificate",
            ))?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(unreadable(
            "http.tls.key",
            key,
            "a private key",
        ))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(BadCertificate::Unfit)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(BadCertificate::Unfit)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// The encrypted connection, once both sides agree.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        tokio::time::timeout(HANDSHAKE, self.0.accept(stream))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}
