//! Which bootjackd, and who asks it: an address and what proves who we are. In: flags and environment variables. Out: a `Server`
//! that makes sense as a whole. It refuses half a client certificate, and a token on a way that others can read.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use tonic::metadata::{Ascii, MetadataValue};

use crate::exit::{Exit, Failure};

/// Where bootjackd's gRPC listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The path of a unix socket.
    Unix(String),
    /// `host:port`, without TLS.
    Tcp(String),
    /// `host:port`, with TLS.
    Tls(String),
}

/// A bootjackd, and who we are to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub place: Place,
    pub access: Access,
}

/// What proves who we are, and who bootjackd must be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Access {
    /// Certificate of the authority that signed bootjackd's, in PEM; the system's authorities without it [env: BOOTJACK_CA]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// Our certificate, in PEM: bootjack auth issue makes one [env: BOOTJACK_CERT]
    #[arg(long, value_name = "FILE")]
    pub cert: Option<PathBuf>,

    /// Its key, in PEM [env: BOOTJACK_KEY]
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,

    /// File with a token instead of a certificate; or the token itself in BOOTJACK_TOKEN [env: BOOTJACK_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

impl Access {
    /// What was given here, and else what was given there.
    pub fn or(self, other: Self) -> Self {
        Self {
            ca: self.ca.or(other.ca),
            cert: self.cert.or(other.cert),
            key: self.key.or(other.key),
            token_file: self.token_file.or(other.token_file),
        }
    }

    /// What the environment gives.
    pub fn of_environment() -> Self {
        let path = |name: &str| {
            let value = std::env::var_os(name).filter(|value| !value.is_empty());
            value.map(PathBuf::from)
        };
        Self {
            ca: path("BOOTJACK_CA"),
            cert: path("BOOTJACK_CERT"),
            key: path("BOOTJACK_KEY"),
            token_file: path("BOOTJACK_TOKEN_FILE"),
        }
    }

    /// Without certificates.
    pub fn token_alone(self) -> Self {
        Self {
            token_file: self.token_file,
            ..Self::default()
        }
    }
}

impl Server {
    /// That of a unix socket, which knows who we are.
    pub fn unix(path: impl Into<String>) -> Self {
        Place::Unix(path.into()).into()
    }

    /// An address and what was given to get in there.
    pub fn new(place: Place, access: Access) -> Result<Self, Failure> {
        let usage = |text: String| Err(Failure::new(Exit::Usage, text));
        if access.cert.is_some() != access.key.is_some() {
            return usage("a certificate goes with its key; give both --cert and --key".to_owned());
        }
        let is_tls = matches!(place, Place::Tls(_));
        if !is_tls && (access.ca.is_some() || access.cert.is_some()) {
            return usage(format!(
                "certificates have no meaning for {place}, which is without TLS; write https://HOST:PORT"
            ));
        }
        if access.token_file.is_some() && !place.takes_token() {
            return usage(format!(
                "a token would travel to {place} in the clear; write https://HOST:PORT"
            ));
        }
        Ok(Self { place, access })
    }

    /// The token as it travels, marked so that no log shows it; none if there is none.
    pub fn bearer(&self) -> Result<Option<MetadataValue<Ascii>>, Failure> {
        let (token, place) = match &self.access.token_file {
            Some(file) => {
                let read = std::fs::read_to_string(file).map_err(Failure::io("read", file))?;
                (read, file.display().to_string())
            }
            None => match std::env::var("BOOTJACK_TOKEN") {
                Ok(token) if !token.is_empty() && self.place.takes_token() => {
                    (token, "BOOTJACK_TOKEN".to_owned())
                }
                _ => return Ok(None),
            },
        };
        let unfit = || {
            let text =
                format!("{place}: no token; wanted what bootjack auth issue --token printed");
            Failure::new(Exit::Invalid, text)
        };
        let token = token.trim();
        if token.is_empty() || token.contains(char::is_whitespace) {
            return Err(unfit());
        }
        let mut value: MetadataValue<Ascii> =
            format!("Bearer {token}").parse().map_err(|_| unfit())?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

impl Place {
    /// Whether nobody on the way there can read a token.
    pub fn takes_token(&self) -> bool {
        match self {
            Self::Unix(_) | Self::Tls(_) => true,
            Self::Tcp(authority) => is_loopback(authority),
        }
    }
}

/// Whether what is sent there stays on this machine.
fn is_loopback(authority: &str) -> bool {
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

impl From<Place> for Server {
    fn from(place: Place) -> Self {
        let access = Access::default();
        Self { place, access }
    }
}

impl Default for Place {
    /// Where an installed bootjackd listens.
    fn default() -> Self {
        Self::Unix("/run/bootjack/api.sock".to_owned())
    }
}

impl FromStr for Place {
    type Err = String;

    /// Understands `unix:PATH`, a path that has a slash, `https://HOST:PORT`, `http://HOST:PORT` and `HOST:PORT`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = "wanted unix:PATH, https://HOST:PORT, HOST:PORT or http://HOST:PORT";
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" => Err(format!("{wanted}, got no path")),
                _ => Ok(Self::Unix(path.to_owned())),
            };
        }
        let (make, rest): (fn(String) -> Self, _) = match text.split_once("://") {
            Some(("https", rest)) => (Self::Tls, rest),
            Some(("http", rest)) => (Self::Tcp, rest),
            _ if text.contains('/') => return Ok(Self::Unix(text.to_owned())),
            _ => (Self::Tcp, text),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let port = authority
            .rsplit_once(':')
            .map(|(host, port)| (host, port.parse::<u16>()));
        match port {
            Some((host, Ok(_))) if !host.is_empty() => Ok(make(authority.to_owned())),
            _ => Err(format!("{wanted}, got no port in `{text}`")),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{path}"),
            Self::Tcp(authority) => f.write_str(authority),
            Self::Tls(authority) => write!(f, "https://{authority}"),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_addresses_are_understood_in_every_documented_form() {
        let unix = |path: &str| Ok(Place::Unix(path.to_owned()));
        let tcp = |authority: &str| Ok(Place::Tcp(authority.to_owned()));
        let tls = |authority: &str| Ok(Place::Tls(authority.to_owned()));
        for (text, place) in [
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
            ("https://198.18.0.1:50052/", tls("198.18.0.1:50052")),
            ("provisioner:50051", tcp("provisioner:50051")),
            ("[::1]:50051", tcp("[::1]:50051")),
        ] {
            assert_eq!(text.parse(), place, "{text}");
        }
        for (text, part) in [
            ("provisioner", "got no port in `provisioner`"),
            (
                ":50051",
                "wanted unix:PATH, https://HOST:PORT, HOST:PORT or http://HOST:PORT",
            ),
            ("unix:", "got no path"),
            ("https://provisioner", "got no port"),
        ] {
            let error = text.parse::<Place>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn what_proves_nothing_or_would_be_overheard_is_refused() {
        let token = || Access {
            token_file: Some("token".into()),
            ..Access::default()
        };
        let half = Access {
            cert: Some("me.pem".into()),
            ..Access::default()
        };
        let with_ca = Access {
            ca: Some("ca.pem".into()),
            ..Access::default()
        };
        let said = |place: &str, access| {
            let made = Server::new(place.parse().unwrap(), access);
            made.map_err(|failure| failure.message)
        };
        assert!(said("https://a:1", half).unwrap_err().contains("--key"));
        let plain = said("a:1", with_ca).unwrap_err();
        assert!(plain.contains("write https://HOST:PORT"), "{plain}");
        let open = said("a:1", token()).unwrap_err();
        assert!(open.contains("in the clear"), "{open}");
        for place in [
            "127.0.0.1:1",
            "[::1]:1",
            "localhost:1",
            "https://a:1",
            "unix:/s",
        ] {
            assert!(said(place, token()).is_ok(), "{place}");
        }
    }
}
