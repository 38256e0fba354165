//! `[artifacts]` and `[[artifact]]`: where artefacts are kept, and which are fetched when somebody first asks for them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::reader::Section;
use crate::artifact::name::{Digest, Name};

/// What the file says of artefacts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Artifacts {
    /// None: `artifacts` below `data_dir`.
    pub dir: Option<PathBuf>,
    /// Nothing is fetched from anywhere.
    pub offline: bool,
    pub upstream: Vec<Upstream>,
}

/// An artefact that is fetched when it is first asked for, and kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    pub name: Name,
    pub url: String,
    pub digest: Digest,
}

pub(super) fn read(root: &mut Section) -> Artifacts {
    let mut section = root.section("artifacts");
    let dir = section.text("dir").map(|at| {
        if at.value.is_empty() {
            section.report(at.line, "dir", "wanted a path, got an empty string");
        }
        PathBuf::from(at.value)
    });
    let offline = section.boolean("offline").is_some_and(|at| at.value);
    section.finish();
    let mut upstream = Vec::new();
    let mut names = BTreeSet::new();
    for mut section in root.sections("artifact") {
        for key in ["name", "url", "sha256"] {
            if !section.has(key) {
                section.report(section.line(), key, "is missing");
            }
        }
        let name = section.parsed::<Name>("name", "debian-12/x86_64/vmlinuz");
        let url = section.text("url");
        let digest = section.parsed::<Digest>("sha256", "the output of sha256sum");
        section.finish();
        if let Some(name) = name
            .as_ref()
            .filter(|name| !names.insert(name.value.clone()))
        {
            section.report(name.line, "name", format!("{} is named twice", name.value));
        }
        if let Some(url) = url
            .as_ref()
            .filter(|url| !url.value.starts_with("http://") && !url.value.starts_with("https://"))
        {
            let text = format!(
                "wanted a URL that begins with http:// or https://, got {}",
                url.value
            );
            section.report(url.line, "url", text);
        }
        if let (Some(name), Some(url), Some(digest)) = (name, url, digest) {
            let (name, url, digest) = (name.value, url.value, digest.value);
            upstream.push(Upstream { name, url, digest });
        }
    }
    Artifacts {
        dir,
        offline,
        upstream,
    }
}
