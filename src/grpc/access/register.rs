//! The lists of `bootjack auth`, as their files have them now. In: the service's half of them. Out: whether a certificate or token
//! is good. It refuses files that are not as `bootjack auth` writes them, and goes on with what it read last.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bootjack_api::access::{self, Revocation, Token, read_lines};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::identity::{Authority, Certified, Credential, Unknown, expired, hash, is_same, unknown};
use crate::net::followed::Followed;
use crate::net::tls::{BadCertificate, certificates, provider};

/// Lists that cannot be read.
#[derive(Debug, Error)]
pub enum BadRegister {
    #[error("grpc.auth: {file}: {problem}; wanted what bootjack auth init makes there")]
    File { file: String, problem: String },
    #[error(transparent)]
    Authority(#[from] BadCertificate),
    #[error("grpc.auth: {file} is no authority's certificate: {problem}")]
    NoAuthority { file: String, problem: String },
}

/// Who may use the API.
pub struct Register {
    dir: PathBuf,
    lists: ArcSwap<Lists>,
    files: Followed,
}

struct Lists {
    authority: Authority,
    tokens: Vec<Token>,
    revoked: HashSet<String>,
}

impl Register {
    /// Reads the lists in this directory.
    pub fn open(dir: &Path) -> Result<Self, BadRegister> {
        let (files, lists) = Followed::read(files(dir).to_vec(), || read(dir))?;
        Ok(Self {
            lists: ArcSwap::from_pointee(lists),
            files,
            dir: dir.to_owned(),
        })
    }

    /// Reads the lists again if their files have changed; says whether they had.
    pub fn follow(&self) -> Result<bool, BadRegister> {
        let lists = self.files.follow(|| read(&self.dir))?;
        let has_changed = lists.is_some();
        (lists.into_iter()).for_each(|lists| self.lists.store(Arc::new(lists)));
        Ok(has_changed)
    }

    /// Who shows this certificate.
    pub(crate) fn certified(
        &self,
        chain: &[rustls::pki_types::CertificateDer<'_>],
        now_secs: u64,
    ) -> Result<Certified, Unknown> {
        Certified::read(chain, &self.lists.load().authority, now_secs)
    }

    /// Whether a certificate that was good is good still, also by an authority that has taken the place of the one that was.
    pub(crate) fn confirm(&self, certified: &Certified, now_secs: u64) -> Result<(), Unknown> {
        if certified.expires <= now_secs {
            return Err(expired("certificate", certified.expires));
        }
        let lists = self.lists.load();
        if lists.revoked.contains(&certified.serial) {
            let text = format!(
                "the certificate of {} is revoked; ask for another (bootjack auth issue)",
                certified.name
            );
            return Err(unknown("CERTIFICATE_REVOKED", text));
        }
        match certified.authority == lists.authority.id {
            true => Ok(()),
            false => Certified::read(&certified.chain, &lists.authority, now_secs).map(drop),
        }
    }

    /// Whether what once let somebody in does so still.
    pub(crate) fn is_good(&self, credential: &Credential, now_secs: u64) -> bool {
        match credential {
            Credential::Token { id, expires } => *expires > now_secs && !self.is_revoked(id),
            Credential::Certificate(certified) => self.confirm(certified, now_secs).is_ok(),
        }
    }

    /// Whose token this is.
    pub(crate) fn token(&self, presented: &str, now_secs: u64) -> Result<Token, Unknown> {
        let lists = self.lists.load();
        let presented = hash(presented);
        // All of them are looked at, whichever it is.
        let mut found = None;
        for token in &lists.tokens {
            if is_same(&token.sha256, &presented) {
                found = Some(token);
            }
        }
        let Some(token) = found else {
            let text = "the token is unknown here; ask for one (bootjack auth issue --token)";
            return Err(unknown("TOKEN_UNKNOWN", text));
        };
        if lists.revoked.contains(&token.id) {
            let text = format!(
                "token {} of {} is revoked; ask for another (bootjack auth issue --token)",
                token.id, token.name
            );
            return Err(unknown("TOKEN_REVOKED", text));
        }
        if token.expires <= now_secs {
            return Err(expired("token", token.expires));
        }
        Ok(token.clone())
    }

    /// Whether this serial number or id is good no longer.
    pub(crate) fn is_revoked(&self, id: &str) -> bool {
        self.lists.load().revoked.contains(id)
    }
}

fn files(dir: &Path) -> [PathBuf; 3] {
    [access::CA_CERTIFICATE, access::TOKENS, access::REVOKED].map(|name| dir.join(name))
}

fn read(dir: &Path) -> Result<Lists, BadRegister> {
    let file = dir.join(access::CA_CERTIFICATE);
    let no_authority = |problem: String| BadRegister::NoAuthority {
        file: file.display().to_string(),
        problem,
    };
    let (mut roots, mut digest) = (RootCertStore::empty(), Sha256::new());
    for certificate in certificates("grpc.auth", &file)? {
        digest.update(&certificate);
        (roots.add(certificate)).map_err(|error| no_authority(error.to_string()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| no_authority(error.to_string()))?;
    let revoked: Vec<Revocation> = read_list(&dir.join(access::REVOKED))?;
    let id = digest.finalize();
    let authority = Authority {
        verifier,
        id: id.iter().map(|octet| format!("{octet:02x}")).collect(),
    };
    Ok(Lists {
        authority,
        tokens: read_list(&dir.join(access::TOKENS))?,
        revoked: revoked.into_iter().map(|entry| entry.id).collect(),
    })
}

/// A list that is not there is empty.
fn read_list<T: DeserializeOwned>(file: &Path) -> Result<Vec<T>, BadRegister> {
    let bad = |problem: String| BadRegister::File {
        file: file.display().to_string(),
        problem,
    };
    match std::fs::read_to_string(file) {
        Ok(text) => read_lines(&text).map_err(|error| bad(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(bad(error.to_string())),
    }
}
