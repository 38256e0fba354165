//! What the API says of the service itself. In: the configuration, and the store as it is. Out: facts, worked out when they are asked for.

use std::sync::Arc;

use super::capabilities::survey;
use crate::config::{self, Backend, Config};
use crate::grpc::server_info::{Degraded, Facts};
use crate::model::{Capability, Standing};
use crate::store::Store;

/// The facts of a service of this configuration.
pub(super) fn of(config: &Config, store: &Store) -> Facts {
    let (store, own) = (store.clone(), config.clone());
    Facts {
        backend: match config.store.backend {
            Backend::Sled => "sled",
            Backend::Etcd(_) => "etcd",
        },
        config: Arc::new(config::effective::of(config)),
        degraded: Arc::new(move || {
            let found = [store_in_trouble(&store), store_away(&store)];
            let needs = survey(&own).into_iter().filter_map(not_good);
            found.into_iter().flatten().chain(needs).collect()
        }),
    }
}

fn not_good(need: Capability) -> Option<Degraded> {
    (need.state != Standing::Good).then(|| Degraded {
        capability: need.name.to_owned(),
        state: need.detail,
        consequence: need.consequence,
        next_step: need.next_step,
    })
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

fn store_away(store: &Store) -> Option<Degraded> {
    let since = store.health().away_since_secs?;
    Some(Degraded {
        capability: "store".to_owned(),
        state: format!("etcd has not answered since {since} (unix time)"),
        consequence: "known machines are answered, new ones are not, and nothing can be written"
            .to_owned(),
        next_step: "look at etcd, and at the way to it: etcdctl endpoint status".to_owned(),
    })
}
