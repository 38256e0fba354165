//! Ubuntu's installer, subiquity: the `autoinstall` of a cloud-config. Whatever it does not get answered it asks for on a console
//! that nobody sits at.

use std::sync::OnceLock;

use super::shape::Shape;
use super::yaml::{Node, Value};
use super::{Found, Reader, cloud, error, info, misfit, warning};

const SHAPE: &str = include_str!("shapes/autoinstall.txt");

fn shape() -> &'static Shape {
    static READ: OnceLock<Shape> = OnceLock::new();
    READ.get_or_init(|| Shape::read(SHAPE).expect("a test reads it"))
}

/// Looks at the value of `autoinstall`; `beside` is the whole of the cloud-config.
pub(super) fn config(node: &Node, beside: &[(Node, Node)], reader: Reader) -> Vec<Found> {
    if !matches!(node.value, Value::Map(_)) {
        let text = format!("autoinstall: wanted a map, got {}", node.value);
        return vec![error(
            node.line,
            text,
            "write version: 1 and the rest below it",
        )];
    }
    let mut list: Vec<Found> = (shape().check(node).into_iter())
        .map(|mut m| {
            m.place = match m.place.as_str() {
                "" => "autoinstall".to_owned(),
                place => format!("autoinstall.{place}"),
            };
            misfit(m, "subiquity")
        })
        .collect();
    match node
        .get("version")
        .map(|version| (version.line, &version.value))
    {
        Some((_, Value::Integer(1, _))) | None => {}
        Some((line, other)) => {
            let text = format!("autoinstall.version: wanted 1, got {other}");
            list.push(error(line, text, "say version: 1"));
        }
    }
    let (identity, user_data) = (node.get("identity"), node.get("user-data"));
    if identity.is_none() && user_data.is_none() {
        list.push(error(
            node.line,
            "nobody could log in: there is neither identity nor user-data",
            "add identity with username, hostname and password, or user-data with users",
        ));
    }
    let password = identity.and_then(|identity| identity.get("password"));
    if let Some((line, text)) = password.and_then(|node| Some((node.line, node.text()?)))
        && !super::is_hash(text)
    {
        list.push(error(
            line,
            "autoinstall.identity.password is no hash: nobody could log in with it",
            "send it through |sha512crypt",
        ));
    }
    if let Some(user_data) = user_data {
        list.extend(cloud::config(user_data, reader));
    }
    let asks = node.entry("interactive-sections");
    if let Some((line, _)) = asks.filter(|(_, sections)| !sections.list().is_empty()) {
        let (text, reports) = (
            "the installer waits for somebody at its console",
            node.get("reporting").is_some(),
        );
        let more = if reports { ", and reports nothing" } else { "" };
        list.push(warning(
            line,
            format!("{text}{more}"),
            "take interactive-sections out",
        ));
    }
    if node.get("storage").is_none() {
        list.push(info(
            node.line,
            "without storage the installer takes the largest disk; with several, say which one",
            "add storage with a layout and a match, such as layout: {name: lvm, match: {serial: …}}",
        ));
    }
    for (key, _) in beside {
        if let Value::Text(name) = &key.value
            && name != "autoinstall"
        {
            list.push(info(
                key.line,
                format!("{name} beside autoinstall is for the installer's own system, not for the installed one"),
                "put what is for the installed system below autoinstall.user-data",
            ));
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_can_be_read() {
        assert!(shape().names().any(|name| name == "late-commands"));
    }
}
