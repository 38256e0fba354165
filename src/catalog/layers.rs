//! What a machine boots and with which variables, layer upon layer: the profile's defaults, the configuration's `[vars]`, each
//! group it is in, in the order of the file, and its own reservation. The last that says a variable wins; a profile is said by
//! the reservation, or else by its groups with one voice.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{Catalog, Refusal, Settings};
use crate::model::{Group, Profile, Reservation, Var, Vars};

/// Who says a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer<'a> {
    /// The defaults of the profile of this name.
    Profile(&'a str),
    /// `[vars]` of the configuration.
    Global,
    /// The group of this name.
    Group(&'a str),
    /// The machine's own reservation.
    Machine,
}

/// Variables by name, each with who says it.
pub type Layered<'a> = BTreeMap<&'a str, (Layer<'a>, &'a Var)>;

impl Catalog {
    /// The groups of the configuration, in the order of the file.
    pub fn groups(&self) -> &[Group] {
        &self.settings.groups
    }

    /// The variables for every machine.
    pub fn vars(&self) -> &Vars {
        &self.settings.vars
    }

    /// The name of the profile of machines that are to be rescued.
    pub fn rescue_name(&self) -> &str {
        &self.settings.rescue_profile
    }

    /// The groups that the machine is in, in the order of the file.
    pub fn groups_of(&self, reservation: &Reservation) -> impl Iterator<Item = &Group> {
        let labels = &reservation.labels;
        (self.settings.groups.iter()).filter(move |group| group.holds(labels))
    }

    /// The name of the machine's profile: its own, or else the one that its groups agree on.
    pub fn profile_name_of<'a>(&'a self, reservation: &'a Reservation) -> Option<&'a str> {
        match &reservation.profile {
            Some(own) => Some(own),
            // Where groups contradict each other, which is refused when it is written, none of them is followed.
            None => self.profile_of_groups(reservation).ok().flatten(),
        }
    }

    /// The machine's profile.
    pub fn profile_of(&self, reservation: &Reservation) -> Option<&Profile> {
        // Most machines are in no group: this is asked for every packet.
        let name = match &reservation.profile {
            Some(own) => own,
            None => self.profile_of_groups(reservation).ok()??,
        };
        self.profiles().get(name)
    }

    fn profile_of_groups(&self, reservation: &Reservation) -> Result<Option<&str>, String> {
        let mut said: Option<(&Group, &str)> = None;
        for group in self.groups_of(reservation) {
            let Some(profile) = &group.profile else {
                continue;
            };
            match said {
                Some((first, other)) if other != profile => {
                    return Err(format!(
                        "labels put it into the groups {} (profile {other}) and {} (profile {profile}); give the reservation a profile of its own, or change a group",
                        first.name, group.name
                    ));
                }
                Some(_) => {}
                None => said = Some((group, profile)),
            }
        }
        Ok(said.map(|(_, profile)| profile))
    }

    /// Every variable that the machine has under this profile.
    pub fn vars_of<'a>(
        &'a self,
        reservation: &'a Reservation,
        profile: Option<&'a Profile>,
    ) -> Layered<'a> {
        let of_profile = profile.map(|profile| (Layer::Profile(&profile.name), &profile.vars));
        let global = (Layer::Global, &self.settings.vars);
        let groups =
            (self.groups_of(reservation)).map(|group| (Layer::Group(&group.name), &group.vars));
        let own = (Layer::Machine, &reservation.vars);
        (of_profile.into_iter())
            .chain([global])
            .chain(groups)
            .chain([own])
            .flat_map(|(layer, vars): (Layer<'_>, &Vars)| {
                (vars.iter()).map(move |(name, var)| (name.as_str(), (layer, var)))
            })
            .collect()
    }

    /// Whether the machine's profile is known, is one, and has all that it needs.
    pub(super) fn check_profile(&self, reservation: &Reservation) -> Result<(), Refusal> {
        let invalid = |field, problem| Refusal::Invalid {
            title: reservation.title().to_owned(),
            field,
            problem,
        };
        let (field, name) = match &reservation.profile {
            Some(own) => ("profile", own.as_str()),
            None => match self.profile_of_groups(reservation) {
                Ok(Some(name)) => ("labels", name),
                Ok(None) => return Ok(()),
                Err(problem) => return Err(invalid("labels", problem)),
            },
        };
        let Some(profile) = self.profiles().get(name) else {
            let known: Vec<&str> = self.profiles().keys().map(String::as_str).collect();
            let text = format!(
                "profile {name} does not exist; known are: {}",
                known.join(", ")
            );
            let text = match field {
                "labels" => format!("labels put it into a group with a profile; {text}"),
                _ => text,
            };
            return Err(invalid(field, text));
        };
        let missing = self.missing_vars(reservation, profile);
        if missing.is_empty() {
            return Ok(());
        }
        Err(invalid(
            "vars",
            format!(
                "vars lack {}, which profile {name} requires; give it in the reservation's vars, a group's, or [vars] of the configuration",
                missing.join(" and ")
            ),
        ))
    }

    /// The catalog with these profiles in place of its own, or every machine and group that they do not fit.
    pub fn with_profiles(&self, profiles: BTreeMap<String, Profile>) -> Result<Self, Vec<Refusal>> {
        let mut next = self.clone();
        next.settings = Arc::new(Settings {
            profiles,
            ..(*self.settings).clone()
        });
        let refused: Vec<Refusal> = (next.reservations(None))
            .filter_map(|reservation| next.check_profile(reservation).err())
            .collect();
        if refused.is_empty() {
            Ok(next)
        } else {
            Err(refused)
        }
    }

    /// The variables that the profile requires, and nobody says.
    pub fn missing_vars<'a>(
        &self,
        reservation: &Reservation,
        profile: &'a Profile,
    ) -> Vec<&'a str> {
        if profile.required.is_empty() {
            return Vec::new();
        }
        let vars = self.vars_of(reservation, Some(profile));
        let is_missing = |name: &&str| match vars.get(name) {
            None => true,
            Some((_, Var::Text(text))) => text.is_empty(),
            Some(_) => false,
        };
        (profile.required.iter().map(String::as_str))
            .filter(is_missing)
            .collect()
    }
}

impl fmt::Display for Layer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Profile(name) => write!(f, "profile {name}"),
            Self::Global => f.write_str("[vars]"),
            Self::Group(name) => write!(f, "group {name}"),
            Self::Machine => f.write_str("machine"),
        }
    }
}

#[cfg(test)]
mod tests;
