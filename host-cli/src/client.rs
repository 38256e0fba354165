//! The connection to bootjackd: from a server address to a client, from a gRPC status to an exit status.

use std::fmt;
use std::io::ErrorKind;
use std::str::FromStr;
use std::time::Duration;

use bootjack_api::v1::reservations_client::ReservationsClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::exit::{Exit, Failure};
use crate::output::io_reason;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Where bootjackd's gRPC listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// The path of a unix socket.
    Unix(String),
    /// `host:port`, without TLS.
    Tcp(String),
}

impl Default for Server {
    /// Where an installed bootjackd listens.
    fn default() -> Self {
        Self::Unix("/run/bootjack/api.sock".to_owned())
    }
}

impl FromStr for Server {
    type Err = String;

    /// Understands `unix:PATH`, a path that has a slash, `http://HOST:PORT` and `HOST:PORT`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = "wanted unix:PATH, HOST:PORT or http://HOST:PORT";
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" => Err(format!("{wanted}, got no path")),
                _ => Ok(Self::Unix(path.to_owned())),
            };
        }
        if text.starts_with("https:") {
            return Err(
                "https is not spoken yet; use http:// on a trusted link, or unix:PATH".to_owned(),
            );
        }
        let authority = match text.strip_prefix("http://") {
            Some(rest) => rest.strip_suffix('/').unwrap_or(rest),
            None if text.contains('/') => return Ok(Self::Unix(text.to_owned())),
            None => text,
        };
        let port = authority
            .rsplit_once(':')
            .map(|(host, port)| (host, port.parse::<u16>()));
        match port {
            Some((host, Ok(_))) if !host.is_empty() => Ok(Self::Tcp(authority.to_owned())),
            _ => Err(format!("{wanted}, got no port in `{text}`")),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{path}"),
            Self::Tcp(authority) => f.write_str(authority),
        }
    }
}

/// A client for reservations.
pub async fn connect(server: &Server) -> Result<ReservationsClient<Channel>, Failure> {
    Ok(ReservationsClient::new(channel(server).await?))
}

/// Connects at once, so that a server that is not there is told apart from one that refuses a call.
pub async fn channel(server: &Server) -> Result<Channel, Failure> {
    let uri = match server {
        Server::Unix(path) => format!("unix:{path}"),
        Server::Tcp(authority) => format!("http://{authority}"),
    };
    let endpoint = Endpoint::from_shared(uri).map_err(|_| {
        Failure::new(
            Exit::Invalid,
            format!("server address {server} is not valid"),
        )
    })?;
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT)
        .connect()
        .await
        .map_err(|error| unreachable(server, &error))
}

/// The sentence and exit status of a call that bootjackd answered with an error.
pub fn refused(server: &Server, status: &Status) -> Failure {
    let exit = match status.code() {
        Code::InvalidArgument | Code::OutOfRange => Exit::Invalid,
        Code::NotFound => Exit::NotFound,
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => Exit::Conflict,
        Code::PermissionDenied | Code::Unauthenticated => Exit::Missing,
        Code::DeadlineExceeded => Exit::Timeout,
        Code::Cancelled if status.message().contains("Timeout") => Exit::Timeout,
        _ => Exit::Service,
    };
    let message = match (exit, status.message()) {
        (Exit::Timeout, _) => format!(
            "bootjackd at {server} took longer than {} s; look at its log",
            REQUEST_TIMEOUT.as_secs()
        ),
        (_, "") => format!(
            "bootjackd at {server} answered {:?} and nothing more",
            status.code()
        ),
        (_, message) => message.to_owned(),
    };
    Failure::new(exit, message)
}

fn unreachable(server: &Server, error: &(dyn std::error::Error + 'static)) -> Failure {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return not_connected(server, io.kind(), &io_reason(io));
        }
        cause = error.source();
    }
    not_connected(
        server,
        ErrorKind::Other,
        "it does not speak gRPC, or not in time",
    )
}

fn not_connected(server: &Server, kind: ErrorKind, reason: &str) -> Failure {
    let (exit, next) = match (kind, server) {
        (ErrorKind::PermissionDenied, _) => (
            Exit::Missing,
            "run as a user that may open the socket, such as root",
        ),
        (_, Server::Unix(_)) => (
            Exit::Service,
            "start bootjackd, or say with --server (or BOOTJACK_SERVER) where it listens",
        ),
        (_, Server::Tcp(_)) => (
            Exit::Service,
            "start bootjackd, or see `grpc.listen` in its bootjackd.toml for the address",
        ),
    };
    Failure::new(
        exit,
        format!("cannot reach bootjackd at {server}: {reason}; {next}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_addresses_are_understood_in_every_documented_form() {
        let unix = |path: &str| Ok(Server::Unix(path.to_owned()));
        let tcp = |authority: &str| Ok(Server::Tcp(authority.to_owned()));
        for (text, server) in [
            (
                "unix:/run/bootjack/api.sock",
                unix("/run/bootjack/api.sock"),
            ),
            (
                "unix:///run/bootjack/api.sock",
                unix("/run/bootjack/api.sock"),
            ),
            (
                "unix:target/lab/run/api.sock",
                unix("target/lab/run/api.sock"),
            ),
            ("./api.sock", unix("./api.sock")),
            ("http://198.18.0.1:50051", tcp("198.18.0.1:50051")),
            ("http://198.18.0.1:50051/", tcp("198.18.0.1:50051")),
            ("provisioner:50051", tcp("provisioner:50051")),
            ("[::1]:50051", tcp("[::1]:50051")),
        ] {
            assert_eq!(text.parse(), server, "{text}");
        }
        for (text, part) in [
            ("provisioner", "got no port in `provisioner`"),
            (":50051", "wanted unix:PATH, HOST:PORT or http://HOST:PORT"),
            ("unix:", "got no path"),
            ("https://provisioner:443", "https is not spoken yet"),
        ] {
            let error = text.parse::<Server>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_status_keeps_the_servers_sentence_and_gets_its_exit_status() {
        let server = Server::Tcp("provisioner:50051".to_owned());
        for (code, exit) in [
            (Code::InvalidArgument, Exit::Invalid),
            (Code::NotFound, Exit::NotFound),
            (Code::AlreadyExists, Exit::Conflict),
            (Code::Aborted, Exit::Conflict),
            (Code::FailedPrecondition, Exit::Conflict),
            (Code::PermissionDenied, Exit::Missing),
            (Code::Unavailable, Exit::Service),
            (Code::Internal, Exit::Service),
        ] {
            let failure = refused(&server, &Status::new(code, "reservation node-3: no"));
            assert_eq!(
                failure,
                Failure::new(exit, "reservation node-3: no"),
                "{code:?}"
            );
        }
        let late = refused(&server, &Status::deadline_exceeded("x"));
        assert_eq!(late.exit, Exit::Timeout);
        let mute = refused(&server, &Status::internal(""));
        assert_eq!(
            mute.message,
            "bootjackd at provisioner:50051 answered Internal and nothing more"
        );
    }
}
