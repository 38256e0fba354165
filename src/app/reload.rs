//! Profiles, read again when they change: on SIGHUP, and when a file of theirs is another. In: the directory. Out: what is sound
//! is served from between one packet and the next; what is not is refused with its problems, and the last good one goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::notify;
use crate::catalog::{Catalog, Refusal};
use crate::lint::Severity;
use crate::lint::machine::{broken, survey};
use crate::model::{Event, Profile};
use crate::observe::emit;
use crate::store::profiles::{Fingerprint, Places, fingerprint, read_each};
use crate::store::{ProfilesError, Store};

/// How often the files are looked at. What has changed is read once it has stayed the same from one look to the next: whoever
/// copies a directory is not done with its first file.
const EVERY: Duration = Duration::from_millis(1000);

/// Keeps the profiles of a store as their directory has them.
pub(super) struct Reloader {
    store: Store,
    places: Places,
    hangup: Signal,
}

impl Reloader {
    /// From here on SIGHUP asks for profiles, and ends nothing.
    pub(super) fn new(store: Store, places: Places) -> std::io::Result<Self> {
        Ok(Self {
            store,
            places,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Looks until `stop`.
    pub(super) async fn keep_watching(mut self, stop: CancellationToken) {
        self.tell_broken().await;
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Of what was read last, and of the last look. What was read at start may have changed before the first look.
        let mut read = None;
        let mut seen = Fingerprint::new();
        loop {
            let is_asked = tokio::select! {
                () = stop.cancelled() => return,
                _ = self.hangup.recv() => true,
                _ = ticks.tick(), if self.places.dir.is_some() => false,
            };
            let now = self.look().await;
            let has_settled = now == seen;
            seen.clone_from(&now);
            if is_asked || (has_settled && read.as_ref() != Some(&now)) {
                read = Some(now);
                notify::reloading();
                self.reload(is_asked).await;
                notify::ready();
            }
        }
    }

    async fn look(&self) -> Fingerprint {
        let Some(dir) = self.places.dir.clone() else {
            return Fingerprint::new();
        };
        let look = tokio::task::spawn_blocking(move || fingerprint(&dir));
        look.await.unwrap_or_default()
    }

    /// Says at start which documents are broken: the configuration file's reservations are written by nobody who could be told.
    async fn tell_broken(&self) {
        let catalog = self.store.catalog();
        let look = move || {
            let surveyed = survey(&catalog, catalog.profiles().values());
            surveyed
                .into_iter()
                .filter(|s| s.finding.severity == Severity::Error && !s.machines.is_empty())
                .collect::<Vec<_>>()
        };
        for found in tokio::task::spawn_blocking(look).await.unwrap_or_default() {
            emit(&Event::DocumentBroken {
                profile: found.profile,
                machines: found.machines.len(),
                error: found.finding.for_log(),
            });
        }
    }

    async fn reload(&self, tell_always: bool) {
        let _turn = self.store.turn_with_profiles().await;
        let (places, catalog) = (self.places.clone(), self.store.catalog());
        let read = move || {
            let (each, problem) = read_each(&places);
            if let Some(problem) = problem {
                // Without the directory nothing is known of any profile: all of them stay.
                return (
                    None,
                    vec![("boot.profiles".to_owned(), problem.to_string())],
                );
            }
            let (next, refused) = choose(&catalog, each);
            (Some(next), refused)
        };
        let Ok((next, refused)) = tokio::task::spawn_blocking(read).await else {
            return;
        };
        for (profile, error) in refused {
            emit(&Event::ProfileRefused { profile, error });
        }
        let Some((profiles, changed)) = next else {
            return;
        };
        if changed.is_empty() && !tell_always {
            return;
        }
        match self.store.replace_profiles(profiles).await {
            Ok(()) => emit(&Event::ProfilesLoaded { changed }),
            // A reservation was written meanwhile; the next look finds it.
            Err(ProfilesError::Refused(refused)) => emit(&Event::ProfileRefused {
                profile: changed.join(", "),
                error: said(&refused),
            }),
            Err(ProfilesError::Failed(error)) => emit(&Event::Failed {
                about: "store",
                error: error.to_string(),
            }),
        }
    }
}

type Profiles = BTreeMap<String, Profile>;
type Refusals = Vec<(String, String)>;

/// The profiles to serve from, which of them are other ones than before, and which are refused and why.
fn choose(
    catalog: &Catalog,
    each: crate::store::profiles::Each,
) -> ((Profiles, Vec<String>), Refusals) {
    let known = catalog.profiles();
    let mut refused = Vec::new();
    let mut next = known.clone();
    let names: BTreeSet<String> = known.keys().chain(each.keys()).cloned().collect();
    let mut each = each;
    for name in names {
        let before = next.get(&name).cloned();
        match each.remove(&name) {
            Some(Ok(profile)) if before.as_ref() == Some(&profile) => continue,
            Some(Ok(profile)) => next.insert(name.clone(), profile),
            None => next.remove(&name),
            Some(Err(problems)) => {
                refused.push((name, problems.to_string()));
                continue;
            }
        };
        if let Err(error) = check(catalog, &next, &name) {
            refused.push((name.clone(), error));
            match before {
                Some(before) => next.insert(name, before),
                None => next.remove(&name),
            };
        }
    }
    let is_other = |name: &&String| known.get(*name) != next.get(*name);
    let names: BTreeSet<&String> = known.keys().chain(next.keys()).collect();
    let changed = names.into_iter().filter(is_other).cloned().collect();
    ((next, changed), refused)
}

/// Whether every machine fits the profile of this name as it is now, and can be served all of its documents.
fn check(catalog: &Catalog, profiles: &Profiles, name: &str) -> Result<(), String> {
    let next = (catalog.with_profiles(profiles.clone())).map_err(|refused| said(&refused))?;
    let errors: Vec<String> = (broken(&next, name).into_iter())
        .map(|found| {
            format!(
                "for {}: {}",
                found.machines.join(", "),
                found.finding.for_log()
            )
        })
        .collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors.join("; "))
    }
}

/// The first few of them: a profile may have thousands of machines.
fn said(refused: &[Refusal]) -> String {
    let first: Vec<String> = refused.iter().take(3).map(ToString::to_string).collect();
    match refused.len().saturating_sub(3) {
        0 => first.join("; "),
        more => format!("{}; and {more} more", first.join("; ")),
    }
}
