//! Which artefacts are still wanted. In: names and digests, and everything that may name them. Out: whether one is wanted. In
//! doubt it is: what is kept for nothing costs a disk's space, what is removed by mistake costs a machine its boot.

use super::name::{Digest, Name};
use crate::model::{Profile, Var, Vars};

/// Everything that may name an artefact.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Texts in which a name or a digest stands for itself: configuration, templates, variables.
    pub texts: Vec<String>,
    /// Paths that are templates themselves: `{{ release }}/vmlinuz`.
    pub templates: Vec<String>,
}

/// All that a profile may name.
pub fn of_profile(profile: &Profile) -> Wanted {
    let mut wanted = of_vars(&profile.vars);
    for files in profile.boot.values() {
        wanted.templates.push(files.kernel.clone());
        wanted.templates.extend(files.initrd.iter().cloned());
        wanted.texts.extend(files.args.iter().cloned());
    }
    wanted.texts.extend(profile.templates.values().cloned());
    wanted
}

/// All that variables may name.
pub fn of_vars(vars: &Vars) -> Wanted {
    Wanted {
        texts: vars.values().map(text_of).collect(),
        templates: Vec::new(),
    }
}

fn text_of(var: &Var) -> String {
    let joined = |texts: Vec<String>| texts.join("\n");
    match var {
        Var::Text(text) => text.clone(),
        Var::List(vars) => joined(vars.iter().map(text_of).collect()),
        Var::Map(vars) => joined(vars.values().map(text_of).collect()),
        Var::Bool(_) | Var::Integer(_) | Var::Number(_) => String::new(),
    }
}

impl Wanted {
    /// Takes in what something else names.
    pub fn add(&mut self, other: Self) {
        self.texts.extend(other.texts);
        self.templates.extend(other.templates);
    }

    /// Whether something leads to this name.
    pub fn wants(&self, name: &Name) -> bool {
        self.texts.iter().any(|text| names(text, name.as_str()))
            || self
                .templates
                .iter()
                .any(|template| may_be(template, name.as_str()))
    }

    /// Whether something wants this content, whatever it is called.
    pub fn wants_content(&self, digest: &Digest) -> bool {
        let digest = digest.to_string();
        self.texts
            .iter()
            .any(|text| text.to_ascii_lowercase().contains(&digest))
    }
}

/// Whether the name stands in the text, and not as a part of a longer one.
fn names(text: &str, name: &str) -> bool {
    let goes_on = |c: char| c.is_ascii_alphanumeric() || "._-+~@=,:/".contains(c);
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + name.len()..].chars().next();
        before.is_none_or(|c| !goes_on(c) || "/=:,".contains(c))
            && after.is_none_or(|c| !goes_on(c))
    })
}

/// Whether the template can render to this name: what it is made of beside its expressions is there in this order.
fn may_be(template: &str, name: &str) -> bool {
    if template.contains("{%") {
        return true;
    }
    let mut parts = template.trim_start_matches('/').split("{{");
    let Some(mut left) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let mut is_open = false;
    for part in parts {
        let Some((_, literal)) = part.split_once("}}") else {
            return true; // no template at all
        };
        let Some(at) = left.find(literal) else {
            return false;
        };
        // The last one is to stand at the end, wherever else it stands too.
        is_open = literal.is_empty() || name.ends_with(literal);
        left = &left[at + literal.len()..];
    }
    left.is_empty() || is_open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_wanted_where_it_stands_whole() {
        let name: Name = "debian/vmlinuz".parse().expect("a name");
        for text in [
            "debian/vmlinuz",
            "image = \"debian/vmlinuz\"",
            "http://h/files/debian/vmlinuz",
            "x=debian/vmlinuz y",
        ] {
            let wanted = Wanted {
                texts: vec![text.to_owned()],
                ..Wanted::default()
            };
            assert!(wanted.wants(&name), "{text}");
        }
        for text in [
            "",
            "debian/vmlinuz-lts",
            "old-debian/vmlinuz",
            "debian/vmlinuz/x",
        ] {
            let wanted = Wanted {
                texts: vec![text.to_owned()],
                ..Wanted::default()
            };
            assert!(!wanted.wants(&name), "{text}");
        }
    }

    #[test]
    fn a_path_that_is_a_template_wants_all_that_it_may_become() {
        let name: Name = "debian-12/x86_64/vmlinuz".parse().expect("a name");
        for template in [
            "debian-12/x86_64/vmlinuz",
            "/debian-12/x86_64/vmlinuz",
            "{{ release }}/{{ arch }}/vmlinuz",
            "debian-{{ n }}/x86_64/vmlinuz",
            "{{ kernel }}",
            "{% if a %}debian-12{% else %}other{% endif %}/x86_64/{{ file",
        ] {
            let wanted = Wanted {
                templates: vec![template.to_owned()],
                ..Wanted::default()
            };
            assert!(wanted.wants(&name), "{template}");
        }
        for template in [
            "debian-12/x86_64/initrd",
            "{{ release }}/initrd",
            "ubuntu-{{ n }}/x86_64/vmlinuz",
        ] {
            let wanted = Wanted {
                templates: vec![template.to_owned()],
                ..Wanted::default()
            };
            assert!(!wanted.wants(&name), "{template}");
        }
    }
}
