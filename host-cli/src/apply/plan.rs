//! What has to be done so that what is there becomes what is wanted. In: both. Out: steps in an order in which each finds free what it
//! takes, or every reason why it cannot be done.

use std::collections::{BTreeMap, HashMap, HashSet};

use bootjack_api::v1::Reservation;
use bootjack_api::v1::reservation::Source;
use serde_json::Value as Json;

use super::document::Problem;
use super::fields::{self, Difference};
use crate::wanted::{self, OWNER, Place, Wanted};

/// How files and what is there belong together.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// The label that is set on everything in the files.
    pub owner: Option<String>,
    /// Delete what has the owner's label and is in no file.
    pub prunes: bool,
}

/// One reservation that has to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Where it is wanted; none for one that is deleted.
    pub place: Option<Place>,
    /// As it is wanted; of one that is deleted, as it is.
    pub reservation: Reservation,
    pub differences: Vec<Difference>,
    /// It takes what another step sets free, so that nobody can try it before.
    pub waits: bool,
}

/// Steps in their order. Those of one list depend on none other of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub deletes: Vec<Step>,
    /// Addresses and host names that are given up first, because two or more reservations exchange them.
    pub releases: Vec<Step>,
    pub updates: Vec<Vec<Step>>,
    pub creates: Vec<Step>,
    /// Ids of those that are as they are wanted.
    pub unchanged: Vec<String>,
}

type Key = (&'static str, String);

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.deletes.is_empty() && self.updates.is_empty() && self.creates.is_empty()
    }

    /// What is changed, by the order of the ids; a release is part of an update.
    pub fn changes(&self) -> Vec<(&'static str, &Step)> {
        let mut all: Vec<(&'static str, &Step)> = Vec::new();
        all.extend(self.creates.iter().map(|step| ("create", step)));
        all.extend(self.updates.iter().flatten().map(|step| ("update", step)));
        all.extend(self.deletes.iter().map(|step| ("delete", step)));
        all.sort_by_key(|(_, step)| step.reservation.name.clone());
        all
    }
}

/// Plans the way from `current` to `wanted`.
pub fn plan(
    wanted: Vec<Wanted>,
    current: &[Reservation],
    terms: &Terms,
) -> Result<Plan, Vec<Problem>> {
    let mut problems = super::document::clashes(&wanted);
    let known: HashMap<&str, &Reservation> = current.iter().map(|r| (r.name.as_str(), r)).collect();
    let mut plan = Plan::default();
    let mut updates = Vec::new();
    let names: HashSet<String> = wanted.iter().map(|w| w.reservation.name.clone()).collect();
    for mut one in wanted {
        let is = known.get(one.reservation.name.as_str()).copied();
        if let Some(problem) = own(&mut one, is, terms) {
            problems.push(problem);
            continue;
        }
        let Some(is) = is else {
            problems.extend(hidden_secrets(&one));
            plan.creates.push(step(one, Vec::new()));
            continue;
        };
        let differences = fields::differences(is, &one.reservation);
        if differences.is_empty() {
            plan.unchanged.push(wanted::id(is).to_owned());
        } else if is.source() == Source::ConfigFile {
            let fields: Vec<&str> = differences.iter().map(|d| d.field.as_str()).collect();
            let text = format!(
                "{} comes from bootjackd.toml; edit it there",
                wanted::id(is)
            );
            problems.push(problem(&one.place, &fields.join(", "), text));
        } else {
            one.reservation.etag.clone_from(&is.etag);
            updates.push(step(one, differences));
        }
    }
    if terms.prunes {
        let is_of_owner =
            |r: &&Reservation| terms.owner.is_some() && r.labels.get(OWNER) == terms.owner.as_ref();
        let gone = current
            .iter()
            .filter(is_of_owner)
            .filter(|r| r.source() == Source::Api && !names.contains(&r.name));
        plan.deletes = gone.map(delete).collect();
    }
    let taken = Taken::new(current, &plan, &updates);
    problems.extend(taken.by_others(plan.creates.iter().chain(&updates)));
    if !problems.is_empty() {
        return Err(problems);
    }
    for step in plan.creates.iter_mut().chain(&mut updates) {
        step.waits = wanted::keys(&step.reservation)
            .iter()
            .any(|key| taken.is_set_free(key, &step.reservation.name));
    }
    order(&mut plan, updates, &taken);
    Ok(plan)
}

fn step(wanted: Wanted, differences: Vec<Difference>) -> Step {
    Step {
        place: Some(wanted.place),
        reservation: wanted.reservation,
        differences,
        waits: false,
    }
}

fn delete(r: &Reservation) -> Step {
    Step {
        place: None,
        reservation: r.clone(),
        differences: Vec::new(),
        waits: false,
    }
}

fn problem(place: &Place, field: &str, message: String) -> Problem {
    Problem {
        place: place.clone(),
        field: field.to_owned(),
        message,
    }
}

/// Sets the owner's label; without an owner, that of what is there stays.
fn own(one: &mut Wanted, is: Option<&Reservation>, terms: &Terms) -> Option<Problem> {
    let had = is.and_then(|is| is.labels.get(OWNER));
    let labels = &mut one.reservation.labels;
    match (&terms.owner, had) {
        (Some(owner), Some(had)) if owner != had => {
            let id = wanted::id(&one.reservation);
            let text = format!(
                "{id} belongs to {had}; apply it with --owner {had}, or take it over: bootjack reservation update {id} --label {OWNER}={owner}"
            );
            return Some(problem(&one.place, "labels", text));
        }
        // One of bootjackd.toml cannot be labelled from here.
        (Some(_), None) if is.is_some_and(|is| is.source() == Source::ConfigFile) => {}
        (Some(owner), _) => drop(labels.insert(OWNER.to_owned(), owner.clone())),
        (None, Some(had)) => drop(
            labels
                .entry(OWNER.to_owned())
                .or_insert_with(|| had.clone()),
        ),
        (None, None) => {}
    }
    None
}

/// What stands for a secret means nothing to a reservation that has none yet.
fn hidden_secrets(one: &Wanted) -> Option<Problem> {
    let vars = fields::get(&one.reservation, "vars");
    let hidden = vars
        .as_object()?
        .iter()
        .find(|(_, value)| holds_hidden(value))?;
    let text = format!(
        "{} stands for a secret that is not here; name it again, such as {{secret_file: PATH}}",
        fields::HIDDEN
    );
    Some(problem(&one.place, &format!("vars.{}", hidden.0), text))
}

fn holds_hidden(value: &Json) -> bool {
    match value {
        Json::String(text) => text == fields::HIDDEN,
        Json::Array(list) => list.iter().any(holds_hidden),
        Json::Object(map) => map.values().any(holds_hidden),
        _ => false,
    }
}

/// Who has what before the first step, and who gives it up.
struct Taken<'a> {
    owner: HashMap<Key, &'a Reservation>,
    /// What reservations that are updated will still have.
    kept: HashMap<String, HashSet<Key>>,
    deleted: HashSet<String>,
}

impl<'a> Taken<'a> {
    fn new(current: &'a [Reservation], plan: &Plan, updates: &[Step]) -> Self {
        let mut owner = HashMap::new();
        for r in current {
            owner.extend(wanted::keys(r).into_iter().map(|key| (key, r)));
        }
        let kept = |step: &Step| {
            (
                step.reservation.name.clone(),
                wanted::keys(&step.reservation).into_iter().collect(),
            )
        };
        Self {
            owner,
            kept: updates.iter().map(kept).collect(),
            deleted: plan
                .deletes
                .iter()
                .map(|step| step.reservation.name.clone())
                .collect(),
        }
    }

    fn gives_up(&self, owner: &Reservation, key: &Key) -> bool {
        self.deleted.contains(&owner.name)
            || self
                .kept
                .get(&owner.name)
                .is_some_and(|kept| !kept.contains(key))
    }

    /// Who has it now and gives it up for `name`.
    fn giver(&self, key: &Key, name: &str) -> Option<&str> {
        let owner = self.owner.get(key).filter(|owner| owner.name != name)?;
        self.gives_up(owner, key).then_some(owner.name.as_str())
    }

    fn is_set_free(&self, key: &Key, name: &str) -> bool {
        self.giver(key, name).is_some()
    }

    fn by_others<'s>(&self, steps: impl Iterator<Item = &'s Step>) -> Vec<Problem> {
        let mut problems = Vec::new();
        for step in steps {
            let Some(place) = &step.place else {
                continue;
            };
            for key in wanted::keys(&step.reservation) {
                let Some(owner) = self
                    .owner
                    .get(&key)
                    .filter(|owner| owner.name != step.reservation.name)
                else {
                    continue;
                };
                if !self.gives_up(owner, &key) {
                    let text = format!(
                        "{} already belongs to {} ({}); pick another, or give that one another in the file",
                        key.1,
                        wanted::id(owner),
                        wanted::known_by(owner)
                    );
                    problems.push(problem(place, key.0, text));
                }
            }
        }
        problems
    }
}

/// Puts updates in waves: each takes only what an earlier one has set free. What goes round in a circle is opened by a release.
fn order(plan: &mut Plan, updates: Vec<Step>, taken: &Taken<'_>) {
    let mut rest: BTreeMap<String, Step> = updates
        .into_iter()
        .map(|s| (s.reservation.name.clone(), s))
        .collect();
    while !rest.is_empty() {
        let waits_for = |step: &Step| -> Vec<String> {
            let keys = wanted::keys(&step.reservation);
            let givers = keys
                .iter()
                .filter_map(|key| taken.giver(key, &step.reservation.name));
            givers
                .filter(|giver| rest.contains_key(*giver))
                .map(str::to_owned)
                .collect()
        };
        let free: Vec<String> = rest
            .iter()
            .filter(|(_, step)| waits_for(step).is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        if free.is_empty() {
            open_circle(plan, &mut rest, taken);
            // Everybody in a circle may go once its addresses and names are given up.
            let wave = std::mem::take(&mut rest).into_values().collect();
            plan.updates.push(wave);
            return;
        }
        let wave = free.iter().filter_map(|name| rest.remove(name)).collect();
        plan.updates.push(wave);
    }
}

/// Clears what each of them gives up to another of them.
fn open_circle(plan: &mut Plan, rest: &mut BTreeMap<String, Step>, taken: &Taken<'_>) {
    let mut given: BTreeMap<String, HashSet<&'static str>> = BTreeMap::new();
    for step in rest.values() {
        for key in wanted::keys(&step.reservation) {
            if let Some(giver) = taken
                .giver(&key, &step.reservation.name)
                .filter(|giver| rest.contains_key(*giver))
            {
                given.entry(giver.to_owned()).or_default().insert(key.0);
            }
        }
    }
    for (name, fields) in given {
        let Some(step) = rest.get(&name) else {
            continue;
        };
        let mut release = step.clone();
        release
            .differences
            .retain(|d| fields.contains(d.field.as_str()));
        for difference in &mut release.differences {
            difference.wanted = Json::Null;
        }
        if fields.contains("address") {
            release.reservation.address.clear();
        }
        if fields.contains("hostname") {
            release.reservation.hostname.clear();
        }
        if !release.differences.is_empty() {
            plan.releases.push(release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::document;

    fn reservations(text: &str) -> Vec<Reservation> {
        let wanted = document::read("there", text).unwrap();
        let there = wanted.into_iter().map(|w| {
            let mut r = w.reservation;
            r.etag = "1".into();
            r.set_source(Source::Api);
            r
        });
        there.collect()
    }

    fn planned(wanted: &str, current: &[Reservation], terms: &Terms) -> Result<Plan, Vec<String>> {
        let wanted = document::read("f", wanted).unwrap();
        plan(wanted, current, terms)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    fn names(steps: &[Step]) -> Vec<&str> {
        steps
            .iter()
            .map(|step| wanted::id(&step.reservation))
            .collect()
    }

    const THERE: &str = "- {id: a, mac: '52:54:00:00:00:01', address: 198.18.0.1}\n- {id: b, mac: '52:54:00:00:00:02', address: 198.18.0.2}\n";

    #[test]
    fn only_what_differs_is_written() {
        let there = reservations(THERE);
        let plan = planned("- {id: a, mac: 52-54-00-00-00-01, address: 198.18.0.1}\n- {id: b, mac: '52:54:00:00:00:02', address: 198.18.0.9}\n- {id: c, mac: '52:54:00:00:00:03'}\n", &there, &Terms::default()).unwrap();
        assert_eq!(plan.unchanged, ["a"]);
        assert_eq!(names(&plan.creates), ["c"]);
        let update = &plan.updates[0][0];
        assert_eq!(
            (
                update.differences[0].field.as_str(),
                update.reservation.etag.as_str()
            ),
            ("address", "1")
        );
        assert!(plan.deletes.is_empty());
        assert!(
            planned(THERE, &there, &Terms::default())
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn what_one_sets_free_another_takes_later() {
        let there = reservations(THERE);
        let plan = planned("- {id: a, mac: '52:54:00:00:00:01', address: 198.18.0.2}\n- {id: b, mac: '52:54:00:00:00:02', address: 198.18.0.3}\n- {id: c, mac: '52:54:00:00:00:03', address: 198.18.0.1}\n", &there, &Terms::default()).unwrap();
        let waves: Vec<Vec<&str>> = plan.updates.iter().map(|wave| names(wave)).collect();
        assert_eq!(waves, [["b"], ["a"]]);
        assert!(
            plan.releases.is_empty()
                && plan.creates[0].waits
                && plan.updates[1][0].waits
                && !plan.updates[0][0].waits
        );
    }

    #[test]
    fn two_that_exchange_addresses_give_them_up_first() {
        let there = reservations(THERE);
        let plan = planned("- {id: a, mac: '52:54:00:00:00:01', address: 198.18.0.2}\n- {id: b, mac: '52:54:00:00:00:02', address: 198.18.0.1}\n", &there, &Terms::default()).unwrap();
        assert_eq!(names(&plan.releases), ["a", "b"]);
        assert!(
            plan.releases
                .iter()
                .all(|step| step.reservation.address.is_empty())
        );
        assert_eq!(names(&plan.updates[0]), ["a", "b"]);
    }

    #[test]
    fn pruning_deletes_what_the_owner_no_longer_wants() {
        let mut there = reservations(THERE);
        let terms = Terms {
            owner: Some("lab".into()),
            prunes: true,
        };
        for r in &mut there {
            r.labels.insert(OWNER.into(), "lab".into());
        }
        let plan = planned("- {id: c, mac: '52:54:00:00:00:01', address: 198.18.0.1}\n- {id: b, mac: '52:54:00:00:00:02', address: 198.18.0.2}\n", &there, &terms).unwrap();
        assert_eq!(
            (names(&plan.deletes), names(&plan.creates)),
            (vec!["a"], vec!["c"])
        );
        assert!(plan.creates[0].waits);
        assert_eq!(plan.creates[0].reservation.labels[OWNER], "lab");
        // Without pruning, what a has is not free.
        let kept = Terms {
            prunes: false,
            ..terms
        };
        let problems = planned("- {id: c, mac: '52:54:00:00:00:01'}\n", &there, &kept).unwrap_err();
        assert_eq!(
            problems,
            [
                "f:1: mac: 52:54:00:00:00:01 already belongs to a (52:54:00:00:00:01); pick another, or give that one another in the file"
            ]
        );
        let other = Terms {
            owner: Some("hall".into()),
            prunes: true,
        };
        let problems = planned(THERE, &there, &other).unwrap_err();
        assert!(problems[0].contains("a belongs to lab"), "{problems:?}");
        let nobody = planned(THERE, &there, &Terms::default()).unwrap();
        assert!(nobody.is_empty(), "the owner's label stays");
    }

    #[test]
    fn what_stands_in_the_configuration_file_is_not_written() {
        let mut there = reservations(THERE);
        there[0].set_source(Source::ConfigFile);
        let same = planned(
            THERE,
            &there,
            &Terms {
                owner: Some("lab".into()),
                prunes: true,
            },
        )
        .unwrap();
        assert_eq!(
            (same.unchanged, names(&same.updates[0])),
            (vec!["a".to_owned()], vec!["b"])
        );
        let problems = planned(
            "- {id: a, mac: '52:54:00:00:00:01', address: 198.18.0.7}\n",
            &there,
            &Terms::default(),
        )
        .unwrap_err();
        assert_eq!(
            problems,
            ["f:1: address: a comes from bootjackd.toml; edit it there"]
        );
    }

    #[test]
    fn what_stands_for_a_secret_makes_none() {
        let problems = planned(
            "- {id: a, mac: '52:54:00:00:00:01', vars: {deep: {password: (secret)}}}\n",
            &[],
            &Terms::default(),
        )
        .unwrap_err();
        assert!(
            problems[0].starts_with("f:1: vars.deep: (secret) stands for"),
            "{problems:?}"
        );
    }
}
