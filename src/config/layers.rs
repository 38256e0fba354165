//! What several tables may say alike: options, and how a machine boots.

use super::reader::{At, Section};
use crate::dhcp::options;
use crate::model::{LocalBoot, Options};

/// `[options]`, `[subnet.options]`, …: by name, or `option_NNN`.
pub(super) fn read_options(section: &mut Section) -> Options {
    let mut read = Options::default();
    for (name, At { line, value }) in section.values("options") {
        let key = format!("options.{name}");
        match options::encode(&name, &value) {
            Ok((code, _)) if read.0.contains_key(&code) => {
                section.report(line, &key, format!("option {code} is given twice"));
            }
            Ok((code, content)) => {
                read.0.insert(code, content);
            }
            Err(problem) => section.report(line, &key, problem),
        }
    }
    read
}

/// A word (`snponly`, `ipxe`, `undionly`), a file below `boot.programs` or `tftp.root`, or a URL.
pub(super) fn read_program(section: &mut Section) -> Option<String> {
    let at = section.text("program")?;
    if at.value.is_empty() || at.value.contains(char::is_whitespace) || at.value.len() > 255 {
        let text = "wanted snponly, ipxe, undionly, a file's name or a URL";
        section.report(at.line, "program", text);
    }
    Some(at.value)
}

/// How machines are sent to their own disk.
pub fn read_local_boot(section: &mut Section) -> Option<LocalBoot> {
    Some(section.parsed("local_boot", "exit")?.value)
}
