//! Where machines stand, beside what the operator wants of them: by reservation, and by the tokens of their attempts.

use std::path::{Component, Path};
use std::sync::Arc;

use imbl::HashMap;
use sha2::{Digest as _, Sha256};

use super::Catalog;
use crate::model::{Machine, Profile, Reservation, SecretRef, Source, Token, TokenDigest, Var};

/// Machines by their reservation's id.
#[derive(Clone, Debug, Default)]
pub(super) struct Machines {
    by_id: HashMap<String, Arc<Machine>>,
    /// Those of attempts that are over among them.
    by_token: HashMap<TokenDigest, String>,
}

impl Catalog {
    /// What is known of the machine of this reservation.
    pub fn machine(&self, id: &str) -> Option<&Machine> {
        self.machines.by_id.get(id).map(|machine| &**machine)
    }

    /// All of them, in no order.
    pub fn machines(&self) -> impl Iterator<Item = &Arc<Machine>> {
        self.machines.by_id.values()
    }

    /// The machine that a token is of, or was of.
    pub fn machine_of_token(&self, digest: &TokenDigest) -> Option<&Machine> {
        self.machine(self.machines.by_token.get(digest)?)
    }

    /// The profile of machines that are to be rescued, if there is one; never one that installs.
    pub fn rescue_profile(&self) -> Option<&Profile> {
        let profile = self.profiles().get(&self.settings.rescue_profile)?;
        Some(profile).filter(|profile| profile.install.is_none())
    }

    /// Why a secret of the reservation is not read, if one is not: who calls the API may have read what lies in `secrets.dir`,
    /// and nothing else of this computer.
    pub(super) fn unreadable(&self, reservation: &Reservation) -> Option<String> {
        let secrets = reservation.vars.values().flat_map(Var::secrets);
        for secret in secrets {
            let path = match (secret, reservation.source) {
                (SecretRef::File(path), Source::ConfigFile) => {
                    if !Path::new(&path).is_absolute() {
                        return Some(format!(
                            "vars name secret_file {path}, which is not an absolute path"
                        ));
                    }
                    continue;
                }
                (SecretRef::Env(_), Source::ConfigFile) => continue,
                (SecretRef::Env(name), Source::Api) => {
                    return Some(format!(
                        "vars name secret_env {name}, which the API cannot; use secret_file"
                    ));
                }
                (SecretRef::File(path), Source::Api) => path,
            };
            let Some(dir) = self.secrets_dir() else {
                return Some(format!(
                    "vars name secret_file {path}, and secrets.dir is not set in the configuration file"
                ));
            };
            let whole = dir.join(&path);
            let is_plain = |part| matches!(part, Component::Normal(_) | Component::RootDir);
            if !whole.starts_with(dir) || !whole.components().all(is_plain) {
                return Some(format!(
                    "vars name secret_file {path}, which lies outside secrets.dir ({})",
                    dir.display()
                ));
            }
        }
        None
    }

    /// The catalog with this in place of what was known of the machine.
    pub fn with_machine(&self, machine: Machine) -> Self {
        self.without_machine(&machine.id).with_machines([machine])
    }

    /// The catalog with machines of which nothing is known yet. Costs no copies: for a start.
    pub fn with_machines(mut self, new: impl IntoIterator<Item = Machine>) -> Self {
        for machine in new {
            for digest in digests(&machine) {
                (self.machines.by_token).insert(digest, machine.id.clone());
            }
            let id = machine.id.clone();
            self.machines.by_id.insert(id, Arc::new(machine));
        }
        self
    }

    /// The catalog without anything of this machine.
    pub fn without_machine(&self, id: &str) -> Self {
        let mut next = self.clone();
        if let Some(known) = next.machines.by_id.remove(id) {
            for digest in digests(&known) {
                next.machines.by_token.remove(&digest);
            }
        }
        next
    }
}

fn digests(machine: &Machine) -> impl Iterator<Item = TokenDigest> {
    let current = machine.token.map(digest);
    machine.former.iter().copied().chain(current)
}

/// What is kept of a token, and what one is looked up by.
pub fn digest(token: Token) -> TokenDigest {
    TokenDigest(Sha256::digest(token.0).into())
}
