//! `[grpc]`: where the API listens. It refuses to open the API to a network whose strangers could use it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::DEFAULT_GRPC_LISTEN;
use super::reader::{At, Section};

/// How gRPC is served.
#[derive(Clone, Debug, PartialEq)]
pub struct Grpc {
    /// Never empty.
    pub listen: Vec<GrpcListen>,
    pub is_default: bool,
}

/// One place where gRPC listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrpcListen {
    /// The path of a socket.
    Unix(PathBuf),
    /// A loopback address.
    Tcp(SocketAddr),
}

pub(super) fn read_grpc(section: &mut Section, lines: &mut BTreeMap<&'static str, usize>) -> Grpc {
    let example = "unix:/run/bootjack/api.sock or 127.0.0.1:50051";
    let named = section.one_or_more_parsed::<GrpcListen>("listen", example);
    section.finish();
    if let Some((_, at)) = named.first() {
        lines.insert("grpc.listen", at.line);
    }
    let mut listen = Vec::new();
    for (key, At { line, value }) in named {
        if let Some(problem) = unfit(&value, &listen) {
            section.report(line, &key, problem);
        }
        listen.push(value);
    }
    let is_default = listen.is_empty();
    if is_default {
        listen.extend(DEFAULT_GRPC_LISTEN.parse());
    }
    Grpc { listen, is_default }
}

fn unfit(place: &GrpcListen, before: &[GrpcListen]) -> Option<String> {
    if before.contains(place) {
        return Some(format!("{place} is named twice"));
    }
    match place {
        GrpcListen::Tcp(address) if !address.ip().is_loopback() => Some(format!(
            "{address} would open the reservation API to everyone on that network without any authentication; use a loopback address or unix:PATH"
        )),
        _ => None,
    }
}

impl FromStr for GrpcListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) => {
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
                Ok(Self::Unix(path.into()))
            }
            None => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| "neither unix:PATH nor ADDRESS:PORT".to_owned()),
        }
    }
}

impl fmt::Display for GrpcListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => address.fmt(f),
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
