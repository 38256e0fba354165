//! The life of a machine under an installing profile, as pure functions. In: what is stored of the machine, its profile, a signal
//! or an operator's word, and the time. Out: what the machine is served, and what is to be stored next.
//!
//! DHCP, TFTP and HTTP all ask `may_netboot`, so that none of them can contradict another; what they do not ask is the
//! timeline, so that a restart cannot install anything again.

mod changes;

use std::net::IpAddr;

use thiserror::Error;

pub use self::changes::changes;
use crate::catalog::{Catalog, digest};
use crate::model::{
    BootFrom, Failure, Install, LocalBoot, Machine, Mode, NextBoot, Phase, Profile, Reservation,
    Token, Verdict, Why,
};

/// A boot that was asked for once is served again to a client that asks again at once: iPXE does where a connection broke.
pub const NEXT_BOOT_GRACE_SECS: u64 = 5;
/// Tokens of so many attempts are known as spent; older ones are as unknown as any other.
const FORMER_TOKENS: usize = 16;

/// What is told of a machine, by itself or by the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Its boot script was fetched.
    ScriptFetched {
        /// Whom the attempt is bound to, where no lease of ours says who the machine is.
        peer: Option<IpAddr>,
        /// The attempt's token, unless it has one.
        fresh: Token,
    },
    /// A call-back of the attempt with this token.
    CallBack { token: Token, said: Said },
    /// Time has passed.
    Tick,
}

/// What a machine says of its installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Started,
    Progress,
    Done,
    Failed {
        reason: String,
        log: String,
    },
    /// The installed system runs.
    PhoneHome,
    /// Some system runs: the installed one, if the installation is over.
    Booted,
}

/// What a signal does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Moved(Machine),
    Same,
    /// It is of an attempt that is over, and changes nothing.
    Refused,
}

/// An operator's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// The next network boot installs.
    Arm,
    /// The same, whatever the machine has been through.
    Reinstall,
    Hold,
    /// The end of hold and rescue.
    Release,
    Rescue,
    /// None: as if nothing had been asked for.
    NextBoot(Option<BootFrom>),
}

/// Why a word is not followed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotNow {
    #[error(
        "profile {0} installs nothing; its machines are served on every boot (profile.toml: installs = true)"
    )]
    InstallsNothing(String),
    #[error("it has no profile; give its reservation one that installs")]
    NoProfile,
    #[error("it is {0}; use reinstall to install it again")]
    UseReinstall(&'static str),
    #[error("it is held; release it first")]
    Held,
}

/// What a machine that boots from the network now is to be served.
pub fn may_netboot(machine: Option<&Machine>, profile: Option<&Profile>, now_secs: u64) -> Verdict {
    let asked = machine.and_then(|machine| next_boot(machine, now_secs));
    let mode = machine.map_or(Mode::Normal, |machine| machine.mode);
    match (asked, mode) {
        (Some(BootFrom::Disk), _) => return Verdict::LocalDisk(Why::NextBoot),
        (Some(BootFrom::Rescue), _) | (None, Mode::Rescue) => return Verdict::Rescue,
        (None, Mode::Held) => return Verdict::Refuse(Why::Held),
        (Some(BootFrom::Network), _) | (None, Mode::Normal) => {}
    }
    let Some(profile) = profile.filter(|profile| profile.boots()) else {
        return Verdict::LocalDisk(Why::NothingToBoot);
    };
    let Some(install) = profile.install else {
        return Verdict::Serve { attempt: 0 };
    };
    let Some(machine) = machine.map(|machine| settled(machine, install, now_secs)) else {
        return Verdict::LocalDisk(Why::NotArmed);
    };
    match machine.phase {
        Phase::Armed | Phase::Installing => Verdict::Serve {
            attempt: machine.attempt,
        },
        Phase::Idle => Verdict::LocalDisk(Why::NotArmed),
        Phase::Installed => Verdict::LocalDisk(Why::Installed),
        Phase::Failed(_) => Verdict::LocalDisk(Why::Failed),
    }
}

/// Whether documents of an attempt are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Open,
    /// Not now; whoever asks may ask again.
    Later(Why),
    /// Never again.
    Over,
}

/// Whether what this token opens is open: while its attempt runs, whatever is wanted of the boots after it.
pub fn may_read(
    machine: Option<&Machine>,
    profile: Option<&Profile>,
    token: Token,
    now_secs: u64,
) -> Reading {
    let install = profile.and_then(|profile| profile.install);
    let (Some(machine), Some(install)) = (machine, install) else {
        return Reading::Over;
    };
    let machine = settled(machine, install, now_secs);
    if machine.phase != Phase::Installing || machine.token != Some(token) {
        Reading::Over
    } else if machine.mode == Mode::Held {
        Reading::Later(Why::Held)
    } else {
        Reading::Open
    }
}

/// What the machine of a reservation is to be served.
pub fn verdict(catalog: &Catalog, reservation: &Reservation, now_secs: u64) -> Verdict {
    let machine = catalog.machine(&reservation.id);
    may_netboot(machine, catalog.profile_of(reservation), now_secs)
}

/// How the machine is sent to its own disk.
pub fn local_boot(reservation: &Reservation, profile: Option<&Profile>) -> Option<LocalBoot> {
    reservation
        .local_boot
        .or_else(|| profile.and_then(|profile| profile.local_boot))
}

/// What is stored of a machine whose reservation was just made: with a profile that installs it is armed by that word.
pub fn created(id: &str, profile: Option<&Profile>, now_secs: u64) -> Machine {
    let idle = Machine::idle(id, now_secs);
    match profile.and_then(|profile| profile.install) {
        Some(_) => armed(&idle, now_secs),
        None => idle,
    }
}

/// What the signal makes of the machine.
pub fn advance(
    machine: &Machine,
    profile: Option<&Profile>,
    signal: &Signal,
    now_secs: u64,
) -> Step {
    let install = profile.and_then(|profile| profile.install);
    let settle = || match install {
        Some(install) => settled(machine, install, now_secs),
        None => machine.clone(),
    };
    let next = match signal {
        Signal::Tick => settle(),
        Signal::ScriptFetched { peer, fresh } => {
            script_fetched(settle(), profile, *peer, *fresh, now_secs)
        }
        Signal::CallBack { token, said } => {
            // Its own word counts more than what we make of its silence: a deadline that nobody has acted on is no reason to
            // refuse it.
            if machine.token != Some(*token) {
                return Step::Refused;
            }
            match called_back(machine.clone(), said, now_secs) {
                Some(next) => next,
                None => return Step::Refused,
            }
        }
    };
    if next == *machine {
        Step::Same
    } else {
        Step::Moved(next)
    }
}

/// What the operator's word makes of the machine.
pub fn obey(
    machine: &Machine,
    profile: Option<&Profile>,
    command: Command,
    now_secs: u64,
) -> Result<Machine, NotNow> {
    let must_install = || match profile {
        None => Err(NotNow::NoProfile),
        Some(profile) if profile.install.is_none() => {
            Err(NotNow::InstallsNothing(profile.name.clone()))
        }
        Some(_) => Ok(()),
    };
    let mut next = machine.clone();
    match command {
        Command::Arm => {
            must_install()?;
            match machine.phase {
                Phase::Armed => {}
                Phase::Idle | Phase::Failed(_) => next = armed(machine, now_secs),
                Phase::Installing | Phase::Installed => {
                    return Err(NotNow::UseReinstall(machine.phase.as_str()));
                }
            }
        }
        Command::Reinstall => {
            must_install()?;
            if machine.mode == Mode::Held {
                return Err(NotNow::Held);
            }
            next = armed(machine, now_secs);
            next.mode = Mode::Normal;
            next.next_boot = None;
        }
        Command::Hold => next.mode = Mode::Held,
        Command::Release => next.mode = Mode::Normal,
        Command::Rescue => next.mode = Mode::Rescue,
        Command::NextBoot(from) => {
            let is_over = !matches!(machine.phase, Phase::Armed | Phase::Installing);
            if from == Some(BootFrom::Network) && must_install().is_ok() && is_over {
                return Err(NotNow::UseReinstall(machine.phase.as_str()));
            }
            next.next_boot = from.map(|from| NextBoot {
                from,
                taken_secs: None,
            });
        }
    }
    Ok(next)
}

/// Whether time alone changes the machine.
pub fn is_overdue(machine: &Machine, profile: Option<&Profile>, now_secs: u64) -> bool {
    let install = profile.and_then(|profile| profile.install);
    install.is_some_and(|install| has_run_out(machine, install, now_secs))
}

fn has_run_out(machine: &Machine, install: Install, now_secs: u64) -> bool {
    let ends = machine
        .since_secs
        .saturating_add(install.deadline.as_secs());
    machine.phase == Phase::Installing && now_secs >= ends
}

/// The machine once its deadline is held against the time: armed again while retries remain, or else failed.
fn settled(machine: &Machine, install: Install, now_secs: u64) -> Machine {
    if !has_run_out(machine, install, now_secs) {
        return machine.clone();
    }
    if machine.retries_used < install.retries {
        return Machine {
            retries_used: machine.retries_used + 1,
            ..armed(machine, now_secs)
        };
    }
    Machine {
        phase: Phase::Failed(Failure {
            reason: "deadline".to_owned(),
            log: String::new(),
            by_deadline: true,
        }),
        since_secs: now_secs,
        ..machine.clone()
    }
}

/// The next attempt; what the last one opened opens nothing any more.
fn armed(machine: &Machine, now_secs: u64) -> Machine {
    let mut former = machine.former.clone();
    former.extend(machine.token.map(digest));
    let surplus = former.len().saturating_sub(FORMER_TOKENS);
    Machine {
        attempt: machine.attempt + 1,
        phase: Phase::Armed,
        since_secs: now_secs,
        retries_used: 0,
        token: None,
        former: former.split_off(surplus),
        peer: None,
        ready_secs: None,
        ..machine.clone()
    }
}

fn script_fetched(
    machine: Machine,
    profile: Option<&Profile>,
    peer: Option<IpAddr>,
    fresh: Token,
    now_secs: u64,
) -> Machine {
    let verdict = may_netboot(Some(&machine), profile, now_secs);
    let mut next = machine;
    next.next_boot = next
        .next_boot
        .filter(|asked| is_open(asked, now_secs))
        .map(|asked| NextBoot {
            taken_secs: asked.taken_secs.or(Some(now_secs)),
            ..asked
        });
    if let Verdict::Serve { attempt: 1.. } = verdict {
        if next.phase == Phase::Armed {
            next.phase = Phase::Installing;
            next.since_secs = now_secs;
        }
        next.token = next.token.or(Some(fresh));
        next.peer = next.peer.or(peer);
    }
    next
}

/// What is asked for this boot, unless it was taken up some time ago.
pub fn next_boot(machine: &Machine, now_secs: u64) -> Option<BootFrom> {
    let asked = machine.next_boot?;
    is_open(&asked, now_secs).then_some(asked.from)
}

fn is_open(asked: &NextBoot, now_secs: u64) -> bool {
    asked
        .taken_secs
        .is_none_or(|taken| now_secs < taken + NEXT_BOOT_GRACE_SECS)
}

/// None where it comes too late.
fn called_back(machine: Machine, said: &Said, now_secs: u64) -> Option<Machine> {
    let moved = |phase: Phase, ready_secs: Option<u64>| {
        Some(Machine {
            phase,
            since_secs: now_secs,
            ready_secs,
            ..machine.clone()
        })
    };
    let is_guess = matches!(&machine.phase, Phase::Failed(failure) if failure.by_deadline);
    match (&machine.phase, said) {
        (Phase::Installing, Said::Started | Said::Progress | Said::Booted) => Some(machine),
        // Whoever lost our answer asks again.
        (Phase::Installed, Said::Done | Said::Progress) => Some(machine),
        (Phase::Installed, Said::PhoneHome | Said::Booted) => Some(Machine {
            ready_secs: machine.ready_secs.or(Some(now_secs)),
            ..machine
        }),
        (Phase::Installing, Said::Done) => moved(Phase::Installed, None),
        (Phase::Installing, Said::PhoneHome) => moved(Phase::Installed, Some(now_secs)),
        (Phase::Failed(_), Said::Done) if is_guess => moved(Phase::Installed, None),
        (Phase::Failed(_), Said::PhoneHome) if is_guess => moved(Phase::Installed, Some(now_secs)),
        (Phase::Failed(_), Said::Failed { .. }) if !is_guess => Some(machine),
        (Phase::Installing | Phase::Failed(_), Said::Failed { reason, log }) => {
            let failure = Failure {
                reason: reason.clone(),
                log: log.clone(),
                by_deadline: false,
            };
            moved(Phase::Failed(failure), None)
        }
        (Phase::Installed, Said::Started | Said::Failed { .. })
        | (Phase::Failed(_), _)
        | (Phase::Idle | Phase::Armed, _) => None,
    }
}

#[cfg(test)]
mod tests;
