//! Decides on each call: who calls, whether that is allowed, and whether it is too often. In: the peer, what the call shows of
//! itself, its method. Out: a caller, or a status that says what is needed and where to get it.

use std::sync::Arc;
use std::time::Instant;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use bootjack_api::access::{Scope, Token};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::super::connection::{Peer, Via};
use super::door::follow;
use super::identity::{Caller, Credential, Unknown, unknown};
use super::rate::Rate;
use super::register::Register;
use super::scopes::Rule;

/// The domain of every reason that an `ErrorInfo` gives.
const DOMAIN: &str = "bootjack";
/// Calls a second of one address that are answered with why they are refused.
const STRANGERS_RATE: u32 = 20;

/// The rules of the door.
pub(crate) struct Guard {
    register: Option<Arc<Register>>,
    own_uid: u32,
    /// What users of this machine may do who can open the socket.
    socket_scope: Option<Scope>,
    rate: Rate,
    strangers: Rate,
}

/// A call that is not answered.
pub(crate) struct Refused {
    pub(crate) status: Box<Status>,
    /// Who it was, as far as it is known.
    pub(crate) who: String,
    pub(crate) from: String,
    pub(crate) reason: &'static str,
    /// One of too many: it is not worth a line in the log.
    pub(crate) is_flood: bool,
}

impl Guard {
    pub(crate) fn new(
        register: Option<Arc<Register>>,
        own_uid: u32,
        socket_scope: Option<Scope>,
        per_second: u32,
    ) -> Self {
        Self {
            register,
            own_uid,
            socket_scope,
            rate: Rate::new(per_second),
            strangers: Rate::new(STRANGERS_RATE),
        }
    }

    /// Lets a call in, or not.
    pub(crate) fn admit(
        &self,
        peer: &Peer,
        headers: &HeaderMap,
        method: &str,
        rule: Rule,
        now_secs: u64,
    ) -> Result<Caller, Refused> {
        // What was revoked a moment ago is refused now.
        if let Some(register) = &self.register {
            follow(register);
        }
        let caller = match self.identify(peer, headers, now_secs) {
            Ok(caller) => caller,
            Err(unknown) => return Err(self.unauthenticated(peer, &unknown)),
        };
        self.not_too_often(peer, &caller)?;
        if !(peer.visit).is_known_by(caller.credential.as_ref()) {
            let text = "there are too many connections; close some, or try again later";
            let status = Status::resource_exhausted(text);
            return Err(refused(&caller, status, "TOO_MANY_CONNECTIONS"));
        }
        if caller.scope < rule.scope {
            return Err(forbidden(&caller, method, rule.scope));
        }
        Ok(caller)
    }

    /// A token, where one is shown, says more than the connection.
    fn identify(&self, peer: &Peer, headers: &HeaderMap, now_secs: u64) -> Result<Caller, Unknown> {
        let from = peer.from();
        let made = |who, scope, credential| Caller {
            who,
            from: from.clone(),
            scope,
            credential,
        };
        if let (Some(register), Some(token)) = (&self.register, bearer(headers)?) {
            let token = register.token(token, now_secs)?;
            let who = format!("token {}", token.name);
            let Token {
                id, expires, scope, ..
            } = token;
            let credential = Credential::Token { id, expires };
            return Ok(made(who, scope, Some(credential)));
        }
        match (&peer.via, &self.register) {
            (Via::Unix { uid, .. }, _) => {
                let scope = self.scope_of_user(*uid)?;
                Ok(made(format!("uid {uid}"), scope, None))
            }
            (Via::Plain(_), None) => Ok(made("anybody".to_owned(), Scope::Admin, None)),
            (Via::Tls(_, Some(Ok(certified))), Some(register)) => {
                register.confirm(certified, now_secs)?;
                let who = format!("certificate {}", certified.name);
                let credential = Credential::Certificate(certified.clone());
                Ok(made(who, certified.scope, Some(credential)))
            }
            (Via::Tls(_, Some(Err(why))), _) => Err(why.clone()),
            (Via::Plain(_), Some(_)) => Err(unknown(
                "CREDENTIALS_MISSING",
                "no token was shown; send `authorization: Bearer TOKEN` with what bootjack auth issue --token printed",
            )),
            (Via::Tls(..), _) => Err(unknown(
                "CREDENTIALS_MISSING",
                "neither a client's certificate nor a token was shown; ask for one (bootjack auth issue)",
            )),
        }
    }

    fn scope_of_user(&self, uid: u32) -> Result<Scope, Unknown> {
        if uid == 0 || uid == self.own_uid {
            return Ok(Scope::Admin);
        }
        self.socket_scope.ok_or_else(|| {
            let text = format!(
                "user {uid} is neither root nor the service's own; name a group in grpc.socket_group, or show a token"
            );
            unknown("USER_UNKNOWN", text)
        })
    }

    /// Users of this machine who need no credentials are held by nothing but this machine.
    fn not_too_often(&self, peer: &Peer, caller: &Caller) -> Result<(), Refused> {
        let is_open = matches!(peer.via, Via::Plain(_)) && caller.credential.is_none();
        if is_open || matches!(peer.via, Via::Unix { .. }) {
            return Ok(());
        }
        let whose = caller.credential.as_ref().map_or("", Credential::id);
        let Err(wait) = self.rate.take(whose, Instant::now()) else {
            return Ok(());
        };
        let mut details = ErrorDetails::with_retry_info(Some(wait));
        let who = ("who".to_owned(), caller.who.clone());
        details.set_error_info("RATE_LIMITED", DOMAIN, [who]);
        let text = format!(
            "{} calls too often; wait {} ms, or raise grpc.rate_limit",
            caller.who,
            wait.as_millis().max(1)
        );
        let status = Status::with_error_details(Code::ResourceExhausted, text, details);
        Err(Refused {
            is_flood: true,
            ..refused(caller, status, "RATE_LIMITED")
        })
    }

    fn unauthenticated(&self, peer: &Peer, unknown: &Unknown) -> Refused {
        let from = peer.from();
        let wait = self.strangers.take(&peer.address(), Instant::now()).err();
        let mut details = ErrorDetails::with_error_info(unknown.reason, DOMAIN, NOTHING);
        if let Some(wait) = wait {
            details.set_retry_info(Some(wait));
        }
        let text = unknown.text.clone();
        let status = Status::with_error_details(Code::Unauthenticated, text, details);
        Refused {
            status: Box::new(status),
            who: "stranger".to_owned(),
            from,
            reason: unknown.reason,
            is_flood: wait.is_some(),
        }
    }
}

const NOTHING: [(String, String); 0] = [];

impl Refused {
    /// A call that came over no connection of ours.
    pub(crate) fn without_peer() -> Self {
        Self {
            status: Box::new(Status::internal("the call has no peer")),
            who: "stranger".to_owned(),
            from: String::new(),
            reason: "NO_PEER",
            is_flood: false,
        }
    }
}

fn refused(caller: &Caller, status: Status, reason: &'static str) -> Refused {
    Refused {
        status: Box::new(status),
        who: caller.who.clone(),
        from: caller.from.clone(),
        reason,
        is_flood: false,
    }
}

fn forbidden(caller: &Caller, method: &str, needs: Scope) -> Refused {
    let has = caller.scope;
    let text = format!(
        "{method} needs scope {needs}, and {} has {has}; ask for another (bootjack auth issue --scope {needs})",
        caller.who
    );
    let metadata = [
        ("method", method),
        ("needs", needs.as_str()),
        ("has", has.as_str()),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let details = ErrorDetails::with_error_info("SCOPE_INSUFFICIENT", DOMAIN, metadata);
    let status = Status::with_error_details(Code::PermissionDenied, text, details);
    refused(caller, status, "SCOPE_INSUFFICIENT")
}

/// The token that a call shows, if it shows one (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Unknown> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Ok(None);
    };
    let token = value.to_str().ok().and_then(|text| text.split_once(' '));
    match token {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim())),
        _ => Err(unknown(
            "TOKEN_MALFORMED",
            "`authorization` is not understood; wanted `Bearer TOKEN`",
        )),
    }
}

impl Peer {
    /// For the log.
    pub(crate) fn from(&self) -> String {
        match &self.via {
            Via::Unix { pid: Some(pid), .. } => format!("pid {pid}"),
            Via::Unix { pid: None, .. } => "unix".to_owned(),
            Via::Plain(address) | Via::Tls(address, _) => address.to_string(),
        }
    }

    /// Whose calls are counted together while nobody knows who it is.
    fn address(&self) -> String {
        match &self.via {
            Via::Unix { uid, .. } => format!("uid {uid}"),
            Via::Plain(address) | Via::Tls(address, _) => address.ip().to_string(),
        }
    }
}
