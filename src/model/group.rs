//! Groups: what machines with the same labels have in common.

use super::{Sorted, Vars};

/// What an operator calls a machine's rack, role or owner, by name.
pub type Labels = Sorted<String, String>;

/// The longest name and value of a label.
pub const LONGEST_LABEL: usize = 63;

/// One `[[group]]`: whoever has all of its labels is in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// What problems and `render --explain` call it.
    pub name: String,
    pub matches: Labels,
    /// For members whose reservation names none itself.
    pub profile: Option<String>,
    /// Over the global ones and those of the groups before it, under the machine's own.
    pub vars: Vars,
}

impl Group {
    /// Whether a machine with these labels is in it. A group that asks for nothing has no members.
    pub fn holds(&self, labels: &Labels) -> bool {
        !self.matches.is_empty()
            && (self.matches.iter()).all(|(name, value)| labels.get(name) == Some(value))
    }
}

/// Checks one label: a name of 1 to 63 letters, digits and `. _ - /`, and a value of at most 63 printable characters.
pub fn check_label(name: &str, value: &str) -> Result<(), String> {
    let is_name = (1..=LONGEST_LABEL).contains(&name.len())
        && (name.bytes()).all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b));
    if !is_name {
        let name = name.escape_default();
        return Err(format!(
            "`{name}` is not a label's name; use 1 to {LONGEST_LABEL} letters, digits and . _ - /"
        ));
    }
    if value.chars().count() > LONGEST_LABEL || value.chars().any(char::is_control) {
        return Err(format!(
            "the value of {name} is not one line of at most {LONGEST_LABEL} characters"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn a_group_holds_who_has_all_of_its_labels_and_more() {
        let group = Group {
            matches: labels(&[("rack", "r1"), ("role", "db")]),
            ..Group::default()
        };
        assert!(group.holds(&labels(&[("rack", "r1"), ("role", "db"), ("x", "y")])));
        for other in [
            &[("rack", "r1")][..],
            &[("rack", "r2"), ("role", "db")],
            &[],
        ] {
            assert!(!group.holds(&labels(other)), "{other:?}");
        }
        assert!(!Group::default().holds(&labels(&[("rack", "r1")])));
    }

    #[test]
    fn labels_are_short_and_plain() {
        for name in ["rack", "a.b/c_d-1"] {
            assert_eq!(check_label(name, "r 1 ä"), Ok(()));
        }
        for (name, value) in [("", ""), ("a b", ""), ("ä", ""), ("a", "b\nc")] {
            assert!(check_label(name, value).is_err(), "{name} {value}");
        }
        assert!(check_label(&"a".repeat(64), "").is_err());
        assert!(check_label("a", &"b".repeat(64)).is_err());
    }
}
