//! HTTP as downloads need it. In: a URL, and from where on. Out: the head of the answer and its body. It refuses URLs of other kinds,
//! and redirections that lead away from HTTPS.
//!
//! The client is ureq with rustls, as in bootjackd: what reads here writes to a disk, so nothing is gained by an asynchronous one.
//! Certificates are believed as this computer believes them; proxies are those of ALL_PROXY, HTTPS_PROXY, HTTP_PROXY and NO_PROXY.

use std::io::Read;
use std::time::Duration;

use ureq::http::Uri;
use ureq::tls::{RootCerts, TlsConfig};

use super::answer::{Head, Range};

/// Nobody answers later than that who answers at all.
const CONNECT: Duration = Duration::from_secs(20);
const REDIRECTIONS_MAX: usize = 10;
/// Files of checksums are small.
const TEXT_MAX: u64 = 8 << 20;

pub struct Client {
    agent: ureq::Agent,
    /// For this computer itself, which no proxy reaches.
    direct: ureq::Agent,
}

/// From where on a file is wanted, and if it is still which.
#[derive(Clone, Copy, Debug)]
pub struct From<'a> {
    pub octet: u64,
    pub if_range: Option<&'a str>,
}

/// An answer whose body was not read yet.
pub struct Answer {
    pub head: Head,
    pub body: Box<dyn Read>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpError {
    /// It may work later.
    Broken(String),
    /// It is not there, and will not be.
    Gone,
    /// It will not.
    Refused(String),
}

impl Client {
    /// A transfer that stands still for so long is over.
    pub fn new(stall: Duration) -> Self {
        let settings = || {
            let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
            ureq::Agent::config_builder()
                .tls_config(tls.build())
                .timeout_connect(Some(CONNECT))
                .timeout_recv_response(Some(stall))
                .timeout_per_read(Some(stall))
                .max_redirects(0)
                .http_status_as_error(false)
                // The file as it is kept there, or its digest would be another one.
                .accept_encoding("identity")
                .user_agent(concat!("bootjack/", env!("CARGO_PKG_VERSION")))
        };
        Self {
            agent: settings().build().new_agent(),
            direct: settings().proxy(None).build().new_agent(),
        }
    }

    /// Asks for a file, and follows where the server leads.
    pub fn get(&self, url: &str, from: Option<From<'_>>) -> Result<Answer, HttpError> {
        let mut at = check(url).map_err(HttpError::Refused)?;
        for _ in 0..=REDIRECTIONS_MAX {
            let agent = match is_this_computer(&at) {
                true => &self.direct,
                false => &self.agent,
            };
            let mut request = agent.get(&at);
            if let Some(from) = from {
                request = request.header("Range", format!("bytes={}-", from.octet));
                if let Some(validator) = from.if_range {
                    request = request.header("If-Range", validator);
                }
            }
            let response = request.call().map_err(|error| broken(&error))?;
            let status = response.status().as_u16();
            let header = |name: &str| {
                let value = response.headers().get(name)?;
                Some(value.to_str().ok()?.to_owned())
            };
            if matches!(status, 301 | 302 | 303 | 307 | 308) {
                let to = header("location").ok_or_else(|| {
                    HttpError::Refused("the server leads elsewhere, and does not say where".into())
                })?;
                at = lead(&at, &to).map_err(HttpError::Refused)?;
                continue;
            }
            let head = Head {
                status,
                length: header("content-length").and_then(|length| length.parse().ok()),
                range: header("content-range").and_then(|range| Range::parse(&range)),
                etag: header("etag"),
                modified: header("last-modified"),
            };
            let body = response.into_body();
            let body = body.into_with_config().limit(u64::MAX).reader();
            return Ok(Answer {
                head,
                body: Box::new(body),
            });
        }
        Err(HttpError::Refused(format!(
            "the server leads elsewhere more than {REDIRECTIONS_MAX} times"
        )))
    }

    /// A small file, as text.
    pub fn text(&self, url: &str) -> Result<String, HttpError> {
        let answer = self.get(url, None)?;
        match answer.head.status {
            200 => {}
            404 | 410 => return Err(HttpError::Gone),
            status @ (408 | 425 | 429 | 500..=599) => {
                return Err(HttpError::Broken(format!("the server answers {status}")));
            }
            status => return Err(HttpError::Refused(format!("the server answers {status}"))),
        }
        let mut text = Vec::new();
        (answer.body.take(TEXT_MAX + 1).read_to_end(&mut text))
            .map_err(|error| HttpError::Broken(error.to_string()))?;
        match text.len() as u64 {
            0..=TEXT_MAX => Ok(String::from_utf8_lossy(&text).into_owned()),
            _ => Err(HttpError::Refused("it is too long".to_owned())),
        }
    }
}

fn broken(error: &ureq::Error) -> HttpError {
    match error {
        // Trying again changes nothing.
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
            HttpError::Refused(format!("its certificate is not believed: {error}"))
        }
        ureq::Error::Io(io) if io.to_string().contains("certificate") => {
            HttpError::Refused(format!("its certificate is not believed: {io}"))
        }
        ureq::Error::InvalidProxyUrl | ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
            HttpError::Refused(error.to_string())
        }
        ureq::Error::Timeout(_) => HttpError::Broken("the server is silent".to_owned()),
        ureq::Error::Io(io) => HttpError::Broken(crate::output::io_reason(io)),
        _ => HttpError::Broken(error.to_string()),
    }
}

/// The URL, if it is one that can be asked.
pub fn check(url: &str) -> Result<String, String> {
    let uri: Uri = url
        .parse()
        .map_err(|error| format!("it is no URL: {error}"))?;
    let authority = uri.authority().ok_or("wanted https://HOST/PATH")?;
    if authority.as_str().contains('@') {
        return Err("wanted a URL without a user's name and password".to_owned());
    }
    match uri.scheme_str() {
        Some("https" | "http") => Ok(url.to_owned()),
        _ => Err("wanted https://HOST/PATH".to_owned()),
    }
}

fn is_encrypted(url: &str) -> bool {
    url.starts_with("https://")
}

/// Whether nobody on the way can change what comes from there.
pub fn is_safe(url: &str) -> bool {
    is_encrypted(url) || is_this_computer(url)
}

/// Where `to` leads from `at`: over HTTPS, or from this computer to itself.
fn lead(at: &str, to: &str) -> Result<String, String> {
    let scheme_end = at.find("://").map_or(0, |end| end + 3);
    let host_end = at[scheme_end..]
        .find(['/', '?', '#'])
        .map_or(at.len(), |end| scheme_end + end);
    let to = to.split('#').next().unwrap_or(to);
    let target = if to.contains("://") {
        to.to_owned()
    } else if let Some(rest) = to.strip_prefix("//") {
        format!("{}{rest}", &at[..scheme_end])
    } else if to.starts_with('/') {
        format!("{}{to}", &at[..host_end])
    } else {
        let path = at[host_end..].split(['?', '#']).next().unwrap_or_default();
        let directory = path.rfind('/').map_or("/", |end| &path[..=end]);
        format!("{}{directory}{to}", &at[..host_end])
    };
    let target = check(&target)?;
    let stays = !is_encrypted(at) && is_this_computer(at) && is_this_computer(&target);
    match is_encrypted(&target) || stays {
        true => Ok(target),
        false => Err(format!(
            "the server leads to {target}, which is not encrypted"
        )),
    }
}

fn is_this_computer(url: &str) -> bool {
    let uri: Option<Uri> = url.parse().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_leads_over_https_or_nowhere() {
        let https = "https://a.example/dir/file?x=1";
        for (to, target) in [
            ("https://b.example/f", "https://b.example/f"),
            ("//b.example/f", "https://b.example/f"),
            ("/f", "https://a.example/f"),
            ("f?y=2", "https://a.example/dir/f?y=2"),
        ] {
            assert_eq!(lead(https, to).unwrap(), target);
        }
        for to in [
            "http://a.example/f",
            "http://127.0.0.1/f",
            "file:///etc/shadow",
            "ftp://a.example/",
            "https://me:secret@a.example/",
            "https://",
        ] {
            assert!(lead(https, to).is_err(), "{to}");
        }
        assert!(lead("http://a.example/", "http://127.0.0.1/").is_err());
        assert!(lead("https://127.0.0.1/", "http://127.0.0.1/").is_err());
        let here = "http://127.0.0.1:80/a";
        assert_eq!(lead(here, "/b").unwrap(), "http://127.0.0.1:80/b");
        assert!(lead(here, "http://[::1]:8080/b").is_ok());
        assert!(lead(here, "http://a.example/").is_err());
        assert!(lead(here, "https://a.example/").is_ok());
    }
}
