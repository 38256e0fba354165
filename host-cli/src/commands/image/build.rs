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
use crate::provisioner::recipe::RECIPE;

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
    use super::*;

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
