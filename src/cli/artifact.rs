//! `bootjackd artifact`: what was typed, and what is said of it. Progress goes to standard error, and results to standard output.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::Output;
use crate::app::{self, artifacts};
use crate::artifact::import::{Order, Progress, import};
use crate::artifact::name::{Digest, Name};
use crate::artifact::store::{Artifacts, Entry};
use crate::config::Config;

#[derive(Args)]
pub(super) struct Artifact {
    /// The configuration file.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "/etc/bootjack/bootjackd.toml"
    )]
    config: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Bring in a kernel, a RAM disk, an image, or a whole installation medium, from a file or a URL.
    ///
    /// The kernels and RAM disks inside an ISO or a netboot tarball become artefacts of their own: NAME/path/in/it.
    Import {
        /// A path or a URL.
        #[arg(required_unless_present = "pinned")]
        source: Option<String>,
        /// What profiles call it; the last part of the source by default.
        #[arg(long, value_name = "NAME")]
        name: Option<Name>,
        /// The digest it must have.
        #[arg(long, value_name = "HEX")]
        sha256: Option<Digest>,
        /// Leave what is inside an ISO or a tarball alone.
        #[arg(long)]
        whole: bool,
        /// Bring in every [[artifact]] of the configuration that is not here yet.
        #[arg(long, conflicts_with_all = ["source", "name", "sha256"])]
        pinned: bool,
    },
    /// List what there is.
    List {
        /// How it is written.
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Read everything anew and hold it against its digest.
    Verify {
        /// All of them by default.
        names: Vec<Name>,
    },
    /// Remove what no profile, no reservation and no configuration names.
    Gc {
        /// Say what would go, and remove nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) fn run(asked: Artifact) -> anyhow::Result<()> {
    let loaded = app::load(&asked.config)?;
    let store = Artifacts::new(&loaded.config.artifacts_dir());
    match asked.verb {
        Verb::Import { pinned: true, .. } => import_pinned(&store, &loaded.config),
        Verb::Import {
            source,
            name,
            sha256,
            whole,
            ..
        } => {
            let source = source.context("no SOURCE")?;
            let name = match name {
                Some(name) => name,
                None => name_of(&source)?,
            };
            let order = Order {
                source,
                name,
                digest: sha256,
                looks_inside: !whole,
            };
            bring(&store, &order)
        }
        Verb::List { output } => list(&store, output),
        Verb::Verify { names } => verify(&store, &names),
        Verb::Gc { dry_run } => collect(&store, loaded, &asked.config, dry_run),
    }
}

/// `debian.iso` of `https://mirror/debian.iso?x`.
fn name_of(source: &str) -> anyhow::Result<Name> {
    let path = source.split(['?', '#']).next().unwrap_or_default();
    let last = path
        .rsplit('/')
        .find(|part| !part.is_empty())
        .unwrap_or_default();
    last.parse()
        .map_err(|error| anyhow::anyhow!("`{last}` is no name: {error}; give one with --name"))
}

fn import_pinned(store: &Artifacts, config: &Config) -> anyhow::Result<()> {
    let mut failed = 0;
    for upstream in &config.artifacts.upstream {
        let found = store.find_whole(&upstream.name).ok().flatten();
        if found.is_some_and(|entry| entry.digest == upstream.digest) {
            println!("{} is here", upstream.name);
            continue;
        }
        let order = Order {
            source: upstream.url.clone(),
            name: upstream.name.clone(),
            digest: Some(upstream.digest),
            looks_inside: false,
        };
        if let Err(error) = bring(store, &order) {
            eprintln!("bootjackd: {error:#}");
            failed += 1;
        }
    }
    anyhow::ensure!(
        failed == 0,
        "artifact: {failed} of {} are not here",
        config.artifacts.upstream.len()
    );
    Ok(())
}

fn bring(store: &Artifacts, order: &Order) -> anyhow::Result<()> {
    let entries = import(store, order, &mut Bar(ProgressBar::hidden())).context("artifact")?;
    for Entry {
        name,
        digest,
        bytes,
        ..
    } in &entries
    {
        println!("{name}  {bytes}  sha256:{digest}");
    }
    Ok(())
}

fn list(store: &Artifacts, output: Output) -> anyhow::Result<()> {
    let entries = store.entries().context("artifact")?;
    if output == Output::Json {
        let all: Vec<serde_json::Value> = (entries.iter())
            .map(|e| json!({"name": e.name.as_str(), "sha256": e.digest.to_string(), "bytes": e.bytes, "source": e.source}))
            .collect();
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    let widest = entries.iter().map(|entry| entry.name.as_str().len()).max();
    let width = widest.unwrap_or_default().max(4);
    println!(
        "{:<width$}  {:>12}  {:<64}  SOURCE",
        "NAME", "BYTES", "SHA256"
    );
    for Entry {
        name,
        digest,
        bytes,
        source,
    } in entries
    {
        println!("{:<width$}  {bytes:>12}  {digest}  {source}", name.as_str());
    }
    Ok(())
}

fn verify(store: &Artifacts, names: &[Name]) -> anyhow::Result<()> {
    let mut entries = store.entries().context("artifact")?;
    if let Some(unknown) = names
        .iter()
        .find(|name| !entries.iter().any(|entry| entry.name == **name))
    {
        anyhow::bail!("artifact: nothing is called {unknown}; see: bootjackd artifact list");
    }
    entries.retain(|entry| names.is_empty() || names.contains(&entry.name));
    let mut failed = 0;
    for entry in &entries {
        let mut bar = Bar(ProgressBar::hidden());
        bar.begins(entry.name.as_str(), Some(entry.bytes));
        let checked = store.verify(&entry.digest, &mut |octets| bar.more(octets));
        match checked.and_then(|()| store.find_whole(&entry.name)) {
            Ok(_) => println!("{} is sound", entry.name),
            Err(error) => {
                println!("{}: {error}", entry.name);
                failed += 1;
            }
        }
    }
    anyhow::ensure!(
        failed == 0,
        "artifact: {failed} of {} are damaged",
        entries.len()
    );
    Ok(())
}

fn collect(
    store: &Artifacts,
    loaded: app::Loaded,
    config: &Path,
    dry_run: bool,
) -> anyhow::Result<()> {
    let _alone = store.hold_alone().context("artifact")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let unwanted = runtime.block_on(artifacts::unwanted(loaded, config))?;
    let (would, did) = if dry_run {
        ("would remove", "would free")
    } else {
        ("removed", "freed")
    };
    if !dry_run {
        artifacts::remove(store, &unwanted)?;
    }
    for entry in &unwanted.names {
        println!("{would} {}", entry.name);
    }
    for (digest, bytes) in &unwanted.contents {
        println!("{would} sha256:{digest}  {bytes}");
    }
    let bytes: u64 = unwanted.contents.iter().map(|(_, bytes)| bytes).sum();
    println!("{did} {bytes} octets");
    Ok(())
}

/// A bar for people; nothing where standard error is no terminal.
struct Bar(ProgressBar);

impl Progress for Bar {
    fn begins(&mut self, what: &str, length: Option<u64>) {
        self.0.finish_and_clear();
        let (bar, form) = match length {
            Some(length) => (
                ProgressBar::new(length),
                "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            ),
            None => (
                ProgressBar::no_length(),
                "{msg} {spinner} {bytes} {bytes_per_sec}",
            ),
        };
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        self.0 = bar;
    }

    fn more(&mut self, octets: u64) {
        self.0.inc(octets);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
