//! What happens although nobody says a word: attempts run into their deadline, boots stand still, and the store fails at what
//! nobody waits for. In: the store and the timeline, now and then. Out: the state that follows, written and told; and each stall
//! and each trouble, told once.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::lifecycle::{Signal, is_overdue};
use crate::model::Event;
use crate::net::now_secs;
use crate::observe::emit;
use crate::observe::timeline::{Timeline, now_ms};
use crate::stalls;
use crate::store::{Act, ActError, Health, Store};

/// Nobody waits for it: what is served follows from the time alone.
const EVERY: Duration = Duration::from_secs(2);

/// Whoever was silent for longer is switched off, and no news.
const LOOKED_AT_MS: u64 = 15 * 60 * 1000;

/// Looks at every machine until `stop`.
pub(super) async fn keep_watching(store: Store, timeline: Timeline, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {
                end_overdue_attempts(&store).await;
                tell_stalls(&timeline, now_ms());
                tell_trouble(&store.health(), &mut told);
            }
        }
    }
}

/// Tells the store's trouble when it begins or becomes another, and when it is over.
fn tell_trouble(health: &Health, told: &mut Option<String>) {
    if health.trouble == *told {
        return;
    }
    told.clone_from(&health.trouble);
    emit(&match &health.trouble {
        Some(trouble) => Event::Failed {
            about: "store",
            error: trouble.clone(),
        },
        None => Event::Noticed {
            about: "store",
            detail: "works again, and has caught up".to_owned(),
        },
    });
}

fn tell_stalls(timeline: &Timeline, now_ms: u64) {
    for subject in timeline.subjects_since(now_ms.saturating_sub(LOOKED_AT_MS)) {
        let entries = timeline.of(&subject);
        let entries = || entries.iter().map(|entry| &**entry);
        if let Some(stall) = stalls::find(entries(), now_ms)
            && !stalls::is_told(entries(), &stall)
        {
            emit(&Event::Stalled {
                subject,
                what: stall.what,
                hint: stall.hint,
            });
        }
    }
}

async fn end_overdue_attempts(store: &Store) {
    let (catalog, now) = (store.catalog(), now_secs());
    for machine in catalog.machines() {
        let Some(reservation) = catalog.by_id(&machine.id) else {
            continue;
        };
        if !is_overdue(machine, catalog.profile_of(reservation), now) {
            continue;
        }
        match store.act(&machine.id, Act::Signal(Signal::Tick), now).await {
            Ok(moved) => moved.events(reservation).iter().for_each(emit),
            Err(ActError::Failed(error)) => emit(&Event::Failed {
                about: "store",
                error: error.to_string(),
            }),
            // It was deleted meanwhile.
            Err(_) => {}
        }
    }
}
