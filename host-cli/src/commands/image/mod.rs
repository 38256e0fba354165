//! `bootjack image …`: images of disks (`kept`), and of the service (`container`), and the
//! provisioner's own (`build`).

mod build;
mod container;
mod kept;
mod pull;

pub use self::kept::{name_of, none};

use crate::cli::{Format, ImageCommand};
use crate::exit::Failure;

pub fn run(command: ImageCommand, format: Format) -> Result<(), Failure> {
    match command {
        ImageCommand::Kept(command) => kept::run(command, format),
        ImageCommand::Container(args) => container::run(&args),
        ImageCommand::Build(args) => build::run(&args),
    }
}
