//! What is made for one machine: its boot script and its documents. In: the catalog, the machine, and where the server is seen.
//! Out: text, or why there is none. Touches nothing else.

mod boot_files;
mod scripts;
mod values;

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;
use uuid::Uuid;

pub use self::boot_files::BootFile;
pub use self::scripts::Loader;
use crate::catalog::Catalog;
use crate::model::{
    Document, HIDDEN, MacAddr, Profile, Reservation, SecretRef, Token, Var, Verdict,
};
use crate::render::{self, RenderError};

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

    /// One of the machine's documents. The four of NoCloud are there for every machine.
    pub fn document(&self, document: &Document) -> Result<String, NoDocument> {
        let template = self
            .profile
            .and_then(|profile| Some((profile, profile.documents.get(document.name())?)));
        let (values, salt) = (self.values(None), self.salt());
        let rendered = match (template, document) {
            (Some((profile, file)), _) => render::render(&profile.templates, file, &values, &salt),
            (None, Document::MetaData) => {
                render::render_text("meta-data", META_DATA, &values, &salt)
            }
            (None, Document::UserData) => {
                render::render_text("user-data", USER_DATA, &values, &salt)
            }
            (None, Document::VendorData) => Ok(VENDOR_DATA.to_owned()),
            (None, Document::NetworkConfig) => {
                render::render_text("network-config", NETWORK_CONFIG, &values, &salt)
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

    fn unrenderable(&self, document: &str, error: RenderError) -> NoDocument {
        NoDocument::Unrenderable {
            machine: self.reservation.title().to_owned(),
            document: document.to_owned(),
            error,
        }
    }
}

/// Changes whenever the machine's configuration does, so that cloud-init applies it again.
fn instance_id(catalog: &Catalog, reservation: &Reservation) -> String {
    let profile = catalog.profile_name_of(reservation);
    // What the profile itself says by default is the profile's affair.
    let vars: BTreeMap<&str, &Var> = (catalog.vars_of(reservation, None).into_iter())
        .map(|(name, (_, var))| (name, var))
        .collect();
    let Reservation {
        id, mac, hostname, ..
    } = reservation;
    let text = serde_json::to_vec(&(id, mac, hostname, profile, vars)).unwrap_or_default();
    format!("i-{}", Uuid::new_v5(&INSTANCE_NAMESPACE, &text))
}

#[cfg(test)]
mod tests;
