//! Who may use the API of a lab: an authority of the lab's own, the server's certificate and the lab owner's, as `bootjack auth`
//! makes them, in one directory of the lab. What is there and good for a while yet is left as it is.

use std::path::{Path, PathBuf};

use bootjack_api::access::{self, Scope};

use crate::auth::authority::{AUTHORITY_DAYS, Authority, now_secs};
use crate::auth::directory::{CLIENTS, Directory, Issued, Kind, replace};
use crate::exit::Failure;
use crate::seed::cloud_init::WAN_ADDRESS;

/// The name that the lab's owner stands under in the log of writes.
const OWNER: &str = "lab";
const DAY: u64 = 86_400;
/// So long is a certificate good.
const GOOD_FOR: u64 = 825 * DAY;
/// It is made anew when it is good for less.
const AT_LEAST: u64 = 30 * DAY;

/// The files that the host needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// The host's files in the directory.
pub fn files(root: &Path) -> Tls {
    let clients = root.join(CLIENTS);
    Tls {
        ca: root.join(access::CA_CERTIFICATE),
        certificate: clients.join(format!("{OWNER}.pem")),
        key: clients.join(format!("{OWNER}.key")),
    }
}

/// Makes what is missing in the directory, and reads the service's half: names and contents; secrets.
pub fn ensure(root: &Path) -> Result<Vec<(String, String)>, Failure> {
    let directory = Directory::make(root)?;
    if !directory.has_authority() {
        let expires = now_secs() + u64::from(AUTHORITY_DAYS) * DAY;
        let made = Authority::make(expires)?;
        directory.keep_authority(&made.certificate, &made.key)?;
        directory.add_issued(&issued(Kind::Authority, &made.serial, "authority", expires))?;
    }
    let (certificate, key) = directory.authority()?;
    let authority = Authority::read(&certificate, &key)?;
    let known = directory.issued()?;
    let is_good = |kind: Kind, files: &[&Path]| {
        let last = known.iter().rev().find(|entry| entry.kind == kind);
        last.is_some_and(|entry| entry.expires > now_secs() + AT_LEAST)
            && files.iter().all(|file| file.exists())
    };
    let expires = now_secs() + GOOD_FOR;
    let service = directory.service();
    let [server, server_key] =
        [access::SERVER_CERTIFICATE, access::SERVER_KEY].map(|name| service.join(name));
    if !is_good(Kind::Server, &[&server, &server_key]) {
        // As the host reaches it through a forwarded port, and as it is called in the lab.
        let names = ["127.0.0.1", "localhost", "provisioner"].map(str::to_owned);
        let names = [&names[..], &[WAN_ADDRESS.to_string()]].concat();
        let made = authority.server(&names, expires)?;
        directory.keep_server(&made.certificate, &made.key)?;
        directory.add_issued(&issued(
            Kind::Server,
            &made.serial,
            &names.join(" "),
            expires,
        ))?;
    }
    let (own, own_key) = directory.client(OWNER, None);
    if !is_good(Kind::Certificate, &[&own, &own_key]) {
        let made = authority.client(OWNER, Scope::Admin, expires)?;
        replace(&own_key, &made.key, 0o600)?;
        replace(&own, &made.certificate, 0o644)?;
        let entry = issued(Kind::Certificate, &made.serial, OWNER, expires);
        directory.add_issued(&entry)?;
    }
    let names = [
        access::CA_CERTIFICATE,
        access::SERVER_CERTIFICATE,
        access::SERVER_KEY,
    ];
    let service = names.map(|name| {
        let path = service.join(name);
        let text = std::fs::read_to_string(&path).map_err(Failure::io("read", &path))?;
        Ok((name.to_owned(), text))
    });
    service.into_iter().collect()
}

fn issued(kind: Kind, id: &str, name: &str, expires: u64) -> Issued {
    Issued {
        kind,
        id: id.to_owned(),
        name: name.to_owned(),
        scope: (kind == Kind::Certificate).then_some(Scope::Admin),
        created: now_secs(),
        expires,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_made_once_and_again_where_they_are_missing() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tls");
        let first = ensure(&root).unwrap();
        let names: Vec<&str> = first.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["ca.pem", "server.pem", "server.key"]);
        let files = files(&root);
        let own = std::fs::read_to_string(&files.certificate).unwrap();
        assert!(ensure(&root).unwrap() == first);
        assert_eq!(std::fs::read_to_string(&files.certificate).unwrap(), own);
        std::fs::remove_file(&files.key).unwrap();
        assert!(ensure(&root).unwrap() == first);
        assert_ne!(std::fs::read_to_string(&files.certificate).unwrap(), own);
        assert!(files.ca.exists() && files.key.exists());
    }
}
