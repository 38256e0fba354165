//! What the API says of the service itself. In: the configuration, and the store as it is. Out: facts, worked out when they are asked for.

use std::sync::Arc;

use crate::config::{self, Config};
use crate::grpc::server_info::{Degraded, Facts};
use crate::store::Store;

/// The facts of a service of this configuration.
pub(super) fn of(config: &Config, store: &Store) -> Facts {
    let store = store.clone();
    Facts {
        backend: "sled",
        config: Arc::new(config::effective::of(config)),
        degraded: Arc::new(move || store_in_trouble(&store).into_iter().collect()),
    }
}

fn store_in_trouble(store: &Store) -> Option<Degraded> {
    let health = store.health();
    health.trouble.as_ref().map(|trouble| Degraded {
        capability: "store".to_owned(),
        state: trouble.clone(),
        consequence: "what is written is kept in the journal alone, which grows".to_owned(),
        next_step: "look at the log of bootjackd, and at the room on its disk".to_owned(),
    })
}
