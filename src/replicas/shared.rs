//! What of the group changes, in memory: who lives and whose a client is, read by whoever answers and never waited for; and what
//! this replica did.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};

use super::group::{Counts, Group};

/// The group as this replica knows it.
#[derive(Debug)]
pub struct Known {
    group: ArcSwap<Group>,
    /// Its membership was confirmed lately enough that nobody has taken over its share.
    is_confirmed: AtomicBool,
    pub taken: AtomicU64,
    pub forwarded: AtomicU64,
    pub left: AtomicU64,
}

impl Known {
    /// Nobody but itself, and not confirmed.
    pub fn new(own_id: String) -> Arc<Self> {
        Arc::new(Self {
            group: ArcSwap::from_pointee(Group::new(own_id)),
            is_confirmed: AtomicBool::new(false),
            taken: AtomicU64::new(0),
            forwarded: AtomicU64::new(0),
            left: AtomicU64::new(0),
        })
    }

    /// As it is now. To be held for a batch, and not for long.
    pub fn group(&self) -> Guard<Arc<Group>> {
        self.group.load()
    }

    /// Puts another in its place.
    pub fn publish(&self, group: Group) {
        self.group.store(Arc::new(group));
    }

    pub fn is_confirmed(&self) -> bool {
        self.is_confirmed.load(Ordering::Relaxed)
    }

    /// Answers whether it was so before.
    pub fn set_confirmed(&self, is_confirmed: bool) -> bool {
        self.is_confirmed.swap(is_confirmed, Ordering::Relaxed)
    }

    /// What it did since it started.
    pub fn counts(&self) -> Counts {
        Counts {
            taken: self.taken.load(Ordering::Relaxed),
            forwarded: self.forwarded.load(Ordering::Relaxed),
            left: self.left.load(Ordering::Relaxed),
        }
    }
}
