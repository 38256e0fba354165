//! The writing thread: takes the jobs that wait, checks each purely against the catalog after the ones before it, commits all of
//! them with one sync, publishes, and only then acknowledges.
//!
//! Bindings are promised in memory before they are written (`Store::decide`), which can only keep an address from somebody
//! longer than needed. The catalog changes in memory when it has changed on disk, and not before.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::feed::{LeaseNote, ReservationNote};
use super::job::{Answer, Job};
use super::machines;
use super::{Backend, ProfilesError, RecordChange, Shared, StoreError, Written};
use crate::bindings::Bindings;
use crate::catalog::{Catalog, Change, Refusal};
use crate::model::{BindingChange, ClientKey, Lease, LeaseState, Reservation};

/// How many jobs one commit carries.
const JOBS_PER_COMMIT: usize = 256;
/// The least time between two syncs: who comes while many do is synced together with them.
const PACE: Duration = Duration::from_millis(2);
/// How often a commit is tried that others overtake.
const MOST_TRIES: usize = 50;
/// How often the backend may tidy up while nothing happens, and how often it is asked how it is.
const IDLE: Duration = Duration::from_secs(1);

/// The writing thread's own.
pub(super) struct Committer {
    pub(super) backend: Box<dyn Backend>,
    pub(super) shared: Arc<Shared>,
    pub(super) revision: u64,
    /// Reservations that are on disk and not in the catalog; they can only be deleted.
    pub(super) set_aside: Vec<Arc<Reservation>>,
}

/// The state that a batch of jobs works towards.
pub(super) struct Draft {
    pub(super) catalog: Catalog,
    pub(super) records: Vec<RecordChange>,
    pub(super) revision: u64,
    /// The catalog is another, though nothing of it is on disk.
    pub(super) is_renewed: bool,
    /// Leases that were promised and can no longer be.
    overtaken: Vec<Lease>,
    /// Addresses that a reservation has taken for its machine, or left.
    pub(super) touched: Vec<Ipv4Addr>,
    now_secs: u64,
    /// What is told once it is published, in order.
    pub(super) reservation_notes: Vec<ReservationNote>,
    pub(super) lease_notes: Vec<LeaseNote>,
}

/// Why the thread woke up.
enum Wake {
    Job(Option<Job>),
    /// Others have written something.
    News,
    Nothing,
}

impl Committer {
    /// Works until it is told to close, or until nobody can give it a job any more. `clock` is this thread's own: it wakes it
    /// up when nothing comes.
    pub(super) fn run(&mut self, mut waiting: mpsc::Receiver<Job>, clock: &Runtime) {
        let mut closing = false;
        let mut last_commit: Option<Instant> = None;
        let mut looked = Instant::now();
        let mut left_over: Option<Job> = None;
        while !closing {
            let wake = match left_over.take() {
                Some(job) => Wake::Job(Some(job)),
                None => clock.block_on(async {
                    tokio::select! {
                        job = waiting.recv() => Wake::Job(job),
                        () = self.backend.heard() => Wake::News,
                        () = tokio::time::sleep(IDLE) => Wake::Nothing,
                    }
                }),
            };
            match wake {
                Wake::Job(Some(first)) => {
                    if let Some(early) = last_commit.and_then(|at| PACE.checked_sub(at.elapsed())) {
                        std::thread::park_timeout(early);
                    }
                    last_commit = Some(Instant::now());
                    let jobs;
                    (jobs, left_over) = self.gather(first, &mut waiting);
                    closing = jobs.iter().any(|job| matches!(job, Job::Close));
                    self.commit(jobs);
                }
                Wake::Job(None) => break,
                Wake::News => self.take_in_news(),
                Wake::Nothing => self.backend.tidy(),
            }
            if looked.elapsed() >= IDLE {
                looked = Instant::now();
                if self.backend.is_shared() {
                    self.backend.tidy();
                }
                self.shared.set_health(&*self.backend);
            }
        }
        self.backend.close();
        self.shared.set_health(&*self.backend);
    }

    /// As many of the jobs that wait as one commit carries, and the one that is too many, if one is.
    fn gather(&self, first: Job, waiting: &mut mpsc::Receiver<Job>) -> (Vec<Job>, Option<Job>) {
        let most = self.backend.records_per_write();
        let mut weight = first.weight();
        let mut jobs = vec![first];
        while jobs.len() < JOBS_PER_COMMIT
            && let Ok(job) = waiting.try_recv()
        {
            weight += job.weight();
            if weight > most {
                return (jobs, Some(job));
            }
            jobs.push(job);
        }
        (jobs, None)
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        let mut tries = 0;
        let (draft, answers, outcome) = loop {
            self.take_in_news();
            let mut draft = self.draft();
            let answers: Vec<Answer> = (jobs.iter())
                .map(|job| self.prepare(job, &mut draft))
                .collect();
            let is_refusal = answers.iter().any(Answer::is_refusal);
            let outcome = match draft.records.as_slice() {
                [] if is_refusal => self.backend.confirm(),
                [] => Ok(()),
                records => self.backend.write(records),
            };
            if outcome != Err(StoreError::Overtaken) {
                break (draft, answers, outcome);
            }
            tries += 1;
            if tries == MOST_TRIES {
                let away = "others write faster than this one can; try again".to_owned();
                break (draft, answers, Err(StoreError::Away(away)));
            }
            if let Err(away) = self.backend.catch_up() {
                break (draft, answers, Err(away));
            }
            if self.backend.was_made() {
                self.take_in_news();
                break (self.draft(), answers, Ok(()));
            }
        };
        self.publish(draft, outcome.is_ok());
        if outcome.is_err() {
            self.shared.set_health(&*self.backend);
        }
        for (job, answer) in jobs.into_iter().zip(answers) {
            job.tell(answer, &outcome);
        }
    }

    /// A draft that says what is.
    pub(super) fn draft(&self) -> Draft {
        Draft {
            catalog: (**self.shared.catalog.load()).clone(),
            records: Vec::new(),
            revision: self.revision,
            is_renewed: false,
            overtaken: Vec::new(),
            touched: Vec::new(),
            now_secs: 0,
            reservation_notes: Vec::new(),
            lease_notes: Vec::new(),
        }
    }

    pub(super) fn publish(&mut self, mut draft: Draft, written: bool) {
        let mut bindings = self.shared.bindings();
        for lease in draft.overtaken {
            if bindings.at(lease.address) == Some(&lease) {
                bindings.forget(lease.address);
            }
        }
        if !written {
            draft.records.into_iter().for_each(|record| {
                if let RecordChange::PutLease(lease) = record {
                    let kept = self.backend.kept(lease.address);
                    back_to_what_is_kept(&mut bindings, lease, kept, draft.now_secs);
                }
            });
            return;
        }
        for address in draft.touched {
            match draft.catalog.by_address(address) {
                Some(_) => bindings.reserve(address),
                None => bindings.unreserve(address),
            }
            // Whoever was promised it while its reservation was being written, too.
            let is_in_the_way =
                (bindings.at(address)).is_some_and(|l| !may_hold(&draft.catalog, l));
            if is_in_the_way && let Some(lease) = bindings.forget(address) {
                draft.lease_notes.push(LeaseNote::Forgotten(lease));
            }
        }
        for record in &draft.records {
            if let RecordChange::DeleteReservation(id) = record {
                self.set_aside.retain(|reservation| reservation.id != *id);
            }
        }
        if draft.revision != self.revision || draft.is_renewed {
            self.revision = draft.revision;
            self.shared.catalog.store(Arc::new(draft.catalog));
        }
        if self.shared.aside.load().len() != self.set_aside.len() {
            self.shared.aside.store(Arc::new(self.set_aside.clone()));
        }
        // With the bindings still locked: whoever takes both knows how far the feed is.
        let feed = &self.shared.feed;
        feed.publish(draft.reservation_notes, draft.lease_notes, self.revision);
    }

    /// Makes the job's change in the draft; answers what comes of it if the draft is written.
    fn prepare(&self, job: &Job, draft: &mut Draft) -> Answer {
        match job {
            Job::Close => Answer::Close,
            Job::Profiles { profiles, .. } => {
                let next = draft.catalog.with_profiles(profiles.clone());
                Answer::Profiles(next.map_err(ProfilesError::Refused).map(|next| {
                    draft.catalog = next;
                    draft.is_renewed = true;
                }))
            }
            Job::Change {
                change, now_secs, ..
            } => Answer::Change(self.draft_change((**change).clone(), *now_secs, draft)),
            Job::Batch { new, now_secs, .. } => {
                Answer::Batch(self.draft_batch(new.clone(), *now_secs, draft))
            }
            Job::Act {
                id, act, now_secs, ..
            } => Answer::Act(machines::act(draft, id, act.clone(), *now_secs)),
            Job::Bind {
                changes, now_secs, ..
            } => {
                draft.now_secs = *now_secs;
                let bind = |change: &BindingChange| {
                    self.is_still_promised(change, draft) && draft.bind(change.clone())
                };
                Answer::Bind(changes.iter().map(bind).collect())
            }
        }
    }

    /// Where others write too, what was promised may have become somebody's meanwhile, and what was heard of it since has taken the
    /// promise's place in memory: it is promised again, if it still can be.
    fn is_still_promised(&self, change: &BindingChange, draft: &mut Draft) -> bool {
        let BindingChange::Put(lease) = change else {
            return true;
        };
        if !self.backend.is_shared() {
            return true;
        }
        let mut bindings = self.shared.bindings();
        if !bindings.permits(change, draft.now_secs) {
            draft.overtaken.push(lease.clone());
            return false;
        }
        let known = bindings.at(lease.address);
        let takes = matches!(lease.state, LeaseState::Bound | LeaseState::Declined);
        let is_theirs = known.is_some_and(|known| known.client == lease.client);
        if known != Some(lease) && (takes || is_theirs) {
            bindings.apply(change.clone());
        }
        true
    }

    fn draft_change(
        &self,
        mut change: Change,
        now_secs: u64,
        draft: &mut Draft,
    ) -> Result<Written, Refusal> {
        let revision = draft.revision + 1;
        match &mut change {
            Change::Create(reservation) => {
                if let Some(made) = already_made(&draft.catalog, reservation)? {
                    return Ok(made);
                }
                stamp(reservation, revision, now_secs, now_secs);
                self.refuse_set_aside(&reservation.id)?;
            }
            Change::Update { reservation, .. } => {
                let known = draft.catalog.by_id(&reservation.id);
                let created_secs = known.map_or(now_secs, |known| known.created_secs);
                stamp(reservation, revision, created_secs, now_secs);
            }
            Change::Delete { id, expected } => {
                if let Some(reservation) = self.set_aside.iter().find(|r| r.id == *id)
                    && draft.catalog.by_id(id).is_none()
                {
                    if let Some(expected) = expected.filter(|e| *e != reservation.revision) {
                        return Err(Refusal::Stale {
                            id: id.as_str().into(),
                            title: reservation.title().to_owned(),
                            current: reservation.revision,
                            expected,
                        });
                    }
                    draft.write(RecordChange::DeleteReservation(id.clone()), revision);
                    machines::forget(draft, id);
                    return Ok(Written::of((**reservation).clone()));
                }
            }
        }
        let next = draft.catalog.with(&change)?;
        let is_new = matches!(change, Change::Create(_));
        let (reservation, record) = match change {
            Change::Create(reservation) | Change::Update { reservation, .. } => {
                let record = RecordChange::PutReservation(reservation.clone());
                (reservation, record)
            }
            Change::Delete { id, .. } => {
                let known = draft.catalog.by_id(&id).map(|known| (**known).clone());
                let reservation = known.ok_or_else(|| Refusal::NotFound(id.clone()))?;
                (reservation, RecordChange::DeleteReservation(id))
            }
        };
        draft.follow(next, &reservation.id, revision);
        let is_gone = matches!(record, RecordChange::DeleteReservation(_));
        draft.write(record, revision);
        if is_new {
            machines::create(draft, &reservation, now_secs);
        } else if is_gone {
            machines::forget(draft, &reservation.id);
        }
        let revoked = draft.revoke_against(&reservation, &self.shared.bindings());
        Ok(Written {
            revoked,
            ..Written::of(reservation)
        })
    }

    /// All of them, each with a revision of its own, or every one that cannot be.
    fn draft_batch(
        &self,
        mut new: Vec<Reservation>,
        now_secs: u64,
        draft: &mut Draft,
    ) -> Result<Vec<Written>, Vec<(usize, Refusal)>> {
        let mut made = Vec::new();
        for (at, new) in new.iter().enumerate() {
            made.extend(already_made(&draft.catalog, new).map_err(|why| vec![(at, why)])?);
        }
        // One call made them: either all of them are there, or none.
        if !made.is_empty() {
            return Ok(made);
        }
        for (revision, reservation) in (draft.revision + 1..).zip(&mut new) {
            stamp(reservation, revision, now_secs, now_secs);
        }
        let aside = (new.iter().enumerate())
            .filter_map(|(at, new)| Some((at, self.refuse_set_aside(&new.id).err()?)));
        let aside: Vec<_> = aside.collect();
        if !aside.is_empty() {
            return Err(aside);
        }
        draft.catalog = draft.catalog.with_all(&new)?;
        let bindings = self.shared.bindings().clone();
        let mut written = Vec::with_capacity(new.len());
        for reservation in new {
            draft.touched.extend(reservation.address);
            draft.note(None, &reservation.id, reservation.revision);
            draft.write_too(RecordChange::PutReservation(reservation.clone()));
            machines::create(draft, &reservation, now_secs);
            let revoked = draft.revoke_against(&reservation, &bindings);
            draft.revision = reservation.revision;
            written.push(Written {
                revoked,
                ..Written::of(reservation)
            });
        }
        draft.write_too(RecordChange::Revision(draft.revision));
        Ok(written)
    }

    fn refuse_set_aside(&self, id: &str) -> Result<(), Refusal> {
        match self.set_aside.iter().find(|r| r.id == id) {
            None => Ok(()),
            Some(other) => Err(Refusal::Taken {
                title: id.to_owned(),
                field: "id",
                value: id.to_owned(),
                owner: format!(
                    "{} ({}), which is set aside",
                    other.title(),
                    other.known_by()
                ),
                owner_id: id.into(),
                next_step: format!("delete {id} first, or pick another id").into(),
            }),
        }
    }
}

/// What the store says of a reservation that is being written.
fn stamp(reservation: &mut Reservation, revision: u64, created_secs: u64, now_secs: u64) {
    reservation.revision = revision;
    reservation.created_secs = created_secs;
    reservation.updated_secs = now_secs;
    // One that moves its machine now knows by which revision it does.
    if let Some(moved) = reservation.moved.as_mut().filter(|m| m.revision == 0) {
        moved.revision = revision;
    }
}

/// What the same call has made before, if it has.
fn already_made(catalog: &Catalog, new: &Reservation) -> Result<Option<Written>, Refusal> {
    let Some(request) = &new.request else {
        return Ok(None);
    };
    let Some(made) = catalog.by_request(&request.id) else {
        return Ok(None);
    };
    let is_same = made.request.as_ref() == Some(request);
    if !is_same {
        return Err(Refusal::RequestReused {
            request: request.id.clone(),
            made: made.id.clone(),
        });
    }
    match catalog.by_id(&new.id) {
        Some(known) if known.request.as_ref() == Some(request) => Ok(Some(Written {
            is_repeat: true,
            ..Written::of((**known).clone())
        })),
        _ => Err(Refusal::RequestUndone {
            request: request.id.clone(),
            gone: new.id.clone(),
        }),
    }
}

impl Draft {
    /// A record that is on disk before anybody hears of it, and whose loss would be noticed by its revision.
    pub(super) fn write(&mut self, record: RecordChange, revision: u64) {
        self.revision = revision;
        self.records.push(record);
        self.records.push(RecordChange::Revision(revision));
    }

    /// Goes on with the next catalog, in which this reservation is another, or no more.
    fn follow(&mut self, next: Catalog, id: &str, revision: u64) {
        let address = |catalog: &Catalog| catalog.by_id(id).and_then(|known| known.address);
        self.touched.extend(address(&self.catalog));
        self.touched.extend(address(&next));
        let before = self.catalog.by_id(id).cloned();
        self.catalog = next;
        self.note(before, id, revision);
    }

    /// Has it told that this reservation, which was `before`, is what it is now.
    pub(super) fn note(&mut self, before: Option<Arc<Reservation>>, id: &str, revision: u64) {
        self.reservation_notes.push(ReservationNote {
            revision,
            before,
            after: self.catalog.by_id(id).cloned(),
        });
    }

    /// A record that goes with one that was just written.
    pub(super) fn write_too(&mut self, record: RecordChange) {
        self.records.push(record);
    }

    /// Takes back the lease that stands in the reservation's way: its address is no longer its holder's.
    fn revoke_against(&mut self, reservation: &Reservation, bindings: &Bindings) -> Vec<Lease> {
        let held = reservation
            .address
            .and_then(|address| bindings.at(address))
            .filter(|lease| !may_hold(&self.catalog, lease))
            .cloned();
        if let Some(lease) = &held {
            self.records.push(RecordChange::DeleteLease(lease.address));
        }
        held.into_iter().collect()
    }

    /// Records the change, unless a reservation that was written since it was decided says otherwise.
    fn bind(&mut self, change: BindingChange) -> bool {
        let lease = match change {
            BindingChange::Put(lease) => lease,
            BindingChange::Withdraw { address, client } => {
                let note = LeaseNote::Withdrawn { address, client };
                self.lease_notes.push(note);
                return true;
            }
        };
        if !self.still_stands(&lease) {
            self.overtaken.push(lease);
            return false;
        }
        self.lease_notes.push(LeaseNote::Put(lease.clone()));
        if lease.state != LeaseState::Offered {
            self.records.push(RecordChange::PutLease(lease));
        }
        true
    }

    fn still_stands(&self, lease: &Lease) -> bool {
        let reserved_elsewhere = || {
            let reservation = match (&lease.reservation, &lease.client) {
                (Some(id), _) => self.catalog.by_id(id),
                (None, ClientKey::Mac(mac)) => self.catalog.by_mac(*mac),
                (None, ClientKey::Id(_)) => None,
            };
            let reserved = reservation.and_then(|r| r.address);
            reserved.is_some_and(|reserved| {
                reserved != lease.address
                    && self.catalog.subnet_of(reserved).map(|s| s.cidr)
                        == self.catalog.subnet_of(lease.address).map(|s| s.cidr)
            })
        };
        let takes = matches!(lease.state, LeaseState::Offered | LeaseState::Bound);
        may_hold(&self.catalog, lease) && !(takes && reserved_elsewhere())
    }
}

/// A lease that could not be written was promised and not granted: its client has what it had, if that is known to be kept, or
/// else it is held for the client's next try, and no longer.
fn back_to_what_is_kept(bindings: &mut Bindings, lease: Lease, kept: Option<Lease>, now_secs: u64) {
    if bindings.at(lease.address) != Some(&lease) {
        return;
    }
    if let Some(kept) = kept.filter(|kept| kept.client == lease.client && kept.is_current(now_secs))
    {
        return bindings.apply(BindingChange::Put(kept));
    }
    if lease.state == LeaseState::Bound {
        bindings.apply(BindingChange::Put(Lease {
            state: LeaseState::Offered,
            expires_secs: now_secs + crate::model::OFFER_HOLD_SECS,
            ..lease
        }));
    }
}

/// Whether the lease was granted to the reservation's machine. Leases that an earlier version wrote do not name it.
fn belongs_to(lease: &Lease, reservation: &Reservation) -> bool {
    match (&lease.reservation, &lease.client) {
        (Some(id), _) => *id == reservation.id,
        (None, ClientKey::Mac(mac)) => reservation.macs().any(|m| m == *mac),
        (None, ClientKey::Id(_)) => false,
    }
}

/// Whether the lease's holder may have its address: nobody else's reservation says otherwise.
pub(super) fn may_hold(catalog: &Catalog, lease: &Lease) -> bool {
    let for_its_client = |reservation: &Arc<Reservation>| {
        lease.state == LeaseState::Declined || belongs_to(lease, reservation)
    };
    catalog.by_address(lease.address).is_none_or(for_its_client)
}
