//! `bootjack.v1.Machines` over the store. In: an operator's word about a machine. Out: where the machine stands after it, or a
//! status that says why it was not followed and what to do instead.

use bootjack_api::v1;
use bootjack_api::v1::machine;
use bootjack_api::v1::machines_server::Machines;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use super::errors::{invalid, refused, store_failed};
use super::machine_filter::Filter;
use super::paging::Wanted;
use super::values::time;
use super::{convert, events};
use crate::catalog::Catalog;
use crate::lifecycle::{self, Command};
use crate::model::{BootFrom, Failure, MacAddr, Machine, Mode, Phase, Reservation, Subject};
use crate::net::now_secs;
use crate::observe::emit;
use crate::observe::timeline::{Timeline, now_ms};
use crate::stalls::{self, Stall};
use crate::store::{Act, ActError, Store};

/// What every resource name starts with.
const COLLECTION: &str = "machines/";

/// The service.
pub struct Lives {
    store: Store,
    timeline: Timeline,
    /// Streams end with the service, which waits for everything that runs.
    stop: CancellationToken,
}

impl Lives {
    pub fn new(store: Store, timeline: Timeline, stop: CancellationToken) -> Self {
        Self {
            store,
            timeline,
            stop,
        }
    }

    fn message(&self, catalog: &Catalog, reservation: &Reservation) -> v1::Machine {
        let entries = self.timeline.of(&Subject::Machine(reservation.id.clone()));
        let stall = stalls::find(entries.iter().map(|entry| &**entry), now_ms());
        to_message(catalog, reservation, stall)
    }

    /// Does what the operator says, and answers where the machine stands then.
    async fn obey(&self, name: &str, command: Command) -> Result<Response<v1::Machine>, Status> {
        let catalog = self.store.catalog();
        let reservation = convert::find_in(COLLECTION, &catalog, name)?;
        let wants_rescue = matches!(
            command,
            Command::Rescue | Command::NextBoot(Some(BootFrom::Rescue))
        );
        if wants_rescue && catalog.rescue_profile().is_none() {
            let text = "there is no rescue profile; make one, or name another in boot.rescue";
            return Err(not_now(reservation, text));
        }
        let act = Act::Command(command);
        let moved = (self.store.act(&reservation.id, act, now_secs()).await)
            .map_err(|error| to_status(reservation, &error))?;
        moved.events(reservation).iter().for_each(emit);
        let catalog = self.store.catalog();
        Ok(Response::new(self.message(&catalog, reservation)))
    }
}

#[tonic::async_trait]
impl Machines for Lives {
    async fn get_machine(
        &self,
        request: Request<v1::GetMachineRequest>,
    ) -> Result<Response<v1::Machine>, Status> {
        let catalog = self.store.catalog();
        let reservation = convert::find_in(COLLECTION, &catalog, &request.get_ref().name)?;
        Ok(Response::new(self.message(&catalog, reservation)))
    }

    async fn list_machines(
        &self,
        request: Request<v1::ListMachinesRequest>,
    ) -> Result<Response<v1::ListMachinesResponse>, Status> {
        let request = request.into_inner();
        let filter = Filter::new(&request.filter)?;
        let query = ["machines", &request.filter];
        let wanted = Wanted::new(request.page_size, &request.page_token, &query)?;
        let (catalog, now) = (self.store.catalog(), now_secs());
        let fits = |reservation: &Reservation| filter.fits(&catalog, reservation, now);
        let count = || match filter.is_empty() {
            true => catalog.len(),
            false => catalog.reservations(None).filter(|r| fits(r)).count(),
        };
        let rest = catalog.reservations(wanted.after.as_deref());
        let page = wanted.page(
            rest.filter(|reservation| fits(reservation)),
            |reservation| reservation.id.clone(),
            |reservation| self.message(&catalog, reservation),
            count,
        );
        Ok(Response::new(v1::ListMachinesResponse {
            machines: page.items,
            next_page_token: page.next_token,
            total_size: page.total,
        }))
    }

    async fn arm_machine(
        &self,
        request: Request<v1::ArmMachineRequest>,
    ) -> Result<Response<v1::Machine>, Status> {
        self.obey(&request.get_ref().name, Command::Arm).await
    }

    async fn reinstall_machine(
        &self,
        request: Request<v1::ReinstallMachineRequest>,
    ) -> Result<Response<v1::Machine>, Status> {
        self.obey(&request.get_ref().name, Command::Reinstall).await
    }

    async fn hold_machine(
        &self,
        request: Request<v1::HoldMachineRequest>,
    ) -> Result<Response<v1::Machine>, Status> {
        self.obey(&request.get_ref().name, Command::Hold).await
    }

    async fn release_machine(
        &self,
        request: Request<v1::ReleaseMachineRequest>,
    ) -> Result<Response<v1::Machine>, Status> {
        self.obey(&request.get_ref().name, Command::Release).await
    }

    async fn rescue_machine(
        &self,
        request: Request<v1::RescueMachineRequest>,
    ) -> Result<Response<v1::Machine>, Status> {
        self.obey(&request.get_ref().name, Command::Rescue).await
    }

    async fn set_next_boot(
        &self,
        request: Request<v1::SetNextBootRequest>,
    ) -> Result<Response<v1::Machine>, Status> {
        let request = request.into_inner();
        let from = match v1::NextBoot::try_from(request.next_boot) {
            Ok(v1::NextBoot::Unspecified) => None,
            Ok(v1::NextBoot::Disk) => Some(BootFrom::Disk),
            Ok(v1::NextBoot::Network) => Some(BootFrom::Network),
            Ok(v1::NextBoot::Rescue) => Some(BootFrom::Rescue),
            Err(_) => {
                let text = format!("next_boot: {} is not known", request.next_boot);
                return Err(invalid("next_boot", &text));
            }
        };
        self.obey(&request.name, Command::NextBoot(from)).await
    }

    type WatchEventsStream = ReceiverStream<Result<v1::WatchEventsResponse, Status>>;

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let request = request.into_inner();
        let catalog = self.store.catalog();
        let subject = match request.name.parse::<Subject>() {
            _ if request.name.is_empty() => None,
            Ok(Subject::Client(key)) => {
                let mac = key.parse::<MacAddr>().map(|mac| mac.to_string());
                Some(Subject::Client(mac.unwrap_or(key)))
            }
            _ => {
                let own = convert::find_in(COLLECTION, &catalog, &request.name)?;
                Some(Subject::Machine(own.id.clone()))
            }
        };
        let after = match request.resume_token.as_str() {
            "" => 0,
            token => token.parse().map_err(|_| {
                let text = format!(
                    "resume_token `{}` was not made by this server",
                    token.escape_default()
                );
                invalid("resume_token", &text)
            })?,
        };
        let (to, stream) = mpsc::channel(64);
        let watch = events::Watch {
            timeline: self.timeline.clone(),
            subject,
            after,
            follow: request.follow,
        };
        let stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = watch.send_to(to) => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// The machine as its message.
fn to_message(catalog: &Catalog, reservation: &Reservation, stall: Option<Stall>) -> v1::Machine {
    let now = now_secs();
    let known = catalog.machine(&reservation.id);
    let profile = catalog.profile_of(reservation);
    let install = profile.and_then(|profile| profile.install);
    let idle = Machine::idle(&reservation.id, now);
    let machine = known.unwrap_or(&idle);
    let failure = match &machine.phase {
        Phase::Failed(failure) => Some(failure),
        _ => None,
    };
    let text = |of: fn(&Failure) -> &String| failure.map(of).cloned().unwrap_or_default();
    let was_armed = machine.attempt > 0;
    let deadline = install
        .filter(|_| machine.phase == Phase::Installing)
        .map(|install| machine.since_secs + install.deadline.as_secs());
    let retries = install.map_or(0, |install| install.retries);
    v1::Machine {
        name: format!("{COLLECTION}{}", reservation.id),
        title: reservation.title().to_owned(),
        profile: (catalog.profile_name_of(reservation).unwrap_or_default()).to_owned(),
        state: match machine.phase {
            Phase::Idle => machine::State::Idle,
            Phase::Armed => machine::State::Armed,
            Phase::Installing => machine::State::Installing,
            Phase::Installed => machine::State::Installed,
            Phase::Failed(_) => machine::State::Failed,
        }
        .into(),
        attempt: machine.attempt,
        state_time: was_armed.then(|| time(machine.since_secs)),
        deadline_time: deadline.map(time),
        retries_left: retries.saturating_sub(machine.retries_used),
        failure_reason: text(|failure| &failure.reason),
        failure_log: text(|failure| &failure.log),
        mode: match machine.mode {
            Mode::Normal => machine::Mode::Normal,
            Mode::Held => machine::Mode::Held,
            Mode::Rescue => machine::Mode::Rescue,
        }
        .into(),
        next_boot: match lifecycle::next_boot(machine, now) {
            None => v1::NextBoot::Unspecified,
            Some(BootFrom::Disk) => v1::NextBoot::Disk,
            Some(BootFrom::Network) => v1::NextBoot::Network,
            Some(BootFrom::Rescue) => v1::NextBoot::Rescue,
        }
        .into(),
        answer: lifecycle::verdict(catalog, reservation, now).to_string(),
        ready_time: machine.ready_secs.map(time),
        installs: install.is_some(),
        stall: stall.map_or_else(String::new, |stall| stall.what.to_owned()),
        stall_hint: stall.map_or_else(String::new, |stall| stall.hint.to_owned()),
    }
}

fn to_status(reservation: &Reservation, error: &ActError) -> Status {
    match error {
        ActError::NotNow(why) => not_now(reservation, &why.to_string()),
        ActError::Unknown | ActError::Late => {
            let text = format!("machine {}: {error}", reservation.title());
            Status::new(Code::NotFound, text)
        }
        ActError::Failed(failure) => store_failed(failure),
    }
}

fn not_now(reservation: &Reservation, why: &str) -> Status {
    let text = format!("machine {}: {why}", reservation.title());
    let resource = format!("{COLLECTION}{}", reservation.id);
    let facts = [("resource", resource.as_str())];
    refused(Code::FailedPrecondition, "WRONG_STATE", &facts, &text)
}
