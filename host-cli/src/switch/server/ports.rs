//! The ports of a running switch: plugging, unplugging, and what is said about them.

use std::time::Instant;

use super::super::bridge::Port;
use super::super::dgram::Link;
use super::super::fib::PortKey;
use super::super::frame::Mac;
use super::super::known::{self, Known};
use super::super::protocol::{PortStatus, Status};
use super::super::wire::Wire;
use super::super::{log, names};
use super::{Connection, Switch};
use crate::output::io_reason;

/// More machines than any host carries.
const PORTS_MAX: usize = 256;

impl Switch {
    /// Plugs in what is not, and says what it is called and like: doing it twice is doing it once.
    pub(super) fn add(&mut self, id: &str, name: &str, isolated: bool) -> Result<(), String> {
        let is_new = match self.key(id) {
            Ok(key) => {
                let wire = self.wires.get_mut(&key);
                let before = wire.map(|wire| std::mem::replace(&mut wire.name, name.to_owned()));
                let port = self.port(id)?;
                let was_isolated = std::mem::replace(&mut port.isolated, isolated);
                if (before.as_deref(), was_isolated) == (Some(name), isolated) {
                    return Ok(());
                }
                false
            }
            Err(_) => {
                self.plug(id, name, isolated)?;
                true
            }
        };
        log::line(&format!(
            "port {id} is {name}{}",
            if isolated { ", isolated" } else { "" }
        ));
        self.remember().inspect_err(|_| {
            if is_new && let Ok(key) = self.key(id) {
                self.unplug(key);
            }
        })
    }

    pub(super) fn plug(&mut self, id: &str, name: &str, isolated: bool) -> Result<(), String> {
        if self.wires.len() >= PORTS_MAX {
            return Err(format!("wanted at most {PORTS_MAX} ports"));
        }
        let local = names::switch_side(&self.run, id);
        let link = Link::bind(local.clone(), names::machine_side(&self.run, id))
            .map_err(|error| format!("cannot bind {}: {}", local.display(), io_reason(&error)))?;
        let key = PortKey(self.next_key);
        self.next_key += 1;
        self.bridge.add(
            key,
            Port {
                isolated,
                ..Port::default()
            },
        );
        self.wires.insert(key, Wire::new(id, name, link));
        Ok(())
    }

    pub(super) fn unplug(&mut self, key: PortKey) {
        if let Some(wire) = self.wires.remove(&key) {
            log::line(&format!("port {} ({}) is gone", wire.id, wire.name));
        }
        self.bridge.remove(key);
    }

    /// Writes down what the next switch is to know.
    pub(super) fn remember(&self) -> Result<(), String> {
        let isolated = |key: &PortKey| self.bridge.port(*key).is_some_and(|port| port.isolated);
        let ports: Vec<Known> = (self.wires.iter())
            .map(|(key, wire)| Known {
                id: wire.id.clone(),
                name: wire.name.clone(),
                isolated: isolated(key),
            })
            .collect();
        known::write(&self.run, &ports)
    }

    pub(super) fn key(&self, id: &str) -> Result<PortKey, String> {
        let found = self.wires.iter().find(|(_, wire)| wire.id == id);
        found
            .map(|(key, _)| *key)
            .ok_or_else(|| format!("there is no port {id}"))
    }

    pub(super) fn port(&mut self, id: &str) -> Result<&mut Port, String> {
        let key = self.key(id)?;
        self.bridge
            .port_mut(key)
            .ok_or_else(|| format!("there is no port {id}"))
    }

    pub(super) fn status(&self) -> Status {
        let captures = self
            .connections
            .iter()
            .filter(|c| Connection::is_capture(c));
        Status {
            pid: std::process::id(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            captures: captures.count(),
            ports: (self.wires.iter())
                .filter_map(|(key, wire)| self.port_status(*key, wire))
                .collect(),
        }
    }

    fn port_status(&self, key: PortKey, wire: &Wire) -> Option<PortStatus> {
        let port = self.bridge.port(key)?;
        let macs = self.bridge.macs(Instant::now(), key);
        Some(PortStatus {
            id: wire.id.clone(),
            name: wire.name.clone(),
            isolated: port.isolated,
            up: !port.down,
            loss: port.impairment.loss,
            delay_ms: u64::try_from(port.impairment.delay.as_millis()).unwrap_or(u64::MAX),
            macs: macs.iter().map(Mac::to_string).collect(),
            queued: wire.queued(),
            busy: wire.busy,
            counters: port.counters,
        })
    }
}
