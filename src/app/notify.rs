//! What the service manager is told, where there is one (sd_notify(3)): that the service is ready, reads its profiles again, still
//! runs, and stops. Without one, nothing happens.

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

pub(super) fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says that tasks are run, as often as it is wanted.
pub(super) async fn keep_alive(stop: CancellationToken) {
    let Some(patience) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut ticks = tokio::time::interval(patience / 3);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(states: &[NotifyState]) {
    // A manager that does not listen is not missed.
    let _ = sd_notify::notify(states);
}
