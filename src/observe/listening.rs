//! Where the service listens now. In: the events that say so. Out: all of it, for whoever asks.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::Event;

type Listening = BTreeMap<(&'static str, String), String>;

static LISTENING: Mutex<Listening> = Mutex::new(Listening::new());

/// Every protocol with its address, and why it is there.
pub fn all() -> Vec<(&'static str, String, String)> {
    let all = lock();
    (all.iter())
        .map(|((protocol, address), reason)| (*protocol, address.clone(), reason.clone()))
        .collect()
}

pub(super) fn note(event: &Event) {
    match event {
        Event::Listening {
            protocol,
            address,
            reason,
        } => drop(lock().insert((protocol, address.clone()), reason.clone())),
        Event::Gone {
            protocol, address, ..
        } => drop(lock().remove(&(*protocol, address.clone()))),
        _ => {}
    }
}

fn lock() -> MutexGuard<'static, Listening> {
    LISTENING.lock().unwrap_or_else(PoisonError::into_inner)
}
