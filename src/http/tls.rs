//! HTTP over TLS, where the configuration names a certificate. In: a connection. Out: the same, encrypted, or none if the client
//! does not finish its handshake. The certificate is read again when its files change.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::model::Event;
use crate::net::tls::{Shown, provider};
use crate::observe::emit;

/// iPXE on a slow machine needs a second or two for RSA.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// Encrypts connections.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    shown: Arc<Shown>,
}

impl Tls {
    /// Shows this certificate.
    pub fn new(shown: Arc<Shown>) -> Result<Self, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(shown.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Self { acceptor, shown })
    }

    /// The encrypted connection, once both sides agree.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        if let Err(error) = self.shown.follow() {
            emit(&Event::Failed {
                about: "http",
                error: format!("{error}; the certificate before it is shown"),
            });
        }
        tokio::time::timeout(HANDSHAKE, self.acceptor.accept(stream))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}
