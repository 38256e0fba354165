//! Documents, looked at before a machine is. In: a document as it would be served, and what is known of its reader. Out: what is
//! wrong with it, each with its line and what to do about it. Pure: nothing is fetched, nothing is run.
//!
//! | file | what it knows, and of which version |
//! |---|---|
//! | `cloud` | cloud-config: keys and kinds of cloud-init 22.4.2's schema (Debian 12), with what came later |
//! | `autoinstall` | subiquity's autoinstall, version 1 |
//! | `network` | network-config, versions 1 and 2 |
//! | `ignition` | specifications 3.0 to 3.5 |
//! | `preseed` | debconf's lines, and what the Debian installer asks before it has the file |
//! | `kickstart` | commands and sections of Fedora 40 (pykickstart's F40) |
//! | `boot` | a kernel's command line, beside the documents it names |
//! | `machine` | all of a machine's documents under its profile |
//!
//! An error is what the reader stops at, or drops without a word; it is not written and not served anew. A warning is what it
//! may mean otherwise. Information is what nobody can see from here.

mod autoinstall;
mod boot;
mod cloud;
mod ignition;
mod kickstart;
pub mod machine;
mod network;
mod preseed;
mod shape;
mod yaml;

use std::fmt;

use self::shape::{Misfit, What};
use self::yaml::Fault;
use crate::model::Document;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Error,
    Warning,
    Info,
}

/// One thing about one document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Finding {
    /// The name it is fetched under, such as `user-data`.
    pub document: String,
    /// Of the document as it is served, counted from 1; 0 where it is about the whole.
    pub line: usize,
    pub severity: Severity,
    pub message: String,
    pub next_step: String,
}

/// What is known of the system that reads the documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    /// The version of cloud-init, as `(22, 4)`.
    pub cloud_init: Option<(u32, u32)>,
}

/// What is wrong with one document, in the order of its lines.
pub fn document(name: &str, text: &str, reader: Reader) -> Vec<Finding> {
    let found = match kind_of(name, text) {
        Kind::UserData => cloud::user_data(text, reader),
        Kind::MetaData => cloud::meta_data(text),
        Kind::Network => network::config(text, reader),
        Kind::Ignition => ignition::config(text),
        Kind::Preseed => preseed::answers(text),
        Kind::Kickstart => kickstart::script(text),
        Kind::Unknown => Vec::new(),
    };
    named(name, found)
}

enum Kind {
    UserData,
    MetaData,
    Network,
    Ignition,
    Preseed,
    Kickstart,
    Unknown,
}

/// What a document is, by the name that its reader knows it by.
fn kind_of(name: &str, text: &str) -> Kind {
    let ends = |with: &[&str]| with.iter().any(|end| name.ends_with(end));
    match Document::named(name) {
        Document::UserData | Document::VendorData => Kind::UserData,
        Document::MetaData => Kind::MetaData,
        Document::NetworkConfig => Kind::Network,
        Document::Other(_) if ends(&[".ign", "ignition.json"]) => Kind::Ignition,
        Document::Other(_) if name.contains("preseed") || ends(&[".preseed"]) => Kind::Preseed,
        Document::Other(_) if ends(&[".ks", "ks.cfg", "kickstart.cfg"]) => Kind::Kickstart,
        Document::Other(_) if text.starts_with("#cloud-config\n") => Kind::UserData,
        Document::Other(_) => Kind::Unknown,
    }
}

/// A finding of a document whose name its caller knows.
struct Found {
    line: usize,
    severity: Severity,
    message: String,
    next_step: String,
}

fn found(
    severity: Severity,
    line: usize,
    message: impl fmt::Display,
    next_step: impl fmt::Display,
) -> Found {
    Found {
        line,
        severity,
        message: message.to_string(),
        next_step: next_step.to_string(),
    }
}

fn error(line: usize, message: impl fmt::Display, next_step: impl fmt::Display) -> Found {
    found(Severity::Error, line, message, next_step)
}

fn warning(line: usize, message: impl fmt::Display, next_step: impl fmt::Display) -> Found {
    found(Severity::Warning, line, message, next_step)
}

fn info(line: usize, message: impl fmt::Display, next_step: impl fmt::Display) -> Found {
    found(Severity::Info, line, message, next_step)
}

fn named(document: &str, list: Vec<Found>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = (list.into_iter())
        .map(|found| Finding {
            document: document.to_owned(),
            line: found.line,
            severity: found.severity,
            message: found.message,
            next_step: found.next_step,
        })
        .collect();
    findings.sort_by_key(|finding| (finding.line, finding.severity));
    findings.dedup();
    findings
}

impl From<Fault> for Found {
    fn from(fault: Fault) -> Self {
        error(fault.line, fault.message, fault.next_step)
    }
}

/// A place of another shape. What is not known may be from a later version: it is a warning.
fn misfit(misfit: Misfit, reader: &str) -> Found {
    let Misfit { line, place, what } = misfit;
    match what {
        What::Kind { wanted, got } => error(
            line,
            format!("{place}: wanted {wanted}, got {got}"),
            if wanted.contains("a string") && !got.starts_with("a ") {
                "put it in quotes, or through |yaml".to_owned()
            } else {
                format!("write {wanted}")
            },
        ),
        What::Missing(key) => error(
            line,
            match place.as_str() {
                "" => format!("{key} is missing"),
                place => format!("{place}: {key} is missing"),
            },
            format!("add {key}"),
        ),
        What::Unknown { closest: Some(key) } => warning(
            line,
            format!("{place}: {reader} does not know this key"),
            format!("did you mean {key}?"),
        ),
        What::Unknown { closest: None } => warning(
            line,
            format!("{place}: {reader} does not know this key"),
            "take it out, or see whether the version in use knows it",
        ),
    }
}

/// The word that was probably meant.
fn closest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    known
        .map(|known| (strsim::damerau_levenshtein(word, known), known))
        .filter(|(distance, known)| *distance <= 1 + known.len() / 4)
        .min()
        .map(|(_, known)| known.to_owned())
}

/// Whether the text is a password's hash, as crypt(3) writes it, or a secret that is not shown.
fn is_hash(text: &str) -> bool {
    text == crate::model::HIDDEN
        || text.strip_prefix('$').is_some_and(|rest| {
            rest.split_once('$')
                .is_some_and(|(id, hash)| !id.is_empty() && hash.len() >= 20)
        })
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Finding {
    /// The same in one line without anything that stands in the document, which may be anybody's secret: for logs.
    pub fn for_log(&self) -> String {
        let what = match self.message.ends_with("is not defined") {
            // What it names is a name.
            true => self.message.clone(),
            false => {
                let wanted = self.message.split(", got ").next().unwrap_or_default();
                let parts = wanted.split('`').enumerate();
                let hidden = parts.map(|(at, part)| if at % 2 == 0 { part } else { "…" });
                hidden.collect()
            }
        };
        let line = match self.line {
            0 => String::new(),
            line => format!(" line {line}"),
        };
        format!("{}{line}: {what}; {}", self.document, self.next_step)
    }
}

impl fmt::Display for Finding {
    /// In one line: `user-data line 3: … ; what to do`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.document)?;
        if self.line > 0 {
            write!(f, " line {}", self.line)?;
        }
        write!(f, ": {}; {}", self.message, self.next_step)
    }
}

#[cfg(test)]
mod tests;
