//! `[vars]` and `[[group]]`: what machines have in common. In: tables of the file. Out: groups whose names are one's own, whose
//! selectors can match, and whose profiles exist; or a problem for each that is not so.

use std::collections::BTreeMap;

use super::reader::Section;
use crate::model::{Group, Labels, Profile, check_label};

/// Reads every `[[group]]`, in order.
pub(super) fn read_groups(
    root: &mut Section,
    profiles: Option<&BTreeMap<String, Profile>>,
) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for mut section in root.sections("group") {
        let line = section.line();
        let name = section.text("name").map_or_else(String::new, |at| at.value);
        let matches = read_labels(&mut section, "match");
        let profile = section.text("profile");
        let vars = section.vars("vars", &[]);
        section.finish();
        if name.is_empty() {
            let text = "is missing; problems and `bootjackd render` call the group by it";
            section.report(line, "name", text);
        } else if groups.iter().any(|other| other.name == name) {
            section.report(line, "name", format!("{name} is the name of two groups"));
        }
        if matches.is_empty() {
            let text = "has no label, so nobody would be in it; give one, or use [vars] for what every machine has";
            section.report(line, "match", text);
        }
        if let Some((at, profiles)) = profile.as_ref().zip(profiles)
            && !profiles.contains_key(&at.value)
        {
            let known: Vec<&str> = profiles.keys().map(String::as_str).collect();
            let text = format!(
                "{} does not exist; known are: {}",
                at.value,
                known.join(", ")
            );
            section.report(at.line, "profile", text);
        }
        groups.push(Group {
            name,
            matches,
            profile: profile.map(|at| at.value),
            vars,
        });
    }
    groups
}

/// A table of labels.
pub(super) fn read_labels(section: &mut Section, key: &'static str) -> Labels {
    let mut labels = Labels::new();
    for (name, at) in section.text_map(key) {
        if let Err(problem) = check_label(&name, &at.value) {
            section.report(at.line, &format!("{key}.{name}"), problem);
        }
        labels.insert(name, at.value);
    }
    labels
}
