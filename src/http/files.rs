//! Files from one directory and nothing outside it: Range, If-Range, HEAD, ETag and Last-Modified, no listings.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::http::header::{ETAG, IF_RANGE, LAST_MODIFIED, RANGE};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::{Frame, SizeHint};
use tower::ServiceExt as _;
use tower_http::services::ServeDir;

use crate::model::{Ended, Event, Transfer};
use crate::observe::emit;

/// Larger reads cost half the processor time of the default (measured with 1 GiB files).
const CHUNK: usize = 1 << 20;

/// A directory that is served.
#[derive(Clone)]
pub struct Files {
    root: PathBuf,
    links: Links,
    service: ServeDir,
}

/// Whether links are followed out of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// They are: the distribution's packages put them there.
    Followed,
    /// What they lead to is not served.
    Kept,
}

impl Files {
    /// Serves `root`; it must exist.
    pub fn new(root: &Path, links: Links) -> io::Result<Self> {
        let root = root.canonicalize()?;
        let service = ServeDir::new(&root)
            .append_index_html_on_directories(false)
            .redirect_to_trailing_slash(false)
            .ignore_multi_range_requests(true)
            .with_buf_chunk_size(CHUNK);
        Ok(Self {
            root,
            links,
            service,
        })
    }

    /// Answers a GET or HEAD of `path`, which is percent-decoded and relative to the root.
    pub async fn serve(&self, path: &str, request: Request<Body>) -> Response<Body> {
        // Two slashes in a row are one: shim 16 asks for `//grubx64.efi`.
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let Some(length) = self.length_of(&parts).await else {
            return status(StatusCode::NOT_FOUND);
        };
        let Ok(uri) = encode(&parts).parse::<Uri>() else {
            return status(StatusCode::NOT_FOUND);
        };
        let (mut head, _) = request.into_parts();
        head.uri = uri;
        if let Some(range) = head.headers.remove(RANGE)
            && head.method == Method::GET
            && let Some(range) = understood(range, length)
        {
            head.headers.insert(RANGE, range);
        }
        if let Some(validator) = head.headers.remove(IF_RANGE)
            && !self.is_still(&head.uri, &validator).await
        {
            // RFC 9110 §13.1.5: the file has changed, so the rest of the old one is of no use.
            head.headers.remove(RANGE);
        }
        let request = Request::from_parts(head, Body::empty());
        match self.service.clone().oneshot(request).await {
            Ok(response) => response.map(Body::new),
            Err(never) => match never {},
        }
    }

    /// Whether there is such a file to serve.
    pub async fn holds(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        self.length_of(&parts).await.is_some()
    }

    /// The length of the file that the path, links followed, ends at; none if it is not ours to serve. A pipe or a device is
    /// not: reading it might never end.
    async fn length_of(&self, parts: &[&str]) -> Option<u64> {
        let is_plain = |part: &&str| *part != ".." && *part != "." && !part.contains(['\0', '\\']);
        if parts.is_empty() || !parts.iter().all(is_plain) {
            return None;
        }
        let path: PathBuf = std::iter::once(self.root.as_os_str())
            .chain(parts.iter().map(std::ffi::OsStr::new))
            .collect();
        let real = tokio::fs::canonicalize(path).await.ok()?;
        if self.links == Links::Kept && !real.starts_with(&self.root) {
            return None;
        }
        let metadata = tokio::fs::metadata(real).await.ok()?;
        metadata.is_file().then_some(metadata.len())
    }

    async fn is_still(&self, uri: &Uri, validator: &HeaderValue) -> bool {
        let mut head = Request::new(Body::empty());
        *head.method_mut() = Method::HEAD;
        *head.uri_mut() = uri.clone();
        let Ok(response) = self.service.clone().oneshot(head).await;
        [ETAG, LAST_MODIFIED]
            .iter()
            .any(|name| response.headers().get(name) == Some(validator))
            && !validator.as_bytes().starts_with(b"W/")
    }
}

/// A Range that is to be honoured (RFC 9110 §14.2): one of octets. A suffix longer than the file stands for all of it.
fn understood(range: HeaderValue, length: u64) -> Option<HeaderValue> {
    let set = range.to_str().ok()?.trim().strip_prefix("bytes=")?.trim();
    match set.strip_prefix('-').map(str::parse::<u64>) {
        Some(Ok(suffix)) if suffix > length && length > 0 => {
            Some(HeaderValue::from_static("bytes=0-"))
        }
        _ => Some(range),
    }
}

/// An empty answer with this status.
pub fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{status}\n")));
    *response.status_mut() = status;
    response
}

/// The path as it stands in a URL (RFC 3986 §3.3).
fn encode(parts: &[&str]) -> String {
    let mut path = String::new();
    for part in parts {
        path.push('/');
        for byte in part.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                path.push(char::from(byte));
            } else {
                path.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    path
}

/// A body that tells, when it ends or is given up, how much of it was sent.
pub struct Told {
    body: Body,
    transfer: Transfer,
    started: Instant,
    expected: Option<u64>,
}

impl Told {
    /// Wraps `body`; `transfer` says what is being served to whom.
    /// `expected` is how long the body is to be, where that is known.
    pub fn new(body: Body, transfer: Transfer, started: Instant, expected: Option<u64>) -> Self {
        Self {
            body,
            transfer,
            started,
            expected,
        }
    }
}

impl http_body::Body for Told {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.transfer.bytes += data.len() as u64;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let mut transfer = self.transfer.clone();
        if self.expected.is_none_or(|all| transfer.bytes >= all) {
            transfer.ended = Ended::Complete;
        }
        transfer.elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        emit(&Event::Served(transfer));
    }
}
