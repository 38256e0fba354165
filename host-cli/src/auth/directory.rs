//! The files of the authority. In: one directory. Out: what is in it. A file is written whole and with its last owner, or not at
//! all; two commands at a time wait for each other.
//!
//! ```text
//! ca.pem  ca.key (0600)  issued             the operator's: what signs, and what was signed
//! clients/NAME.pem  clients/NAME.key (0600)  for clients, to be given away
//! service/ca.pem server.pem server.key (0600) tokens (0600) revoked   bootjackd's: grpc.auth
//! ```

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};

use bootjack_api::access::{self, Scope, read_lines, write_line};
use nix::fcntl::{Flock, FlockArg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Failure};

/// What was issued, a line each.
const ISSUED: &str = "issued";
/// The directory of clients' certificates.
pub const CLIENTS: &str = "clients";

/// The authority's directory, for one command alone.
pub struct Directory {
    root: PathBuf,
    _lock: Flock<File>,
}

/// One thing that was issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    pub kind: Kind,
    /// Serial number of a certificate, id of a token.
    pub id: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Unix time in seconds.
    pub created: u64,
    /// Unix time in seconds.
    pub expires: u64,
}

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Authority,
    Server,
    Certificate,
    Token,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authority => "authority",
            Self::Server => "server",
            Self::Certificate => "certificate",
            Self::Token => "token",
        }
    }
}

/// Where it is unless somebody says otherwise: the system's for root, or else the user's.
pub fn usual() -> PathBuf {
    let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if nix::unistd::geteuid().is_root() {
        return "/etc/bootjack/auth".into();
    }
    let config = of("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = || PathBuf::from(of("HOME").unwrap_or_else(|| ".".into())).join(".config");
    config.unwrap_or_else(home).join("bootjack/auth")
}

impl Directory {
    /// Makes it, where there is none yet.
    pub fn make(root: &Path) -> Result<Self, Failure> {
        for path in [
            root.to_owned(),
            root.join(CLIENTS),
            root.join(access::SERVICE),
        ] {
            (DirBuilder::new().recursive(true).mode(0o700))
                .create(&path)
                .map_err(Failure::io("make", &path))?;
        }
        Self::lock(root)
    }

    /// Opens one that there is.
    pub fn open(root: &Path) -> Result<Self, Failure> {
        let made = root.join(access::CA_CERTIFICATE);
        if !made.exists() {
            let text = format!(
                "there is no authority in {}; make it with bootjack auth init, or name its directory with --dir",
                root.display()
            );
            return Err(Failure::new(Exit::NotFound, text));
        }
        Self::lock(root)
    }

    fn lock(root: &Path) -> Result<Self, Failure> {
        let path = root.join("lock");
        let file = (OpenOptions::new().create(true).append(true))
            .mode(0o600)
            .open(&path)
            .map_err(Failure::io("open", &path))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, error)| Failure::io("lock", &path)(error.into()))?;
        Ok(Self {
            root: root.to_owned(),
            _lock: lock,
        })
    }

    /// Whether it has an authority already.
    pub fn has_authority(&self) -> bool {
        self.root.join(access::CA_CERTIFICATE).exists()
    }

    /// The service's half.
    pub fn service(&self) -> PathBuf {
        self.root.join(access::SERVICE)
    }

    /// Certificate and key of a client, unless they go elsewhere.
    pub fn client(&self, name: &str, elsewhere: Option<&Path>) -> (PathBuf, PathBuf) {
        let clients = self.root.join(CLIENTS);
        let dir = elsewhere.unwrap_or(&clients);
        (
            dir.join(format!("{name}.pem")),
            dir.join(format!("{name}.key")),
        )
    }

    /// The authority's certificate and key, in PEM.
    pub fn authority(&self) -> Result<(String, String), Failure> {
        let read = |name| {
            let path = self.root.join(name);
            std::fs::read_to_string(&path).map_err(Failure::io("read", &path))
        };
        Ok((read(access::CA_CERTIFICATE)?, read(access::CA_KEY)?))
    }

    /// Keeps a new authority.
    pub fn keep_authority(&self, certificate: &str, key: &str) -> Result<(), Failure> {
        replace(&self.root.join(access::CA_KEY), key, 0o600)?;
        let shown = self.service().join(access::CA_CERTIFICATE);
        replace(&shown, certificate, 0o644)?;
        // Last: with it, there is an authority.
        replace(&self.root.join(access::CA_CERTIFICATE), certificate, 0o644)
    }

    /// Keeps the server's certificate and key.
    pub fn keep_server(&self, certificate: &str, key: &str) -> Result<(), Failure> {
        replace(&self.service().join(access::SERVER_KEY), key, 0o600)?;
        let shown = self.service().join(access::SERVER_CERTIFICATE);
        replace(&shown, certificate, 0o644)
    }

    pub fn issued(&self) -> Result<Vec<Issued>, Failure> {
        list(&self.root.join(ISSUED))
    }

    pub fn revoked(&self) -> Result<Vec<access::Revocation>, Failure> {
        list(&self.service().join(access::REVOKED))
    }

    pub fn add_issued(&self, entry: &Issued) -> Result<(), Failure> {
        add(&self.root.join(ISSUED), entry)
    }

    pub fn add_token(&self, entry: &access::Token) -> Result<(), Failure> {
        add(&self.service().join(access::TOKENS), entry)
    }

    pub fn add_revoked(&self, entry: &access::Revocation) -> Result<(), Failure> {
        add(&self.service().join(access::REVOKED), entry)
    }

    /// Gives the service's half to the service's user, if root runs this and there is such a user.
    pub fn give_to_service(&self, user: &str) -> Option<String> {
        let user = nix::unistd::User::from_name(user).ok().flatten()?;
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        let service = self.service();
        let entries = std::fs::read_dir(&service).ok()?.flatten();
        let mut all = entries.map(|entry| entry.path()).chain([service.clone()]);
        (all.all(|path| chown(&path, Some(uid), Some(gid)).is_ok())).then_some(user.name)
    }
}

fn list<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => read_lines(&text)
            .map_err(|error| Failure::new(Exit::Invalid, format!("{}: {error}", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Failure::io("read", path)(error)),
    }
}

fn add<T: Serialize>(path: &Path, entry: &T) -> Result<(), Failure> {
    let before = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        read => read.map_err(Failure::io("read", path))?,
    };
    replace(path, &(before + &write_line(entry)), 0o600)
}

/// Writes a file whole, or leaves the one before. It belongs to whom that one did, or to whom its directory does.
pub fn replace(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".new");
    let partial = PathBuf::from(partial);
    let owner = std::fs::metadata(path).or_else(|_| {
        let dir = path.parent().unwrap_or(Path::new("."));
        std::fs::metadata(dir)
    });
    let write = || {
        // What a command left that was ended is nobody's.
        let _ = std::fs::remove_file(&partial);
        let mut file = (OpenOptions::new().create_new(true).write(true))
            .mode(mode)
            .open(&partial)?;
        let (owner, own) = (owner?, file.metadata()?);
        if (owner.uid(), owner.gid()) != (own.uid(), own.gid()) {
            // Somebody else's directory may be written without the right to give files away.
            let _ = chown(&partial, Some(owner.uid()), Some(owner.gid()));
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    };
    write().map_err(Failure::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_kept_and_a_bad_one_is_named_with_its_line() {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().join("auth");
        let directory = Directory::make(&root).unwrap();
        assert!(!directory.has_authority());
        let entry = |id: &str| Issued {
            kind: Kind::Token,
            id: id.into(),
            name: "ci".into(),
            scope: Some(Scope::Read),
            created: 1,
            expires: 2,
        };
        directory.add_issued(&entry("t-1")).unwrap();
        directory.add_issued(&entry("t-2")).unwrap();
        assert_eq!(directory.issued().unwrap(), [entry("t-1"), entry("t-2")]);
        std::fs::write(root.join(ISSUED), "{}\n").unwrap();
        let error = directory.issued().unwrap_err();
        assert!(error.message.contains("issued: line 1"), "{error}");
    }

    #[test]
    fn what_is_secret_is_its_owners_alone() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Directory::make(&temporary.path().join("auth")).unwrap();
        directory.keep_authority("certificate", "key").unwrap();
        directory.keep_server("certificate", "key").unwrap();
        let mode = |path: PathBuf| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(directory.root.clone()), 0o700);
        assert_eq!(mode(directory.service()), 0o700);
        assert_eq!(mode(directory.root.join(access::CA_KEY)), 0o600);
        assert_eq!(mode(directory.service().join(access::SERVER_KEY)), 0o600);
    }
}
