//! What people and programs read: tables, JSON, YAML, colour on terminals alone.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use comfy_table::{Cell, Table, presets};
use serde_json::Value as Json;

use crate::cli::Format;
use crate::exit::{Exit, Failure};
use crate::yaml;

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    coloured: bool,
}

impl Style {
    /// For standard output: coloured on a terminal, unless NO_COLOR is set or TERM is dumb.
    pub fn stdout() -> Self {
        Self::of(std::io::stdout().is_terminal())
    }

    /// For standard error, by the same rule.
    pub fn stderr() -> Self {
        Self::of(std::io::stderr().is_terminal())
    }

    /// No colours.
    #[cfg(test)]
    pub fn plain() -> Self {
        Self { coloured: false }
    }

    fn of(terminal: bool) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|value| value == "dumb");
        Self {
            coloured: terminal && !unwanted && !dumb,
        }
    }

    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    pub fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub fn cyan(self, text: &str) -> String {
        self.paint("36", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self.coloured {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

/// Prints one line to standard output; a reader that stops reading ends it quietly.
pub fn say(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            let why = io_reason(&error);
            Err(Failure::new(
                Exit::Failed,
                format!("cannot write the answer: {why}"),
            ))
        }
        _ => Ok(()),
    }
}

/// Prints the answer as it was asked for: `value` for programs, or the text for people.
pub fn answer(
    format: Format,
    value: impl FnOnce() -> Json,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    match format {
        Format::Json | Format::Yaml => say_value(format, &value()),
        Format::Table | Format::Wide => say(&text()),
    }
}

/// Prints one of many answers that follow each other: JSON on a line of its own, or a YAML document.
pub fn say_one_of_many(
    format: Format,
    value: impl FnOnce() -> Json,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    match format {
        Format::Json => say(&value().to_string()),
        Format::Yaml => say(&format!("---\n{}", yaml::document(&value()).trim_end())),
        Format::Table | Format::Wide => say(&text()),
    }
}

/// Prints a value for programs: YAML where that was asked for, or else JSON, indented for people.
pub fn say_value(format: Format, value: &Json) -> Result<(), Failure> {
    match format {
        Format::Yaml => say(yaml::document(value).trim_end()),
        _ => say(&format!("{value:#}")),
    }
}

/// A table without borders: columns two spaces apart, an upper-case header.
pub fn table(style: Style, header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().map(Cell::new));
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut lines = table.lines().map(|line| line.trim_end().to_owned());
    let title = lines.next().map(|line| style.bold(&line));
    title
        .into_iter()
        .chain(lines)
        .collect::<Vec<_>>()
        .join("\n")
}

/// The text, or a dash for none, for people.
pub fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// The text, or null for none, for programs.
pub fn or_null(text: &str) -> Json {
    match text {
        "" => Json::Null,
        text => Json::from(text),
    }
}

/// A point in time, empty for none, for people.
pub fn time(time: Option<prost_types::Timestamp>) -> String {
    time.map_or(String::new(), |time| time.to_string())
}

/// The same for programs, null for none.
pub fn time_or_null(time: Option<prost_types::Timestamp>) -> Json {
    time.map_or(Json::Null, |time| Json::from(time.to_string()))
}

/// Why input or output failed, in the system's words: lower case and without its number.
pub fn io_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => text.to_owned(),
    }
}

/// 68 KiB, 7.9 MiB: binary, two or three digits.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match value < 9.95 {
        true => format!("{value:.1} {}", UNITS[unit]),
        false => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// 3 ms, 0.4 s, 71 s.
pub fn span(duration: Duration) -> String {
    match duration.as_millis() {
        millis @ 0..100 => format!("{millis} ms"),
        100..9_950 => format!("{:.1} s", duration.as_secs_f64()),
        _ => format!("{:.0} s", duration.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans_are_short() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (70_085, "68 KiB"),
            (8_200_000, "7.8 MiB"),
            (111_149_056, "106 MiB"),
            (1_048_500, "1.0 MiB"),
            (5_368_709_120, "5.0 GiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        for (millis, text) in [
            (0, "0 ms"),
            (99, "99 ms"),
            (100, "0.1 s"),
            (9_940, "9.9 s"),
            (71_234, "71 s"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn a_table_has_no_borders_and_no_trailing_blanks() {
        let rows = vec![
            vec!["node-1".to_owned(), "198.18.0.10".to_owned()],
            vec!["gateway".to_owned(), String::new()],
        ];
        let plain = Style { coloured: false };
        assert_eq!(
            table(plain, &["NAME", "ADDRESS"], rows),
            "NAME     ADDRESS\nnode-1   198.18.0.10\ngateway"
        );
    }

    #[test]
    fn reasons_are_lower_case_without_a_number() {
        let error = std::io::Error::from_raw_os_error(libc::ENOENT);
        assert_eq!(io_reason(&error), "no such file or directory");
    }

    #[test]
    fn colour_is_only_for_terminals() {
        assert_eq!(Style { coloured: false }.red("no"), "no");
        assert_eq!(Style { coloured: true }.red("no"), "\x1b[31mno\x1b[0m");
        assert!(!Style::of(false).coloured);
    }
}
