//! What is said to etcd and heard of it, in our words. Values only.

use bytes::Bytes;
use thiserror::Error;

/// A lease of etcd's: keys that are bound to it end with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseId(pub i64);

/// A key as it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    /// The revision it was last written in; never 0.
    pub mod_revision: i64,
    /// The lease it ends with, if any.
    pub lease: Option<LeaseId>,
}

/// All keys that begin alike, as they stood at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub entries: Vec<KeyValue>,
    pub revision: i64,
}

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key was last written in this revision; 0: there is no such key.
    Revision { key: Bytes, is: i64 },
    /// The key has this value.
    Value { key: Bytes, is: Bytes },
}

/// One write or read of a transaction. No key may be written twice in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Put {
        key: Bytes,
        value: Bytes,
        lease: Option<LeaseId>,
    },
    /// Binds the key to this lease, or to none, and leaves its value; the transaction is refused where there is no such key.
    Rebind {
        key: Bytes,
        lease: Option<LeaseId>,
    },
    Delete {
        key: Bytes,
    },
    /// Deletes every key that begins so.
    DeleteAll {
        prefix: Bytes,
    },
    /// Reads a key.
    Get {
        key: Bytes,
    },
}

/// Carried out whole: `then` if every condition holds, `otherwise` if not. etcd takes 128 of each, and 1.5 MiB, unless its
/// operator said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub then: Vec<Op>,
    pub otherwise: Vec<Op>,
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Whether every condition held.
    pub succeeded: bool,
    /// The revision of the whole key space after it: that of the keys it wrote, if it wrote any.
    pub revision: i64,
    /// What its `Get`s found, in their order.
    pub found: Vec<Option<KeyValue>>,
    /// It was sent more than once, since no answer came: where a condition failed, an earlier try may have been carried out.
    pub was_repeated: bool,
}

/// One change that a watch saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub key: Bytes,
    /// None: it was deleted, or ended with its lease.
    pub value: Option<Bytes>,
    /// The revision of the change.
    pub revision: i64,
}

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EtcdError {
    /// No server answered in time. What was to be written may have been, or may be yet.
    #[error("etcd is away: {0}")]
    Away(String),
    /// A server answered, and would not; nothing was written.
    #[error("etcd refused: {0}")]
    Refused(String),
    /// The wanted revision can no longer be had.
    #[error("etcd has compacted the revision that was wanted")]
    Compacted,
    #[error("{0}")]
    Unusable(String),
}

/// The key after all that begin with `prefix`; empty where there is none.
pub fn end_of_prefix(prefix: &[u8]) -> Bytes {
    let kept = prefix.iter().rposition(|octet| *octet != 0xff);
    let Some(last) = kept else {
        // etcd's way to say: up to the end.
        return Bytes::from_static(&[0]);
    };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        assert_eq!(&end_of_prefix(b"lease/")[..], b"lease0");
        assert_eq!(&end_of_prefix(b"a\xff")[..], b"b");
        assert_eq!(&end_of_prefix(b"\xff\xff")[..], b"\0");
    }
}
