use super::*;
use crate::catalog::{Change, Settings};
use crate::model::{Labels, MacAddr, Source};

fn vars(pairs: &[(&str, &str)]) -> Vars {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), Var::Text((*value).to_owned()));
    pairs.iter().map(owned).collect()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

fn group(name: &str, matches: &[(&str, &str)], profile: &str, of: &[(&str, &str)]) -> Group {
    Group {
        name: name.into(),
        matches: labels(matches),
        profile: (!profile.is_empty()).then(|| profile.to_owned()),
        vars: vars(of),
    }
}

fn catalog(groups: Vec<Group>) -> Catalog {
    let profile = |name: &str, required: &[&str]| {
        let profile = Profile {
            name: name.into(),
            vars: vars(&[
                ("a", "default"),
                ("b", "default"),
                ("c", "default"),
                ("d", "default"),
            ]),
            required: required.iter().map(|name| (*name).to_owned()).collect(),
            ..Profile::default()
        };
        (name.to_owned(), profile)
    };
    Catalog::new(Settings {
        profiles: BTreeMap::from([profile("live", &[]), profile("installer", &["disk", "key"])]),
        vars: vars(&[("b", "global"), ("c", "global"), ("d", "global")]),
        groups,
        ..Settings::default()
    })
}

fn node(of: &[(&str, &str)]) -> Reservation {
    let mut node = Reservation::of("node-1".into(), Source::Api);
    node.mac = Some(MacAddr([0x52, 0x54, 0, 0, 0, 1]));
    node.labels = labels(of);
    node
}

fn refused(catalog: &Catalog, reservation: Reservation) -> String {
    let refused = catalog.with(&Change::Create(reservation));
    refused.expect_err("refused").to_string()
}

#[test]
fn the_machines_own_word_wins_over_its_groups_the_global_one_and_the_profiles() {
    let catalog = catalog(vec![
        group(
            "rack",
            &[("rack", "r1")],
            "live",
            &[("c", "rack"), ("d", "rack"), ("e", "rack")],
        ),
        group("role", &[("role", "db")], "live", &[("e", "role")]),
        group("other", &[("rack", "r2")], "installer", &[("a", "other")]),
    ]);
    let mut node = node(&[("rack", "r1"), ("role", "db")]);
    node.vars = vars(&[("d", "own")]);
    let profile = catalog.profile_of(&node);
    assert_eq!(profile.map(|profile| profile.name.as_str()), Some("live"));
    let said: Vec<String> = (catalog.vars_of(&node, profile).into_iter())
        .map(|(name, (layer, _))| format!("{name}: {layer}"))
        .collect();
    assert_eq!(
        said,
        [
            "a: profile live",
            "b: [vars]",
            "c: group rack",
            "d: machine",
            "e: group role"
        ]
    );
    node.profile = Some("installer".into());
    assert_eq!(catalog.profile_name_of(&node), Some("installer"));
}

#[test]
fn groups_that_contradict_each_other_are_named_and_none_of_them_is_followed() {
    let catalog = catalog(vec![
        group("rack", &[("rack", "r1")], "live", &[]),
        group("role", &[("role", "db")], "installer", &[]),
    ]);
    let both = node(&[("rack", "r1"), ("role", "db")]);
    assert_eq!(catalog.profile_of(&both), None);
    assert_eq!(
        refused(&catalog, both),
        "reservation node-1: labels put it into the groups rack (profile live) and role (profile installer); give the reservation a profile of its own, or change a group"
    );
    let mut own = node(&[("rack", "r1"), ("role", "db")]);
    own.profile = Some("live".into());
    assert!(catalog.with(&Change::Create(own)).is_ok());
}

#[test]
fn what_a_profile_requires_may_be_said_at_any_layer_and_is_missed_by_name() {
    let of_role = |of| vec![group("role", &[("role", "db")], "installer", of)];
    let bare = catalog(of_role(&[]));
    assert_eq!(
        refused(&bare, node(&[("role", "db")])),
        "reservation node-1: vars lack disk and key, which profile installer requires; give it in the reservation's vars, a group's, or [vars] of the configuration"
    );
    let half = catalog(of_role(&[("disk", "/dev/sda"), ("key", "")]));
    let mut node = node(&[("role", "db")]);
    assert!(refused(&half, node.clone()).contains("vars lack key,"));
    node.vars = vars(&[("key", "ssh-ed25519 AAAA")]);
    assert!(half.with(&Change::Create(node)).is_ok());
}

#[test]
fn a_machine_without_a_profile_of_its_own_or_its_groups_has_none() {
    let catalog = catalog(vec![group("rack", &[("rack", "r1")], "installer", &[])]);
    assert_eq!(catalog.profile_of(&node(&[])), None);
    assert!(
        catalog
            .with(&Change::Create(node(&[("rack", "r3")])))
            .is_ok()
    );
}
