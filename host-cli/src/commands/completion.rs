//! `bootjack completion SHELL`: the shell's completion script on standard output.

use std::io::Write as _;

use clap_complete::Shell;

use crate::cli;
use crate::exit::Failure;

/// Prints the script; a reader that stops reading is no failure.
pub fn run(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::command(), "bootjack", &mut script);
    let _ = std::io::stdout().write_all(&script);
    Ok(())
}
