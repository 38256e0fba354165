//! `bootjack wait NAME`: ends when a machine is where it is wanted, or cannot come there any more, or the time is over.

use std::time::Duration;

use bootjack_api::v1::event::Kind;
use bootjack_api::v1::machine::State;
use bootjack_api::v1::machines_client::MachinesClient;
use bootjack_api::v1::{GetMachineRequest, Machine, WatchEventsRequest, WatchEventsResponse};
use tonic::Status;

use super::machine::as_json;
use crate::cli::{Format, WaitArgs, WaitFor};
use crate::client::{self, Connection, Server};
use crate::exit::{Exit, Failure};
use crate::follow::is_gone;
use crate::output;

/// A service that is starting again is back within seconds.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How far the wait is.
enum Come {
    There,
    /// It will not come there by itself any more.
    Lost(String),
    NotYet,
}

/// Waits.
pub fn run(args: &WaitArgs, server: &Server, format: Format) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let machine = runtime.block_on(until(args, server))?;
    output::answer(
        format,
        || as_json(&machine),
        || format!("{} is {}", machine.name, word(args.state)),
    )
}

/// Returns the machine once it is so far.
pub async fn until(args: &WaitArgs, server: &Server) -> Result<Machine, Failure> {
    let waited = tokio::time::timeout(args.timeout, wait(args, server)).await;
    waited.map_err(|_| {
        let text = format!(
            "machine {} is not {} after {} s; see: bootjack machine show {}",
            args.name,
            word(args.state),
            args.timeout.as_secs(),
            args.name
        );
        Failure::new(Exit::Timeout, text)
    })?
}

async fn wait(args: &WaitArgs, server: &Server) -> Result<Machine, Failure> {
    // Who is not there at the start is told; who goes away meanwhile is waited for.
    let mut api = MachinesClient::new(client::channel(server).await?);
    let mut seen = Seen::default();
    loop {
        match follow(&mut api, args, &mut seen).await {
            Ok(Ok(machine)) => return Ok(machine),
            Ok(Err(lost)) => return Err(Failure::new(Exit::Conflict, lost)),
            Err(status) if is_gone(&status) => {
                tokio::time::sleep(AGAIN_AFTER).await;
                if let Ok(channel) = client::channel(server).await {
                    api = MachinesClient::new(channel);
                }
            }
            Err(status) => return Err(client::refused(server, &status)),
        }
    }
}

/// What the stream has told so far.
#[derive(Default)]
struct Seen {
    resume_token: String,
    /// User-data was fetched, since the last boot script was.
    has_documents: bool,
}

/// Follows the machine until it is there or lost; an error is the stream's end.
async fn follow(
    api: &mut MachinesClient<Connection>,
    args: &WaitArgs,
    seen: &mut Seen,
) -> Result<Result<Machine, String>, Status> {
    let name = args.name.clone();
    let request = |resume_token: &str, follow: bool| WatchEventsRequest {
        name: name.clone(),
        resume_token: resume_token.to_owned(),
        follow,
    };
    // What has happened already is read to its end before anything is made of it: the last boot counts.
    let known = request(&seen.resume_token, false);
    let mut stream = api.watch_events(known).await?.into_inner();
    while let Some(told) = stream.message().await? {
        seen.note(told);
    }
    // The stream is there before the machine is looked at: nothing that happens in between is missed.
    let next = request(&seen.resume_token, true);
    let mut stream = api.watch_events(next).await?.into_inner();
    loop {
        let request = GetMachineRequest { name: name.clone() };
        let machine = api.get_machine(request).await?.into_inner();
        match come(&machine, args.state, seen.has_documents) {
            Come::There => return Ok(Ok(machine)),
            Come::Lost(why) => return Ok(Err(why)),
            Come::NotYet => {}
        }
        loop {
            let Some(told) = stream.message().await? else {
                return Err(Status::unavailable("the stream has ended"));
            };
            if seen.note(told) {
                break;
            }
        }
    }
}

impl Seen {
    /// Whether it may be what is waited for.
    fn note(&mut self, told: WatchEventsResponse) -> bool {
        self.resume_token = told.resume_token;
        let Some(event) = told.event else {
            return false;
        };
        match event.kind() {
            Kind::Script => self.has_documents = false,
            Kind::Document if event.what == "user-data" => self.has_documents = true,
            _ => {}
        }
        matches!(event.kind(), Kind::Lifecycle | Kind::Document)
    }
}

fn come(machine: &Machine, wanted: WaitFor, has_documents: bool) -> Come {
    let title = &machine.title;
    match (wanted, machine.state()) {
        (WaitFor::Installed, State::Installed) | (WaitFor::Failed, State::Failed) => Come::There,
        (WaitFor::Ready, _) if machine.ready_time.is_some() => Come::There,
        (WaitFor::Ready, _) if !machine.installs => match has_documents {
            true => Come::There,
            false => Come::NotYet,
        },
        (WaitFor::Installed | WaitFor::Ready, State::Failed) => Come::Lost(format!(
            "machine {title} failed: {}; see: bootjack machine show {title}",
            machine.failure_reason
        )),
        (WaitFor::Failed, State::Installed) => Come::Lost(format!("machine {title} is installed")),
        (WaitFor::Installed | WaitFor::Failed, _) if !machine.installs => Come::Lost(format!(
            "machine {title} has no profile that installs; wait for ready"
        )),
        _ => Come::NotYet,
    }
}

fn word(state: WaitFor) -> &'static str {
    match state {
        WaitFor::Installed => "installed",
        WaitFor::Ready => "ready",
        WaitFor::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(state: State, installs: bool) -> Machine {
        Machine {
            title: "node-1".to_owned(),
            state: state.into(),
            installs,
            failure_reason: "disk full".to_owned(),
            ..Machine::default()
        }
    }

    fn is(wanted: WaitFor, state: State, installs: bool, has_documents: bool) -> &'static str {
        match come(&machine(state, installs), wanted, has_documents) {
            Come::There => "there",
            Come::Lost(_) => "lost",
            Come::NotYet => "not yet",
        }
    }

    #[test]
    fn a_wait_ends_when_the_machine_is_there_or_cannot_come_there() {
        use State::{Armed, Failed, Idle, Installed, Installing};
        for (wanted, state, come) in [
            (WaitFor::Installed, Armed, "not yet"),
            (WaitFor::Installed, Installing, "not yet"),
            (WaitFor::Installed, Installed, "there"),
            (WaitFor::Installed, Failed, "lost"),
            (WaitFor::Ready, Installed, "not yet"),
            (WaitFor::Ready, Failed, "lost"),
            (WaitFor::Failed, Installing, "not yet"),
            (WaitFor::Failed, Failed, "there"),
            (WaitFor::Failed, Installed, "lost"),
        ] {
            assert_eq!(is(wanted, state, true, true), come, "{wanted:?} {state:?}");
        }
        assert_eq!(is(WaitFor::Ready, Idle, false, false), "not yet");
        assert_eq!(is(WaitFor::Ready, Idle, false, true), "there");
        assert_eq!(is(WaitFor::Installed, Idle, false, true), "lost");
        let mut ready = machine(Installed, true);
        ready.ready_time = Some(prost_types::Timestamp::default());
        assert!(matches!(come(&ready, WaitFor::Ready, false), Come::There));
    }
}
