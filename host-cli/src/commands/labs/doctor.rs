//! `bootjack doctor`: what a lab needs of this computer, found or not, with the way to get it; and what is left of labs that
//! ended badly. It changes nothing.

use std::path::Path;

use serde_json::{Value, json};

use super::leftovers;
use crate::cli::{At, Format};
use crate::drivers::spec::Arch;
use crate::drivers::{self, Driver};
use crate::exit::{Exit, Failure};
use crate::host::{self, ArchFacts, Kvm};
use crate::lab::open::{self, Opened};
use crate::lab::paths::Bases;
use crate::lab::plan;
use crate::labfile::{NetworkKind, ProvisionerKind};
use crate::output::{self, Style};

/// How a finding is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    Good,
    /// It works, and could be better; or somebody may want to know.
    Note,
    /// This lab cannot be brought up.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub grade: Grade,
    pub what: String,
    pub found: String,
    /// What to do about it; empty for nothing.
    pub next: String,
}

impl Finding {
    pub fn new(
        grade: Grade,
        what: &str,
        found: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self {
            grade,
            what: what.to_owned(),
            found: found.into(),
            next: next.into(),
        }
    }

    fn as_json(&self) -> Value {
        let grade = match self.grade {
            Grade::Good => "good",
            Grade::Note => "note",
            Grade::Bad => "bad",
        };
        let next = Some(&self.next).filter(|next| !next.is_empty());
        json!({ "grade": grade, "what": self.what, "found": self.found, "next_step": next })
    }
}

/// Looks at everything. Without a lab file, at what any lab needs.
pub fn run(at: &At) -> Result<(), Failure> {
    let opened = match open::open(&at.lab) {
        Ok(opened) => Some(opened),
        Err(failure) if failure.exit == Exit::NotFound && at.lab.file.is_none() => None,
        Err(failure) => return Err(failure),
    };
    let findings = super::runtime()?.block_on(look(opened.as_ref()));
    say(&findings, at.format())?;
    match findings
        .iter()
        .filter(|finding| finding.grade == Grade::Bad)
        .count()
    {
        0 => Ok(()),
        // They were shown.
        _ => Err(Failure::new(Exit::Missing, "")),
    }
}

async fn look(opened: Option<&Opened>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let arches = match opened {
        Some(opened) => plan::arches(&opened.lab),
        None => Arch::of_host().into_iter().collect(),
    };
    for arch in arches {
        machines(&host::look(arch, true).await, &mut findings);
    }
    for (program, package) in [
        (
            "ssh",
            "openssh-client (Debian, Ubuntu), openssh-clients (Fedora)",
        ),
        (
            "ssh-keygen",
            "openssh-client (Debian, Ubuntu), openssh-clients (Fedora)",
        ),
        (
            "qemu-img",
            "qemu-utils (Debian, Ubuntu), qemu-img (Fedora), qemu (Homebrew)",
        ),
        (
            "zstd",
            "zstd; a frozen provisioner takes five times the room without it",
        ),
    ] {
        // Without this one it is only worse.
        let grade = if program == "zstd" {
            Grade::Note
        } else {
            Grade::Bad
        };
        findings.push(match host::find_program(program) {
            Some(file) => Finding::new(Grade::Good, program, file.display().to_string(), ""),
            None => Finding::new(grade, program, "not found", format!("install {package}")),
        });
    }
    let bases = Bases::of_environment();
    directories(&bases, &mut findings);
    if let Some(opened) = opened {
        network(opened, &mut findings);
    }
    findings.extend(leftovers::look(&bases));
    findings
}

/// What machines of one processor are run by.
fn machines(facts: &ArchFacts, findings: &mut Vec<Finding>) {
    let arch = facts.arch.as_str();
    let qemu = facts.arch.qemu();
    findings.push(match &facts.qemu {
        Some(file) => Finding::new(Grade::Good, qemu, file.display().to_string(), ""),
        None => Finding::new(
            Grade::Bad,
            qemu,
            "not found",
            "install qemu-system-x86 or qemu-system-arm (Debian, Ubuntu), qemu (Homebrew)",
        ),
    });
    let native = if cfg!(target_os = "macos") {
        Driver::QemuHvf
    } else {
        Driver::QemuKvm
    };
    let what = format!("{arch} by {}", native.as_str());
    findings.push(match &facts.native {
        Kvm::Works => Finding::new(
            Grade::Good,
            &what,
            "a test guest ran at the speed of a processor",
            "",
        ),
        Kvm::No(reason) => Finding::new(
            Grade::Note,
            &what,
            reason.as_str(),
            "machines are emulated, which is slow and works",
        ),
        Kvm::NotTried => Finding::new(Grade::Note, &what, "not tried", ""),
    });
    let what = format!("{arch} UEFI firmware");
    findings.push(match &facts.uefi {
        Some((code, _)) => Finding::new(Grade::Good, &what, code.display().to_string(), ""),
        None => Finding::new(
            Grade::Bad,
            &what,
            "not found",
            "install ovmf or qemu-efi-aarch64 (Debian, Ubuntu), edk2-ovmf or edk2-aarch64 (Fedora)",
        ),
    });
    if facts.arch == Arch::X86_64 {
        findings.push(match &facts.rom {
            Some(rom) => Finding::new(Grade::Good, "BIOS network boot", rom.display().to_string(), ""),
            None => Finding::new(Grade::Note, "BIOS network boot", "no pxe-virtio.rom", "install ipxe-qemu (Debian, Ubuntu), ipxe-roms-qemu (Fedora); UEFI machines do without"),
        });
    }
}

fn directories(bases: &Bases, findings: &mut Vec<Finding>) {
    let socket = bases.lab("x").vm("x").monitor;
    findings.push(Finding::new(
        Grade::Good,
        "sockets",
        format!(
            "{} ({} of 103 octets)",
            bases.run.display(),
            socket.as_os_str().len()
        ),
        "",
    ));
    for (what, dir) in [("labs", bases.labs()), ("images", bases.images())] {
        let there = dir
            .ancestors()
            .find(|dir| dir.exists())
            .unwrap_or(Path::new("/"));
        let shown = dir.display().to_string();
        findings.push(match crate::files::free(there) {
            Some(free) if free < 4 << 30 => Finding::new(
                Grade::Note,
                what,
                format!("{shown}: {} free", output::size(free)),
                "machines' disks grow as they are written to; make room",
            ),
            Some(free) => Finding::new(
                Grade::Good,
                what,
                format!("{shown}: {} free", output::size(free)),
                "",
            ),
            None => Finding::new(Grade::Note, what, shown, ""),
        });
    }
}

fn network(opened: &Opened, findings: &mut Vec<Finding>) {
    match &opened.lab.network.kind {
        NetworkKind::Switch => {}
        NetworkKind::Bridge { name } => {
            let dir = Path::new("/sys/class/net").join(name).join("bridge");
            findings.push(match dir.is_dir() {
                true => Finding::new(Grade::Good, "bridge", name.as_str(), ""),
                false => Finding::new(
                    Grade::Bad,
                    "bridge",
                    format!("there is no bridge {name}"),
                    format!("make it: sudo ip link add {name} type bridge && sudo ip link set {name} up"),
                ),
            });
            let allowed = std::fs::read_to_string("/etc/qemu/bridge.conf").unwrap_or_default();
            let is_allowed = allowed.lines().any(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                words == ["allow", name.as_str()] || words == ["allow", "all"]
            });
            findings.push(match is_allowed {
                true => Finding::new(Grade::Good, "bridge helper", "/etc/qemu/bridge.conf allows it", ""),
                false => Finding::new(
                    Grade::Bad,
                    "bridge helper",
                    format!("/etc/qemu/bridge.conf does not allow {name}"),
                    format!("add to it: allow {name}; and for users who are not root: sudo chmod u+s qemu-bridge-helper"),
                ),
            });
        }
        NetworkKind::SocketVmnet { socket } => findings.push(match socket.exists() {
            true => Finding::new(Grade::Good, "socket_vmnet", socket.display().to_string(), ""),
            false => Finding::new(
                Grade::Bad,
                "socket_vmnet",
                format!("nothing at {}", socket.display()),
                "start it in host mode, without its own DHCP; or use kind = \"switch\", which needs no root",
            ),
        }),
    }
    if opened.lab.provisioner.kind == ProvisionerKind::Namespace {
        findings.push(match crate::namespace::possible() {
            Ok(how) => Finding::new(Grade::Good, "network namespace", how, ""),
            Err(failure) => Finding::new(Grade::Bad, "network namespace", failure.message, ""),
        });
    }
}

fn say(findings: &[Finding], format: Format) -> Result<(), Failure> {
    if format.is_for_programs() {
        let drivers: Vec<Value> = drivers::table()
            .into_iter()
            .map(|(what, can)| {
                let can = Driver::ALL.iter().zip(can);
                let can: serde_json::Map<String, Value> = can
                    .map(|(driver, can)| (driver.as_str().to_owned(), can.into()))
                    .collect();
                json!({ "capability": what, "drivers": can })
            })
            .collect();
        let findings: Vec<Value> = findings.iter().map(Finding::as_json).collect();
        return output::say_value(format, &json!({ "findings": findings, "drivers": drivers }));
    }
    let style = Style::stdout();
    for finding in findings {
        let mark = match finding.grade {
            Grade::Good => style.green("ok  "),
            Grade::Note => style.cyan("note"),
            Grade::Bad => style.red("bad "),
        };
        let next = match finding.next.as_str() {
            "" => String::new(),
            next => format!("; {next}"),
        };
        output::say(&format!(
            "{mark}  {:<24}  {}{next}",
            finding.what, finding.found
        ))?;
    }
    if format == Format::Wide {
        let mut header = vec!["DRIVER CAN"];
        header.extend(Driver::ALL.map(Driver::as_str));
        let rows = drivers::table().into_iter().map(|(what, can)| {
            let cells = can.map(|can| if can { "yes" } else { "no" }.to_owned());
            [vec![what.to_owned()], cells.to_vec()].concat()
        });
        output::say(&output::table(style, &header, rows.collect()))?;
    }
    Ok(())
}
