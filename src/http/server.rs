//! The HTTP shell: receive, parse, look up, render, send, emit.
//!
//! | path | what it is |
//! |---|---|
//! | `/machines/{machine}/boot.ipxe?arch=&firmware=` | the machine's boot script; it is named by MAC, or by its reservation's id |
//! | `/machines/{machine}/nocloud/{document}` | cloud-init's `meta-data`, `user-data`, `vendor-data`, `network-config` |
//! | `/machines/{machine}/documents/{document}` | any document the machine's profile names |
//! | `/files/{path}` | files below `http.files` |
//! | `/programs/{path}` | network boot programs |
//! | `/healthz` | 200 while the service lives |

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName,
};
use axum::http::{HeaderValue, Request, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tower_http::catch_panic::CatchPanicLayer;
use uuid::Uuid;

use super::connections::{self, Ends};
use super::document::{Asker, NoDocument};
use super::files::{Files, Links, Told, status};
use crate::model::{Cpu, Document, Ended, Event, Firmware, Transfer};
use crate::observe::emit;
use crate::store::Store;

/// What every request may look at.
#[derive(Clone)]
pub struct Shared(Arc<Inner>);

struct Inner {
    store: Store,
    files: Option<Files>,
    programs: Option<Files>,
}

impl Shared {
    /// `files` and `programs` are directories, served if they exist.
    pub fn new(
        store: Store,
        files: Option<&std::path::Path>,
        programs: &std::path::Path,
    ) -> io::Result<Self> {
        Ok(Self(Arc::new(Inner {
            store,
            files: files.map(|dir| Files::new(dir, Links::Kept)).transpose()?,
            programs: Files::new(programs, Links::Followed).ok(),
        })))
    }
}

/// Serves on `listener` until `stop`; requests that run by then are finished.
pub async fn serve(listener: TcpListener, shared: Shared, stop: CancellationToken) {
    let routes = routes(shared);
    let answer = move |ends: Ends, mut request: Request<Body>| {
        request.extensions_mut().insert(ConnectInfo(ends));
        let routes = routes.clone();
        async move {
            let path = request.uri().path().to_owned();
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
    connections::serve(listener, answer, stop).await;
}

fn routes(shared: Shared) -> Router {
    Router::new()
        .route("/machines/{machine}/boot.ipxe", get(boot_script))
        .route("/machines/{machine}/nocloud/{document}", get(nocloud))
        .route("/machines/{machine}/documents/{document}", get(document))
        .route("/files/{*path}", get(files))
        .route("/programs/{*path}", get(programs))
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(nothing)
        .layer(CatchPanicLayer::new())
        .with_state(shared)
}

#[derive(Deserialize)]
struct Platform {
    arch: Option<String>,
    firmware: Option<String>,
}

async fn boot_script(
    State(shared): State<Shared>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    Path(machine): Path<String>,
    Query(platform): Query<Platform>,
) -> Response<Body> {
    // DHCP writes both into the URL; a person who tries it by hand most likely means a PC.
    let cpu = platform
        .arch
        .as_deref()
        .map_or(Some(Cpu::X86_64), Cpu::named);
    let firmware = (platform.firmware.as_deref()).map_or(Some(Firmware::Uefi), Firmware::named);
    let (Some(cpu), Some(firmware)) = (cpu, firmware) else {
        return refuse(
            ends,
            "boot.ipxe",
            StatusCode::BAD_REQUEST,
            "arch or firmware is not known",
        );
    };
    shared.rendered(ends, &machine, "boot.ipxe", |asker| {
        asker.boot_script(cpu, firmware)
    })
}

async fn nocloud(
    State(shared): State<Shared>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    Path((mac, name)): Path<(String, String)>,
) -> Response<Body> {
    match Document::named(&name) {
        Document::Other(_) => refuse(
            ends,
            &name,
            StatusCode::NOT_FOUND,
            "is none of NoCloud's documents",
        ),
        document => shared.rendered(ends, &mac, &name, |asker| asker.document(&document)),
    }
}

async fn document(
    State(shared): State<Shared>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    Path((mac, name)): Path<(String, String)>,
) -> Response<Body> {
    let document = Document::named(&name);
    shared.rendered(ends, &mac, &name, |asker| asker.document(&document))
}

async fn files(
    State(shared): State<Shared>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    Path(path): Path<String>,
    request: Request<Body>,
) -> Response<Body> {
    shared
        .file(ends, shared.0.files.as_ref(), path, request)
        .await
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
    refuse(
        ends,
        request.uri().path(),
        StatusCode::NOT_FOUND,
        "nothing is served here",
    )
}

impl Shared {
    /// Makes a document for the machine of this MAC or id. What a stranger learns is whether a MAC is known, and no more.
    fn rendered(
        &self,
        ends: Ends,
        machine: &str,
        name: &str,
        make: impl FnOnce(&Asker) -> Result<String, NoDocument>,
    ) -> Response<Body> {
        let started = Instant::now();
        let catalog = self.0.store.catalog();
        let made = Asker::find(&catalog, machine, &ends.server_url())
            .and_then(|asker| Ok((asker.reservation.clone(), make(&asker)?)));
        match made {
            Ok((reservation, text)) => {
                emit(&Event::Rendered {
                    document: name.to_owned(),
                    machine: reservation.title().to_owned(),
                    mac: reservation.known_by(),
                    client: ends.client(),
                    bytes: text.len(),
                    elapsed_ms: millis(started),
                });
                text_response(name, text)
            }
            Err(NoDocument::Unrenderable {
                machine,
                document,
                error,
            }) => failure(machine, document, &error),
            Err(why) => refuse(ends, name, StatusCode::NOT_FOUND, &why.to_string()),
        }
    }

    async fn file(
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
        let mut response = files.serve(&path, request).await;
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
        response.map(|body| Body::new(Told::new(body, transfer, started, expected)))
    }

    /// Whose address this is, as far as reservations and leases say.
    fn machine_at(&self, client: IpAddr) -> Option<String> {
        self.0.store.machine_at(client)
    }
}

impl Ends {
    fn client(&self) -> IpAddr {
        self.remote.ip().to_canonical()
    }

    /// The server as the client reached it.
    fn server_url(&self) -> String {
        let address = self.local.ip().to_canonical();
        match (address, self.local.port()) {
            (IpAddr::V4(address), 80) => format!("http://{address}"),
            (IpAddr::V4(address), port) => format!("http://{address}:{port}"),
            (IpAddr::V6(address), port) => format!("http://[{address}]:{port}"),
        }
    }
}

fn text_response(name: &str, text: String) -> Response<Body> {
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
fn failure(
    machine: String,
    document: String,
    error: &crate::render::RenderError,
) -> Response<Body> {
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
        document,
        machine,
        request_id,
        error: error.to_string(),
    });
    response
}

fn refuse(ends: Ends, path: &str, code: StatusCode, reason: &str) -> Response<Body> {
    emit(&Event::RequestRefused {
        protocol: "http",
        client: ends.client(),
        path: path.to_owned(),
        reason: reason.to_owned(),
    });
    let mut response = status(code);
    response.extensions_mut().insert(Refused);
    response
}

/// Marks an answer whose refusal was told.
#[derive(Clone)]
struct Refused;

fn millis(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}
