//! What is awaited on a console and typed there: pure. In: text, one step on a line. Out: steps, or every line that is none.
//!
//! ```text
//! # Debian's nocloud image
//! timeout 5m
//! expect login: $
//! send root
//! expect root@.*# $
//! send poweroff
//! ```
//!
//! `expect RE` waits for a regular expression; `send TEXT` types the text and Enter, `type TEXT` the text alone; `timeout
//! DURATION` is for what follows. In what is typed, `\n`, `\r`, `\t`, `\e`, `\\` and `\xHH` are what they are in most languages.

use std::time::Duration;

use regex::{Regex, RegexBuilder};

#[derive(Clone, Debug)]
pub enum Step {
    Expect { pattern: Regex, limit: Duration },
    Type(Vec<u8>),
}

/// The steps of a script; `limit` is for each wait unless the script says otherwise.
pub fn parse(text: &str, limit: Duration) -> Result<Vec<Step>, Vec<String>> {
    let (mut steps, mut problems) = (Vec::new(), Vec::new());
    let mut limit = limit;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        // What follows the one space is text, with its own spaces.
        let (verb, rest) = line.split_once(' ').unwrap_or((line.trim_end(), ""));
        let step = match verb {
            "expect" => expect(rest, limit).map(Some),
            "send" => sent(rest).map(Some),
            "type" => typed(rest).map(|text| Some(Step::Type(text))),
            "timeout" => crate::cli::duration(rest.trim()).map(|new| {
                limit = new;
                None
            }),
            verb => Err(format!(
                "wanted expect, send, type or timeout, got `{verb}`"
            )),
        };
        match step {
            Ok(step) => steps.extend(step),
            Err(why) => problems.push(format!("line {}: {why}", number + 1)),
        }
    }
    match problems.is_empty() {
        true => Ok(steps),
        false => Err(problems),
    }
}

/// A wait; `$` is the end of what was said so far, and of a line.
pub fn expect(pattern: &str, limit: Duration) -> Result<Step, String> {
    if pattern.is_empty() {
        return Err("wanted a regular expression after expect".to_owned());
    }
    let built = RegexBuilder::new(pattern).multi_line(true).build();
    let pattern = built.map_err(|error| {
        // The last of its lines says what is wrong; the others show where.
        let why = error.to_string();
        let why = why.lines().last().unwrap_or_default();
        let why = why.strip_prefix("error: ").unwrap_or(why);
        format!("wanted a regular expression, got `{pattern}`: {why}")
    })?;
    Ok(Step::Expect { pattern, limit })
}

/// Text and Enter.
pub fn sent(text: &str) -> Result<Step, String> {
    let mut octets = typed(text)?;
    // What the key sends; a terminal line makes a line feed of it.
    octets.push(b'\r');
    Ok(Step::Type(octets))
}

fn typed(text: &str) -> Result<Vec<u8>, String> {
    let mut octets = Vec::new();
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            octets.extend(character.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        octets.push(match rest.next() {
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('e') => 0x1b,
            Some('\\') => b'\\',
            Some('x') => {
                let digits: String = rest.by_ref().take(2).collect();
                let octet = u8::from_str_radix(&digits, 16).ok();
                // Also `+1` is a number.
                let is_whole = digits.len() == 2 && digits.bytes().all(|d| d.is_ascii_hexdigit());
                octet
                    .filter(|_| is_whole)
                    .ok_or_else(|| format!("wanted two hex digits after \\x, got `{digits}`"))?
            }
            other => {
                let got = other.map_or_else(|| "the end".to_owned(), |c| format!("`{c}`"));
                return Err(format!("wanted n, r, t, e, \\ or x after \\, got {got}"));
            }
        });
    }
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_script_is_its_steps() {
        let text = "# a comment\n\nexpect login: $\n  send root\ntimeout 5s\nexpect # $\ntype \\x03a\\t\\\\ \nsend\n";
        let steps = parse(text, MINUTE).unwrap();
        let shown: Vec<String> = steps
            .iter()
            .map(|step| match step {
                Step::Expect { pattern, limit } => format!("{pattern} {limit:?}"),
                Step::Type(octets) => format!("{octets:?}"),
            })
            .collect();
        assert_eq!(
            shown,
            [
                "login: $ 60s",
                "[114, 111, 111, 116, 13]",
                "# $ 5s",
                "[3, 97, 9, 92, 32]",
                "[13]"
            ]
        );
    }

    #[test]
    fn every_line_that_is_no_step_is_said() {
        let text = "expect\nexpect (\nsend \\q\ntype \\x1\nsleep 1\ntimeout soon\n";
        let problems = parse(text, MINUTE).unwrap_err();
        let starts = [
            "line 1: wanted a regular expression after expect",
            "line 2: wanted a regular expression, got `(`: unclosed group",
            "line 3: wanted n, r, t, e, \\ or x after \\, got `q`",
            "line 4: wanted two hex digits after \\x, got `1`",
            "line 5: wanted expect, send, type or timeout, got `sleep`",
            "line 6: ",
        ];
        assert_eq!(problems.len(), starts.len());
        for (problem, start) in problems.iter().zip(starts) {
            assert!(problem.starts_with(start), "{problem}");
        }
    }
}
