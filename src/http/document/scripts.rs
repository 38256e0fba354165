//! What boot loaders are told: iPXE's script and GRUB's configuration. In: a machine and what it runs on. Out: how to boot what
//! its profile says, or its own disk, with every word quoted as that loader wants it.

use minijinja::{Value, context};

use super::{Asker, NoDocument};
use crate::lifecycle;
use crate::model::{BootFiles, Cpu, Firmware, LocalBoot, Profile, Why};
use crate::render::{self, RenderError};

const BOOT_SCRIPT: &str = include_str!("../../../ipxe/boot.ipxe.j2");
const LOCAL_SCRIPT: &str = include_str!("../../../ipxe/local.ipxe.j2");
const UNFIT_SCRIPT: &str = include_str!("../../../ipxe/unfit.ipxe.j2");
const GRUB_CONFIG: &str = include_str!("../../../ipxe/grub.cfg.j2");
const LOCAL_GRUB_CONFIG: &str = include_str!("../../../ipxe/local.grub.cfg.j2");

/// Who reads a boot script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    Ipxe,
    Grub,
}

/// What a profile boots on one machine, as URLs and words.
struct Made {
    kernel: String,
    initrds: Vec<String>,
    args: Vec<String>,
}

impl Loader {
    /// The document's name.
    pub fn document(self) -> &'static str {
        match self {
            Self::Ipxe => "boot.ipxe",
            Self::Grub => "grub.cfg",
        }
    }
}

impl Asker<'_> {
    /// The machine's boot script: what its profile boots, or else its own disk.
    pub fn boot_script(
        &self,
        loader: Loader,
        cpu: Cpu,
        firmware: Firmware,
    ) -> Result<String, NoDocument> {
        let Some(profile) = self.profile.filter(|profile| profile.boots()) else {
            return self.local_script(loader, Why::NothingToBoot, firmware);
        };
        let script = match (&profile.script, profile.boot.get(&cpu), loader) {
            (Some(script), _, Loader::Ipxe) => self.own_script(profile, script, cpu, firmware),
            (_, Some(files), Loader::Ipxe) => self.ipxe_script(profile, files, cpu, firmware),
            (_, Some(files), Loader::Grub) => self.grub_config(profile, files, cpu, firmware),
            (_, None, loader) => self.unfit_script(loader, profile, cpu),
        };
        script.map_err(|error| self.unrenderable(loader.document(), error))
    }

    /// The script that sends the machine to its own disk, as its firmware does it unless somebody says otherwise.
    pub fn local_script(
        &self,
        loader: Loader,
        why: Why,
        firmware: Firmware,
    ) -> Result<String, NoDocument> {
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
        let source = match loader {
            Loader::Ipxe => LOCAL_SCRIPT,
            Loader::Grub => LOCAL_GRUB_CONFIG,
        };
        render::render_text(loader.document(), source, &values, &self.salt())
            .map_err(|error| self.unrenderable(loader.document(), error))
    }

    /// The profile's own script.
    fn own_script(
        &self,
        profile: &Profile,
        template: &str,
        cpu: Cpu,
        firmware: Firmware,
    ) -> Result<String, RenderError> {
        let values = self.values(Some((cpu, firmware)));
        let script = render::render(&profile.templates, template, &values, &self.salt())?;
        if script.lines().next() == Some("#!ipxe") {
            return Ok(script);
        }
        Err(RenderError::Template {
            template: template.to_owned(),
            line: 1,
            problem: "wanted #!ipxe on the first line and nothing else on it".to_owned(),
        })
    }

    fn unfit_script(
        &self,
        loader: Loader,
        profile: &Profile,
        cpu: Cpu,
    ) -> Result<String, RenderError> {
        let values = context! {
            title => self.reservation.title(),
            profile => profile.name.clone(),
            arch => cpu.as_str(),
        };
        match loader {
            Loader::Ipxe => {
                render::render_text(loader.document(), UNFIT_SCRIPT, &values, &self.salt())
            }
            Loader::Grub => Ok(format!(
                "echo 'bootjack: profile {} has no files for {cpu} that GRUB can boot'\nsleep 10\nexit\n",
                profile.name
            )),
        }
    }

    /// The kernel's arguments on this platform; none where the profile boots no kernel there.
    pub fn kernel_args(
        &self,
        cpu: Cpu,
        firmware: Firmware,
    ) -> Result<Option<Vec<String>>, RenderError> {
        let files = self.profile.and_then(|p| Some((p, p.boot.get(&cpu)?)));
        files
            .map(|(profile, files)| {
                let values = self.values(Some((cpu, firmware)));
                Ok(self.made(profile, files, &values)?.args)
            })
            .transpose()
    }

    fn made(
        &self,
        profile: &Profile,
        files: &BootFiles,
        values: &Value,
    ) -> Result<Made, RenderError> {
        let salt = self.salt();
        let text = |what: &str, source: &str| {
            render::render_text(&format!("{}/{what}", profile.name), source, values, &salt)
        };
        let url = |what: &str, source: &str| {
            let path = check_word(profile, what, text(what, source)?)?;
            Ok(if path.contains("://") {
                path
            } else {
                format!("{}{}", self.files_url(), path.trim_start_matches('/'))
            })
        };
        let initrds = (files.initrd.iter())
            .map(|source| url("initrd", source))
            .collect::<Result<Vec<String>, RenderError>>()?;
        let mut args = Vec::new();
        for source in &files.args {
            // One that depends on a variable may come to nothing.
            let arg = text("args", source)?;
            if !arg.is_empty() {
                args.push(check_word(profile, "args", arg)?);
            }
        }
        Ok(Made {
            kernel: url("kernel", &files.kernel)?,
            initrds,
            args,
        })
    }

    fn ipxe_script(
        &self,
        profile: &Profile,
        files: &BootFiles,
        cpu: Cpu,
        firmware: Firmware,
    ) -> Result<String, RenderError> {
        let mut made = self.made(profile, files, &self.values(Some((cpu, firmware))))?;
        if firmware == Firmware::Uefi {
            // iPXE before 2.0 leaves it to the kernel's EFI stub to fetch the initrds, by the names they have in iPXE.
            let names = (0..made.initrds.len()).map(|n| format!("initrd=initrd{n}"));
            made.args.splice(0..0, names);
        }
        let values = context! {
            title => self.reservation.title(),
            profile => profile.name.clone(),
            arch => cpu.as_str(),
            firmware => firmware.as_str(),
            kernel => context! { url => made.kernel, args => made.args },
            initrds => made.initrds,
            min_ram => profile.min_ram,
            events_url => self.events_url(),
        };
        render::render_text("boot.ipxe", BOOT_SCRIPT, &values, &self.salt())
    }

    fn grub_config(
        &self,
        profile: &Profile,
        files: &BootFiles,
        cpu: Cpu,
        firmware: Firmware,
    ) -> Result<String, RenderError> {
        let made = self.made(profile, files, &self.values(Some((cpu, firmware))))?;
        let path = |what: &str, url: &str| grub_path(profile, what, url);
        let initrds = (made.initrds.iter())
            .map(|url| path("initrd", url))
            .collect::<Result<Vec<String>, RenderError>>()?;
        let report = (self.events_url())
            .map(|url| path("events", &format!("{url}progress?text=GRUB+gave+up")))
            .transpose()?;
        let values = context! {
            title => self.reservation.title(),
            profile => profile.name.clone(),
            arch => cpu.as_str(),
            firmware => firmware.as_str(),
            kernel => context! { path => path("kernel", &made.kernel)?, args => made.args },
            initrds => initrds,
            report => report,
        };
        render::render_text("grub.cfg", GRUB_CONFIG, &values, &self.salt())
    }
}

/// A URL as GRUB has it, quoted: `http://host:80/path` is `(http,host:80)/path`.
fn grub_path(profile: &Profile, what: &str, url: &str) -> Result<String, RenderError> {
    let refused = |problem: String| RenderError::Template {
        template: format!("{}/{what}", profile.name),
        line: 1,
        problem,
    };
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    if !matches!(scheme, "http" | "tftp") {
        return Err(refused(format!("GRUB fetches by http and tftp, not {url}")));
    }
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    render::grub_word(&format!("({scheme},{host})/{path}"))
        .map_err(|what| refused(format!("wanted a path for GRUB, got {what}")))
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
