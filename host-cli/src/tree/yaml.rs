//! YAML 1.2 with the place of every value. In: a text of any number of documents. Out: a tree for each that says something.
//!
//! Refused: a key that is said twice, tags, and a number with a leading zero, which half of all readers take for octal.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::{At, DEEPEST, Entry, Fault, Node, Value};

/// Aliases multiply: a text is refused before it becomes more than this many values.
const MOST_NODES: usize = 5_000_000;

/// Reads all documents.
pub fn read_all(text: &str) -> Result<Vec<Node>, Fault> {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
    };
    let mut documents = Vec::new();
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => return Ok(documents),
            (Event::DocumentStart(_), _) => {
                // An anchor holds in its own document.
                reader.anchors.clear();
                let (event, span) = reader.next()?;
                let node = reader.node(&event, span, 0)?;
                if !node.is_null() {
                    documents.push(node);
                }
            }
            _ => {}
        }
    }
}

struct Reader<'a> {
    events: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Fault> {
        match self.events.next() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(unreadable(&error)),
            None => Err(Fault::new(At::default(), "the text ends in the middle")),
        }
    }

    fn node(&mut self, event: &Event<'a>, span: Span, depth: usize) -> Result<Node, Fault> {
        let at = place(span);
        self.nodes += 1;
        if self.nodes > MOST_NODES || depth > DEEPEST {
            let text =
                "this is larger or deeper than anything that is meant; is an alias in it a loop?";
            return Err(Fault::new(at, text));
        }
        let (anchor, tag, value) = match event {
            Event::Alias(anchor) => {
                let known = self.anchors.get(anchor).cloned();
                let node = known.ok_or_else(|| Fault::new(at, "an alias of what has no anchor"))?;
                self.nodes += size(&node);
                return Ok(Node { at, ..node });
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value = match style {
                    ScalarStyle::Plain => plain(text, at)?,
                    _ => Value::Text(text.to_string()),
                };
                (*anchor, tag.is_some(), value)
            }
            Event::SequenceStart(anchor, tag) => (*anchor, tag.is_some(), self.list(depth)?),
            Event::MappingStart(anchor, tag) => (*anchor, tag.is_some(), self.map(depth)?),
            _ => return Err(Fault::new(at, "a value is missing here")),
        };
        if tag {
            return Err(Fault::new(at, "a tag (!) means nothing here; take it out"));
        }
        let node = Node { at, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut list = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(list)),
                (event, span) => list.push(self.node(&event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged: Vec<Entry> = Vec::new();
        let mut known = HashSet::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let at = place(span);
            let Event::Scalar(key, ..) = event else {
                return Err(Fault::new(at, "a key is text, not a list or a map"));
            };
            let (event, span) = self.next()?;
            let node = self.node(&event, span, depth + 1)?;
            if key == "<<" {
                merge(&mut merged, node)?;
            } else if known.insert(key.to_string()) {
                let key = key.into_owned();
                entries.push(Entry { at, key, node });
            } else {
                let text = format!("{key} is said twice in this map; keep one of them");
                return Err(Fault::new(at, text));
            }
        }
        // What is said here wins over what is merged in.
        merged.retain(|entry| known.insert(entry.key.clone()));
        entries.extend(merged);
        Ok(Value::Map(entries))
    }
}

fn merge(merged: &mut Vec<Entry>, node: Node) -> Result<(), Fault> {
    match node.value {
        Value::Map(entries) => merged.extend(entries),
        Value::List(maps) => {
            for map in maps {
                merge(merged, map)?;
            }
        }
        _ => return Err(Fault::new(node.at, "<< takes a map, or a list of maps")),
    }
    Ok(())
}

/// What a word without quotes stands for (YAML 1.2.2 §10.3.2).
fn plain(text: &str, at: At) -> Result<Value, Fault> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        text => match number(text) {
            Some(value) if has_leading_zero(text) => {
                let text = format!(
                    "`{text}` is {value} to one reader of YAML and octal to another; quote it, or leave the zero out"
                );
                return Err(Fault::new(at, text));
            }
            Some(value) => Value::Number(text.to_owned(), value),
            None => Value::Text(text.to_owned()),
        },
    })
}

fn number(text: &str) -> Option<f64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if let Some(hex) = text.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).ok().map(|n| n as f64);
    }
    let first = digits.bytes().next()?;
    let looks_like_one = first.is_ascii_digit() || first == b'.' && digits.len() > 1;
    let is_of_number = |b: u8| b.is_ascii_digit() || b"+-.eE".contains(&b);
    (looks_like_one && digits.bytes().all(is_of_number))
        .then(|| text.parse().ok())
        .flatten()
}

fn has_leading_zero(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::List(nodes) => 1 + nodes.iter().map(size).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|e| size(&e.node)).sum::<usize>(),
        _ => 1,
    }
}

fn place(span: Span) -> At {
    At {
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

fn unreadable(error: &ScanError) -> Fault {
    let at = At {
        line: error.marker().line(),
        column: error.marker().col() + 1,
    };
    let text = format!(
        "it is no YAML: {}; look at the indentation, colons and quotes there",
        error.info()
    );
    Fault::new(at, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn values(text: &str) -> Vec<serde_json::Value> {
        read_all(text).unwrap().iter().map(Node::json).collect()
    }

    #[test]
    fn documents_are_read_with_their_places() {
        let text = "---\nid: node-1\nvars:\n  disks: [vda, 2]\n---\n# nothing\n---\nid: node-2\n";
        assert_eq!(
            values(text),
            [
                json!({"id": "node-1", "vars": {"disks": ["vda", 2]}}),
                json!({"id": "node-2"})
            ]
        );
        let nodes = read_all(text).unwrap();
        let disks = nodes[0].get("vars").unwrap().get("disks").unwrap();
        assert_eq!(
            disks.at,
            At {
                line: 4,
                column: 10
            }
        );
    }

    #[test]
    fn words_are_what_yaml_1_2_says() {
        let text = "[no, on, 52:54:00:00:00:01, 198.18.0.10, 1.5, 1e3, 0x1f, -3, null, ~, 'true', true, 1.2.3, -]";
        assert_eq!(
            values(&text.replace(", -]", "]")),
            [json!([
                "no",
                "on",
                "52:54:00:00:00:01",
                "198.18.0.10",
                1.5,
                1000.0,
                31.0,
                -3,
                null,
                null,
                "true",
                true,
                "1.2.3"
            ])]
        );
    }

    #[test]
    fn anchors_and_merges_work_and_do_not_multiply_for_ever() {
        let text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n";
        assert_eq!(
            values(text),
            [json!({"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}})]
        );
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..10 {
            let list = vec![format!("*a{}", n - 1); 10].join(", ");
            bomb.push_str(&format!("a{n}: &a{n} [{list}]\n"));
        }
        assert!(
            read_all(&bomb)
                .unwrap_err()
                .message
                .contains("larger or deeper")
        );
    }

    #[test]
    fn what_is_broken_or_ambiguous_is_said_with_its_place() {
        for (text, line, part) in [
            ("a: 1\na: 2\n", 2, "a is said twice"),
            ("a: 0755\n", 1, "octal to another"),
            ("a: !secret b\n", 1, "a tag (!)"),
            ("a: *b\n", 1, "it is no YAML"),
            ("a:\n  - b\n c: d\n", 3, "it is no YAML"),
            ("a: \"b\n", 1, "it is no YAML"),
            ("? [a]\n: b\n", 1, "a key is text"),
        ] {
            let fault = read_all(text).unwrap_err();
            assert!(fault.message.contains(part), "{text}: {fault:?}");
            assert_eq!(fault.at.line, line, "{text}: {fault:?}");
        }
    }
}
