//! `bootjack init`: a lab.toml to start from, with everything that a newcomer would look up.

use std::fs::File;
use std::io::Write as _;

use crate::cli::{InitLabArgs, LabTemplate};
use crate::exit::{Exit, Failure};
use crate::output;

const PAIR: &str = include_str!("../../../../lab.toml");
const QUICK: &str = include_str!("../../../../deploy/lab/quick.toml");

/// Writes it; a file that is there stays.
pub fn run(args: &InitLabArgs) -> Result<(), Failure> {
    let text = match args.template {
        LabTemplate::Pair => PAIR,
        LabTemplate::Quick => QUICK,
    };
    let file = &args.file;
    let opened = File::options().write(true).create_new(true).open(file);
    let mut to = opened.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            let text = format!("{} is there already; name another file", file.display());
            Failure::new(Exit::Conflict, text)
        }
        _ => Failure::io("write", file)(error),
    })?;
    to.write_all(text.as_bytes())
        .map_err(Failure::io("write", file))?;
    let which = match file.as_os_str() == crate::lab::open::FILE_NAME {
        true => String::new(),
        false => format!(" --lab {}", file.display()),
    };
    output::say(&format!(
        "wrote {}; look at it, then: bootjack up{which} --wait",
        file.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_labs() {
        let tries = [
            include_str!("../../../../deploy/lab/try-x86_64.toml"),
            include_str!("../../../../deploy/lab/try-aarch64.toml"),
        ];
        for text in [PAIR, QUICK].into_iter().chain(tries) {
            let read = crate::labfile::read(text, std::path::Path::new("/home/me/demo"));
            assert!(!read.unwrap().vms.is_empty());
        }
    }
}
