//! `bootjack.v1.Replicas`: who shares the clients, and what operators say of that. In: wishes. Out: the same in etcd, for every
//! replica, or a status that names the field.

use bootjack_api::v1;
use bootjack_api::v1::replica::State;
use bootjack_api::v1::replicas_server::Replicas;
use prost_types::Timestamp;
use tonic::{Code, Request, Response, Status};

use super::errors::{invalid, not_found, refused};
use crate::model::{MacAddr, Octets};
use crate::net::now_secs;
use crate::replicas::bucket::{BUCKETS, bucket};
use crate::replicas::desk::Desk;
use crate::replicas::group::{Canary, Client, Group, Member, Override, Why};
use crate::replicas::shared::Known;
use crate::store::etcd::EtcdError;

const COLLECTION: &str = "replicas/";
const OVERRIDES: &str = "overrides/";
/// Whoever forgets an override finds it gone.
const LONGEST_OVERRIDE_SECS: u64 = 30 * 24 * 3600;

/// The service; without a desk there are no replicas.
pub struct Service {
    pub desk: Option<Desk>,
}

impl Service {
    fn desk(&self) -> Result<&Desk, Status> {
        self.desk.as_ref().ok_or_else(|| {
            let text = "this bootjackd has no replicas; add [replicas] and store.backend = \"etcd\" to its configuration";
            let facts = [("field", "replicas")];
            refused(Code::FailedPrecondition, "NO_REPLICAS", &facts, text)
        })
    }
}

#[tonic::async_trait]
impl Replicas for Service {
    async fn list_replicas(
        &self,
        _: Request<v1::ListReplicasRequest>,
    ) -> Result<Response<v1::ListReplicasResponse>, Status> {
        let known = self.desk()?.known();
        let group = known.group();
        let replicas = group.members().iter().map(|m| to_message(m, &group, known));
        Ok(Response::new(v1::ListReplicasResponse {
            replicas: replicas.collect(),
            canary: group.canary().map(to_canary),
        }))
    }

    async fn find_owner(
        &self,
        request: Request<v1::FindOwnerRequest>,
    ) -> Result<Response<v1::FindOwnerResponse>, Status> {
        let v1::FindOwnerRequest { mac, client_id } = request.into_inner();
        let group = self.desk()?.known().group();
        let mac = Some(mac).filter(|text| !text.is_empty());
        let mac = mac.map(|text| to_mac("mac", &text)).transpose()?;
        let client_id = match client_id.as_str() {
            "" => None,
            text => Some(Octets::from_hex(text).ok_or_else(|| {
                let text = format!(
                    "client_id `{}` is not hexadecimal; write it like 01:52:54:00:00:00:01",
                    text.escape_default()
                );
                invalid("client_id", &text)
            })?),
        };
        let hardware = mac.map(|mac| mac.0);
        let hardware = hardware.as_ref().map_or(&[][..], |octets| &octets[..]);
        let client = Client {
            identity: client_id.as_ref().map_or(hardware, |id| &id.0),
            hardware,
            mac,
        };
        if client.identity.is_empty() {
            let text = "neither a MAC nor a client-id is given; write a MAC like 52:54:00:00:00:01";
            return Err(invalid("mac", text));
        }
        let owner = group.owner(client, now_secs());
        Ok(Response::new(v1::FindOwnerResponse {
            replica: owner.map_or(String::new(), |(owner, _)| name_of(&owner.id)),
            reason: owner.map_or("no replica lives".to_owned(), |(_, why)| in_words(why)),
            bucket: bucket(client.identity).into(),
        }))
    }

    async fn set_canary(
        &self,
        request: Request<v1::SetCanaryRequest>,
    ) -> Result<Response<v1::Canary>, Status> {
        let desk = self.desk()?;
        let canary = request.into_inner().canary;
        let canary = canary.ok_or_else(|| invalid("canary", "canary is missing"))?;
        let percent = u8::try_from(canary.percent)
            .ok()
            .filter(|percent| (1..=100).contains(percent))
            .ok_or_else(|| {
                let text = format!("percent is {}; wanted 1 to 100", canary.percent);
                invalid("canary.percent", &text)
            })?;
        let replica = live(&desk.known().group(), "canary.replica", &canary.replica)?;
        let canary = Canary { replica, percent };
        desk.set_canary(&canary).await.map_err(unavailable)?;
        Ok(Response::new(to_canary(&canary)))
    }

    async fn clear_canary(
        &self,
        _: Request<v1::ClearCanaryRequest>,
    ) -> Result<Response<()>, Status> {
        let desk = self.desk()?;
        if desk.known().group().canary().is_none() {
            return Err(not_found("canary", "there is no canary"));
        }
        desk.clear_canary().await.map_err(unavailable)?;
        Ok(Response::new(()))
    }

    async fn put_override(
        &self,
        request: Request<v1::PutOverrideRequest>,
    ) -> Result<Response<v1::Override>, Status> {
        let (desk, now) = (self.desk()?, now_secs());
        let told = request.into_inner().r#override;
        let told = told.ok_or_else(|| invalid("override", "override is missing"))?;
        let mac = to_mac("override.mac", &told.mac)?;
        let expires_secs = to_end(told.expire_time, now)?;
        let replica = live(&desk.known().group(), "override.replica", &told.replica)?;
        let told = Override {
            mac,
            replica,
            expires_secs,
        };
        desk.put_override(&told, now).await.map_err(unavailable)?;
        Ok(Response::new(to_override(&told)))
    }

    async fn delete_override(
        &self,
        request: Request<v1::DeleteOverrideRequest>,
    ) -> Result<Response<()>, Status> {
        let (desk, now) = (self.desk()?, now_secs());
        let name = request.into_inner().name;
        let mac = to_mac("name", name.strip_prefix(OVERRIDES).unwrap_or(&name))?;
        let is_there = (desk.known().group().overrides(now).iter()).any(|told| told.mac == mac);
        if !is_there {
            return Err(not_found(
                &format!("{OVERRIDES}{mac}"),
                &format!("{OVERRIDES}{mac} does not exist"),
            ));
        }
        desk.delete_override(mac).await.map_err(unavailable)?;
        Ok(Response::new(()))
    }

    async fn list_overrides(
        &self,
        _: Request<v1::ListOverridesRequest>,
    ) -> Result<Response<v1::ListOverridesResponse>, Status> {
        let group = self.desk()?.known().group();
        let overrides = group.overrides(now_secs()).into_iter().map(to_override);
        Ok(Response::new(v1::ListOverridesResponse {
            overrides: overrides.collect(),
        }))
    }
}

fn name_of(id: &str) -> String {
    format!("{COLLECTION}{id}")
}

fn to_message(member: &Member, group: &Group, known: &Known) -> v1::Replica {
    let is_self = member.id == group.own_id();
    let (counts, state) = match is_self {
        true if known.is_confirmed() => (known.counts(), State::Live),
        true => (known.counts(), State::Unconfirmed),
        false => (member.counts, State::Live),
    };
    let texts =
        |addresses: &[std::net::Ipv4Addr]| addresses.iter().map(ToString::to_string).collect();
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let buckets = group.buckets_of(&member.id);
    v1::Replica {
        name: name_of(&member.id),
        addresses: texts(&member.addresses),
        server_ids: texts(&member.server_ids),
        buckets: i32::try_from(buckets).unwrap_or(i32::MAX),
        share_percent: buckets as f64 * 100.0 / BUCKETS as f64,
        weight: member.weight.into(),
        start_time: Some(to_time(member.since_secs)),
        version: member.version.clone(),
        is_self,
        state: state.into(),
        ttl_secs: i32::try_from(member.ttl_secs).unwrap_or(i32::MAX),
        taken_count: number(counts.taken),
        forwarded_count: number(counts.forwarded),
        left_count: number(counts.left),
    }
}

fn to_canary(canary: &Canary) -> v1::Canary {
    v1::Canary {
        replica: name_of(&canary.replica),
        percent: canary.percent.into(),
    }
}

fn to_override(told: &Override) -> v1::Override {
    v1::Override {
        name: format!("{OVERRIDES}{}", told.mac),
        mac: told.mac.to_string(),
        replica: name_of(&told.replica),
        expire_time: Some(to_time(told.expires_secs)),
    }
}

fn to_time(secs: u64) -> Timestamp {
    Timestamp {
        seconds: i64::try_from(secs).unwrap_or(i64::MAX),
        nanos: 0,
    }
}

fn in_words(why: Why) -> String {
    match why {
        Why::Override { expires_secs } => {
            format!("an override says so until {}", to_time(expires_secs))
        }
        Why::Canary { percent } => {
            format!("the canary takes {percent} of a hundred clients, and this is one of them")
        }
        Why::Bucket(bucket) => format!("bucket {bucket} of 256 is its own (RFC 3074)"),
    }
}

fn to_mac(field: &str, text: &str) -> Result<MacAddr, Status> {
    text.parse().map_err(|_| {
        let text = format!(
            "{field} `{}` is no MAC address; write it like 52:54:00:00:00:01",
            text.escape_default()
        );
        invalid(field, &text)
    })
}

/// When an override is to end, which must be soon.
fn to_end(time: Option<Timestamp>, now_secs: u64) -> Result<u64, Status> {
    let field = "override.expire_time";
    let time = time.ok_or_else(|| invalid(field, "expire_time is missing; every override ends"))?;
    let end = u64::try_from(time.seconds).unwrap_or(0);
    if end <= now_secs {
        return Err(invalid(field, &format!("expire_time {time} is past")));
    }
    if end > now_secs + LONGEST_OVERRIDE_SECS {
        let text =
            format!("expire_time {time} is more than 30 days ahead; reserve or weigh instead");
        return Err(invalid(field, &text));
    }
    Ok(end)
}

/// The id of a replica that lives.
fn live(group: &Group, field: &str, name: &str) -> Result<String, Status> {
    let id = name.strip_prefix(COLLECTION).unwrap_or(name);
    if id.is_empty() {
        return Err(invalid(field, &format!("{field} is missing")));
    }
    if group.member(id).is_some() {
        return Ok(id.to_owned());
    }
    let known: Vec<&str> = group.members().iter().map(|m| m.id.as_str()).collect();
    let text = format!(
        "no replica {} lives; those that do: {}",
        id.escape_default(),
        known.join(", ")
    );
    Err(not_found(&name_of(id), &text))
}

fn unavailable(error: EtcdError) -> Status {
    match error {
        EtcdError::Refused(_) => Status::failed_precondition(error.to_string()),
        _ => Status::unavailable(format!(
            "{error}; whether it was written is not known: look before you try again"
        )),
    }
}
