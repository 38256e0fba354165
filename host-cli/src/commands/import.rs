//! `bootjack import`: reservations out of other servers' files, and a word about everything that does not come over.

use serde_json::{Value as Json, json};

use super::apply;
use crate::apply::document;
use crate::apply::fields;
use crate::apply::plan::Terms;
use crate::cli::{Format, ImportArgs, ImportFrom};
use crate::client::{self, Server};
use crate::exit::{Detail, Exit, Failure};
use crate::import::files::Disk;
use crate::import::{self, Imported, Left};
use crate::output::{self, Style};
use crate::wanted::{self, Wanted};

/// Reads the files, says what came of them, and writes or sends it if that is asked for.
pub fn run(
    args: &ImportArgs,
    server: impl FnOnce() -> Result<Server, Failure>,
    format: Format,
) -> Result<(), Failure> {
    let disk = Disk {
        root: args.root.clone(),
    };
    let read = match args.from {
        ImportFrom::Dnsmasq => import::dnsmasq::read,
        ImportFrom::IscDhcpd => import::isc::read,
        ImportFrom::Kea => import::kea::read,
        ImportFrom::Pvmlab => import::pvmlab::read,
    };
    let mut found = read(&args.paths, &disk);
    for wanted in &mut found.wanted {
        dress(wanted, args);
    }
    tell(&found, args, format)?;
    let malformed: Vec<&Left> = found.left.iter().filter(|left| left.is_malformed).collect();
    if !malformed.is_empty() && !args.skip_invalid {
        return Err(unreadable(&malformed));
    }
    if let Some(file) = &args.to {
        write(&found.wanted, args, file)?;
    }
    if args.apply {
        let terms = Terms {
            owner: args.owner.clone(),
            prunes: false,
        };
        let server = server()?;
        client::block_on(apply::send(found.wanted, &terms, false, &server, format))?;
    }
    Ok(())
}

/// What the flags say of every machine.
fn dress(wanted: &mut Wanted, args: &ImportArgs) {
    let r = &mut wanted.reservation;
    if let Some(profile) = &args.profile {
        r.profile.clone_from(profile);
    }
    r.labels.extend(args.label.iter().cloned());
}

fn unreadable(malformed: &[&Left]) -> Failure {
    let n = malformed.len();
    let (lines, them) = if n == 1 {
        ("line", "it")
    } else {
        ("lines", "them")
    };
    let text = format!(
        "{n} {lines} cannot be read, so nothing was imported; mend {them}, or leave {them} out with --skip-invalid"
    );
    let details = malformed.iter().map(|left| Detail {
        field: left.place.to_string(),
        message: left.why.clone(),
        resource: left.what.clone(),
    });
    Failure {
        details: details.collect(),
        ..Failure::new(Exit::Invalid, text)
    }
}

fn write(wanted: &[Wanted], args: &ImportArgs, file: &std::path::Path) -> Result<(), Failure> {
    let from = args.paths.join(" ");
    let text = format!(
        "# Imported from {from}. Look at it, then: bootjack diff -f FILE; bootjack apply -f FILE\n{}",
        document::write(wanted.iter().map(|w| &w.reservation))
    );
    if file == std::path::Path::new("-") {
        return output::say(text.trim_end());
    }
    std::fs::write(file, text).map_err(Failure::io("write", file))
}

/// The report: on standard output, or beside it where that is taken.
fn tell(found: &Imported, args: &ImportArgs, format: Format) -> Result<(), Failure> {
    let is_taken = args.to.as_deref() == Some(std::path::Path::new("-"));
    if format.is_for_programs() {
        // An apply with a report of its own says what became of it; one value is all that is printed.
        return match args.apply || is_taken {
            true => Ok(()),
            false => output::say_value(format, &as_json(found)),
        };
    }
    let style = if is_taken {
        Style::stderr()
    } else {
        Style::stdout()
    };
    let text = report(found, style, format);
    match is_taken {
        true => {
            eprintln!("{text}");
            Ok(())
        }
        false => output::say(&text),
    }
}

fn report(found: &Imported, style: Style, format: Format) -> String {
    let mut parts = Vec::new();
    if !found.wanted.is_empty() {
        parts.push(reservations(&found.wanted, style, format));
    }
    if !found.left.is_empty() {
        parts.push(left(&found.left, style));
    }
    let toml = found.network.toml();
    if !toml.is_empty() {
        parts.push(format!(
            "{}\n{}",
            style.bold("For bootjackd.toml:"),
            toml.trim_end()
        ));
    }
    parts.push(summary(found));
    parts.join("\n\n")
}

fn summary(found: &Imported) -> String {
    let count = |is_malformed: bool| {
        found
            .left
            .iter()
            .filter(|left| left.is_malformed == is_malformed)
            .count()
    };
    let mut text = format!(
        "{} reservations; {} things not carried over",
        found.wanted.len(),
        count(false)
    );
    match count(true) {
        0 => {}
        1 => text.push_str("; 1 line that cannot be read"),
        n => text.push_str(&format!("; {n} lines that cannot be read")),
    }
    match found.unrelated {
        0 => {}
        1 => text.push_str("; 1 setting that says nothing of reservations"),
        n => text.push_str(&format!("; {n} settings that say nothing of reservations")),
    }
    text
}

fn reservations(wanted: &[Wanted], style: Style, format: Format) -> String {
    let header = [
        "ID", "KNOWN BY", "ADDRESS", "HOSTNAME", "PROFILE", "MORE", "FROM",
    ];
    let rows = wanted.iter().map(|one| {
        let r = &one.reservation;
        let cells = [
            wanted::id(r).to_owned(),
            wanted::known_by(r),
            r.address.clone(),
            r.hostname.clone(),
            r.profile.clone(),
            more(r, format),
            one.place.to_string(),
        ];
        cells
            .map(|cell| {
                if cell.is_empty() {
                    "-".to_owned()
                } else {
                    cell
                }
            })
            .to_vec()
    });
    output::table(style, &header, rows.collect())
}

/// What no column shows: by its name, or whole where there is room.
fn more(r: &bootjack_api::v1::Reservation, format: Format) -> String {
    let shown = ["address", "hostname", "profile"];
    let mut parts = Vec::new();
    for field in fields::FIELDS {
        let value = fields::get(r, field);
        let is_name = field == "mac" || shown.contains(&field);
        if is_name
            || value.is_null()
            || r.mac.is_empty() && value.as_array().is_some_and(|list| list.len() == 1)
        {
            continue;
        }
        parts.push(match (format, &value) {
            (Format::Wide, value) => format!("{field}={value}"),
            (_, Json::Object(map)) => map.keys().cloned().collect::<Vec<_>>().join(" "),
            (_, Json::Array(list)) => format!("{} {field}", list.len()),
            (_, Json::String(text)) => format!("{field}={text}"),
            _ => field.to_owned(),
        });
    }
    parts.join(", ")
}

fn left(left: &[Left], style: Style) -> String {
    let mut lines = vec![style.bold("Not carried over:")];
    for one in left {
        let what = format!("{}: {}", one.place, one.what);
        let what = if one.is_malformed {
            style.red(&what)
        } else {
            what
        };
        let todo = if one.todo.is_empty() {
            String::new()
        } else {
            format!("; {}", one.todo)
        };
        lines.push(format!("  {what}\n    {}{todo}", one.why));
    }
    lines.join("\n")
}

fn as_json(found: &Imported) -> Json {
    let reservations = found.wanted.iter().map(|one| {
        let r = &one.reservation;
        let mut value = json!({ "id": wanted::id(r), "place": one.place.to_string() });
        for field in fields::FIELDS {
            value[field] = fields::get(r, field);
        }
        value
    });
    let left = found.left.iter().map(|one| {
        json!({
            "place": one.place.to_string(),
            "what": one.what,
            "why": one.why,
            "next_step": if one.todo.is_empty() { Json::Null } else { one.todo.as_str().into() },
            "malformed": one.is_malformed,
        })
    });
    json!({
        "reservations": reservations.collect::<Vec<_>>(),
        "not_carried_over": left.collect::<Vec<_>>(),
        "unrelated": found.unrelated,
        "config": found.network.toml(),
    })
}
