//! The connection to bootjackd: from a server address to a client, from a gRPC status to an exit status.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use bootjack_api::v1::reservations_client::ReservationsClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use crate::exit::{Exit, Failure};
use crate::output::io_reason;
use crate::refusal;
pub use crate::server::{Place, Server};

/// From the connection to the end of the handshake, which takes an emulated machine a second.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A way to bootjackd on which every call says who calls.
pub type Connection = InterceptedService<Channel, Bearer>;

/// Adds the token, if there is one, to every call.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            let metadata = request.metadata_mut();
            metadata.insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// A client for reservations.
pub async fn connect(server: &Server) -> Result<ReservationsClient<Connection>, Failure> {
    Ok(ReservationsClient::new(channel(server).await?))
}

/// Connects for calls that may take this long.
pub async fn patient_channel(server: &Server, timeout: Duration) -> Result<Connection, Failure> {
    connection(server, timeout).await
}

/// Connects at once, so that a server that is not there is told apart from one that refuses a call.
pub async fn channel(server: &Server) -> Result<Connection, Failure> {
    connection(server, REQUEST_TIMEOUT).await
}

async fn connection(server: &Server, timeout: Duration) -> Result<Connection, Failure> {
    let bearer = Bearer(server.bearer()?);
    let uri = match &server.place {
        Place::Unix(path) => format!("unix:{path}"),
        Place::Tcp(authority) => format!("http://{authority}"),
        Place::Tls(authority) => format!("https://{authority}"),
    };
    let mut endpoint = Endpoint::from_shared(uri).map_err(|_| unfit(server))?;
    if let Place::Tls(_) = server.place {
        let tls = tls(server)?;
        endpoint = endpoint.tls_config(tls).map_err(|error| {
            let text = format!("certificate or key for {server}: {}", cause_of(&error));
            Failure::new(Exit::Invalid, text)
        })?;
    }
    let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(timeout);
    // Of connecting, that timeout knows the first half alone: a machine that stands still takes connections, and says nothing.
    let channel = match tokio::time::timeout(HANDSHAKE_TIMEOUT, endpoint.connect()).await {
        Ok(connected) => connected.map_err(|error| unreachable(server, &error))?,
        Err(_) => {
            let text = format!("bootjackd at {server} does not answer");
            return Err(Failure::new(Exit::Service, text));
        }
    };
    Ok(InterceptedService::new(channel, bearer))
}

fn unfit(server: &Server) -> Failure {
    let text = format!("server address {server} is not valid");
    Failure::new(Exit::Invalid, text)
}

fn tls(server: &Server) -> Result<ClientTlsConfig, Failure> {
    let read = |file: &PathBuf| std::fs::read(file).map_err(Failure::io("read", file));
    let access = &server.access;
    let mut tls = match &access.ca {
        Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    if let (Some(cert), Some(key)) = (&access.cert, &access.key) {
        tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
    }
    Ok(tls)
}

/// What is at the bottom of an error.
fn cause_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    cause.to_string()
}

/// The sentence and exit status of a call that bootjackd answered with an error, and what its details say.
pub fn refused(server: &Server, status: &Status) -> Failure {
    let exit = refusal::exit(status);
    let message = match (exit, status.message()) {
        (Exit::Timeout, _) => format!("bootjackd at {server} took too long; look at its log"),
        _ if status.code() == tonic::Code::Unimplemented => format!(
            "bootjackd at {server} does not know this call; is it older than this bootjack ({})?",
            env!("CARGO_PKG_VERSION")
        ),
        (_, "") => format!(
            "bootjackd at {server} answered {:?} and nothing more",
            status.code()
        ),
        (_, message) => message.to_owned(),
    };
    let details = refusal::details(status);
    let more = refusal::lines(&message, &details);
    Failure {
        reason: refusal::reason(status),
        details,
        ..Failure::new(exit, message + &more)
    }
}

/// Everything that a list has, page after page; `page` answers one and the token of the next.
pub async fn all_pages<T>(
    mut page: impl AsyncFnMut(String) -> Result<(Vec<T>, String), Status>,
) -> Result<Vec<T>, Status> {
    let mut all = Vec::new();
    let mut token = String::new();
    loop {
        let (more, next) = page(token).await?;
        all.extend(more);
        if next.is_empty() {
            return Ok(all);
        }
        token = next;
    }
}

/// Runs a command that talks to bootjackd.
pub fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    runtime.block_on(command)
}

fn unreachable(server: &Server, error: &(dyn std::error::Error + 'static)) -> Failure {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if text.contains("certificate") {
            return distrusted(server, &text);
        }
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

/// The other end is not whom it should be.
fn distrusted(server: &Server, reason: &str) -> Failure {
    let next = match server.access.ca {
        Some(_) => "is it the bootjackd whose authority --ca names, under this name?",
        None => "name the authority that signed it with --ca (or BOOTJACK_CA)",
    };
    Failure::new(
        Exit::Missing,
        format!("cannot trust bootjackd at {server}: {reason}; {next}"),
    )
}

fn not_connected(server: &Server, kind: ErrorKind, reason: &str) -> Failure {
    let (exit, next) = match (kind, &server.place) {
        (ErrorKind::PermissionDenied, _) => (
            Exit::Missing,
            "run as a user that may open the socket, such as root",
        ),
        (_, Place::Unix(_)) => (
            Exit::Service,
            "start bootjackd, or say with --server (or BOOTJACK_SERVER) where it listens",
        ),
        (_, Place::Tcp(_) | Place::Tls(_)) => (
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
    use tonic::Code;

    #[test]
    fn a_status_keeps_the_servers_sentence_and_gets_its_exit_status() {
        let server = Server::from(Place::Tcp("provisioner:50051".to_owned()));
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
