//! Profiles from their files. In: the name of a directory and the text of each file in it. Out: a profile, or every problem in
//! it.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use crate::config::read_local_boot;
use crate::config::reader::{Problem, Reader, Section, is_variable_name};
use crate::model::{BootFiles, Cpu, Install, Profile, ProfileSource, SecretRef, Var};

/// The file that makes a directory a profile.
pub const PROFILE_FILE: &str = "profile.toml";

/// An installation that takes longer than most without saying so is taken for dead.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(2 * 3600);

/// Names that templates are given by us; a variable of the same name would be hidden.
pub const GIVEN_NAMES: [&str; 9] = [
    "machine",
    "subnet",
    "server_url",
    "seed_url",
    "files_url",
    "documents_url",
    "events_url",
    "arch",
    "firmware",
];

/// Reads a profile. `files` holds the text of every file by name, `profile.toml` among them.
pub fn read(name: &str, mut files: BTreeMap<String, String>) -> Result<Profile, Vec<Problem>> {
    let Some(text) = files.remove(PROFILE_FILE) else {
        return Err(vec![Problem {
            line: 0,
            place: String::new(),
            text: format!("{PROFILE_FILE} is missing"),
        }]);
    };
    let mut reader = Reader::new(&text);
    let root = &mut reader.root;
    let description = root.text("description").map(|at| at.value);
    let vars = root.vars("vars", &GIVEN_NAMES);
    let relative = (vars.values().flat_map(Var::secrets)).find_map(|secret| match secret {
        SecretRef::File(path) if !path.starts_with('/') => Some(path),
        _ => None,
    });
    if let Some(path) = relative {
        let text = format!("secret_file {path} is not an absolute path");
        root.report(0, "vars", text);
    }
    let mut boot = BTreeMap::new();
    for cpu in Cpu::ALL {
        if root.has(cpu.as_str()) {
            let mut section = root.section(cpu.as_str());
            boot.extend(read_boot_files(&mut section).map(|files| (cpu, files)));
            section.finish();
        } else {
            // Asked for, so that a misspelt table is answered with the right name.
            let _ = root.section(cpu.as_str());
        }
    }
    let documents = read_documents(root, &files);
    let script = read_script(root, &files, boot.is_empty());
    let install = read_install(root, boot.is_empty() && script.is_none());
    let required = read_required(root);
    let min_ram = root.whole_number("min_ram", 1, 1 << 24);
    let cloud_init = root.parsed::<VersionText>("cloud_init", "22.4");
    let local_boot = read_local_boot(root);
    let mut problems = reader.problems();
    problems.extend(files.iter().filter_map(|(file, source)| {
        let error = super::check(file, source).err()?;
        Some(Problem {
            line: 0,
            place: String::new(),
            text: error.to_string(),
        })
    }));
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Profile {
        name: name.to_owned(),
        source: ProfileSource::default(),
        description: description.unwrap_or_default(),
        vars,
        required,
        min_ram: min_ram.map(|at| at.value),
        cloud_init: cloud_init.map(|at| at.value.0),
        script,
        boot,
        documents,
        templates: files,
        install,
        local_boot,
    })
}

/// A template that is the boot script, in place of ours.
fn read_script(
    root: &mut Section,
    files: &BTreeMap<String, String>,
    boots_nothing_else: bool,
) -> Option<String> {
    let at = root.text("script")?;
    if !files.contains_key(&at.value) {
        let text = format!("no file {} in the profile's directory", at.value);
        root.report(at.line, "script", text);
    }
    if !boots_nothing_else {
        let text = "takes the place of [x86_64] and other tables that say what to boot; leave one of them out";
        root.report(at.line, "script", text);
    }
    Some(at.value)
}

/// Variables that nobody but the operator can know.
fn read_required(root: &mut Section) -> Vec<String> {
    let names = root.texts("required").map(|at| at.value);
    let mut required = Vec::new();
    for (index, at) in names.unwrap_or_default().into_iter().enumerate() {
        let key = format!("required[{index}]");
        if !is_variable_name(&at.value) {
            let text = "wanted a variable name of letters, digits and _";
            root.report(at.line, &key, text);
        } else if GIVEN_NAMES.contains(&at.value.as_str()) {
            root.report(at.line, &key, "is a name that Bootjack gives to templates");
        }
        required.push(at.value);
    }
    required
}

/// `22.4`, or more of a version than counts.
struct VersionText((u32, u32));

impl FromStr for VersionText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('.').map(str::parse::<u32>);
        match (parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok(Self((major, minor))),
            _ => Err("not a version".to_owned()),
        }
    }
}

fn read_install(root: &mut Section, boots_nothing: bool) -> Option<Install> {
    let installs = root.boolean("installs");
    let deadline = root.text("deadline");
    let retries = root.whole_number("retries", 0, 100);
    let Some(installs) = installs.filter(|at| at.value) else {
        let (deadline, retries) = (deadline.map(|at| at.line), retries.map(|at| at.line));
        for (key, line) in [("deadline", deadline), ("retries", retries)] {
            if let Some(line) = line {
                root.report(line, key, "means nothing without installs = true");
            }
        }
        return None;
    };
    if boots_nothing {
        let text = "there is no [x86_64] or other table that says what to boot";
        root.report(installs.line, "installs", text);
    }
    let longest = Duration::from_secs(30 * 86_400);
    let deadline = deadline.and_then(|at| match humantime::parse_duration(&at.value) {
        Ok(time) if (Duration::from_secs(1)..=longest).contains(&time) => Some(time),
        Ok(_) => {
            let text = format!("{} is not between 1s and 30days", at.value);
            root.report(at.line, "deadline", text);
            None
        }
        Err(error) => {
            let text = format!(
                "`{}` does not parse: {error}; write it like 2h or 90m",
                at.value
            );
            root.report(at.line, "deadline", text);
            None
        }
    });
    Some(Install {
        deadline: deadline.unwrap_or(DEFAULT_DEADLINE),
        retries: retries.map_or(0, |at| at.value),
    })
}

fn read_boot_files(section: &mut Section) -> Option<BootFiles> {
    let kernel = section.text("kernel");
    let initrd = section
        .texts("initrd")
        .map(|at| at.value)
        .unwrap_or_default();
    let args = section.texts("args").map(|at| at.value).unwrap_or_default();
    for (key, at) in kernel
        .iter()
        .map(|at| ("kernel", at))
        .chain(initrd.iter().map(|at| ("initrd", at)))
        .chain(args.iter().map(|at| ("args", at)))
    {
        if let Err(error) = super::check(key, &at.value) {
            section.report(at.line, key, error);
        }
    }
    if kernel.is_none() {
        section.report(
            section.line(),
            "kernel",
            "is missing; give a path below http.files, or a URL",
        );
    }
    let text = |at: crate::config::reader::At<String>| at.value;
    Some(BootFiles {
        kernel: kernel?.value,
        initrd: initrd.into_iter().map(text).collect(),
        args: args.into_iter().map(text).collect(),
    })
}

fn read_documents(
    root: &mut Section,
    files: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut documents = BTreeMap::new();
    for (name, file) in root.text_map("documents") {
        let key = format!("documents.{name}");
        let is_plain = !name.is_empty()
            && !name.starts_with('.')
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !is_plain {
            root.report(
                file.line,
                &key,
                "wanted a document's name of letters, digits and . _ -",
            );
        } else if !files.contains_key(&file.value) {
            let text = format!("no file {} in the profile's directory", file.value);
            root.report(file.line, &key, text);
        }
        documents.insert(name, file.value);
    }
    documents
}
