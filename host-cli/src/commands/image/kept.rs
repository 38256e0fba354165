//! `bootjack image list|show|import|verify|rm|prune`: the store of images, for people and programs.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value as Json, json};

use crate::cli::{Format, ImportImageArgs, KeptCommand};
use crate::client::block_on;
use crate::drivers::spec::Arch;
use crate::exit::{Exit, Failure};
use crate::images::progress::Progress;
use crate::images::store::check_name;
use crate::images::{Facts, Image, Store, import};
use crate::output::{self, Style, or_dash};

pub fn run(command: KeptCommand, format: Format) -> Result<(), Failure> {
    let store = Store::usual()?;
    match command {
        KeptCommand::List { available: true } => super::pull::available(&store, format),
        KeptCommand::List { available: false } => list(&store, format),
        KeptCommand::Pull(args) => super::pull::run(&store, args, format),
        KeptCommand::Show { name, arch } => {
            let image = store.find(&name, arch)?.ok_or_else(|| none(&name))?;
            show(&store, &image, format)
        }
        KeptCommand::Import(args) => import(&store, args, format),
        KeptCommand::Verify { names } => verify(&store, &names, format),
        KeptCommand::Rm { names, arch } => remove(&store, &names, arch, format),
        KeptCommand::Prune => prune(&store, format),
    }
}

/// The failure to find one.
pub fn none(name: &str) -> Failure {
    let text = format!(
        "there is no image {name}; see what is here with: bootjack image list, and get one with: bootjack image pull, or import"
    );
    Failure::new(Exit::NotFound, text)
}

fn list(store: &Store, format: Format) -> Result<(), Failure> {
    let images = store.list()?;
    let value = || Json::Array(images.iter().map(as_json).collect());
    output::answer(format, value, || {
        let rows = images
            .iter()
            .map(|image| row(image, format == Format::Wide));
        let mut header = vec![
            "NAME", "ARCH", "FORMAT", "SIZE", "DISK", "VERIFIED", "ADDED",
        ];
        if format == Format::Wide {
            header.extend(["SHA256", "ORIGIN"]);
        }
        output::table(Style::stdout(), &header, rows.collect())
    })
}

fn row(image: &Image, wide: bool) -> Vec<String> {
    let Some(entry) = &image.entry else {
        return Vec::new();
    };
    let verified = entry.verified.as_deref().and_then(|v| v.split(':').next());
    let mut row = vec![
        entry.name.clone(),
        or_dash(entry.arch.as_deref().unwrap_or_default()).to_owned(),
        entry.format.to_string(),
        output::size(entry.virtual_size),
        output::size(entry.size),
        verified.unwrap_or("-").to_owned(),
        added(entry.added),
    ];
    if wide {
        row.extend([entry.sha256.clone(), entry.origin.clone()]);
    }
    row
}

fn added(secs: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(secs)).to_string()
}

/// One image for programs: every key always, null for none.
pub fn as_json(image: &Image) -> Json {
    let entry = image.entry.as_ref();
    json!({
        "name": entry.map(|entry| &entry.name),
        "arch": image.arch.map(Arch::as_str),
        "path": image.path,
        "format": image.format.as_str(),
        "virtual_size_bytes": image.virtual_size,
        "size_bytes": entry.map(|entry| entry.size),
        "sha256": entry.map(|entry| &entry.sha256),
        "verified": entry.and_then(|entry| entry.verified.as_ref()),
        "origin": entry.map(|entry| &entry.origin),
        "boot": entry.map(|entry| &entry.boot),
        "cloud_init": entry.and_then(|entry| entry.cloud_init),
        "added": entry.map(|entry| added(entry.added)),
    })
}

fn show(store: &Store, image: &Image, format: Format) -> Result<(), Failure> {
    let disks = store.disks_on(image)?;
    let value = || {
        let mut value = as_json(image);
        value["disks"] = json!(disks);
        value
    };
    output::answer(format, value, || {
        let mut rows = vec![
            ("path", image.path.display().to_string()),
            ("format", image.format.to_string()),
            ("size", output::size(image.virtual_size)),
            ("arch", image.arch.map_or("-", Arch::as_str).to_owned()),
        ];
        if let Some(entry) = &image.entry {
            let cloud_init = match entry.cloud_init {
                Some(true) => "yes",
                Some(false) => "no",
                None => "-",
            };
            rows.insert(0, ("name", entry.name.clone()));
            rows.extend([
                ("on disk", output::size(entry.size)),
                ("sha256", entry.sha256.clone()),
                (
                    "verified",
                    or_dash(entry.verified.as_deref().unwrap_or_default()).to_owned(),
                ),
                ("origin", entry.origin.clone()),
                ("boots from", or_dash(&entry.boot.join(", ")).to_owned()),
                ("cloud-init", cloud_init.to_owned()),
                ("added", added(entry.added)),
            ]);
        }
        for disk in &disks {
            rows.push(("beneath", disk.display().to_string()));
        }
        let lines = rows.iter().map(|(what, text)| format!("{what:<12}{text}"));
        lines.collect::<Vec<_>>().join("\n")
    })
}

fn import(store: &Store, args: ImportImageArgs, format: Format) -> Result<(), Failure> {
    let name = match args.name {
        Some(name) => name,
        None => name_of(&args.file)?,
    };
    let path = (args.file.canonicalize()).unwrap_or_else(|_| args.file.clone());
    let facts = Facts {
        name,
        arch: args.arch,
        origin: path.display().to_string(),
        verified: None,
        boot: Vec::new(),
        cloud_init: None,
        replace: args.replace,
    };
    let image = block_on(import::file(
        store,
        &args.file,
        args.format,
        args.member.as_deref(),
        facts,
    ))?;
    say_new("imported", &image, format)
}

/// What was got, in a line.
pub fn say_new(verb: &str, image: &Image, format: Format) -> Result<(), Failure> {
    output::answer(
        format,
        || as_json(image),
        || {
            let title = image
                .entry
                .as_ref()
                .map_or(String::new(), |entry| entry.title());
            format!(
                "{verb} {title}: {}, {}, sha256 {}",
                image.format,
                output::size(image.virtual_size),
                image.entry.as_ref().map_or("-", |entry| &entry.sha256)
            )
        },
    )
}

/// The file's, up to its ending.
pub fn name_of(path: &Path) -> Result<String, Failure> {
    let name = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    match check_name(&name) {
        Ok(()) => Ok(name),
        Err(problem) => {
            let text = format!("{problem}; give one with --name");
            Err(Failure::new(Exit::Usage, text))
        }
    }
}

fn verify(store: &Store, names: &[String], format: Format) -> Result<(), Failure> {
    let mut images = store.list()?;
    let has = |image: &Image, name: &str| image.entry.as_ref().is_some_and(|e| e.name == name);
    if !names.is_empty() {
        for name in names {
            if !images.iter().any(|image| has(image, name)) {
                return Err(none(name));
            }
        }
        images.retain(|image| names.iter().any(|name| has(image, name)));
    }
    let mut failures = Vec::new();
    for image in &images {
        let Some(entry) = &image.entry else { continue };
        let progress = Progress::octets(&entry.title(), Some(entry.size));
        let verified = store.verify(image, |read| progress.advance(read));
        drop(progress);
        match verified {
            Ok(()) => output::say_one_of_many(
                format,
                || json!({ "verified": entry.name, "arch": entry.arch, "sha256": entry.sha256 }),
                || format!("{}: whole", entry.title()),
            )?,
            Err(failure) => failures.push(failure),
        }
    }
    Failure::of_many(failures)
}

fn remove(
    store: &Store,
    names: &[String],
    arch: Option<Arch>,
    format: Format,
) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for name in names {
        let image = store.named(name, arch)?.ok_or_else(|| none(name));
        match image.and_then(|image| store.remove(&image)) {
            Ok(freed) => output::say_one_of_many(
                format,
                || json!({ "removed": name, "freed_bytes": freed }),
                || format!("removed {name}: {} freed", output::size(freed)),
            )?,
            Err(failure) => failures.push(failure),
        }
    }
    Failure::of_many(failures)
}

fn prune(store: &Store, format: Format) -> Result<(), Failure> {
    let pruned = store.prune()?;
    output::answer(
        format,
        || json!({ "removed": pruned.files, "freed_bytes": pruned.bytes }),
        || match pruned.files.len() {
            0 => "nothing to remove".to_owned(),
            1 => format!("removed 1 file: {} freed", output::size(pruned.bytes)),
            many => format!("removed {many} files: {} freed", output::size(pruned.bytes)),
        },
    )
}
