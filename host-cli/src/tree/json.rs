//! JSON with the place of every value (RFC 8259), and the dialect that Kea takes.

use super::{At, DEEPEST, Entry, Fault, Node, Value};

/// What is taken beside JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Nothing.
    Strict,
    /// Comments (`#`, `//`, `/* */`) and commas before a closing bracket.
    Kea,
}

/// Reads one value and nothing after it. A key that is said twice is refused.
pub fn read(text: &str, dialect: Dialect) -> Result<Node, Fault> {
    let mut reader = Reader {
        rest: text,
        at: At { line: 1, column: 1 },
        dialect,
    };
    let node = reader.value(0)?;
    reader.blank()?;
    match reader.rest.chars().next() {
        None => Ok(node),
        Some(c) => Err(reader.fault(format!("wanted the end of the text, got `{c}`"))),
    }
}

struct Reader<'a> {
    rest: &'a str,
    at: At,
    dialect: Dialect,
}

impl<'a> Reader<'a> {
    fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::new(self.at, message)
    }

    fn advance(&mut self, octets: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(octets);
        for c in taken.chars() {
            match c {
                '\n' => {
                    self.at.line += 1;
                    self.at.column = 1;
                }
                _ => self.at.column += 1,
            }
        }
        self.rest = rest;
        taken
    }

    fn skip_to(&mut self, end: &str) -> bool {
        let found = self.rest.find(end);
        self.advance(found.map_or(self.rest.len(), |at| at + end.len()));
        found.is_some()
    }

    /// Blanks and comments.
    fn blank(&mut self) -> Result<(), Fault> {
        loop {
            let blanks = self.rest.len()
                - self
                    .rest
                    .trim_start_matches([' ', '\t', '\r', '\n', '\u{feff}'])
                    .len();
            self.advance(blanks);
            if self.dialect == Dialect::Strict {
                return Ok(());
            }
            if self.rest.starts_with('#') || self.rest.starts_with("//") {
                self.skip_to("\n");
            } else if self.rest.starts_with("/*") {
                let begun = self.at;
                if !self.skip_to("*/") {
                    return Err(Fault::new(begun, "this comment is not closed; write */"));
                }
            } else {
                return Ok(());
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, Fault> {
        self.blank()?;
        let at = self.at;
        if depth > DEEPEST {
            return Err(self.fault("this is nested deeper than anything that is meant"));
        }
        let value = match self.rest.chars().next() {
            Some('{') => self.map(depth)?,
            Some('[') => self.list(depth)?,
            Some('"') => Value::Text(self.string()?),
            Some('-' | '0'..='9') => self.number()?,
            Some('a'..='z') => self.word()?,
            Some(c) => return Err(self.fault(format!("wanted a value, got `{c}`"))),
            None => {
                return Err(
                    self.fault("the text ends where a value is wanted; is a bracket not closed?")
                );
            }
        };
        Ok(Node { at, value })
    }

    /// Steps over what stands between values; whether the bracket closes.
    fn closes(&mut self, bracket: char, is_first: bool) -> Result<bool, Fault> {
        self.blank()?;
        if self.rest.starts_with(bracket) {
            self.advance(1);
            return Ok(true);
        }
        if is_first {
            return Ok(false);
        }
        if !self.rest.starts_with(',') {
            let got = match self.rest.chars().next() {
                Some(c) => format!("`{c}`"),
                None => "the end of the text".to_owned(),
            };
            return Err(self.fault(format!("wanted a comma or `{bracket}`, got {got}")));
        }
        self.advance(1);
        self.blank()?;
        if self.rest.starts_with(bracket) {
            if self.dialect == Dialect::Strict {
                return Err(self.fault(format!("a comma before `{bracket}`; take it out")));
            }
            self.advance(1);
            return Ok(true);
        }
        Ok(false)
    }

    fn list(&mut self, depth: usize) -> Result<Value, Fault> {
        self.advance(1);
        let mut list = Vec::new();
        while !self.closes(']', list.is_empty())? {
            list.push(self.value(depth + 1)?);
        }
        Ok(Value::List(list))
    }

    fn map(&mut self, depth: usize) -> Result<Value, Fault> {
        self.advance(1);
        let mut entries: Vec<Entry> = Vec::new();
        let mut known = std::collections::HashSet::new();
        while !self.closes('}', entries.is_empty())? {
            let at = self.at;
            if !self.rest.starts_with('"') {
                return Err(self.fault("wanted a key in quotes"));
            }
            let key = self.string()?;
            if !known.insert(key.clone()) {
                let text = format!("{key} is said twice in this map; keep one of them");
                return Err(Fault::new(at, text));
            }
            self.blank()?;
            if !self.rest.starts_with(':') {
                return Err(self.fault(format!("wanted a colon after the key {key}")));
            }
            self.advance(1);
            let node = self.value(depth + 1)?;
            entries.push(Entry { at, key, node });
        }
        Ok(Value::Map(entries))
    }

    fn string(&mut self) -> Result<String, Fault> {
        let begun = self.at;
        let octets = self.rest.as_bytes();
        let mut end = 1;
        loop {
            match octets.get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(b'\n') | None => {
                    return Err(Fault::new(
                        begun,
                        "this text is not closed; write \" at its end",
                    ));
                }
                Some(_) => end += 1,
            }
        }
        let quoted = self.advance(end + 1);
        // A tab stands in many a file that was written by hand.
        let quoted = quoted.replace('\t', "\\t");
        serde_json::from_str(&quoted)
            .map_err(|_| Fault::new(begun, "an escape in this text is none of JSON's"))
    }

    fn number(&mut self) -> Result<Value, Fault> {
        let is_of_number = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
        let end = self.rest.find(|c| !is_of_number(c));
        let at = self.at;
        let text = self.advance(end.unwrap_or(self.rest.len()));
        let value: serde_json::Number = serde_json::from_str(text)
            .map_err(|_| Fault::new(at, format!("`{text}` is no number of JSON")))?;
        Ok(Value::Number(
            text.to_owned(),
            value.as_f64().unwrap_or(f64::NAN),
        ))
    }

    fn word(&mut self) -> Result<Value, Fault> {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric());
        let at = self.at;
        match self.advance(end.unwrap_or(self.rest.len())) {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            "null" => Ok(Value::Null),
            word => Err(Fault::new(
                at,
                format!("wanted a value, got `{word}`; text stands in quotes"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_read_with_its_places() {
        let text =
            "{\n  \"a\": [1, -2.5, \"x\\u00e9\\n\"],\n\t\"b\": {\"c\": null, \"d\": true}\n}";
        let node = read(text, Dialect::Strict).unwrap();
        assert_eq!(
            node.json(),
            json!({"a": [1, -2.5, "xé\n"], "b": {"c": null, "d": true}})
        );
        let b = node.get("b").unwrap();
        assert_eq!(
            b.get("d").unwrap().at,
            At {
                line: 3,
                column: 24
            }
        );
    }

    #[test]
    fn comments_and_late_commas_are_keas_alone() {
        let text = "# one\n{ // two\n \"a\": [1, /* three\n */ 2,],\n}\n";
        assert_eq!(
            read(text, Dialect::Kea).unwrap().json(),
            json!({"a": [1, 2]})
        );
        assert_eq!(read(text, Dialect::Strict).unwrap_err().at.line, 1);
    }

    #[test]
    fn what_is_broken_is_said_with_its_place() {
        for (text, line, part) in [
            (
                "{\"a\": 1\n \"b\": 2}",
                2,
                "wanted a comma or `}`, got `\"`",
            ),
            ("{\"a\": 1,\n}", 2, "a comma before `}`"),
            ("{\"a\":\n\"x", 2, "not closed"),
            ("[1, 2", 1, "the end of the text"),
            ("{\"a\": 1, \"a\": 2}", 1, "a is said twice"),
            ("{\"a\": yes}", 1, "got `yes`"),
            ("{\"a\": 01}", 1, "`01` is no number"),
            ("1 2", 1, "wanted the end"),
            ("", 1, "the text ends"),
        ] {
            let fault = read(text, Dialect::Strict).unwrap_err();
            assert_eq!(fault.at.line, line, "{text}: {fault:?}");
            assert!(fault.message.contains(part), "{text}: {fault:?}");
        }
        let deep = "[".repeat(100_000);
        assert!(
            read(&deep, Dialect::Strict)
                .unwrap_err()
                .message
                .contains("deeper")
        );
    }
}
