//! Several services that share one etcd, and one segment or a set of relay agents. `bucket` is RFC 3074's hash of a client,
//! `shares` deals the buckets to the replicas that live, `group` says whose a client is, `record` writes all of it as the others
//! read it and `roll` reads all of theirs; all pure. `shared` is what changes of it in memory. `membership` keeps this replica a
//! member, `following` follows the others, `desk` writes what operators ask for.

pub mod bucket;
pub mod desk;
pub mod following;
pub mod group;
pub mod membership;
pub mod record;
pub mod roll;
pub mod shared;
pub mod shares;
