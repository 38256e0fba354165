//! How a command ends: the exit status and, when it went wrong, the one sentence for the person who typed it.

use std::fmt;
use std::process::ExitCode;

/// The exit statuses, the same for every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Ok = 0,
    Failed = 1,
    Usage = 2,
    Invalid = 3,
    NotFound = 4,
    Conflict = 5,
    Missing = 6,
    Timeout = 7,
    Vm = 8,
    Differs = 9,
    Unverified = 10,
    Service = 11,
    Interrupted = 130,
}

/// A command that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    /// Place, wanted, got and next step; lower case, no final stop.
    pub message: String,
    /// The same for programs, as far as there is more than the message.
    pub details: Vec<Detail>,
    /// The server's reason for programs, such as TAKEN; empty if it gave none.
    pub reason: String,
}

/// One thing that is wrong. What is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Such as `address`, or `FILE:LINE: reservations[3].mac`.
    pub field: String,
    pub message: String,
    /// Who stands in the way, such as `reservations/node-2`.
    pub resource: String,
}

impl Exit {
    /// Every status with its meaning, as `--help` prints them.
    pub const ALL: [(Self, &'static str); 13] = [
        (Self::Ok, "it worked"),
        (Self::Failed, "it did not work, for a reason not below"),
        (Self::Usage, "the command line is not understood"),
        (Self::Invalid, "a value or file is not valid"),
        (Self::NotFound, "there is none of this name"),
        (
            Self::Conflict,
            "it exists already, or is in the wrong state",
        ),
        (Self::Missing, "a program, file or privilege is missing"),
        (Self::Timeout, "it took too long"),
        (Self::Vm, "the virtual machine failed"),
        (
            Self::Differs,
            "diff: what is there is not what the files say",
        ),
        (
            Self::Unverified,
            "a download failed, or a file is not what it has to be",
        ),
        (Self::Service, "bootjackd cannot be reached, or failed"),
        (Self::Interrupted, "interrupted"),
    ];

    /// The table of exit statuses for `--help`.
    pub fn help() -> String {
        let mut text = String::from("Exit status:");
        for (exit, meaning) in Self::ALL {
            text.push_str(&format!("\n  {:>3}  {meaning}", exit as u8));
        }
        text
    }
}

impl Failure {
    /// A failure with this exit status and sentence.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            exit,
            message,
            details: Vec::new(),
            reason: String::new(),
        }
    }

    /// Several that do not depend on each other: all are said, the first sets the exit status. None is no failure.
    pub fn of_many(failures: Vec<Self>) -> Result<(), Self> {
        let messages: Vec<&str> = failures.iter().map(|f| f.message.as_str()).collect();
        let message = messages.join("\nbootjack: ");
        let details: Vec<Detail> = failures.iter().flat_map(|f| f.details.clone()).collect();
        match failures.into_iter().next() {
            None => Ok(()),
            Some(first) => Err(Self {
                message,
                details,
                ..first
            }),
        }
    }

    /// For programs: every key always, null for none.
    pub fn as_json(&self) -> serde_json::Value {
        let text = |text: &str| match text {
            "" => serde_json::Value::Null,
            text => text.into(),
        };
        let details: Vec<_> = (self.details.iter())
            .map(|detail| {
                serde_json::json!({
                    "field": text(&detail.field),
                    "message": text(&detail.message),
                    "resource": text(&detail.resource),
                })
            })
            .collect();
        serde_json::json!({ "error": {
            "exit_status": self.exit as u8,
            "message": self.message,
            "reason": text(&self.reason),
            "details": details,
        }})
    }

    /// A function for `map_err` that says what could not be done to which file, and why.
    pub fn io(
        could_not: &str,
        path: impl AsRef<std::path::Path>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        let could_not = could_not.to_owned();
        move |error| {
            let exit = match error.kind() {
                std::io::ErrorKind::PermissionDenied => Exit::Missing,
                std::io::ErrorKind::NotFound => Exit::NotFound,
                _ => Exit::Failed,
            };
            let why = crate::output::io_reason(&error);
            let next = match is_full(&error) {
                true => room(&path),
                false => String::new(),
            };
            Self::new(
                exit,
                format!("cannot {could_not} {}: {why}{next}", path.display()),
            )
        }
    }
}

/// Whether a file system, or what this user may have of it, is full.
fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

/// What to do about it.
fn room(path: &std::path::Path) -> String {
    let dir = path.parent().unwrap_or(path);
    let free = crate::files::free(dir).map_or(String::new(), |free| {
        format!(" ({} are free)", crate::output::size(free))
    });
    format!(
        "; make room in {}{free}, and run the same command again",
        dir.display()
    )
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_lists_every_exit_status() {
        let help = Exit::help();
        assert!(
            help.starts_with("Exit status:\n    0  it worked\n    1  "),
            "{help}"
        );
        assert!(
            help.ends_with("\n   11  bootjackd cannot be reached, or failed\n  130  interrupted")
        );
    }

    #[test]
    fn a_file_that_may_not_be_read_is_a_missing_privilege() {
        let denied = std::io::Error::from_raw_os_error(libc::EACCES);
        let failure = Failure::io("read", "lab/key")(denied);
        assert_eq!(failure.exit, Exit::Missing);
        assert_eq!(
            failure.to_string(),
            "cannot read lab/key: permission denied"
        );
    }
}
