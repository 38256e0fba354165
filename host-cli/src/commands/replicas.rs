//! `bootjack replicas …`: who shares the clients, and where some of them are sent.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bootjack_api::v1;
use bootjack_api::v1::replica::State;
use bootjack_api::v1::replicas_client::ReplicasClient;
use bootjack_api::v1::{Canary, Override, Replica};
use clap::Subcommand;
use prost_types::Timestamp;
use serde_json::{Value as Json, json};
use tonic::Status;

use crate::cli::{Format, duration};
use crate::client::{self, Connection, Server};
use crate::exit::{Exit, Failure};
use crate::output::{self, Style};

#[derive(Debug, Subcommand)]
pub enum ReplicasCommand {
    /// List the replicas that live, each with its share of the clients
    #[command(visible_alias = "ls")]
    List,

    /// Say which replica answers a machine, and why that one
    Owner {
        /// The MAC of its network card
        mac: String,

        /// The client-id (option 61) that it sends, in hexadecimal; without one the MAC counts
        #[arg(
            long,
            value_name = "HEX",
            default_value = "",
            hide_default_value = true
        )]
        client_id: String,
    },

    /// Send a part of all clients to one replica, to try a new version on few
    Canary {
        #[command(subcommand)]
        command: CanaryCommand,
    },

    /// Send single machines to one replica, for a time
    Override {
        #[command(subcommand)]
        command: OverrideCommand,
    },
}

#[derive(Debug, Subcommand)]
pub enum CanaryCommand {
    /// Set it; there is one, and another takes its place
    Set {
        /// The id of a replica that lives
        replica: String,

        /// How many of a hundred clients
        #[arg(long, value_parser = clap::value_parser!(i32).range(1..=100))]
        percent: i32,
    },

    /// End it: its clients are shared like all others
    Clear,
}

#[derive(Debug, Subcommand)]
pub enum OverrideCommand {
    /// List those that have not ended
    #[command(visible_alias = "ls")]
    List,

    /// Send a machine to a replica
    Set {
        /// The MAC of its network card
        mac: String,

        /// The id of a replica that lives
        replica: String,

        /// For how long, such as 2h or 3days; at most 30 days
        #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
        time: Duration,
    },

    /// End overrides before their time
    #[command(visible_alias = "rm")]
    Clear {
        /// MACs of the machines
        #[arg(required = true, value_name = "MAC")]
        macs: Vec<String>,
    },
}

/// Runs one command; the answer goes to standard output.
pub fn run(
    command: Option<ReplicasCommand>,
    server: &Server,
    format: Format,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    runtime.block_on(async {
        let mut api = ReplicasClient::new(client::channel(server).await?);
        let refused = |status: Status| client::refused(server, &status);
        match command.unwrap_or(ReplicasCommand::List) {
            ReplicasCommand::List => {
                let answer = api.list_replicas(v1::ListReplicasRequest {}).await;
                list(&answer.map_err(refused)?.into_inner(), format)
            }
            ReplicasCommand::Owner { mac, client_id } => {
                let request = v1::FindOwnerRequest {
                    mac: mac.clone(),
                    client_id,
                };
                let answer = api.find_owner(request).await.map_err(refused)?;
                owner(&mac, &answer.into_inner(), format)
            }
            ReplicasCommand::Canary { command } => {
                canary(&mut api, command, format).await.map_err(refused)?
            }
            ReplicasCommand::Override {
                command: OverrideCommand::Clear { macs },
            } => clear(&mut api, macs, server, format).await,
            ReplicasCommand::Override { command } => overrides(&mut api, command, format)
                .await
                .map_err(refused)?,
        }
    })
}

async fn canary(
    api: &mut ReplicasClient<Connection>,
    command: CanaryCommand,
    format: Format,
) -> Result<Result<(), Failure>, Status> {
    let (replica, percent) = match command {
        CanaryCommand::Set { replica, percent } => (replica, percent),
        CanaryCommand::Clear => {
            api.clear_canary(v1::ClearCanaryRequest {}).await?;
            let text = || "the canary has ended".to_owned();
            return Ok(output::answer(format, || json!({ "canary": null }), text));
        }
    };
    let canary = Some(Canary { replica, percent });
    let set = api.set_canary(v1::SetCanaryRequest { canary }).await?;
    let set = set.into_inner();
    Ok(output::answer(
        format,
        || json!({ "canary": canary_json(&set) }),
        || canary_line(&set),
    ))
}

async fn overrides(
    api: &mut ReplicasClient<Connection>,
    command: OverrideCommand,
    format: Format,
) -> Result<Result<(), Failure>, Status> {
    let (mac, replica, time) = match command {
        OverrideCommand::Set { mac, replica, time } => (mac, replica, time),
        OverrideCommand::List | OverrideCommand::Clear { .. } => {
            let list = api.list_overrides(v1::ListOverridesRequest {}).await?;
            return Ok(list_overrides(&list.into_inner().overrides, format));
        }
    };
    let told = Override {
        mac,
        replica,
        expire_time: Some(end_of(time)),
        ..Override::default()
    };
    let request = v1::PutOverrideRequest {
        r#override: Some(told),
    };
    let told = api.put_override(request).await?.into_inner();
    let line = || {
        let until = time_text(told.expire_time);
        format!("{} goes to {} until {until}", told.mac, id(&told.replica))
    };
    Ok(output::answer(format, || override_json(&told), line))
}

/// One after the other; each that fails is said, the first of them sets the exit status.
async fn clear(
    api: &mut ReplicasClient<Connection>,
    macs: Vec<String>,
    server: &Server,
    format: Format,
) -> Result<(), Failure> {
    let (mut cleared, mut failures) = (Vec::new(), Vec::new());
    for name in macs {
        let request = v1::DeleteOverrideRequest { name: name.clone() };
        match api.delete_override(request).await {
            Ok(_) => cleared.push(name),
            Err(status) => failures.push(client::refused(server, &status)),
        }
    }
    if !cleared.is_empty() || format.is_for_programs() {
        let line = || format!("ended the override of {}", cleared.join(", "));
        output::answer(format, || json!({ "cleared": cleared }), line)?;
    }
    let Some(first) = failures.first() else {
        return Ok(());
    };
    let messages: Vec<&str> = failures.iter().map(|f| f.message.as_str()).collect();
    Err(Failure::new(first.exit, messages.join("\nbootjack: ")))
}

fn list(answer: &v1::ListReplicasResponse, format: Format) -> Result<(), Failure> {
    output::answer(format, || list_json(answer), || list_table(answer, format))
}

fn list_table(answer: &v1::ListReplicasResponse, format: Format) -> String {
    let mut header = vec!["REPLICA", "STATE", "SHARE", "WEIGHT", "ADDRESSES", "SINCE"];
    if format == Format::Wide {
        header.extend(["VERSION", "TAKEN", "FORWARDED", "LEFT"]);
    }
    let rows = answer.replicas.iter().map(|replica| {
        let own = if replica.is_self { " (asked)" } else { "" };
        let mut row = vec![
            format!("{}{own}", id(&replica.name)),
            state(replica).to_owned(),
            format!("{:.1} %", replica.share_percent),
            replica.weight.to_string(),
            replica.addresses.join(", "),
            time_text(replica.start_time),
        ];
        if format == Format::Wide {
            row.push(replica.version.clone());
            let counts = [
                replica.taken_count,
                replica.forwarded_count,
                replica.left_count,
            ];
            row.extend(counts.map(|count| count.to_string()));
        }
        row
    });
    let mut text = output::table(Style::stdout(), &header, rows.collect());
    if let Some(canary) = &answer.canary {
        text.push_str(&format!("\n\ncanary: {}", canary_line(canary)));
    }
    text
}

fn list_json(answer: &v1::ListReplicasResponse) -> Json {
    let replicas = answer.replicas.iter().map(|replica| {
        json!({
            "name": replica.name,
            "id": id(&replica.name),
            "state": state(replica),
            "is_self": replica.is_self,
            "buckets": replica.buckets,
            "share_percent": replica.share_percent,
            "weight": replica.weight,
            "addresses": replica.addresses,
            "server_ids": replica.server_ids,
            "start_time": replica.start_time.map(|time| time.to_string()),
            "version": replica.version,
            "ttl_secs": replica.ttl_secs,
            "taken_count": replica.taken_count,
            "forwarded_count": replica.forwarded_count,
            "left_count": replica.left_count,
        })
    });
    json!({
        "replicas": replicas.collect::<Vec<Json>>(),
        "canary": answer.canary.as_ref().map(canary_json),
    })
}

fn owner(mac: &str, answer: &v1::FindOwnerResponse, format: Format) -> Result<(), Failure> {
    let replica = Some(answer.replica.as_str()).filter(|name| !name.is_empty());
    let value = || {
        json!({
            "replica": replica,
            "reason": answer.reason,
            "bucket": answer.bucket,
        })
    };
    let line = || match replica {
        Some(name) => format!("{mac} is answered by {}: {}", id(name), answer.reason),
        None => format!("{mac} is answered by nobody: {}", answer.reason),
    };
    output::answer(format, value, line)
}

fn list_overrides(overrides: &[Override], format: Format) -> Result<(), Failure> {
    if format.is_for_programs() {
        let list: Vec<Json> = overrides.iter().map(override_json).collect();
        return output::say_value(format, &json!({ "overrides": list }));
    }
    if overrides.is_empty() {
        eprintln!(
            "no overrides; make one with: bootjack replicas override set MAC REPLICA --for 2h"
        );
        return Ok(());
    }
    let rows = overrides.iter().map(|told| {
        let replica = id(&told.replica).to_owned();
        vec![told.mac.clone(), replica, time_text(told.expire_time)]
    });
    let header = ["MAC", "REPLICA", "UNTIL"];
    output::say(&output::table(Style::stdout(), &header, rows.collect()))
}

fn canary_line(canary: &Canary) -> String {
    format!(
        "{} of a hundred clients go to {}",
        canary.percent,
        id(&canary.replica)
    )
}

fn canary_json(canary: &Canary) -> Json {
    json!({ "replica": canary.replica, "percent": canary.percent })
}

fn override_json(told: &Override) -> Json {
    json!({
        "name": told.name,
        "mac": told.mac,
        "replica": told.replica,
        "expire_time": told.expire_time.map(|time| time.to_string()),
    })
}

fn state(replica: &Replica) -> &'static str {
    match replica.state() {
        State::Live => "live",
        State::Unconfirmed => "unconfirmed",
        State::Unspecified => "unknown",
    }
}

fn id(name: &str) -> &str {
    name.strip_prefix("replicas/").unwrap_or(name)
}

fn time_text(time: Option<Timestamp>) -> String {
    time.map_or("-".to_owned(), |time| time.to_string())
}

/// So long from now.
fn end_of(time: Duration) -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let end = now.unwrap_or_default().saturating_add(time);
    Timestamp {
        seconds: i64::try_from(end.as_secs()).unwrap_or(i64::MAX),
        nanos: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(name: &str, share_percent: f64, is_self: bool) -> Replica {
        Replica {
            name: format!("replicas/{name}"),
            addresses: vec!["198.18.0.2".to_owned()],
            share_percent,
            weight: 10,
            is_self,
            state: State::Live.into(),
            start_time: Some(Timestamp {
                seconds: 0,
                nanos: 0,
            }),
            ..Replica::default()
        }
    }

    #[test]
    fn the_table_says_who_lives_with_which_share_and_who_was_asked() {
        let answer = v1::ListReplicasResponse {
            replicas: vec![replica("a", 66.7, true), replica("bb", 33.3, false)],
            canary: Some(Canary {
                replica: "replicas/bb".to_owned(),
                percent: 5,
            }),
        };
        let expected = "\
REPLICA    STATE  SHARE   WEIGHT  ADDRESSES   SINCE
a (asked)  live   66.7 %  10      198.18.0.2  1970-01-01T00:00:00Z
bb         live   33.3 %  10      198.18.0.2  1970-01-01T00:00:00Z

canary: 5 of a hundred clients go to bb";
        assert_eq!(list_table(&answer, Format::Table), expected);
        let json = list_json(&answer);
        assert_eq!(json["replicas"][1]["id"], "bb");
        assert_eq!(json["canary"]["percent"], 5);
    }
}
