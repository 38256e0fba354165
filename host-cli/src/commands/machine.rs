//! `bootjack machine …` against a running bootjackd.

use bootjack_api::v1;
use bootjack_api::v1::machine::{Mode, State};
use bootjack_api::v1::machines_client::MachinesClient;
use bootjack_api::v1::{Event, Machine, NextBoot};
use serde_json::{Value as Json, json};
use tonic::{Code, Response, Status};

use crate::cli::{Format, MachineCommand, NextBootFrom};
use crate::client::{self, Connection, Server};
use crate::exit::{Exit, Failure};
use crate::output::{self, Style};
use crate::waterfall;

/// Runs one command; the answer goes to standard output.
pub fn run(command: MachineCommand, server: &Server, format: Format) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    runtime.block_on(async {
        let mut api = MachinesClient::new(client::channel(server).await?);
        let refused = |status: Status| client::refused(server, &status);
        let told = |answer: Result<Response<Machine>, Status>| {
            let machine = answer.map_err(refused)?.into_inner();
            output::answer(format, || as_json(&machine), || in_one_line(&machine))
        };
        match command {
            MachineCommand::List { filter } => list(api, &filter, format).await.map_err(refused)?,
            MachineCommand::Show { name, all } => {
                match read(&mut api, name.clone(), all).await {
                    Ok((machine, events)) => show(&machine, &events, format),
                    // Nobody has reserved it, and it may have been heard of all the same.
                    Err(status) if status.code() == Code::NotFound => {
                        let name = format!("clients/{name}");
                        let events = events(&mut api, name.clone()).await.map_err(refused)?;
                        if events.is_empty() {
                            return Err(refused(status));
                        }
                        show_client(&name, &events, format)
                    }
                    Err(status) => Err(refused(status)),
                }
            }
            MachineCommand::Arm { name } => {
                told(api.arm_machine(v1::ArmMachineRequest { name }).await)
            }
            MachineCommand::Reinstall { name } => {
                let request = v1::ReinstallMachineRequest { name };
                told(api.reinstall_machine(request).await)
            }
            MachineCommand::Hold { name } => {
                told(api.hold_machine(v1::HoldMachineRequest { name }).await)
            }
            MachineCommand::Release { name } => told(
                api.release_machine(v1::ReleaseMachineRequest { name })
                    .await,
            ),
            MachineCommand::Rescue { name } => {
                told(api.rescue_machine(v1::RescueMachineRequest { name }).await)
            }
            MachineCommand::NextBoot { name, from } => {
                let next_boot = match from {
                    NextBootFrom::Disk => NextBoot::Disk,
                    NextBootFrom::Network => NextBoot::Network,
                    NextBootFrom::Rescue => NextBoot::Rescue,
                    NextBootFrom::Usual => NextBoot::Unspecified,
                };
                let next_boot = next_boot.into();
                told(
                    api.set_next_boot(v1::SetNextBootRequest { name, next_boot })
                        .await,
                )
            }
        }
    })
}

async fn list(
    mut api: MachinesClient<Connection>,
    filter: &str,
    format: Format,
) -> Result<Result<(), Failure>, Status> {
    let machines = client::all_pages(async |page_token| {
        let request = v1::ListMachinesRequest {
            page_size: 0,
            page_token,
            filter: filter.to_owned(),
        };
        let page = api.list_machines(request).await?.into_inner();
        Ok((page.machines, page.next_page_token))
    })
    .await?;
    if format.is_for_programs() {
        let list: Vec<Json> = machines.iter().map(as_json).collect();
        return Ok(output::say_value(format, &json!({ "machines": list })));
    }
    if machines.is_empty() && !filter.is_empty() {
        eprintln!("no machine fits the filter");
        return Ok(Ok(()));
    }
    if machines.is_empty() {
        eprintln!("no machines; reserve one with: bootjack reservation create --mac MAC");
        return Ok(Ok(()));
    }
    let header = ["NAME", "STATE", "ATTEMPT", "MODE", "PROFILE", "NEXT BOOT"];
    let rows = machines.iter().map(|machine| {
        let attempt = match machine.attempt {
            0 => String::new(),
            attempt => attempt.to_string(),
        };
        let cells = [
            id(machine),
            state(machine),
            &attempt,
            mode(machine),
            &machine.profile,
            &machine.answer,
        ];
        cells.map(|cell| or_dash(cell).to_owned()).to_vec()
    });
    let table = output::table(Style::stdout(), &header, rows.collect());
    Ok(output::say(&table))
}

/// The machine, and what happened to it: all that is kept, or what belongs to its last attempt.
async fn read(
    api: &mut MachinesClient<Connection>,
    name: String,
    all: bool,
) -> Result<(Machine, Vec<Event>), Status> {
    let machine = api.get_machine(v1::GetMachineRequest { name }).await?;
    let machine = machine.into_inner();
    let mut events = events(api, machine.name.clone()).await?;
    if !all && machine.attempt > 0 {
        events.retain(|event| event.attempt == machine.attempt);
    }
    Ok((machine, events))
}

/// All that is kept of what happened.
async fn events(api: &mut MachinesClient<Connection>, name: String) -> Result<Vec<Event>, Status> {
    let request = v1::WatchEventsRequest {
        name,
        ..v1::WatchEventsRequest::default()
    };
    let mut stream = api.watch_events(request).await?.into_inner();
    let mut events = Vec::new();
    while let Some(told) = stream.message().await? {
        events.extend(told.event);
    }
    Ok(events)
}

fn show_client(name: &str, events: &[Event], format: Format) -> Result<(), Failure> {
    if format.is_for_programs() {
        let events: Vec<Json> = events.iter().map(event_as_json).collect();
        return output::say_value(format, &json!({ "name": name, "events": events }));
    }
    let style = Style::stdout();
    let mut lines = vec![format!(
        "{name} is nobody's machine: no reservation has this MAC"
    )];
    lines.extend(waterfall::lines(events, style));
    output::say(&lines.join("\n"))
}

fn show(machine: &Machine, events: &[Event], format: Format) -> Result<(), Failure> {
    if format.is_for_programs() {
        let mut shown = as_json(machine);
        shown["events"] = events.iter().map(event_as_json).collect();
        return output::say_value(format, &shown);
    }
    let style = Style::stdout();
    let time = |time: Option<prost_types::Timestamp>| time.map(|time| time.to_string());
    let attempt = (machine.attempt > 0).then(|| match machine.retries_left {
        0 => machine.attempt.to_string(),
        left => format!(
            "{}, {left} more if it runs into its deadline",
            machine.attempt
        ),
    });
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let mut lines: Vec<String> = [
        ("name", given(&machine.name)),
        ("profile", given(&machine.profile)),
        ("state", given(state(machine))),
        ("since", time(machine.state_time)),
        ("attempt", attempt),
        ("deadline", time(machine.deadline_time)),
        ("failure", given(&machine.failure_reason)),
        ("mode", given(mode(machine))),
        ("ready", time(machine.ready_time)),
        ("next boot", given(&machine.answer)),
        (
            "stalled",
            given(&machine.stall).map(|stall| style.red(&stall)),
        ),
        ("hint", given(&machine.stall_hint)),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some(format!("{}{}", style.bold(&format!("{key:<10}")), value?)))
    .collect();
    if !machine.failure_log.is_empty() {
        lines.push(style.bold("log"));
        lines.extend(machine.failure_log.lines().map(|line| format!("  {line}")));
    }
    let waterfall = waterfall::lines(events, style);
    if !waterfall.is_empty() {
        lines.push(String::new());
        lines.extend(waterfall);
    }
    output::say(&lines.join("\n"))
}

/// The machine for programs: every key always, null for none.
pub fn as_json(machine: &Machine) -> Json {
    let text = |value: &str| match value {
        "" => Json::Null,
        value => Json::from(value),
    };
    let time = |time: Option<prost_types::Timestamp>| time.map(|time| time.to_string());
    json!({
        "name": machine.name,
        "id": id(machine),
        "title": machine.title,
        "profile": text(&machine.profile),
        "installs": machine.installs,
        "state": state(machine),
        "state_time": time(machine.state_time),
        "attempt": machine.attempt,
        "deadline_time": time(machine.deadline_time),
        "retries_left": machine.retries_left,
        "failure_reason": text(&machine.failure_reason),
        "failure_log": text(&machine.failure_log),
        "mode": mode(machine),
        "next_boot": match machine.next_boot() {
            NextBoot::Unspecified => Json::Null,
            NextBoot::Disk => "disk".into(),
            NextBoot::Network => "network".into(),
            NextBoot::Rescue => "rescue".into(),
        },
        "answer": machine.answer,
        "ready_time": time(machine.ready_time),
        "stall": text(&machine.stall),
        "stall_hint": text(&machine.stall_hint),
    })
}

fn event_as_json(event: &Event) -> Json {
    let time = |time: Option<prost_types::Timestamp>| time.map(|time| time.to_string());
    json!({
        "name": event.name,
        "event_time": time(event.event_time),
        "last_time": time(event.last_time),
        "attempt": event.attempt,
        "kind": event.kind().as_str_name().to_ascii_lowercase(),
        "what": event.what,
        "detail": event.detail,
        "bytes": event.bytes,
        "elapsed_ms": event.elapsed_ms,
        "count": event.count,
    })
}

fn in_one_line(machine: &Machine) -> String {
    let attempt = match machine.attempt {
        0 => String::new(),
        attempt => format!(", attempt {attempt}"),
    };
    format!(
        "{}: {}{attempt}; {}",
        machine.name,
        state(machine),
        machine.answer
    )
}

fn id(machine: &Machine) -> &str {
    let name = &machine.name;
    name.strip_prefix("machines/").unwrap_or(name)
}

/// `live` stands for a machine whose profile installs nothing.
pub fn state(machine: &Machine) -> &'static str {
    match machine.state() {
        State::Unspecified | State::Idle if machine.installs => "idle",
        State::Unspecified | State::Idle => "live",
        State::Armed => "armed",
        State::Installing => "installing",
        State::Installed => "installed",
        State::Failed => "failed",
    }
}

fn mode(machine: &Machine) -> &'static str {
    match machine.mode() {
        Mode::Unspecified | Mode::Normal => "normal",
        Mode::Held => "held",
        Mode::Rescue => "rescue",
    }
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}
