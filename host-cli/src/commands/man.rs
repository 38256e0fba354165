//! `bootjack man DIR`: the manual pages, out of what `--help` says.

use std::path::Path;

use crate::cli;
use crate::exit::{Exit, Failure};
use crate::output;

/// Writes `bootjack.1`, and a page for each verb and each verb of a verb.
pub fn run(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).map_err(Failure::io("make", dir))?;
    clap_mangen::generate_to(cli::command(), dir).map_err(Failure::io("write to", dir))?;
    let pages = std::fs::read_dir(dir)
        .map_err(Failure::io("read", dir))?
        .count();
    match pages {
        0 => Err(Failure::new(
            Exit::Failed,
            format!("no page was written to {}", dir.display()),
        )),
        pages => output::say(&format!("{pages} pages in {}", dir.display())),
    }
}
