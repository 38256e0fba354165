//! What the writing thread is asked to do, and whom it tells. A job is looked at as often as it takes to write what comes of it:
//! where others write to the same store, the state it was checked against may be another before it is written.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::machines::{Act, ActError, Moved};
use super::{BatchError, ChangeError, ProfilesError, StoreError, Then, Written};
use crate::catalog::{Change, Refusal};
use crate::model::{BindingChange, Profile, Reservation};

/// Work for the thread, and whom to tell. Boxed where it is large: most jobs are leases.
pub(super) enum Job {
    Change {
        change: Box<Change>,
        now_secs: u64,
        reply: oneshot::Sender<Result<Written, ChangeError>>,
    },
    /// New reservations, all or none.
    Batch {
        new: Vec<Reservation>,
        now_secs: u64,
        reply: oneshot::Sender<Result<Vec<Written>, BatchError>>,
    },
    /// Promised in memory already.
    Bind {
        changes: Vec<BindingChange>,
        now_secs: u64,
        then: Then,
    },
    Act {
        id: String,
        act: Act,
        now_secs: u64,
        reply: oneshot::Sender<Result<Moved, ActError>>,
    },
    /// Other profiles: nothing of them is kept.
    Profiles {
        profiles: BTreeMap<String, Profile>,
        reply: oneshot::Sender<Result<(), ProfilesError>>,
    },
    Close,
}

/// What a job comes to, if all of its commit is written.
pub(super) enum Answer {
    Change(Result<Written, Refusal>),
    Batch(Result<Vec<Written>, Vec<(usize, Refusal)>>),
    /// For each change, whether it still could be made.
    Bind(Vec<bool>),
    Act(Result<Moved, ActError>),
    Profiles(Result<(), ProfilesError>),
    Close,
}

impl Job {
    /// How many records come of it, or a few more.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Change { .. } => 5,
            Self::Batch { new, .. } => 3 * new.len(),
            Self::Bind { changes, .. } => changes.len(),
            Self::Act { .. } => 2,
            Self::Profiles { .. } | Self::Close => 0,
        }
    }

    /// Tells whoever waits how the commit ended, and what came of the job.
    pub(super) fn tell(self, answer: Answer, outcome: &Result<(), StoreError>) {
        let outcome = outcome.clone();
        // Who waited may be gone.
        match (self, answer) {
            (Self::Change { reply, .. }, Answer::Change(answer)) => {
                let _ = reply.send(unless_failed(answer, outcome));
            }
            (Self::Batch { reply, .. }, Answer::Batch(answer)) => {
                let answer = answer.map_err(BatchError::Refused);
                let _ = reply.send(unless_failed(answer, outcome));
            }
            (Self::Act { reply, .. }, Answer::Act(answer)) => {
                let _ = reply.send(unless_failed(answer, outcome));
            }
            (Self::Profiles { reply, .. }, Answer::Profiles(answer)) => {
                let _ = reply.send(answer);
            }
            (Self::Bind { then, .. }, Answer::Bind(accepted)) => {
                then(outcome.map(|()| accepted));
            }
            // Each job has its own kind of answer.
            _ => {}
        }
    }
}

impl Answer {
    /// Whether it says no because of how things stand.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Change(answer) => answer.is_err(),
            Self::Batch(answer) => answer.is_err(),
            Self::Act(answer) => answer.is_err(),
            Self::Bind(_) | Self::Profiles(_) | Self::Close => false,
        }
    }
}

/// A refusal stands whatever became of the others of its commit, unless nobody can say how things stand.
fn unless_failed<T, R, E: From<R> + From<StoreError>>(
    answer: Result<T, R>,
    outcome: Result<(), StoreError>,
) -> Result<T, E> {
    match (answer, outcome) {
        (_, Err(away @ StoreError::Away(_))) => Err(away.into()),
        (Err(refused), _) => Err(refused.into()),
        (Ok(_), Err(failed)) => Err(failed.into()),
        (Ok(answer), Ok(())) => Ok(answer),
    }
}
