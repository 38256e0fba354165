//! cloud-init's network-config: netplan's form, or the older one.

use std::sync::OnceLock;

use super::shape::Shape;
use super::yaml::{self, Value};
use super::{Found, Reader, error, misfit, warning};

const SHAPE: &str = include_str!("shapes/network.txt");

/// The release since which it is fetched over HTTP. Ubuntu 22.04 and 24.04 leave that out, whatever their version says.
const SINCE: (u32, u32) = (24, 3);

fn shape() -> &'static Shape {
    static READ: OnceLock<Shape> = OnceLock::new();
    READ.get_or_init(|| Shape::read(SHAPE).expect("a test reads it"))
}

/// Looks at a network-config.
pub(super) fn config(text: &str, _: Reader) -> Vec<Found> {
    let (node, faults) = yaml::read(text);
    let mut list: Vec<Found> = faults.into_iter().map(Found::from).collect();
    let Some(node) = node else {
        return list;
    };
    // The wrapper is taken by some releases and not by others.
    let node = match node.entry("network") {
        Some((line, inner)) => {
            list.push(warning(
                line,
                "network: around it is not taken by every release of cloud-init",
                "write version: and what follows at the left edge",
            ));
            inner
        }
        None => &node,
    };
    match node
        .get("version")
        .map(|version| (version.line, &version.value))
    {
        Some((_, Value::Integer(1 | 2, _))) => {}
        Some((line, other)) => {
            let text = format!("version: wanted 1 or 2, got {other}");
            list.push(error(line, text, "say version: 2"));
        }
        None => {}
    }
    let misfits = shape().check(node).into_iter();
    list.extend(misfits.map(|m| misfit(m, "cloud-init")));
    list
}

/// What is to be said of a profile's own network-config: whether anybody reads it.
pub(super) fn is_read(reader: Reader) -> Option<Found> {
    let (major, minor) = reader.cloud_init.filter(|version| *version < SINCE)?;
    Some(warning(
        0,
        format!(
            "cloud-init {major}.{minor} does not fetch network-config over HTTP: {}.{} and later do",
            SINCE.0, SINCE.1
        ),
        "have the network set up by its kernel arguments or by user-data; Ubuntu 22.04 and 24.04 never fetch it",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_can_be_read() {
        assert!(shape().names().any(|name| name == "ethernets"));
    }
}
