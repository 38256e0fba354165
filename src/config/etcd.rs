//! `store.backend` and `[store.etcd]`: whether the store is this machine's own, or one that several share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::reader::{At, Section};

/// What every key begins with unless the file says otherwise.
pub const DEFAULT_PREFIX: &str = "bootjack";
/// How long one server may take unless the file says otherwise: an election takes a second.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);

/// Where records are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// In `data_dir`.
    Sled,
    Etcd(Etcd),
}

/// An etcd, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etcd {
    /// `http://HOST:PORT` or `https://HOST:PORT`.
    pub endpoints: Vec<String>,
    pub prefix: String,
    /// Who signed the servers' certificates, in PEM; there if an endpoint is https.
    pub ca: Option<PathBuf>,
    /// The client's own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// A name, and the file that holds its password.
    pub login: Option<(String, PathBuf)>,
    /// How long one server may take for one call.
    pub timeout: Duration,
}

/// Reads both; `lines` gets those of files.
pub(super) fn read_backend(
    store: &mut Section,
    lines: &mut BTreeMap<&'static str, usize>,
) -> Backend {
    let wanted = store.text("backend");
    let has_section = store.has("etcd");
    let mut section = store.section("etcd");
    let etcd = read_etcd(&mut section, lines);
    section.finish();
    let is_etcd = match &wanted {
        None => false,
        Some(at) => match at.value.as_str() {
            "sled" => false,
            "etcd" => true,
            _ => {
                store.report(at.line, "backend", "wanted \"sled\" or \"etcd\"");
                return Backend::Sled;
            }
        },
    };
    if has_section && !is_etcd {
        let text =
            "says where etcd is, and store.backend is not \"etcd\"; set it, or leave this out";
        store.report(section.line(), "etcd", text);
    }
    if !is_etcd {
        return Backend::Sled;
    }
    if let Some(line) = store.line_of("snapshot_period") {
        let text = "is of the store in data_dir, and store.backend is \"etcd\"; leave it out";
        store.report(line, "snapshot_period", text);
    }
    if etcd.endpoints.is_empty() && !section.has("endpoints") {
        let line = wanted.map_or(section.line(), |at| at.line);
        let line = if has_section { section.line() } else { line };
        let text = "is missing; wanted the servers of etcd, like [\"http://192.0.2.11:2379\"]";
        section.report(line, "endpoints", text);
    }
    Backend::Etcd(etcd)
}

fn read_etcd(section: &mut Section, lines: &mut BTreeMap<&'static str, usize>) -> Etcd {
    let listed = section.texts("endpoints");
    if let Some(at) = listed.as_ref().filter(|at| at.value.is_empty()) {
        section.report(at.line, "endpoints", "wanted at least one server");
    }
    let listed = listed.map(|at| at.value).unwrap_or_default();
    for (index, at) in listed.iter().enumerate() {
        if let Err(problem) = check_endpoint(&at.value) {
            section.report(at.line, &format!("endpoints[{index}]"), problem);
        }
    }
    let prefix = section.text("prefix");
    if let Some(at) = &prefix
        && let Err(problem) = check_prefix(&at.value)
    {
        section.report(at.line, "prefix", problem);
    }
    let mut path = |key: &'static str, place: &'static str| {
        let at = section.text(key)?;
        if at.value.is_empty() {
            section.report(at.line, key, "wanted a path, got an empty string");
        }
        lines.insert(place, at.line);
        Some(At {
            line: at.line,
            value: PathBuf::from(at.value),
        })
    };
    let ca = path("ca", "store.etcd.ca");
    let certificate = path("cert", "store.etcd.cert");
    let key = path("key", "store.etcd.key");
    let password_file = path("password_file", "store.etcd.password_file");
    let user = section.text("user");
    check_tls(section, &listed, ca.as_ref(), certificate.as_ref());
    Etcd {
        endpoints: listed.into_iter().map(|at| at.value).collect(),
        prefix: prefix.map_or_else(|| DEFAULT_PREFIX.to_owned(), |at| at.value),
        ca: ca.map(|at| at.value),
        identity: both(section, ("cert", certificate), ("key", key)),
        login: both(section, ("user", user), ("password_file", password_file)),
        timeout: read_timeout(section),
    }
}

/// Two keys of which neither means anything without the other.
fn both<A, B>(
    section: &Section,
    (a, left): (&str, Option<At<A>>),
    (b, right): (&str, Option<At<B>>),
) -> Option<(A, B)> {
    match (left, right) {
        (Some(left), Some(right)) => Some((left.value, right.value)),
        (Some(alone), None) => {
            section.report(
                alone.line,
                a,
                format!("needs {} beside it", section.place(b)),
            );
            None
        }
        (None, Some(alone)) => {
            section.report(
                alone.line,
                b,
                format!("needs {} beside it", section.place(a)),
            );
            None
        }
        (None, None) => None,
    }
}

fn check_tls(
    section: &Section,
    endpoints: &[At<String>],
    ca: Option<&At<PathBuf>>,
    certificate: Option<&At<PathBuf>>,
) {
    let secured = endpoints.iter().find(|at| at.value.starts_with("https://"));
    match (secured, ca.or(certificate)) {
        (Some(at), _) if ca.is_none() => {
            let text = "an https endpoint needs store.etcd.ca: who signed its certificate";
            section.report(at.line, "endpoints", text);
        }
        (None, Some(at)) if !endpoints.is_empty() => {
            let key = if ca.is_some() { "ca" } else { "cert" };
            let text = "is for https, and no endpoint begins with https://";
            section.report(at.line, key, text);
        }
        _ => {}
    }
}

fn check_endpoint(text: &str) -> Result<(), String> {
    let wanted = || format!("`{text}` is no endpoint; write it like http://192.0.2.11:2379");
    let rest = (text.strip_prefix("http://")).or_else(|| text.strip_prefix("https://"));
    let (host, port) = rest
        .and_then(|rest| rest.rsplit_once(':'))
        .ok_or_else(wanted)?;
    let is_host = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c);
    match port.parse::<u16>() {
        Ok(1..) if !host.is_empty() && host.chars().all(is_host) => Ok(()),
        _ => Err(wanted()),
    }
}

fn check_prefix(text: &str) -> Result<(), &'static str> {
    let is_good = |c: char| c.is_ascii_graphic();
    let is_sound =
        (1..=128).contains(&text.len()) && text.chars().all(is_good) && !text.ends_with('/');
    match is_sound {
        true => Ok(()),
        false => Err("wanted 1 to 128 letters, digits and signs, and no / at the end"),
    }
}

fn read_timeout(section: &mut Section) -> Duration {
    let Some(at) = section.text("timeout") else {
        return DEFAULT_TIMEOUT;
    };
    let wanted = Duration::from_millis(100)..=Duration::from_secs(60);
    let problem = match humantime::parse_duration(&at.value) {
        Ok(timeout) if wanted.contains(&timeout) => return timeout,
        Ok(_) => format!("{} is not between 100ms and 60s", at.value),
        Err(error) => format!("`{}` does not parse: {error}; write it like 2s", at.value),
    };
    section.report(at.line, "timeout", problem);
    DEFAULT_TIMEOUT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Backend, Vec<String>) {
        let (config, problems) = crate::config::read(text, None);
        let problems = (problems.iter())
            .map(|p| format!("{} {}: {}", p.line, p.place, p.text))
            .filter(|p| p.contains("store"));
        (config.store.backend, problems.collect())
    }

    #[test]
    fn the_store_is_the_machines_own_unless_the_file_names_an_etcd() {
        assert_eq!(read(""), (Backend::Sled, vec![]));
        assert_eq!(
            read("[store]\nbackend = \"sled\"\n"),
            (Backend::Sled, vec![])
        );
        let (backend, problems) = read(
            r#"[store]
backend = "etcd"
[store.etcd]
endpoints = ["https://a.example:2379", "https://[2001:db8::1]:2379"]
prefix = "lab/one"
ca = "/ca"
cert = "/cert"
key = "/key"
user = "me"
password_file = "/pw"
timeout = "500ms"
"#,
        );
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(
            backend,
            Backend::Etcd(Etcd {
                endpoints: ["https://a.example:2379", "https://[2001:db8::1]:2379"]
                    .map(str::to_owned)
                    .to_vec(),
                prefix: "lab/one".to_owned(),
                ca: Some("/ca".into()),
                identity: Some(("/cert".into(), "/key".into())),
                login: Some(("me".to_owned(), "/pw".into())),
                timeout: Duration::from_millis(500),
            })
        );
    }

    #[test]
    fn what_contradicts_itself_is_said_with_its_line() {
        for (text, wanted) in [
            ("[store]\nbackend = \"redis\"\n", "2 store.backend: wanted"),
            (
                "[store]\nbackend = \"etcd\"\n",
                "2 store.etcd.endpoints: is missing",
            ),
            (
                "[store.etcd]\nendpoints = [\"http://a:1\"]\n",
                "1 store.etcd: says where etcd is",
            ),
            (
                "[store]\nbackend = \"etcd\"\nsnapshot_period = \"1h\"\n[store.etcd]\nendpoints = [\"http://a:1\"]\n",
                "3 store.snapshot_period: is of the store in data_dir",
            ),
            (
                "[store]\nbackend = \"etcd\"\n[store.etcd]\nendpoints = [\"https://a:1\"]\n",
                "4 store.etcd.endpoints: an https endpoint needs store.etcd.ca",
            ),
            (
                "[store]\nbackend = \"etcd\"\n[store.etcd]\nendpoints = [\"http://a:1\"]\nca = \"/ca\"\n",
                "5 store.etcd.ca: is for https",
            ),
            (
                "[store]\nbackend = \"etcd\"\n[store.etcd]\nendpoints = [\"a:2379\"]\n",
                "4 store.etcd.endpoints[0]: `a:2379` is no endpoint",
            ),
            (
                "[store]\nbackend = \"etcd\"\n[store.etcd]\nendpoints = [\"http://a:1\"]\nuser = \"me\"\n",
                "5 store.etcd.user: needs store.etcd.password_file",
            ),
            (
                "[store]\nbackend = \"etcd\"\n[store.etcd]\nendpoints = [\"http://a:1\"]\nprefix = \"a/\"\n",
                "5 store.etcd.prefix: wanted",
            ),
            (
                "[store]\nbackend = \"etcd\"\n[store.etcd]\nendpoints = [\"http://a:1\"]\ntimeout = \"1h\"\n",
                "5 store.etcd.timeout: 1h is not between",
            ),
        ] {
            let (_, problems) = read(text);
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            assert!(problems[0].starts_with(wanted), "{problems:?}");
        }
    }
}
