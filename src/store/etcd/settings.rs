//! Where etcd is, and how it is spoken to.

use std::fmt;
use std::time::Duration;

/// All that a client needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `http://HOST:PORT` or `https://HOST:PORT`; at least one.
    pub endpoints: Vec<String>,
    /// What every key begins with, before a `/`.
    pub prefix: String,
    pub tls: Option<Tls>,
    pub login: Option<Login>,
    /// How long one server may take for one call.
    pub timeout: Duration,
}

/// In PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Tls {
    /// Who signed the servers' certificates.
    pub ca: Vec<u8>,
    /// The client's own certificate and its key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// Name and password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: String,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("with_identity", &self.identity.is_some())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}
