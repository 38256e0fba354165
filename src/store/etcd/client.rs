//! A client of several servers that are one etcd. In: calls. Out: what the first server that answers says.
//!
//! The server that answered last is asked first. Where one is away or does not answer in time, the next one is asked; a call that
//! none answers is `EtcdError::Away`. A transaction may so be sent twice: its conditions see to it that it is made once
//! (`Committed::was_repeated`). A token that has run out is fetched anew.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use tonic::Status;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::settings::{Settings, Tls};
use super::terms::{
    Committed, Compare, EtcdError, KeyValue, LeaseId, Listing, Op, Txn, end_of_prefix,
};
use super::watch::Watch;
use super::wire::{self, Line};

/// How many keys one answer has at most.
const PAGE: i64 = 1000;
/// How often a server that is spoken to is asked whether it lives; etcd hangs up on who asks more often than every 5 s.
const PING: Duration = Duration::from_secs(6);

/// A cheap copy speaks over the same connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    servers: Vec<Server>,
    /// The one that answered last.
    current: AtomicUsize,
    token: Mutex<Option<AsciiMetadataValue>>,
}

struct Server {
    name: String,
    channel: Channel,
}

impl Client {
    /// A client that has not connected yet; must be called on a runtime. Refuses endpoints that are no URLs and certificates that
    /// are none.
    pub fn new(settings: Settings) -> Result<Self, EtcdError> {
        let servers: Vec<Server> = (settings.endpoints.iter())
            .map(|name| {
                let channel = channel(name, &settings)
                    .map_err(|error| EtcdError::Unusable(format!("{name}: {error}")))?;
                let name = name.clone();
                Ok(Server { name, channel })
            })
            .collect::<Result<_, EtcdError>>()?;
        if servers.is_empty() {
            return Err(EtcdError::Unusable("etcd has no endpoints".to_owned()));
        }
        Ok(Self {
            inner: Arc::new(Inner {
                settings,
                servers,
                current: AtomicUsize::new(0),
                token: Mutex::new(None),
            }),
        })
    }

    /// The whole key of this name: the prefix stands before it.
    pub fn key(&self, name: impl AsRef<[u8]>) -> Bytes {
        let prefix = self.inner.settings.prefix.as_bytes();
        [prefix, b"/", name.as_ref()].concat().into()
    }

    /// A key as it stands now, and the revision that now is.
    pub async fn get(&self, key: Bytes) -> Result<(Option<KeyValue>, i64), EtcdError> {
        let get = |line: Line| {
            let key = key.clone();
            async move { line.range(key, Bytes::new(), 1, 0).await }
        };
        let (page, _) = self.call(get).await?;
        Ok((page.entries.into_iter().next(), page.revision))
    }

    /// Every key that begins with `prefix`, as all of them stood at one revision, in their order.
    pub async fn list(&self, prefix: &[u8]) -> Result<Listing, EtcdError> {
        let end = end_of_prefix(prefix);
        let mut from = Bytes::copy_from_slice(prefix);
        let mut listing = Listing::default();
        loop {
            let at = listing.revision;
            let (page, _) = self
                .call(|line| {
                    let (from, end) = (from.clone(), end.clone());
                    async move { line.range(from, end, PAGE, at).await }
                })
                .await?;
            if listing.revision == 0 {
                listing.revision = page.revision;
            }
            if let Some(last) = page.entries.last() {
                // The least key that is greater.
                from = [&last.key[..], &[0]].concat().into();
            }
            listing.entries.extend(page.entries);
            if !page.has_more {
                return Ok(listing);
            }
        }
    }

    /// Writes a key; answers its revision.
    pub async fn put(
        &self,
        key: Bytes,
        value: Bytes,
        lease: Option<LeaseId>,
    ) -> Result<i64, EtcdError> {
        let then = vec![Op::Put { key, value, lease }];
        self.write(then).await
    }

    /// Deletes a key, whether or not it is there.
    pub async fn delete(&self, key: Bytes) -> Result<i64, EtcdError> {
        self.write(vec![Op::Delete { key }]).await
    }

    async fn write(&self, then: Vec<Op>) -> Result<i64, EtcdError> {
        let txn = Txn {
            then,
            ..Txn::default()
        };
        Ok(self.commit(txn).await?.revision)
    }

    /// Writes a key that is not there; answers whether it was not.
    pub async fn create(
        &self,
        key: Bytes,
        value: Bytes,
        lease: Option<LeaseId>,
    ) -> Result<bool, EtcdError> {
        let is = 0;
        let txn = Txn {
            compare: vec![Compare::Revision {
                key: key.clone(),
                is,
            }],
            then: vec![Op::Put { key, value, lease }],
            otherwise: Vec::new(),
        };
        Ok(self.commit(txn).await?.succeeded)
    }

    /// Carries out a transaction.
    pub async fn commit(&self, txn: Txn) -> Result<Committed, EtcdError> {
        let commit = |line: Line| {
            let txn = txn.clone();
            async move { line.txn(txn).await }
        };
        let (committed, was_repeated) = self.call(commit).await?;
        Ok(Committed {
            was_repeated,
            ..committed
        })
    }

    /// A lease that ends after this time, at least a second, unless it is kept.
    pub async fn grant(&self, time: Duration) -> Result<LeaseId, EtcdError> {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX).max(1);
        let grant = |line: Line| async move { line.grant(seconds).await };
        Ok(self.call(grant).await?.0)
    }

    /// Gives a lease its whole time again; answers how much that is, or none if it is over.
    pub async fn keep(&self, lease: LeaseId) -> Result<Option<Duration>, EtcdError> {
        let keep = |line: Line| async move { line.keep(lease).await };
        let (seconds, _) = self.call(keep).await?;
        let seconds = u64::try_from(seconds).unwrap_or_default();
        Ok((seconds > 0).then(|| Duration::from_secs(seconds)))
    }

    /// Ends a lease and every key that is bound to it; one that is over already is no error.
    pub async fn revoke(&self, lease: LeaseId) -> Result<(), EtcdError> {
        let revoke = |line: Line| async move {
            match line.revoke(lease).await {
                Err(status) if wire::is_over(&status) => Ok(()),
                other => other,
            }
        };
        self.call(revoke).await?;
        Ok(())
    }

    /// The version of the server that answers.
    pub async fn version(&self) -> Result<String, EtcdError> {
        let status = |line: Line| async move {
            match line.status().await? {
                (_, false) => Err(Status::unavailable("it has no leader")),
                (version, true) => Ok(version),
            }
        };
        Ok(self.call(status).await?.0)
    }

    /// Watches every key that begins with `prefix`, from the revision after this one. On a runtime.
    pub fn watch(&self, prefix: Bytes, after: i64) -> Watch {
        Watch::begin(self.clone(), prefix, after)
    }

    /// The server to ask first.
    pub(super) async fn line(&self) -> Result<(String, Line), EtcdError> {
        let at = self.inner.current.load(Ordering::Relaxed);
        let server = self.server(at);
        let line = self.line_to(at).await.map_err(|status| match status {
            None => EtcdError::Away(format!("{}: no answer in time", server.name)),
            Some(status) => self.meaning(at, &status),
        })?;
        Ok((server.name.clone(), line))
    }

    /// Has the next one asked first.
    pub(super) fn turn_away(&self) {
        self.inner.current.fetch_add(1, Ordering::Relaxed);
    }

    /// Has a new token fetched.
    pub(super) fn forget_token(&self) {
        *self.token() = None;
    }

    pub(super) fn timeout(&self) -> Duration {
        self.inner.settings.timeout
    }

    fn server(&self, at: usize) -> &Server {
        &self.inner.servers[at % self.inner.servers.len()]
    }

    fn token(&self) -> std::sync::MutexGuard<'_, Option<AsciiMetadataValue>> {
        (self.inner.token.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    /// A server, and a token if one is wanted. None: it did not answer in time.
    async fn line_to(&self, at: usize) -> Result<Line, Option<Status>> {
        let channel = self.server(at).channel.clone();
        let mut line = Line {
            channel,
            token: self.token().clone(),
        };
        if let Some(login) = &self.inner.settings.login
            && line.token.is_none()
        {
            let token = line.authenticate(&login.user, &login.password);
            let token = timeout(self.timeout(), token).await.map_err(|_| None)?;
            let token = token.map_err(Some)?;
            *self.token() = Some(token.clone());
            line.token = Some(token);
        }
        Ok(line)
    }

    /// Makes the call where it is answered; and whether it may have been carried out before, at another server or try.
    async fn call<T, F>(&self, mut make: impl FnMut(Line) -> F) -> Result<(T, bool), EtcdError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let first = self.inner.current.load(Ordering::Relaxed);
        // A lone server gets a second chance: the connection may have been what was gone.
        let tries = self.inner.servers.len().max(2);
        let mut problem = EtcdError::Away("no server was asked".to_owned());
        let mut is_renewed = false;
        let mut at = first;
        while at < first + tries {
            let answer = match self.line_to(at).await {
                Ok(line) => timeout(self.timeout(), make(line)).await,
                Err(None) => Ok(Err(Status::unavailable("no answer in time"))),
                Err(Some(status)) => Ok(Err(status)),
            };
            let status = match answer {
                Ok(Ok(answer)) => {
                    self.inner.current.store(at, Ordering::Relaxed);
                    return Ok((answer, at != first));
                }
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded(format!(
                    "no answer within {} ms",
                    self.timeout().as_millis()
                )),
            };
            if wire::is_unknown_caller(&status)
                && self.inner.settings.login.is_some()
                && !is_renewed
            {
                is_renewed = true;
                self.forget_token();
                continue;
            }
            problem = self.meaning(at, &status);
            if !matches!(problem, EtcdError::Away(_)) {
                return Err(problem);
            }
            at += 1;
        }
        self.inner.current.store(at, Ordering::Relaxed);
        Err(problem)
    }

    pub(super) fn meaning(&self, at: usize, status: &Status) -> EtcdError {
        let name = &self.server(at).name;
        let text = format!("{name}: {}", sentence(status));
        match status {
            status if wire::is_compacted(status) => EtcdError::Compacted,
            status if wire::is_away(status) => EtcdError::Away(text),
            _ => EtcdError::Refused(text),
        }
    }
}

/// What a status says, with what it was caused by: tonic says no more than "transport error" of a connection by itself.
pub(super) fn sentence(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

fn channel(name: &str, settings: &Settings) -> Result<Channel, String> {
    let error = |error: tonic::transport::Error| {
        std::error::Error::source(&error).map_or(error.to_string(), ToString::to_string)
    };
    let mut endpoint = Endpoint::from_shared(name.to_owned()).map_err(error)?;
    if let Some(tls) = &settings.tls
        && name.starts_with("https://")
    {
        endpoint = endpoint.tls_config(tls_of(tls)).map_err(error)?;
    }
    let endpoint = (endpoint.connect_timeout(settings.timeout))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(settings.timeout);
    Ok(endpoint.connect_lazy())
}

fn tls_of(tls: &Tls) -> ClientTlsConfig {
    let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.ca));
    match &tls.identity {
        Some((certificate, key)) => config.identity(Identity::from_pem(certificate, key)),
        None => config,
    }
}
