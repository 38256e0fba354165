//! `bootjack profile …` against a running bootjackd.

use std::collections::BTreeMap;
use std::path::Path;

use bootjack_api::v1::finding::Severity;
use bootjack_api::v1::profile::Source;
use bootjack_api::v1::profiles_client::ProfilesClient;
use bootjack_api::v1::{
    DeleteProfileRequest, Finding, GetProfileRequest, LintProfileRequest, ListProfilesRequest,
    Profile, PutProfileRequest,
};
use serde_json::{Value as Json, json};

use crate::cli::{Format, ProfileCommand};
use crate::client::{self, Server, all_pages};
use crate::exit::{Exit, Failure};
use crate::output::{self, Style, or_dash, or_null};
use crate::vars;

const COLLECTION: &str = "profiles/";

/// Runs one command; the answer goes to standard output.
pub fn run(command: ProfileCommand, server: &Server, format: Format) -> Result<(), Failure> {
    client::block_on(async {
        let mut api = ProfilesClient::new(client::channel(server).await?);
        let refused = |status| client::refused(server, &status);
        match command {
            ProfileCommand::List => {
                let all = all_pages(async |page_token| {
                    let request = ListProfilesRequest {
                        page_size: 0,
                        page_token,
                    };
                    let page = api.list_profiles(request).await?.into_inner();
                    Ok((page.profiles, page.next_page_token))
                });
                list(&all.await.map_err(refused)?, format)
            }
            ProfileCommand::Get { name, to } => {
                let answer = api.get_profile(GetProfileRequest { name }).await;
                let profile = answer.map_err(refused)?.into_inner();
                match to {
                    Some(dir) => write(&profile, &dir),
                    None => one(&profile, format),
                }
            }
            ProfileCommand::Put {
                dir,
                name,
                etag,
                dry_run,
            } => {
                let id = match name {
                    Some(name) => name,
                    None => name_of(&dir)?,
                };
                let profile = Profile {
                    name: format!("{COLLECTION}{id}"),
                    files: files(&dir)?,
                    ..Profile::default()
                };
                let request = PutProfileRequest {
                    profile: Some(profile),
                    etag: etag.unwrap_or_default(),
                    validate_only: dry_run,
                };
                let answer = api.put_profile(request).await;
                let profile = answer.map_err(refused)?.into_inner();
                let what = if dry_run { "would put" } else { "put" };
                output::answer(
                    format,
                    || as_json(&profile),
                    || format!("{what} {}", profile.name),
                )
            }
            ProfileCommand::Delete { names } => {
                let mut failures = Vec::new();
                for name in names {
                    let request = DeleteProfileRequest {
                        name: name.clone(),
                        ..DeleteProfileRequest::default()
                    };
                    match api.delete_profile(request).await.map_err(refused) {
                        Ok(_) => output::say_one_of_many(
                            format,
                            || json!({ "deleted": name }),
                            || format!("deleted {name}"),
                        )?,
                        Err(failure) => failures.push(failure),
                    }
                }
                Failure::of_many(failures)
            }
            ProfileCommand::Lint { name, dir } => {
                let files = match dir {
                    Some(dir) => files(&dir)?,
                    None => BTreeMap::new(),
                };
                let answer = api.lint_profile(LintProfileRequest { name, files }).await;
                lint(&answer.map_err(refused)?.into_inner().findings, format)
            }
        }
    })
}

fn name_of(dir: &Path) -> Result<String, Failure> {
    let whole = dir.canonicalize().map_err(Failure::io("read", dir))?;
    let name = whole.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| {
        let text = format!(
            "{} has no name that a profile can have; give one with --name",
            dir.display()
        );
        Failure::new(Exit::Usage, text)
    })
}

/// Every file of a directory but hidden ones.
pub fn files(dir: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(Failure::io("read", dir))? {
        let path = entry.map_err(Failure::io("read", dir))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if path.is_file() && !name.starts_with('.') && !name.ends_with('~') {
            let text = std::fs::read_to_string(&path).map_err(Failure::io("read", &path))?;
            files.insert(name.to_owned(), text);
        }
    }
    match files.contains_key("profile.toml") {
        true => Ok(files),
        false => Err(Failure::new(
            Exit::Invalid,
            format!("{} has no profile.toml", dir.display()),
        )),
    }
}

/// Writes a profile's files; none of them may lead out of the directory.
fn write(profile: &Profile, dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).map_err(Failure::io("make", dir))?;
    for (name, text) in &profile.files {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
            let text = format!(
                "{} has a file of the name `{}`, which is not written",
                profile.name,
                name.escape_default()
            );
            return Err(Failure::new(Exit::Invalid, text));
        }
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(Failure::io("write", &path))?;
    }
    output::say(&format!(
        "wrote {} files of {} to {}",
        profile.files.len(),
        profile.name,
        dir.display()
    ))
}

fn list(profiles: &[Profile], format: Format) -> Result<(), Failure> {
    if format.is_for_programs() {
        let list: Vec<Json> = profiles.iter().map(as_json).collect();
        return output::say_value(format, &json!({ "profiles": list }));
    }
    let mut header = vec!["NAME", "SOURCE", "INSTALLS", "MACHINES", "DESCRIPTION"];
    if format == Format::Wide {
        header.extend(["HIDES", "PROCESSORS", "REQUIRED VARS", "ETAG"]);
    }
    let rows = profiles.iter().map(|profile| {
        let mut cells = vec![
            id(profile).to_owned(),
            source(profile.source()).to_owned(),
            if profile.installs { "yes" } else { "no" }.to_owned(),
            profile.machines.to_string(),
            profile.description.clone(),
        ];
        if format == Format::Wide {
            cells.extend([
                source(profile.hides()).to_owned(),
                profile.processors.join(","),
                profile.required_vars.join(","),
                profile.etag.clone(),
            ]);
        }
        cells
            .into_iter()
            .map(|cell| or_dash(&cell).to_owned())
            .collect()
    });
    output::say(&output::table(Style::stdout(), &header, rows.collect()))
}

fn one(profile: &Profile, format: Format) -> Result<(), Failure> {
    let text = || {
        let style = Style::stdout();
        let line = |key: &str, value: &str| {
            format!("{}{}", style.bold(&format!("{key:<15}")), or_dash(value))
        };
        let mut lines = vec![
            line("name", &profile.name),
            line("description", &profile.description),
            line("source", source(profile.source())),
            line("hides", source(profile.hides())),
            line("installs", if profile.installs { "yes" } else { "no" }),
            line("machines", &profile.machines.to_string()),
            line("processors", &profile.processors.join(" ")),
            line("required vars", &profile.required_vars.join(" ")),
            line("documents", &profile.documents.join(" ")),
            line("etag", &profile.etag),
        ];
        for (name, text) in &profile.files {
            lines.push(String::new());
            lines.push(style.bold(&format!("--- {name}")));
            lines.push(text.trim_end().to_owned());
        }
        lines.join("\n")
    };
    output::answer(format, || as_json(profile), text)
}

fn lint(findings: &[Finding], format: Format) -> Result<(), Failure> {
    if format.is_for_programs() {
        let list: Vec<Json> = findings.iter().map(finding_as_json).collect();
        output::say_value(format, &json!({ "findings": list }))?;
    } else if findings.is_empty() {
        output::say("nothing to complain of")?;
    } else {
        let style = Style::stdout();
        for finding in findings {
            output::say(&finding_in_words(finding, style))?;
        }
    }
    match findings
        .iter()
        .filter(|finding| finding.severity() == Severity::Error)
        .count()
    {
        0 => Ok(()),
        1 => Err(Failure::new(
            Exit::Invalid,
            "1 error; it would not be put in place for a machine",
        )),
        n => Err(Failure::new(
            Exit::Invalid,
            format!("{n} errors; it would not be put in place for a machine"),
        )),
    }
}

fn finding_in_words(finding: &Finding, style: Style) -> String {
    let severity = match finding.severity() {
        Severity::Error => style.red("error"),
        other => severity(other).to_owned(),
    };
    let place = match finding.line {
        0 => finding.document.clone(),
        line => format!("{}:{line}", finding.document),
    };
    let next = if finding.next_step.is_empty() {
        String::new()
    } else {
        format!("; {}", finding.next_step)
    };
    let whose = match finding.machines.as_slice() {
        [] => String::new(),
        [one] => format!(" ({one})"),
        [first, others @ ..] => format!(" ({first} and {} more)", others.len()),
    };
    format!("{severity}: {place}: {}{next}{whose}", finding.message)
}

fn finding_as_json(finding: &Finding) -> Json {
    json!({
        "document": finding.document,
        "line": finding.line,
        "severity": severity(finding.severity()),
        "message": finding.message,
        "next_step": or_null(&finding.next_step),
        "machines": finding.machines,
    })
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "info",
        Severity::Unspecified => "unknown",
    }
}

/// The profile for programs: every key always, null for none.
fn as_json(profile: &Profile) -> Json {
    json!({
        "name": profile.name,
        "id": id(profile),
        "description": or_null(&profile.description),
        "source": source(profile.source()),
        "hides": or_null(source(profile.hides())),
        "installs": profile.installs,
        "install_deadline_secs": profile.install_deadline.map(|deadline| deadline.seconds),
        "vars": vars::map_to_json(&profile.vars),
        "required_vars": profile.required_vars,
        "documents": profile.documents,
        "processors": profile.processors,
        "machines": profile.machines,
        "files": profile.files,
        "etag": or_null(&profile.etag),
    })
}

fn id(profile: &Profile) -> &str {
    let name = &profile.name;
    name.strip_prefix(COLLECTION).unwrap_or(name)
}

fn source(source: Source) -> &'static str {
    match source {
        Source::Shipped => "shipped",
        Source::Api => "api",
        Source::Directory => "directory",
        Source::Unspecified => "",
    }
}
