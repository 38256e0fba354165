//! What bootjackd is to know of the lab: profiles, the files they name, a reservation for each machine. All of it goes over the
//! API, and only what differs: a lab that is up already sees nothing of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bootjack_api::v1::artifacts_client::ArtifactsClient;
use bootjack_api::v1::profiles_client::ProfilesClient;
use bootjack_api::v1::{
    GetArtifactRequest, GetProfileRequest, Profile, PutProfileRequest, Reservation,
};
use prost_types::value::Kind;
use tonic::Code;

use super::shipped::PROFILES;
use crate::apply::plan::{Plan, Terms, plan};
use crate::apply::send::Sender;
use crate::client::{self, Server};
use crate::commands::{artifact, profile};
use crate::exit::{Exit, Failure};
use crate::labfile::{Lab, Machine};
use crate::wanted::{Place, Wanted};

/// Large files over a slow link.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1800);

/// A profile as its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabProfile {
    pub name: String,
    pub files: BTreeMap<String, String>,
}

/// What a machine's reservation has beside what the lab's file says.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// The public key that logs in.
    pub ssh_key: String,
    /// Each machine's own private host key.
    pub host_keys: BTreeMap<String, String>,
}

/// Those that come with bootjack, and those of the lab's directory, which win.
pub fn profiles(directory: Option<&Path>) -> Result<Vec<LabProfile>, Failure> {
    let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (path, text) in PROFILES {
        let (profile, file) = path.split_once('/').expect("each is a file of a profile");
        let files = all.entry(profile.to_owned()).or_default();
        files.insert(file.to_owned(), text.to_owned());
    }
    if let Some(directory) = directory {
        let entries = std::fs::read_dir(directory).map_err(Failure::io("read", directory))?;
        for entry in entries {
            let path = entry.map_err(Failure::io("read", directory))?.path();
            if path.join("profile.toml").is_file() {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                all.insert(name.into_owned(), profile::files(&path)?);
            }
        }
    }
    let all = all.into_iter();
    Ok(all
        .map(|(name, files)| LabProfile { name, files })
        .collect())
}

/// Puts those that the lab's machines use and that bootjackd does not have so. Returns how many.
pub async fn put_profiles(
    server: &Server,
    lab: &Lab,
    profiles: Vec<LabProfile>,
) -> Result<Vec<String>, Failure> {
    let mut api = ProfilesClient::new(client::channel(server).await?);
    let mut put = Vec::new();
    let is_used = |name: &str| {
        let wanted = Some(name);
        lab.vms.iter().any(|vm| vm.profile.as_deref() == wanted)
    };
    for profile in profiles
        .into_iter()
        .filter(|profile| is_used(&profile.name))
    {
        let name = format!("profiles/{}", profile.name);
        let there = api
            .get_profile(GetProfileRequest { name: name.clone() })
            .await;
        match there {
            Ok(there) if there.get_ref().files == profile.files.clone().into_iter().collect() => {
                continue;
            }
            Ok(_) => {}
            Err(status) if status.code() == Code::NotFound => {}
            Err(status) => return Err(client::refused(server, &status)),
        }
        let request = PutProfileRequest {
            profile: Some(Profile {
                name,
                files: profile.files.into_iter().collect(),
                ..Profile::default()
            }),
            ..PutProfileRequest::default()
        };
        let answer = api.put_profile(request).await;
        answer.map_err(|status| client::refused(server, &status))?;
        put.push(profile.name);
    }
    Ok(put)
}

/// Sends the files that bootjackd does not have so. Returns the names of those that were sent.
pub async fn send_artifacts(
    server: &Server,
    files: &BTreeMap<String, PathBuf>,
) -> Result<Vec<String>, Failure> {
    let connection = client::patient_channel(server, PATIENCE).await?;
    let mut api = ArtifactsClient::new(connection.clone());
    let mut sent = Vec::new();
    for (name, file) in files {
        let request = GetArtifactRequest { name: name.clone() };
        let there = match api.get_artifact(request).await {
            Ok(there) => Some(there.into_inner()),
            Err(status) if status.code() == Code::NotFound => None,
            Err(status) => return Err(client::refused(server, &status)),
        };
        let size = std::fs::metadata(file)
            .map_err(Failure::io("read", file))?
            .len();
        let mut sha256 = None;
        if let Some(there) = there.filter(|there| there.size_bytes.unsigned_abs() == size) {
            let own = artifact::digest_of(file)?;
            if own == there.sha256 {
                continue;
            }
            sha256 = Some(own);
        }
        let client = ArtifactsClient::new(connection.clone());
        artifact::upload(client, server, name, file, sha256).await?;
        sent.push(name.clone());
    }
    Ok(sent)
}

/// What is done to have the lab's reservations there, and no other of this lab's.
pub async fn reservations(
    server: &Server,
    lab: &Lab,
    file: &Path,
    secrets: &Secrets,
) -> Result<Plan, Failure> {
    let sender = Sender::connect(server).await?;
    let mut profiles = ProfilesClient::new(client::channel(server).await?);
    let mut wanted = Vec::new();
    for machine in &lab.vms {
        let mut vars = Vec::new();
        if let Some(name) = &machine.profile {
            let request = GetProfileRequest {
                name: format!("profiles/{name}"),
            };
            let profile = profiles.get_profile(request).await.map_err(|status| {
                match status.code() {
                    Code::NotFound => Failure::new(
                        Exit::NotFound,
                        format!("{} wants profile {name}, which there is none of; bootjack profile list shows those that there are", machine.name),
                    ),
                    _ => client::refused(server, &status),
                }
            })?;
            vars = profile.into_inner().vars.into_keys().collect();
        }
        let reservation = reservation(machine, &vars, secrets);
        let place = Place {
            file: Arc::from(file.display().to_string()),
            line: 1,
        };
        wanted.push(Wanted { place, reservation });
    }
    let terms = Terms {
        owner: Some(owner(lab)),
        prunes: true,
    };
    let current = sender.list("").await?;
    let plan = plan(wanted, &current, &terms).map_err(|problems| {
        let lines: Vec<String> = problems
            .iter()
            .map(|problem| problem.message.clone())
            .collect();
        Failure::new(Exit::Conflict, lines.join("\n  "))
    })?;
    let outcomes = sender.carry_out(plan.clone(), &mut |_| {}).await;
    let failures = outcomes
        .into_iter()
        .filter_map(|outcome| outcome.result.err());
    Failure::of_many(failures.collect())?;
    Ok(plan)
}

/// The label that says which reservations are the lab's.
fn owner(lab: &Lab) -> String {
    format!("lab-{}", lab.name)
}

/// The reservation of a machine. `known` are the variables that its profile has.
fn reservation(machine: &Machine, known: &[String], secrets: &Secrets) -> Reservation {
    let mut vars: BTreeMap<String, prost_types::Value> = machine
        .vars
        .iter()
        .map(|(name, value)| (name.clone(), crate::vars::from_json(value.clone())))
        .collect();
    let host_key = secrets.host_keys.get(&machine.name);
    for (name, value) in [
        ("ssh_key", Some(&secrets.ssh_key)),
        ("ssh_host_key", host_key),
    ] {
        if let Some(value) = value.filter(|_| known.iter().any(|known| known == name)) {
            let kind = Some(Kind::StringValue(value.clone()));
            vars.entry(name.to_owned())
                .or_insert(prost_types::Value { kind });
        }
    }
    Reservation {
        name: format!("{}{}", crate::wanted::COLLECTION, machine.name),
        mac: machine.mac.clone(),
        address: machine.address.to_string(),
        hostname: machine.name.clone(),
        profile: machine.profile.clone().unwrap_or_default(),
        vars: vars.into_iter().collect(),
        ..Reservation::default()
    }
}
