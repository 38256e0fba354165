//! gRPC over TLS 1.3. In: a connection. Out: the same, encrypted, and the certificate that the client showed, if any. It asks for a
//! certificate and takes any whose key the client has: whether it is a good one is answered by each call, in words, where a
//! handshake could only hang up.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::model::Event;
use crate::net::tls::{Shown, provider};
use crate::observe::emit;

/// Elliptic curves take milliseconds; what is left is the network.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Encrypts connections.
#[derive(Clone)]
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    shown: Arc<Shown>,
}

impl Tls {
    /// Shows this certificate.
    pub(crate) fn new(shown: Arc<Shown>) -> Result<Self, rustls::Error> {
        let provider = provider();
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(WhoeverHasTheKey(provider)))
            .with_cert_resolver(shown.clone());
        config.alpn_protocols = vec![b"h2".to_vec()];
        // Each connection shows its certificate anew.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Self { acceptor, shown })
    }

    /// Reads the certificate that is shown again if its files have changed.
    pub(crate) fn follow(&self) {
        if let Err(error) = self.shown.follow() {
            let (about, error) = (
                "grpc",
                format!("{error}; the certificate before it is shown"),
            );
            emit(&Event::Failed { about, error });
        }
    }

    /// The encrypted connection, once both sides agree.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.follow();
        tokio::time::timeout(HANDSHAKE, self.acceptor.accept(stream))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

/// The certificates of the other end.
pub(crate) fn chain_of(stream: &TlsStream<TcpStream>) -> Option<&[CertificateDer<'static>]> {
    stream.get_ref().1.peer_certificates()
}

/// Makes sure that the client has the key of what it shows, and leaves the rest to `register`.
#[derive(Debug)]
struct WhoeverHasTheKey(Arc<CryptoProvider>);

impl ClientCertVerifier for WhoeverHasTheKey {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: a client that has a certificate of another authority is to show it and be told.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
