//! Several services that share one store and one segment, or one set of relay agents. `bucket` is RFC 3074's hash of a client,
//! `shares` deals the buckets to the replicas that live, `group` says whose a client is, `record` writes all of it as others
//! read it; all pure. `shared` is what changes of it in memory, and `membership` keeps this replica a member.

pub mod bucket;
pub mod group;
pub mod membership;
pub mod record;
pub mod shared;
pub mod shares;
