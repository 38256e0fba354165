//! Whether a machine runs. In: its file names and its UUID. Out: what is so, from QEMU's own mouth.

use super::control::Control;
use super::holder::holder;
use crate::exit::{Exit, Failure};
use crate::lab::paths::VmPaths;

/// What a machine does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Stopped,
    /// It runs; `status` is its program's word for how: running, paused, inmigrate, …
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
    match Control::of(paths).ask(paths) {
        Ok(said)
            if !said
                .uuid
                .as_ref()
                .is_none_or(|found| found.eq_ignore_ascii_case(uuid)) =>
        {
            let found = said.uuid.unwrap_or_default();
            let text = format!(
                "{} is held by a machine that is not ours (pid {pid}, uuid {found}); it is left alone",
                paths.pid.display()
            );
            Err(Failure::new(Exit::Conflict, text))
        }
        Ok(said) => Ok(State::Running {
            pid,
            status: said.status,
        }),
        // It may have ended since the look at its pid file.
        Err(_) if holder(&paths.pid)?.is_none() => Ok(State::Stopped),
        Err(why) => Ok(State::Hung { pid, why }),
    }
}
