//! Start, wire, drain, exit. In: the configuration file's path. Out: a running service, or one sentence that says what stands
//! in the way. Everything is read and bound before anything is served.

pub mod artifacts;
mod bind;
pub mod capabilities;
mod directory;
pub mod doctor;
mod documents;
mod explain;
mod facts;
mod health;
mod keep;
mod keys;
mod load;
mod notify;
mod port;
mod ports;
pub mod privileges;
mod reach;
mod reload;
mod replicas;
mod standing;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::documents::{Rendered, Wanted, lint, render};
pub use self::explain::{Asked, explain};
pub use self::health::health;
pub use self::keys::Keys;
pub use self::load::{BadConfig, Loaded, load};
use self::ports::Ports;
use crate::artifact::store::Artifacts;
use crate::config::own_profiles_dir;
use crate::grpc;
use crate::model::Event;
use crate::net::now_secs;
use crate::observe::timeline::Timeline;
use crate::observe::{self, emit};
use crate::store::Store;
use crate::store::profiles::Places;

/// How long requests that run may take to finish once the service is asked to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs the service until it is asked to stop; everything acknowledged is on disk when it returns.
pub async fn serve(loaded: Loaded, keys: Keys, asked: CancellationToken) -> anyhow::Result<()> {
    let Loaded { config, catalog } = loaded;
    let replica = replicas::of(&config)?;
    // A replica leaves before it stops.
    let stop = match &replica {
        Some(_) => CancellationToken::new(),
        None => asked.clone(),
    };
    raise_file_limit();
    let Some((store, writer, opened)) = keep::open(&config, catalog, &asked).await? else {
        return Ok(());
    };
    let known = Box::new(directory::Known(store.clone()));
    let (timeline, timeline_writer) = Timeline::start(&config.data_dir, known)
        .with_context(|| format!("timeline in {}", config.data_dir.display()))?;
    tell_opened(&store, &opened);
    let metrics = observe::recorder();
    let render_metrics = metrics.handle();
    // A second service in one process (a test) keeps the first one's.
    let _ = metrics::set_global_recorder(metrics);
    let catalog = store.catalog();
    let installing = catalog
        .profiles()
        .values()
        .filter(|profile| profile.install.is_some());
    observe::register(installing.map(|profile| profile.name.as_str()));
    tokio::spawn(keep_tidy(render_metrics.clone()));

    let config = Arc::new(config);
    let known = replica.as_ref().map(|replica| replica.known());
    let ports = Ports::open(
        config.clone(),
        keys.http,
        store.clone(),
        known,
        stop.clone(),
    )
    .await?;
    let bound = bind::bind(&config).await?;
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let places = Places {
        own: Some(own_profiles_dir(&config.data_dir)),
        dir: config.boot.profiles.clone(),
    };
    let reloading = reload::Reloader::new(store.clone(), places.clone())?;
    tokio::spawn(reloading.keep_watching(stop.clone()));
    tokio::spawn(watch::keep_watching(
        store.clone(),
        timeline.clone(),
        stop.clone(),
    ));
    if let Some(listener) = bound.admin {
        let stop = stop.clone();
        let store = store.clone();
        tasks.spawn(async move { serve_admin(listener, render_metrics, store, stop).await });
    }
    let explainer = grpc::server::Explainer {
        store: store.clone(),
        boot: ports.boot(),
        mode: config.dhcp.mode,
        authoritative: config.dhcp.authoritative,
        server_ids: ports.server_ids(),
    };
    // Last of all: from then on its clients are left to it.
    let desk = match replica {
        None => None,
        Some(replica) => {
            let joining = replica.join(ports.server_ids());
            let Some(joined) = asked.run_until_cancelled(joining).await.transpose()? else {
                return Ok(());
            };
            let desk = joined.desk();
            tokio::spawn(joined.leave_before_it_stops(asked, stop.clone()));
            Some(desk)
        }
    };
    let world = grpc::server::World {
        store: store.clone(),
        timeline,
        explainer,
        config: config.grpc.clone(),
        credentials: keys.grpc,
        replicas: grpc::replicas::Service { desk },
        places,
        artifacts: Artifacts::new(&config.artifacts_dir()),
        upstream: config.artifacts.upstream.clone(),
        facts: facts::of(&config, &store),
    };
    let serving = grpc::server::serve(bound.grpc, world, stop.clone());
    tasks.spawn(async move {
        let served = serving.await;
        served.map_err(|error| anyhow::anyhow!("grpc: {error}"))
    });
    tasks.spawn(ports.keep_up());
    emit(&Event::Ready {
        reservations: store.catalog().len(),
        leases: store.bindings().len(),
    });
    notify::ready();
    tokio::spawn(notify::keep_alive(stop.clone()));

    let ended = run(&mut tasks, &stop).await;
    let stopping = Instant::now();
    notify::stopping();
    drain(tasks).await;
    tokio::task::spawn_blocking(move || {
        timeline_writer.close();
        writer.close()
    })
    .await??;
    emit(&Event::Stopped {
        elapsed_ms: u64::try_from(stopping.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    ended
}

/// A thousand machines that boot at once hold a thousand transfers: the soft limit of 1024 files is a habit, not a need.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        emit(&Event::Noticed {
            about: "files",
            detail: format!(
                "the limit of open files stays at {:?}: {error}",
                limit.current
            ),
        });
    }
}

/// Waits for `stop`, or for a task that ends by itself: none should.
async fn run(
    tasks: &mut JoinSet<anyhow::Result<()>>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        ended = tasks.join_next() => {
            let ended = ended.map_or(Ok(Ok(())), |ended| ended);
            let already_stopping = stop.is_cancelled();
            stop.cancel();
            match ended {
                Ok(Ok(())) if already_stopping => Ok(()),
                Ok(Ok(())) => Err(anyhow::anyhow!("a server ended by itself")),
                Ok(Err(error)) => Err(error),
                Err(panic) => Err(anyhow::anyhow!("a server died: {panic}")),
            }
        }
    }
}

async fn drain(mut tasks: JoinSet<anyhow::Result<()>>) {
    let finish = async {
        while let Some(ended) = tasks.join_next().await {
            let error = match ended {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(panic) => panic.to_string(),
            };
            emit(&Event::Failed {
                about: "stop",
                error,
            });
        }
    };
    let in_time = tokio::time::timeout(DRAIN, finish).await.is_ok();
    if !in_time {
        emit(&Event::Noticed {
            about: "stop",
            detail: format!(
                "requests were still running after {} s and are cut",
                DRAIN.as_secs()
            ),
        });
        tasks.shutdown().await;
    }
}

fn tell_opened(store: &Store, opened: &crate::store::Opened) {
    if let Some(rebuilt) = &store.health().rebuilt {
        emit(&Event::Failed {
            about: "store",
            error: rebuilt.clone(),
        });
    }
    for (reservation, refusal) in &opened.set_aside {
        emit(&Event::SetAside {
            machine: reservation.title().to_owned(),
            reason: refusal.to_string(),
        });
    }
    for lease in &opened.revoked {
        emit(&Event::Revoked {
            address: lease.address,
            client: lease.client.to_string(),
            machine: "configuration file".to_owned(),
        });
    }
}

/// Samples are kept one by one until they are put into their buckets, and nobody may ever ask for them.
async fn keep_tidy(metrics: PrometheusHandle) {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}

async fn serve_admin(
    listener: TcpListener,
    metrics: PrometheusHandle,
    store: Store,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let render = move || async move {
        observe::show(&standing::count(&store, now_secs()));
        metrics.render()
    };
    let app = axum::Router::new()
        .route("/metrics", axum::routing::get(render))
        .route("/healthz", axum::routing::get(|| async { "ok\n" }));
    axum::serve(listener, app)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await?;
    Ok(())
}
