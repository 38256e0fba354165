//! Whose timeline an event belongs on, as the store knows it now.

use std::net::IpAddr;

use crate::dhcp::bootfile::PROGRAMS;
use crate::http::document::{Asker, BootFile};
use crate::lifecycle;
use crate::model::{ClientKey, Kind, MacAddr, Phase, Reservation, Subject};
use crate::net::now_secs;
use crate::observe::notes::About;
use crate::observe::timeline::Directory;
use crate::store::Store;

/// The store, asked who is who.
pub(super) struct Known(pub(super) Store);

impl Directory for Known {
    fn subject_of(&self, about: &About) -> Option<Subject> {
        let machine = |own: &Reservation| Subject::Machine(own.id.clone());
        if let Some(id) = &about.id {
            return Some(Subject::Machine(id.clone()));
        }
        let catalog = self.0.catalog();
        let titled = about.title.as_ref().and_then(|title| catalog.named(title));
        if let Some(own) = titled {
            return Some(machine(own));
        }
        if let Some(client) = &about.client {
            let mac = client.parse::<MacAddr>().ok();
            let own = mac.and_then(|mac| catalog.by_mac(mac));
            let unknown = || Subject::Client(client.clone());
            return Some(own.map_or_else(unknown, |own| machine(own)));
        }
        let address = about.address?;
        if let Some(own) = self.0.reservation_at(address) {
            return Some(machine(&own));
        }
        let IpAddr::V4(address) = address else {
            return None;
        };
        let bindings = self.0.bindings();
        match &bindings.at(address)?.client {
            key @ (ClientKey::Mac(_) | ClientKey::Id(_)) => Some(Subject::Client(key.to_string())),
        }
    }

    fn attempt_of(&self, subject: &Subject) -> u32 {
        let Subject::Machine(id) = subject else {
            return 0;
        };
        let catalog = self.0.catalog();
        let machine = catalog.machine(id);
        let running = machine.filter(|machine| machine.phase != Phase::Idle);
        running.map_or(0, |machine| machine.attempt)
    }

    fn kind_of_file(&self, subject: &Subject, path: &str) -> Kind {
        let path = path.trim_start_matches('/');
        let is_program = |name: &str| path == name;
        let mut names = (PROGRAMS.iter()).flat_map(|(_, _, names)| names.iter());
        if names.any(|(_, name)| is_program(name)) {
            return Kind::Program;
        }
        let Subject::Machine(id) = subject else {
            return Kind::File;
        };
        let catalog = self.0.catalog();
        let Some(own) = catalog.by_id(id) else {
            return Kind::File;
        };
        let verdict = lifecycle::verdict(&catalog, own, now_secs());
        let asker = Asker::of(own, &catalog, "").under(verdict);
        let files = asker.boot_files();
        let known = files.iter().find(|(_, known)| known == path);
        match known {
            Some((BootFile::Kernel, _)) => Kind::Kernel,
            Some((BootFile::Initrd, _)) => Kind::Initrd,
            None => Kind::File,
        }
    }
}
