//! `bootjackd render` and `bootjackd lint`: what was typed, and how the answer is written.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::Output;
use crate::app::{self, Wanted};
use crate::lint::Severity;
use crate::lint::machine::Surveyed;
use crate::model::{Cpu, Firmware};

#[derive(clap::Args)]
pub(super) struct Render {
    /// The configuration file.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/bootjack/bootjackd.toml"
    )]
    config: PathBuf,
    /// Whose: a reservation's id, a host name or a MAC.
    #[arg(long, value_name = "NAME")]
    machine: String,
    /// Which: boot.ipxe, grub.cfg, user-data, meta-data, … or any that the profile names.
    #[arg(long, value_name = "NAME", default_value = "user-data")]
    document: String,
    /// The processor, for boot scripts.
    #[arg(long, value_name = "CPU", default_value = "x86_64", value_parser = cpu)]
    arch: Cpu,
    /// bios or uefi, for boot scripts.
    #[arg(long, value_name = "FIRMWARE", default_value = "uefi", value_parser = firmware)]
    firmware: Firmware,
    /// Read secrets and show them, instead of (secret).
    #[arg(long)]
    show_secrets: bool,
}

#[derive(clap::Args)]
pub(super) struct Lint {
    /// The configuration file.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/bootjack/bootjackd.toml"
    )]
    config: PathBuf,
    /// The profile.
    #[arg(required_unless_present = "all")]
    profile: Option<String>,
    /// Every profile.
    #[arg(long, conflicts_with = "profile")]
    all: bool,
    /// How it is written.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

fn cpu(word: &str) -> Result<Cpu, String> {
    Cpu::named(word).ok_or_else(|| {
        let known = Cpu::ALL.map(Cpu::as_str);
        format!("wanted one of: {}", known.join(", "))
    })
}

fn firmware(word: &str) -> Result<Firmware, String> {
    Firmware::named(word).ok_or_else(|| "wanted bios or uefi".to_owned())
}

/// The document on standard output, and where its variables come from on standard error.
pub(super) fn render(asked: &Render) -> anyhow::Result<()> {
    let loaded = app::load(&asked.config)?;
    let wanted = Wanted {
        machine: asked.machine.clone(),
        document: asked.document.clone(),
        cpu: asked.arch,
        firmware: asked.firmware,
        show_secrets: asked.show_secrets,
    };
    let rendered = runtime()?.block_on(app::render(loaded, &wanted))?;
    let none = "none".to_owned();
    eprintln!("profile      {}", rendered.profile.unwrap_or(none));
    let width = rendered.layers.iter().map(|(name, _)| name.len()).max();
    for (at, (name, layer)) in rendered.layers.iter().enumerate() {
        let heading = if at == 0 { "variables" } else { "" };
        eprintln!(
            "{heading:<12} {name:<0$}  {layer}",
            width.unwrap_or_default()
        );
    }
    if rendered.hides_token {
        eprintln!("token        shown as zeros; passwords are hashed anew for each attempt");
    }
    eprintln!("according to {}", rendered.source);
    print!("{}", rendered.text);
    Ok(())
}

/// A line for each finding; errors make the exit status 1.
pub(super) fn lint(asked: &Lint) -> anyhow::Result<ExitCode> {
    let loaded = app::load(&asked.config)?;
    let found = runtime()?.block_on(app::lint(loaded, asked.profile.as_deref()))?;
    match asked.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&as_json(&found))?),
        Output::Text => print!("{}", as_text(&found)),
    }
    let has_errors = (found.iter()).any(|found| found.finding.severity == Severity::Error);
    Ok(match has_errors {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

fn as_text(found: &[Surveyed]) -> String {
    let places: Vec<String> = (found.iter())
        .map(|found| {
            let (document, line) = (&found.finding.document, found.finding.line);
            match line {
                0 => format!("{}/{document}", found.profile),
                line => format!("{}/{document}:{line}", found.profile),
            }
        })
        .collect();
    let width = places.iter().map(String::len).max().unwrap_or_default();
    let mut text = String::new();
    for (place, found) in places.iter().zip(found) {
        let finding = &found.finding;
        text.push_str(&format!(
            "{place:<width$}  {:<7}  {}; {}{}\n",
            finding.severity,
            finding.message,
            finding.next_step,
            machines(&found.machines)
        ));
    }
    let count = |severity| {
        found
            .iter()
            .filter(|f| f.finding.severity == severity)
            .count()
    };
    text.push_str(&format!(
        "{} errors, {} warnings\n",
        count(Severity::Error),
        count(Severity::Warning)
    ));
    text
}

fn machines(names: &[String]) -> String {
    match names {
        [] => " (a sample machine)".to_owned(),
        [first, second, third, _, ..] => {
            format!(" ({first}, {second}, {third} and {} more)", names.len() - 3)
        }
        few => format!(" ({})", few.join(", ")),
    }
}

fn as_json(found: &[Surveyed]) -> Vec<serde_json::Value> {
    (found.iter())
        .map(|found| {
            json!({
                "profile": found.profile,
                "document": found.finding.document,
                "line": found.finding.line,
                "severity": found.finding.severity.as_str(),
                "message": found.finding.message,
                "next_step": found.finding.next_step,
                "machines": found.machines,
            })
        })
        .collect()
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}
