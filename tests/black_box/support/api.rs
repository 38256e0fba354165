//! Clients of the service that are ours: HTTP by the octet, and gRPC by the published contract.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bootjack_api::v1;
use bootjack_api::v1::machines_client::MachinesClient;
use bootjack_api::v1::reservations_client::ReservationsClient;
use hyper_util::rt::TokioIo;
use prost_types::FieldMask;
use tokio::runtime::Runtime;
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::netns::Netns;
use super::service::Home;

/// Where `Home::config` has HTTP listen.
pub const HTTP: &str = "198.18.0.1:80";
/// A hang is a failure; this only bounds how long one is waited for.
const HANG: Duration = Duration::from_secs(60);

/// One HTTP connection, kept alive.
pub struct Http {
    stream: BufReader<TcpStream>,
}

/// What came back.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Http {
    /// Connects to the service from inside its own namespace.
    pub fn connect(netns: &Netns) -> Self {
        Self::over(connect(netns, HTTP).expect("HTTP listens"))
    }

    /// The same from this address, which becomes the namespace's.
    pub fn connect_from(netns: &Netns, from: &str) -> Self {
        Self::over(connect_from(netns, from, HTTP).expect("HTTP listens"))
    }

    pub fn over(stream: TcpStream) -> Self {
        stream
            .set_read_timeout(Some(HANG))
            .expect("a time-out can be set");
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Sends these octets and nothing else.
    pub fn send(&mut self, request: impl AsRef<[u8]>) {
        let sent = self.stream.get_mut().write_all(request.as_ref());
        sent.expect("the service reads");
    }

    /// A request line and its headers, as they are given.
    pub fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)]) {
        let headers: String = (headers.iter())
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        self.send(format!(
            "{method} {target} HTTP/1.1\r\nHost: boot\r\n{headers}\r\n"
        ));
    }

    /// Asks and reads the whole answer.
    pub fn ask(&mut self, method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
        self.request(method, target, headers);
        self.answer(method != "HEAD")
    }

    pub fn get(&mut self, target: &str) -> Response {
        self.ask("GET", target, &[])
    }

    /// Reads an answer; one to HEAD has no body.
    pub fn answer(&mut self, has_body: bool) -> Response {
        let mut response = self.head();
        if !has_body || matches!(response.status, 204 | 304) {
            return response;
        }
        let length = (response.header("content-length"))
            .unwrap_or_else(|| panic!("boot clients want a Content-Length: {response:?}"));
        response.body = vec![0; length.parse().expect("a number")];
        self.read(&mut response.body);
        response
    }

    /// Reads status and headers, and leaves the body where it is.
    pub fn head(&mut self) -> Response {
        let mut line = || {
            let mut line = String::new();
            let read = self.stream.read_line(&mut line).expect("an answer");
            assert!(read > 0, "the service closed the connection");
            line.trim_end().to_owned()
        };
        let status = line();
        let mut headers = Vec::new();
        loop {
            let line = line();
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Response {
            status: (status.split(' ').nth(1).and_then(|code| code.parse().ok()))
                .unwrap_or_else(|| panic!("no status line: {status}")),
            headers,
            body: Vec::new(),
        }
    }

    /// Sends what the service takes before it hangs up.
    pub fn send_what_is_taken(&mut self, request: &str) {
        let _ = self.stream.get_mut().write_all(request.as_bytes());
    }

    /// Reads an answer, unless the service hung up: a reset may overtake the answer.
    pub fn answer_if_any(&mut self) -> Option<Response> {
        match self.stream.fill_buf() {
            Ok(answer) if !answer.is_empty() => Some(self.answer(true)),
            Ok(_) => None,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("neither answered nor closed: {error}"),
        }
    }

    /// Fills the buffer with the next octets of a body.
    pub fn read(&mut self, buffer: &mut [u8]) {
        let read = self.stream.read_exact(buffer);
        read.expect("as many octets as were promised");
    }

    /// Whether the service closes the connection, with nothing more to say.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0))
    }
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }
}

/// A TCP connection from inside the namespace.
pub fn connect(netns: &Netns, address: &str) -> std::io::Result<TcpStream> {
    let address: SocketAddr = address.parse().expect("an address");
    netns.inside(|| TcpStream::connect_timeout(&address, HANG))
}

/// The same, from an address that the namespace is given for it: a machine's, to be taken for that machine.
pub fn connect_from(netns: &Netns, from: &str, address: &str) -> std::io::Result<TcpStream> {
    netns.ip(&["address", "replace", &format!("{from}/32"), "dev", "lo"]);
    let source: SocketAddr = format!("{from}:0").parse().expect("an address");
    let address: SocketAddr = address.parse().expect("an address");
    netns.inside(|| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&source.into())?;
        socket.connect_timeout(&address.into(), HANG)?;
        Ok(socket.into())
    })
}

/// One GET from this address.
pub fn get_from(netns: &Netns, from: &str, target: &str) -> Response {
    Http::connect_from(netns, from).get(target)
}

/// One GET on a connection of its own.
pub fn get(netns: &Netns, target: &str) -> Response {
    Http::connect(netns).get(target)
}

/// A gRPC client that waits for each answer.
pub struct Api {
    runtime: Runtime,
    channel: Channel,
}

type Answer<T> = Result<T, Status>;

impl Api {
    /// Over the socket of `Home::config`.
    pub fn unix(home: &Home) -> Self {
        Self::at(&home.api())
    }

    /// Over the socket of this address, `unix:PATH`.
    pub fn at(address: &str) -> Self {
        let endpoint = Endpoint::from_shared(address.to_owned()).expect("an address");
        Self::made(async move { endpoint.connect().await.expect("gRPC listens") })
    }

    /// Over TCP, from inside the namespace.
    pub fn tcp(netns: &Netns, address: &str) -> Self {
        let stream = connect(netns, address).expect("gRPC listens");
        stream.set_nonblocking(true).expect("it can be");
        let mut once = Some(stream);
        Self::made(async move {
            let connector = tower::service_fn(move |_| {
                let stream = once.take().ok_or(std::io::ErrorKind::ConnectionReset);
                async { tokio::net::TcpStream::from_std(stream?).map(TokioIo::new) }
            });
            let endpoint = Endpoint::from_static("http://in-the-namespace");
            let connected = endpoint.connect_with_connector(connector).await;
            connected.expect("it speaks HTTP/2")
        })
    }

    /// Over TLS, from inside the namespace, to a server that this authority signed; with a client's certificate and key.
    pub fn tls(
        netns: &Netns,
        address: &str,
        ca: &Path,
        certificate: Option<(PathBuf, PathBuf)>,
    ) -> Self {
        let stream = connect(netns, address).expect("gRPC listens");
        stream.set_nonblocking(true).expect("it can be");
        let mut once = Some(stream);
        let read = |file: &Path| std::fs::read(file).expect("it is there");
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)));
        if let Some((certificate, key)) = certificate {
            tls = tls.identity(Identity::from_pem(read(&certificate), read(&key)));
        }
        let uri = format!("https://{address}");
        Self::made(async move {
            let connector = tower::service_fn(move |_| {
                let stream = once.take().ok_or(std::io::ErrorKind::ConnectionReset);
                async { tokio::net::TcpStream::from_std(stream?).map(TokioIo::new) }
            });
            let endpoint = Endpoint::from_shared(uri).expect("an address");
            let endpoint = endpoint.tls_config(tls).expect("certificates");
            let connected = endpoint.connect_with_connector(connector).await;
            connected.expect("it speaks TLS and HTTP/2")
        })
    }

    fn made(channel: impl Future<Output = Channel>) -> Self {
        // Its connection is attended to also while the test does something else.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let channel = runtime.block_on(channel);
        Self { runtime, channel }
    }

    /// For services beside ours, such as health and reflection.
    pub fn with<T>(&self, work: impl AsyncFnOnce(Channel) -> T) -> T {
        self.runtime.block_on(async {
            let done = tokio::time::timeout(HANG, work(self.channel.clone())).await;
            done.expect("an answer in time")
        })
    }

    fn call<T>(
        &self,
        work: impl AsyncFnOnce(&mut ReservationsClient<Channel>) -> Answer<tonic::Response<T>>,
    ) -> Answer<T> {
        let answer = self.with(async |channel| work(&mut ReservationsClient::new(channel)).await);
        answer.map(tonic::Response::into_inner)
    }

    pub fn create(&self, reservation: v1::Reservation) -> Answer<v1::Reservation> {
        self.create_as("", reservation)
    }

    /// Creates with a `reservation_id`.
    pub fn create_as(&self, id: &str, reservation: v1::Reservation) -> Answer<v1::Reservation> {
        let request = v1::CreateReservationRequest {
            reservation: Some(reservation),
            reservation_id: id.to_owned(),
            ..Default::default()
        };
        self.call(async |client| client.create_reservation(request).await)
    }

    pub fn get(&self, name: &str) -> Answer<v1::Reservation> {
        let request = v1::GetReservationRequest {
            name: name.to_owned(),
        };
        self.call(async |client| client.get_reservation(request).await)
    }

    pub fn page(&self, size: i32, token: &str) -> Answer<v1::ListReservationsResponse> {
        let request = v1::ListReservationsRequest {
            page_size: size,
            page_token: token.to_owned(),
            ..Default::default()
        };
        self.call(async |client| client.list_reservations(request).await)
    }

    /// Calls the machines' service.
    pub fn machines<T>(
        &self,
        work: impl AsyncFnOnce(&mut MachinesClient<Channel>) -> Answer<tonic::Response<T>>,
    ) -> Answer<T> {
        let answer = self.with(async |channel| work(&mut MachinesClient::new(channel)).await);
        answer.map(tonic::Response::into_inner)
    }

    /// The names of all there are.
    pub fn names(&self) -> Vec<String> {
        let page = self.page(0, "").expect("a list");
        assert_eq!(page.next_page_token, "", "more than one page");
        page.reservations.into_iter().map(|r| r.name).collect()
    }

    /// Updates these fields; none stands for no mask at all.
    pub fn update(&self, mask: &[&str], reservation: v1::Reservation) -> Answer<v1::Reservation> {
        let paths: Vec<String> = mask.iter().map(|path| (*path).to_owned()).collect();
        let request = v1::UpdateReservationRequest {
            reservation: Some(reservation),
            update_mask: (!paths.is_empty()).then_some(FieldMask { paths }),
            ..Default::default()
        };
        self.call(async |client| client.update_reservation(request).await)
    }

    pub fn delete(&self, name: &str, etag: &str) -> Answer<()> {
        let request = v1::DeleteReservationRequest {
            name: name.to_owned(),
            etag: etag.to_owned(),
            ..Default::default()
        };
        self.call(async |client| client.delete_reservation(request).await)
    }
}

/// `node-N` with MAC 52:54:00:00:00:N and address 198.18.0.N.
pub fn node(n: u8) -> v1::Reservation {
    v1::Reservation {
        mac: format!("52:54:00:00:00:{n:02x}"),
        address: format!("198.18.0.{n}"),
        hostname: format!("node-{n}"),
        ..v1::Reservation::default()
    }
}

/// A variable that is text.
pub fn text(value: &str) -> prost_types::Value {
    prost_types::Value {
        kind: Some(prost_types::value::Kind::StringValue(value.to_owned())),
    }
}
