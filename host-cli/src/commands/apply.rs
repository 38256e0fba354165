//! `bootjack apply` and `bootjack diff`: what is there becomes what files say, or is held against it.

use std::io::Read as _;
use std::path::Path;

use serde_json::{Value as Json, json};

use crate::apply::document::{self, Problem};
use crate::apply::plan::{self, Plan, Step, Terms};
use crate::apply::send::{Outcome, Sender};
use crate::cli::{ApplyArgs, FileArgs, Format};
use crate::client::{self, Server};
use crate::exit::{Detail, Exit, Failure};
use crate::output::{self, Style};
use crate::wanted::{self, Wanted};

/// Applies the files.
pub fn run(args: &ApplyArgs, server: &Server, format: Format) -> Result<(), Failure> {
    let wanted = read(&args.files)?;
    let terms = terms(&args.files);
    client::block_on(send(wanted, &terms, args.dry_run, server, format))
}

/// Says what applying the files would change; the exit status says whether that is anything.
pub fn diff(args: &FileArgs, server: &Server, format: Format) -> Result<(), Failure> {
    let wanted = read(args)?;
    let terms = terms(args);
    client::block_on(async {
        let sender = Sender::connect(server).await?;
        let plan = planned(wanted, &sender, &terms).await?;
        let differs = !plan.is_empty();
        show(&plan, format)?;
        match differs {
            true => Err(Failure::new(Exit::Differs, "")),
            false => Ok(()),
        }
    })
}

fn terms(args: &FileArgs) -> Terms {
    Terms {
        owner: args.owner.clone(),
        prunes: args.prune,
    }
}

/// Makes what is there what is wanted: for `apply`, and for an import.
pub async fn send(
    wanted: Vec<Wanted>,
    terms: &Terms,
    is_dry: bool,
    server: &Server,
    format: Format,
) -> Result<(), Failure> {
    let sender = Sender::connect(server).await?;
    let plan = planned(wanted, &sender, terms).await?;
    sender.check(&plan).await.map_err(refused)?;
    if is_dry {
        return show(&plan, format);
    }
    let unchanged = plan.unchanged.clone();
    let mut said = Ok(());
    let outcomes = sender
        .carry_out(plan, &mut |outcome| {
            if !format.is_for_programs() && said.is_ok() {
                said = output::say(&line(outcome));
            }
        })
        .await;
    said?;
    report(&outcomes, &unchanged, format)?;
    let mut failures = outcomes
        .into_iter()
        .filter_map(|outcome| outcome.result.err());
    match failures.next() {
        None => Ok(()),
        // Each was told beside its name.
        Some(first) => Err(Failure {
            message: format!("{} of them failed", 1 + failures.count()),
            ..first
        }),
    }
}

async fn planned(wanted: Vec<Wanted>, sender: &Sender<'_>, terms: &Terms) -> Result<Plan, Failure> {
    let current = sender.list("").await?;
    plan::plan(wanted, &current, terms).map_err(|problems| faulty(&problems, Exit::Conflict))
}

/// Reads every file, or says every problem of all of them.
fn read(args: &FileArgs) -> Result<Vec<Wanted>, Failure> {
    let mut wanted = Vec::new();
    let mut problems = Vec::new();
    for file in &args.file {
        for (name, text) in texts(file)? {
            match document::read(&name, &text) {
                Ok(found) => wanted.extend(found),
                Err(found) => problems.extend(found),
            }
        }
    }
    problems.extend(document::clashes(&wanted));
    match problems.is_empty() {
        true => Ok(wanted),
        false => Err(faulty(&problems, Exit::Invalid)),
    }
}

/// The text of a file, of standard input, or of each YAML and JSON file of a directory.
fn texts(file: &Path) -> Result<Vec<(String, String)>, Failure> {
    if file == Path::new("-") {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        read.map_err(Failure::io("read", "standard input"))?;
        return Ok(vec![("standard input".to_owned(), text)]);
    }
    let mut files = vec![file.to_owned()];
    if file.is_dir() {
        let entries = std::fs::read_dir(file).map_err(Failure::io("read", file))?;
        let is_ours = |path: &std::path::PathBuf| {
            let ending = path.extension().and_then(|ending| ending.to_str());
            matches!(ending, Some("yaml" | "yml" | "json")) && path.is_file()
        };
        files = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(is_ours)
            .collect();
        files.sort();
        if files.is_empty() {
            let text = format!("{} has no file *.yaml, *.yml or *.json", file.display());
            return Err(Failure::new(Exit::Invalid, text));
        }
    }
    let read = |file: &std::path::PathBuf| {
        let text = std::fs::read_to_string(file).map_err(Failure::io("read", file))?;
        Ok((file.display().to_string(), text))
    };
    files.iter().map(read).collect()
}

/// All problems as one failure.
fn faulty(problems: &[Problem], exit: Exit) -> Failure {
    let mut text = match problems.len() {
        1 => String::from("1 problem; nothing was changed"),
        n => format!("{n} problems; nothing was changed"),
    };
    for problem in problems {
        text.push_str(&format!("\n  {problem}"));
    }
    let details = problems.iter().map(|problem| Detail {
        field: format!("{}: {}", problem.place, problem.field),
        message: problem.message.clone(),
        resource: String::new(),
    });
    Failure {
        details: details.collect(),
        ..Failure::new(exit, text)
    }
}

/// What bootjackd would refuse, as one failure.
fn refused(found: Vec<(Option<Problem>, Failure)>) -> Failure {
    let exit = found
        .first()
        .map_or(Exit::Failed, |(_, failure)| failure.exit);
    let (problems, others): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|(problem, _)| problem.is_some());
    if let Some((_, failure)) = others.into_iter().next() {
        return failure;
    }
    let problems: Vec<Problem> = problems
        .into_iter()
        .filter_map(|(problem, _)| problem)
        .collect();
    faulty(&problems, exit)
}

fn show(plan: &Plan, format: Format) -> Result<(), Failure> {
    let changes = plan.changes();
    if format.is_for_programs() {
        let list: Vec<Json> = changes
            .iter()
            .map(|(action, step)| as_json(action, step))
            .collect();
        return output::say_value(
            format,
            &json!({ "changes": list, "unchanged": plan.unchanged }),
        );
    }
    let style = Style::stdout();
    for (action, step) in changes {
        output::say(&shown(action, step, style))?;
    }
    let count = |steps: usize| steps;
    let updates: usize = plan.updates.iter().map(Vec::len).sum();
    output::say(&format!(
        "{} to create, {updates} to update, {} to delete, {} unchanged",
        count(plan.creates.len()),
        plan.deletes.len(),
        plan.unchanged.len()
    ))
}

fn shown(action: &str, step: &Step, style: Style) -> String {
    let id = wanted::id(&step.reservation);
    let is_wanted = |field: &&str| !crate::apply::fields::get(&step.reservation, field).is_null();
    let whole = |sign: &str| {
        let fields = crate::apply::fields::FIELDS
            .iter()
            .filter(|field| is_wanted(field));
        let lines = fields.map(|field| {
            format!(
                "{sign}   {field}: {}",
                value(&crate::apply::fields::get(&step.reservation, field))
            )
        });
        let mut all = vec![format!("{sign} {id}")];
        all.extend(lines);
        all
    };
    match action {
        "create" => whole("+")
            .iter()
            .map(|line| style.green(line))
            .collect::<Vec<_>>()
            .join("\n"),
        "delete" => style.red(&format!("- {id}")),
        _ => {
            let mut lines = vec![style.bold(&format!("~ {id}"))];
            for difference in &step.differences {
                let field = &difference.field;
                if !difference.is.is_null() {
                    lines.push(style.red(&format!("-   {field}: {}", value(&difference.is))));
                }
                if !difference.wanted.is_null() {
                    lines.push(style.green(&format!("+   {field}: {}", value(&difference.wanted))));
                }
            }
            lines.join("\n")
        }
    }
}

/// Text as it is, everything else as JSON.
fn value(value: &Json) -> String {
    match value {
        Json::String(text) if !text.contains('\n') => text.clone(),
        other => other.to_string(),
    }
}

fn as_json(action: &str, step: &Step) -> Json {
    let fields: Vec<Json> = (step.differences.iter())
        .map(|difference| json!({ "field": difference.field, "is": difference.is, "wanted": difference.wanted }))
        .collect();
    json!({
        "action": action,
        "id": wanted::id(&step.reservation),
        "place": step.place.as_ref().map(ToString::to_string),
        "fields": fields,
    })
}

fn line(outcome: &Outcome) -> String {
    let id = wanted::id(&outcome.step.reservation);
    let what = match &outcome.result {
        Ok(()) => outcome.done,
        Err(failure) => return format!("failed {id}: {failure}"),
    };
    match outcome.step.differences.as_slice() {
        [] => format!("{what} {id}"),
        differences => {
            let fields: Vec<&str> = differences.iter().map(|d| d.field.as_str()).collect();
            format!("{what} {id}: {}", fields.join(", "))
        }
    }
}

fn report(outcomes: &[Outcome], unchanged: &[String], format: Format) -> Result<(), Failure> {
    let ids = |done: &str| -> Vec<&str> {
        let worked = outcomes
            .iter()
            .filter(|o| o.done == done && o.result.is_ok());
        worked
            .map(|outcome| wanted::id(&outcome.step.reservation))
            .collect()
    };
    if format.is_for_programs() {
        let failed: Vec<Json> = (outcomes.iter())
            .filter_map(|outcome| {
                let failure = outcome.result.as_ref().err()?;
                Some(json!({ "id": wanted::id(&outcome.step.reservation), "error": failure.as_json()["error"] }))
            })
            .collect();
        let answer = json!({
            "created": ids("created"),
            "updated": ids("updated"),
            "deleted": ids("deleted"),
            "unchanged": unchanged,
            "failed": failed,
        });
        return output::say_value(format, &answer);
    }
    if format == Format::Wide {
        for id in unchanged {
            output::say(&format!("unchanged {id}"))?;
        }
    }
    output::say(&format!(
        "{} created, {} updated, {} deleted, {} unchanged",
        ids("created").len(),
        ids("updated").len(),
        ids("deleted").len(),
        unchanged.len()
    ))
}
