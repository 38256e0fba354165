//! How a log line looks: time, level, what happened, and what is known of it as `key=value`. The same as `tracing` writes by
//! default; written here since a busy server spends a good part of its time on it.

use std::fmt::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Lines for people.
#[derive(Clone, Copy, Debug, Default)]
pub struct Text;

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let since = since.unwrap_or_default();
        let ansi = writer.has_ansi_escapes();
        let (dim, colour, plain) = match ansi {
            true => ("\x1b[2m", colour_of(level), "\x1b[0m"),
            false => ("", "", ""),
        };
        let mut line = String::with_capacity(320);
        line.push_str(dim);
        write_time(&mut line, since.as_secs(), since.subsec_micros())?;
        write!(line, "{plain} {colour}{level:>5}{plain}")?;
        let mut fields = Fields {
            line: &mut line,
            rest: String::with_capacity(256),
            ansi,
            outcome: Ok(()),
        };
        event.record(&mut fields);
        let Fields { rest, outcome, .. } = fields;
        outcome?;
        line.push_str(&rest);
        line.push('\n');
        writer.write_str(&line)
    }
}

fn colour_of(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

/// What happened comes first, wherever it stands among the fields.
struct Fields<'a> {
    line: &'a mut String,
    rest: String,
    ansi: bool,
    outcome: fmt::Result,
}

impl Fields<'_> {
    /// Begins a field; the answer is where its value goes, and from where on.
    fn begin(&mut self, field: &Field) -> (&mut String, usize) {
        let text = match field.name() {
            "message" => {
                self.line.push(' ');
                &mut *self.line
            }
            name => {
                let (italic, dim, plain) = match self.ansi {
                    true => ("\x1b[3m", "\x1b[2m", "\x1b[0m"),
                    false => ("", "", ""),
                };
                for part in [" ", italic, name, plain, dim, "=", plain] {
                    self.rest.push_str(part);
                }
                &mut self.rest
            }
        };
        let from = text.len();
        (text, from)
    }

    fn add(&mut self, field: &Field, value: fmt::Arguments) {
        let outcome = self.begin(field).0.write_fmt(value);
        self.outcome = self.outcome.and(outcome);
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Display values come as Debug too: what they write may hold whatever a client sent.
        let (text, from) = self.begin(field);
        let outcome = write!(text, "{value:?}");
        escape_controls(text, from);
        self.outcome = self.outcome.and(outcome);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.record_debug(field, &format_args!("{value}")),
            _ => self.add(field, format_args!("{value:?}")),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, format_args!("{value}"));
    }
}

/// No line of the log is anybody's but ours: control characters, line ends and escapes among them, are written as escapes.
fn escape_controls(text: &mut String, from: usize) {
    let written = &text[from..];
    // Those beyond ASCII begin with 0xc2.
    let may_hold_one = |octet: u8| octet.is_ascii_control() || octet == 0xc2;
    if !written.bytes().any(may_hold_one) {
        return;
    }
    let mut escaped = String::with_capacity(written.len() + 16);
    for c in written.chars() {
        match c.is_control() {
            true => escaped.extend(c.escape_default()),
            false => escaped.push(c),
        }
    }
    text.truncate(from);
    text.push_str(&escaped);
}

/// RFC 3339, in UTC, with microseconds.
fn write_time(line: &mut String, secs: u64, micros: u32) -> fmt::Result {
    let (days, of_day) = (secs / 86_400, secs % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    write!(
        line,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"
    )
}

/// The date of a day counted from 1970-01-01, in the Gregorian calendar: years begin in March here, so that the leap day is the
/// last of one, and 400 of them are 146,097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    let from_march_0000 = days + 719_468;
    let (era, of_era) = (from_march_0000 / 146_097, from_march_0000 % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339_has_them() {
        for (secs, said) in [
            (0, "1970-01-01T00:00:00.000007Z"),
            (951_782_399, "2000-02-28T23:59:59.000007Z"),
            (951_782_400, "2000-02-29T00:00:00.000007Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000007Z"),
            (1_735_689_600, "2025-01-01T00:00:00.000007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000007Z"),
        ] {
            let mut line = String::new();
            write_time(&mut line, secs, 7).expect("a string takes it");
            assert_eq!(line, said);
        }
    }

    #[test]
    fn a_line_end_in_a_value_ends_no_line() {
        let mut text = String::from("kept\n");
        text.push_str("a\nb\u{1b}[31m\u{85}é");
        escape_controls(&mut text, 5);
        assert_eq!(text, "kept\na\\nb\\u{1b}[31m\\u{85}é");
    }
}
