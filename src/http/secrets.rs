//! Secrets, read when they are needed. In: the places that a machine's variables name. Out: their values, for the renderer alone;
//! or which of them cannot be read, without a word of what is in it.

use std::path::{Path, PathBuf};

use super::document::{Asker, Secrets};
use crate::model::{HIDDEN, SecretRef};

/// What is longer is no secret of ours.
const LONGEST: u64 = 64 << 10;

/// A secret to read, and the directory it must lie in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub secret: SecretRef,
    pub below: Option<Confined>,
}

/// What whoever calls the API may have read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confined(pub Option<PathBuf>);

/// Every secret that the machine's documents may need. Those that its reservation names, if it was made over the API, lie below
/// `secrets.dir`.
pub fn wanted(asker: &Asker<'_>) -> Vec<Wanted> {
    let confined = Confined(asker.catalog.secrets_dir().map(Path::to_owned));
    (asker.secret_refs().into_iter())
        .map(|(secret, is_of_api)| Wanted {
            secret,
            below: is_of_api.then(|| confined.clone()),
        })
        .collect()
}

/// Reads them. Blocks.
pub fn read(wanted: Vec<Wanted>) -> Result<Secrets, String> {
    let mut secrets = Secrets::default();
    for Wanted { secret, below } in wanted {
        let value = match (&secret, &below) {
            (SecretRef::Env(name), None) => std::env::var(name).map_err(|_| {
                format!("secret_env {name} is not set in the service's environment")
            })?,
            (SecretRef::Env(name), Some(_)) => {
                return Err(format!("secret_env {name} is not for the API to name"));
            }
            (SecretRef::File(path), below) => read_file(path, below.as_ref())
                .map_err(|problem| format!("secret_file {path}: {problem}"))?,
        };
        secrets.0.insert(secret, value);
    }
    Ok(secrets)
}

fn read_file(path: &str, below: Option<&Confined>) -> Result<String, String> {
    let path = match below {
        None => PathBuf::from(path),
        Some(Confined(None)) => return Err("secrets.dir is not set in the configuration".into()),
        Some(Confined(Some(dir))) => {
            let dir = dir.canonicalize().map_err(|error| error.to_string())?;
            let real = dir.join(path).canonicalize();
            let real = real.map_err(|error| error.to_string())?;
            if !real.starts_with(&dir) {
                return Err("lies outside secrets.dir".into());
            }
            real
        }
    };
    let metadata = path.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() || metadata.len() > LONGEST {
        return Err(format!("is no file of at most {LONGEST} octets"));
    }
    let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
    // An editor ends a file with a line end, and no password has one.
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

impl Secrets {
    /// The text without any of them.
    pub fn hidden_in(&self, text: &str) -> String {
        let values = self.0.values().filter(|value| !value.is_empty());
        values.fold(text.to_owned(), |text, value| text.replace(value, HIDDEN))
    }
}
