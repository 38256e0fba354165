//! `bootjack.v1.Artifacts`: files that machines fetch. In: octets as they come. Out: an artefact that is on disk whole, or nothing of it.

use std::io::{self, Read};
use std::time::Duration;

use bootjack_api::v1;
use bootjack_api::v1::artifacts_server::Artifacts as Contract;
use bootjack_api::v1::upload_artifact_request::Part;
use tokio::sync::mpsc;
use tonic::{Code, Request, Response, Status, Streaming};

use super::errors::{in_the_way, invalid, not_found, refused};
use super::paging::Wanted as PageWanted;
use crate::artifact::name::{Digest, Name};
use crate::artifact::store::{Artifacts, Entry, StoreError, Wanted};
use crate::artifact::used;
use crate::catalog::Catalog;
use crate::config::Upstream;
use crate::model::Event;
use crate::observe::emit;
use crate::store::Store;

/// What every resource name starts with.
const COLLECTION: &str = "artifacts/";
const LARGEST: u64 = 256 << 30;
/// Who sends nothing for so long is gone.
const STALL: Duration = Duration::from_secs(60);
/// How many messages may wait for the disk.
const WAITING: usize = 4;

/// The service.
pub struct Stock {
    store: Store,
    artifacts: Artifacts,
    /// What the configuration names stays.
    upstream: Vec<Upstream>,
}

/// Octets as they come in messages; read by a thread that may wait.
struct Incoming {
    messages: mpsc::Receiver<Result<Vec<u8>, io::Error>>,
    current: Vec<u8>,
    at: usize,
    octets: u64,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.current.len() {
            match self.messages.blocking_recv() {
                None => return Ok(0),
                Some(message) => (self.current, self.at) = (message?, 0),
            }
        }
        let rest = &self.current[self.at..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.at += length;
        self.octets += length as u64;
        if self.octets > LARGEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(length)
    }
}

impl Stock {
    pub fn new(store: Store, artifacts: Artifacts, upstream: Vec<Upstream>) -> Self {
        Self {
            store,
            artifacts,
            upstream,
        }
    }

    /// Works on the directory, on a thread that may wait.
    async fn aside<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(Artifacts) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Status> {
        let artifacts = self.artifacts.clone();
        let done = tokio::task::spawn_blocking(move || work(artifacts)).await;
        let done = done.map_err(|panic| Status::internal(panic.to_string()))?;
        done.map_err(|error| to_status(name, &error))
    }

    /// What names the artefact, if something does.
    fn user(&self, entry: &Entry) -> Option<String> {
        if self.upstream.iter().any(|known| known.name == entry.name) {
            return Some("[[artifact]] of the configuration".to_owned());
        }
        user(&self.store.catalog(), &entry.name)
    }
}

/// The first that names the artefact.
fn user(catalog: &Catalog, name: &Name) -> Option<String> {
    let wants = |wanted: used::Wanted| wanted.wants(name);
    let profile = (catalog.profiles().values()).find(|profile| wants(used::of_profile(profile)));
    if let Some(profile) = profile {
        return Some(format!("profiles/{}", profile.name));
    }
    if wants(used::of_vars(catalog.vars())) {
        return Some("[vars] of the configuration".to_owned());
    }
    let group = (catalog.groups().iter()).find(|group| wants(used::of_vars(&group.vars)));
    if let Some(group) = group {
        return Some(format!("group {} of the configuration", group.name));
    }
    let own = (catalog.reservations(None)).find(|own| wants(used::of_vars(&own.vars)));
    own.map(|own| format!("reservations/{}", own.id))
}

fn to_status(name: &str, error: &StoreError) -> Status {
    let resource = format!("{COLLECTION}{name}");
    let facts = [("resource", resource.as_str())];
    let text = format!("artifact {name}: {error}");
    let is_full = |error: &io::Error| {
        matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    };
    match error {
        StoreError::WrongDigest { .. } => refused(Code::DataLoss, "WRONG_DIGEST", &facts, &text),
        StoreError::CutOff { .. } => refused(Code::DataLoss, "CUT_OFF", &facts, &text),
        StoreError::Full { .. } => refused(Code::ResourceExhausted, "DISK_FULL", &facts, &text),
        StoreError::Io { error, .. } if is_full(error) => {
            refused(Code::ResourceExhausted, "DISK_FULL", &facts, &text)
        }
        StoreError::Unreadable { error, .. } => match error.kind() {
            io::ErrorKind::FileTooLarge => {
                let text = format!("artifact {name}: it has more than {LARGEST} octets");
                refused(Code::ResourceExhausted, "TOO_LARGE", &facts, &text)
            }
            io::ErrorKind::TimedOut => refused(Code::Aborted, "STALLED", &facts, &text),
            io::ErrorKind::InvalidInput => {
                let text = "artifact: only the first message has one; all others have octets";
                invalid("artifact", text)
            }
            _ => refused(Code::Aborted, "CUT_OFF", &facts, &text),
        },
        StoreError::InUse(_) => refused(Code::FailedPrecondition, "BUSY", &facts, &text),
        StoreError::Io { .. } | StoreError::Damaged { .. } => {
            emit(&Event::Failed {
                about: "artifact",
                error: text,
            });
            Status::unavailable(format!(
                "artifact {name}: the directory of artefacts fails; the log of bootjackd says why"
            ))
        }
    }
}

fn to_message(entry: &Entry) -> v1::Artifact {
    v1::Artifact {
        name: format!("{COLLECTION}{}", entry.name),
        sha256: entry.digest.to_string(),
        size_bytes: i64::try_from(entry.bytes).unwrap_or(i64::MAX),
        origin: entry.source.clone(),
    }
}

fn name_in(name: &str) -> Result<Name, Status> {
    let path = name.strip_prefix(COLLECTION).unwrap_or(name);
    path.parse().map_err(|error| {
        let text = format!("name: `{}`: {error}", path.escape_default());
        invalid("name", &text)
    })
}

fn digest_in(text: &str) -> Result<Option<Digest>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let digest = text.parse().map(Some);
    digest.map_err(|error| invalid("sha256", &format!("sha256: {error}")))
}

fn no_such(name: &Name) -> Status {
    let text = format!("artifact {name} does not exist; see: bootjack artifact list");
    not_found(&format!("{COLLECTION}{name}"), &text)
}

/// Hands on what comes until it ends, or is no octets, or nothing comes.
async fn hand_on(
    mut stream: Streaming<v1::UploadArtifactRequest>,
    to: mpsc::Sender<Result<Vec<u8>, io::Error>>,
) {
    loop {
        let next = tokio::time::timeout(STALL, stream.message()).await;
        let octets = match next {
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "nothing came for a minute",
            )),
            Ok(Err(status)) => Err(io::Error::other(status.message().to_owned())),
            Ok(Ok(None)) => return,
            Ok(Ok(Some(message))) => match message.part {
                Some(Part::Octets(octets)) => Ok(octets),
                Some(Part::Artifact(_)) => Err(io::ErrorKind::InvalidInput.into()),
                None => Ok(Vec::new()),
            },
        };
        let is_last = octets.is_err();
        if to.send(octets).await.is_err() || is_last {
            return;
        }
    }
}

#[tonic::async_trait]
impl Contract for Stock {
    async fn list_artifacts(
        &self,
        request: Request<v1::ListArtifactsRequest>,
    ) -> Result<Response<v1::ListArtifactsResponse>, Status> {
        let request = request.into_inner();
        let wanted = PageWanted::new(request.page_size, &request.page_token, &["artifacts"])?;
        let entries = self.aside("list", |artifacts| artifacts.entries()).await?;
        let after = wanted.after.clone().unwrap_or_default();
        let page = wanted.page(
            entries.iter().filter(|entry| *entry.name.as_str() > *after),
            |entry| entry.name.to_string(),
            to_message,
            || entries.len(),
        );
        Ok(Response::new(v1::ListArtifactsResponse {
            artifacts: page.items,
            next_page_token: page.next_token,
        }))
    }

    async fn get_artifact(
        &self,
        request: Request<v1::GetArtifactRequest>,
    ) -> Result<Response<v1::Artifact>, Status> {
        let name = name_in(&request.get_ref().name)?;
        let wanted = name.clone();
        let found = self.aside(name.as_str(), move |a| a.find_whole(&wanted));
        let entry = found.await?.ok_or_else(|| no_such(&name))?;
        Ok(Response::new(to_message(&entry)))
    }

    async fn upload_artifact(
        &self,
        request: Request<Streaming<v1::UploadArtifactRequest>>,
    ) -> Result<Response<v1::Artifact>, Status> {
        let mut stream = request.into_inner();
        let first = tokio::time::timeout(STALL, stream.message()).await;
        let first = first.map_err(|_| Status::aborted("nothing came for a minute"))??;
        let Some(Part::Artifact(said)) = first.and_then(|first| first.part) else {
            let text = "artifact is missing; the first message says what comes";
            return Err(invalid("artifact", text));
        };
        let name = name_in(&said.name)?;
        let digest = digest_in(&said.sha256)?;
        let length = match u64::try_from(said.size_bytes) {
            Ok(0) => None,
            Ok(length) if length <= LARGEST => Some(length),
            _ => {
                let text = format!("size_bytes: wanted up to {LARGEST}");
                return Err(invalid("size_bytes", &text));
            }
        };
        let (to, messages) = mpsc::channel(WAITING);
        let (source, id) = (said.origin, name.clone());
        let work = move |artifacts: Artifacts| {
            let _hold = artifacts.hold()?;
            let mut incoming = Incoming {
                messages,
                current: Vec::new(),
                at: 0,
                octets: 0,
            };
            let wanted = Wanted { digest, length };
            let (digest, bytes) = artifacts.put(&mut incoming, wanted, &mut |_| {})?;
            let entry = Entry {
                name: id,
                digest,
                bytes,
                source,
            };
            artifacts.set(&entry).map(|()| entry)
        };
        // Both at once; what comes is read no further once the disk has refused it.
        let (entry, ()) = tokio::join!(self.aside(name.as_str(), work), hand_on(stream, to));
        Ok(Response::new(to_message(&entry?)))
    }

    async fn delete_artifact(
        &self,
        request: Request<v1::DeleteArtifactRequest>,
    ) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        let (name, digest) = (name_in(&request.name)?, digest_in(&request.sha256)?);
        let wanted = name.clone();
        let found = self.aside(name.as_str(), move |a| a.find(&wanted)).await?;
        let entry = found.ok_or_else(|| no_such(&name))?;
        if digest.is_some_and(|digest| digest != entry.digest) {
            let resource = format!("{COLLECTION}{name}");
            let current = entry.digest.to_string();
            return Err(super::errors::stale(&resource, &current, &request.sha256));
        }
        if let Some(user) = self.user(&entry) {
            let text = format!("artifact {name} is used by {user}; take it out of there first");
            let things = [(user, "names this artefact".to_owned())];
            return Err(in_the_way("IN_USE", &things, &text));
        }
        let work = move |artifacts: Artifacts| {
            let _alone = artifacts.hold_alone()?;
            artifacts.forget(&entry.name)?;
            let others = artifacts.entries()?;
            match others.iter().any(|other| other.digest == entry.digest) {
                true => Ok(()),
                false => artifacts.remove(&entry.digest),
            }
        };
        self.aside(name.as_str(), work).await?;
        Ok(Response::new(()))
    }
}
