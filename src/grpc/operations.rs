//! `bootjack.v1.Operations`: machines on their way to another address. In: the name of a move. Out: how far it is, worked out anew from
//! reservation, leases and timeline whenever somebody asks.

use std::time::{Duration, UNIX_EPOCH};

use bootjack_api::v1;
use bootjack_api::v1::move_metadata::Stage;
use bootjack_api::v1::operation;
use bootjack_api::v1::operations_server::Operations;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use super::convert::{self, operation_name};
use super::errors::{invalid, not_found};
use super::filter::{Term, Text, parse};
use super::paging::Wanted;
use super::values::{time, time_ms};
use crate::convergence::{self, Progress};
use crate::model::{Move, Reservation, Subject};
use crate::net::now_secs;
use crate::observe::timeline::Timeline;
use crate::store::Store;

/// What every resource name starts with.
const COLLECTION: &str = "operations/";
/// Nobody waits longer in one call.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// While leases change all the time, a wait looks this often.
const PACE: Duration = Duration::from_millis(50);

/// The service.
pub struct Moves {
    store: Store,
    timeline: Timeline,
    stop: CancellationToken,
}

impl Moves {
    pub fn new(store: Store, timeline: Timeline, stop: CancellationToken) -> Self {
        Self {
            store,
            timeline,
            stop,
        }
    }

    /// The operation of this name, if its reservation still has that move.
    fn find(&self, name: &str) -> Result<v1::Operation, Status> {
        let (revision, id) = parsed(name)?;
        let catalog = self.store.catalog();
        let reservation = catalog.by_id(id);
        let current = reservation.and_then(|own| own.moved.as_ref().map(|moved| (own, moved)));
        match current {
            Some((own, moved)) if moved.revision == revision => Ok(self.message(own, moved)),
            Some((own, moved)) => {
                let text = format!(
                    "operation {name}: the last change of {id}'s address is {}",
                    operation_name(&own.id, moved)
                );
                Err(not_found(name, &text))
            }
            None => {
                let text = format!("operation {name}: no change of {id}'s address is known");
                Err(not_found(name, &text))
            }
        }
    }

    fn message(&self, reservation: &Reservation, moved: &Move) -> v1::Operation {
        let now = now_secs();
        let entries = (self.timeline).of(&Subject::Machine(reservation.id.clone()));
        let entries = || entries.iter().map(|entry| &**entry);
        let bindings = self.store.bindings();
        let progress = convergence::progress(reservation, moved, &bindings, entries(), now);
        let last_seen = convergence::last_seen(entries());
        let detail = said(&progress, moved, last_seen);
        let is_late = now >= moved.deadline_secs;
        let result = match progress {
            Progress::Converged => {
                let response = Box::new(convert::to_message(reservation));
                Some(operation::Result::Response(response))
            }
            _ if is_late => Some(failed(
                Code::DeadlineExceeded,
                format!(
                    "{} does not hold {}: it {detail}",
                    reservation.title(),
                    moved.to
                ),
            )),
            _ => None,
        };
        v1::Operation {
            name: operation_name(&reservation.id, moved),
            done: result.is_some(),
            metadata: Some(v1::MoveMetadata {
                reservation: format!("{}{}", convert::COLLECTION, reservation.id),
                from_address: moved.from.map_or_else(String::new, |from| from.to_string()),
                to_address: moved.to.to_string(),
                start_time: Some(time(moved.since_secs)),
                deadline_time: Some(time(moved.deadline_secs)),
                stage: stage(&progress).into(),
                detail,
                last_seen_time: last_seen.map(time_ms),
            }),
            result,
        }
    }

    /// Until something may have changed, or until this long is over.
    async fn wait(&self, name: &str, timeout: Duration) -> Result<v1::Operation, Status> {
        let until = tokio::time::Instant::now() + timeout;
        let feed = self.store.feed();
        let (mut leases, mut reservations) = (feed.leases().watch(), feed.reservations().watch());
        let mut known = self.find(name)?;
        loop {
            leases.borrow_and_update();
            reservations.borrow_and_update();
            match self.find(name) {
                Ok(operation) => known = operation,
                Err(status) => return Ok(overtaken(known, &status)),
            }
            if known.done {
                return Ok(known);
            }
            let deadline = known.metadata.as_ref().and_then(|m| m.deadline_time);
            let deadline = deadline.and_then(|at| u64::try_from(at.seconds).ok());
            let left = deadline.unwrap_or_default().saturating_sub(now_secs());
            let deadline = tokio::time::Instant::now() + Duration::from_secs(left.max(1));
            tokio::select! {
                () = self.stop.cancelled() => return Ok(known),
                () = tokio::time::sleep_until(until) => return Ok(known),
                () = tokio::time::sleep_until(deadline) => {}
                _ = leases.changed() => tokio::time::sleep(PACE).await,
                _ = reservations.changed() => {}
            }
        }
    }
}

fn failed(code: Code, message: String) -> operation::Result {
    let code = code as i32;
    operation::Result::Error(v1::OperationError { code, message })
}

/// It was there when somebody began to wait, and is not any more.
fn overtaken(known: v1::Operation, why: &Status) -> v1::Operation {
    v1::Operation {
        done: true,
        result: Some(failed(Code::Aborted, why.message().to_owned())),
        ..known
    }
}

fn parsed(name: &str) -> Result<(u64, &str), Status> {
    let word = name.strip_prefix(COLLECTION).unwrap_or(name);
    let parts = word.split_once('-');
    let parsed = parts.and_then(|(revision, id)| Some((revision.parse().ok()?, id)));
    parsed.ok_or_else(|| {
        let text = format!(
            "name: `{}` is not the name of an operation; wanted {COLLECTION}REVISION-RESERVATION, as an update answers it",
            name.escape_default()
        );
        invalid("name", &text)
    })
}

fn stage(progress: &Progress) -> Stage {
    match progress {
        Progress::Converged => Stage::Converged,
        Progress::HoldsFormer { .. } => Stage::HoldsFormerAddress,
        Progress::Offered { .. } => Stage::Offered,
        Progress::Refused { .. } => Stage::Refused,
        Progress::Unanswered { .. } => Stage::Unanswered,
        Progress::NotHeardOf => Stage::NotHeardOf,
    }
}

/// In words, with "it" before them.
fn said(progress: &Progress, moved: &Move, last_seen_ms: Option<u64>) -> String {
    match progress {
        Progress::Converged => format!("holds {}", moved.to),
        Progress::HoldsFormer {
            address,
            until_secs,
        } => format!(
            "still holds {address} until its lease ends at {}",
            moment(until_secs * 1000)
        ),
        Progress::Offered { at_ms } => format!(
            "was offered {} at {}, and has not taken it",
            moved.to,
            moment(*at_ms)
        ),
        Progress::Refused { at_ms, reason } => format!(
            "was refused (NAK, {reason}) at {} and has not asked again",
            moment(*at_ms)
        ),
        Progress::Unanswered { at_ms, reason } => {
            format!("got no answer at {}: {reason}", moment(*at_ms))
        }
        Progress::NotHeardOf => match last_seen_ms {
            Some(ms) => format!("has not been heard of since {}", moment(ms)),
            None => "has not been heard of".to_owned(),
        },
    }
}

fn moment(ms: u64) -> String {
    let at = UNIX_EPOCH + Duration::from_secs(ms / 1000);
    humantime::format_rfc3339_seconds(at).to_string()
}

/// Which operations.
struct Filter(Vec<(bool, Test)>);

enum Test {
    Done(bool),
    Stage(Stage),
    Reservation(Text),
}

impl Filter {
    fn new(text: &str) -> Result<Self, Status> {
        let terms = parse(text)?;
        let tests = terms.iter().map(|term| Ok((!term.is_not, test(term)?)));
        Ok(Self(tests.collect::<Result<_, Status>>()?))
    }

    fn fits(&self, operation: &v1::Operation) -> bool {
        let metadata = operation.metadata.as_ref();
        let reservation = metadata.map_or("", |m| convert::id_in(&m.reservation));
        self.0.iter().all(|(wanted, test)| {
            let is_true = match test {
                Test::Done(done) => operation.done == *done,
                Test::Stage(stage) => metadata.is_some_and(|m| m.stage() == *stage),
                Test::Reservation(text) => text.fits(reservation),
            };
            is_true == *wanted
        })
    }
}

fn test(term: &Term) -> Result<Test, Status> {
    Ok(match term.field.as_str() {
        "done" => Test::Done(term.one_of(&[("true", true), ("false", false)])?),
        "stage" => Test::Stage(term.one_of(&[
            ("CONVERGED", Stage::Converged),
            ("HOLDS_FORMER_ADDRESS", Stage::HoldsFormerAddress),
            ("OFFERED", Stage::Offered),
            ("REFUSED", Stage::Refused),
            ("UNANSWERED", Stage::Unanswered),
            ("NOT_HEARD_OF", Stage::NotHeardOf),
        ])?),
        "reservation" => {
            let id = convert::id_in(&term.value).to_owned();
            let term = Term {
                value: id,
                ..term.clone()
            };
            Test::Reservation(term.text())
        }
        _ => return Err(term.unknown(&["done", "stage", "reservation"])),
    })
}

#[tonic::async_trait]
impl Operations for Moves {
    async fn get_operation(
        &self,
        request: Request<v1::GetOperationRequest>,
    ) -> Result<Response<v1::Operation>, Status> {
        self.find(&request.get_ref().name).map(Response::new)
    }

    async fn list_operations(
        &self,
        request: Request<v1::ListOperationsRequest>,
    ) -> Result<Response<v1::ListOperationsResponse>, Status> {
        let request = request.into_inner();
        let filter = Filter::new(&request.filter)?;
        let query = ["operations", &request.filter];
        let wanted = Wanted::new(request.page_size, &request.page_token, &query)?;
        let catalog = self.store.catalog();
        let rest = (catalog.reservations(wanted.after.as_deref()))
            .filter_map(|own| Some((own.id.clone(), self.message(own, own.moved.as_ref()?))))
            .filter(|(_, operation)| filter.fits(operation));
        let page = wanted.page(rest, |(id, _)| id.clone(), |(_, o)| o, || 0);
        Ok(Response::new(v1::ListOperationsResponse {
            operations: page.items,
            next_page_token: page.next_token,
        }))
    }

    async fn wait_operation(
        &self,
        request: Request<v1::WaitOperationRequest>,
    ) -> Result<Response<v1::Operation>, Status> {
        let request = request.into_inner();
        let timeout = match &request.timeout {
            None => LONGEST_WAIT,
            Some(timeout) => Duration::try_from(*timeout)
                .map_err(|_| invalid("timeout", "timeout is negative"))?
                .min(LONGEST_WAIT),
        };
        let waited = self.wait(&request.name, timeout).await?;
        Ok(Response::new(waited))
    }
}
