//! The files that a machine's profile boots. In: the machine. Out: paths below `http.files`, and what each is to it.

use super::Asker;
use crate::model::Firmware;
use crate::render;

/// What a file is to a machine that boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootFile {
    Kernel,
    Initrd,
}

impl Asker<'_> {
    /// Every file below `http.files` that the machine's profile boots, on whatever processor.
    pub fn boot_files(&self) -> Vec<(BootFile, String)> {
        let Some(profile) = self.profile else {
            return Vec::new();
        };
        let (mut found, salt) = (Vec::new(), self.salt());
        for ((cpu, files), firmware) in (profile.boot.iter())
            .flat_map(|boot| [Firmware::Bios, Firmware::Uefi].map(|firmware| (boot, firmware)))
        {
            let values = self.values(Some((*cpu, firmware)));
            let kernel = std::iter::once((BootFile::Kernel, &files.kernel));
            let initrds = files.initrd.iter().map(|source| (BootFile::Initrd, source));
            for (which, source) in kernel.chain(initrds) {
                // One that cannot be made is not served either.
                let path = render::render_text("file", source, &values, &salt).unwrap_or_default();
                let is_ours = !path.is_empty() && !path.contains("://");
                let entry = (which, path.trim_start_matches('/').to_owned());
                if is_ours && !found.contains(&entry) {
                    found.push(entry);
                }
            }
        }
        found
    }
}
