//! All of a machine's documents under its profile, as they would be served now; and all machines of a profile. In: a catalog. Out:
//! what is wrong. Secrets are not read: `(secret)` stands for each.

use std::collections::BTreeMap;

use super::boot::{self, Boot};
use super::{Finding, Reader, Severity, document, info, named, network, warning};
use crate::catalog::Catalog;
use crate::http::document::{Asker, Loader, NoDocument};
use crate::model::{Cpu, Document, Firmware, MacAddr, Profile, Reservation, Source, Token, Var};
use crate::render::RenderError;

/// What findings about no document but the profile itself are said of.
const PROFILE: &str = "profile.toml";

/// One finding about a profile, and the machines that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surveyed {
    pub profile: String,
    pub finding: Finding,
    /// Empty where no machine has the profile: it is about a sample.
    pub machines: Vec<String>,
}

/// Everything about the documents of the machine.
pub fn look(catalog: &Catalog, reservation: &Reservation) -> Vec<Finding> {
    let server = server_url(catalog);
    let mut asker = Asker::of(reservation, catalog, &server);
    let Some(profile) = asker.profile else {
        return Vec::new();
    };
    if profile.install.is_some() {
        asker.token = Some(Token([0; 16]));
    }
    let reader = Reader {
        cloud_init: profile.cloud_init,
    };
    let (documents, mut findings) = rendered(&asker, profile);
    for (name, text) in &documents {
        findings.extend(document(name, text, reader));
    }
    if profile
        .documents
        .contains_key(Document::NetworkConfig.name())
    {
        let unread: Vec<_> = network::is_read(reader).into_iter().collect();
        findings.extend(named(Document::NetworkConfig.name(), unread));
    }
    findings.extend(scripts(&asker, profile, &documents, reader));
    findings.extend(of_profile(&asker, profile, &documents));
    findings.sort();
    findings.dedup();
    findings
}

/// The same, as far as it may not be written.
pub fn errors(catalog: &Catalog, reservation: &Reservation) -> Vec<Finding> {
    let mut findings = look(catalog, reservation);
    findings.retain(|finding| finding.severity == Severity::Error);
    findings
}

/// Every machine of these profiles, or a sample where one has none; findings that machines share are said once.
pub fn survey<'a>(
    catalog: &Catalog,
    profiles: impl IntoIterator<Item = &'a Profile>,
) -> Vec<Surveyed> {
    let mut by_profile: BTreeMap<&str, Vec<&Reservation>> = BTreeMap::new();
    for reservation in catalog.reservations(None) {
        if let Some(name) = catalog.profile_name_of(reservation) {
            by_profile.entry(name).or_default().push(reservation);
        }
    }
    let mut surveyed = Vec::new();
    for profile in profiles {
        let mut shared: BTreeMap<Finding, Vec<String>> = BTreeMap::new();
        match by_profile.get(profile.name.as_str()) {
            Some(reservations) => {
                for reservation in reservations {
                    for finding in look(catalog, reservation) {
                        let machines = shared.entry(finding).or_default();
                        machines.push(reservation.title().to_owned());
                    }
                }
            }
            None => {
                let sample = sample(catalog, profile);
                shared.extend((look(catalog, &sample).into_iter()).map(|f| (f, Vec::new())));
            }
        }
        surveyed.extend(shared.into_iter().map(|(finding, machines)| Surveyed {
            profile: profile.name.clone(),
            finding,
            machines,
        }));
    }
    surveyed
}

/// What no machine of the profile of this name could be served.
pub fn broken(catalog: &Catalog, name: &str) -> Vec<Surveyed> {
    let mut surveyed = survey(catalog, catalog.profiles().get(name));
    surveyed
        .retain(|found| found.finding.severity == Severity::Error && !found.machines.is_empty());
    surveyed
}

/// A machine such as there may be.
pub fn sample(catalog: &Catalog, profile: &Profile) -> Reservation {
    let mut sample = Reservation::of("sample".to_owned(), Source::ConfigFile);
    sample.mac = Some(MacAddr([0x52, 0x54, 0, 0, 0, 1]));
    sample.hostname = Some("sample".to_owned());
    sample.address = (catalog.subnets().iter()).find_map(|subnet| {
        subnet
            .cidr
            .hosts()
            .find(|address| subnet.can_be_given(*address))
    });
    sample.profile = Some(profile.name.clone());
    for name in catalog.missing_vars(&sample, profile) {
        let value = match name {
            name if name.contains("url") => "http://192.0.2.1/sample",
            name if name.contains("key") => "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAASAMPLE sample",
            _ => "sample",
        };
        (sample.vars).insert(name.to_owned(), Var::Text(value.to_owned()));
    }
    sample
}

/// The documents that the machine may fetch, and those that could not be made.
fn rendered(asker: &Asker<'_>, profile: &Profile) -> (BTreeMap<String, String>, Vec<Finding>) {
    let fetches_seed = (profile.boot.values())
        .flat_map(|files| &files.args)
        .any(|arg| arg.contains("seed_url"));
    let of_nocloud = Document::NOCLOUD
        .into_iter()
        .filter(|document| fetches_seed && !profile.documents.contains_key(document.name()));
    let own = profile.documents.keys().map(|name| Document::named(name));
    let (mut made, mut findings) = (BTreeMap::new(), Vec::new());
    for document in own.chain(of_nocloud) {
        match asker.document(&document) {
            Ok(text) => {
                made.insert(document.name().to_owned(), text);
            }
            Err(problem) => findings.push(unmade(document.name(), problem)),
        }
    }
    (made, findings)
}

fn scripts(
    asker: &Asker<'_>,
    profile: &Profile,
    documents: &BTreeMap<String, String>,
    reader: Reader,
) -> Vec<Finding> {
    let cpus: Vec<Cpu> = match &profile.script {
        Some(_) => vec![Cpu::X86_64],
        None => profile.boot.keys().copied().collect(),
    };
    let documents_url = asker.documents_url();
    let mut findings = Vec::new();
    for cpu in cpus {
        let firmware = match cpu {
            Cpu::X86_64 | Cpu::I386 => Firmware::Bios,
            _ => Firmware::Uefi,
        };
        if let Err(problem) = asker.boot_script(Loader::Ipxe, cpu, firmware) {
            findings.push(unmade(Loader::Ipxe.document(), problem));
            continue;
        }
        let Ok(Some(args)) = asker.kernel_args(cpu, firmware) else {
            continue;
        };
        let found = boot::line(&Boot {
            args: &args,
            documents,
            documents_url: &documents_url,
            reader,
        });
        findings.extend(named(PROFILE, found));
    }
    findings
}

fn of_profile(
    asker: &Asker<'_>,
    profile: &Profile,
    documents: &BTreeMap<String, String>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(events_url) = asker.events_url()
        && profile.script.is_none()
    {
        let ends = ["done", "webhook", "phone-home"].map(|event| format!("{events_url}{event}"));
        let tells = |text: &String| ends.iter().any(|end| text.contains(end));
        // An installer that is told where call-backs go makes them itself.
        let mut args = profile.boot.values().flat_map(|files| &files.args);
        if !documents.values().any(tells) && !args.any(|arg| arg.contains("events_url")) {
            found.push(warning(
                0,
                "no document tells Bootjack that the installation is done: it runs into its deadline",
                "fetch {{ events_url }}done at the end, or report to {{ events_url }}webhook",
            ));
        }
    }
    if let Some(min_ram) = profile.min_ram {
        found.push(info(
            0,
            format!("the machine needs {min_ram} MiB of memory; builds of iPXE without memsize cannot see that it has them"),
            "look at the machine",
        ));
    }
    named(PROFILE, found)
}

fn unmade(document: &str, problem: NoDocument) -> Finding {
    let (document, line, message) = match problem {
        NoDocument::Unrenderable {
            error:
                RenderError::Template {
                    template,
                    line,
                    problem,
                },
            ..
        } => (template, line, problem),
        other => (document.to_owned(), 0, other.to_string()),
    };
    let next_step = match message.contains("is not defined") {
        true => {
            "say it in vars of the reservation, a group or the profile, or ask `is defined` first"
        }
        false => "correct the template, or the variable it stands on",
    };
    Finding {
        document,
        line,
        severity: Severity::Error,
        message,
        next_step: next_step.to_owned(),
    }
}

/// Where machines will most likely reach the server.
fn server_url(catalog: &Catalog) -> String {
    let router = catalog.subnets().iter().find_map(|subnet| subnet.router);
    router.map_or_else(
        || "http://192.0.2.1".to_owned(),
        |router| format!("http://{router}"),
    )
}
