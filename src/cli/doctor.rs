//! `bootjackd doctor`: how what was found is said.

use std::path::Path;
use std::process::ExitCode;

use super::Output;
use crate::app;
use crate::model::{Capability, Standing};

/// Examines, prints, and fails if something is missing.
pub(super) fn run(config: &Path, output: Output) -> anyhow::Result<ExitCode> {
    let loaded = app::load(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let found = runtime.block_on(app::doctor::examine(&loaded));
    match output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&found)?),
        Output::Text => found.iter().for_each(print),
    }
    let is_ill = found.iter().any(|need| need.state == Standing::Missing);
    Ok(ExitCode::from(u8::from(is_ill)))
}

fn print(need: &Capability) {
    let Capability {
        name,
        state,
        detail,
        consequence,
        next_step,
    } = need;
    println!("{:<9} {name:<27} {detail}", state.as_str());
    for (word, text) in [("so", consequence), ("do", next_step)] {
        if !text.is_empty() {
            println!("{:<38}{word}: {text}", "");
        }
    }
}
