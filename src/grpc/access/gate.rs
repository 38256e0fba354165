//! Every call goes through here, whichever service it is for. In: a call. Out: the service's answer, or a refusal; and a note of
//! every call that would write. A write that has begun is finished and noted, also if its caller goes away.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::http::{HeaderValue, Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};
use uuid::Uuid;

use super::super::connection::Peer;
use super::audit::AuditLog;
use super::guard::{Guard, Refused};
use super::identity::Caller;
use super::scopes::{Effect, rule};
use super::wire::{Contract, Named};
use crate::model::{Audit, Event};
use crate::net::now_secs;
use crate::observe::emit;

/// A resource's name stands near the beginning.
const LOOKED_AT: usize = 64 << 10;

/// Stands before all services.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Rules>);

struct Rules {
    guard: Guard,
    audit: AuditLog,
    contract: Contract,
}

/// A service behind the gate.
#[derive(Clone)]
pub(crate) struct Gated<S> {
    rules: Arc<Rules>,
    service: S,
}

impl Gate {
    pub(crate) fn new(guard: Guard, audit: AuditLog) -> Self {
        let contract = Contract::new();
        Self(Arc::new(Rules {
            guard,
            audit,
            contract,
        }))
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, service: S) -> Gated<S> {
        let rules = self.0.clone();
        Gated { rules, service }
    }
}

type Answer<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answer<S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The one that was asked whether it is ready is the one to call.
        let next = self.service.clone();
        let mut service = std::mem::replace(&mut self.service, next);
        let rules = self.rules.clone();
        let path = request.uri().path().to_owned();
        let rule = rule(&path);
        let admitted = match request.extensions().get::<Peer>() {
            Some(peer) => {
                let method = path.rsplit('/').next().unwrap_or_default();
                (rules.guard).admit(peer, request.headers(), method, rule, now_secs())
            }
            None => Err(Refused::without_peer()),
        };
        let caller = match admitted {
            Ok(caller) => caller,
            Err(refused) => {
                rules.refuse(&path, rule.effect, &refused);
                let response = refused.status.into_http();
                return Box::pin(std::future::ready(Ok(response)));
            }
        };
        request.extensions_mut().insert(caller.clone());
        if rule.effect == Effect::Looks {
            let answer = service.call(request);
            return Box::pin(async move { answer.await.map(plain) });
        }
        let writing = tokio::spawn(async move {
            let (request, seen) = watched(request);
            let response = plain(service.call(request).await?);
            Ok(rules.finish(&path, &caller, &seen, response).await)
        });
        Box::pin(async move {
            match writing.await {
                Ok(answer) => answer,
                Err(panic) => Ok(Status::internal(panic.to_string()).into_http()),
            }
        })
    }
}

/// What was sent so far, as far as it is looked at.
type SeenOctets = Arc<Mutex<Vec<u8>>>;

fn watched(request: Request<Body>) -> (Request<Body>, SeenOctets) {
    let seen = SeenOctets::default();
    let keep = seen.clone();
    let request = request.map(|body| {
        Body::new(body.map_frame(move |frame| {
            if let Some(data) = frame.data_ref() {
                let mut seen = keep.lock().unwrap_or_else(PoisonError::into_inner);
                let room = LOOKED_AT.saturating_sub(seen.len());
                seen.extend(data.iter().take(room));
            }
            frame
        }))
    });
    (request, seen)
}

impl Rules {
    fn refuse(&self, path: &str, effect: Effect, refused: &Refused) {
        let code = code_name(refused.status.code());
        if effect == Effect::Writes && !refused.is_flood {
            self.audit.note(Audit {
                who: refused.who.clone(),
                from: refused.from.clone(),
                method: shown(path),
                outcome: code,
                reason: Some(refused.reason.to_owned()),
                ..Audit::default()
            });
        }
        emit(&Event::CallRefused {
            who: refused.who.clone(),
            from: refused.from.clone(),
            method: shown(path),
            reason: refused.reason,
            is_flood: refused.is_flood,
        });
    }

    /// Notes the call, and gives its answer on.
    async fn finish(
        &self,
        path: &str,
        caller: &Caller,
        seen: &SeenOctets,
        response: Response<Body>,
    ) -> Response<Body> {
        let method = self.contract.method(path);
        let (mut head, body) = response.into_parts();
        let (body, answered, late) = match method.filter(|method| !method.streams) {
            None => (body, Named::default(), None),
            Some(method) => match body.collect().await {
                Err(status) => {
                    let code = Status::from_error(Box::new(status)).code();
                    (Body::empty(), Named::default(), Some(code))
                }
                Ok(whole) => {
                    let trailers = whole.trailers().cloned();
                    let octets = whole.to_bytes();
                    let answered = self.contract.answered(method, &octets);
                    let late = trailers.as_ref().and_then(Status::from_header_map);
                    let late = late.map(|status| status.code());
                    (with_trailers(octets, trailers), answered, late)
                }
            },
        };
        let early = Status::from_header_map(&head.headers).map(|status| status.code());
        let code = early.or(late).unwrap_or(Code::Ok);
        let asked = {
            let octets = seen.lock().unwrap_or_else(PoisonError::into_inner);
            method.map(|method| self.contract.asked(method, &octets))
        };
        let asked = asked.unwrap_or_default();
        let id = asked
            .request_id
            .unwrap_or_else(|| Uuid::new_v4().to_string());
        if let Ok(value) = HeaderValue::from_str(&id) {
            head.headers.insert("x-request-id", value);
        }
        self.audit.note(Audit {
            who: caller.who.clone(),
            from: caller.from.clone(),
            method: shown(path),
            resource: answered.name.or(asked.name),
            resources: Some(answered.count).filter(|count| *count > 0),
            outcome: code_name(code),
            reason: None,
            revision: answered.etag,
            request_id: Some(id),
        });
        Response::from_parts(head, body)
    }
}

/// A message that is too large is told with the code that gRPC has for it, and what to do.
fn plain(response: Response<Body>) -> Response<Body> {
    const TOO_LARGE: &str = "decoded message length too large: ";
    let status = Status::from_header_map(response.headers());
    let Some(sizes) = status.as_ref().and_then(|status| {
        let is_it = status.code() == Code::OutOfRange;
        let (_, sizes) = status.message().split_once(TOO_LARGE)?;
        is_it.then_some(sizes)
    }) else {
        return response;
    };
    let text =
        format!("the message is too large: {sizes}; send it in parts, such as smaller batches");
    Status::resource_exhausted(text).into_http()
}

fn with_trailers(octets: Bytes, trailers: Option<axum::http::HeaderMap>) -> Body {
    let body = Full::new(octets);
    match trailers {
        None => Body::new(body),
        Some(trailers) => Body::new(body.with_trailers(std::future::ready(Some(Ok(trailers))))),
    }
}

/// A method as a log shows it, whatever a client wrote there.
fn shown(path: &str) -> String {
    let path = path.trim_start_matches('/').chars().take(120);
    path.filter(|c| c.is_ascii_graphic()).collect()
}

/// The name of a status code as the specification writes it: `PERMISSION_DENIED`.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_written_as_the_specification_does() {
        assert_eq!(code_name(Code::PermissionDenied), "PERMISSION_DENIED");
        assert_eq!(code_name(Code::Unauthenticated), "UNAUTHENTICATED");
        assert_eq!(code_name(Code::Ok), "OK");
    }

    #[test]
    fn a_message_that_is_too_large_is_told_as_grpc_has_it() {
        let text = "Error, decoded message length too large: found 9 bytes, the limit is: 4 bytes";
        let told = plain(Status::out_of_range(text).into_http());
        let status = Status::from_header_map(told.headers()).unwrap();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(
            status
                .message()
                .contains("found 9 bytes, the limit is: 4 bytes; send")
        );
        let other = plain(Status::out_of_range("page 9").into_http());
        let status = Status::from_header_map(other.headers()).unwrap();
        assert_eq!(
            (status.code(), status.message()),
            (Code::OutOfRange, "page 9")
        );
    }

    #[test]
    fn what_a_client_calls_a_method_stays_on_one_line() {
        assert_eq!(shown("/a.B/C\n\u{1b}[31m x"), "a.B/C[31mx");
        assert_eq!(shown(&"/x".repeat(500)).len(), 120);
    }
}
