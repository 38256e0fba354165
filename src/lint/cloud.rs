//! cloud-init's user-data, vendor-data and meta-data. What cloud-init does not take for one of its formats it drops with no more
//! than a line in a log that nobody reads.

use std::sync::OnceLock;

use super::shape::Shape;
use super::yaml::{self, Node, Value};
use super::{Found, Reader, autoinstall, error, info, misfit, warning};

const SHAPE: &str = include_str!("shapes/cloud-config.txt");

/// How user-data of other formats begins (cloud-init's handlers).
const OTHER_FORMATS: [&str; 8] = [
    "#!",
    "#include",
    "#cloud-boothook",
    "#part-handler",
    "#cloud-config-archive",
    "#cloud-config-jsonp",
    "Content-Type:",
    "MIME-Version:",
];

/// Keys that still do what they say, and what has taken their place since 22.2 to 24.1.
const OUTDATED: [(&str, &str); 6] = [
    ("apt_update", "package_update"),
    ("apt_upgrade", "package_upgrade"),
    ("apt_reboot_if_required", "package_reboot_if_required"),
    ("ca-certs", "ca_certs"),
    ("grub-dpkg", "grub_dpkg"),
    ("ubuntu_advantage", "ubuntu_pro (24.1 and later)"),
];

/// Keys and the version that brought them.
const SINCE: [(&str, (u32, u32)); 4] = [
    ("ubuntu_pro", (24, 1)),
    ("ansible", (22, 3)),
    ("keyboard", (22, 1)),
    ("wireguard", (22, 3)),
];

fn shape() -> &'static Shape {
    static READ: OnceLock<Shape> = OnceLock::new();
    READ.get_or_init(|| Shape::read(SHAPE).expect("a test reads it"))
}

/// Looks at user-data or vendor-data.
pub(super) fn user_data(text: &str, reader: Reader) -> Vec<Found> {
    let first = text.lines().next().unwrap_or_default();
    let is_template = first.starts_with("## template:");
    let head = match is_template {
        true => text.lines().nth(1).unwrap_or_default(),
        false => first,
    };
    if !is_template && OTHER_FORMATS.iter().any(|format| head.starts_with(format)) {
        return Vec::new();
    }
    if head.trim_end() != "#cloud-config" {
        return vec![error(
            1 + usize::from(is_template),
            format!(
                "the first line is `{}`, and not #cloud-config: cloud-init drops the whole document",
                head.chars().take(40).collect::<String>().escape_debug()
            ),
            "begin with #cloud-config, with nothing before it on that line or above",
        )];
    }
    // What a template of cloud-init's own becomes is not known here.
    if is_template && text.contains("{%") {
        return Vec::new();
    }
    let (node, faults) = yaml::read(text);
    let mut list: Vec<Found> = faults.into_iter().map(Found::from).collect();
    match node {
        Some(node) => list.extend(config(&node, reader)),
        None if list.is_empty() => {}
        None => {}
    }
    list
}

/// Looks at a cloud-config that was read, on its own or below another key.
pub(super) fn config(node: &Node, reader: Reader) -> Vec<Found> {
    let Value::Map(entries) = &node.value else {
        return match node.value {
            Value::Null => Vec::new(),
            _ => vec![error(
                node.line,
                format!("wanted a map of keys, got {}", node.value),
                "write key: value lines below #cloud-config",
            )],
        };
    };
    let misfits = shape().check(node).into_iter();
    let mut list: Vec<Found> = misfits.map(|m| misfit(m, "cloud-init")).collect();
    for (key, value) in entries {
        let name = match &key.value {
            Value::Text(text) => text.as_str(),
            _ => continue,
        };
        if let Some((_, now)) = OUTDATED.iter().find(|(outdated, _)| *outdated == name) {
            let text = format!("{name} is outdated");
            list.push(info(key.line, text, format!("say {now}")));
        }
        let since = SINCE.iter().find(|(new, _)| *new == name);
        if let Some((_, (major, minor))) = since
            && reader.cloud_init.is_some_and(|is| is < (*major, *minor))
        {
            list.push(warning(
                key.line,
                format!("{name} is known since cloud-init {major}.{minor}, and the profile says an older one"),
                "take it out, or correct cloud_init in profile.toml",
            ));
        }
        match name {
            "autoinstall" => list.extend(autoinstall::config(value, entries, reader)),
            "users" => list.extend(value.list().iter().flat_map(user)),
            "ssh_authorized_keys" => list.extend(value.list().iter().filter_map(public_key)),
            _ => {}
        }
    }
    list
}

fn user(node: &Node) -> Vec<Found> {
    let keys = node.get("ssh_authorized_keys").map(Node::list);
    let mut list: Vec<Found> = (keys.unwrap_or_default().iter())
        .filter_map(public_key)
        .collect();
    for key in ["passwd", "hashed_passwd"] {
        let given = node
            .get(key)
            .and_then(|value| Some((value.line, value.text()?)));
        if let Some((line, text)) = given
            && !super::is_hash(text)
            && !matches!(text, "" | "*" | "!")
        {
            list.push(error(
                line,
                format!("{key} is no hash: the user could not log in, and the password would stand in the clear"),
                "send it through |sha512crypt",
            ));
        }
    }
    let has_password = ["passwd", "hashed_passwd", "plain_text_passwd"]
        .into_iter()
        .any(|key| node.get(key).is_some());
    if has_password && node.get("lock_passwd").is_none() && node.get("lock-passwd").is_none() {
        list.push(warning(
            node.line,
            "the user has a password and is locked all the same: lock_passwd is true unless it is said",
            "add lock_passwd: false",
        ));
    }
    list
}

fn public_key(node: &Node) -> Option<Found> {
    let text = node.text()?;
    let known = ["ssh-", "ecdsa-", "sk-", "rsa-", "cert-authority", "@"];
    let has_options = text.contains(" ssh-") || text.contains(" ecdsa-") || text.contains(" sk-");
    let is_key = known.iter().any(|start| text.starts_with(start)) || has_options;
    (!is_key && text != crate::model::HIDDEN).then(|| {
        warning(
            node.line,
            format!("{} does not look like a public key", node.value),
            "give the line of the .pub file",
        )
    })
}

/// Looks at meta-data.
pub(super) fn meta_data(text: &str) -> Vec<Found> {
    let (node, faults) = yaml::read(text);
    let mut list: Vec<Found> = faults.into_iter().map(Found::from).collect();
    let node = match node {
        Some(node) if matches!(node.value, Value::Map(_)) => node,
        _ if !list.is_empty() => return list,
        _ => {
            let text = "wanted a map of keys; cloud-init stops at a meta-data that is none";
            return vec![error(1, text, "write instance-id: …")];
        }
    };
    let wanted = "instance-id";
    match node.get(wanted).map(|id| (id.line, &id.value)) {
        Some((_, Value::Text(_) | Value::Integer(..))) => {}
        Some((line, other)) => {
            let text = format!("{wanted}: wanted a string, got {other}");
            list.push(error(line, text, "put it in quotes"));
        }
        None => list.push(error(
            1,
            format!("{wanted} is missing: cloud-init could not tell one life of the machine from another"),
            "add instance-id: {{ machine.instance_id }}",
        )),
    }
    if let Some(name) = node.get("local-hostname")
        && name.text().is_none()
    {
        let text = format!("local-hostname: wanted a string, got {}", name.value);
        list.push(error(name.line, text, "put it in quotes, or through |yaml"));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_can_be_read_and_knows_the_usual_keys() {
        let names: Vec<&str> = shape().names().collect();
        for key in ["users", "runcmd", "write_files", "ssh_pwauth", "phone_home"] {
            assert!(names.contains(&key), "{key}");
        }
    }
}
