//! `bootjack disk …`: disks of machines, for people and programs.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use clap::ValueEnum as _;
use serde_json::{Value as Json, json};

use crate::cli::{DiskCommand, ExportArgs, Format, SnapshotCommand};
use crate::client::block_on;
use crate::commands::image;
use crate::disk::export::{self, Machine, Wanted};
use crate::disk::qemu_img::Snapshot;
use crate::disk::{self, Info, SnapshotVerb};
use crate::drivers::spec::{Arch, Firmware};
use crate::exit::{Exit, Failure};
use crate::images::{DiskFormat, Store};
use crate::lab::open::LabRef;
use crate::output::{self, Style};
use crate::{lab, labfile};

pub fn run(command: DiskCommand, format: Format) -> Result<(), Failure> {
    block_on(async {
        match command {
            DiskCommand::Create {
                file,
                size,
                format: kept_as,
                image,
                arch,
            } => {
                let store = Store::usual()?;
                match (image, size) {
                    (Some(name), size) => {
                        let base = store.find(&name, arch)?;
                        let base = base.ok_or_else(|| image::none(&name))?;
                        disk::overlay(&store, &base, &file, size).await?;
                        say_made(&file, None, format).await
                    }
                    (None, size) => {
                        let size = size.unwrap_or_default();
                        disk::create(&store, &file, size, kept_as).await?;
                        say_made(&file, Some(kept_as), format).await
                    }
                }
            }
            DiskCommand::Info { file, format: says } => {
                let info = disk::info(&file, says).await?;
                output::answer(format, || as_json(&info), || as_text(&info))
            }
            DiskCommand::Resize {
                file,
                size,
                shrink,
                format: says,
            } => {
                disk::resize(&file, says, size, shrink).await?;
                say_made(&file, says, format).await
            }
            DiskCommand::Export(args) => export(args, format).await,
            DiskCommand::Snapshot { command } => snapshot(command, format).await,
            DiskCommand::Clone {
                file,
                to,
                format: says,
            } => {
                let store = Store::usual()?;
                disk::clone(&store, &file, says, &to).await?;
                say_made(&to, says, format).await
            }
        }
    })
}

/// What is exported, and what a box says of its machine if nothing else was said.
struct Exported {
    disk: PathBuf,
    says: Option<DiskFormat>,
    arch: Option<Arch>,
    machine: Option<labfile::Machine>,
}

impl Exported {
    fn of_lab(lab: &LabRef, name: &str) -> Result<Self, Failure> {
        let opened = lab::open::open(lab)?;
        let machine = opened.lab.vms.iter().find(|machine| machine.name == name);
        let machine = machine.cloned().ok_or_else(|| {
            let names: Vec<&str> = opened.lab.vms.iter().map(|vm| vm.name.as_str()).collect();
            let (lab, names) = (&opened.lab.name, names.join(", "));
            let text = format!("there is no machine {name} in lab {lab}; there are: {names}");
            Failure::new(Exit::NotFound, text)
        })?;
        let disk = opened.paths.vm(name).disk_there();
        if !disk.exists() {
            let text = format!("{name} has no disk yet; start it with: bootjack up {name}");
            return Err(Failure::new(Exit::NotFound, text));
        }
        Ok(Self {
            disk,
            says: None,
            arch: Some(machine.arch),
            machine: Some(machine),
        })
    }

    fn named(store: &Store, args: &ExportArgs) -> Result<Self, Failure> {
        let from = args.from.as_deref().unwrap_or_default();
        let (disk, says, arch) = match store.named(from, args.arch)? {
            Some(image) => (image.path, Some(image.format), image.arch),
            None => (PathBuf::from(from), args.from_format, None),
        };
        Ok(Self {
            disk,
            says,
            arch: args.arch.or(arch),
            machine: None,
        })
    }
}

async fn export(args: ExportArgs, format: Format) -> Result<(), Failure> {
    let store = Store::usual()?;
    let from = match &args.vm {
        Some(name) => Exported::of_lab(&args.lab, name)?,
        None => Exported::named(&store, &args)?,
    };
    let machine = from.machine.as_ref();
    let name = match (args.name, machine) {
        (Some(name), _) => name,
        (None, Some(machine)) => machine.name.clone(),
        (None, None) if args.format.is_box() => image::name_of(&args.to)?,
        (None, None) => String::new(),
    };
    let memory = args
        .memory
        .map(|memory| u32::try_from(memory >> 20).unwrap_or(u32::MAX));
    let wanted = Wanted {
        form: args.format,
        pack: args.pack,
        machine: Machine {
            name,
            arch: from.arch.or_else(Arch::of_host).unwrap_or(Arch::X86_64),
            firmware: (args.firmware.or(machine.map(|m| m.firmware))).unwrap_or(Firmware::Uefi),
            cpus: args.cpus.or(machine.map(|m| m.cpus)).unwrap_or(2),
            memory_mib: memory.or(machine.map(|m| m.memory_mib)).unwrap_or(2048),
            user: args.user,
        },
    };
    export::export(&store, &from.disk, from.says, &args.to, &wanted).await?;
    let metadata = std::fs::metadata(&args.to).map_err(Failure::io("read", &args.to))?;
    let form = args.format.to_possible_value();
    let form = form.as_ref().map_or("", |form| form.get_name());
    output::answer(
        format,
        || json!({ "file": args.to, "format": form, "size_bytes": metadata.len() }),
        || {
            let size = output::size(metadata.len());
            format!("made {}: {form}, {size}", args.to.display())
        },
    )
}

/// What the file is now.
async fn say_made(file: &Path, says: Option<DiskFormat>, format: Format) -> Result<(), Failure> {
    let info = disk::info(file, says).await?;
    output::answer(
        format,
        || as_json(&info),
        || {
            let beneath = info.beneath.first().map_or(String::new(), |beneath| {
                format!(", on top of {}", beneath.display())
            });
            format!(
                "{}: {}, {}{beneath}",
                file.display(),
                info.format,
                output::size(info.virtual_size)
            )
        },
    )
}

async fn snapshot(command: SnapshotCommand, format: Format) -> Result<(), Failure> {
    let (verb, done, file, name) = match command {
        SnapshotCommand::Create { file, name } => (SnapshotVerb::Create, "kept", file, name),
        SnapshotCommand::Apply { file, name } => (SnapshotVerb::Apply, "went back to", file, name),
        SnapshotCommand::Delete { file, name } => (SnapshotVerb::Delete, "forgot", file, name),
        SnapshotCommand::List { file } => {
            let info = disk::info(&file, None).await?;
            let value = || Json::Array(info.snapshots.iter().map(snapshot_as_json).collect());
            return output::answer(format, value, || snapshots_as_text(&info.snapshots));
        }
    };
    disk::snapshot(&file, verb, &name).await?;
    output::answer(
        format,
        || json!({ "file": file, "snapshot": name, "done": done }),
        || format!("{}: {done} {name}", file.display()),
    )
}

fn as_json(info: &Info) -> Json {
    let snapshots: Vec<Json> = info.snapshots.iter().map(snapshot_as_json).collect();
    json!({
        "path": info.path,
        "format": info.format.as_str(),
        "virtual_size_bytes": info.virtual_size,
        "allocated_bytes": info.allocated,
        "beneath": info.beneath,
        "snapshots": snapshots,
        "in_use": info.in_use,
    })
}

fn as_text(info: &Info) -> String {
    let mut lines = vec![
        format!("path        {}", info.path.display()),
        format!("format      {}", info.format),
        format!("size        {}", output::size(info.virtual_size)),
        format!("on disk     {}", output::size(info.allocated)),
    ];
    if info.in_use {
        lines.push("in use      by a machine that runs".to_owned());
    }
    for beneath in &info.beneath {
        lines.push(format!("on top of   {}", beneath.display()));
    }
    if !info.snapshots.is_empty() {
        lines.push(String::new());
        lines.push(snapshots_as_text(&info.snapshots));
    }
    lines.join("\n")
}

fn snapshot_as_json(snapshot: &Snapshot) -> Json {
    json!({
        "name": snapshot.name,
        "made": made(snapshot),
        "memory_bytes": snapshot.memory,
    })
}

fn snapshots_as_text(snapshots: &[Snapshot]) -> String {
    let rows = snapshots.iter().map(|snapshot| {
        vec![
            snapshot.name.clone(),
            made(snapshot),
            output::size(snapshot.memory),
        ]
    });
    let header = ["SNAPSHOT", "MADE", "MEMORY"];
    output::table(Style::stdout(), &header, rows.collect())
}

fn made(snapshot: &Snapshot) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(snapshot.made)).to_string()
}
