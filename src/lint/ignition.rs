//! Ignition: JSON that is applied whole or not at all, and a machine that asks again for ever where it is not.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::shape::Shape;
use super::yaml::{self, Node};
use super::{Found, error, misfit, warning};

const SHAPE: &str = include_str!("shapes/ignition.txt");

/// The newest specification that this knows.
const NEWEST: (u32, u32) = (3, 5);

/// Parts, and the specification that brought them.
const SINCE: [(&[&str], (u32, u32)); 3] = [
    (&["kernelArguments"], (3, 3)),
    (&["storage", "luks"], (3, 2)),
    (&["ignition", "proxy"], (3, 1)),
];

fn shape() -> &'static Shape {
    static READ: OnceLock<Shape> = OnceLock::new();
    READ.get_or_init(|| Shape::read(SHAPE).expect("a test reads it"))
}

/// Looks at a configuration.
pub(super) fn config(text: &str) -> Vec<Found> {
    if let Err(problem) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        let said = problem.to_string();
        let said = said.split(" at line ").next().unwrap_or_default();
        return vec![error(
            problem.line(),
            format!("it is no JSON: {said}"),
            "a value goes through |json; the last entry has no comma after it",
        )];
    }
    // JSON is YAML, and there every value has its line.
    let (node, faults) = yaml::read(text);
    let mut list: Vec<Found> = faults.into_iter().map(Found::from).collect();
    let Some(node) = node else {
        return list;
    };
    let misfits = shape().check(&node).into_iter();
    list.extend(misfits.map(|m| misfit(m, "Ignition 3.5")));
    list.extend(version(&node));
    list.extend(paths(&node));
    list.extend(sources(&node));
    list
}

fn version(node: &Node) -> Vec<Found> {
    let Some(version) = node.get("ignition").and_then(|i| i.get("version")) else {
        return Vec::new(); // said by the shape
    };
    let Some(text) = version.text() else {
        return Vec::new();
    };
    let next_step = "say \"3.3.0\", or what the system's Ignition takes";
    let mut parts = text.splitn(3, '.');
    let mut number = || parts.next().and_then(|part| part.parse::<u32>().ok());
    let (Some(major), Some(minor)) = (number(), number()) else {
        let text = format!("`{text}` is no version");
        return vec![error(version.line, text, next_step)];
    };
    if major == 2 {
        let text = "specification 2 is taken by Flatcar alone, and nothing else here looks at it";
        return vec![warning(version.line, text, next_step)];
    }
    if text.contains("experimental") {
        let text = format!("{text} is taken by the one release that it was made for");
        return vec![error(version.line, text, next_step)];
    }
    if major != 3 || minor > NEWEST.1 {
        let text = format!("no Ignition that is known here takes version {text}");
        return vec![error(version.line, text, next_step)];
    }
    (SINCE.iter())
        .filter(|(_, since)| (major, minor) < *since)
        .filter_map(|(path, since)| {
            let mut at = Some(node);
            for key in *path {
                at = at.and_then(|node| node.get(key));
            }
            let (name, line) = (path.join("."), at?.line);
            let text = format!(
                "{name} came with {}.{}, and the version says {text}",
                since.0, since.1
            );
            Some(error(
                line,
                text,
                format!("say \"{}.{}.0\"", since.0, since.1),
            ))
        })
        .collect()
}

/// Files, directories and links share one tree.
fn paths(node: &Node) -> Vec<Found> {
    let Some(storage) = node.get("storage") else {
        return Vec::new();
    };
    let mut list = Vec::new();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for kind in ["files", "directories", "links"] {
        for entry in storage.get(kind).map(Node::list).unwrap_or_default() {
            let Some((line, path)) = entry.get("path").and_then(|p| Some((p.line, p.text()?)))
            else {
                continue;
            };
            if !path.starts_with('/') {
                let text = format!("`{path}` is not absolute");
                list.push(error(line, text, "begin it with /"));
            }
            if let Some(first) = seen.insert(path, line) {
                let text = format!("`{path}` is written on line {first} already");
                list.push(error(line, text, "keep one of them"));
            }
        }
    }
    list
}

/// Where contents come from.
fn sources(node: &Node) -> Vec<Found> {
    let files = node.get("storage").and_then(|storage| storage.get("files"));
    let merged = node
        .get("ignition")
        .and_then(|ignition| ignition.get("config"))
        .and_then(|config| config.get("merge"));
    let contents = (files.map(Node::list).unwrap_or_default().iter())
        .filter_map(|file| file.get("contents"))
        .chain(merged.map(Node::list).unwrap_or_default());
    contents
        .filter_map(|contents| {
            let source = contents.get("source")?;
            let text = source.text()?;
            let known = [
                "data:", "http://", "https://", "tftp://", "s3://", "gs://", "arn:",
            ];
            (!known.iter().any(|scheme| text.starts_with(scheme))).then(|| {
                error(
                    source.line,
                    format!("{} is no URL that Ignition fetches", source.value),
                    "write contents as data:,TEXT with |uri, or give an http:// URL",
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_can_be_read() {
        assert!(shape().names().any(|name| name == "systemd"));
    }
}
