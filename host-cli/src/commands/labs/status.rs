//! What runs, and where machines stand: from QEMU, the switch and bootjackd, not from memory.

use bootjack_api::v1::leases_client::LeasesClient;
use bootjack_api::v1::machines_client::MachinesClient;
use bootjack_api::v1::{Lease, ListLeasesRequest, ListMachinesRequest, Machine};
use serde_json::{Value, json};

use crate::cli::{At, Format, How};
use crate::client;
use crate::exit::{Exit, Failure};
use crate::images::Store;
use crate::lab::open::{self, Opened};
use crate::lab::{plan, provisioner, targets};
use crate::output::{self, Style, or_dash};
use crate::vm::{self, State};

/// A machine as it is.
pub struct Stand {
    pub name: String,
    pub state: State,
    /// What bootjackd knows of it: its lease's address, and where it stands with its profile.
    pub address: Option<String>,
    pub progress: Option<String>,
    pub reserved: String,
    pub profile: String,
}

/// Shows the lab.
pub fn run(at: &At) -> Result<(), Failure> {
    let opened = open::open(&at.lab)?;
    show(&opened, at.format())
}

/// Shows the lab.
pub fn show(opened: &Opened, format: Format) -> Result<(), Failure> {
    let (stands, service) = super::runtime()?.block_on(stands(opened))?;
    if format.is_for_programs() {
        let vms: Vec<Value> = stands.iter().map(Stand::as_json).collect();
        let answer = json!({
            "lab": opened.lab.name,
            "file": opened.file,
            "subnet": opened.lab.network.subnet.to_string(),
            "provisioner": service,
            "vms": vms,
        });
        return output::say_value(format, &answer);
    }
    let address = opened.lab.provisioner.address;
    output::say(&format!(
        "lab {}, {}; provisioner {address} {}",
        opened.lab.name,
        opened.lab.network.subnet,
        service["state"].as_str().unwrap_or_default()
    ))?;
    output::say(&table(&stands))
}

/// The machines as a table.
pub fn table(stands: &[Stand]) -> String {
    let header = ["NAME", "STATE", "ADDRESS", "PROFILE", "PROGRESS"];
    let rows = stands.iter().map(|stand| {
        let address = match &stand.address {
            Some(address) => address.clone(),
            None => format!("({})", stand.reserved),
        };
        let progress = stand.progress.clone().unwrap_or_default();
        let cells = [
            stand.name.as_str(),
            stand.state.word(),
            &address,
            &stand.profile,
            &progress,
        ];
        cells.map(|cell| or_dash(cell).to_owned()).to_vec()
    });
    output::table(Style::stdout(), &header, rows.collect())
}

/// Every machine of the lab, and the provisioner.
pub async fn stands(opened: &Opened) -> Result<(Vec<Stand>, Value), Failure> {
    let told = told(opened).await;
    let service = match &told {
        Ok(_) => json!({ "state": "answers", "address": opened.lab.provisioner.address }),
        Err(failure) => {
            json!({ "state": "does not answer", "why": failure.message, "address": opened.lab.provisioner.address })
        }
    };
    let (leases, machines) = told.unwrap_or_default();
    let mut stands = Vec::new();
    for machine in &opened.lab.vms {
        let state = vm::state(&opened.paths.vm(&machine.name), &machine.uuid)?;
        let lease = leases
            .iter()
            .find(|lease| lease.mac.eq_ignore_ascii_case(&machine.mac));
        let name = format!("machines/{}", machine.name);
        let progress = machines.iter().find(|told| told.name == name);
        stands.push(Stand {
            name: machine.name.clone(),
            state,
            address: lease.map(|lease| lease.address.clone()),
            progress: progress.map(word),
            reserved: machine.address.to_string(),
            profile: machine
                .profile
                .clone()
                .or_else(|| machine.image.clone())
                .unwrap_or_default(),
        });
    }
    Ok((stands, service))
}

fn word(machine: &Machine) -> String {
    crate::commands::machine::state(machine).to_owned()
}

async fn told(opened: &Opened) -> Result<(Vec<Lease>, Vec<Machine>), Failure> {
    let server = provisioner::server(opened)?;
    let channel = client::channel(&server).await?;
    let refused = |status| client::refused(&server, &status);
    let mut leases = LeasesClient::new(channel.clone());
    let held = client::all_pages(async |page_token| {
        let request = ListLeasesRequest {
            page_token,
            ..ListLeasesRequest::default()
        };
        let page = leases.list_leases(request).await?.into_inner();
        Ok((page.leases, page.next_page_token))
    });
    let held = held.await.map_err(refused)?;
    let mut machines = MachinesClient::new(channel);
    let known = client::all_pages(async |page_token| {
        let request = ListMachinesRequest {
            page_token,
            ..ListMachinesRequest::default()
        };
        let page = machines.list_machines(request).await?.into_inner();
        Ok((page.machines, page.next_page_token))
    });
    Ok((held, known.await.map_err(refused)?))
}

impl Stand {
    /// For programs: every key always, null for none.
    pub fn as_json(&self) -> Value {
        json!({
            "name": self.name,
            "state": self.state.word(),
            "pid": self.state.pid(),
            "address": self.address,
            "reserved_address": self.reserved,
            "profile": self.profile,
            "progress": self.progress,
        })
    }
}

/// What `up` would do.
pub fn plan(at: &At) -> Result<(), Failure> {
    let opened = open::open(&at.lab)?;
    let how = How {
        driver: None,
        bootjackd: None,
    };
    let steps = super::runtime()?.block_on(steps(&opened, &how))?;
    output::answer(
        at.format(),
        || json!({ "steps": steps.iter().map(|(who, what)| json!({ "who": who, "what": what })).collect::<Vec<_>>() }),
        || match steps.as_slice() {
            [] => "nothing to do".to_owned(),
            steps => {
                let lines: Vec<String> = steps
                    .iter()
                    .map(|(who, what)| format!("{who}: {what}"))
                    .collect();
                lines.join("\n")
            }
        },
    )?;
    match steps.is_empty() {
        true => Ok(()),
        // What differs was shown.
        false => Err(Failure::new(Exit::Differs, "")),
    }
}

async fn steps(opened: &Opened, how: &How) -> Result<Vec<(String, String)>, Failure> {
    let store = Store::open(&opened.bases.images())?;
    let facts = super::facts::look(opened, &store, how).await?;
    let plans = plan::targets(&opened.lab, &opened.paths, &facts)?;
    let mut steps = Vec::new();
    let mut add = |who: &str, what: String| steps.push((who.to_owned(), what));
    if let (_, service) = stands(opened).await?
        && service["state"] != "answers"
    {
        add("provisioner", "start".to_owned());
    }
    let all = super::images::Wanting {
        names: &[],
        provisioner: true,
    };
    for (key, wanted) in super::images::lacking(opened, &facts, all) {
        add("image", super::images::shown(key, wanted));
    }
    for plan in &plans {
        let name = &plan.vm.name;
        match vm::state(&plan.paths, &plan.vm.uuid)? {
            State::Stopped if !plan.paths.dir.exists() => {
                add(name, format!("make, and power on ({})", plan.title()));
            }
            State::Stopped => add(name, format!("power on ({})", plan.title())),
            State::Hung { why, .. } => add(
                name,
                format!("hung ({why}); end it with: bootjack vm stop --kill {name}"),
            ),
            State::Running { .. } if targets::is_as_started(plan) => {}
            State::Running { .. } => add(
                name,
                format!(
                    "runs as it was before lab.toml changed; restart it with: bootjack vm restart {name}"
                ),
            ),
        }
    }
    let known: Vec<&str> = plans.iter().map(|plan| plan.vm.name.as_str()).collect();
    for entry in std::fs::read_dir(opened.paths.vms())
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !known.contains(&name.as_str()) {
            add(
                &name,
                format!(
                    "is not in lab.toml any more; up leaves it; delete it with: rm -r {}",
                    entry.path().display()
                ),
            );
        }
    }
    Ok(steps)
}
