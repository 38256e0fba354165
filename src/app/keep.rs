//! The store, opened. In: the configuration. Out: the store in `data_dir`, or the one that others share, as soon as that can be
//! reached.

use std::os::unix::fs::DirBuilderExt as _;
use std::time::Duration;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::catalog::Catalog;
use crate::config::{self, Backend, Config};
use crate::model::Event;
use crate::net::now_secs;
use crate::observe::emit;
use crate::store::etcd::{self, Login, Settings, Tls};
use crate::store::{Backend as _, Opened, Records, Store, StoreError, Writer, open_sled};

/// How long after etcd did not answer it is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Opens it. None: the service was stopped while etcd was waited for. Without etcd nothing is served: what others have granted
/// since is not known here.
pub(super) async fn open(
    config: &Config,
    catalog: Catalog,
    stop: &CancellationToken,
) -> anyhow::Result<Option<(Store, Writer, Opened)>> {
    let etcd = match &config.store.backend {
        Backend::Sled => {
            let backend = open_sled(&config.data_dir, config.store.snapshot_period)?;
            return Ok(Some(Store::open(backend, catalog, now_secs())?));
        }
        Backend::Etcd(etcd) => settings(etcd)?,
    };
    // Records are elsewhere; what this machine alone has to remember is not.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.data_dir)
        .with_context(|| format!("cannot make {}", config.data_dir.display()))?;
    let mut last = String::new();
    loop {
        let (etcd, catalog) = (etcd.clone(), catalog.clone());
        // It waits for etcd, which a runtime's own thread may not.
        let opening = tokio::task::spawn_blocking(move || {
            let backend = Box::new(etcd::Etcd::new(etcd)?);
            Store::open(backend, catalog, now_secs())
        });
        match opening.await? {
            Err(StoreError::Away(problem)) => {
                if problem != last {
                    emit(&Event::Failed {
                        about: "store",
                        error: format!("nothing is served before etcd answers: {problem}"),
                    });
                    last = problem;
                }
            }
            opened => return Ok(Some(opened?)),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// What stands in etcd now, for who only looks.
pub(super) fn read(etcd: &config::Etcd) -> anyhow::Result<Records> {
    let settings = settings(etcd)?;
    // It waits for etcd, which a runtime's own thread may not.
    let reading = std::thread::spawn(move || etcd::Etcd::new(settings)?.load());
    let read = reading.join().map_err(|_| StoreError::Stopped)?;
    Ok(read?)
}

/// The same, with what its files say.
pub(super) fn settings(etcd: &config::Etcd) -> anyhow::Result<Settings> {
    let read = |path: &std::path::Path| {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let identity = match &etcd.identity {
        Some((certificate, key)) => Some((read(certificate)?, read(key)?)),
        None => None,
    };
    let tls = match &etcd.ca {
        Some(ca) => Some(Tls {
            ca: read(ca)?,
            identity,
        }),
        None => None,
    };
    let login = match &etcd.login {
        Some((user, file)) => Some(Login {
            user: user.clone(),
            password: String::from_utf8_lossy(&read(file)?)
                .trim_end_matches(['\r', '\n'])
                .to_owned(),
        }),
        None => None,
    };
    Ok(Settings {
        endpoints: etcd.endpoints.clone(),
        prefix: etcd.prefix.clone(),
        tls,
        login,
        timeout: etcd.timeout,
    })
}
