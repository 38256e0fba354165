//! Where machines stand, kept: written by the same thread as everything else, acknowledged when synced. What a signal or a word
//! makes of a machine is `lifecycle`'s to say; it is said here of the state that the writes before it have left.

use std::net::IpAddr;
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::oneshot;

use super::commit::Draft;
use super::job::Job;
use super::{RecordChange, Store, StoreError};
use crate::catalog::Catalog;
use crate::lifecycle::{self, Command, NotNow, Signal, Step};
use crate::model::{ClientKey, Event, Machine, Phase, Reservation, Source, Verdict, Why};

/// What happens to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    Signal(Signal),
    Command(Command),
}

/// A machine before and after; the same twice where nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    pub before: Machine,
    pub after: Machine,
    /// The profile it has, by itself or by a group; empty if it has none.
    pub profile: String,
}

/// Why nothing happened to a machine.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ActError {
    #[error("there is no such machine")]
    Unknown,
    /// A call-back of an attempt that is over.
    #[error("its attempt is over")]
    Late,
    #[error(transparent)]
    NotNow(#[from] NotNow),
    #[error(transparent)]
    Failed(#[from] StoreError),
}

impl Moved {
    /// What is to be told of it.
    pub fn events(&self, reservation: &Reservation) -> Vec<Event> {
        lifecycle::changes(&self.before, &self.after)
            .into_iter()
            .map(|(change, reason)| Event::Lifecycle {
                id: reservation.id.clone(),
                machine: reservation.title().to_owned(),
                attempt: self.after.attempt,
                change,
                reason,
            })
            .chain(self.install_ended(reservation))
            .collect()
    }

    fn install_ended(&self, reservation: &Reservation) -> Option<Event> {
        let outcome = match &self.after.phase {
            Phase::Installed => "installed",
            Phase::Failed(_) => "failed",
            Phase::Armed if self.after.retries_used > self.before.retries_used => "retried",
            _ => return None,
        };
        (self.before.phase == Phase::Installing).then(|| Event::InstallEnded {
            machine: reservation.title().to_owned(),
            profile: self.profile.clone(),
            outcome,
            seconds: self.after.since_secs.saturating_sub(self.before.since_secs),
        })
    }
}

impl Store {
    /// The machine that has this address, as far as reservations and leases say.
    pub fn reservation_at(&self, address: IpAddr) -> Option<Arc<Reservation>> {
        let IpAddr::V4(address) = address else {
            return None;
        };
        let catalog = self.shared.catalog.load();
        if let Some(reservation) = catalog.by_address(address) {
            return Some(reservation.clone());
        }
        let bindings = self.shared.bindings();
        let lease = bindings.at(address)?;
        match (&lease.reservation, &lease.client) {
            (Some(id), _) => catalog.by_id(id).cloned(),
            (None, ClientKey::Mac(mac)) => catalog.by_mac(*mac).cloned(),
            (None, ClientKey::Id(_)) => None,
        }
    }

    /// Why the machine that has this address is not to boot anything of its own from the network now, if it is not.
    pub fn sent_away(&self, client: IpAddr, now_secs: u64) -> Option<Why> {
        let reservation = self.reservation_at(client)?;
        match lifecycle::verdict(&self.shared.catalog.load(), &reservation, now_secs) {
            Verdict::LocalDisk(Why::NothingToBoot) => None,
            Verdict::LocalDisk(why) | Verdict::Refuse(why) => Some(why),
            Verdict::Serve { .. } | Verdict::Rescue => None,
        }
    }

    /// Does it to the machine of this reservation. Returns when what came of it is on disk and every later `catalog()` has it.
    pub async fn act(&self, id: &str, act: Act, now_secs: u64) -> Result<Moved, ActError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Act {
            id: id.to_owned(),
            act,
            now_secs,
            reply,
        };
        self.queue(job).await?;
        answer.await.map_err(|_| StoreError::Stopped)?
    }
}

/// Does it in the draft.
pub(super) fn act(draft: &mut Draft, id: &str, act: Act, now: u64) -> Result<Moved, ActError> {
    let reservation = draft.catalog.by_id(id).ok_or(ActError::Unknown)?.clone();
    let profile = draft.catalog.profile_of(&reservation);
    let name = profile
        .map(|profile| profile.name.clone())
        .unwrap_or_default();
    let known = draft.catalog.machine(id).cloned();
    let before = known.unwrap_or_else(|| Machine::idle(id, now));
    let after = match act {
        Act::Signal(signal) => match lifecycle::advance(&before, profile, &signal, now) {
            Step::Moved(after) => after,
            Step::Same => before.clone(),
            Step::Refused => return Err(ActError::Late),
        },
        Act::Command(command) => lifecycle::obey(&before, profile, command, now)?,
    };
    if after != before {
        draft.catalog = draft.catalog.with_machine(after.clone());
        draft.write(RecordChange::PutMachine(after.clone()), draft.revision + 1);
    }
    Ok(Moved {
        before,
        after,
        profile: name,
    })
}

/// A reservation was made: with a profile that installs, its machine is armed in the same commit.
pub(super) fn create(draft: &mut Draft, reservation: &Reservation, now_secs: u64) {
    let profile = draft.catalog.profile_of(reservation);
    if profile.is_some_and(|profile| profile.install.is_some()) {
        let machine = lifecycle::created(&reservation.id, profile, now_secs);
        draft.catalog = draft.catalog.with_machine(machine.clone());
        draft.write_too(RecordChange::PutMachine(machine));
    }
}

/// A reservation was deleted, and its machine with it.
pub(super) fn forget(draft: &mut Draft, id: &str) {
    if draft.catalog.machine(id).is_some() {
        draft.catalog = draft.catalog.without_machine(id);
    }
    // One that is set aside has its machine on disk alone.
    draft.write_too(RecordChange::DeleteMachine(id.to_owned()));
}

/// The catalog with its machines, and what is to be written of them: those of reservations that are gone are forgotten, and
/// reservations that the configuration file names for the first time are created by that word. That they have been seen is
/// noted, so that a profile that begins to install does not arm whom it served before.
pub(super) fn opened(
    mut catalog: Catalog,
    machines: Vec<Machine>,
    may_be_anothers: impl Fn(&str) -> bool,
    now_secs: u64,
) -> (Catalog, Vec<RecordChange>) {
    let (known, gone): (Vec<Machine>, Vec<Machine>) =
        (machines.into_iter()).partition(|machine| catalog.by_id(&machine.id).is_some());
    let mut changes: Vec<RecordChange> = (gone.into_iter())
        .filter(|machine| !may_be_anothers(&machine.id))
        .map(|machine| RecordChange::DeleteMachine(machine.id))
        .collect();
    catalog = catalog.with_machines(known);
    let new: Vec<Machine> = catalog
        .reservations(None)
        .filter(|r| r.source == Source::ConfigFile && catalog.machine(&r.id).is_none())
        .map(|r| lifecycle::created(&r.id, catalog.profile_of(r), now_secs))
        .collect();
    changes.extend(new.iter().cloned().map(RecordChange::PutMachine));
    (catalog.with_machines(new), changes)
}
