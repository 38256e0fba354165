//! What is made for one machine: its boot script and its documents. In: the catalog, the machine, and where the server is seen.
//! Out: text, or why there is none. Touches nothing else.

use std::collections::BTreeMap;
use std::fmt;

use minijinja::{Value, context};
use thiserror::Error;
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::lifecycle;
use crate::model::{
    BootFiles, Cpu, Document, Firmware, HIDDEN, LocalBoot, MacAddr, Profile, Reservation,
    SecretRef, Token, Var, Vars, Verdict, Why,
};
use crate::render::{self, RenderError};

const BOOT_SCRIPT: &str = include_str!("../../ipxe/boot.ipxe.j2");
const LOCAL_SCRIPT: &str = include_str!("../../ipxe/local.ipxe.j2");
const UNFIT_SCRIPT: &str = include_str!("../../ipxe/unfit.ipxe.j2");

/// cloud-init raises on missing meta-data or user-data and retries for ten seconds on each other one that is missing: what the
/// profile leaves out is answered with these.
const META_DATA: &str = "instance-id: {{ machine.instance_id }}\n\
    {% if machine.hostname %}local-hostname: {{ machine.hostname|yaml }}\n{% endif %}";
const USER_DATA: &str = "#cloud-config\n\
    {% if ssh_key is defined and ssh_key %}ssh_authorized_keys:\n  - {{ ssh_key|yaml }}\n{% else %}{}\n{% endif %}";
const VENDOR_DATA: &str = "#cloud-config\n{}\n";
/// Matched by MAC: no name pattern fits every card.
const NETWORK_CONFIG: &str = "\
version: 2
ethernets:
  boot:
    match:
{% if machine.mac %}
      macaddress: {{ machine.mac|yaml }}
{% else %}
      name: \"e*\"
{% endif %}
    dhcp4: true
";

/// Any number serves, as long as it never changes.
const INSTANCE_NAMESPACE: Uuid = Uuid::from_u128(0x0f6c_1d5e_7d0b_4f0e_9a53_b007_1ac4_0001);

/// Why a machine gets no document.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoDocument {
    #[error("no reservation for {0}")]
    UnknownMachine(String),
    #[error("{machine} has no document {document}")]
    NoSuchDocument { machine: String, document: String },
    #[error("{document} for {machine}: {error}")]
    Unrenderable {
        machine: String,
        document: String,
        error: RenderError,
    },
}

/// The values of secrets, by the places they were read from. Never shown.
#[derive(Clone, Default)]
pub struct Secrets(pub BTreeMap<SecretRef, String>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// What a file is to a machine that boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootFile {
    Kernel,
    Initrd,
}

/// One machine and the place it asks from.
#[derive(Clone, Debug)]
pub struct Asker<'a> {
    pub reservation: &'a Reservation,
    pub profile: Option<&'a Profile>,
    pub catalog: &'a Catalog,
    /// `http://198.18.0.1`, as the machine reaches the server.
    pub server_url: &'a str,
    /// Of the attempt that everything is made for; none where the profile installs nothing.
    pub token: Option<Token>,
    /// Those that are not here are shown as `(secret)`.
    pub secrets: Secrets,
}

impl<'a> Asker<'a> {
    /// The machine with this MAC, if it is known; one that is reserved without any goes by its reservation's id.
    pub fn find(
        catalog: &'a Catalog,
        machine: &str,
        server_url: &'a str,
    ) -> Result<Self, NoDocument> {
        let reservation = match machine.parse::<MacAddr>() {
            Ok(mac) => {
                (catalog.by_mac(mac)).ok_or_else(|| NoDocument::UnknownMachine(mac.to_string()))?
            }
            Err(_) => (catalog.by_id(machine))
                .filter(|reservation| reservation.macs().next().is_none())
                .ok_or_else(|| NoDocument::UnknownMachine(machine.to_owned()))?,
        };
        Ok(Self::of(reservation, catalog, server_url))
    }

    /// The machine of this reservation.
    pub fn of(reservation: &'a Reservation, catalog: &'a Catalog, server_url: &'a str) -> Self {
        Self {
            reservation,
            profile: catalog.profile_of(reservation),
            catalog,
            server_url,
            token: None,
            secrets: Secrets::default(),
        }
    }

    /// The same machine, as it is served under this verdict: in rescue it has another profile.
    pub fn under(mut self, verdict: Verdict) -> Self {
        if verdict == Verdict::Rescue {
            self.profile = self.catalog.rescue_profile();
        }
        self
    }

    /// Every secret that a document of the machine may need.
    pub fn secret_refs(&self) -> Vec<SecretRef> {
        let defaults = self.profile.map(|profile| &profile.vars);
        let vars = defaults.into_iter().chain([&self.reservation.vars]);
        vars.flat_map(|vars| vars.values().flat_map(Var::secrets))
            .collect()
    }

    /// The machine's boot script for iPXE: what its profile boots, or else its own disk.
    pub fn boot_script(&self, cpu: Cpu, firmware: Firmware) -> Result<String, NoDocument> {
        let script = match self.profile {
            Some(profile) if !profile.boot.is_empty() => match profile.boot.get(&cpu) {
                Some(files) => self.network_script(profile, files, cpu, firmware),
                None => {
                    let values = context! {
                        title => self.reservation.title(),
                        profile => profile.name.clone(),
                        arch => cpu.as_str(),
                    };
                    render::render_text("boot.ipxe", UNFIT_SCRIPT, &values)
                }
            },
            _ => return self.local_script(Why::NothingToBoot, firmware),
        };
        script.map_err(|error| self.unrenderable("boot.ipxe", error))
    }

    /// The script that sends the machine to its own disk, as its firmware does it unless somebody says otherwise.
    pub fn local_script(&self, why: Why, firmware: Firmware) -> Result<String, NoDocument> {
        let usual = match firmware {
            Firmware::Bios => LocalBoot::Sanboot,
            // UEFI 2.10 §3.1: the boot manager goes on to the next entry of BootOrder.
            Firmware::Uefi => LocalBoot::Exit,
        };
        let how = lifecycle::local_boot(self.reservation, self.profile).unwrap_or(usual);
        let values = context! {
            title => self.reservation.title(),
            why => why.text(),
            how => how.as_str(),
        };
        render::render_text("boot.ipxe", LOCAL_SCRIPT, &values)
            .map_err(|error| self.unrenderable("boot.ipxe", error))
    }

    /// Every file below `http.files` that the machine's profile boots, on whatever processor.
    pub fn boot_files(&self) -> Vec<(BootFile, String)> {
        let Some(profile) = self.profile else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for ((cpu, files), firmware) in (profile.boot.iter())
            .flat_map(|boot| [Firmware::Bios, Firmware::Uefi].map(|firmware| (boot, firmware)))
        {
            let values = self.values(Some((*cpu, firmware)));
            let kernel = std::iter::once((BootFile::Kernel, &files.kernel));
            let initrds = files.initrd.iter().map(|source| (BootFile::Initrd, source));
            for (which, source) in kernel.chain(initrds) {
                // One that cannot be made is not served either.
                let path = render::render_text("file", source, &values).unwrap_or_default();
                let is_ours = !path.is_empty() && !path.contains("://");
                let entry = (which, path.trim_start_matches('/').to_owned());
                if is_ours && !found.contains(&entry) {
                    found.push(entry);
                }
            }
        }
        found
    }

    fn network_script(
        &self,
        profile: &Profile,
        files: &BootFiles,
        cpu: Cpu,
        firmware: Firmware,
    ) -> Result<String, RenderError> {
        let values = self.values(Some((cpu, firmware)));
        let word = |what: &str, source: &str| {
            let text = render::render_text(&format!("{}/{what}", profile.name), source, &values)?;
            check_word(profile, what, text)
        };
        let url = |what: &str, source: &str| {
            let path = word(what, source)?;
            Ok(if path.contains("://") {
                path
            } else {
                format!("{}{}", self.files_url(), path.trim_start_matches('/'))
            })
        };
        let initrds = (files.initrd.iter())
            .map(|source| url("initrd", source))
            .collect::<Result<Vec<String>, RenderError>>()?;
        let mut args = (files.args.iter())
            .map(|source| word("args", source))
            .collect::<Result<Vec<String>, RenderError>>()?;
        if firmware == Firmware::Uefi {
            // iPXE before 2.0 leaves it to the kernel's EFI stub to fetch the initrds, by the names they have in iPXE.
            args.splice(
                0..0,
                (0..initrds.len()).map(|n| format!("initrd=initrd{n}")),
            );
        }
        let values = context! {
            title => self.reservation.title(),
            profile => profile.name.clone(),
            arch => cpu.as_str(),
            firmware => firmware.as_str(),
            kernel => context! { url => url("kernel", &files.kernel)?, args => args },
            initrds => initrds,
            events_url => self.events_url(),
        };
        render::render_text("boot.ipxe", BOOT_SCRIPT, &values)
    }

    /// One of the machine's documents. The four of NoCloud are there for every machine.
    pub fn document(&self, document: &Document) -> Result<String, NoDocument> {
        let template = self
            .profile
            .and_then(|profile| Some((profile, profile.documents.get(document.name())?)));
        let values = self.values(None);
        let rendered = match (template, document) {
            (Some((profile, file)), _) => render::render(&profile.templates, file, &values),
            (None, Document::MetaData) => render::render_text("meta-data", META_DATA, &values),
            (None, Document::UserData) => render::render_text("user-data", USER_DATA, &values),
            (None, Document::VendorData) => Ok(VENDOR_DATA.to_owned()),
            (None, Document::NetworkConfig) => {
                render::render_text("network-config", NETWORK_CONFIG, &values)
            }
            (None, Document::Other(name)) => {
                return Err(NoDocument::NoSuchDocument {
                    machine: self.reservation.title().to_owned(),
                    document: name.clone(),
                });
            }
        };
        rendered.map_err(|error| self.unrenderable(document.name(), error))
    }

    /// Everything a template may name: the profile's variables, over them the machine's own, over them what we give.
    fn values(&self, platform: Option<(Cpu, Firmware)>) -> Value {
        let reservation = self.reservation;
        let defaults = self.profile.map(|profile| &profile.vars);
        let mut values: BTreeMap<&str, Value> = defaults
            .into_iter()
            .flatten()
            .chain(&reservation.vars)
            .map(|(name, var)| (name.as_str(), self.value_of(var)))
            .collect();
        let subnet = reservation.address.and_then(|a| self.catalog.subnet_of(a));
        values.insert(
            "machine",
            context! {
                id => reservation.id.clone(),
                mac => reservation.macs().next().map(|mac| mac.to_string()),
                address => reservation.address.map(|a| a.to_string()),
                hostname => reservation.hostname.clone(),
                profile => reservation.profile.clone(),
                instance_id => instance_id(reservation),
                attempt => self.attempt(),
            },
        );
        values.insert(
            "subnet",
            subnet.map_or(Value::from(()), |subnet| {
                context! {
                    cidr => subnet.cidr.to_string(),
                    prefix => subnet.cidr.prefix_len(),
                    netmask => subnet.cidr.netmask().to_string(),
                    router => subnet.router.map(|a| a.to_string()),
                    dns => subnet.dns.iter().map(|a| a.to_string()).collect::<Vec<_>>(),
                    domain => subnet.domain.clone(),
                }
            }),
        );
        values.insert("server_url", Value::from(self.server_url));
        values.insert("seed_url", Value::from(self.seed_url()));
        values.insert("files_url", Value::from(self.files_url()));
        values.insert("documents_url", Value::from(self.documents_url()));
        values.insert("events_url", Value::from(self.events_url()));
        if let Some((cpu, firmware)) = platform {
            values.insert("arch", Value::from(cpu.as_str()));
            values.insert("firmware", Value::from(firmware.as_str()));
        }
        Value::from_pairs(values)
    }

    /// Where everything of the machine is: below its attempt's token, or else below its name.
    fn base_url(&self) -> String {
        let machine = match self.reservation.macs().next() {
            Some(mac) => mac.hyphenated(),
            None => self.reservation.id.clone(),
        };
        match self.token {
            Some(token) => format!("{}/t/{token}", self.server_url),
            None => format!("{}/machines/{machine}", self.server_url),
        }
    }

    /// Where cloud-init finds the machine's documents; the slash at the end is part of it.
    fn seed_url(&self) -> String {
        format!("{}/nocloud/", self.base_url())
    }

    fn documents_url(&self) -> String {
        format!("{}/documents/", self.base_url())
    }

    fn files_url(&self) -> String {
        match self.token {
            Some(token) => format!("{}/t/{token}/files/", self.server_url),
            None => format!("{}/files/", self.server_url),
        }
    }

    /// Where an installation's call-backs go; none where nothing is installed.
    fn events_url(&self) -> Option<String> {
        (self.token).map(|token| format!("{}/t/{token}/events/", self.server_url))
    }

    fn attempt(&self) -> u32 {
        let machine = self.catalog.machine(&self.reservation.id);
        machine.map_or(0, |machine| machine.attempt)
    }

    fn value_of(&self, var: &Var) -> Value {
        if let Some(secret) = var.secret() {
            let known = self.secrets.0.get(&secret).map(String::as_str);
            return Value::from(known.unwrap_or(HIDDEN));
        }
        match var {
            Var::Bool(value) => Value::from(*value),
            Var::Integer(number) => Value::from(*number),
            Var::Number(number) => Value::from(*number),
            Var::Text(text) => Value::from(text.as_str()),
            Var::List(vars) => vars.iter().map(|var| self.value_of(var)).collect(),
            Var::Map(vars) => Value::from_pairs(
                vars.iter()
                    .map(|(name, var)| (name.as_str(), self.value_of(var))),
            ),
        }
    }

    fn unrenderable(&self, document: &str, error: RenderError) -> NoDocument {
        NoDocument::Unrenderable {
            machine: self.reservation.title().to_owned(),
            document: document.to_owned(),
            error,
        }
    }
}

fn check_word(profile: &Profile, what: &str, text: String) -> Result<String, RenderError> {
    match render::check_argument(&text) {
        Ok(()) => Ok(text),
        Err(problem) => Err(RenderError::Template {
            template: format!("{}/{what}", profile.name),
            line: 1,
            problem: format!("wanted one word for a boot script, got {problem}"),
        }),
    }
}

/// Changes whenever the machine's configuration does, so that cloud-init applies it again.
fn instance_id(reservation: &Reservation) -> String {
    let Reservation {
        id,
        mac,
        hostname,
        profile,
        vars,
        ..
    } = reservation;
    let said: (_, _, _, _, &Vars) = (id, mac, hostname, profile, vars);
    let text = serde_json::to_vec(&said).unwrap_or_default();
    format!("i-{}", Uuid::new_v5(&INSTANCE_NAMESPACE, &text))
}

#[cfg(test)]
mod tests;
