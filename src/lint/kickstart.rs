//! Red Hat's kickstart: commands, and sections that end with %end. Anaconda stops at the first line that it does not understand.

use super::{Found, error, info, warning};

/// Commands that Fedora 40 knows (pykickstart's F40).
const COMMANDS: [&str; 65] = [
    "authselect",
    "autopart",
    "bootloader",
    "btrfs",
    "cdrom",
    "clearpart",
    "cmdline",
    "driverdisk",
    "eula",
    "fcoe",
    "firewall",
    "firstboot",
    "graphical",
    "group",
    "halt",
    "harddrive",
    "hmc",
    "ignoredisk",
    "iscsi",
    "iscsiname",
    "keyboard",
    "lang",
    "liveimg",
    "logging",
    "logvol",
    "mediacheck",
    "module",
    "mount",
    "network",
    "nfs",
    "nvdimm",
    "timesource",
    "ostreecontainer",
    "ostreesetup",
    "part",
    "partition",
    "poweroff",
    "raid",
    "realm",
    "reboot",
    "repo",
    "reqpart",
    "rescue",
    "rootpw",
    "selinux",
    "services",
    "shutdown",
    "skipx",
    "snapshot",
    "sshpw",
    "sshkey",
    "text",
    "timezone",
    "updates",
    "url",
    "user",
    "vnc",
    "volgroup",
    "xconfig",
    "zerombr",
    "zfcp",
    "zipl",
    "bootc",
    "rdp",
    "rhsm",
];

/// Commands that are gone, and since when Anaconda stops at them.
const GONE: [(&str, &str); 10] = [
    ("auth", "Fedora 35; say authselect"),
    ("authconfig", "Fedora 35; say authselect"),
    ("autostep", "Fedora 34"),
    ("device", "Fedora 34"),
    ("deviceprobe", "Fedora 34"),
    ("dmraid", "Fedora 34"),
    ("install", "Fedora 34; leave it out"),
    ("multipath", "Fedora 34"),
    ("method", "Fedora 34"),
    ("upgrade", "Fedora 20"),
];

const SECTIONS: [&str; 9] = [
    "%packages",
    "%pre",
    "%pre-install",
    "%post",
    "%onerror",
    "%traceback",
    "%addon",
    "%anaconda",
    "%certificate",
];

/// Where the packages come from.
const SOURCES: [&str; 9] = [
    "url",
    "cdrom",
    "harddrive",
    "nfs",
    "hmc",
    "liveimg",
    "ostreesetup",
    "ostreecontainer",
    "bootc",
];

const PARTITIONS: [&str; 9] = [
    "autopart",
    "part",
    "partition",
    "logvol",
    "volgroup",
    "raid",
    "btrfs",
    "mount",
    "reqpart",
];

/// Looks at a kickstart.
pub(super) fn script(text: &str) -> Vec<Found> {
    let mut list = Vec::new();
    let mut open: Option<(usize, String)> = None;
    let mut said: Vec<String> = Vec::new();
    let mut keys: Vec<String> = Vec::new();
    let mut goes_on = false;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let continues = std::mem::replace(&mut goes_on, open.is_none() && line.ends_with('\\'));
        if continues {
            continue;
        }
        let first = line.split_whitespace().next().unwrap_or_default();
        match (&open, first) {
            (_, "") => {}
            (Some(_), "%end") => open = None,
            (Some((line, section)), word) if SECTIONS.contains(&word) => {
                let text = format!("{word} begins inside {section} of line {line}");
                list.push(error(
                    number,
                    text,
                    format!("end {section} with %end before it"),
                ));
                open = Some((number, word.to_owned()));
            }
            (Some(_), _) => {}
            (None, "%end") => {
                list.push(error(number, "%end ends nothing", "take it out"));
            }
            (None, "%include" | "%ksappend") => {}
            (None, word) if word.starts_with('#') => {}
            (None, word) if SECTIONS.contains(&word) => open = Some((number, word.to_owned())),
            (None, word) if word.starts_with('%') => {
                let text = format!("{word} is no section");
                list.push(error(number, text, meant(word, &SECTIONS)));
            }
            (None, word) => {
                list.extend(command(number, word, line));
                if word == "sshkey" {
                    list.extend(second_key(number, line, &mut keys));
                }
                said.push(word.to_owned());
            }
        }
    }
    if let Some((line, section)) = open {
        let text = format!("{section} does not end");
        list.push(error(line, text, "end it with a line of %end"));
    }
    list.extend(whole(&said));
    list
}

/// A user may be given one key, or pykickstart takes the second for a mistake.
fn second_key(number: usize, line: &str, keys: &mut Vec<String>) -> Option<Found> {
    let user = (line.split_whitespace()).find(|part| part.starts_with("--username="))?;
    if keys.iter().any(|known| known == user) {
        let text = "sshkey takes one key for each user, and this one has one";
        let step = "write the others to authorized_keys in %post";
        return Some(error(number, text, step));
    }
    keys.push(user.to_owned());
    None
}

fn command(number: usize, word: &str, line: &str) -> Option<Found> {
    if let Some((_, since)) = GONE.iter().find(|(gone, _)| *gone == word) {
        let text = format!("{word} is gone: Anaconda stops at it since {since}");
        return Some(warning(
            number,
            text,
            "take it out for releases that are that new",
        ));
    }
    if !COMMANDS.contains(&word) {
        let text = format!(
            "`{}` is no command",
            word.chars().take(40).collect::<String>()
        );
        return Some(error(number, text, meant(word, &COMMANDS)));
    }
    if matches!(word, "rootpw" | "user" | "sshpw") && line.contains("--iscrypted") {
        let has_hash = (line.split_whitespace())
            .map(|part| part.strip_prefix("--password=").unwrap_or(part))
            .any(|part| super::is_hash(part.trim_matches(['"', '\''])));
        if !has_hash {
            let text = format!("{word} --iscrypted has no hash: nobody could log in with it");
            return Some(error(
                number,
                text,
                "send the password through |sha512crypt",
            ));
        }
    }
    None
}

fn whole(said: &[String]) -> Vec<Found> {
    let has = |any: &[&str]| said.iter().any(|word| any.contains(&word.as_str()));
    let mut list = Vec::new();
    if !has(&SOURCES) {
        list.push(info(
            0,
            "no command says where the packages come from: inst.repo= on the kernel's line must",
            "add url --url=…, or leave it to inst.repo",
        ));
    }
    if !has(&PARTITIONS) {
        list.push(warning(
            0,
            "nothing is said of partitions: Anaconda waits for somebody to do it",
            "add autopart, or part and what belongs to it",
        ));
    }
    if !has(&["rootpw", "user", "sshkey"]) {
        list.push(warning(
            0,
            "nobody could log in: there is neither rootpw nor user nor sshkey",
            "add one of them",
        ));
    }
    list
}

fn meant(word: &str, known: &[&str]) -> String {
    match super::closest(word, known.iter().copied()) {
        Some(close) => format!("did you mean {close}?"),
        None => "see the commands of pykickstart".to_owned(),
    }
}
