//! `bootjack operation …`: machines on their way to another address.

use std::time::Duration;

use bootjack_api::v1::operation::Result as Ended;
use bootjack_api::v1::operations_client::OperationsClient;
use bootjack_api::v1::{
    GetOperationRequest, ListOperationsRequest, Operation, WaitOperationRequest,
};
use serde_json::{Value as Json, json};

use crate::cli::{Format, OperationCommand};
use crate::client::{self, Server, all_pages};
use crate::exit::{Exit, Failure};
use crate::output::{self, Style, or_dash, or_null, time, time_or_null};

/// The service waits for an hour at most; the connection a little longer.
const PATIENCE: Duration = Duration::from_secs(3_660);
/// google.rpc.Code.
const DEADLINE_EXCEEDED: i32 = 4;

/// Runs one command; the answer goes to standard output.
pub fn run(command: OperationCommand, server: &Server, format: Format) -> Result<(), Failure> {
    client::block_on(async {
        let refused = |status| client::refused(server, &status);
        match command {
            OperationCommand::List { filter } => {
                let mut api = OperationsClient::new(client::channel(server).await?);
                let all = all_pages(async |page_token| {
                    let filter = filter.filter.clone();
                    let request = ListOperationsRequest {
                        page_size: 0,
                        page_token,
                        filter,
                    };
                    let page = api.list_operations(request).await?.into_inner();
                    Ok((page.operations, page.next_page_token))
                });
                list(&all.await.map_err(refused)?, format)
            }
            OperationCommand::Get { name } => {
                let mut api = OperationsClient::new(client::channel(server).await?);
                let answer = api.get_operation(GetOperationRequest { name }).await;
                one(&answer.map_err(refused)?.into_inner(), format)
            }
            OperationCommand::Wait { name, timeout } => wait(server, &name, timeout, format).await,
        }
    })
}

/// Waits until it is done, and says how it ended; an end that is none is a failure.
pub async fn wait(
    server: &Server,
    name: &str,
    timeout: Option<Duration>,
    format: Format,
) -> Result<(), Failure> {
    let channel = client::patient_channel(server, PATIENCE).await?;
    let request = WaitOperationRequest {
        name: name.to_owned(),
        timeout: timeout.map(|timeout| prost_types::Duration {
            seconds: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            nanos: 0,
        }),
    };
    let answer = OperationsClient::new(channel).wait_operation(request).await;
    let operation = answer
        .map_err(|status| client::refused(server, &status))?
        .into_inner();
    one(&operation, format)?;
    match (&operation.result, operation.done) {
        (Some(Ended::Error(error)), _) if error.code == DEADLINE_EXCEEDED => {
            Err(Failure::new(Exit::Timeout, &error.message))
        }
        (Some(Ended::Error(error)), _) => Err(Failure::new(Exit::Conflict, &error.message)),
        (_, true) => Ok(()),
        (_, false) => Err(Failure::new(
            Exit::Timeout,
            format!("{name} is not done: {}", detail(&operation)),
        )),
    }
}

fn list(operations: &[Operation], format: Format) -> Result<(), Failure> {
    if format.is_for_programs() {
        let list: Vec<Json> = operations.iter().map(as_json).collect();
        return output::say_value(format, &json!({ "operations": list }));
    }
    if operations.is_empty() {
        eprintln!("no operations: no reservation was given another address");
        return Ok(());
    }
    let header = ["NAME", "RESERVATION", "FROM", "TO", "STATE", "DEADLINE"];
    let rows = operations.iter().map(|operation| {
        let move_of = operation.metadata.clone().unwrap_or_default();
        let cells = [
            operation.name.clone(),
            move_of.reservation,
            move_of.from_address,
            move_of.to_address,
            state(operation).to_owned(),
            time(move_of.deadline_time),
        ];
        cells.map(|cell| or_dash(&cell).to_owned()).to_vec()
    });
    output::say(&output::table(Style::stdout(), &header, rows.collect()))
}

fn one(operation: &Operation, format: Format) -> Result<(), Failure> {
    let text = || {
        let style = Style::stdout();
        let move_of = operation.metadata.clone().unwrap_or_default();
        let lines = [
            ("name", operation.name.clone()),
            ("reservation", move_of.reservation),
            ("from", move_of.from_address),
            ("to", move_of.to_address),
            ("state", state(operation).to_owned()),
            ("detail", detail(operation)),
            ("began", time(move_of.start_time)),
            ("deadline", time(move_of.deadline_time)),
            ("last seen", time(move_of.last_seen_time)),
        ];
        let lines = lines.map(|(key, value)| {
            format!("{}{}", style.bold(&format!("{key:<13}")), or_dash(&value))
        });
        lines.join("\n")
    };
    output::answer(format, || as_json(operation), text)
}

fn detail(operation: &Operation) -> String {
    let move_of = operation.metadata.as_ref();
    move_of
        .map(|move_of| move_of.detail.clone())
        .unwrap_or_default()
}

fn state(operation: &Operation) -> &'static str {
    match (&operation.result, operation.done) {
        (Some(Ended::Error(_)), _) => "failed",
        (_, true) => "done",
        (_, false) => "under way",
    }
}

/// The operation for programs: every key always, null for none.
fn as_json(operation: &Operation) -> Json {
    let move_of = operation.metadata.clone().unwrap_or_default();
    let error = match &operation.result {
        Some(Ended::Error(error)) => json!({ "code": error.code, "message": error.message }),
        _ => Json::Null,
    };
    json!({
        "name": operation.name,
        "done": operation.done,
        "error": error,
        "reservation": or_null(&move_of.reservation),
        "from_address": or_null(&move_of.from_address),
        "to_address": or_null(&move_of.to_address),
        "stage": move_of.stage().as_str_name().to_ascii_lowercase(),
        "detail": or_null(&move_of.detail),
        "start_time": time_or_null(move_of.start_time),
        "deadline_time": time_or_null(move_of.deadline_time),
        "last_seen_time": time_or_null(move_of.last_seen_time),
    })
}
