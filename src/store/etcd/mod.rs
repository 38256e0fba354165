//! etcd, as several `bootjackd` share it. In: keys, values, conditions. Out: transactions that were made or were not, and every
//! change that anybody makes, in order.
//!
//! | file | what it is |
//! |---|---|
//! | `contract.proto` | the part of etcd's contract that we speak |
//! | `wire` | the only file that names the types made of it |
//! | `terms` | keys, transactions and answers in our words |
//! | `settings` | where etcd is, and how it is spoken to |
//! | `client` | calls that are made at the next server where one is away |
//! | `watch` | changes in order, over broken connections and compactions |
//! | `names` | where each record stands, and what a key and its value say |
//! | `mirror` | what is known here of what stands there |
//! | `plan` | from records to a transaction: what it compares is why nothing is granted twice |
//! | `staged`, `batch` | batches that are too large for one transaction |
//! | `backend` | the store's backend over all of these |

mod backend;
mod batch;
mod client;
mod mirror;
mod names;
mod plan;
mod settings;
mod staged;
mod terms;
mod watch;
mod wire;

pub use self::backend::Etcd;
pub use self::client::Client;
pub use self::settings::{Login, Settings, Tls};
pub use self::terms::{
    Committed, Compare, EtcdError, Event, KeyValue, LeaseId, Listing, Op, Txn, end_of_prefix,
};
pub use self::watch::{Seen, Watch};

#[cfg(test)]
mod tests;
