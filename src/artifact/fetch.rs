//! Where artefacts come from: a file, or a URL over HTTP. In: a source as it was typed. Out: its octets, and how many there are to
//! be; or why there are none.
//!
//! The HTTP client is ureq: what reads here is a thread that writes to a disk, so nothing is gained by an asynchronous client, and
//! ureq brings a third of reqwest's crates. TLS is rustls with ring, which a C compiler builds; certificates are believed as
//! the machine believes them, so that an operator's own authority counts.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use thiserror::Error;
use ureq::tls::{RootCerts, TlsConfig};

/// Nobody answers later than that who answers at all.
const CONNECT: Duration = Duration::from_secs(15);
/// A transfer that stands still so long is over.
const STALL: Duration = Duration::from_secs(60);

/// A source that is open.
pub struct Source {
    pub octets: Box<dyn Read + Send>,
    pub length: Option<u64>,
}

/// Why a source does not open.
#[derive(Debug, Error)]
pub enum FetchError {
    #[error("cannot read {path}: {error}")]
    File { path: String, error: std::io::Error },
    #[error("{url}: the server answers {status}")]
    Refused { url: String, status: u16 },
    #[error("{url}: {error}")]
    Unreachable { url: String, error: String },
}

/// Whether it is a URL, not a path.
pub fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

/// Opens a path or a URL.
pub fn open(source: &str) -> Result<Source, FetchError> {
    if is_url(source) {
        url(source)
    } else {
        file(source)
    }
}

fn file(path: &str) -> Result<Source, FetchError> {
    let failed = |error| FetchError::File {
        path: path.to_owned(),
        error,
    };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(failed(std::io::ErrorKind::IsADirectory.into()));
    }
    // A pipe says nothing of its length.
    let length = metadata.is_file().then_some(metadata.len());
    Ok(Source {
        octets: Box::new(file),
        length,
    })
}

fn url(url: &str) -> Result<Source, FetchError> {
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
    let agent = ureq::Agent::config_builder()
        .tls_config(tls.build())
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(STALL))
        .timeout_per_read(Some(STALL))
        .http_status_as_error(false)
        // An image that is kept as it is served: unpacking it would make another digest.
        .accept_encoding("identity")
        .user_agent(concat!("bootjackd/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent();
    let failed = |error: ureq::Error| FetchError::Unreachable {
        url: url.to_owned(),
        error: error.to_string(),
    };
    let response = agent.get(url).call().map_err(failed)?;
    let status = response.status();
    if !status.is_success() {
        return Err(FetchError::Refused {
            url: url.to_owned(),
            status: status.as_u16(),
        });
    }
    let body = response.into_body();
    let length = body.content_length();
    Ok(Source {
        octets: Box::new(body.into_with_config().limit(u64::MAX).reader()),
        length,
    })
}
