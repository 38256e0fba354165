//! A kernel's command line, beside the documents that its arguments name. Most of what keeps an installer waiting stands here.

use std::collections::BTreeMap;

use super::{Found, Reader, error, warning};

/// What is booted, and what there is to fetch.
pub(super) struct Boot<'a> {
    pub args: &'a [String],
    /// The documents of the machine by name, as far as they could be made.
    pub documents: &'a BTreeMap<String, String>,
    pub documents_url: &'a str,
    pub reader: Reader,
}

/// Documents that are fetched because an argument says so, and how such an argument begins.
const NAMED_BY: [(&str, &[&str], &str); 3] = [
    (
        ".ign",
        &["ignition.config.url="],
        "ignition.config.url={{ documents_url }}",
    ),
    (".ks", &["inst.ks=", "ks="], "inst.ks={{ documents_url }}"),
    (
        "preseed.cfg",
        &["url=", "preseed/url="],
        "url={{ documents_url }}",
    ),
];

/// What is to be said of the line.
pub(super) fn line(boot: &Boot<'_>) -> Vec<Found> {
    let mut list = Vec::new();
    for arg in boot.args {
        list.extend(nocloud(arg, boot.reader));
        if let Some((_, name)) = arg.split_once(boot.documents_url) {
            let name = name.split(['?', '#', ';']).next().unwrap_or_default();
            if !boot.documents.contains_key(name) {
                list.push(error(
                    0,
                    format!("`{arg}` names the document `{name}`, which the profile does not have"),
                    "name it below [documents]",
                ));
            }
        }
    }
    let has = |start: &str| boot.args.iter().any(|arg| arg.starts_with(start));
    for name in boot.documents.keys() {
        for (end, starts, argument) in NAMED_BY {
            if name.ends_with(end) && !starts.iter().any(|start| has(start)) {
                list.push(warning(
                    0,
                    format!("nothing on the kernel's line says where {name} is: nobody fetches it"),
                    format!("add {argument}{name}"),
                ));
            }
        }
    }
    list.extend(autoinstall(boot));
    list
}

/// `ds=nocloud;s=URL`, in its several spellings.
fn nocloud(arg: &str, reader: Reader) -> Vec<Found> {
    let Some(source) = arg.strip_prefix("ds=") else {
        return Vec::new();
    };
    let mut parts = source.split(';');
    let name = parts.next().unwrap_or_default();
    if !matches!(
        name.to_ascii_lowercase().as_str(),
        "nocloud" | "nocloud-net"
    ) {
        return Vec::new();
    }
    let parts: Vec<&str> = parts.collect();
    let seed = parts.iter().find_map(|part| {
        let (key, url) = part.split_once('=')?;
        matches!(key, "s" | "seedfrom").then_some(url)
    });
    let mut list = Vec::new();
    let Some(seed) = seed else {
        let text = format!("`{arg}` does not say where the documents are");
        list.push(error(0, text, "write ds=nocloud;s={{ seed_url }}"));
        return list;
    };
    if !seed.ends_with('/') && !seed.contains(['?', '%']) {
        list.push(error(
            0,
            format!(
                "{seed} has no slash at its end: cloud-init would ask for …{}meta-data",
                tail(seed)
            ),
            "write s={{ seed_url }}, which has one",
        ));
    }
    let is_net = name.ends_with("-net") || parts.contains(&"dsmode=net");
    match reader.cloud_init {
        Some(version) if version < (23, 3) && !is_net => list.push(warning(
            0,
            format!(
                "cloud-init {}.{} may look for documents over HTTP only where it is told that they are on the network",
                version.0, version.1
            ),
            "write ds=nocloud;dsmode=net;s={{ seed_url }}, which every release takes",
        )),
        Some(version) if version >= (24, 1) && name.ends_with("-net") => list.push(warning(
            0,
            "nocloud-net is outdated since cloud-init 24.1",
            "write ds=nocloud;s={{ seed_url }}",
        )),
        _ => {}
    }
    list
}

fn tail(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or_default()
}

/// What Ubuntu's installer needs to hear beside its user-data.
fn autoinstall(boot: &Boot<'_>) -> Vec<Found> {
    let user_data = boot.documents.get("user-data");
    let installs = user_data.is_some_and(|text| {
        text.starts_with("#cloud-config")
            && text.lines().any(|line| line.starts_with("autoinstall:"))
    });
    if !installs {
        return Vec::new();
    }
    let mut list = Vec::new();
    let says = |word: &str| boot.args.iter().any(|arg| arg == word);
    if !says("autoinstall") {
        list.push(warning(
            0,
            "the word autoinstall is missing: the installer asks on its console before it touches a disk",
            "add autoinstall as an argument",
        ));
    }
    let fetches_iso = boot
        .args
        .iter()
        .any(|arg| arg.starts_with("url=") && arg.ends_with(".iso"));
    if fetches_iso
        && !boot
            .args
            .iter()
            .any(|arg| arg.starts_with("cloud-config-url="))
    {
        list.push(warning(
            0,
            "cloud-init takes url= for the address of a cloud-config, and would fetch the whole ISO as one",
            "add cloud-config-url=/dev/null",
        ));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(
        args: &[&str],
        documents: &[(&str, &str)],
        cloud_init: Option<(u32, u32)>,
    ) -> Vec<String> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let documents = documents.iter();
        let documents = documents.map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        let list = line(&Boot {
            args: &args,
            documents: &documents.collect(),
            documents_url: "http://s/d/",
            reader: Reader { cloud_init },
        });
        let said = |found: Found| format!("{}: {}", found.severity, found.message);
        list.into_iter().map(said).collect()
    }

    #[test]
    fn where_cloud_init_looks_is_said_as_its_release_takes_it() {
        let none: [&str; 0] = [];
        for (arg, version) in [
            ("ds=nocloud;s=http://s/", None),
            ("ds=nocloud;dsmode=net;s=http://s/", Some((22, 4))),
            ("ds=nocloud-net;s=http://s/", Some((22, 4))),
            ("ds=nocloud;s=http://s/", Some((24, 1))),
            ("ds=nocloud;s=http://s/x?f=%s", Some((24, 1))),
            ("ds=ec2", None),
        ] {
            assert_eq!(found(&[arg], &[], version), none, "{arg}");
        }
        for (arg, version, said) in [
            (
                "ds=nocloud;s=http://s/nocloud",
                None,
                "error: http://s/nocloud has no slash at its end: cloud-init would ask for …nocloudmeta-data",
            ),
            (
                "ds=nocloud",
                None,
                "error: `ds=nocloud` does not say where the documents are",
            ),
            (
                "ds=nocloud;s=http://s/",
                Some((22, 4)),
                "warning: cloud-init 22.4 may look for documents over HTTP only where it is told that they are on the network",
            ),
            (
                "ds=nocloud-net;s=http://s/",
                Some((25, 1)),
                "warning: nocloud-net is outdated since cloud-init 24.1",
            ),
        ] {
            assert_eq!(found(&[arg], &[], version), [said], "{arg}");
        }
    }

    #[test]
    fn documents_and_arguments_must_know_each_other() {
        assert_eq!(
            found(
                &["url=http://s/d/answers.cfg"],
                &[("preseed.cfg", "")],
                None
            ),
            [
                "error: `url=http://s/d/answers.cfg` names the document `answers.cfg`, which the profile does not have"
            ]
        );
        assert_eq!(
            found(
                &["quiet"],
                &[("preseed.cfg", ""), ("host.ks", ""), ("config.ign", "")],
                None
            ),
            [
                "warning: nothing on the kernel's line says where config.ign is: nobody fetches it",
                "warning: nothing on the kernel's line says where host.ks is: nobody fetches it",
                "warning: nothing on the kernel's line says where preseed.cfg is: nobody fetches it",
            ]
        );
    }

    #[test]
    fn ubuntus_installer_is_told_not_to_ask_and_not_to_take_its_iso_for_a_configuration() {
        let user_data = [("user-data", "#cloud-config\nautoinstall:\n  version: 1\n")];
        assert_eq!(found(&["url=http://s/u.iso"], &user_data, None).len(), 2);
        let good = [
            "autoinstall",
            "url=http://s/u.iso",
            "cloud-config-url=/dev/null",
        ];
        assert_eq!(found(&good, &user_data, None).len(), 0);
    }
}
