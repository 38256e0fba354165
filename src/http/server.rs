//! The HTTP shell: receive, parse, look up, render, send, emit.
//!
//! | path | what it is |
//! |---|---|
//! | `/machines/{machine}/boot.ipxe?arch=&firmware=` | the machine's boot script; it is named by MAC, or by its reservation's id |
//! | `/machines/{machine}/grub.cfg?arch=&firmware=` | the same for GRUB |
//! | `/machines/{machine}/nocloud/{document}` | cloud-init's `meta-data`, `user-data`, `vendor-data`, `network-config` |
//! | `/machines/{machine}/documents/{document}` | any document the machine's profile names |
//! | `/t/{token}/nocloud/{document}`, `/t/{token}/documents/{document}` | the same, of an installation |
//! | `/t/{token}/files/{path}` | files below `http.files`, or artefacts, for an installation |
//! | `/t/{token}/events/{event}` | its call-backs: `started`, `progress`, `done`, `failed`, `phone-home`, `webhook` |
//! | `/files/{path}` | files below `http.files`, or else artefacts by their names |
//! | `/programs/{path}` | network boot programs |
//! | `/healthz` | 200 while the service lives |

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName, RETRY_AFTER,
};
use axum::http::{HeaderValue, Request, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{any, get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tower_http::catch_panic::CatchPanicLayer;
use uuid::Uuid;

use super::access::Bind;
use super::artifacts::{NotNow, Served};
use super::connections::{self, Ends};
use super::document::Asker;
use super::files::{Files, Links, Told, status};
use super::machine::{self, FirstComers, Place};
use super::pace::{Pace, Paced};
use super::tls::Tls;
use super::{attempt, secrets};
use crate::model::{Ended, Event, Transfer, Why};
use crate::net::now_secs;
use crate::observe::emit;
use crate::store::Store;

/// What every request may look at.
#[derive(Clone)]
pub struct Shared(Arc<Inner>);

struct Inner {
    store: Store,
    files: Option<Files>,
    programs: Option<Files>,
    artifacts: Served,
    rules: Rules,
    first_comers: FirstComers,
}

/// To whom what is made for a machine is given.
#[derive(Clone, Debug)]
pub struct Rules {
    pub bind: Bind,
    /// Whether addresses are ours to give.
    pub gives_addresses: bool,
    /// How fast one client is sent files.
    pub pace: Option<Pace>,
}

impl Shared {
    /// `files` and `programs` are directories, served if they exist.
    pub fn new(
        store: Store,
        files: Option<&std::path::Path>,
        programs: &std::path::Path,
        artifacts: Served,
        rules: Rules,
    ) -> io::Result<Self> {
        Ok(Self(Arc::new(Inner {
            store,
            files: files.map(|dir| Files::new(dir, Links::Kept)).transpose()?,
            programs: Files::new(programs, Links::Followed).ok(),
            artifacts,
            rules,
            first_comers: FirstComers::default(),
        })))
    }

    pub(super) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(super) fn files(&self) -> Option<&Files> {
        self.0.files.as_ref()
    }

    pub(super) fn bind(&self) -> Bind {
        self.0.rules.bind
    }

    pub(super) fn gives_addresses(&self) -> bool {
        self.0.rules.gives_addresses
    }

    pub(super) fn first_comers(&self) -> &FirstComers {
        &self.0.first_comers
    }
}

/// Serves on `listener` until `stop`; requests that run by then are finished.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    shared: Shared,
    stop: CancellationToken,
) {
    let routes = routes(shared);
    let answer = move |ends: Ends, mut request: Request<Body>| {
        request.extensions_mut().insert(ConnectInfo(ends));
        let routes = routes.clone();
        async move {
            let path = shown(request.uri().path());
            let Ok(response) = routes.oneshot(request).await;
            // What does not even decode (a path that is not UTF-8, a key given twice) is refused by the router itself.
            if response.status().is_client_error()
                && response.extensions().get::<Refused>().is_none()
            {
                let allow = response.headers().get(ALLOW).cloned();
                let mut refused =
                    refuse(ends, &path, response.status(), "the request makes no sense");
                refused
                    .headers_mut()
                    .extend(allow.map(|allow| (ALLOW, allow)));
                return refused;
            }
            response
        }
    };
    connections::serve(listener, tls, answer, stop).await;
}

fn routes(shared: Shared) -> Router {
    Router::new()
        .route("/machines/{machine}/boot.ipxe", get(machine::boot_script))
        .route("/machines/{machine}/grub.cfg", get(machine::grub_config))
        .route(
            "/machines/{machine}/nocloud/{document}",
            get(machine::nocloud),
        )
        .route(
            "/machines/{machine}/documents/{document}",
            get(machine::document),
        )
        .route("/t/{token}/nocloud/{document}", get(attempt::nocloud))
        .route("/t/{token}/documents/{document}", get(attempt::document))
        .route("/t/{token}/files/{*path}", get(attempt::files))
        .route("/t/{token}/events/{event}", any(attempt::event))
        .route("/files/{*path}", get(files))
        .route("/programs/{*path}", get(programs))
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(nothing)
        .layer(CatchPanicLayer::new())
        .with_state(shared)
}

async fn files(
    State(shared): State<Shared>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    Path(path): Path<String>,
    request: Request<Body>,
) -> Response<Body> {
    if let Some(refused) = shared.bars(ends, &path) {
        return refused;
    }
    shared.file_or_artifact(ends, path, request).await
}

async fn programs(
    State(shared): State<Shared>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    Path(path): Path<String>,
    request: Request<Body>,
) -> Response<Body> {
    shared
        .file(ends, shared.0.programs.as_ref(), path, request)
        .await
}

async fn nothing(ConnectInfo(ends): ConnectInfo<Ends>, request: Request<Body>) -> Response<Body> {
    let path = shown(request.uri().path());
    refuse(ends, &path, StatusCode::NOT_FOUND, "nothing is served here")
}

impl Shared {
    /// Refuses what a machine's profile installs from to that machine, once it is not to install.
    fn bars(&self, ends: Ends, path: &str) -> Option<Response<Body>> {
        let reservation = self.store().reservation_at(ends.client())?;
        let why: Why = self.store().sent_away(ends.client(), now_secs())?;
        let catalog = self.store().catalog();
        let asker = Asker::of(&reservation, &catalog, "");
        let asked: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let asked = asked.join("/");
        let is_its = asker.boot_files().iter().any(|(_, path)| *path == asked);
        is_its.then(|| {
            let place = Place::new(ends, path);
            let why = format!("the machine does not boot it now: {}", why.text());
            place.barred(&reservation, StatusCode::FORBIDDEN, &why)
        })
    }

    /// The machine with every secret that its documents may need.
    pub(super) async fn with_secrets<'a>(&self, mut asker: Asker<'a>) -> Result<Asker<'a>, String> {
        let wanted = secrets::wanted(&asker);
        if !wanted.is_empty() {
            let read = tokio::task::spawn_blocking(move || secrets::read(wanted)).await;
            asker.secrets = read.map_err(|panic| panic.to_string())??;
        }
        Ok(asker)
    }

    /// A file below `http.files`, or else the artefact of that name.
    pub(super) async fn file_or_artifact(
        &self,
        ends: Ends,
        path: String,
        request: Request<Body>,
    ) -> Response<Body> {
        let is_file = match self.files() {
            Some(files) => files.holds(&path).await,
            None => false,
        };
        if is_file {
            return self.file(ends, self.files(), path, request).await;
        }
        let started = Instant::now();
        match self.0.artifacts.find(&path).await {
            Ok(Some(entry)) => {
                let is_head = request.method() == axum::http::Method::HEAD;
                let response = self.0.artifacts.serve(&entry, request).await;
                self.sent(ends, path, response, started, is_head)
            }
            Ok(None) => self.file(ends, self.files(), path, request).await,
            Err(NotNow(code, why)) => refuse(ends, &path, code, &why),
        }
    }

    pub(super) async fn file(
        &self,
        ends: Ends,
        files: Option<&Files>,
        path: String,
        request: Request<Body>,
    ) -> Response<Body> {
        let started = Instant::now();
        let Some(files) = files else {
            let why = "http.files is not set in the configuration";
            return refuse(ends, &path, StatusCode::NOT_FOUND, why);
        };
        let is_head = request.method() == axum::http::Method::HEAD;
        let response = files.serve(&path, request).await;
        self.sent(ends, path, response, started, is_head)
    }

    /// Tells of a file on its way, or of the refusal in its place.
    fn sent(
        &self,
        ends: Ends,
        path: String,
        mut response: Response<Body>,
        started: Instant,
        is_head: bool,
    ) -> Response<Body> {
        if path.ends_with(".efi") {
            // UEFI 2.10 §24.7.3.1 takes a boot program by this type, or else by its suffix.
            let efi = HeaderValue::from_static("application/efi");
            response.headers_mut().insert(CONTENT_TYPE, efi);
        }
        let code = response.status();
        if code.is_client_error() || code.is_server_error() {
            let mut refused = refuse(ends, &path, code, "no such file, or nothing of it to send");
            if let Some(range) = response.headers_mut().remove(CONTENT_RANGE) {
                refused.headers_mut().insert(CONTENT_RANGE, range); // RFC 9110 §15.5.17
            }
            return refused;
        }
        if is_head || code == StatusCode::NOT_MODIFIED {
            return response;
        }
        let transfer = Transfer {
            protocol: "http",
            path,
            client: ends.client(),
            machine: self.machine_at(ends.client()),
            status: code.as_u16(),
            bytes: 0,
            ended: Ended::Cut,
            elapsed_ms: 0,
        };
        let length = response.headers().get(CONTENT_LENGTH);
        let expected = length.and_then(|length| length.to_str().ok()?.parse().ok());
        response.map(|body| {
            let body = match &self.0.rules.pace {
                Some(pace) => Body::new(Paced::new(body, pace.clone(), ends.client())),
                None => body,
            };
            Body::new(Told::new(body, transfer, started, expected))
        })
    }

    /// Whose address this is, as far as reservations and leases say.
    fn machine_at(&self, client: IpAddr) -> Option<String> {
        self.0.store.machine_at(client)
    }
}

impl Ends {
    pub(super) fn client(&self) -> IpAddr {
        self.remote.ip().to_canonical()
    }

    /// The server as the client reached it.
    pub(super) fn server_url(&self) -> String {
        let address = self.local.ip().to_canonical();
        let (scheme, usual) = match self.is_secure {
            true => ("https", 443),
            false => ("http", 80),
        };
        match (address, self.local.port()) {
            (IpAddr::V4(address), port) if port == usual => format!("{scheme}://{address}"),
            (IpAddr::V4(address), port) => format!("{scheme}://{address}:{port}"),
            (IpAddr::V6(address), port) => format!("{scheme}://[{address}]:{port}"),
        }
    }
}

pub(super) fn text_response(name: &str, text: String) -> Response<Body> {
    let mut response = text.into_response();
    let kind = match name {
        "meta-data" | "user-data" | "vendor-data" | "network-config" => "text/yaml; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The machine sees a number; the operator finds it in the log beside the template's line.
pub(super) fn failure(machine: &str, document: &str, error: &str) -> Response<Body> {
    let request_id = Uuid::new_v4().simple().to_string();
    let mut response = Response::new(Body::from(format!(
        "500 Internal Server Error; request {request_id}\n"
    )));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        let name = HeaderName::from_static("x-request-id");
        response.headers_mut().insert(name, value);
    }
    emit(&Event::RenderFailed {
        document: document.to_owned(),
        machine: machine.to_owned(),
        request_id,
        error: error.to_owned(),
    });
    response
}

/// The store cannot be written: whatever depends on it is asked for again.
pub(super) fn unwell(error: &str) -> Response<Body> {
    emit(&Event::Failed {
        about: "store",
        error: error.to_owned(),
    });
    let mut response = told(StatusCode::SERVICE_UNAVAILABLE);
    let after = HeaderValue::from_static("5");
    response.headers_mut().insert(RETRY_AFTER, after);
    response
}

pub(super) fn refuse(ends: Ends, path: &str, code: StatusCode, reason: &str) -> Response<Body> {
    emit(&Event::RequestRefused {
        protocol: "http",
        client: ends.client(),
        path: path.to_owned(),
        reason: reason.to_owned(),
    });
    told(code)
}

/// A refusal that was told already.
pub(super) fn told(code: StatusCode) -> Response<Body> {
    let mut response = status(code);
    response.extensions_mut().insert(Refused);
    response
}

/// A path as it may be told: without the token in it.
fn shown(path: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').collect();
    if let [first, "t", token, ..] = &mut parts[..]
        && first.is_empty()
    {
        *token = "…";
    }
    parts.join("/")
}

/// Marks an answer whose refusal was told.
#[derive(Clone)]
struct Refused;

pub(super) fn millis(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
