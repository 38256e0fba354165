//! What one attempt's token opens: documents, kernel and initrd of an installation, and the way for its call-backs. In: a request
//! below `/t/{token}/`. Out: what the machine needs while its attempt runs; 404 for a token that never was, 403 for an address
//! that is not the machine's, 410 once the attempt is over.
//!
//! A token stands in no event and no log line.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::header::{ALLOW, CACHE_CONTROL};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode};
use axum::response::IntoResponse as _;

use super::callback::{self, Kind};
use super::connections::Ends;
use super::document::Asker;
use super::machine::Place;
use super::server::{Shared, refuse, unwell};
use crate::catalog::{Catalog, digest};
use crate::lifecycle::{self, Reading, Signal};
use crate::model::{Document, Event, Machine, Reservation, Token};
use crate::net::now_secs;
use crate::observe::emit;
use crate::store::{Act, ActError};

/// A call-back is a sentence and the end of a log.
const LARGEST_BODY: usize = 64 << 10;
/// Who takes longer over that sends nothing any more.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A token's machine, and that it is the machine that asks.
struct Opened {
    catalog: Arc<Catalog>,
    reservation: Arc<Reservation>,
    token: Token,
}

pub(super) async fn nocloud(
    State(shared): State<Shared>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    Path((token, name)): Path<(String, String)>,
) -> Response<Body> {
    match Document::named(&name) {
        Document::Other(_) => {
            let why = "is none of NoCloud's documents";
            refuse(ends, &name, StatusCode::NOT_FOUND, why)
        }
        document => shared.document_of_attempt(ends, &token, &document).await,
    }
}

pub(super) async fn document(
    State(shared): State<Shared>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    Path((token, name)): Path<(String, String)>,
) -> Response<Body> {
    let document = Document::named(&name);
    shared.document_of_attempt(ends, &token, &document).await
}

pub(super) async fn files(
    State(shared): State<Shared>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    Path((token, path)): Path<(String, String)>,
    request: Request<Body>,
) -> Response<Body> {
    let place = Place::new(ends, &path);
    match shared.read_open(&place, &token) {
        Ok(_) => shared.file_or_artifact(ends, path.clone(), request).await,
        Err(refused) => *refused,
    }
}

pub(super) async fn event(
    State(shared): State<Shared>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    Path((token, event)): Path<(String, String)>,
    request: Request<Body>,
) -> Response<Body> {
    let path = format!("events/{event}");
    let place = Place::new(ends, &path);
    let opened = match shared.opened(&place, &token) {
        Ok(opened) => opened,
        Err(refused) => return *refused,
    };
    let reservation = &opened.reservation;
    let Some(kind) = Kind::named(&event) else {
        let why = "is none of an installation's call-backs";
        return place.barred(reservation, StatusCode::NOT_FOUND, why);
    };
    let is_taken = match *request.method() {
        Method::POST | Method::PUT => true,
        Method::GET => kind.may_be_fetched(),
        _ => false,
    };
    if !is_taken {
        let why = "this method tells nothing";
        let mut refused = place.barred(reservation, StatusCode::METHOD_NOT_ALLOWED, why);
        let allowed = HeaderValue::from_static("POST,GET");
        refused.headers_mut().insert(ALLOW, allowed);
        return refused;
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    let body = axum::body::to_bytes(request.into_body(), LARGEST_BODY);
    let body = match tokio::time::timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            let why = "its body is cut off, or larger than 64 KiB";
            return place.barred(reservation, StatusCode::PAYLOAD_TOO_LARGE, why);
        }
        Err(_) => {
            let why = "its body does not come";
            return place.barred(reservation, StatusCode::REQUEST_TIMEOUT, why);
        }
    };
    match callback::read(kind, &query, &body) {
        Ok(heard) => shared.heard(&place, &opened, kind, heard).await,
        Err(why) => place.barred(reservation, StatusCode::BAD_REQUEST, why),
    }
}

impl Shared {
    /// The machine of a token that is its current one, if it is that machine that asks.
    fn opened(&self, place: &Place<'_>, text: &str) -> Result<Opened, Box<Response<Body>>> {
        let catalog = self.store().catalog();
        let token = text.parse::<Token>().ok();
        let found = token.and_then(|token| {
            let machine = catalog.machine_of_token(&digest(token))?;
            Some((token, machine, catalog.by_id(&machine.id)?.clone()))
        });
        let Some((token, machine, reservation)) = found else {
            let code = StatusCode::NOT_FOUND;
            let refused = refuse(place.ends, place.path, code, "no such token");
            return Err(Box::new(refused));
        };
        if machine.token != Some(token) {
            return Err(Box::new(place.over(&reservation)));
        }
        if !self.is_admitted(&catalog, &reservation, place.ends.client()) {
            return Err(Box::new(place.wrong_peer(&reservation)));
        }
        Ok(Opened {
            catalog,
            reservation,
            token,
        })
    }

    /// The same, while the attempt runs.
    fn read_open(&self, place: &Place<'_>, text: &str) -> Result<Opened, Box<Response<Body>>> {
        let opened = self.opened(place, text)?;
        let reservation = &opened.reservation;
        let profile = opened.catalog.profile_of(reservation);
        let machine: Option<&Machine> = opened.catalog.machine(&reservation.id);
        match lifecycle::may_read(machine, profile, opened.token, now_secs()) {
            Reading::Open => Ok(opened),
            Reading::Later(why) => Err(Box::new(place.later(reservation, why))),
            Reading::Over => Err(Box::new(place.over(reservation))),
        }
    }

    async fn document_of_attempt(
        &self,
        ends: Ends,
        token: &str,
        document: &Document,
    ) -> Response<Body> {
        let place = Place::new(ends, document.name());
        let opened = match self.read_open(&place, token) {
            Ok(opened) => opened,
            Err(refused) => return *refused,
        };
        let url = ends.server_url();
        let mut asker = Asker::of(&opened.reservation, &opened.catalog, &url);
        asker.token = Some(opened.token);
        self.rendered(&place, asker, document).await
    }

    async fn heard(
        &self,
        place: &Place<'_>,
        opened: &Opened,
        kind: Kind,
        heard: callback::Heard,
    ) -> Response<Body> {
        let reservation = &opened.reservation;
        let signal = Signal::CallBack {
            token: opened.token,
            said: heard.said,
        };
        let done = self
            .store()
            .act(&reservation.id, Act::Signal(signal), now_secs());
        let moved = match done.await {
            Ok(moved) => moved,
            Err(ActError::Late | ActError::Unknown) => return place.over(reservation),
            Err(error) => return unwell(&error.to_string()),
        };
        emit(&Event::CalledBack {
            id: reservation.id.clone(),
            machine: reservation.title().to_owned(),
            attempt: moved.after.attempt,
            what: kind.as_str(),
            detail: heard.detail,
            percent: heard.percent,
        });
        super::machine::tell(reservation, &moved);
        let mut response = "ok\n".into_response();
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

impl Place<'_> {
    fn over(&self, reservation: &Reservation) -> Response<Body> {
        let why = "the attempt it was made for is over";
        self.barred(reservation, StatusCode::GONE, why)
    }
}
