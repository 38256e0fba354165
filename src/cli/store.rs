//! `bootjackd store`: what was typed, and what is said of it. Results go to standard output, what was done to standard error.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;

use super::Output;
use crate::app;
use crate::catalog::Catalog;
use crate::config::{Backend, Etcd};
use crate::store::care::{self, Part, Saved, Verdict, Verified};
use crate::store::export::Summary;
use crate::store::{Memory, Records, StoreError};

/// Something is damaged, and nothing that was acknowledged is lost.
const EXIT_DAMAGED: u8 = 3;
/// Something that was acknowledged is lost.
const EXIT_LOST: u8 = 4;

#[derive(Args)]
#[command(
    after_help = "Exit status: 0 done or sound, 3 damaged and nothing lost, 4 something that was acknowledged is lost or cannot be read, 2 the command line is wrong, 64 the configuration is wrong, 1 anything else."
)]
pub(super) struct Store {
    /// The configuration file, which says where the store is.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "/etc/bootjack/bootjackd.toml"
    )]
    config: PathBuf,
    /// The store's directory; the configuration is not read then.
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// How results are written.
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Write everything as text: a header, a JSON object a line, and a closing line with a digest.
    ///
    /// A running service is not disturbed: everything that was acknowledged when it began is in it.
    Export {
        /// Where to; standard output by default.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Put an export, or a snapshot, in the place of everything; the service must be stopped.
    ///
    /// The whole file is read and checked first; on any error nothing is changed.
    Import {
        file: PathBuf,
        /// Replace what is there; it is kept beside the store as an export.
        #[arg(long)]
        replace: bool,
    },
    /// Make a copy of the store, in a directory that becomes one. The service may run.
    Backup { dir: PathBuf },
    /// Read everything, and say of each file whether it is sound; change nothing.
    Verify,
    /// Rebuild a database that cannot be used, as a start does; the service must be stopped.
    ///
    /// Where that is impossible, say what would be saved and what would be lost.
    Repair {
        /// Make a store of what is readable, and list what is lost. All files are kept, in a directory beside it.
        #[arg(long)]
        salvage: bool,
    },
}

pub(super) fn run(asked: Store) -> anyhow::Result<ExitCode> {
    let (data_dir, catalog) = match asked.data_dir {
        Some(dir) => (dir, None),
        None => {
            let loaded = app::load(&asked.config)?;
            if let Backend::Etcd(etcd) = &loaded.config.store.backend {
                return Err(kept_in_etcd(&asked.config, etcd));
            }
            (loaded.config.data_dir, Some(loaded.catalog))
        }
    };
    let (dir, output) = (data_dir.as_path(), asked.output);
    match asked.verb {
        Verb::Export { to } => export(dir, to.as_deref(), output),
        Verb::Import { file, replace } => import(dir, &file, replace, catalog, output),
        Verb::Backup { dir: to } => say_copied(&to, &care::backup(dir, &to)?, output),
        Verb::Verify => verify(dir, output),
        Verb::Repair { salvage } => repair(dir, salvage, output),
    }
}

/// The files of this directory would be another store's, or from before it moved.
fn kept_in_etcd(config: &Path, etcd: &Etcd) -> anyhow::Error {
    anyhow::anyhow!(
        "{}: store.backend is \"etcd\" ({}), and bootjackd store is for one on this machine's disk; copy etcd with etcdctl snapshot save, or name the files of an earlier store with --data-dir",
        config.display(),
        etcd.endpoints.join(", ")
    )
}

fn export(dir: &Path, to: Option<&Path>, output: Output) -> anyhow::Result<ExitCode> {
    let Some(to) = to else {
        care::export(dir, BufWriter::new(std::io::stdout().lock()))?;
        return Ok(ExitCode::SUCCESS);
    };
    say_copied(to, &care::export_to(dir, to)?, output)
}

fn say_copied(to: &Path, summary: &Summary, output: Output) -> anyhow::Result<ExitCode> {
    let to = to.display().to_string();
    match output {
        Output::Json => say(&json!({"to": to, "summary": summary}))?,
        Output::Text => println!(
            "{to}: {} records, revision {}; read back and sound",
            summary.records, summary.revision
        ),
    }
    Ok(ExitCode::SUCCESS)
}

fn import(
    dir: &Path,
    file: &Path,
    replace: bool,
    catalog: Option<Catalog>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let place = file.display().to_string();
    let from = File::open(file).with_context(|| format!("cannot read {place}"))?;
    let done = care::import(dir, &place, BufReader::new(from), replace)?;
    let aside = catalog.map_or_else(Vec::new, |catalog| unfit(catalog, &done.records));
    let before = done.before.map(|path| path.display().to_string());
    let counts = (done.records.reservations.len(), done.records.leases.len());
    if output == Output::Json {
        say(&json!({
            "reservations": counts.0,
            "leases": counts.1,
            "machines": done.records.machines.len(),
            "revision": done.records.revision,
            "set_aside": aside,
            "before": before,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{} reservations and {} leases are in {}",
        counts.0,
        counts.1,
        dir.display()
    );
    if let Some(before) = before {
        println!("what was there before is in {before}");
    }
    for reason in aside {
        println!("kept and not followed: {reason}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Why some of the reservations will not be followed under this configuration.
fn unfit(catalog: Catalog, records: &Records) -> Vec<String> {
    let records = Records {
        reservations: records.reservations.clone(),
        ..Records::default()
    };
    let opened = crate::store::Store::open(Box::new(Memory::with(records)), catalog, 0);
    let aside = opened
        .map(|(_, _, opened)| opened.set_aside)
        .unwrap_or_default();
    aside
        .iter()
        .map(|(_, refusal)| refusal.to_string())
        .collect()
}

fn verify(dir: &Path, output: Output) -> anyhow::Result<ExitCode> {
    let Verified {
        parts,
        verdict,
        problems,
    } = care::verify(dir)?;
    let (word, status) = match verdict {
        Verdict::Sound => ("sound", ExitCode::SUCCESS),
        Verdict::Whole => ("damaged, and nothing is lost", EXIT_DAMAGED.into()),
        Verdict::Lost => ("lost", EXIT_LOST.into()),
    };
    if output == Output::Json {
        let parts: Vec<serde_json::Value> = (parts.iter())
            .map(|part| {
                json!({
                    "file": part.name,
                    "bytes": part.bytes,
                    "records": part.records,
                    "state": state_of(part),
                    "problem": part.problem.as_ref().or(part.skipped.as_ref()),
                })
            })
            .collect();
        say(&json!({"verdict": word, "files": parts, "problems": problems}))?;
        return Ok(status);
    }
    println!("{:<20} {:>12} {:>9}  STATE", "FILE", "BYTES", "RECORDS");
    for part in &parts {
        let why = part.problem.as_ref().or(part.skipped.as_ref());
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        let (name, state) = (&part.name, state_of(part));
        println!(
            "{name:<20} {:>12} {:>9}  {state}{why}",
            part.bytes, part.records
        );
    }
    println!("{} is {word}", dir.display());
    problems.iter().for_each(|problem| println!("{problem}"));
    if verdict != Verdict::Sound {
        println!("next: stop bootjackd, and bootjackd store repair");
    }
    Ok(status)
}

fn state_of(part: &Part) -> &'static str {
    match (&part.problem, &part.skipped) {
        (Some(_), _) => "damaged",
        (None, Some(_)) => "not read",
        (None, None) => "sound",
    }
}

fn repair(dir: &Path, salvage: bool, output: Output) -> anyhow::Result<ExitCode> {
    let place = dir.display();
    let why = match care::repair(dir) {
        Ok(rebuilt) => {
            match (output, rebuilt) {
                (Output::Json, rebuilt) => say(&json!({"rebuilt": rebuilt, "lost": []}))?,
                (Output::Text, None) => println!("{place} is sound; there was nothing to do"),
                (Output::Text, Some(rebuilt)) => println!("{place}: {rebuilt}"),
            }
            return Ok(ExitCode::SUCCESS);
        }
        Err(locked @ StoreError::Locked(_)) => return Err(locked.into()),
        Err(error) => error.to_string(),
    };
    let saved = care::salvage(dir, salvage)?;
    if output == Output::Json {
        let aside = saved.aside.as_ref().map(|path| path.display().to_string());
        let Saved {
            sources,
            lost,
            records,
            ..
        } = saved;
        say(&json!({
            "problem": why, "sources": sources, "records": records, "lost": lost, "aside": aside,
        }))?;
        return Ok(EXIT_LOST.into());
    }
    println!("{why}");
    let from = match saved.sources.as_slice() {
        [] => "nothing".to_owned(),
        sources => sources.join(", "),
    };
    println!("{} records are readable, from {from}", saved.records);
    saved.lost.iter().for_each(|lost| println!("lost: {lost}"));
    match &saved.aside {
        Some(aside) => println!(
            "a store was made of them; all files are kept in {}",
            aside.display()
        ),
        None => println!(
            "nothing was changed; to go on with what is readable: bootjackd store repair --salvage"
        ),
    }
    Ok(EXIT_LOST.into())
}

fn say(value: &serde_json::Value) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}
