//! Debian's preseed: lines of debconf, `owner question type value`. A line that debconf does not understand is a question on a
//! console that nobody sits at.

use std::collections::BTreeMap;

use super::{Found, error, info, warning};

/// What a question may be (debconf-devel(7)).
const TYPES: [&str; 10] = [
    "boolean",
    "string",
    "password",
    "select",
    "multiselect",
    "note",
    "text",
    "title",
    "error",
    "entropy",
];

/// Asked before the file is there to answer, where it comes over the network (Debian Installation Guide, appendix B).
const TOO_LATE: [&str; 8] = [
    "netcfg/choose_interface",
    "netcfg/disable_autoconfig",
    "netcfg/disable_dhcp",
    "netcfg/get_ipaddress",
    "netcfg/get_netmask",
    "netcfg/get_gateway",
    "netcfg/get_nameservers",
    "netcfg/link_wait_timeout",
];

struct Line<'a> {
    number: usize,
    text: std::borrow::Cow<'a, str>,
}

/// Looks at a file of answers.
pub(super) fn answers(text: &str) -> Vec<Found> {
    let mut list = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for line in lines(text) {
        let number = line.number;
        let mut rest = line.text.trim_start();
        let mut word = || {
            let end = rest.find([' ', '\t']).unwrap_or(rest.len());
            let (word, more) = rest.split_at(end);
            rest = more.trim_start_matches([' ', '\t']);
            word.to_owned()
        };
        let (owner, question, kind) = (word(), word(), word());
        // What follows the kind is the value to the last space.
        let value = rest;
        if question.is_empty() || kind.is_empty() {
            list.push(error(
                number,
                format!(
                    "`{}` is no answer: wanted owner, question, type and value",
                    short(&line.text)
                ),
                "write it like: d-i mirror/country string manual",
            ));
            continue;
        }
        if !is_owner(&owner) {
            let text = format!("`{}` is no owner of a question", short(&owner));
            list.push(error(
                number,
                text,
                "write d-i, or the name of the package that asks",
            ));
        }
        if !TYPES.contains(&kind.as_str()) {
            let close = super::closest(&kind, TYPES.into_iter());
            let text = format!("{question}: `{}` is no type of a question", short(&kind));
            let step = close.map_or(format!("wanted one of: {}", TYPES.join(", ")), |close| {
                format!("did you mean {close}?")
            });
            list.push(error(number, text, step));
        }
        if let Some(first) = seen.insert(format!("{owner} {question}"), number) {
            let text =
                format!("{question} is answered on line {first} already, and this one counts");
            list.push(warning(number, text, "keep one of them"));
        }
        list.extend(answer(number, &question, &kind, value));
    }
    let has = |question: &str| seen.keys().any(|key| key.ends_with(question));
    if has("partman-auto/method") && !has("partman-auto/disk") {
        list.push(info(
            0,
            "partman-auto/disk is not said: with more than one disk the installer asks which",
            "add d-i partman-auto/disk string /dev/…",
        ));
    }
    list
}

fn answer(number: usize, question: &str, kind: &str, value: &str) -> Vec<Found> {
    let mut list = Vec::new();
    if kind == "boolean" && !matches!(value, "true" | "false") {
        let text = format!("{question}: wanted true or false, got `{}`", short(value));
        list.push(error(number, text, "debconf knows no other truth values"));
    }
    if kind == "select" && value.is_empty() {
        let text = format!("{question}: nothing is chosen, so it will be asked");
        list.push(warning(
            number,
            text,
            "say which choice, or take the line out",
        ));
    }
    if question.ends_with("-password-crypted")
        && !super::is_hash(value)
        && !matches!(value, "!" | "*" | "!!")
    {
        let text = format!("{question} is no hash: nobody could log in with it");
        list.push(error(number, text, "send it through |sha512crypt"));
    }
    if question.ends_with("/root-password") || question.ends_with("/user-password") {
        let text = format!("{question}: the password stands in the clear");
        let step = format!("answer {question}-crypted instead, with |sha512crypt");
        list.push(warning(number, text, step));
    }
    if TOO_LATE.contains(&question) {
        let text = format!("{question} comes too late: the network was set up to fetch this file");
        list.push(warning(
            number,
            text,
            "say it as a kernel argument, such as interface=auto",
        ));
    }
    list
}

/// Lines with those they go on with, comments and blank lines left out.
fn lines(text: &str) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    let mut goes_on = false;
    for (index, text) in text.lines().enumerate() {
        if goes_on && let Some(last) = lines.last_mut() {
            last.text.to_mut().push_str(text.trim_end_matches('\\'));
            goes_on = text.ends_with('\\');
            continue;
        }
        let is_comment = text.trim_start().starts_with('#');
        if is_comment || text.trim().is_empty() {
            continue;
        }
        goes_on = text.ends_with('\\');
        lines.push(Line {
            number: index + 1,
            text: text.trim_end_matches('\\').into(),
        });
    }
    lines
}

fn is_owner(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && (text.bytes())
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+.-_".contains(&b))
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}
