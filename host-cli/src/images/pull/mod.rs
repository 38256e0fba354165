//! Images from the network. In: where an image is to be had, and what it has to be. Out: the image, in the store. What breaks off
//! goes on later, in this process or another one, and is held against its digest as a whole before anything else reads it. It
//! refuses what does not have its digest, and what nobody vouches for unless that was allowed.
//!
//! `answer` decides (pure), `http` asks, `part` keeps what has come, `download` does it until all is here.

mod answer;
mod download;
mod http;
pub mod part;

use std::io::{self, Write as _};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use self::download::{Attempts, Download};
use self::http::{Client, HttpError};
pub use self::http::{check as check_url, is_safe};
use self::part::Part;
use super::catalogue::{Listed, Source, Voucher};
use super::digest::{Algorithm, Digest, hex};
use super::format::DiskFormat;
use super::{Facts, Image, Store, checksums, import};
use crate::drivers::spec::Arch;
use crate::exit::{Exit, Failure};

/// What is to be got.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub name: String,
    pub arch: Option<Arch>,
    /// In the order to try.
    pub sources: Vec<Source>,
    pub boot: Vec<String>,
    pub cloud_init: Option<bool>,
    /// What its owner says that it is.
    pub says: Option<DiskFormat>,
    /// Whether an image of this name may have another content from now on.
    pub replace: bool,
}

/// How long is waited.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the next octet.
    pub stall: Duration,
    /// Before the second attempt; doubled before each further one.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(60),
            pause: Duration::from_secs(1),
        }
    }
}

impl Wanted {
    /// An image of the catalogue. Refuses architectures that it is not there for.
    pub fn listed(image: &Listed, arch: Arch) -> Result<Self, Failure> {
        let sources = image.sources(arch);
        if sources.is_empty() {
            let archs: Vec<&str> = image.archs().into_iter().map(Arch::as_str).collect();
            let text = format!(
                "{} is there for {} alone, not for {}",
                image.name,
                archs.join(" and "),
                arch.as_str()
            );
            return Err(Failure::new(Exit::NotFound, text));
        }
        Ok(Self {
            name: image.name.clone(),
            arch: Some(arch),
            sources,
            boot: image.boot(arch),
            cloud_init: Some(image.cloud_init),
            says: None,
            // What the catalogue calls so is what it says.
            replace: true,
        })
    }

    /// The URL that is tried first, without what may be a secret.
    pub fn from(&self) -> &str {
        let first = self.sources.first();
        first.map_or("", |source| shown(&source.url))
    }

    fn facts(&self, source: &Source, digest: Option<&Digest>) -> Facts {
        Facts {
            name: self.name.clone(),
            arch: self.arch,
            origin: shown(&source.url).to_owned(),
            verified: digest.cloned(),
            boot: self.boot.clone(),
            cloud_init: self.cloud_init,
            replace: self.replace,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Pulled {
    pub image: Image,
    /// Whether it was here already.
    pub was_here: bool,
}

/// Gets it, unless it is here.
pub async fn pull(store: &Store, wanted: &Wanted, patience: Patience) -> Result<Pulled, Failure> {
    let client = Client::new(patience.stall);
    let mut gone = Vec::new();
    for source in &wanted.sources {
        let problem = match digest_of(&client, source, patience) {
            Ok(digest) => {
                let got = from_source(store, &client, wanted, source, digest.as_ref(), patience);
                match got.await {
                    Ok(pulled) => return Ok(pulled),
                    Err(Trouble::Gone) => "it is not there any more".to_owned(),
                    Err(Trouble::Failed(failure)) => return Err(failure),
                }
            }
            Err(Trouble::Gone) => "its checksums are not there any more".to_owned(),
            Err(Trouble::Failed(failure)) => return Err(failure),
        };
        gone.push(format!("{}: {problem}", shown(&source.url)));
    }
    let next = match wanted.sources.len() {
        1 => "see whether it has moved, and give its new URL",
        _ => "a newer bootjack may know where it went",
    };
    let text = format!("{}; {next}", gone.join("; "));
    Err(Failure::new(Exit::Unverified, text))
}

/// Why a source gave nothing.
enum Trouble {
    /// Another one may.
    Gone,
    Failed(Failure),
}

impl std::convert::From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What the file has to be; nothing if that does not matter.
fn digest_of(
    client: &Client,
    source: &Source,
    patience: Patience,
) -> Result<Option<Digest>, Trouble> {
    let url = match &source.voucher {
        Voucher::Digest(digest) => return Ok(Some(digest.clone())),
        Voucher::Nobody => return Ok(None),
        Voucher::Checksums(url) => url,
    };
    let failed = |problem: &str| {
        let text = format!("{}: {problem}", shown(url));
        Trouble::Failed(Failure::new(Exit::Unverified, text))
    };
    let mut attempts = Attempts::new(patience);
    let text = loop {
        match client.text(url) {
            Ok(text) => break text,
            Err(HttpError::Gone) => return Err(Trouble::Gone),
            Err(HttpError::Refused(problem)) => return Err(failed(&problem)),
            Err(HttpError::Broken(problem)) if attempts.over() => return Err(failed(&problem)),
            Err(HttpError::Broken(problem)) => attempts.pause(&problem),
        }
    };
    let file = shown(&source.url).rsplit('/').next().unwrap_or_default();
    checksums::find(&text, file)
        .map(Some)
        .map_err(|problem| failed(&problem))
}

async fn from_source(
    store: &Store,
    client: &Client,
    wanted: &Wanted,
    source: &Source,
    digest: Option<&Digest>,
    patience: Patience,
) -> Result<Pulled, Trouble> {
    let facts = wanted.facts(source, digest);
    if let Some(image) = here(store, &facts, digest)? {
        let was_here = true;
        return Ok(Pulled { image, was_here });
    }
    let key = match digest {
        Some(digest) => digest.hex().to_owned(),
        None => sha256_of(&source.url),
    };
    let part = Part::open(&store.parts(), &key, |holder| {
        say(&format!(
            "waiting for {holder}, which is getting the same file"
        ));
    })?;
    // Who had it may have brought it.
    if let Some(image) = here(store, &facts, digest)? {
        let was_here = true;
        return Ok(Pulled { image, was_here });
    }
    let mut download = Download {
        client,
        source,
        vouched: digest.is_some(),
        part: &part,
        patience,
        resumed: false,
    };
    let mut is_second = false;
    let sha256 = loop {
        download.run()?;
        let (sha256, found) = import::digest(
            part.path(),
            digest.map_or(Algorithm::Sha256, Digest::algorithm),
            "checking",
        )?;
        match digest {
            Some(digest) if found != *digest => {
                part.empty()?;
                // Its pieces may be of several files; whole from one server it is not asked for again.
                if download.resumed && !is_second {
                    say("the pieces do not fit together; getting it from the beginning");
                    is_second = true;
                    continue;
                }
                let text = format!(
                    "{}: wanted {digest}, got {}; nothing was kept: the file, or what is on the way to it, is not to be trusted",
                    shown(&source.url),
                    found
                );
                return Err(Failure::new(Exit::Unverified, text).into());
            }
            _ => break sha256,
        }
    };
    let image = import::taken_in(store, part.path(), &sha256, wanted.says, facts).await;
    match image {
        Ok(image) => {
            part.empty()?;
            let was_here = false;
            Ok(Pulled { image, was_here })
        }
        Err(failure) => {
            // What is no image will not become one; what another name stands in the way of is worth keeping.
            if failure.exit == Exit::Invalid {
                part.empty()?;
            }
            Err(failure.into())
        }
    }
}

/// The image, if its content is in the store; it gets the name if it has another one.
fn here(store: &Store, facts: &Facts, digest: Option<&Digest>) -> Result<Option<Image>, Failure> {
    let Some(digest) = digest else {
        // Of what nobody vouches for, the same URL has to do; --replace gets it again.
        let found = match facts.replace {
            true => None,
            false => store.named(&facts.name, facts.arch)?,
        };
        return Ok(found.filter(|image| {
            let origin = image.entry.as_ref().map(|entry| &entry.origin);
            origin == Some(&facts.origin) && image.path.is_file()
        }));
    };
    let Some(image) = store.with_digest(digest)? else {
        return Ok(None);
    };
    let is_it = |image: &Image| {
        image.arch == facts.arch && image.entry.as_ref().is_some_and(|e| e.name == facts.name)
    };
    match is_it(&image) {
        true => Ok(Some(image)),
        false => store.name_again(&image, facts.clone()).map(Some),
    }
}

fn sha256_of(text: &str) -> String {
    hex(&Sha256::digest(text))
}

/// Without what may be a secret.
fn shown(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}

/// A line for people, who wait.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "bootjack: {text}");
}

#[cfg(test)]
mod tests;
