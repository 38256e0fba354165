//! `[grpc]`: where the API listens, and who may use it. It refuses to open the API to a network whose strangers could use it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use bootjack_api::access::Scope;

use super::DEFAULT_GRPC_LISTEN;
use super::reader::{At, Section};

/// Calls a second from one peer over TCP: ten operators who script in parallel do not come near, and a loop that went wild takes a
/// few percent of a core.
pub const DEFAULT_GRPC_RATE_LIMIT: u32 = 2_000;

/// How gRPC is served, and to whom.
#[derive(Clone, Debug, PartialEq)]
pub struct Grpc {
    /// Never empty.
    pub listen: Vec<GrpcListen>,
    pub is_default: bool,
    /// The service's half of what `bootjack auth init` made.
    pub auth: Option<PathBuf>,
    /// The server's certificate and key, in PEM, where they are not those of `auth`.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Whose members may use unix sockets beside root and the service's own user, and what they may do.
    pub socket_group: Option<String>,
    pub socket_scope: Scope,
    /// Calls a second from one peer over TCP; 0 for no limit.
    pub rate_limit: u32,
    /// Where writes are noted beside the log.
    pub audit_log: Option<PathBuf>,
}

/// One place where gRPC listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrpcListen {
    /// The path of a socket.
    Unix(PathBuf),
    /// A loopback address, without TLS.
    Tcp(SocketAddr),
    /// Any address, with TLS.
    Tls(SocketAddr),
}

pub(super) fn read_grpc(section: &mut Section, lines: &mut BTreeMap<&'static str, usize>) -> Grpc {
    let example = "unix:/run/bootjack/api.sock or 127.0.0.1:50051";
    let named = section.one_or_more_parsed::<GrpcListen>("listen", example);
    let mut path = |key: &'static str, place: &'static str| {
        let at = section.text(key)?;
        lines.insert(place, at.line);
        if !at.value.starts_with('/') {
            section.report(at.line, key, "wanted an absolute path");
        }
        Some(PathBuf::from(at.value))
    };
    let auth = path("auth", "grpc.auth");
    let audit_log = path("audit_log", "grpc.audit_log");
    let certificate = path("certificate", "grpc.certificate");
    let key = path("key", "grpc.key");
    let half = [
        ("grpc.certificate", &certificate, "key"),
        ("grpc.key", &key, "certificate"),
    ];
    for (has, _, lacks) in half.into_iter().filter(|(_, path, _)| path.is_some()) {
        if certificate.is_none() || key.is_none() {
            let line = lines.get(has).copied().unwrap_or_default();
            section.report(line, lacks, format!("is missing; {has} needs it"));
        }
    }
    let socket_group = section.text("socket_group").map(|at| at.value);
    let socket_scope = section.parsed::<Scope>("socket_scope", "reserve");
    if let (Some(at), None) = (&socket_scope, &socket_group) {
        let text = "has no meaning without grpc.socket_group";
        section.report(at.line, "socket_scope", text);
    }
    let rate_limit = section.whole_number("rate_limit", 0, 1_000_000);
    section.finish();
    if let Some((_, at)) = named.first() {
        lines.insert("grpc.listen", at.line);
    }
    let mut listen = Vec::new();
    for (key, At { line, value }) in named {
        let place = value.under(auth.is_some());
        if let Some(problem) = unfit(&place, &listen, auth.is_some()) {
            section.report(line, &key, problem);
        }
        listen.push(place);
    }
    let is_default = listen.is_empty();
    if is_default {
        listen.extend(DEFAULT_GRPC_LISTEN.parse::<GrpcListen>());
    }
    Grpc {
        listen,
        is_default,
        auth,
        certificate: certificate.zip(key),
        socket_group,
        socket_scope: socket_scope.map_or(Scope::Reserve, |at| at.value),
        rate_limit: rate_limit.map_or(DEFAULT_GRPC_RATE_LIMIT, |at| at.value),
        audit_log,
    }
}

fn unfit(place: &GrpcListen, before: &[GrpcListen], has_auth: bool) -> Option<String> {
    if before.contains(place) {
        return Some(format!("{place} is named twice"));
    }
    match place {
        GrpcListen::Tcp(address) if !address.ip().is_loopback() => Some(format!(
            "{address} would open the reservation API to everyone on that network without any authentication; use a loopback address or unix:PATH, or name in grpc.auth what bootjack auth init makes"
        )),
        GrpcListen::Tls(_) if !has_auth => Some(format!(
            "{place} needs certificates; make them with bootjack auth init, and name them in grpc.auth"
        )),
        _ => None,
    }
}

impl GrpcListen {
    /// What is not on loopback speaks TLS where there is a certificate to speak it with.
    fn under(self, has_auth: bool) -> Self {
        match self {
            Self::Tcp(address) if has_auth && !address.ip().is_loopback() => Self::Tls(address),
            place => place,
        }
    }
}

impl FromStr for GrpcListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if !path.starts_with('/') {
                return Err("the socket's path is not absolute".to_owned());
            }
            // sun_path holds 108 octets with the closing NUL (unix(7)).
            if path.len() > 107 {
                return Err(format!(
                    "the socket's path has {} octets; the kernel takes 107",
                    path.len()
                ));
            }
            return Ok(Self::Unix(path.into()));
        }
        let (make, address): (fn(SocketAddr) -> Self, _) = match text.strip_prefix("tls:") {
            Some(address) => (Self::Tls, address),
            None => (Self::Tcp, text),
        };
        (address.parse().map(make))
            .map_err(|_| "neither unix:PATH nor ADDRESS:PORT nor tls:ADDRESS:PORT".to_owned())
    }
}

impl fmt::Display for GrpcListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => address.fmt(f),
            Self::Tls(address) => write!(f, "tls:{address}"),
        }
    }
}

/// Every place, for people.
impl fmt::Display for Grpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<String> = self.listen.iter().map(ToString::to_string).collect();
        f.write_str(&places.join(", "))
    }
}
