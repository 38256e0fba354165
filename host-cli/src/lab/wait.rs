//! What a lab can be waited for: that machines can be logged in to, that their cloud-init is done, that they are installed, that
//! their console says something.

use std::str::FromStr;

use regex::Regex;

/// How far a machine is to be.
#[derive(Clone, Debug)]
pub enum Until {
    /// A command runs over ssh.
    Ssh,
    /// And cloud-init has nothing left to do there.
    CloudInit,
    /// bootjackd was told that its installation is done; of a profile that installs nothing: that it runs.
    Installed,
    /// Its console has said this, since it was last powered on.
    Console(Regex),
}

impl FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "ssh" => Ok(Self::Ssh),
            "cloud-init" => Ok(Self::CloudInit),
            "installed" => Ok(Self::Installed),
            _ => match text.strip_prefix("console:") {
                Some(pattern) => Regex::new(pattern)
                    .map(Self::Console)
                    .map_err(|error| format!("console: {error}")),
                None => Err("wanted ssh, cloud-init, installed or console:REGEX".to_owned()),
            },
        }
    }
}

impl Until {
    /// How a sentence goes on: a machine …
    pub fn sentence(&self) -> String {
        match self {
            Self::Ssh => "answers over ssh".to_owned(),
            Self::CloudInit => "has run cloud-init to its end".to_owned(),
            Self::Installed => "is installed".to_owned(),
            Self::Console(pattern) => format!("says `{pattern}` on its console"),
        }
    }
}
