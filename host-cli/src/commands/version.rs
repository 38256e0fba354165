//! `bootjack version`.

use serde_json::json;

use crate::cli::Format;
use crate::exit::Failure;
use crate::output;

/// Prints the version.
pub fn run(format: Format) -> Result<(), Failure> {
    let (version, os, arch) = (
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
    );
    output::answer(
        format,
        || json!({ "name": "bootjack", "version": version, "os": os, "arch": arch, "api": "bootjack.v1" }),
        || format!("bootjack {version} ({os}, {arch}), API bootjack.v1"),
    )
}
