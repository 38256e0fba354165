//! A plan, carried out over the API. In: a plan. Out: what became of each step. Before the first write bootjackd is asked whether it
//! would take everything that can be asked for now.

use std::collections::HashMap;
use std::time::Duration;

use bootjack_api::v1::reservations_client::ReservationsClient;
use bootjack_api::v1::{
    BatchCreateReservationsRequest, CreateReservationRequest, DeleteReservationRequest,
    ListReservationsRequest, Reservation, UpdateReservationRequest,
};
use prost_types::FieldMask;
use tokio::task::JoinSet;
use tonic::Status;

use super::document::Problem;
use super::fields;
use super::plan::{Plan, Step};
use crate::client::{self, Connection, Server};
use crate::exit::Failure;
use crate::refusal;
use crate::wanted;

/// Ten thousand reservations, whose documents are all looked at, take their time.
const PATIENCE: Duration = Duration::from_secs(600);
/// Calls that are under way at once: what is written together is synced together.
const AT_ONCE: usize = 32;
/// A batch is atomic; it holds no more than the API takes, in number and in octets.
const LARGEST_BATCH: usize = 10_000;
const LONGEST_BATCH: usize = 3 << 20;
/// A page of reservations with long variables, or the answer to a batch.
const LONGEST_ANSWER: usize = 64 << 20;

/// The connection that plans are carried out on.
pub struct Sender<'a> {
    api: ReservationsClient<Connection>,
    server: &'a Server,
}

/// What became of one step.
#[derive(Debug)]
pub struct Outcome {
    /// `created`, `updated` or `deleted`.
    pub done: &'static str,
    pub step: Step,
    pub result: Result<(), Failure>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Ask,
    Do,
}

impl<'a> Sender<'a> {
    pub async fn connect(server: &'a Server) -> Result<Self, Failure> {
        let channel = client::patient_channel(server, PATIENCE).await?;
        let api = ReservationsClient::new(channel).max_decoding_message_size(LONGEST_ANSWER);
        Ok(Self { api, server })
    }

    /// All reservations that fit the filter.
    pub async fn list(&self, filter: &str) -> Result<Vec<Reservation>, Failure> {
        let mut api = self.api.clone();
        let all = client::all_pages(async |page_token| {
            let request = ListReservationsRequest {
                page_size: 0,
                page_token,
                filter: filter.to_owned(),
            };
            let page = api.list_reservations(request).await?.into_inner();
            Ok((page.reservations, page.next_page_token))
        });
        let all = all.await;
        all.map_err(|status| client::refused(self.server, &status))
    }

    /// Asks whether every step would be taken that waits for no other.
    pub async fn check(&self, plan: &Plan) -> Result<(), Vec<(Option<Problem>, Failure)>> {
        let ready = |steps: &[Step]| -> Vec<Step> {
            steps.iter().filter(|step| !step.waits).cloned().collect()
        };
        let updates: Vec<Step> = plan.updates.iter().flat_map(|wave| ready(wave)).collect();
        let mut refused = Vec::new();
        let mut note = |step: &Step, status: &Status| refused.push(self.problem(step, status));
        for (step, result) in self.each(&plan.deletes, Mode::Ask, delete).await {
            if let Err(status) = result {
                note(&step, &status);
            }
        }
        for (step, result) in self.each(&updates, Mode::Ask, update).await {
            if let Err(status) = result {
                note(&step, &status);
            }
        }
        for batch in batches(ready(&plan.creates)) {
            if let Err(status) = self.batch(&batch, Mode::Ask).await {
                refused.extend(self.problems_of_batch(&batch, &status));
            }
        }
        match refused.is_empty() {
            true => Ok(()),
            false => Err(refused),
        }
    }

    /// Carries the plan out; `tell` hears of each step as it is done. A step that fails keeps no other from being done.
    pub async fn carry_out(&self, plan: Plan, tell: &mut dyn FnMut(&Outcome)) -> Vec<Outcome> {
        let mut all = Vec::new();
        let mut etags: HashMap<String, String> = HashMap::new();
        let mut tell_all = |done: &'static str, results: Vec<(Step, Result<String, Status>)>| {
            let outcomes = results.into_iter().map(|(step, result)| Outcome {
                done,
                step,
                result: result
                    .map(drop)
                    .map_err(|status| client::refused(self.server, &status)),
            });
            for outcome in outcomes {
                tell(&outcome);
                all.push(outcome);
            }
        };
        tell_all("deleted", self.each(&plan.deletes, Mode::Do, delete).await);
        for (step, result) in self.each(&plan.releases, Mode::Do, update).await {
            // Should it fail, the update that needs it says why.
            if let Ok(etag) = result {
                etags.insert(step.reservation.name, etag);
            }
        }
        for mut wave in plan.updates {
            for step in &mut wave {
                if let Some(etag) = etags.remove(&step.reservation.name) {
                    step.reservation.etag = etag;
                }
            }
            tell_all("updated", self.each(&wave, Mode::Do, update).await);
        }
        for batch in batches(plan.creates) {
            let result = self.batch(&batch, Mode::Do).await;
            let results = batch.into_iter().map(|step| {
                let result = result.clone().map(|()| String::new());
                (step, result)
            });
            tell_all("created", results.collect());
        }
        all
    }

    /// One call for each step, some at a time; the answers are in the order of the steps.
    async fn each<F>(
        &self,
        steps: &[Step],
        mode: Mode,
        call: fn(ReservationsClient<Connection>, Step, Mode) -> F,
    ) -> Vec<(Step, Result<String, Status>)>
    where
        F: Future<Output = Result<String, Status>> + Send + 'static,
    {
        let mut waiting = steps.iter().cloned().enumerate();
        let mut under_way = JoinSet::new();
        let mut results: Vec<Option<Result<String, Status>>> = steps.iter().map(|_| None).collect();
        loop {
            while under_way.len() < AT_ONCE {
                let Some((at, step)) = waiting.next() else {
                    break;
                };
                let answer = call(self.api.clone(), step, mode);
                under_way.spawn(async move { (at, answer.await) });
            }
            match under_way.join_next().await {
                None => break,
                Some(Ok((at, result))) => results[at] = Some(result),
                Some(Err(_)) => {}
            }
        }
        let lost = || Err(Status::internal("the call was lost"));
        let results = results
            .into_iter()
            .map(|result| result.unwrap_or_else(lost));
        steps.iter().cloned().zip(results).collect()
    }

    async fn batch(&self, steps: &[Step], mode: Mode) -> Result<(), Status> {
        let requests = steps.iter().map(|step| CreateReservationRequest {
            reservation: Some(step.reservation.clone()),
            reservation_id: wanted::id(&step.reservation).to_owned(),
            ..CreateReservationRequest::default()
        });
        let request = BatchCreateReservationsRequest {
            requests: requests.collect(),
            validate_only: mode == Mode::Ask,
            ..BatchCreateReservationsRequest::default()
        };
        let mut api = self.api.clone();
        api.batch_create_reservations(request).await.map(drop)
    }

    /// What is wrong with one step, at its place in its file.
    fn problem(&self, step: &Step, status: &Status) -> (Option<Problem>, Failure) {
        let failure = client::refused(self.server, status);
        let field = failure.details.first().map(|detail| detail.field.clone());
        let problem = step.place.as_ref().map(|place| Problem {
            place: place.clone(),
            field: field.unwrap_or_default(),
            message: failure.message.clone(),
        });
        (problem, failure)
    }

    /// Those of a batch that are at fault: `requests[17].reservation.mac` is the 18th step's.
    fn problems_of_batch(
        &self,
        steps: &[Step],
        status: &Status,
    ) -> Vec<(Option<Problem>, Failure)> {
        let failure = client::refused(self.server, status);
        let at_fault = refusal::details(status).into_iter().filter_map(|detail| {
            let (number, field) = detail.field.strip_prefix("requests[")?.split_once(']')?;
            let step = steps.get(number.parse::<usize>().ok()?)?;
            let problem = Problem {
                place: step.place.clone()?,
                field: field
                    .trim_start_matches(".reservation")
                    .trim_start_matches('.')
                    .to_owned(),
                message: detail.message,
            };
            Some((Some(problem), failure.clone()))
        });
        let at_fault: Vec<_> = at_fault.collect();
        match at_fault.is_empty() {
            true => vec![(None, failure)],
            false => at_fault,
        }
    }
}

/// Deletes what a step deletes.
async fn delete(
    mut api: ReservationsClient<Connection>,
    step: Step,
    mode: Mode,
) -> Result<String, Status> {
    let request = DeleteReservationRequest {
        name: step.reservation.name,
        etag: step.reservation.etag,
        validate_only: mode == Mode::Ask,
        ..DeleteReservationRequest::default()
    };
    api.delete_reservation(request).await.map(|_| String::new())
}

/// Updates what a step updates; its new etag.
async fn update(
    mut api: ReservationsClient<Connection>,
    step: Step,
    mode: Mode,
) -> Result<String, Status> {
    let paths = fields::mask(&step.differences);
    let request = UpdateReservationRequest {
        reservation: Some(step.reservation),
        update_mask: Some(FieldMask { paths }),
        validate_only: mode == Mode::Ask,
        ..UpdateReservationRequest::default()
    };
    let answer = api.update_reservation(request).await?;
    Ok(answer.into_inner().etag)
}

fn batches(steps: Vec<Step>) -> Vec<Vec<Step>> {
    let mut batches: Vec<Vec<Step>> = Vec::new();
    let mut length = 0;
    for step in steps {
        let octets =
            prost::Message::encoded_len(&step.reservation) + 2 * step.reservation.name.len();
        match batches.last_mut() {
            Some(batch) if batch.len() < LARGEST_BATCH && length + octets <= LONGEST_BATCH => {
                length += octets;
                batch.push(step);
            }
            _ => {
                length = octets;
                batches.push(vec![step]);
            }
        }
    }
    batches
}
