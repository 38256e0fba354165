//! What is read while the service may still read everything: keys, and the lists of who may use the API. In: the configuration.
//! Out: the same as values; it refuses what cannot be read.

use std::sync::Arc;

use crate::config::Config;
use crate::grpc::access::door::Credentials;
use crate::net::tls::{Place, Shown};

/// Keys and lists.
pub struct Keys {
    pub(super) http: Option<Arc<Shown>>,
    pub(super) grpc: Credentials,
}

impl Keys {
    /// Reads them all.
    pub fn read(config: &Config) -> anyhow::Result<Self> {
        let shown = |tls: &crate::config::HttpTls| {
            Shown::read(Place {
                names: ("http.tls.certificate".to_owned(), "http.tls.key".to_owned()),
                certificate: tls.certificate.clone(),
                key: tls.key.clone(),
            })
        };
        let http = config.http.tls.as_ref().map(shown).transpose()?;
        Ok(Self {
            http: http.map(Arc::new),
            grpc: Credentials::read(&config.grpc)?,
        })
    }
}
