//! What a template may name, and where everything of the machine is: the one place that knows how URLs look.

use std::collections::BTreeMap;

use minijinja::{Value, context};

use super::Asker;
use crate::catalog::{Layer, Layered};
use crate::model::{Cpu, Firmware, HIDDEN, Reservation, SecretRef, Source, Var};
use crate::render::Salt;

impl Asker<'_> {
    /// Every variable of the machine, with who says it.
    pub fn vars(&self) -> Layered<'_> {
        self.catalog.vars_of(self.reservation, self.profile)
    }

    /// Every secret that a document of the machine may need, and whether whoever calls the API named it.
    pub fn secret_refs(&self) -> Vec<(SecretRef, bool)> {
        let is_of_api = |layer| layer == Layer::Machine && self.reservation.source == Source::Api;
        (self.vars().into_values())
            .flat_map(|(layer, var)| {
                let refs = var.secrets().into_iter();
                refs.map(move |secret| (secret, is_of_api(layer)))
            })
            .collect()
    }

    /// Everything a template may name: the machine's variables, and over them what we give.
    pub(super) fn values(&self, platform: Option<(Cpu, Firmware)>) -> Value {
        let reservation = self.reservation;
        let vars = self.vars();
        let mut values: BTreeMap<&str, Value> = BTreeMap::new();
        if let Some((cpu, _)) = platform {
            // Of the cases there are, the usual one; a variable of this name says another.
            values.insert("console", Value::from(console(cpu)));
        }
        values.extend(
            vars.iter()
                .map(|(name, (_, var))| (*name, self.value_of(var))),
        );
        let subnet = reservation.address.and_then(|a| self.catalog.subnet_of(a));
        values.insert(
            "machine",
            context! {
                id => reservation.id.clone(),
                mac => reservation.macs().next().map(|mac| mac.to_string()),
                address => reservation.address.map(|a| a.to_string()),
                hostname => reservation.hostname.clone(),
                profile => self.catalog.profile_name_of(reservation),
                labels => Value::from_pairs(
                    (reservation.labels.iter()).map(|(k, v)| (k.as_str(), Value::from(v.as_str()))),
                ),
                instance_id => super::instance_id(self.catalog, reservation),
                attempt => self.attempt(),
            },
        );
        values.insert(
            "subnet",
            subnet.map_or(Value::from(()), |subnet| {
                context! {
                    cidr => subnet.cidr.to_string(),
                    prefix => subnet.cidr.prefix_len(),
                    netmask => subnet.cidr.netmask().to_string(),
                    router => subnet.router.map(|a| a.to_string()),
                    dns => subnet.dns.iter().map(|a| a.to_string()).collect::<Vec<_>>(),
                    domain => subnet.domain.clone(),
                }
            }),
        );
        values.insert("server_url", Value::from(self.server_url));
        values.insert("seed_url", Value::from(self.seed_url()));
        values.insert("files_url", Value::from(self.files_url()));
        values.insert("documents_url", Value::from(self.documents_url()));
        values.insert("events_url", Value::from(self.events_url()));
        if let Some((cpu, firmware)) = platform {
            values.insert("arch", Value::from(cpu.as_str()));
            values.insert("firmware", Value::from(firmware.as_str()));
        }
        Value::from_pairs(values)
    }

    /// Where everything of the machine is: below its attempt's token, or else below its name.
    fn base_url(&self) -> String {
        match self.token {
            Some(token) => format!("{}/t/{token}", self.server_url),
            None => format!("{}/machines/{}", self.server_url, in_urls(self.reservation)),
        }
    }

    /// Where cloud-init finds the machine's documents; the slash at the end is part of it.
    pub(super) fn seed_url(&self) -> String {
        format!("{}/nocloud/", self.base_url())
    }

    pub fn documents_url(&self) -> String {
        format!("{}/documents/", self.base_url())
    }

    pub(super) fn files_url(&self) -> String {
        match self.token {
            Some(token) => format!("{}/t/{token}/files/", self.server_url),
            None => format!("{}/files/", self.server_url),
        }
    }

    /// Where an installation's call-backs go; none where nothing is installed.
    pub fn events_url(&self) -> Option<String> {
        (self.token).map(|token| format!("{}/t/{token}/events/", self.server_url))
    }

    fn attempt(&self) -> u32 {
        let machine = self.catalog.machine(&self.reservation.id);
        machine.map_or(0, |machine| machine.attempt)
    }

    /// What the machine's passwords are hashed with: another for each machine and attempt, and the same for each fetch.
    pub(super) fn salt(&self) -> Salt {
        let token = self.token.map_or(Vec::new(), |token| token.0.to_vec());
        let id = self.reservation.id.as_bytes();
        Salt::of(&[id, &self.attempt().to_be_bytes(), &token])
    }

    fn value_of(&self, var: &Var) -> Value {
        if let Some(secret) = var.secret() {
            let known = self.secrets.0.get(&secret).map(String::as_str);
            return Value::from(known.unwrap_or(HIDDEN));
        }
        match var {
            Var::Bool(value) => Value::from(*value),
            Var::Integer(number) => Value::from(*number),
            Var::Number(number) => Value::from(*number),
            Var::Text(text) => Value::from(text.as_str()),
            Var::List(vars) => vars.iter().map(|var| self.value_of(var)).collect(),
            Var::Map(vars) => Value::from_pairs(
                vars.iter()
                    .map(|(name, var)| (name.as_str(), self.value_of(var))),
            ),
        }
    }
}

/// What a machine is called in URLs: its MAC, or else its reservation's id.
fn in_urls(reservation: &Reservation) -> String {
    match reservation.macs().next() {
        Some(mac) => mac.hyphenated(),
        None => reservation.id.clone(),
    }
}

/// The serial console of the machines of this processor, as the kernel calls it.
fn console(cpu: Cpu) -> &'static str {
    match cpu {
        // The PL011 of ARM's server base; a PC's 16550 everywhere else.
        Cpu::Aarch64 | Cpu::Arm => "ttyAMA0,115200n8",
        _ => "ttyS0,115200n8",
    }
}
