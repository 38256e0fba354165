//! A machine's life under an installing profile: where it stands, attempt by attempt, and what an operator asked for meanwhile.
//! Plain facts, as they are stored; `lifecycle` says what follows from them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::hex;

/// What is known of one machine. A machine without one was never armed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its reservation's.
    pub id: String,
    /// Counted from 1; 0 as long as it was never armed.
    pub attempt: u32,
    pub phase: Phase,
    /// Unix time in seconds at which the phase began.
    pub since_secs: u64,
    #[serde(default, skip_serializing_if = "Mode::is_normal")]
    pub mode: Mode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_boot: Option<NextBoot>,
    /// How often the attempt before was given up and begun anew, without anybody's word.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries_used: u32,
    /// Of this attempt; minted when its boot script is first fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// Of attempts before this one, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<TokenDigest>,
    /// Who fetched this attempt's script first, where no lease of ours says who the machine is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<IpAddr>,
    /// When the installed system said that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_secs: Option<u64>,
}

/// Where an attempt stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nobody asked for an installation.
    Idle,
    /// The next network boot installs.
    Armed,
    /// The boot script was fetched.
    Installing,
    /// The installer said that it is done.
    Installed,
    Failed(Failure),
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// One line.
    pub reason: String,
    /// The end of the installer's log, where it sent one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log: String,
    /// It is our guess, for want of any word of the machine's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_deadline: bool,
}

/// What an operator wants until further notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    #[default]
    Normal,
    /// It boots nothing from the network, and waits.
    Held,
    /// It boots the rescue profile.
    Rescue,
}

/// What an operator wants of one boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextBoot {
    pub from: BootFrom,
    /// When its boot script was fetched: from then on it is used up, but for a retry at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_secs: Option<u64>,
}

/// Where one boot comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootFrom {
    Disk,
    /// Its profile, as far as the attempt allows.
    Network,
    Rescue,
}

/// How a machine is sent to its own disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalBoot {
    /// iPXE ends, and the firmware goes on to its next device.
    Exit,
    /// iPXE boots the first disk.
    Sanboot,
    /// The machine starts anew; for firmware that cannot go on.
    Reboot,
}

/// What a machine that boots from the network now is answered, by every transport alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its profile. Attempt 0: the profile installs nothing and is served on every boot.
    Serve { attempt: u32 },
    /// The rescue profile.
    Rescue,
    /// Its own disk.
    LocalDisk(Why),
    /// Nothing now; it may ask again.
    Refuse(Why),
}

/// Why a machine does not boot its profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// Its reservation has no profile, or one that boots nothing.
    NothingToBoot,
    NotArmed,
    Installed,
    Failed,
    /// An operator said so for this one boot.
    NextBoot,
    Held,
}

/// 128 random bits that open one attempt's documents. Never shown but in its own URLs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token(pub [u8; 16]);

/// What is kept of a token that opens nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenDigest(pub [u8; 32]);

impl Machine {
    /// A machine that nobody has armed.
    pub fn idle(id: &str, now_secs: u64) -> Self {
        Self {
            id: id.to_owned(),
            attempt: 0,
            phase: Phase::Idle,
            since_secs: now_secs,
            mode: Mode::Normal,
            next_boot: None,
            retries_used: 0,
            token: None,
            former: Vec::new(),
            peer: None,
            ready_secs: None,
        }
    }
}

impl Phase {
    /// The word in logs and answers.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Armed => "armed",
            Self::Installing => "installing",
            Self::Installed => "installed",
            Self::Failed(_) => "failed",
        }
    }
}

impl Mode {
    pub fn is_normal(&self) -> bool {
        *self == Self::Normal
    }

    /// The word in logs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Held => "held",
            Self::Rescue => "rescue",
        }
    }
}

impl BootFrom {
    /// The word in logs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Network => "network",
            Self::Rescue => "rescue",
        }
    }
}

impl LocalBoot {
    /// The word in files and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Sanboot => "sanboot",
            Self::Reboot => "reboot",
        }
    }
}

impl FromStr for LocalBoot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Exit, Self::Sanboot, Self::Reboot]
            .into_iter()
            .find(|how| how.as_str() == text)
            .ok_or_else(|| {
                format!(
                    "`{}` is none of: exit, sanboot, reboot",
                    text.escape_default()
                )
            })
    }
}

impl Why {
    /// The word in logs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NothingToBoot => "nothing_to_boot",
            Self::NotArmed => "not_armed",
            Self::Installed => "installed",
            Self::Failed => "failed",
            Self::NextBoot => "next_boot",
            Self::Held => "held",
        }
    }

    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Self::NothingToBoot => "nothing to boot from the network",
            Self::NotArmed => "not armed",
            Self::Installed => "installed",
            Self::Failed => "its installation failed",
            Self::NextBoot => "told so for this boot",
            Self::Held => "held",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serve { attempt: 0 } => f.write_str("boots its profile"),
            Self::Serve { attempt } => write!(f, "installs, attempt {attempt}"),
            Self::Rescue => f.write_str("boots the rescue profile"),
            Self::LocalDisk(why) => write!(f, "boots its local disk: {}", why.text()),
            Self::Refuse(why) => write!(f, "waits: {}", why.text()),
        }
    }
}

impl fmt::Display for Token {
    /// As it stands in URLs: 32 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl FromStr for Token {
    type Err = ();

    /// Takes what `Display` writes and nothing else.
    fn from_str(text: &str) -> Result<Self, ()> {
        octets(text).map(Self).ok_or(())
    }
}

fn octets<const N: usize>(text: &str) -> Option<[u8; N]> {
    let is_upper = text.bytes().any(|b| b.is_ascii_uppercase());
    hex::array(text).filter(|_| !is_upper)
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        octets(&String::deserialize(deserializer)?)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("wanted 32 hexadecimal digits"))
    }
}

impl Serialize for TokenDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for TokenDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        octets(&String::deserialize(deserializer)?)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("wanted 64 hexadecimal digits"))
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_is_written_and_never_shown() {
        let token = Token([0xab; 16]);
        assert_eq!(token.to_string(), "ab".repeat(16));
        assert_eq!(token.to_string().parse(), Ok(token));
        assert_eq!(format!("{token:?}"), "(secret)");
        for bad in [
            "",
            "ab",
            &"AB".repeat(16),
            &"zz".repeat(16),
            &"é".repeat(16),
        ] {
            assert_eq!(bad.parse::<Token>(), Err(()), "{bad}");
        }
    }
}
