//! `bootjack image build provisioner`: the provisioner's image out of this distribution's packages. The recipe is a script, kept
//! in this program, so that it needs no checkout.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::cli::{BuildArgs, Built};
use crate::drivers::spec::Arch;
use crate::exit::{Exit, Failure};
use crate::lab::paths::Bases;
use crate::output;
use crate::process;
use crate::provisioner::image::{self, Image};

/// The recipe, by the names it has below deploy/.
macro_rules! recipe {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../../deploy/", $path)))),*]
    };
}

const RECIPE: &[(&str, &str)] = recipe![
    "private-apt.sh",
    "guest/kernel.sh",
    "guest/modules.sh",
    "provisioner/build.sh",
    "provisioner/init",
    "provisioner/root/etc/cloud/cloud.cfg.d/90-bootjack.cfg",
    "provisioner/root/etc/hostname",
    "provisioner/root/etc/hosts",
    "provisioner/root/etc/nftables.conf",
    "provisioner/root/etc/ssh/sshd_config.d/bootjack.conf",
    "provisioner/root/etc/sysctl.d/50-bootjack.conf",
    "provisioner/root/etc/systemd/journald.conf.d/bootjack.conf",
    "provisioner/root/etc/systemd/system/bootjack-container.service",
    "provisioner/root/etc/systemd/system/bootjack-data.service",
    "provisioner/root/etc/systemd/system/bootjack-gate.service",
    "provisioner/root/etc/systemd/system/bootjackd.service",
    "provisioner/root/etc/systemd/system/serial-getty@.service.d/root.conf",
    "provisioner/root/usr/lib/bootjack/data",
    "provisioner/root/usr/lib/bootjack/disk.sh",
    "provisioner/root/usr/lib/bootjack/gate",
    "provisioner/root/usr/lib/bootjack/load",
    "provisioner/root/usr/lib/bootjack/run",
    "provisioner/root/usr/lib/bootjack/status",
];

/// Makes it, or does nothing where it is as it would be made now.
pub fn run(args: &BuildArgs) -> Result<(), Failure> {
    let Built::Provisioner = args.what;
    if !cfg!(target_os = "linux") {
        let text = "the provisioner's image is made from a Linux distribution's packages; make it on Debian or Ubuntu of the same processor, and copy the directory here";
        return Err(Failure::new(Exit::Missing, text));
    }
    let host = Arch::of_host().ok_or_else(|| {
        let text = "wanted a computer with an x86_64 or aarch64 processor";
        Failure::new(Exit::Missing, text)
    })?;
    let arch = args.arch.unwrap_or(host);
    let usual = || image::usual(&Bases::of_environment().images(), arch);
    let to = args.to.clone().unwrap_or_else(usual);
    let to = std::path::absolute(&to).map_err(Failure::io("find", &to))?;
    let dir = tempfile::tempdir().map_err(Failure::io("make", "a directory"))?;
    write(dir.path())?;
    let script = dir.path().join("provisioner/build.sh");
    let arguments = [to.display().to_string(), arch.as_str().to_owned()];
    if !process::script(&script, &arguments)? {
        let text = "the image was not made; what lacks is said above";
        return Err(Failure::new(Exit::Failed, text));
    }
    let image = Image::open(&to)?;
    output::say(&format!(
        "{} is the provisioner's image for {}",
        to.display(),
        image.arch.as_str()
    ))
}

fn write(dir: &Path) -> Result<(), Failure> {
    for (name, text) in RECIPE {
        let path = dir.join(name);
        let parent = path.parent().unwrap_or(dir);
        let written = fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, text))
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)));
        written.map_err(Failure::io("write", &path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn below(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => below(&path, found),
                false => found.push(path),
            }
        }
    }

    #[test]
    fn the_whole_recipe_is_in_this_program() {
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
        let mut found = Vec::new();
        below(&deploy.join("provisioner"), &mut found);
        for path in found {
            let name = path.strip_prefix(&deploy).unwrap().to_str().unwrap();
            assert!(RECIPE.iter().any(|(known, _)| *known == name), "{name}");
        }
    }

    #[test]
    fn the_recipe_is_written_so_that_it_runs() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path()).unwrap();
        let script = dir.path().join("provisioner/build.sh");
        let output = std::process::Command::new(&script).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            said,
            "build.sh: wanted OUT_DIR [x86_64|aarch64], got 0 arguments\n"
        );
    }
}
