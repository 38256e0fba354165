//! Something the service needs, or is better with, and how it stands here.

use serde::Serialize;

/// One need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capability {
    /// A word for programs: `raw_socket`.
    pub name: &'static str,
    pub state: Standing,
    /// What was found.
    pub detail: String,
    /// What follows from it; empty where all is well.
    pub consequence: String,
    /// What to do about it; empty where all is well.
    pub next_step: String,
}

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    Good,
    /// The service runs, and something is worse than it could be.
    Degraded,
    /// The service does not start, or does not do what it is for.
    Missing,
}

impl Standing {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Degraded => "degraded",
            Self::Missing => "missing",
        }
    }
}

impl Capability {
    /// All is well.
    pub fn good(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            state: Standing::Good,
            detail: detail.into(),
            consequence: String::new(),
            next_step: String::new(),
        }
    }

    /// The service runs without it: what was found, what follows, what to do.
    pub fn degraded(
        name: &'static str,
        detail: impl Into<String>,
        consequence: impl Into<String>,
        next_step: impl Into<String>,
    ) -> Self {
        Self {
            state: Standing::Degraded,
            consequence: consequence.into(),
            next_step: next_step.into(),
            ..Self::good(name, detail)
        }
    }

    /// The same, where nothing goes without it.
    pub fn missing(self) -> Self {
        Self {
            state: Standing::Missing,
            ..self
        }
    }
}
