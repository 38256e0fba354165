//! What the switch understands on its control socket (`control`). After the answer to `capture` the connection is a pcap stream.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bridge::Counters;
use super::names::is_id;

/// Longest delay of a bad cable.
const DELAY_MAX: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Plug a port in, or say what it is called and like.
    Add {
        id: String,
        name: String,
        #[serde(default)]
        isolated: bool,
    },
    Remove {
        id: String,
    },
    Status(()),
    Capture {
        /// The frames of one port alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
    },
    Link {
        id: String,
        up: bool,
    },
    Impair {
        id: String,
        #[serde(default)]
        loss: f64,
        #[serde(default)]
        delay_ms: u64,
    },
    Stop(()),
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub pid: u32,
    pub uptime_ms: u64,
    /// Captures that are being taken.
    pub captures: usize,
    /// In the order they were plugged in.
    pub ports: Vec<PortStatus>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PortStatus {
    pub id: String,
    /// The id again while nobody has said the name.
    pub name: String,
    pub isolated: bool,
    pub up: bool,
    pub loss: f64,
    pub delay_ms: u64,
    /// Addresses seen lately.
    pub macs: Vec<String>,
    /// Frames that wait for the machine to read.
    pub queued: usize,
    /// How often the machine was found with no room.
    pub busy: u64,
    #[serde(flatten)]
    pub counters: Counters,
}

impl Request {
    /// Reads one line; the error is for whoever wrote it.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let request: Self = serde_json::from_slice(line).map_err(|error| {
            format!(
                "{error}; wanted an object with one of add, remove, status, capture, link, impair, stop"
            )
        })?;
        request.check()?;
        Ok(request)
    }

    fn check(&self) -> Result<(), String> {
        let id = match self {
            Self::Add { id, .. }
            | Self::Remove { id }
            | Self::Link { id, .. }
            | Self::Impair { id, .. }
            | Self::Capture { id: Some(id) } => id,
            Self::Status(()) | Self::Capture { id: None } | Self::Stop(()) => return Ok(()),
        };
        if !is_id(id) {
            return Err(format!("id: wanted 8 hex digits, got {id:?}"));
        }
        match self {
            Self::Add { name, .. } if !is_name(name) => Err(format!(
                "name: wanted 1 to 255 visible characters, got {name:?}"
            )),
            Self::Impair { loss, .. } if !(0.0..=1.0).contains(loss) => {
                Err(format!("loss: wanted 0 to 1, got {loss}"))
            }
            Self::Impair { delay_ms, .. } if u128::from(*delay_ms) > DELAY_MAX.as_millis() => {
                Err(format!(
                    "delay_ms: wanted at most {}, got {delay_ms}",
                    DELAY_MAX.as_millis()
                ))
            }
            _ => Ok(()),
        }
    }
}

fn is_name(name: &str) -> bool {
    (1..=255).contains(&name.len()) && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_what_the_contract_says() {
        for (line, request) in [
            (
                r#"{"add":{"id":"3fa1bc20","name":"node1","isolated":true}}"#,
                Request::Add {
                    id: "3fa1bc20".to_owned(),
                    name: "node1".to_owned(),
                    isolated: true,
                },
            ),
            (
                r#"{"remove":{"id":"3fa1bc20"}}"#,
                Request::Remove {
                    id: "3fa1bc20".to_owned(),
                },
            ),
            (r#"{"status":null}"#, Request::Status(())),
            (r#"{"capture":{}}"#, Request::Capture { id: None }),
            (
                r#"{"impair":{"id":"3fa1bc20","loss":0.1,"delay_ms":5}}"#,
                Request::Impair {
                    id: "3fa1bc20".to_owned(),
                    loss: 0.1,
                    delay_ms: 5,
                },
            ),
            (r#"{"stop":null}"#, Request::Stop(())),
        ] {
            assert_eq!(Request::parse(line.as_bytes()).unwrap(), request);
            assert_eq!(
                crate::control::line(&request),
                format!("{line}\n").as_bytes()
            );
        }
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (line, part) in [
            ("", "wanted an object with one of add"),
            ("\u{0}\u{ff}", "wanted an object with one of add"),
            (r#"{"dance":null}"#, "unknown variant `dance`"),
            (r#"{"status":null,"stop":null}"#, "wanted an object"),
            (r#"{"add":{"id":"3fa1bc20"}}"#, "missing field `name`"),
            (r#"{"remove":{"id":"3fa1bc20","x":1}}"#, "unknown field `x`"),
            (
                r#"{"remove":{"id":"../../a"}}"#,
                r#"id: wanted 8 hex digits, got "../../a""#,
            ),
            (
                r#"{"add":{"id":"3fa1bc20","name":""}}"#,
                "name: wanted 1 to 255 visible characters",
            ),
            (
                r#"{"impair":{"id":"3fa1bc20","loss":1.5}}"#,
                "loss: wanted 0 to 1, got 1.5",
            ),
            (
                r#"{"impair":{"id":"3fa1bc20","delay_ms":60000}}"#,
                "delay_ms: wanted at most 10000, got 60000",
            ),
        ] {
            let refused = Request::parse(line.as_bytes()).unwrap_err();
            assert!(refused.contains(part), "{line}: {refused}");
        }
    }
}
