//! Whom the service runs as. In: who started it, and the configuration. Out: a process that is nobody's in particular and has the
//! capabilities it needs later, which are few. It never keeps the service from starting: where its own user could not reach what
//! the configuration names, root stays root without most of its powers, and says why.
//!
//! To be called before any thread is there: capabilities are each thread's own, and threads get those of whom they come from.

use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, setegid, seteuid, setgroups, setresgid, setresuid};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::process::umask;
use rustix::thread::{self, CapabilitySet, CapabilitySets};

use super::reach::{self, Need};
use crate::config::{Config, DEFAULT_USER};
use crate::model::Event;
use crate::net::accounts;
use crate::observe::emit;

/// Ports below 1024, also on interfaces that come later; and frames to clients that have no address yet.
const KEPT: CapabilitySet = CapabilitySet::NET_BIND_SERVICE.union(CapabilitySet::NET_RAW);
/// What root needs besides where files are not its own.
const OTHERS_FILES: CapabilitySet = CapabilitySet::DAC_OVERRIDE.union(CapabilitySet::FOWNER);
/// Sockets whose buffers are made large while that is allowed: two for each interface, one for each address.
const RESERVED_SOCKETS: usize = 64;

/// Whom the service runs as, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// A name, or numbers.
    pub user: String,
    pub uid: u32,
    /// The capabilities that are left, by name.
    pub capabilities: Vec<&'static str>,
    /// Why it is root, if it is and should not be.
    pub stayed: Option<String>,
}

/// Somebody who is not root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Somebody {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// Of the password file: other groups are looked up.
    is_named: bool,
    /// The group that the socket is given to: only members may give it.
    also: Option<Gid>,
}

/// Settles it, and says so.
pub fn become_nobody_in_particular(config: &Config) {
    let Standing {
        user,
        capabilities,
        stayed,
        ..
    } = settle(config);
    emit(&Event::RunsAs {
        user,
        capabilities: capabilities.join(" "),
        stayed,
    });
}

/// Becomes the configured user if root started it, and gives up what is not needed in any case.
pub fn settle(config: &Config) -> Standing {
    umask(rustix::fs::Mode::from_raw_mode(0o077));
    let has = thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.permitted);
    if !Uid::effective().is_root() {
        cut(has & KEPT);
        return standing(None);
    }
    crate::net::reserve(RESERVED_SOCKETS);
    let (keeps, stayed) = match become_user(config, has) {
        Ok(()) => (has & KEPT, None),
        Err(why) => {
            if let Some(group) = socket_group(config) {
                let mut groups = nix::unistd::getgroups().unwrap_or_default();
                groups.push(group);
                // Who may not do this is told when the socket is given away.
                let _ = setgroups(&groups);
            }
            (has & (KEPT | needed_as_root(config)), why)
        }
    };
    cut(keeps);
    standing(stayed)
}

/// Who it would be, as the configuration says; an error says why it stays root, or nothing if that is what was asked for.
pub fn whom(config: &Config) -> Result<Somebody, Option<String>> {
    let wanted = &config.process.user;
    if matches!(wanted.as_str(), "root" | "0" | "0:0") {
        return Err(None);
    }
    let numbers = match wanted.split_once(':') {
        Some((uid, gid)) => uid.parse().ok().zip(gid.parse().ok()),
        None => wanted.parse().ok().map(|uid: u32| (uid, uid)),
    };
    if let Some((uid, gid)) = numbers {
        return Ok(Somebody {
            name: wanted.clone(),
            uid,
            gid,
            is_named: false,
            also: socket_group(config),
        });
    }
    match accounts::user(wanted) {
        Some((uid, gid)) => Ok(Somebody {
            name: wanted.clone(),
            uid: uid.as_raw(),
            gid: gid.as_raw(),
            is_named: true,
            also: socket_group(config),
        }),
        None => Err(Some(format!(
            "there is no user {wanted}; make one (useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin {DEFAULT_USER}), or name another in process.user"
        ))),
    }
}

fn socket_group(config: &Config) -> Option<Gid> {
    let name = config.grpc.socket_group.as_deref()?;
    accounts::group(name)
}

fn become_user(config: &Config, has: CapabilitySet) -> Result<(), Option<String>> {
    let user = whom(config)?;
    let needs = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::CHOWN;
    if !has.contains(needs) {
        return Err(Some(format!(
            "it has not the right to become {}",
            user.name
        )));
    }
    let places = reach::places(config);
    let unreachable = user.as_them(|| reach::first_unreachable(&places));
    if let Some(place) = unreachable.map_err(Some)? {
        return Err(Some(format!(
            "user {} cannot reach {place}; give it to that user, or set process.user = \"root\"",
            user.name
        )));
    }
    reach::hand_over(&places, user.uid, user.gid);
    let unreachable = user.as_them(|| reach::first_unusable(&places));
    if let Some(place) = unreachable.map_err(Some)? {
        reach::hand_over(&places, 0, 0);
        return Err(Some(format!(
            "user {} cannot use {place}, although it was given to it",
            user.name
        )));
    }
    user.become_them().map_err(Some)
}

impl Somebody {
    fn groups(&self) -> Vec<Gid> {
        let own = Gid::from_raw(self.gid);
        let mut groups = match self.is_named {
            true => accounts::groups_of(&self.name, own),
            false => vec![own],
        };
        groups.extend(self.also);
        groups
    }

    /// Does something with their rights, and is root again.
    pub fn as_them<T>(&self, work: impl FnOnce() -> T) -> Result<T, String> {
        let before = nix::unistd::getgroups().unwrap_or_default();
        let cannot = |error: nix::Error| format!("it cannot become {}: {error}", self.name);
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        setgroups(&self.groups()).map_err(cannot)?;
        let worked = setegid(gid)
            .and_then(|()| seteuid(uid))
            .map(|()| work())
            .map_err(cannot);
        let back = seteuid(Uid::from_raw(0))
            .and_then(|()| setegid(Gid::from_raw(0)))
            .and_then(|()| setgroups(&before));
        back.map_err(cannot)?;
        worked
    }

    /// For good; the capabilities that were permitted still are.
    fn become_them(&self) -> Result<(), String> {
        let cannot = |error: nix::Error| format!("it cannot become {}: {error}", self.name);
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        // The kernel empties the bounding set for those alone who have the right to.
        bound_to(KEPT);
        thread::set_keep_capabilities(true).map_err(|error| error.to_string())?;
        setgroups(&self.groups()).map_err(cannot)?;
        setresgid(gid, gid, gid).map_err(cannot)?;
        setresuid(uid, uid, uid).map_err(cannot)?;
        let _ = thread::set_keep_capabilities(false);
        Ok(())
    }
}

/// Root without its powers over files can still use its own. What else there is needs them.
fn needed_as_root(config: &Config) -> CapabilitySet {
    let places = reach::places(config);
    let sets = match thread::capabilities(None) {
        Ok(sets) => sets,
        Err(_) => return CapabilitySet::empty(),
    };
    let tried = CapabilitySets {
        effective: sets.effective & KEPT,
        ..sets
    };
    if thread::set_capabilities(None, tried).is_err() {
        return CapabilitySet::empty();
    }
    let lacks = reach::first_unreachable(&places).or_else(|| reach::first_unusable(&places));
    let is_foreign = reach::any_of_others(&places);
    let _ = thread::set_capabilities(None, sets);
    match lacks.is_some() || is_foreign {
        true => OTHERS_FILES,
        false => CapabilitySet::empty(),
    }
}

/// Gives up every capability but these, for good.
fn cut(keeps: CapabilitySet) {
    bound_to(keeps);
    let _ = thread::clear_ambient_capability_set();
    let sets = CapabilitySets {
        effective: keeps,
        permitted: keeps,
        inheritable: CapabilitySet::empty(),
    };
    // Giving up needs no right. Where it fails all the same, what is left is said by what is read back.
    let _ = thread::set_capabilities(None, sets);
    let _ = thread::set_no_new_privs(true);
}

fn bound_to(keeps: CapabilitySet) {
    for (_, capability) in CapabilitySet::all().iter_names() {
        if !keeps.contains(capability) {
            let _ = thread::remove_capability_from_bounding_set(capability);
        }
    }
}

fn standing(stayed: Option<String>) -> Standing {
    let uid = Uid::effective();
    let name = accounts::name_of(uid);
    let has = thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    Standing {
        user: name.unwrap_or_else(|| uid.to_string()),
        uid: uid.as_raw(),
        capabilities: has.iter_names().map(|(name, _)| name).collect(),
        stayed,
    }
}

/// Whether we, as we are now, may do this with it.
pub(super) fn may(path: &Path, access: Access) -> bool {
    accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
}

/// Gives to the owner of `dir` what a command of root's made in it, so that the service finds it its own.
pub struct HandBack {
    dirs: Vec<PathBuf>,
}

impl HandBack {
    /// Of the directories that the service writes in.
    pub fn of(config: &Config) -> Self {
        Self {
            dirs: reach::places(config)
                .into_iter()
                .filter(|place| place.need == Need::Own)
                .map(|place| place.path)
                .collect(),
        }
    }
}

impl Drop for HandBack {
    fn drop(&mut self) {
        if Uid::effective().is_root() {
            for dir in &self.dirs {
                reach::to_its_owner(dir);
            }
        }
    }
}
