//! Command lines as people read and type them: words of a POSIX shell.

use std::path::Path;

/// The command as one could type it: quoted, one option with its value per line.
pub fn shown(program: &Path, arguments: &[String]) -> String {
    let mut text = quoted(&program.display().to_string());
    for argument in arguments {
        text.push_str(if argument.starts_with('-') {
            " \\\n  "
        } else {
            " "
        });
        text.push_str(&quoted(argument));
    }
    text
}

/// A word for a POSIX shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_typed() {
        let arguments = ["-name", "it's", "-m", "64"].map(str::to_owned);
        assert_eq!(
            shown(Path::new("qemu"), &arguments),
            "qemu \\\n  -name 'it'\\''s' \\\n  -m 64"
        );
    }
}
