//! Whether a machine runs. In: its file names and its UUID. Out: what is so, from QEMU's own mouth.

use serde_json::json;

use super::holder::holder;
use crate::exit::{Exit, Failure};
use crate::lab::paths::VmPaths;
use crate::qmp::{Qmp, QmpError};

/// What a machine does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Stopped,
    /// QEMU runs; `status` is its word for how: running, paused, inmigrate, …
    Running {
        pid: i32,
        status: String,
    },
    /// Its pid file is held, and nobody answers for it.
    Hung {
        pid: i32,
        why: String,
    },
}

impl State {
    /// One word for a table.
    pub fn word(&self) -> &str {
        match self {
            Self::Stopped => "stopped",
            Self::Running { status, .. } => status,
            Self::Hung { .. } => "hung",
        }
    }

    pub fn pid(&self) -> Option<i32> {
        match self {
            Self::Stopped => None,
            Self::Running { pid, .. } | Self::Hung { pid, .. } => Some(*pid),
        }
    }

    pub fn is_up(&self) -> bool {
        !matches!(self, Self::Stopped)
    }
}

/// Looks. A QEMU with another UUID on our sockets is a conflict: it is not touched.
pub fn state(paths: &VmPaths, uuid: &str) -> Result<State, Failure> {
    let Some(pid) = holder(&paths.pid)? else {
        return Ok(State::Stopped);
    };
    match ask(paths) {
        Ok((found, _)) if !found.eq_ignore_ascii_case(uuid) => {
            let text = format!(
                "{} is held by a machine that is not ours (pid {pid}, uuid {found}); it is left alone",
                paths.pid.display()
            );
            Err(Failure::new(Exit::Conflict, text))
        }
        Ok((_, status)) => Ok(State::Running { pid, status }),
        // It may have ended since the look at its pid file.
        Err(_) if holder(&paths.pid)?.is_none() => Ok(State::Stopped),
        Err(error) => Ok(State::Hung {
            pid,
            why: error.to_string(),
        }),
    }
}

/// UUID and status of whoever listens.
fn ask(paths: &VmPaths) -> Result<(String, String), QmpError> {
    let mut qmp = Qmp::connect(&paths.monitor)?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let uuid = qmp.execute("query-uuid", json!({}))?;
    let status = qmp.execute("query-status", json!({}))?;
    Ok((text(&uuid["UUID"]), text(&status["status"])))
}
