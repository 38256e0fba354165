//! `bootjack server …`: the service itself.

use std::io::Write as _;
use std::path::Path;

use bootjack_api::v1::server_client::ServerClient;
use bootjack_api::v1::{
    ExportStateRequest, GetEffectiveConfigRequest, GetServerInfoRequest, ServerInfo,
};
use serde_json::{Value as Json, json};
use tonic::Streaming;

use crate::cli::{Format, ServerCommand};
use crate::client::{self, Server};
use crate::exit::Failure;
use crate::output::{self, Style, or_dash, or_null, time, time_or_null};
use crate::vars;
use crate::yaml;

/// Runs one command; the answer goes to standard output.
pub fn run(command: ServerCommand, server: &Server, format: Format) -> Result<(), Failure> {
    client::block_on(async {
        let mut api = ServerClient::new(client::channel(server).await?);
        let refused = |status| client::refused(server, &status);
        match command {
            ServerCommand::Info => {
                let answer = api.get_server_info(GetServerInfoRequest {}).await;
                let info = answer.map_err(refused)?.into_inner();
                output::answer(
                    format,
                    || as_json(&info),
                    || in_words(&info, Style::stdout()),
                )
            }
            ServerCommand::Config => {
                let answer = api.get_effective_config(GetEffectiveConfigRequest {}).await;
                let config = answer
                    .map_err(refused)?
                    .into_inner()
                    .config
                    .unwrap_or_default();
                let config = vars::map_to_json(&config.fields);
                output::answer(
                    format,
                    || config.clone(),
                    || yaml::document(&config).trim_end().to_owned(),
                )
            }
            ServerCommand::Export { to } => {
                let answer = api.export_state(ExportStateRequest {}).await;
                let stream = answer.map_err(refused)?.into_inner();
                export(stream, to.as_deref(), server).await
            }
        }
    })
}

/// Writes the pieces as they come. A file that is not whole is not left under its name.
async fn export(
    mut stream: Streaming<bootjack_api::v1::ExportStateResponse>,
    to: Option<&Path>,
    server: &Server,
) -> Result<(), Failure> {
    let shown = to.unwrap_or(Path::new("standard output")).to_owned();
    let partial = to.map(|to| {
        let mut name = to.as_os_str().to_owned();
        name.push(".partial");
        std::path::PathBuf::from(name)
    });
    let mut out: Box<dyn std::io::Write> = match &partial {
        Some(partial) => {
            Box::new(std::fs::File::create(partial).map_err(Failure::io("write", partial))?)
        }
        None => Box::new(std::io::stdout()),
    };
    loop {
        match stream.message().await {
            Ok(Some(piece)) => out
                .write_all(&piece.octets)
                .map_err(Failure::io("write", &shown))?,
            Ok(None) => break,
            Err(status) => {
                if let Some(partial) = &partial {
                    let _ = std::fs::remove_file(partial);
                }
                return Err(client::refused(server, &status));
            }
        }
    }
    out.flush().map_err(Failure::io("write", &shown))?;
    if let (Some(partial), Some(to)) = (&partial, to) {
        std::fs::rename(partial, to).map_err(Failure::io("write", to))?;
    }
    Ok(())
}

fn in_words(info: &ServerInfo, style: Style) -> String {
    let store = info.store.clone().unwrap_or_default();
    let line =
        |key: &str, value: &str| format!("{}{}", style.bold(&format!("{key:<13}")), or_dash(value));
    let health = match (store.healthy, store.problem.as_str()) {
        (true, _) => "healthy".to_owned(),
        (false, problem) => style.red(problem),
    };
    let up = info.uptime.map(|uptime| {
        let whole = std::time::Duration::from_secs(uptime.seconds.unsigned_abs());
        humantime::format_duration(whole).to_string()
    });
    let mut lines = vec![
        line("version", &info.version),
        line(
            "host",
            &format!("{}, process {}", info.hostname, info.process_id),
        ),
        line(
            "started",
            &format!("{}, {} ago", time(info.start_time), up.unwrap_or_default()),
        ),
        line(
            "store",
            &format!("{}, revision {}, {health}", store.backend, store.revision),
        ),
        line("reservations", &info.reservations.to_string()),
        line("leases", &info.leases.to_string()),
    ];
    if !info.listeners.is_empty() {
        lines.push(style.bold("listens"));
        lines.extend(info.listeners.iter().map(|l| {
            format!(
                "  {:<6} {}  {}",
                l.protocol,
                l.address,
                style.dim(&l.reason)
            )
        }));
    }
    if !info.subnets.is_empty() {
        lines.push(style.bold("subnets"));
        lines.extend(info.subnets.iter().map(|s| {
            let pools = if s.pools.is_empty() {
                "no pools".to_owned()
            } else {
                s.pools.join(", ")
            };
            format!(
                "  {}  {pools}; {} reserved, {} held",
                s.cidr, s.reserved, s.bound
            )
        }));
    }
    if !info.degraded.is_empty() {
        lines.push(style.bold("cannot"));
        for degraded in &info.degraded {
            lines.push(format!(
                "  {}",
                style.red(&format!("{}: {}", degraded.capability, degraded.state))
            ));
            lines.push(format!(
                "    {}; {}",
                degraded.consequence, degraded.next_step
            ));
        }
    }
    lines.join("\n")
}

/// What runs, for programs: every key always, null for none.
fn as_json(info: &ServerInfo) -> Json {
    let store = info.store.clone().unwrap_or_default();
    let listeners = info.listeners.iter().map(
        |l| json!({ "protocol": l.protocol, "address": l.address, "reason": or_null(&l.reason) }),
    );
    let subnets = info.subnets.iter().map(|s| {
        json!({ "cidr": s.cidr, "pools": s.pools, "router": or_null(&s.router), "reserved": s.reserved, "bound": s.bound })
    });
    let degraded = info.degraded.iter().map(|d| {
        json!({
            "capability": d.capability,
            "state": or_null(&d.state),
            "consequence": or_null(&d.consequence),
            "next_step": or_null(&d.next_step),
        })
    });
    json!({
        "version": info.version,
        "start_time": time_or_null(info.start_time),
        "uptime_secs": info.uptime.map(|uptime| uptime.seconds),
        "hostname": or_null(&info.hostname),
        "process_id": info.process_id,
        "store": {
            "backend": store.backend,
            "revision": store.revision,
            "healthy": store.healthy,
            "problem": or_null(&store.problem),
        },
        "listeners": listeners.collect::<Vec<_>>(),
        "subnets": subnets.collect::<Vec<_>>(),
        "reservations": info.reservations,
        "leases": info.leases,
        "degraded": degraded.collect::<Vec<_>>(),
    })
}
