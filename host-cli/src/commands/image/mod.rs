//! `bootjack image …`: images of disks (`kept`), and of the service (`container`).

mod container;
pub mod kept;

pub use self::kept::none;

use crate::cli::{Format, ImageCommand};
use crate::exit::Failure;

pub fn run(command: ImageCommand, format: Format) -> Result<(), Failure> {
    match command {
        ImageCommand::Kept(command) => kept::run(command, format),
        ImageCommand::Container(args) => container::run(&args),
    }
}
