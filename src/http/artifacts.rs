//! Artefacts over HTTP. In: a path below `/files/`. Out: the artefact of that name, with its digest for an ETag; fetched from where
//! it comes from and held against its digest first, where it is pinned and not here yet. What is served was verified when it
//! came in; nothing is served that is not as long as it was then.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::http::header::{
    CONTENT_TYPE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tokio::sync::Mutex;

use super::files::{Files, Links, status};
use super::server::millis;
use crate::artifact::import::{self, Order, Progress};
use crate::artifact::name::Name;
use crate::artifact::store::{Artifacts, Entry};
use crate::config::Upstream;
use crate::model::Event;
use crate::observe::emit;

/// The store of artefacts as it is served.
pub struct Served {
    artifacts: Artifacts,
    blobs: Files,
    upstream: BTreeMap<Name, Arc<Pinned>>,
    offline: bool,
}

struct Pinned {
    order: Order,
    /// One fetches it, others wait.
    turn: Mutex<()>,
}

/// Why there is no such artefact now.
pub struct NotNow(pub StatusCode, pub String);

impl Served {
    /// Serves what is in the store and, unless `offline`, what it may fetch.
    pub fn new(artifacts: Artifacts, upstream: &[Upstream], offline: bool) -> io::Result<Self> {
        std::fs::create_dir_all(artifacts.blobs())?;
        let pinned = upstream.iter().map(|upstream| {
            let order = Order {
                source: upstream.url.clone(),
                name: upstream.name.clone(),
                digest: Some(upstream.digest),
                looks_inside: false,
            };
            let turn = Mutex::new(());
            (upstream.name.clone(), Arc::new(Pinned { order, turn }))
        });
        Ok(Self {
            blobs: Files::new(&artifacts.blobs(), Links::Kept)?,
            artifacts,
            upstream: pinned.collect(),
            offline,
        })
    }

    /// The artefact at this path: none where nothing has that name.
    pub async fn find(&self, path: &str) -> Result<Option<Entry>, NotNow> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let Ok(name) = parts.join("/").parse::<Name>() else {
            return Ok(None);
        };
        let pinned = self.upstream.get(&name);
        let found = self.look_up(name).await?;
        let Some(pinned) = pinned else {
            return Ok(found);
        };
        // A name of the configuration has the digest that the configuration says.
        let is_pinned = |entry: &Entry| Some(entry.digest) == pinned.order.digest;
        if let Some(found) = found.filter(is_pinned) {
            return Ok(Some(found));
        }
        if self.offline {
            let text = format!(
                "artifact {} is not here, and artifacts.offline is set; bootjackd artifact import brings it",
                pinned.order.name
            );
            return Err(NotNow(StatusCode::SERVICE_UNAVAILABLE, text));
        }
        fetch(self.artifacts.clone(), pinned.clone())
            .await
            .map(Some)
    }

    async fn look_up(&self, name: Name) -> Result<Option<Entry>, NotNow> {
        let artifacts = self.artifacts.clone();
        let found = tokio::task::spawn_blocking(move || artifacts.find_whole(&name)).await;
        let found = found.map_err(|panic| panic.to_string());
        found
            .and_then(|found| found.map_err(|error| error.to_string()))
            .map_err(|error| {
                emit(&Event::Failed {
                    about: "artifact",
                    error: error.clone(),
                });
                NotNow(StatusCode::INTERNAL_SERVER_ERROR, error)
            })
    }

    /// Answers a GET or HEAD of its content.
    pub async fn serve(&self, entry: &Entry, mut request: Request<Body>) -> Response<Body> {
        let digest = entry.digest.to_string();
        let tag = format!("\"{digest}\"");
        let Ok(tag_value) = HeaderValue::from_str(&tag) else {
            return status(StatusCode::INTERNAL_SERVER_ERROR);
        };
        let headers = request.headers_mut();
        if matches(headers, &tag) {
            let mut response = status(StatusCode::NOT_MODIFIED);
            *response.body_mut() = Body::empty();
            response.headers_mut().insert(ETAG, tag_value);
            return response;
        }
        // RFC 9110 §13.1.5: the rest of another content is of no use.
        if headers
            .remove(IF_RANGE)
            .is_some_and(|validator| validator != tag_value)
        {
            headers.remove(RANGE);
        }
        // When a name came to lead here says nothing of its content.
        headers.remove(IF_MODIFIED_SINCE);
        headers.remove(IF_NONE_MATCH);
        let mut response = self.blobs.serve(&digest, request).await;
        let headers = response.headers_mut();
        headers.remove(LAST_MODIFIED);
        headers.insert(ETAG, tag_value);
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        response
    }
}

/// RFC 9110 §13.1.2, of one strong validator.
fn matches(headers: &HeaderMap, tag: &str) -> bool {
    let wanted = headers.get_all(IF_NONE_MATCH).iter();
    wanted.filter_map(|value| value.to_str().ok()).any(|value| {
        let mut tags = value
            .split(',')
            .map(|tag| tag.trim().trim_start_matches("W/"));
        tags.any(|wanted| wanted == tag || wanted == "*")
    })
}

/// Goes on when whoever asked has gone: the next one finds it there.
async fn fetch(artifacts: Artifacts, pinned: Arc<Pinned>) -> Result<Entry, NotNow> {
    let fetched = tokio::spawn(async move {
        let _turn = pinned.turn.lock().await;
        let order = pinned.order.clone();
        let started = Instant::now();
        let brought = tokio::task::spawn_blocking(move || {
            match artifacts.find_whole(&order.name) {
                Ok(Some(entry)) if Some(entry.digest) == order.digest => return Ok(entry),
                _ => {}
            }
            let entries = import::import(&artifacts, &order, &mut Untold);
            let entry = entries
                .map_err(|error| error.to_string())?
                .into_iter()
                .next();
            let entry = entry.ok_or("nothing came")?;
            emit(&Event::Noticed {
                about: "artifact",
                detail: format!(
                    "fetched {} from {}: {} octets in {} ms",
                    entry.name,
                    entry.source,
                    entry.bytes,
                    millis(started)
                ),
            });
            Ok::<Entry, String>(entry)
        });
        brought.await.map_err(|panic| panic.to_string())?
    });
    let fetched = fetched.await.map_err(|panic| panic.to_string());
    fetched.and_then(|fetched| fetched).map_err(|error| {
        emit(&Event::Failed {
            about: "artifact",
            error: error.clone(),
        });
        NotNow(StatusCode::BAD_GATEWAY, error)
    })
}

struct Untold;

impl Progress for Untold {
    fn begins(&mut self, _what: &str, _length: Option<u64>) {}
    fn more(&mut self, _octets: u64) {}
}
